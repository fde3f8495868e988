//! Files as they are found on hosts, without a spool: what a look brings, and what a restart finds again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;

use flate2::Compression;
use flate2::write::GzEncoder;
use logs::sections::{LogsSection, RedactSection};
use logs::{Plans, Policy};
use tempfile::TempDir;
use wire::Timestamp;
use wire::messages::LogRecord;

use super::*;
use crate::logs::batch::Batch;

/// An input, and a spool that remembers places.
struct Rig {
    dir: TempDir,
    plan: Arc<Plan>,
    files: Files,
    policy: Policy,
    buffer: Vec<u8>,
    counts: Counts,
    places: BTreeMap<String, String>,
    now: Instant,
    passed: Duration,
}

impl Rig {
    fn new(pattern: &str) -> Self {
        Self::with(pattern, |_| ())
    }

    fn with(pattern: &str, change: impl FnOnce(&mut LogsSection)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut section = LogsSection {
            name: Some("a".to_owned()),
            files: vec![dir.path().join(pattern).display().to_string()],
            format: "plain".to_owned(),
            ..LogsSection::default()
        };
        change(&mut section);
        let plans = Plans::new(&[section], &RedactSection::default(), &|_| Some(jiff::tz::TimeZone::UTC)).unwrap();
        let plan = plans.inputs[0].clone();
        Self {
            files: Files::new(plan.clone(), &|_| Vec::new(), true),
            policy: Policy::new(&plan),
            plan,
            dir,
            buffer: vec![0; 256 << 10],
            counts: Counts::default(),
            places: BTreeMap::new(),
            now: Instant::now(),
            passed: Duration::ZERO,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn compress(&self, from: &str, to: &str) {
        let mut gzip = GzEncoder::new(File::create(self.path(to)).unwrap(), Compression::fast());
        gzip.write_all(&fs::read(self.path(from)).unwrap()).unwrap();
        gzip.finish().unwrap();
        fs::remove_file(self.path(from)).unwrap();
    }

    /// The time now: the system's and what passed in the test, so that files are older than looks at them.
    fn time(&self) -> Timestamp {
        let now = Timestamp::from(SystemTime::now()).as_millis();
        Timestamp::from_millis(now + i64::try_from(self.passed.as_millis()).unwrap())
    }

    /// One pass over what is due.
    fn once(&mut self) -> (Vec<String>, Next) {
        let (mut batch, mut out, time) = (Batch::new(512 << 10), Vec::new(), self.time());
        let mut feed = Feed {
            policy: &mut self.policy,
            batch: &mut batch,
            buffer: &mut self.buffer,
            out: &mut out,
            max_line: self.plan.max_line,
            now: self.now,
            time,
            counts: &mut self.counts,
        };
        let next = self.files.read(&mut feed);
        let json = [b"[", batch.json(), b"]"].concat();
        let records: Vec<LogRecord> = serde_json::from_slice(&json).unwrap();
        (records.into_iter().map(|record| record.message).collect(), next)
    }

    /// Puts down the places, as the spool does with a record.
    fn keep(&mut self) {
        let mut moves = Moves::new();
        self.files.moved(self.time().as_millis(), &mut moves);
        for (stream, place) in moves {
            match place {
                Some(place) => drop(self.places.insert(stream, place)),
                None => drop(self.places.remove(&stream)),
            }
        }
    }

    /// Lets some time pass, in looks, and gives the lines.
    fn after(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut lines = Vec::new();
        loop {
            let (mut some, next) = self.once();
            lines.append(&mut some);
            self.keep();
            let until = match next {
                Next::Now => continue,
                Next::At(at) => at.max(self.now + Duration::from_millis(10)),
            };
            if until > end {
                self.passed += end.saturating_duration_since(self.now);
                self.now = end;
                return lines;
            }
            self.passed += until.saturating_duration_since(self.now);
            self.now = until;
        }
    }

    fn lines(&mut self) -> Vec<String> {
        self.after(Duration::from_secs(5))
    }

    /// What kill -9 leaves: the places that were put down.
    fn restart(&mut self) {
        let places: Vec<_> = self.places.clone().into_iter().collect();
        self.files = Files::new(self.plan.clone(), &|_| places.clone(), true);
        self.policy = Policy::new(&self.plan);
        self.files.scan = self.now;
    }

    fn counted(&mut self) -> Counts {
        self.files.count(&mut self.counts);
        self.counts
    }
}

use std::time::SystemTime;

fn numbered(from: u32, to: u32) -> String {
    (from..=to).map(|number| format!("{number} a numbered line\n")).collect()
}

fn expected(from: u32, to: u32) -> Vec<String> {
    (from..=to).map(|number| format!("{number} a numbered line")).collect()
}

#[test]
fn a_file_is_read_from_its_beginning_and_followed_over_restarts() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", numbered(1, 10));
    rig.append("a.txt", "another\n");
    assert_eq!(rig.lines(), expected(1, 10));
    rig.append("a.log", numbered(11, 20));
    rig.append("b.log", "new\n");
    let mut lines = rig.lines();
    assert_eq!(lines.pop().as_deref(), Some("new"));
    assert_eq!(lines, expected(11, 20));
    rig.restart();
    rig.append("a.log", numbered(21, 30));
    assert_eq!(rig.lines(), expected(21, 30));
    assert_eq!(rig.counted().behind, 0);
    assert_eq!(rig.places.len(), 2);
}

#[test]
fn at_the_first_start_an_input_may_begin_at_the_end() {
    let mut rig = Rig::with("*.log", |section| section.start_at = StartAt::End);
    rig.append("a.log", "old\nunfinished");
    assert!(rig.lines().is_empty());
    rig.append("a.log", " line\nnext\n");
    rig.append("b.log", "1\n");
    assert_eq!(rig.lines(), ["unfinished line", "next", "1"]);
    rig.restart();
    rig.append("c.log", "2\n");
    assert_eq!(rig.lines(), ["2"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", numbered(1, 3));
    assert_eq!(rig.lines(), expected(1, 3));
    rig.append("app.log", numbered(4, 5));
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", numbered(7, 8));
    // Its writer has it open for a while.
    rig.append("app.log.1", "6 a numbered line\nno end");
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, expected(4, 8));
    // When nothing comes any more, the last line is one.
    assert_eq!(rig.after(Duration::from_secs(90)), ["no end"]);
    assert_eq!(rig.counted().watched, 1);
    assert_eq!(rig.places.len(), 1);
    assert!(rig.lines().is_empty());
}

#[test]
fn a_deleted_file_is_read_to_its_end_while_it_is_open() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", numbered(1, 3));
    assert_eq!(rig.lines(), expected(1, 3));
    rig.append("app.log", numbered(4, 5) + "no end");
    fs::remove_file(rig.path("app.log")).unwrap();
    let mut lines = expected(4, 5);
    lines.push("no end".to_owned());
    assert_eq!(rig.after(Duration::from_secs(10)), lines);
    assert_eq!((rig.counted().watched, rig.counted().lost, rig.places.len()), (0, 0, 0));
    // Another one of the name is another one, also if it has its number.
    rig.append("app.log", numbered(1, 4));
    assert_eq!(rig.lines(), expected(1, 4));
}

#[test]
fn what_copytruncate_leaves_is_read_from_the_copy() {
    for pattern in ["app.log", "app.log*"] {
        for compressed in [false, true] {
            let mut rig = Rig::new(pattern);
            rig.append("app.log", numbered(1, 30));
            assert_eq!(rig.lines(), expected(1, 30));
            rig.append("app.log", numbered(31, 40));
            fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
            if pattern.ends_with('*') {
                // The copy is seen before the original is cut.
                assert_eq!(rig.lines(), expected(31, 40), "{pattern}");
            }
            OpenOptions::new().write(true).open(rig.path("app.log")).unwrap().set_len(0).unwrap();
            if compressed {
                rig.compress("app.log.1", "app.log.1.gz");
            }
            // More than was in it before.
            rig.append("app.log", numbered(41, 120));
            let mut lines = rig.lines();
            lines.sort_by_key(|line| line.split(' ').next().unwrap().parse::<u32>().unwrap());
            let from = if pattern.ends_with('*') { 41 } else { 31 };
            assert_eq!(lines, expected(from, 120), "{pattern} {compressed}");
            assert!(rig.after(Duration::from_secs(100)).is_empty());
            rig.restart();
            assert!(rig.lines().is_empty(), "{pattern} {compressed}");
        }
    }
}

#[test]
fn what_was_copied_and_cut_more_than_once_between_two_looks_is_read() {
    for compressed in [false, true] {
        let mut rig = Rig::new("app.log");
        rig.append("app.log.9", "older than everything\n");
        std::thread::sleep(Duration::from_millis(50));
        rig.append("app.log", numbered(1, 30));
        assert_eq!(rig.lines(), expected(1, 30));
        rig.append("app.log", numbered(31, 40));
        // The clock of the test is ahead of the files' by now.
        for tail in rig.files.tails.values_mut() {
            tail.looked = Timestamp::from(SystemTime::now()).as_millis();
        }
        std::thread::sleep(Duration::from_millis(20));
        for (copy, next) in [("app.log.3", 41), ("app.log.2", 61), ("app.log.1", 81)] {
            fs::copy(rig.path("app.log"), rig.path(copy)).unwrap();
            OpenOptions::new().write(true).open(rig.path("app.log")).unwrap().set_len(0).unwrap();
            if compressed {
                rig.compress(copy, &format!("{copy}.gz"));
            }
            rig.append("app.log", numbered(next, next + 19));
        }
        // One that is being made.
        fs::copy(rig.path("app.log"), rig.path("app.log.0")).unwrap();
        assert_eq!(rig.lines(), expected(31, 100), "{compressed}");
        assert!(rig.after(Duration::from_secs(100)).is_empty());
        rig.restart();
        assert!(rig.lines().is_empty(), "{compressed}");
    }
}

#[test]
fn a_file_that_was_cut_before_it_was_read_at_all_is_read_from_its_copy() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", numbered(1, 30));
    let (now, time) = (rig.now, rig.time().as_millis());
    rig.files.search(now, time);
    fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
    OpenOptions::new().write(true).open(rig.path("app.log")).unwrap().set_len(0).unwrap();
    rig.append("app.log", numbered(31, 100));
    assert_eq!(rig.lines(), expected(1, 100));
}

