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

/// What an earlier run left.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// What was told to whom.
    pub(super) dispatcher: dispatch::Saved,
    /// Silences that the configuration does not have.
    pub(super) silences: Vec<(String, Silence, From)>,
    /// In a file of its own, since it changes more often.
    #[serde(skip)]
    pub(super) queue: queue::Saved,
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
    /// The states as they are on the disk; most of the time nothing has changed.
    written: [Option<Vec<u8>>; 2],
}

impl States {
    /// In this folder; gives what an earlier run left.
    pub(super) fn open(dir: &Path) -> (Self, Kept) {
        let mut kept: Kept = read(dir, NAME, "who was told of what fires is told again");
        kept.queue = read(dir, QUEUE, "what waited to be sent is lost");
        (Self { dir: dir.to_owned(), trouble: false, failures: 0, written: [None, None] }, kept)
    }

    /// How often they could not be written.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn write(&mut self, kept: &Kept) {
        self.write_as(0, NAME, kept);
    }

    pub(super) fn write_queue(&mut self, queue: &queue::Saved) {
        self.write_as(1, QUEUE, queue);
    }

    fn write_as(&mut self, at: usize, name: &str, value: &impl Serialize) {
        let bytes = match serde_json::to_vec(value) {
            Ok(bytes) => bytes,
            Err(error) => return self.failed(name, &io::Error::other(error)),
        };
        // Kept for comparison only where it is small.
        let small = bytes.len() <= 64 << 10;
        let Some(written) = self.written.get_mut(at) else { return };
        if written.as_ref() == Some(&bytes) {
            return;
        }
        *written = None;
        match spool::state::write(&self.dir, name, &bytes) {
            Ok(()) => {
                *written = small.then_some(bytes);
                self.trouble = false;
            }
            Err(error) => self.failed(name, &error),
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
