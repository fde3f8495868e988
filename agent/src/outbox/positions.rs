//! Up to where inputs have read, kept together with the records made of what they read.
//!
//! A record of an input carries in its local header the new places of the streams whose lines it holds, so that both are in
//! the spool or neither is. What the headers say is gathered in the state `positions`, with the index in the log up to which
//! it covers them. A start reads the state and the headers from there on:
//!
//! | the end of | what is left | what a start makes of it |
//! |---|---|---|
//! | the process, before an append | neither record nor place | the lines are read again |
//! | the process, in an append | a torn record, which is cut off | the lines are read again |
//! | the process, after it | record and place | the lines are not read again |
//! | the machine, before a sync | neither, or both | as above |
//! | the machine, after a sync | both | the lines are not read again |
//!
//! For that the state never covers a record that is not synced, and no record is trimmed whose header it does not cover. A
//! place that moved without a record (nothing was to be sent of what was read) is in the state alone, some seconds later.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use spool::{Log, ReadError, Reserve, state};
use tracing::warn;

use super::open::read_json;

/// The state's name in the spool's folder.
const POSITIONS: &str = "positions";

/// The beginning of a header with places.
const MARK: &[u8] = b"pos1";

/// The most streams whose places are kept.
const MOST: usize = 65_536;

/// Bytes of a name, and of a place, that are kept.
const LONGEST: usize = 1024;

/// Time from one state to the next, and more of it for a large one: so many bytes are worth a second.
const PAUSE: Duration = Duration::from_secs(5);
const BYTES_A_SECOND: usize = 100 << 10;

/// New places of streams, by name; `None`: the stream is over.
pub type Moves = BTreeMap<String, Option<String>>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Disk {
    /// The first index in the log whose header is not in here.
    covers: u64,
    at: BTreeMap<String, String>,
}

/// The places, and how much of them is on the disk.
#[derive(Debug, Default)]
pub(super) struct Positions {
    at: BTreeMap<String, String>,
    /// Counts changes.
    version: u64,
    /// The first header that the state on the disk does not cover, and the first since the last [`Positions::image`].
    uncovered: Option<u64>,
    since: Option<u64>,
    /// It is to be written soon.
    urgent: bool,
    crowded: bool,
}

/// A state that is to be written.
pub(super) struct Image {
    text: Vec<u8>,
    version: u64,
}

/// What the keeper knows of the state.
#[derive(Debug, Default)]
pub(super) struct Written {
    version: u64,
    last: Option<(Instant, usize)>,
}

impl Written {
    /// Writes it. Everything that it covers must be synced before.
    pub(super) fn write(&mut self, image: &Image, dir: &Path, reserve: &Reserve) -> io::Result<()> {
        reserve.spend(|| state::write(dir, POSITIONS, &image.text))?;
        self.version = image.version;
        self.last = Some((Instant::now(), image.text.len()));
        Ok(())
    }
}

/// Whether a header is one with places.
pub(super) fn is_header(head: &[u8]) -> bool {
    head.starts_with(MARK)
}

/// A header with these places.
pub(super) fn header(moves: &Moves) -> Vec<u8> {
    [MARK, &wire::encode(moves)].concat()
}

impl Positions {
    /// What the state says, and the headers after it.
    pub(super) fn open(dir: &Path, log: &Log, reserve: &Reserve) -> io::Result<Self> {
        let disk = read_json::<Disk>(dir, POSITIONS)?.unwrap_or_default();
        let mut positions = Self { at: disk.at, ..Self::default() };
        let (mut reader, mut buffer) = (log.reader(), Vec::new());
        let mut index = disk.covers.max(log.first());
        while index < log.next() {
            match reader.read(index, &mut buffer) {
                Ok(entry) => {
                    if let Some(moves) = entry.and_then(|entry| entry.head.strip_prefix(MARK)) {
                        match serde_json::from_slice::<Moves>(moves) {
                            Ok(moves) => positions.appended(index, &moves),
                            Err(error) => warn!("places in the spool's record {index}: {error}"),
                        }
                    }
                    index += 1;
                }
                // What is lost of the log is read again, as far as later records do not say more.
                Err(ReadError::Gap { to, .. }) => index = to + 1,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        if disk.covers > log.next() {
            // The log is another one: what it gets now is not covered.
            Written::default().write(&positions.image(log.next()), dir, reserve)?;
            positions.written();
        }
        Ok(positions)
    }

    fn apply(&mut self, moves: &Moves) {
        for (stream, place) in moves {
            let crowded = self.at.len() >= MOST && !self.at.contains_key(stream);
            match place {
                None => drop(self.at.remove(stream)),
                Some(place) if stream.len() > LONGEST || place.len() > LONGEST => {
                    warn!("BUG: the place of {stream} has {} bytes, and is not kept", place.len());
                }
                Some(_) if crowded => {
                    if !std::mem::replace(&mut self.crowded, true) {
                        warn!("the places of {MOST} streams are kept, and no more: others begin anew after a restart");
                    }
                }
                Some(place) => drop(self.at.insert(stream.clone(), place.clone())),
            }
        }
        self.version += 1;
    }

    /// A record with these places stands in the log now.
    pub(super) fn appended(&mut self, index: u64, moves: &Moves) {
        self.apply(moves);
        self.uncovered.get_or_insert(index);
        self.since.get_or_insert(index);
    }

    /// These moved without a record. `urgent`: it should not wait for the next state's time.
    pub(super) fn note(&mut self, moves: &Moves, urgent: bool) {
        self.apply(moves);
        self.urgent |= urgent;
    }

    /// The streams whose names begin so.
    pub(super) fn of(&self, beginning: &str) -> Vec<(String, String)> {
        let known = self.at.range(beginning.to_owned()..).take_while(|(stream, _)| stream.starts_with(beginning));
        known.map(|(stream, place)| (stream.clone(), place.clone())).collect()
    }

    /// Up to where the log may be trimmed.
    pub(super) fn trim_to(&self) -> u64 {
        self.uncovered.unwrap_or(u64::MAX)
    }

    /// The log waits for the state.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Whether a state is to be written now.
    pub(super) fn due(&self, written: &Written, force: bool) -> bool {
        let pause = |bytes: usize| PAUSE + Duration::from_secs((bytes / BYTES_A_SECOND) as u64);
        self.version != written.version
            && (force || self.urgent || written.last.is_none_or(|(last, bytes)| last.elapsed() >= pause(bytes)))
    }

    /// A state for the disk, of a log that ends at `next`.
    pub(super) fn image(&mut self, next: u64) -> Image {
        self.since = None;
        self.urgent = false;
        let disk = Disk { covers: next, at: std::mem::take(&mut self.at) };
        let text = wire::encode(&disk);
        self.at = disk.at;
        Image { text, version: self.version }
    }

    /// The last image is on the disk.
    pub(super) fn written(&mut self) {
        self.uncovered = self.since;
    }
}
