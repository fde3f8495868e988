//! The state file: which ids ran, and how often each job did.
//!
//! `runs.ndjson` in the state directory has one JSON object a line, each synced before what it tells of happens or is told:
//!
//! | line | means |
//! |---|---|
//! | `{"event":"start","id":…,"job":…,"at":…}` | the command is about to start |
//! | `{"event":"end","at":…,"result":{…}}` | it ended so |
//! | `{"event":"withdrawn","id":…,"job":…}` | it was not started, and may be asked for again |
//! | `{"event":"pace","job":…,"starts":[…],"ended":…}` | the job ran so often before; takes the place of what stands above |
//!
//! What a crash leaves, and how the next start reads it:
//!
//! | crash | left | read as |
//! |---|---|---|
//! | while `start` is written | a torn last line, or none | nothing began: the id may be asked for again |
//! | after `start`, before `end` | a start without an end | the run's outcome is unknown; it is reported, and does not run again |
//! | while `end` is written | a start, a torn line | the same |
//! | while the file is written anew | the old file beside `runs.ndjson.new` | the old file; the new one is written over |
//!
//! The file is written anew when it starts to hold more of the past than of the present.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::result::RunResult;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line {
    Start { id: String, job: String, at: u64 },
    End { at: u64, result: RunResult },
    Withdrawn { id: String, job: String },
    Pace { job: String, starts: Vec<u64>, ended: Option<u64> },
}

/// The state can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another daemon has it.
    #[error("another utilizer-jobs works with {0}; each needs a state_dir of its own")]
    Taken(PathBuf),
    /// The system says no.
    #[error("can't keep state in {path}: {source}; `jobs.state_dir` in the configuration names the folder")]
    Io {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    file: File,
    bytes: u64,
    /// As large may the file grow before it is written anew.
    limit: u64,
    /// A write failed: what stands at the end may be half a line.
    torn: bool,
    _lock: File,
}

/// The file may always grow by so much before it is written anew.
const ROOM: u64 = 1 << 20;

/// No line of ours is longer: two outputs of 1 MiB, escaped.
const MOST_LINE: u64 = 16 << 20;

impl Journal {
    /// Opens the folder and reads what is there. Lines that can't be read are counted.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<Line>, usize), JournalError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error(folder))?;
        let lock_path = folder.join("lock");
        let lock = private().write(true).create(true).truncate(false).open(&lock_path).map_err(error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(JournalError::Taken(folder.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(JournalError::Io { path: lock_path, source }),
        }
        let path = folder.join(NAME);
        let (mut lines, mut unreadable) = (Vec::new(), 0);
        match File::open(&path) {
            Ok(file) => unreadable = read(BufReader::new(file), &mut lines).map_err(error(&path))?,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(error(&path)(source)),
        }
        let file = private().append(true).create(true).open(&path).map_err(error(&path))?;
        // What was torn is not repaired in place: the file is written anew before anything is added.
        Ok((Self { folder: folder.to_owned(), file, bytes: 0, limit: 0, torn: false, _lock: lock }, lines, unreadable))
    }

    /// Adds a line and syncs it.
    pub(crate) fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        if self.torn {
            bytes.insert(0, b'\n');
        }
        self.torn = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.torn = false;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Whether it is time to write it anew.
    pub(crate) fn is_long(&self) -> bool {
        self.bytes > self.limit
    }

    /// Writes it anew with these lines only.
    pub(crate) fn rewrite(&mut self, lines: &[Line]) -> Result<(), JournalError> {
        let (path, new) = (self.folder.join(NAME), self.folder.join("runs.ndjson.new"));
        let write = || -> io::Result<(File, u64)> {
            let mut bytes = Vec::new();
            for line in lines {
                serde_json::to_writer(&mut bytes, line)?;
                bytes.push(b'\n');
            }
            let mut file = private().write(true).create(true).truncate(true).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()?;
            Ok((private().append(true).open(&path)?, bytes.len() as u64))
        };
        let (file, bytes) = write().map_err(|source| JournalError::Io { path: path.clone(), source })?;
        self.file = file;
        self.bytes = bytes;
        self.limit = bytes.saturating_mul(2).saturating_add(ROOM);
        self.torn = false;
        Ok(())
    }
}

const NAME: &str = "runs.ndjson";

/// Results hold what commands wrote, which is nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Reads lines; gives how many could not be. A torn last line is none of ours, and not counted.
fn read(mut reader: impl BufRead, lines: &mut Vec<Line>) -> io::Result<usize> {
    let mut unreadable = 0;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if io::Read::take(&mut reader, MOST_LINE).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(unreadable);
        }
        match serde_json::from_slice(&bytes) {
            Ok(line) if bytes.ends_with(b"\n") => lines.push(line),
            Ok(_) => {}
            Err(_) if bytes.ends_with(b"\n") && bytes.len() > 1 => unreadable += 1,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(id: &str) -> Line {
        Line::Start { id: id.to_owned(), job: "job".to_owned(), at: 7 }
    }

    fn ids(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| if let Line::Start { id, .. } = line { id.as_str() } else { "?" }).collect()
    }

    #[test]
    fn lines_are_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, lines, _) = Journal::open(folder.path()).unwrap();
        assert!(lines.is_empty());
        journal.rewrite(&[start("a")]).unwrap();
        journal.append(&start("b")).unwrap();
        assert!(matches!(Journal::open(folder.path()), Err(JournalError::Taken(_))));
        drop(journal);
        let (_journal, lines, unreadable) = Journal::open(folder.path()).unwrap();
        assert_eq!((ids(&lines), unreadable), (vec!["a", "b"], 0));
    }

    #[test]
    fn a_file_cut_anywhere_is_read_up_to_there() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _, _) = Journal::open(folder.path()).unwrap();
        for id in ["a", "b", "c"] {
            journal.append(&start(id)).unwrap();
        }
        drop(journal);
        let whole = fs::read(folder.path().join(NAME)).unwrap();
        for cut in 0..=whole.len() {
            let mut lines = Vec::new();
            let unreadable = read(&whole[..cut], &mut lines).unwrap();
            let ends = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!((lines.len(), unreadable), (ends, 0), "{cut}");
        }
    }

    #[test]
    fn damage_costs_its_own_lines_only() {
        let text = b"{\"event\":\"start\",\"id\":\"a\",\"job\":\"j\",\"at\":1}\n\xff\x00garbage\n\n{\"event\":\"new\"}\n{\"event\":\"start\",\"id\":\"b\",\"job\":\"j\",\"at\":1}\n";
        let mut lines = Vec::new();
        assert_eq!(read(&text[..], &mut lines).unwrap(), 2);
        assert_eq!(ids(&lines), ["a", "b"]);
    }
}
