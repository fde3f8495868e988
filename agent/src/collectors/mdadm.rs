//! Software RAID, from `/proc/mdstat` and the arrays' directories in `/sys/block`.

use std::path::PathBuf;

use crate::collectors::devices::{Rarely, text};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{HostRoot, KeptFile, ReadError, TextError, fields, lines, number};
use crate::snapshot::{Families, Labels};

/// What `node_md_state` tells apart; an array that does something else is in none of them.
const STATES: [&str; 5] = ["active", "check", "inactive", "recovering", "resync"];

/// What the lines of `/proc/mdstat` say about an array.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Status {
    name: String,
    state: &'static str,
    disks_required: u64,
    disks_active: u64,
    disks_failed: u64,
    disks_spare: u64,
    /// Of 1024 bytes.
    blocks: u64,
    /// `None` where the array is being synchronized in a way that tells no progress.
    blocks_synced: Option<u64>,
}

/// The arrays. An array is a line that begins with its name, and indented ones that follow.
fn parse(text: &[u8]) -> Result<Vec<Status>, TextError> {
    let mut arrays = Vec::new();
    let mut lines = lines(text)?.peekable();
    while let Some(line) = lines.next() {
        let is_array = line.first().is_some_and(|byte| !byte.is_ascii_whitespace());
        if !is_array || line.starts_with(b"Personalities") || line.starts_with(b"unused devices") {
            continue;
        }
        let size = lines.next_if(|line| is_detail(line));
        let size = size.ok_or_else(|| TextError::expected("an array and a line with its size", line))?;
        let mut status = parse_array(line, size)?;
        while let Some(detail) = lines.next_if(|line| is_detail(line)) {
            parse_progress(detail, &mut status)?;
        }
        arrays.push(status);
    }
    Ok(arrays)
}

fn is_detail(line: &[u8]) -> bool {
    line.first().is_some_and(u8::is_ascii_whitespace) && !line.trim_ascii().is_empty()
}

/// `md0 : active raid1 sdb1[1] sda1[0](F)` and `      523968 blocks super 1.2 [2/1] [_U]`
fn parse_array(line: &[u8], size: &[u8]) -> Result<Status, TextError> {
    let mut words = fields(line);
    let name = String::from_utf8_lossy(words.text("an array's name")?).into_owned();
    if words.text("a colon")? != b":" {
        return Err(TextError::expected("an array's name and a colon", line));
    }
    let state = words.text("an array's state")?;
    let state = STATES.into_iter().find(|known| known.as_bytes() == state).unwrap_or("");
    let mut disks_required = 0;
    let (mut members, mut disks_failed, mut disks_spare) = (0, 0, 0);
    let mut is_plain = false;
    for word in words {
        is_plain |= matches!(word, b"raid0" | b"linear");
        // `sda1[0](W)(F)`: a member, its number, and what else there is to say.
        if let Some(bracket) = word.iter().position(|byte| *byte == b'[') {
            members += 1;
            let marks = &word[bracket..];
            let has = |mark: &[u8]| u64::from(marks.windows(mark.len()).any(|found| found == mark));
            disks_failed += has(b"(F)");
            disks_spare += has(b"(S)");
        }
    }

    let mut words = fields(size);
    let blocks = words.number("an array's size")?;
    if words.text("the word blocks")? != b"blocks" {
        return Err(TextError::expected("an array's size in blocks", size));
    }
    let mut disks_active = 0;
    if is_plain {
        // No member of these can fail alone.
        (disks_required, disks_active) = (members, members);
    } else if state != "inactive" {
        let counts = words.find_map(counts).ok_or_else(|| TextError::expected("numbers of disks as in [2/1]", size))?;
        (disks_required, disks_active) = counts;
    }
    Ok(Status {
        name,
        state,
        disks_required,
        disks_active,
        disks_failed,
        disks_spare,
        blocks,
        blocks_synced: Some(blocks),
    })
}

/// `[2/1]`: disks that the array wants, and those that work.
fn counts(word: &[u8]) -> Option<(u64, u64)> {
    pair(word.strip_prefix(b"[")?.strip_suffix(b"]")?)
}

fn pair(text: &[u8]) -> Option<(u64, u64)> {
    let slash = text.iter().position(|byte| *byte == b'/')?;
    Some((number(&text[..slash])?, number(&text[slash + 1..])?))
}

/// `      [==>..]  recovery = 12.6% (37043392/292945152) finish=127.5min speed=33440K/sec`, or `resync=DELAYED`. Other
/// lines are about the bitmap.
fn parse_progress(line: &[u8], status: &mut Status) -> Result<(), TextError> {
    const ACTIONS: [(&[u8], &str); 4] =
        [(b"recovery", "recovering"), (b"resync", "resync"), (b"check", "check"), (b"reshape", "")];
    let action = fields(line).find_map(|word| {
        let word = word.split(|byte| *byte == b'=').next().unwrap_or_default();
        ACTIONS.into_iter().find(|(action, _)| *action == word)
    });
    let Some((action, state)) = action else { return Ok(()) };
    status.state = state;
    let ends = |waiting: &str| line.ends_with([action, b"=", waiting.as_bytes()].concat().as_slice());
    if ends("DELAYED") || ends("PENDING") {
        status.blocks_synced = Some(0);
    } else if ends("REMOTE") {
        // Another node of a cluster does it.
        status.blocks_synced = None;
    } else {
        let done = fields(line).find_map(|word| pair(word.strip_prefix(b"(")?.strip_suffix(b")")?));
        let (done, _) = done.ok_or_else(|| TextError::expected("progress in blocks as in (17/42)", line))?;
        status.blocks_synced = Some(done);
    }
    Ok(())
}

