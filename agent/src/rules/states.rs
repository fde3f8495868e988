//! The states of alerts on disk, beside the spool.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rules::group::Saved;
use tracing::warn;

/// The file, as the spool's crate writes states: whole or not at all, with a checksum.
const NAME: &str = "alerts";

/// From one writing to the next, where something changes all the time.
const PAUSE: Duration = Duration::from_millis(500);

/// Without any change: the time that `for` has counted.
const AT_LEAST: Duration = Duration::from_secs(60);

/// Writes them when it is time.
#[derive(Debug)]
pub(super) struct States {
    dir: PathBuf,
    due: Instant,
    written: Instant,
    trouble: bool,
    /// What stands there has nothing in it, and so has what would be written.
    empty: bool,
}

impl States {
    /// In this folder; gives what an earlier run left.
    pub(super) fn open(dir: &Path) -> (Self, Option<Saved>) {
        let read = spool::state::read(dir, NAME).and_then(|bytes| match bytes {
            Some(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            None => Ok(None),
        });
        let saved = read.unwrap_or_else(|error| {
            warn!(
                "the states of alerts in {} can't be read: {error}; what fired before is announced again",
                dir.display()
            );
            None
        });
        let now = Instant::now();
        let empty = saved.is_none();
        let states = Self { dir: dir.to_owned(), due: now + AT_LEAST, written: now, trouble: false, empty };
        (states, saved)
    }

    /// Something changed.
    pub(super) fn changed(&mut self) {
        self.due = self.due.min(self.written + PAUSE);
    }

    /// An alert began to fire or is over. After a crash before this stands here, nobody would know that it fires, and its end
    /// would never be told.
    pub(super) fn announced(&mut self) {
        self.due = Instant::now();
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// They can't be written now.
    pub(super) fn later(&mut self) {
        self.due = Instant::now() + PAUSE;
    }

    /// Writes them. What they say was announced must be on the disk, where a crash does not take it.
    pub(super) fn write(&mut self, saved: &Saved) {
        self.written = Instant::now();
        self.due = self.written + AT_LEAST;
        let empty = saved.is_empty();
        if empty && self.empty {
            return;
        }
        let written = serde_json::to_vec(saved)
            .map_err(io::Error::other)
            .and_then(|bytes| spool::state::write(&self.dir, NAME, &bytes));
        match written {
            Ok(()) => (self.trouble, self.empty) = (false, empty),
            Err(error) => {
                if !std::mem::replace(&mut self.trouble, true) {
                    warn!(
                        "the states of alerts can't be written to {}: {error}; after a restart alerts are announced again",
                        self.dir.display()
                    );
                }
            }
        }
    }
}
