//! Walks along one chain, record by record, and books what does not fit.

use std::collections::{BTreeMap, BTreeSet};

use wire::Timestamp;
use wire::chain::{HASH, Hash, Line, SEQ};
use wire::messages::AuditLoss;

use crate::logs::row::Row;

/// Records that do not fit and are tried in each other's places.
const MOST_TRIED: usize = 200;

/// What is known of a chain from elsewhere than the rows.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Hashes that records have, by number.
    pub anchors: BTreeMap<u64, Hash>,
    /// When the record with the highest of these numbers was made.
    pub latest: Option<Timestamp>,
    /// What the agent gave up.
    pub lost: Vec<AuditLoss>,
}

/// A row of the chain.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its number, 0 if it has none that can be read.
    pub seq: u64,
    /// The hash that it says it has.
    pub hash: Option<Hash>,
    /// The row. Its fields in the order of their names.
    row: Row,
    fields: BTreeMap<String, String>,
    /// A name stands twice in it.
    ambiguous: bool,
}

impl Link {
    /// From a row.
    pub fn new(row: Row) -> Self {
        let fields: BTreeMap<String, String> =
            row.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let seq = fields.get(SEQ).and_then(|seq| seq.parse().ok()).unwrap_or_default();
        let hash = fields.get(HASH).and_then(|hash| hash.parse().ok());
        let ambiguous = fields.len() != row.field_names.len();
        Self { seq, hash, row, fields, ambiguous }
    }

    /// The hash that its content has behind another.
    fn hash_behind(&self, before: &Hash) -> Option<Hash> {
        (!self.ambiguous).then(|| self.line(&self.fields).hash(before))
    }

    /// The same, were it that number.
    fn hash_as(&self, seq: u64, before: &Hash) -> Option<Hash> {
        let mut fields = self.fields.clone();
        fields.insert(SEQ.to_owned(), seq.to_string());
        (!self.ambiguous).then(|| self.line(&fields).hash(before))
    }

    fn line<'a>(&'a self, fields: &'a BTreeMap<String, String>) -> Line<'a> {
        let row = &self.row;
        Line {
            host: &row.host,
            timestamp: row.timestamp,
            level: &row.level,
            level_original: &row.level_original,
            service_name: &row.service_name,
            message: &row.message,
            latency_ms: row.latency_ms,
            logger: &row.logger,
            environment: &row.environment,
            category: &row.category,
            trace_id: &row.trace_id,
            request_id: &row.request_id,
            fields,
        }
    }
}

/// What was found of a chain. Numbers are those of records in their chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Rows.
    pub rows: u64,
    /// The lowest and the highest number of a row that fits, and the hash of the latter.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// See `first`.
    pub hash: Hash,
    /// Rows whose content does not have the hash that it should.
    pub altered: BTreeSet<u64>,
    /// No row has this number.
    pub missing: Vec<(u64, u64)>,
    /// The same at the beginning of the chain.
    pub missing_first: Option<(u64, u64)>,
    /// The same at its end, up to the highest number that is known from elsewhere.
    pub missing_last: Option<(u64, u64)>,
    /// The same, and the agent says that it gave them up.
    pub lost: Vec<(u64, u64)>,
    /// Rows that are beside the one that fits, or have no number.
    pub inserted: Vec<u64>,
    /// Rows that stand where another one belongs: their number, and the one that they had.
    pub moved: Vec<(u64, u64)>,
    /// The hash is not the one that is known from elsewhere, though the rows fit each other: all of it was made anew.
    pub forged: BTreeSet<u64>,
    /// Copies of rows that fit: a tier that lost its disk writes them.
    pub doubles: u64,
    /// Rows behind records that are missing: without those nothing says whether their content is right.
    pub unchecked: BTreeSet<u64>,
    /// Rows beyond the highest number that is known from elsewhere.
    pub beyond: u64,
}

impl Found {
    /// Whether somebody has changed something, not counting what stands at the ends.
    pub fn has_faults(&self) -> bool {
        !(self.altered.is_empty()
            && self.missing.is_empty()
            && self.inserted.is_empty()
            && self.moved.is_empty()
            && self.forged.is_empty())
    }
}

/// A walk under way.
#[derive(Debug, Default)]
pub struct Walk {
    known: Known,
    found: Found,
    /// The last number that was seen, and the hash behind it, if that is known.
    at: u64,
    before: Option<Hash>,
    /// The rows of one number, which come one after the other.
    group: Vec<Link>,
    /// Rows that do not fit, with the hash that should stand before each.
    odd: Vec<(Link, Option<Hash>)>,
}

impl Walk {
    /// With what is known of the chain.
    pub fn new(known: Known) -> Self {
        Self { known, before: Some(Hash::default()), ..Self::default() }
    }

    /// The next row; rows come by their number.
    pub fn row(&mut self, link: Link) {
        self.found.rows += 1;
        if self.group.first().is_some_and(|first| first.seq != link.seq) {
            self.end_group();
        }
        self.group.push(link);
    }

