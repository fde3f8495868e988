//! Files that journald's own code wrote, as they are and as they are not.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;

use flate2::read::GzDecoder;
use logs::sections::{JournalSection, LogsSection, RedactSection};
use logs::{Plans, Policy};
use tempfile::TempDir;
use wire::Timestamp;
use wire::messages::LogRecord;

use super::*;
use crate::logs::batch::Batch;

const NAMES: [&str; 2] = ["compact", "regular"];

fn bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/journal/{name}.journal.gz"));
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// An input, and a spool that remembers places.
struct Rig {
    dir: TempDir,
    section: LogsSection,
    plan: Arc<Plan>,
    journal: Journal,
    policy: Policy,
    places: BTreeMap<String, String>,
    counts: Counts,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut LogsSection)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = JournalSection { directories: vec![dir.path().to_owned()], ..JournalSection::default() };
        let mut section = LogsSection { journal: Some(journal), ..LogsSection::default() };
        change(&mut section);
        let plans =
            Plans::new(&[section.clone()], &RedactSection::default(), &|_| Some(jiff::tz::TimeZone::UTC)).unwrap();
        let plan = plans.inputs[0].clone();
        Self {
            journal: Journal::new(plan.clone(), &|_| Vec::new(), true),
            policy: Policy::new(&plan),
            plan,
            section,
            dir,
            places: BTreeMap::new(),
            counts: Counts::default(),
            now: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn patch(&self, name: &str, at: u64, bytes: &[u8]) {
        fs::OpenOptions::new().write(true).open(self.path(name)).unwrap().write_all_at(bytes, at).unwrap();
    }

    /// As if journald had written so many entries by now.
    fn grow(&self, name: &str, entries: u64) {
        self.patch(name, 152, &entries.to_le_bytes());
    }

    fn archive(&self, name: &str) {
        self.patch(name, 16, &[2]);
    }

    /// All records until there is nothing more for now, with their places put down.
    fn records(&mut self) -> Vec<LogRecord> {
        let mut records = Vec::new();
        for _ in 0..1000 {
            let (mut batch, mut out) = (Batch::new(512 << 10), Vec::new());
            let mut feed = Feed {
                policy: &mut self.policy,
                batch: &mut batch,
                buffer: &mut Vec::new(),
                out: &mut out,
                max_line: self.plan.max_line,
                now: self.now,
                time: Timestamp::from_millis(1_790_000_001_000),
                counts: &mut self.counts,
            };
            let next = self.journal.read(&mut feed);
            let json = [b"[", batch.json(), b"]"].concat();
            records.extend(serde_json::from_slice::<Vec<LogRecord>>(&json).unwrap());
            let mut moves = Moves::new();
            self.journal.moved(0, &mut moves);
            for (stream, place) in moves {
                match place {
                    Some(place) => drop(self.places.insert(stream, place)),
                    None => drop(self.places.remove(&stream)),
                }
            }
            if next != Next::Now {
                self.now += SCAN;
                self.journal.count(&mut self.counts);
                return records;
            }
        }
        panic!("it reads for ever");
    }

    fn messages(&mut self) -> Vec<String> {
        self.records().into_iter().map(|record| record.message.chars().take(12).collect()).collect()
    }

    /// As after a kill.
    fn restart(&mut self) {
        let places = self.places.clone();
        self.journal = Journal::new(self.plan.clone(), &|_| places.clone().into_iter().collect(), true);
    }
}