#[test]
fn a_file_that_was_rotated_while_nobody_looked_is_found_again() {
    for compressed in [false, true] {
        for cut in [false, true] {
            let mut rig = Rig::new("app.log");
            rig.append("app.log", numbered(1, 30));
            assert_eq!(rig.lines(), expected(1, 30));
            rig.append("app.log", numbered(31, 40));
            rig.restart();
            std::thread::sleep(Duration::from_millis(20));
            if cut {
                fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
                OpenOptions::new().write(true).open(rig.path("app.log")).unwrap().set_len(0).unwrap();
            } else {
                rig.rename("app.log", "app.log.1");
            }
            if compressed {
                rig.compress("app.log.1", "app.log.1.gz");
            }
            rig.append("app.log", numbered(41, 42));
            let mut lines = rig.lines();
            lines.sort();
            assert_eq!(lines, expected(31, 42), "{compressed} {cut}");
            rig.after(Duration::from_secs(100));
            assert_eq!(rig.places.len(), 1, "{:?}", rig.places);
            rig.restart();
            assert!(rig.lines().is_empty());
        }
    }
}

#[test]
fn generations_that_came_and_went_unseen_are_read() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", numbered(1, 30));
    rig.append("app.log.7", "older than everything\n");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(rig.lines(), expected(1, 30));
    // The clock of the test is ahead of the files' by now.
    for place in rig.places.values_mut() {
        let mut position: Position = place.parse().unwrap();
        position.time = Timestamp::from(SystemTime::now()).as_millis();
        *place = position.to_string();
    }
    rig.restart();
    std::thread::sleep(Duration::from_millis(20));
    rig.append("app.log", numbered(31, 35));
    rig.rename("app.log", "app.log.3");
    rig.compress("app.log.3", "app.log.3.gz");
    rig.append("app.log.2", numbered(36, 40));
    rig.compress("app.log.2", "app.log.2.gz");
    rig.append("app.log.1", numbered(41, 50));
    rig.append("app.log", numbered(51, 55));
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, expected(31, 55));
    rig.after(Duration::from_secs(100));
    rig.restart();
    assert!(rig.lines().is_empty());
}

