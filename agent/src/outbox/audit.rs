//! How far the chains of this host's audit records go (`wire::chain`), and what of them was given up.
//!
//! A record is chained where it gets its number, so that the order of the chain is that of the spool, and a record that
//! finds no room breaks nothing. The state `audit` keeps where the chains of the latest runs end: the next run begins with
//! the end of the one before, and the broker keeps them for whoever verifies a store. What is told there is on the disk
//! before, the records first, so that a crash of the machine takes nothing that was told.
//!
//! | the agent ends | the state | the next start |
//! |---|---|---|
//! | as it should | has everything | goes on from it |
//! | by force | may lack the last second | finds the rest in the spool |
//! | with the machine | has what is on the disk | goes on from it; what was sent and not synced is in stores behind the end |

use serde::{Deserialize, Serialize};
use spool::{Log, ReadError};
use wire::chain::{BOOT, CATEGORY, Chain, End, HASH, SEQ};
use wire::messages::{AuditHead, AuditLoss, LogRecord, Logs};
use wire::{BootId, HostName, Kind, Timestamp};

use super::Outbox;

/// The state's name in the spool's folder.
pub(super) const AUDIT: &str = "audit";

/// Runs of which the end is remembered.
const MOST_RUNS: usize = 32;

/// Gaps of one run that are remembered, the newest.
const MOST_LOST: usize = 256;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Disk {
    /// What stands in the log of log records from this index on was put after this was written.
    #[serde(default)]
    place: u64,
    #[serde(default)]
    heads: Vec<AuditHead>,
}

#[derive(Debug)]
pub(super) struct Audit {
    chain: Chain,
    /// The newest last; the present run among them once it has a record.
    heads: Vec<AuditHead>,
    version: u64,
    /// The version that is on the disk, and what it says, until that is told.
    durable: u64,
    untold: Option<Vec<AuditHead>>,
    on_disk: Vec<AuditHead>,
}

impl Audit {
    /// What a text from the disk says, and what the log has beyond it.
    pub(super) fn open(disk: Option<Disk>, log: &Log, host: &HostName, boot: &BootId) -> Self {
        // A run that was killed before it wrote one may have left records in the log; a run writes one in any case.
        let Disk { place, heads } = disk.unwrap_or_default();
        let mut audit = Self {
            chain: Chain::new(host.clone(), boot.clone(), None),
            heads,
            version: 1,
            durable: 0,
            untold: None,
            on_disk: Vec::new(),
        };
        audit.read_on(log, place);
        let before = audit.heads.last().map(|head| (&head.boot, End { seq: head.seq, hash: head.hash }));
        audit.chain = Chain::new(host.clone(), boot.clone(), before);
        audit
    }

    fn read_on(&mut self, log: &Log, place: u64) {
        let (mut reader, mut buffer) = (log.reader(), Vec::new());
        let mut index = place.max(log.first());
        while index < log.next() {
            match reader.read(index, &mut buffer) {
                Ok(entry) => {
                    for (boot, end, time) in entry.into_iter().flat_map(|entry| chained(entry.body)) {
                        if self.heads.iter().all(|head| head.boot != boot || head.seq < end.seq) {
                            self.advance(&boot, end, time);
                        }
                    }
                    index += 1;
                }
                Err(ReadError::Gap { to, .. }) => index = to + 1,
                Err(_) => break,
            }
        }
    }

    fn advance(&mut self, boot: &BootId, end: End, time: Timestamp) {
        self.version += 1;
        let End { seq, hash } = end;
        match self.heads.iter_mut().find(|head| head.boot == *boot) {
            Some(head) => (head.seq, head.hash, head.time) = (seq, hash, time),
            None => self.heads.push(AuditHead { boot: boot.clone(), seq, hash, time, lost: Vec::new() }),
        }
        let surplus = self.heads.len().saturating_sub(MOST_RUNS);
        self.heads.drain(..surplus);
    }

    /// The chain as it is with these records, which are chained; `None` without an audit record.
    pub(super) fn chain(&self, records: Option<&mut [LogRecord]>) -> Option<Chain> {
        let records = records.filter(|records| records.iter().any(|record| record.category == CATEGORY))?;
        let mut chain = self.chain.clone();
        chain.add(records);
        Some(chain)
    }

