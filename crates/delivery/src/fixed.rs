//! Batches for stores without transactions over rows and ledger: [`Fixed`].
//!
//! A batch is fixed on disk, with its boundaries, its records and a token, before anything of it is sent. One batch is on
//! its way at a time, in parts: one part a kind, which is one table, so that a part is in the store whole or not at all as
//! long as the store keeps its word for one insert.
//!
//! After a restart, an error or a timeout nothing is sent before every record of the part was looked up in the store:
//!
//! | found | then |
//! |---|---|
//! | all | it counts as written |
//! | none | the same part again, under the same token: the store knows it if it is only late |
//! | some | those that are missing, under a new token |
//!
//! A look-up says something only if no insert under the part's token runs any more; a store that still runs one must
//! answer with an error, and is asked again later.
//!
//! What the store refuses is looked up too, and then sent in halves, each fixed anew, until one record is left: that one
//! is a dead letter.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wire::{Kind, Ranges, Timestamp};

use crate::Identity;
use crate::ledger::Ledger;

/// A batch as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedBatch {
    /// Names the batch; its parts' tokens begin with it.
    pub token: String,
    /// When it was fixed. Rows carry it, so that every attempt writes the same.
    pub written_at: Timestamp,
    /// The place of its first record in the member's spool.
    pub from: u64,
    /// The place after its last one.
    pub to: u64,
    /// What is still to be written, or may have been.
    pub parts: Vec<Part>,
    /// How many tokens were given out.
    pub tokens: u32,
}

/// Records of a batch that are sent together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its deduplication token and query id. The same token always means the same records.
    pub token: String,
    /// Their kind.
    pub kind: Kind,
    /// Their places in the member's spool.
    pub records: Ranges,
}

/// A record that may enter a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the member's spool.
    pub place: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its identity, if it has one: records without are written each time they arrive.
    pub identity: Option<Identity>,
}