#[test]
fn what_came_and_went_while_an_older_file_was_read_to_its_end_is_read_after_a_kill() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", numbered(1, 30));
    assert_eq!(rig.lines(), expected(1, 30));
    let now = Timestamp::from(SystemTime::now()).as_millis();
    rig.files.tails.values_mut().for_each(|tail| tail.seen = now);
    std::thread::sleep(Duration::from_millis(50));
    rig.append("app.log", numbered(31, 35));
    rig.rename("app.log", "app.log.2");
    rig.append("app.log", numbered(36, 40));
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", numbered(41, 50));
    // The open file is looked at, and its place put down, before names are.
    rig.files.scan = rig.now + Duration::from_secs(60);
    rig.now += LATE_ENOUGH;
    assert_eq!(rig.once().0, expected(31, 35));
    rig.keep();
    rig.restart();
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, expected(36, 50));
}

/// After this time every file is looked at again.
const LATE_ENOUGH: Duration = Duration::from_secs(2);

#[test]
fn a_file_with_several_names_is_read_once() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", numbered(1, 3));
    symlink(rig.path("a.log"), rig.path("b.log")).unwrap();
    symlink(rig.path("nowhere"), rig.path("c.log")).unwrap();
    fs::hard_link(rig.path("a.log"), rig.path("d.log")).unwrap();
    fs::create_dir(rig.path("e.log")).unwrap();
    assert_eq!(rig.lines(), expected(1, 3));
    // A link may stand for another file later.
    rig.append("other", "4 a numbered line\n");
    fs::remove_file(rig.path("b.log")).unwrap();
    symlink(rig.path("other"), rig.path("b.log")).unwrap();
    assert_eq!(rig.lines(), expected(4, 4));
}

