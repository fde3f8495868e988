//! The audit: one JSON object a line for each command that is started, and for its end.
//!
//! A line about a start is synced before the command starts: what ran is in here, whatever happened then. Neither what a
//! request handed in nor what a command wrote is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use daemon::http::Credentials;
use serde::Serialize;
use wire::Timestamp;

use crate::result::{Outcome, RunResult};

/// One line. The time is put before it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Entry<'a> {
    /// About to start.
    Start { id: &'a str, job: &'a str, argv: &'a [String], peer: Peer },
    /// The start that stands above did not come about, since it could not be noted elsewhere.
    Withdrawn { id: &'a str, job: &'a str, error: &'a str },
    /// Ended.
    End {
        id: &'a str,
        job: &'a str,
        pid: Option<u32>,
        outcome: Outcome,
        exit_code: Option<i32>,
        signal: Option<i32>,
        duration_ms: u64,
        stdout_bytes: u64,
        stderr_bytes: u64,
        error: Option<&'a str>,
    },
    /// An earlier run of the daemon ended before it saw the end.
    Interrupted { id: &'a str, job: &'a str, started_at: Timestamp },
}

impl<'a> Entry<'a> {
    pub(crate) fn end(result: &'a RunResult, pid: Option<u32>) -> Self {
        Entry::End {
            id: &result.id,
            job: &result.job,
            pid,
            outcome: result.outcome,
            exit_code: result.exit_code,
            signal: result.signal,
            duration_ms: result.duration_ms,
            stdout_bytes: result.stdout_bytes,
            stderr_bytes: result.stderr_bytes,
            error: result.error.as_deref(),
        }
    }
}

/// Who asked.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Peer {
    uid: u32,
    gid: u32,
    pid: Option<i32>,
}

impl From<Credentials> for Peer {
    fn from(Credentials { uid, gid, pid }: Credentials) -> Self {
        Self { uid, gid, pid }
    }
}

#[derive(Serialize)]
struct Stamped<'a> {
    time: Timestamp,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

/// The audit can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write the audit {path}: {source}; `jobs.audit` in the configuration names it")]
pub struct AuditError {
    path: PathBuf,
    source: io::Error,
}

/// The open file. Where somebody moved or removed it (logrotate), the next line opens it anew.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    file: File,
    torn: bool,
}

impl Audit {
    pub(crate) fn open(path: &Path) -> Result<Self, AuditError> {
        let error = |source| AuditError { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(error)?;
        }
        let (file, torn) = open(path).map_err(error)?;
        Ok(Self { path: path.to_owned(), file, torn })
    }

    /// Writes a line and syncs it.
    pub(crate) fn write(&mut self, entry: &Entry<'_>) -> Result<(), AuditError> {
        self.try_write(entry).map_err(|source| AuditError { path: self.path.clone(), source })
    }

    fn try_write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let is_same = fs::metadata(&self.path).is_ok_and(|there| {
            self.file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        });
        if !is_same {
            (self.file, self.torn) = open(&self.path)?;
        }
        let mut line = if self.torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, &Stamped { time: SystemTime::now().into(), entry })?;
        line.push(b'\n');
        self.torn = true;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.torn = false;
        Ok(())
    }
}

/// Opens the file to add to it; and whether its last line was torn by a crash, so that the next must not join it.
fn open(path: &Path) -> io::Result<(File, bool)> {
    // A pipe would hold up the daemon, and keep nothing.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
    }
    let is_new = !path.exists();
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    if let Some(folder) = path.parent().filter(|_| is_new) {
        File::open(folder)?.sync_all()?;
    }
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok((file, last != [b'\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry<'_> {
        Entry::Interrupted { id, job: "job", started_at: Timestamp::from_millis(0) }
    }

    #[test]
    fn a_torn_line_stays_alone_and_a_moved_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/audit.log");
        let mut audit = Audit::open(&path).unwrap();
        audit.write(&entry("a")).unwrap();
        drop(audit);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"torn").unwrap();
        let mut audit = Audit::open(&path).unwrap();
        audit.write(&entry("b")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (3, "{\"torn"));
        assert!(
            lines[2].contains("\"event\":\"interrupted\",\"id\":\"b\"") && lines[2].starts_with("{\"time\":\"20"),
            "{text}"
        );
        fs::rename(&path, folder.path().join("old")).unwrap();
        audit.write(&entry("c")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Audit::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is no regular file; `jobs.audit`"), "{error}");
    }
}