struct Array {
    status: Status,
    device: Labels,
    /// By disks that are active, failed, spare.
    disks: [Labels; 3],
    states: [Labels; STATES.len()],
    raid_disks: Option<u64>,
    degraded: Option<u64>,
}

impl Array {
    fn new(status: Status, host: &HostRoot) -> Self {
        let device = &*status.name;
        let with_state = |state| Labels::new([("device", device), ("state", state)]);
        let directory: PathBuf = host.sys("block").join(device).join("md");
        // While an array is reshaped, the number of before stands behind in parentheses.
        let first = |file: &str| number(fields(text(directory.join(file))?.as_bytes()).next()?);
        Self {
            device: Labels::new([("device", device)]),
            disks: ["active", "failed", "spare"].map(with_state),
            states: STATES.map(with_state),
            raid_disks: first("raid_disks"),
            // Arrays without redundancy have no such file: node_exporter has 0 for them.
            degraded: first("degraded").or_else(|| directory.is_dir().then_some(0)),
            status,
        }
    }
}

/// See the module.
pub(crate) struct MdAdm {
    host: HostRoot,
    file: KeptFile,
    /// Without a RAID driver there is no file: when to look for it again.
    absent: bool,
    rarely: Rarely,
    /// The text that `arrays` was made from: whatever happens to an array shows there.
    text: Vec<u8>,
    arrays: Vec<Array>,
}

impl MdAdm {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self {
            host: host.clone(),
            file: KeptFile::listing(host.proc("mdstat")),
            absent: false,
            rarely: Rarely::new(),
            text: Vec::new(),
            arrays: Vec::new(),
        }
    }

    /// Brings `arrays` up to date; whether there is a file.
    fn read(&mut self) -> Result<bool, CollectError> {
        let due = self.rarely.is_due();
        if self.absent && !due {
            return Ok(false);
        }
        let Self { file, text, .. } = self;
        let read = file.read(|now| {
            let changed = now != text.as_slice();
            if changed {
                text.clear();
                text.extend_from_slice(now);
            }
            changed
        });
        let changed = match read {
            Ok(changed) => changed,
            Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.absent = true;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        self.absent = false;
        if changed || due {
            match parse(&self.text) {
                Ok(arrays) => self.arrays = arrays.into_iter().map(|status| Array::new(status, &self.host)).collect(),
                Err(error) => {
                    // Not to be taken for known at the next pass.
                    self.text.clear();
                    self.arrays.clear();
                    return Err(CollectError::malformed(self.file.path())(error));
                }
            }
        }
        Ok(true)
    }
}