#[test]
fn no_line_is_too_strange() {
    let mut rig = Rig::with("*.log", |section| section.max_line = 1000);
    let long = "x".repeat(5000);
    rig.append("a.log", b"crlf\r\n\n\0nul\0\nnot \xff\xfe UTF-8\n");
    rig.append("a.log", format!("{long}\nafter\n"));
    let lines = rig.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("crlf", "not \u{fffd}\u{fffd} UTF-8"));
    assert_eq!((lines[3].len() >= 1000, lines[3].len() < 1100, lines[4].as_str()), (true, true, "after"));
    assert_eq!(rig.counted().truncated, 4000);
    // Junk, in which lines end by chance.
    let mut junk = vec![0_u8; 300_000];
    let mut random = 1_u32;
    junk.iter_mut().for_each(|byte| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (random >> 24) as u8;
    });
    rig.append("a.log", [&junk[..], b"\nstill here\n"].concat());
    assert_eq!(rig.lines().last().map(String::as_str), Some("still here"));
    assert_eq!(rig.counted().behind, 0);
}

#[test]
fn a_line_of_a_hundred_megabytes_takes_no_more_memory_than_others() {
    let mut rig = Rig::new("*.log");
    let file = File::create(rig.path("a.log")).unwrap();
    file.set_len(100 << 20).unwrap();
    assert!(rig.lines().is_empty());
    rig.append("a.log", "\nafter\n");
    let lines = rig.lines();
    assert_eq!(lines.last().map(String::as_str), Some("after"));
    assert_eq!(rig.counted().truncated, (100 << 20) - (64 << 10));
    assert!(rig.buffer.len() < 1 << 20);
    // The same again: it stands behind an end of line now.
    let at = fs::metadata(rig.path("a.log")).unwrap().len();
    file.set_len(at + (100 << 20)).unwrap();
    rig.append("a.log", "\nlast\n");
    assert_eq!(rig.lines().last().map(String::as_str), Some("last"));
}

#[test]
fn more_files_than_may_be_open_are_read() {
    let mut rig = Rig::new("*.log");
    for number in 0..1500 {
        rig.append(&format!("{number}.log"), format!("{number} a numbered line\n"));
    }
    let mut lines = rig.lines();
    lines.sort_by_key(|line| line.split(' ').next().unwrap().parse::<u32>().unwrap());
    assert_eq!(lines, expected(0, 1499));
    let counted = rig.counted();
    assert!(counted.open <= MOST_OPEN as u64, "{counted:?}");
    assert_eq!((counted.watched, counted.behind, rig.places.len()), (1500, 0, 1500));
    rig.append("17.log", "more\n");
    // A search of so many takes its time, and the next one waits accordingly.
    let more = (0..100).map(|_| rig.after(Duration::from_secs(1))).find(|lines| !lines.is_empty());
    assert_eq!(more, Some(vec!["more".to_owned()]));
    rig.restart();
    assert!(rig.lines().is_empty());
}

