//! The states of alerts on disk, beside the spool.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rules::group::Saved;
use serde::{Deserialize, Serialize};
use tracing::warn;
use wire::Timestamp;
use wire::messages::AlertTransition;

/// The file, as the spool's crate writes states: whole or not at all, with a checksum.
const NAME: &str = "alerts";

/// From one writing to the next, where something changes all the time.
const PAUSE: Duration = Duration::from_millis(500);

/// Without any change: the time that `for` has counted.
const AT_LEAST: Duration = Duration::from_secs(60);

/// What stands in the file. A transition that began or ended with these states is in it before it goes into the spool, so
/// that no crash leaves states that say it was told while nobody was told, nor the other way round:
///
/// | crash | the next start finds | and |
/// |---|---|---|
/// | before the file is written | the states before | evaluates: it was never told |
/// | after that | the transition in `announcing`, and the spool without it | puts it into the spool |
/// | when it is in the spool | both | sees by `from` that it is there |
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnDisk {
    pub(super) states: Saved,
    /// The labels of the host that alerts were told with.
    pub(super) labels: Vec<(String, String)>,
    /// The place in the spool's log of alerts that the first of `announcing` gets.
    pub(super) from: u64,
    /// What was not in the spool for sure when this was written, in order.
    pub(super) announcing: Vec<(Timestamp, AlertTransition)>,
}

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
    pub(super) fn open(dir: &Path) -> (Self, Option<OnDisk>) {
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

    /// An alert began to fire or is over: this has to stand here before it is told.
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

    /// Writes them. What they say was announced, and is not among what is being announced, must be on the disk, where a crash
    /// does not take it.
    pub(super) fn write(&mut self, saved: &OnDisk) {
        self.written = Instant::now();
        self.due = self.written + AT_LEAST;
        let empty = saved.states.is_empty() && saved.announcing.is_empty();
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
