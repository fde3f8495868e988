//! What was decided and what waits, on disk.

use std::io;
use std::path::{Path, PathBuf};

use notify::silence::Origin;
use notify::{dispatch, queue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;
use wire::messages::Silence;

/// The files, as the spool's crate writes states: whole or not at all, with a checksum.
const NAME: &str = "notifications";
const QUEUE: &str = "notification-queue";
const PROGRESS: &str = "notification-progress";

/// What an earlier run left.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// What was told to whom.
    pub(super) dispatcher: dispatch::Saved,
    /// Silences that the configuration does not have.
    pub(super) silences: Vec<(String, Silence, From)>,
    /// What waits, as of then.
    pub(super) queue: Queued,
}

/// What waits to be sent. It is also in a file of its own, since it changes more often: what has the higher number holds. What
/// was sent of it is in a third one, which is small: it holds where its number is higher yet.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Queued {
    number: u64,
    pub(super) waiting: queue::Saved,
    #[serde(skip)]
    pub(super) progress: queue::Progress,
}

impl Queued {
    pub(super) fn of(waiting: queue::Saved) -> Self {
        Self { number: 0, waiting, progress: queue::Progress::default() }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Progressed {
    number: u64,
    progress: queue::Progress,
}

/// Where a silence comes from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum From {
    /// Somebody made it on this host.
    Host,
    /// It is the fleet's.
    Fleet,
}

impl std::convert::From<Origin> for From {
    fn from(origin: Origin) -> Self {
        if origin == Origin::Fleet { Self::Fleet } else { Self::Host }
    }
}

impl std::convert::From<From> for Origin {
    fn from(from: From) -> Self {
        match from {
            From::Host => Self::Host,
            From::Fleet => Self::Fleet,
        }
    }
}

/// Writes them.
#[derive(Debug)]
pub(super) struct States {
    dir: PathBuf,
    trouble: bool,
    failures: u64,
    number: u64,
}

impl States {
    /// In this folder; gives what an earlier run left.
    pub(super) fn open(dir: &Path) -> (Self, Kept) {
        let mut kept: Kept = read(dir, NAME, "who was told of what fires is told again");
        let queue: Queued = read(dir, QUEUE, "what waited to be sent is lost");
        if queue.number > kept.queue.number {
            kept.queue = queue;
        }
        let progress: Progressed = read(dir, PROGRESS, "what was sent since is sent again");
        let mut number = kept.queue.number;
        if progress.number > number {
            (number, kept.queue.progress) = (progress.number, progress.progress);
        }
        (Self { dir: dir.to_owned(), trouble: false, failures: 0, number }, kept)
    }

    /// Whether there is something on the disk that has to be kept up.
    pub(super) fn are_there(&self) -> bool {
        self.number > 0
    }

    /// How often they could not be written.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Writes what was decided and what waits at once, so that after a crash none is there without the other.
    pub(super) fn write(&mut self, mut kept: Kept) -> bool {
        self.number += 1;
        kept.queue.number = self.number;
        self.write_as(NAME, &kept)
    }

    /// Writes what waits, where nothing else has changed.
    pub(super) fn write_queue(&mut self, waiting: queue::Saved) -> bool {
        self.number += 1;
        self.write_as(QUEUE, &Queued { number: self.number, ..Queued::of(waiting) })
    }

    /// Writes what became of what was written to wait, where nothing came to it.
    pub(super) fn write_progress(&mut self, progress: queue::Progress) -> bool {
        self.number += 1;
        self.write_as(PROGRESS, &Progressed { number: self.number, progress })
    }

    /// Whether it is on the disk.
    fn write_as(&mut self, name: &str, value: &impl Serialize) -> bool {
        let bytes = serde_json::to_vec(value).map_err(io::Error::other);
        match bytes.and_then(|bytes| spool::state::write(&self.dir, name, &bytes)) {
            Ok(()) => {
                self.trouble = false;
                true
            }
            Err(error) => {
                self.failed(name, &error);
                false
            }
        }
    }

    fn failed(&mut self, name: &str, error: &io::Error) {
        self.failures += 1;
        if !std::mem::replace(&mut self.trouble, true) {
            warn!(
                "{name} can't be written to {}: {error}; after a restart some notifications are sent again or not at all",
                self.dir.display()
            );
        }
    }
}

fn read<T: Default + DeserializeOwned>(dir: &Path, name: &str, what: &str) -> T {
    let read = spool::state::read(dir, name).and_then(|bytes| match bytes {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        None => Ok(T::default()),
    });
    read.unwrap_or_else(|error| {
        warn!("{name} in {} can't be read: {error}; {what}", dir.display());
        T::default()
    })
}