impl Collector for MdAdm {
    fn name(&self) -> &'static str {
        "mdadm"
    }

    fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if !self.read()? {
            return Ok(Outcome::Nothing);
        }
        let mut family = |name: &'static str, help: &'static str, value: fn(&Array) -> Option<u64>| {
            out.gauge(name, help);
            for array in &self.arrays {
                value(array).inspect(|value| out.push(&array.device, *value as f64));
            }
        };
        family("node_md_blocks", "Total number of blocks on device.", |array| Some(array.status.blocks));
        family("node_md_blocks_synced", "Number of blocks synced on device.", |array| array.status.blocks_synced);
        family("node_md_degraded", "Number of degraded disks on device.", |array| array.degraded);
        family("node_md_disks_required", "Total number of disks of device.", |array| Some(array.status.disks_required));
        family("node_md_raid_disks", "Number of raid disks on device.", |array| array.raid_disks);
        out.gauge("node_md_disks", "Number of active/failed/spare disks of device.");
        for Array { status, disks, .. } in &self.arrays {
            let values = [status.disks_active, status.disks_failed, status.disks_spare];
            disks.iter().zip(values).for_each(|(labels, value)| out.push(labels, value as f64));
        }
        out.gauge("node_md_state", "Indicates the state of md-device.");
        for Array { status, states, .. } in &self.arrays {
            for (labels, state) in states.iter().zip(STATES) {
                out.push(labels, f64::from(status.state == state));
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Personalities : [raid1] [raid6] [raid5] [raid4] [raid0] [linear]\n";

    fn parsed(rest: &str) -> Result<Vec<Status>, TextError> {
        parse(format!("{HEADER}{rest}unused devices: <none>\n").as_bytes())
    }

    /// State, disks required, active, failed, spare, blocks, blocks synced.
    type Short = (&'static str, u64, u64, u64, u64, u64, Option<u64>);

    fn short(rest: &str) -> Short {
        let arrays = parsed(rest).unwrap();
        assert_eq!(arrays.len(), 1, "{rest}");
        let a = &arrays[0];
        (a.state, a.disks_required, a.disks_active, a.disks_failed, a.disks_spare, a.blocks, a.blocks_synced)
    }

    #[test]
    fn all_that_an_array_can_do() {
        let size = "      1000 blocks super 1.2 [2/1] [_U]\n";
        let with = |members: &str, rest: &str| short(&format!("md0 : active raid1 {members}\n{size}{rest}\n"));
        assert_eq!(with("sdb[1] sda[0](F)", ""), ("active", 2, 1, 1, 0, 1000, Some(1000)));
        assert_eq!(with("sdc[2](S) sdb[1] sda[0](W)(F)", ""), ("active", 2, 1, 1, 1, 1000, Some(1000)));
        let bitmap = "      bitmap: 1/1 pages [4KB], 65536KB chunk\n";
        assert_eq!(with("sdb[1]", bitmap), ("active", 2, 1, 0, 0, 1000, Some(1000)));
        let at =
            |action: &str| format!("      [=>...]  {action} = 25.0% (250/1000) finish=1.0min speed=9K/sec\n{bitmap}");
        for (action, state) in [("recovery", "recovering"), ("resync", "resync"), ("check", "check"), ("reshape", "")] {
            assert_eq!(with("sdb[1]", &at(action)), (state, 2, 1, 0, 0, 1000, Some(250)), "{action}");
        }
        assert_eq!(with("sdb[1]", "      \tresync=DELAYED\n").6, Some(0));
        assert_eq!(with("sdb[1]", "      \tresync=PENDING\n").6, Some(0));
        assert_eq!(with("sdb[1]", "      \tresync=REMOTE\n").6, None);
    }

    #[test]
    fn arrays_of_all_kinds() {
        assert_eq!(
            short(
                "md127 : active (auto-read-only) raid5 sdc1[2] sdb1[1] sda1[0]\n      900 blocks level 5, 64k chunk, algorithm 2 [3/3] [UUU]\n\n"
            ),
            ("active", 3, 3, 0, 0, 900, Some(900))
        );
        assert_eq!(
            short("md1 : active raid0 sdb[1] sda[0]\n      700 blocks 64k chunks\n\n"),
            ("active", 2, 2, 0, 0, 700, Some(700))
        );
        assert_eq!(
            short("md2 : inactive sdb[1](S) sda[0](S)\n      6306 blocks super external:imsm\n       \n"),
            ("inactive", 0, 0, 0, 2, 6306, Some(6306))
        );
        assert_eq!(parsed("").unwrap(), []);
        assert_eq!(parse(b"").unwrap(), []);
        let two = parsed(
            "md0 : active raid1 a[0]\n      1 blocks [1/1] [U]\nmd1 : active raid1 b[0]\n      2 blocks [1/1] [U]\n",
        );
        assert_eq!(two.unwrap().len(), 2);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            "md0\n",
            "md0 : active\n",
            "md0 : active raid1 sda[0]\n",
            "md0 : active raid1 sda[0]\n\n      1 blocks [1/1] [U]\n",
            "md0 : active raid1 sda[0]\n      1 blocks\n",
            "md0 : active raid1 sda[0]\n      x blocks [1/1] [U]\n",
            "md0 : active raid1 sda[0]\n      1 pages [1/1] [U]\n",
            "md0 : active raid1 sda[0]\n      99999999999999999999 blocks [1/1] [U]\n",
            "md0 : active raid1 sda[0]\n      1 blocks [1/99999999999999999999] [U]\n",
            "md0 : active raid1 sda[0]\n      1 blocks [1/1] [U]\n      recovery = 1.0%\n",
            "md0 . active raid1 sda[0]\n      1 blocks [1/1] [U]\n",
            "\u{fffd}\n",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        assert!(parse(b"\xff\xfe").is_err());
        assert!(parse(b"Personalities : [raid1]\nmd0 : active raid1 sda[0]\n      523968 blo").is_err());
    }

    #[test]
    fn directories_of_arrays_are_asked_when_the_text_changes() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { proc: dir.path().into(), sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = MdAdm::new(&host);
        let mut run = || {
            let mut out = Families::default();
            collector.begin(Pass::Interval);
            let outcome = collector.collect(&mut out).unwrap();
            (outcome, out.single("node_md_raid_disks"), out.single("node_md_degraded"))
        };
        assert_eq!(run(), (Outcome::Nothing, None, None));
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("mdstat", "md0 : active raid0 b[1] a[0]\n      5 blocks\n");
        write("block/md0/md/raid_disks", "3 (2)\n");
        // Looked for once in a while only.
        assert!((0..30).any(|_| run() == (Outcome::Data, Some(3.0), Some(0.0))));
        write("block/md0/md/degraded", "1\n");
        write("mdstat", "md0 : active raid1 b[1] a[0]\n      5 blocks [2/1] [U_]\n");
        assert_eq!(run(), (Outcome::Data, Some(3.0), Some(1.0)));
    }
}