/// What is to be done next. Each step ends with the call that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing is fixed: [`Fixed::fix`].
    Idle,
    /// Write [`Fixed::batch`] to disk and sync it: [`Fixed::saved`].
    Save,
    /// Look up every record of the part: [`Fixed::looked_up`]. If that fails, do it again later.
    LookUp(&'a Part),
    /// Insert the part under its token: [`Fixed::inserted`].
    Insert(&'a Part),
    /// Keep this record as a dead letter: [`Fixed::kept`], when it is on disk.
    DeadLetter(u64),
    /// Book every record of the batch in the ledger and remove the batch from the disk, both at once or in this order;
    /// then trim and confirm: [`Fixed::booked`].
    Book {
        /// The place of its first record.
        from: u64,
        /// The place after its last one.
        to: u64,
    },
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The store has it.
    Written,
    /// An error or no answer: it may have happened, or may still happen.
    Unknown,
    /// The store refuses something in it, and will every time.
    Refused,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Fixed {
    batch: Option<FixedBatch>,
    /// The batch is on disk as it is here, or nothing that follows needs it to be.
    saved: bool,
    /// Tokens under which something may have been sent, and nothing was looked up since.
    doubtful: BTreeSet<String>,
    /// The first part was refused.
    refused: bool,
    /// The record of the first part is refused for good.
    dead: bool,
}

impl Fixed {
    /// Goes on with the batch that was found on disk. `known`: the places of its records that the ledger has already.
    pub fn resume(batch: FixedBatch, known: &Ranges) -> Self {
        let mut batch = batch;
        // A part of which only some are known stays whole: its token stands for these records and no others.
        batch.parts.retain(|part| part.records.iter().any(|(from, to)| !known.covers(from, to)));
        let doubtful = batch.parts.iter().map(|part| part.token.clone()).collect();
        Self { batch: Some(batch), saved: true, doubtful, refused: false, dead: false }
    }

    /// Fixes a batch from the records at the places from `from` up to `to`, which is not included. Takes those that are
    /// neither in the ledger nor earlier in the batch; [`Step::Book`] comes for all of them. `token` must never have been
    /// used. Does nothing while another batch is fixed.
    pub fn fix(
        &mut self,
        token: String,
        written_at: Timestamp,
        (from, to): (u64, u64),
        candidates: &[Candidate],
        ledger: &Ledger,
    ) {
        if self.batch.is_some() {
            return;
        }
        let mut seen = BTreeSet::new();
        let mut kinds: BTreeMap<Kind, Ranges> = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| (from..to).contains(&candidate.place)) {
            let new =
                candidate.identity.as_ref().is_none_or(|identity| ledger.is_new(identity) && seen.insert(identity));
            if new {
                kinds.entry(candidate.kind).or_default().insert(candidate.place);
            }
        }
        let mut tokens = 0;
        let part = |(kind, records)| Part { token: next_token(&token, &mut tokens), kind, records };
        let parts: Vec<Part> = kinds.into_iter().map(part).collect();
        // A batch of known records is booked without a trace on disk: it would be built again just so.
        self.saved = parts.is_empty();
        (self.refused, self.dead) = (false, false);
        self.doubtful.clear();
        self.batch = Some(FixedBatch { token, written_at, from, to, parts, tokens });
    }

    /// The batch that is fixed.
    pub fn batch(&self) -> Option<&FixedBatch> {
        self.batch.as_ref()
    }

    /// What is to be done next.
    pub fn step(&self) -> Step<'_> {
        let Some(batch) = &self.batch else { return Step::Idle };
        if !self.saved {
            return Step::Save;
        }
        let Some(part) = batch.parts.first() else { return Step::Book { from: batch.from, to: batch.to } };
        match (self.dead, part.records.first()) {
            (true, Some(place)) => Step::DeadLetter(place),
            _ if self.doubtful.contains(&part.token) => Step::LookUp(part),
            _ => Step::Insert(part),
        }
    }

    /// [`Step::Save`] is done.
    pub fn saved(&mut self) {
        self.saved = true;
    }

    /// [`Step::LookUp`] is done: for each record of the part, in the order of their places, whether the store has all its
    /// rows. An answer of another length is none.
    pub fn looked_up(&mut self, found: &[bool]) {
        let Some(batch) = self.batch.as_mut() else { return };
        let Some(part) = batch.parts.first_mut().filter(|part| self.doubtful.contains(&part.token)) else { return };
        let places: Vec<u64> = part.records.iter().flat_map(|(from, to)| from..=to).collect();
        if places.len() != found.len() {
            return;
        }
        let missing: Vec<u64> =
            places.iter().zip(found).filter(|(_, found)| !**found).map(|(place, _)| *place).collect();
        self.doubtful.remove(&part.token);
        let refused = std::mem::take(&mut self.refused);
        match (missing.as_slice(), refused) {
            ([], _) => {
                batch.parts.remove(0);
            }
            ([_], true) if places.len() == 1 => self.dead = true,
            (missing, true) => {
                let (first, second) = missing.split_at(missing.len() / 2);
                let halves =
                    [first, second].into_iter().filter(|half| !half.is_empty()).map(|half| half.iter().copied());
                let halves: Vec<Ranges> = halves.map(|half| half.map(|place| (place, place)).collect()).collect();
                let kind = part.kind;
                let halves = halves.into_iter().map(|records| Part {
                    token: next_token(&batch.token, &mut batch.tokens),
                    kind,
                    records,
                });
                let halves: Vec<Part> = halves.collect();
                batch.parts.splice(0..1, halves);
                self.saved = false;
            }
            (missing, false) if missing.len() < places.len() => {
                part.records = missing.iter().map(|place| (*place, *place)).collect();
                part.token = next_token(&batch.token, &mut batch.tokens);
                self.saved = false;
            }
            _ => {}
        }
    }

    /// [`Step::Insert`] is done.
    pub fn inserted(&mut self, outcome: Outcome) {
        let Some(batch) = self.batch.as_mut().filter(|_| self.saved && !self.dead) else { return };
        let Some(part) = batch.parts.first().filter(|part| !self.doubtful.contains(&part.token)) else { return };
        if outcome == Outcome::Written {
            batch.parts.remove(0);
        } else {
            self.doubtful.insert(part.token.clone());
            self.refused = outcome == Outcome::Refused;
        }
    }

    /// [`Step::DeadLetter`] is done.
    pub fn kept(&mut self) {
        if let Some(batch) = self.batch.as_mut().filter(|batch| self.dead && !batch.parts.is_empty()) {
            batch.parts.remove(0);
            self.dead = false;
        }
    }

    /// [`Step::Book`] is done.
    pub fn booked(&mut self) {
        if matches!(self.step(), Step::Book { .. }) {
            *self = Self::default();
        }
    }
}

fn next_token(batch: &str, tokens: &mut u32) -> String {
    *tokens = tokens.saturating_add(1);
    format!("{batch}-{tokens}")
}