#[test]
fn an_entry_comes_with_all_its_fields() {
    for name in NAMES {
        let mut rig = Rig::new();
        fs::write(rig.path("system.journal"), bytes(name)).unwrap();
        let records = rig.records();
        assert_eq!(records.len(), 120, "{name}");
        for (at, record) in records.iter().enumerate() {
            let number = at + 1;
            assert_eq!(record.timestamp.as_millis(), 1_790_000_000_000 + number as i64);
            let service = if number % 2 == 1 { "shop" } else { "ssh" };
            assert_eq!((record.service_name.as_str(), record.fields["_PID"].len()), (service, 4));
            assert_eq!(record.fields["_HOSTNAME"], "web-01");
            assert_eq!(record.fields.contains_key("TAG"), number % 10 == 3);
        }
        assert_eq!(records[0].message, "line 1");
        assert_eq!((records[1].level.as_str(), records[3].level.as_str()), ("WARN", "ERROR"));
        assert_eq!(records[2].fields["TAG"], "one\ntwo", "a field with several values");
        // Compressed, and of several lines.
        let trace = &records[9].message;
        assert!(trace.starts_with("Traceback (most recent call last):\n  File \"x.py\", line 10\nValueError: "));
        assert!(trace.ends_with("abcdefgh10abcdefgh10") && trace.len() > 4000, "{}", trace.len());
        assert_eq!(records[19].message, "bin\0\u{fffd}\u{1} 20", "what is no text");
        assert_eq!((rig.counts.lines, rig.counts.errors, rig.counts.open), (120, 0, 1));
    }
}

#[test]
fn a_place_goes_on_after_a_kill_and_a_rotation() {
    let mut rig = Rig::new();
    fs::create_dir(rig.path("m")).unwrap();
    fs::write(rig.path("m/system.journal"), bytes("compact")).unwrap();
    rig.grow("m/system.journal", 50);
    assert_eq!(rig.messages().len(), 50);
    rig.grow("m/system.journal", 60);
    assert_eq!(rig.messages().len(), 10);
    // More is written, it is rotated, and there is a new one, all while the agent is down.
    rig.grow("m/system.journal", 100);
    rig.archive("m/system.journal");
    fs::rename(rig.path("m/system.journal"), rig.path("m/system@1.journal")).unwrap();
    fs::write(rig.path("m/system.journal"), bytes("regular")).unwrap();
    rig.grow("m/system.journal", 5);
    rig.restart();
    let messages = rig.messages();
    assert_eq!(messages.len(), 45);
    assert!(messages.contains(&"line 61".to_owned()) && !messages.contains(&"line 60".to_owned()));
    assert_eq!(rig.counts.open, 1, "what is archived and was read is closed");
    // Rotated while it runs.
    rig.grow("m/system.journal", 7);
    rig.archive("m/system.journal");
    fs::rename(rig.path("m/system.journal"), rig.path("m/system@2.journal")).unwrap();
    assert_eq!(rig.messages(), ["line 6", "line 7"]);
    rig.restart();
    assert_eq!(rig.messages(), [""; 0]);
    assert_eq!(rig.places.len(), 2);
    // The older one is removed, and its place with it, but not at once.
    fs::remove_file(rig.path("m/system@1.journal")).unwrap();
    rig.messages();
    assert_eq!(rig.places.len(), 2);
    rig.now += PATIENCE;
    rig.messages();
    assert_eq!(rig.places.len(), 1);
}

#[test]
fn what_is_not_asked_for_is_left_out() {
    let count = |change: fn(&mut JournalSection)| {
        let mut rig = Rig::with(|section| change(section.journal.as_mut().unwrap()));
        fs::write(rig.path("system.journal"), bytes("regular")).unwrap();
        rig.records().len()
    };
    assert_eq!(count(|journal| journal.units = vec!["shop".to_owned()]), 60);
    assert_eq!(count(|journal| journal.units = vec!["s*.service".to_owned()]), 120);
    assert_eq!(count(|journal| journal.identifiers = vec!["sshd".to_owned()]), 60);
    assert_eq!(count(|journal| journal.priority = Some("warning".to_owned())), 48);
    assert_eq!(count(|journal| journal.priority = Some("3".to_owned())), 24);
    let both = |journal: &mut JournalSection| {
        journal.units = vec!["shop.service".to_owned()];
        journal.priority = Some("err".to_owned());
    };
    assert_eq!(count(both), 12);
}

#[test]
fn it_may_be_begun_at_its_end() {
    let mut rig = Rig::with(|section| section.start_at = StartAt::End);
    fs::write(rig.path("system.journal"), bytes("regular")).unwrap();
    rig.grow("system.journal", 100);
    assert_eq!(rig.messages(), [""; 0]);
    rig.grow("system.journal", 101);
    assert_eq!(rig.messages(), ["line 101"]);
    rig.restart();
    rig.grow("system.journal", 102);
    assert_eq!(rig.messages(), ["line 102"], "also after a restart");
}

