//! What no broker takes as a whole goes in halves, under numbers of their own, and a crash leaves the one or the other.
//!
//! The keeper does it, in steps of which each is on the disk before the next:
//! 1. The state `halved` says from where on in the log halves may stand that count for nothing.
//! 2. The halves are appended, with a header that tells them from other records. Nothing of them is sent yet.
//! 3. The state says that the whole is void, and that no halves are under way. From here on it is the halves that count.
//!
//! A start that finds the first without the third makes the halves void. What is void stays so until its log is trimmed
//! beyond it: its declared loss is forgotten when every group has booked it, and a restart would then find the whole again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use spool::{Log, ReadError, Reserve, state};
use wire::messages::{Loss, LossReason};
use wire::{BootId, Kind, Ranges, SeqByBoot, by_boot};

use super::open::known_kinds;
use super::shelf::Shelf;
use super::{Outbox, Post};

/// The state's name in the spool's folder.
pub(super) const HALVED: &str = "halved";

/// The header of a half in the log.
pub(super) const HALF: &[u8] = b"half";

type JsonMap = Map<String, Json>;

/// A record that is to be halved.
pub(super) type Whole = (BootId, Kind, u64);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Disk {
    /// From this index on, halves count for nothing.
    #[serde(default, deserialize_with = "known_kinds")]
    from: BTreeMap<Kind, u64>,
    /// Records in the logs that count for nothing.
    #[serde(default, deserialize_with = "by_boot")]
    void: SeqByBoot<Ranges>,
}

/// A record and the numbers of what stands for it: of both halves, or of what found room of them.
#[derive(Debug)]
struct Cut {
    whole: Whole,
    halves: Vec<u64>,
    complete: bool,
}

/// The keeper's part of it.
#[derive(Debug, Default)]
pub(super) struct Halving {
    disk: Disk,
    /// In the log, and not in the state.
    cuts: Vec<Cut>,
}

impl Halving {
    /// What a text from the disk says, and what of the logs it says it of.
    pub(super) fn open(
        text: Option<Json>,
        shelves: &[Shelf],
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let Some(mut disk) = text.and_then(|text| serde_json::from_value::<Disk>(text).ok()) else {
            return Ok(Self::default());
        };
        for (kind, from) in std::mem::take(&mut disk.from) {
            let Some(shelf) = shelves.get(kind as usize) else { continue };
            for (boot, seq, _) in halves(&shelf.log, from).into_iter().flat_map(|index| shelf.seqs(index, index)) {
                disk.void.entry(boot).or_default().entry(kind).or_default().insert(seq);
            }
        }
        let mut halving = Self { disk, cuts: Vec::new() };
        halving.prune(shelves);
        write(&serde_json::to_vec(&halving.disk).map_err(io::Error::other)?)?;
        Ok(halving)
    }

    /// Forgets what was trimmed.
    fn prune(&mut self, shelves: &[Shelf]) {
        self.disk.void.retain(|boot, kinds| {
            kinds.retain(|kind, seqs| {
                let Some(shelf) = shelves.get(*kind as usize) else { return false };
                match shelf.index_of(boot, 1) {
                    Some(first) if shelf.log.first() > first => seqs.remove_range(0, shelf.log.first() - first),
                    Some(_) => {}
                    None => *seqs = Ranges::default(),
                }
                !seqs.is_empty()
            });
            !kinds.is_empty()
        });
    }

    /// Has what is void passed over.
    pub(super) fn apply(&self, outbox: &mut Outbox) {
        for (boot, kinds) in &self.disk.void {
            for (kind, seqs) in kinds {
                seqs.iter().for_each(|(from, to)| outbox.void(boot, *kind, from, to));
            }
        }
    }

    /// All steps for what is to be halved now, and for what an earlier round did not end. What fails before it is in the
    /// log is refused again when it is sent again.
    pub(super) fn run(&mut self, post: &Post, dir: &Path, reserve: &Reserve) -> io::Result<()> {
        let wholes = std::mem::take(&mut post.lock().to_halve);
        if wholes.is_empty() && self.cuts.is_empty() {
            return Ok(());
        }
        self.begin(&wholes, post, dir, reserve)?;
        self.append(wholes, post);
        self.end(post, dir, reserve)
    }

    pub(super) fn begin(&mut self, wholes: &[Whole], post: &Post, dir: &Path, reserve: &Reserve) -> io::Result<()> {
        for (_, kind, _) in wholes {
            let next = post.lock().shelf(*kind).log.next();
            self.disk.from.entry(*kind).or_insert(next);
        }
        self.write(dir, reserve)
    }