    /// The end of the rows.
    pub fn end(mut self) -> Found {
        self.end_group();
        self.try_others();
        let highest = self.known.anchors.last_key_value().map_or(0, |(seq, _)| *seq);
        if highest > self.at {
            let gap = self.without_lost(self.at + 1, highest);
            match (gap.first(), gap.last()) {
                (Some((from, _)), Some((_, to))) if self.found.rows > 0 || self.at > 0 => {
                    self.found.missing_last = Some((*from, *to));
                }
                (Some((from, _)), Some((_, to))) => self.found.missing_first = Some((*from, *to)),
                _ => {}
            }
        }
        self.found
    }

    fn end_group(&mut self) {
        let group = std::mem::take(&mut self.group);
        let Some(seq) = group.first().map(|first| first.seq) else { return };
        if seq == 0 {
            self.found.inserted.extend(group.iter().map(|_| 0));
            return;
        }
        if seq > self.at + 1 {
            self.gap(self.at + 1, seq - 1);
        }
        let (mut fits, mut others) = (Vec::new(), Vec::new());
        for link in group {
            let right = match &self.before {
                Some(before) => link.hash.is_some() && link.hash_behind(before) == link.hash,
                // Nothing to hold it against; one alone is taken at its word.
                None => link.hash.is_some() && fits.is_empty(),
            };
            if right { fits.push(link) } else { others.push(link) }
        }
        let known = self.before;
        match fits.first() {
            Some(first) => {
                self.found.doubles += fits.len() as u64 - 1;
                self.found.inserted.extend(others.iter().map(|_| seq));
                if known.is_none() {
                    self.found.unchecked.insert(seq);
                }
                self.before = first.hash;
                if self.found.first == 0 {
                    self.found.first = seq;
                }
                (self.found.last, self.found.hash) = (seq, first.hash.unwrap_or_default());
            }
            None => {
                self.found.altered.insert(seq);
                // The hash that stands there may still be the right one, so that the rest of the chain hangs on it.
                self.before = self.known.anchors.get(&seq).copied().or(others.first().and_then(|link| link.hash));
                if self.odd.len() < MOST_TRIED {
                    self.odd.extend(others.into_iter().map(|link| (link, known)));
                }
            }
        }
        if let Some(anchor) = self.known.anchors.get(&seq) {
            if self.before != Some(*anchor) && !self.found.altered.contains(&seq) {
                self.found.forged.insert(seq);
            }
        } else if self.known.anchors.last_key_value().is_some_and(|(highest, _)| seq > *highest) {
            self.found.beyond += 1;
        }
        self.at = seq;
    }

    fn gap(&mut self, from: u64, to: u64) {
        let missing = self.without_lost(from, to);
        // The agent says which hash the last of its lost records had.
        self.before = self.known.lost.iter().find(|lost| lost.to == to).map(|lost| lost.hash);
        if self.before.is_none() {
            self.before = self.known.anchors.get(&to).copied();
        }
        let mut missing = missing.into_iter();
        if from == 1
            && let Some(first) = missing.next()
        {
            if first.0 == 1 { self.found.missing_first = Some(first) } else { self.found.missing.push(first) }
        }
        self.found.missing.extend(missing);
    }

    /// What of a gap the agent did not give up; the rest is noted as lost.
    fn without_lost(&mut self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (mut missing, mut next) = (Vec::new(), from);
        for lost in &self.known.lost {
            let (lost_from, lost_to) = (lost.from.max(next), lost.to.min(to));
            if lost_from > lost_to {
                continue;
            }
            if lost_from > next {
                missing.push((next, lost_from - 1));
            }
            self.found.lost.push((lost_from, lost_to));
            next = lost_to + 1;
        }
        if next <= to {
            missing.push((next, to));
        }
        missing
    }

    /// Rows that do not fit where they are may fit where another one is that does not.
    fn try_others(&mut self) {
        let odd = std::mem::take(&mut self.odd);
        let mut right = BTreeMap::new();
        for (link, _) in &odd {
            for (place, before) in odd.iter().map(|(other, before)| (other, before)).filter(|(p, _)| p.seq != link.seq)
            {
                let Some(hash) = before.as_ref().and_then(|before| link.hash_as(place.seq, before)) else { continue };
                if Some(hash) == link.hash || Some(hash) == place.hash {
                    self.found.moved.push((link.seq, place.seq));
                    self.found.altered.remove(&link.seq);
                    right.insert(place.seq, hash);
                }
            }
        }
        // What stands behind one that was moved is held against the right hash.
        for (link, _) in &odd {
            let before = link.seq.checked_sub(1).and_then(|seq| right.get(&seq));
            if let Some(before) = before
                && link.hash.is_some()
                && link.hash_behind(before) == link.hash
            {
                self.found.altered.remove(&link.seq);
            }
        }
        self.found.moved.sort_unstable();
    }
}