#[test]
fn long_fields_are_cut_and_counted() {
    let mut rig = Rig::with(|section| section.max_line = 1000);
    fs::write(rig.path("system.journal"), bytes("compact")).unwrap();
    let records = rig.records();
    assert!((900..1100).contains(&records[9].message.len()), "{}", records[9].message.len());
    let cut: u64 = records[9].fields["cut_bytes"].parse().unwrap();
    assert!(cut > 3000);
    assert!(rig.counts.truncated > 3 * 3000 && !records[10].fields.contains_key("cut_bytes"));
}

#[test]
fn what_is_no_journal_is_said_and_left_alone() {
    let mut rig = Rig::new();
    fs::write(rig.path("a.journal"), b"short").unwrap();
    fs::write(rig.path("b.journal"), vec![7; 4096]).unwrap();
    let mut newer = bytes("regular");
    newer[12] |= 64;
    fs::write(rig.path("c.journal"), newer).unwrap();
    fs::create_dir(rig.path("d.journal")).unwrap();
    fs::write(rig.path("e.journal"), bytes("regular")).unwrap();
    assert_eq!(rig.messages().len(), 120);
    assert_eq!(rig.counts.errors, 3);
    rig.messages();
    assert_eq!(rig.counts.errors, 3, "each is said once");
    let hints = super::hints(&rig.plan).join("\n");
    assert!(hints.contains("a.journal: it is too short for a journal"), "{hints}");
    assert!(hints.contains("c.journal: it is in a newer format than this agent knows"), "{hints}");
    assert!(rig.section.journal.is_some());
}

/// Each of its 64-bit words that matters is replaced, one after the other, and the file is cut everywhere: what is good is
/// read, and it ends.
#[test]
fn a_damaged_file_is_survived() {
    let whole = bytes("regular");
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.journal");
    fs::write(&path, &whole).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(count_entries(&path, 1000), 120);
    let mut found = 0;
    let words = (0..208).step_by(8).chain((208..used).step_by(8).filter(|at| whole[*at..at + 8] != [0; 8]));
    for (number, at) in words.enumerate() {
        // The tables of hashes are passed over by hand: they are not read.
        if number % 29 != 0 && at > 208 {
            continue;
        }
        let bad = [0, 8, at as u64, u64::MAX, 1 << 40][number % 5];
        file.write_all_at(&bad.to_le_bytes(), at as u64).unwrap();
        found += u64::from(count_entries(&path, 1000) > 100);
        file.write_all_at(&whole[at..at + 8], at as u64).unwrap();
    }
    assert!(found > 50, "most damage is small: {found}");
    for length in (0..used).rev().step_by(19_997) {
        file.set_len(length as u64).unwrap();
        assert!(count_entries(&path, 1000) <= 120);
    }
}

#[test]
fn a_list_of_entries_that_ends_too_soon_is_given_up() {
    let mut rig = Rig::new();
    fs::write(rig.path("system.journal"), bytes("regular")).unwrap();
    // More than the lists hold.
    rig.grow("system.journal", 1 << 40);
    assert_eq!(rig.messages().len(), 120);
    assert_eq!((rig.counts.lost, rig.counts.errors), (0, 0), "it may be just being written");
    rig.archive("system.journal");
    // It is looked at once more then.
    rig.messages();
    rig.messages();
    assert_eq!(rig.counts.open, 0);
    // A list that leads to itself.
    let array = u64::from_le_bytes(bytes("regular")[176..184].try_into().unwrap());
    let mut rig = Rig::new();
    fs::write(rig.path("system.journal"), bytes("regular")).unwrap();
    rig.patch("system.journal", array + 16, &array.to_le_bytes());
    let read = rig.messages().len();
    assert!(read > 0 && read < 120);
    rig.now += PATIENCE;
    rig.messages();
    assert_eq!((rig.counts.open, rig.counts.lost), (0, 1));
}
