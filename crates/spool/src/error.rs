use std::io;
use std::path::PathBuf;

/// A log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process; give each its own spool directory, or stop the other one")]
    Locked(PathBuf),
    /// The folder or a file in it can't be made, read or written.
    #[error("can't {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A record was not appended. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full, or a quota is used up.
    #[error("no space left on the disk of {0}; free some, or move the spool to another disk")]
    NoSpace(PathBuf),
    /// More bytes than one record may have.
    #[error("a record of {bytes} bytes is larger than {most} bytes, the most that one may have")]
    TooLarge {
        /// Of head and body.
        bytes: usize,
        /// What is allowed.
        most: usize,
    },
    /// Something else.
    #[error("can't write to {path}: {source}")]
    Io {
        /// The segment.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was trimmed or dropped: go on at `first`.
    #[error("the record is no longer there; the first one is {first}")]
    Gone {
        /// The first index that is still there.
        first: u64,
    },
    /// These can't be read and never will be: go on at `to + 1`.
    #[error("the records {from} to {to} are damaged or missing")]
    Gap {
        /// The first index that is missing, which is the one that was asked for.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The system says no: try again later.
    #[error("can't read {path}: {source}")]
    Io {
        /// The segment.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Whether an error means that there is no room.
pub(crate) fn no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