#[test]
fn a_full_batch_ends_a_look_and_nothing_is_skipped() {
    let mut rig = Rig::new("*.log");
    rig.append("a.log", numbered(1, 100_000));
    let (mut all, mut looks) = (Vec::new(), 0);
    while all.len() < 100_000 {
        let (mut lines, _) = rig.once();
        assert!(lines.len() < 20_000, "{}", lines.len());
        all.append(&mut lines);
        rig.keep();
        // What was in no record yet is read again.
        if looks % 3 == 0 {
            rig.restart();
        }
        looks += 1;
    }
    assert_eq!(all, expected(1, 100_000));
}

#[test]
fn hints_name_patterns_that_find_nothing() {
    let rig = Rig::new("*.log");
    assert!(hints(&rig.plan)[0].ends_with("/*.log matches no file now"));
    rig.append("a.log", "x\n");
    assert!(hints(&rig.plan).is_empty());
    let denied = cannot_read(Path::new("/var/log/x"), &io::Error::from(io::ErrorKind::PermissionDenied));
    assert!(denied.contains("usermod -aG adm utilizer"), "{denied}");
}

#[test]
fn a_folder_that_goes_and_comes_back_brings_no_line_twice() {
    for restart in [false, true] {
        let mut rig = Rig::new("d/app.log");
        fs::create_dir(rig.path("d")).unwrap();
        rig.append("d/app.log", numbered(1, 5));
        assert_eq!(rig.lines(), expected(1, 5));
        rig.rename("d", "away");
        assert_eq!(rig.after(Duration::from_secs(100)), [""; 0]);
        if restart {
            rig.restart();
            assert_eq!(rig.lines(), [""; 0]);
        }
        rig.append("away/app.log", numbered(6, 7));
        rig.rename("away", "d");
        assert_eq!(rig.lines(), expected(6, 7), "restart {restart}");
    }
}

#[test]
fn a_file_that_is_replaced_by_itself_and_more_goes_on() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", numbered(1, 5));
    assert_eq!(rig.lines(), expected(1, 5));
    rig.append("new", numbered(1, 8));
    rig.rename("new", "app.log");
    assert_eq!(rig.lines(), expected(6, 8));
    rig.append("app.log", numbered(9, 9));
    assert_eq!(rig.after(Duration::from_secs(100)), expected(9, 9));
}

#[test]
fn what_was_rotated_behind_a_symbolic_link_is_found_after_a_restart() {
    let mut rig = Rig::new("link.log");
    fs::create_dir(rig.path("pod")).unwrap();
    rig.append("pod/0.log", numbered(1, 5));
    symlink(rig.path("pod/0.log"), rig.path("link.log")).unwrap();
    assert_eq!(rig.lines(), expected(1, 5));
    rig.append("pod/0.log", numbered(6, 7));
    rig.rename("pod/0.log", "pod/0.log.20261122-141812");
    rig.append("pod/0.log", numbered(8, 9));
    rig.restart();
    let mut lines = rig.lines();
    lines.sort();
    assert_eq!(lines, expected(6, 9));
}

#[test]
fn a_large_file_that_was_renamed_is_not_given_up() {
    let mut rig = Rig::new("app.log");
    rig.append("app.log", numbered(0, 1));
    rig.lines();
    File::options().write(true).open(rig.path("app.log")).unwrap().set_len(MOST_HELD + 1).unwrap();
    rig.once();
    rig.rename("app.log", "app.log.1");
    rig.files.scan = rig.now;
    rig.once();
    assert_eq!((rig.counted().lost, rig.counted().watched), (0, 1));
}

#[test]
fn lines_that_wait_do_not_wait_for_a_clock_that_was_set_back() {
    let mut rig = Rig::with("app.log", |section| section.multiline.preset = Some("java".to_owned()));
    rig.passed = Duration::from_secs(86_400);
    rig.append("app.log", "one\n");
    rig.once();
    rig.passed = Duration::ZERO;
    assert_eq!(rig.lines(), ["one"]);
}