    pub(super) fn append(&mut self, wholes: Vec<Whole>, post: &Post) {
        let mut outbox = post.lock();
        self.cuts.extend(wholes.into_iter().filter_map(|whole| outbox.cut(whole)));
    }

    pub(super) fn end(&mut self, post: &Post, dir: &Path, reserve: &Reserve) -> io::Result<()> {
        for kind in self.disk.from.keys() {
            let syncer = post.lock().shelf(*kind).log.sync_handle();
            syncer.run()?;
            post.lock().shelf(*kind).log.mark_synced(syncer);
        }
        let own = post.lock().boot.clone();
        for Cut { whole: (boot, kind, seq), halves, complete } in &self.cuts {
            let void = if *complete { (boot, std::slice::from_ref(seq)) } else { (&own, &halves[..]) };
            let seqs = self.disk.void.entry(void.0.clone()).or_default().entry(*kind).or_default();
            void.1.iter().for_each(|seq| seqs.insert(*seq));
        }
        let from = std::mem::take(&mut self.disk.from);
        self.prune(&post.lock().shelves);
        if let Err(error) = self.write(dir, reserve) {
            self.disk.from = from;
            return Err(error);
        }
        let mut outbox = post.lock();
        for Cut { whole: (boot, kind, seq), halves, complete } in self.cuts.drain(..) {
            if complete {
                outbox.void(&boot, kind, seq, seq);
                outbox.counts[kind as usize].made += halves.len() as u64;
                halves.into_iter().for_each(|seq| outbox.sender.appended(kind, seq));
            } else {
                halves.into_iter().for_each(|seq| outbox.void(&own, kind, seq, seq));
            }
        }
        Ok(())
    }

    fn write(&self, dir: &Path, reserve: &Reserve) -> io::Result<()> {
        let text = serde_json::to_vec(&self.disk).map_err(io::Error::other)?;
        reserve.spend(|| state::write(dir, HALVED, &text))
    }
}

/// The halves in a log from an index on: what was appended within the second before a crash.
fn halves(log: &Log, from: u64) -> Vec<u64> {
    let (mut reader, mut buffer, mut found) = (log.reader(), Vec::new(), Vec::new());
    let mut index = from.max(log.first());
    while index < log.next() {
        match reader.read(index, &mut buffer) {
            Ok(entry) => {
                found.extend(entry.filter(|entry| entry.head == HALF).map(|_| index));
                index += 1;
            }
            Err(ReadError::Gap { to, .. }) => index = to + 1,
            Err(_) => break,
        }
    }
    found
}

/// A record without its content, and the content in two.
fn split(payload: &[u8]) -> Option<(JsonMap, [Vec<Json>; 2])> {
    // As plain JSON: whatever the records are, they go on as they are.
    let mut record = serde_json::from_slice::<JsonMap>(payload).ok()?;
    let Some(Json::Array(mut first)) = record.remove("records") else { return None };
    let second = first.split_off(first.len() / 2);
    (!first.is_empty()).then_some((record, [first, second]))
}

impl Outbox {
    /// Whether a record is one that can be halved.
    pub(super) fn has_halves(&mut self, boot: &BootId, kind: Kind, seq: u64) -> bool {
        // Only these hold records of somebody else's, and may be any number of them.
        matches!(kind, Kind::Logs | Kind::Pipeline)
            && self.shelf(kind).read(boot, seq).is_ok_and(|payload| split(&payload).is_some())
    }

    /// Appends the halves of a record. The sender does not know of them yet.
    fn cut(&mut self, whole: Whole) -> Option<Cut> {
        let (boot, kind, seq) = &whole;
        if !self.sender.owes(boot, *kind, *seq) {
            return None;
        }
        let (mut record, content) = split(&self.shelf(*kind).read(boot, *seq).ok()?)?;
        let mut cut = Cut { whole, halves: Vec::new(), complete: true };
        for half in content {
            let kind = cut.whole.1;
            let seq = self.shelf(kind).next_seq();
            record.insert("boot".to_owned(), self.boot.as_str().into());
            record.insert("seq".to_owned(), seq.into());
            record.insert("records".to_owned(), half.into());
            match self.put_encoded(kind, HALF, &wire::encode(&record)) {
                Ok(()) => cut.halves.push(seq),
                Err(_) => {
                    // There may be room when it is refused again.
                    cut.complete = false;
                    break;
                }
            }
        }
        Some(cut)
    }

    /// Records that stand in the log and count for nothing.
    fn void(&mut self, boot: &BootId, kind: Kind, from: u64, to: u64) {
        self.give_up(&Loss { boot: boot.clone(), kind, from, to, reason: LossReason::TooLarge });
    }
}