    /// The same for records that are JSON already, with commas between them; gives them as they are then.
    pub(super) fn chain_encoded(&self, records: &[u8]) -> Option<(Vec<u8>, Chain)> {
        // Most batches have none, and are not read for that.
        if !holds(records, MARK) {
            return None;
        }
        let mut records: Vec<LogRecord> = serde_json::from_slice(&[b"[", records, b"]"].concat()).ok()?;
        let chain = self.chain(Some(&mut records))?;
        let encoded: Vec<Vec<u8>> = records.iter().map(wire::encode).collect();
        Some((encoded.join(&b','), chain))
    }

    /// Those records are in the spool.
    pub(super) fn put(&mut self, chain: Chain, time: Timestamp) {
        self.advance(chain.boot(), chain.end(), time);
        self.chain = chain;
    }

    /// A record of logs is given up.
    fn lost(&mut self, payload: &[u8]) {
        for (boot, End { seq, hash }, _) in chained(payload) {
            let Some(head) = self.heads.iter_mut().find(|head| head.boot == boot) else { continue };
            if head.lost.iter().any(|lost| (lost.from..=lost.to).contains(&seq)) {
                continue;
            }
            self.version += 1;
            match head.lost.last_mut().filter(|last| last.to + 1 == seq) {
                Some(last) => (last.to, last.hash) = (seq, hash),
                None => head.lost.push(AuditLoss { from: seq, to: seq, hash }),
            }
            let surplus = head.lost.len().saturating_sub(MOST_LOST);
            head.lost.drain(..surplus);
        }
    }

    /// What the disk does not have yet, and its version. `place`: the end of the log of log records.
    pub(super) fn unwritten(&self, place: u64) -> Option<(Disk, u64)> {
        self.has_unwritten().then(|| (Disk { place, heads: self.heads.clone() }, self.version))
    }

    fn has_unwritten(&self) -> bool {
        self.version > self.durable
    }

    /// The disk has it.
    pub(super) fn written(&mut self, disk: Disk, version: u64) {
        self.durable = version;
        self.on_disk.clone_from(&disk.heads);
        self.untold = Some(disk.heads).filter(|heads| !heads.is_empty());
    }
}

/// How an audit record says its category; other fields may say the same.
const MARK: &str = "\"audit\"";

/// Whether bytes hold a text.
fn holds(bytes: &[u8], text: &str) -> bool {
    let Some((first, rest)) = text.as_bytes().split_first() else { return true };
    memchr::memchr_iter(*first, bytes).any(|at| bytes.get(at + 1..).is_some_and(|after| after.starts_with(rest)))
}

/// The audit records of an encoded record of logs: the run that chained each, how far its chain went then, and when it was
/// put.
fn chained(payload: &[u8]) -> Vec<(BootId, End, Timestamp)> {
    // Most records have none, and are not read for that.
    if !holds(payload, HASH) {
        return Vec::new();
    }
    let (Ok(head), Ok(logs)) = (wire::decode_head(payload), wire::decode_body::<Logs>(payload)) else {
        return Vec::new();
    };
    let found = logs.records.iter().filter(|record| record.category == CATEGORY).filter_map(|record| {
        let field = |name| record.fields.get(name);
        let end = End { seq: field(SEQ)?.parse().ok()?, hash: field(HASH)?.parse().ok()? };
        Some((field(BOOT)?.parse().ok()?, end, head.time))
    });
    found.collect()
}

impl Outbox {
    /// Notes the audit records among records that are given up now.
    pub(super) fn note_lost(&mut self, boot: &BootId, kind: Kind, from: u64, to: u64) {
        if kind != Kind::Logs || self.audit.heads.is_empty() {
            return;
        }
        for seq in from..=to {
            if self.sender.owes(boot, kind, seq)
                && let Ok(payload) = self.shelf(kind).read(boot, seq)
            {
                self.audit.lost(&payload);
            }
        }
    }

    /// How far the chains of audit records go, if the disk has news of it that were not taken from here yet.
    pub fn take_audit_heads(&mut self) -> Option<Vec<AuditHead>> {
        self.audit.untold.take()
    }

    /// The broker may not have what was taken.
    pub fn audit_heads_untold(&mut self) {
        if !self.audit.on_disk.is_empty() {
            self.audit.untold = Some(self.audit.on_disk.clone());
        }
    }

    /// Whether the disk has yet to be told how far the chains go.
    pub fn has_unwritten_audit_heads(&self) -> bool {
        self.audit.has_unwritten()
    }
}
