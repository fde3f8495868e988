//! The states of alerts on disk, beside the spool.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rules::group::Saved;
use tracing::warn;

/// The file, as the spool's crate writes states: whole or not at all, with a checksum.
const NAME: &str = "alerts";

/// What a transition put into the spool is on the disk by then. Written earlier, the states could say that it was announced
/// where a crash took it.
const AFTER_CHANGE: Duration = Duration::from_secs(2);

/// Without any change: the time that `for` has counted.
const AT_LEAST: Duration = Duration::from_secs(60);

/// Writes them when it is time.
#[derive(Debug)]
pub(super) struct States {
    dir: PathBuf,
    due: Instant,
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
        let states =
            Self { dir: dir.to_owned(), due: Instant::now() + AT_LEAST, trouble: false, empty: saved.is_none() };
        (states, saved)
    }

    /// Something changed.
    pub(super) fn changed(&mut self) {
        self.due = self.due.min(Instant::now() + AFTER_CHANGE);
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Writes them.
    pub(super) fn write(&mut self, saved: &Saved) {
        self.due = Instant::now() + AT_LEAST;
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
