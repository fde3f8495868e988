//! The thread that reads the spool ahead of the writer: decodes, maps to rows, makes batches.
//!
//! Reading costs a processor about as much as writing does, so that it has a thread of its own, which also encodes what is to
//! be sent: while the store works on a batch, the next one is made ready to the last byte. It is at most two batches
//! ahead; while the store is down it waits, and what comes grows on the disk only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spool::{ReadError, Reader};
use tokio::sync::mpsc;
use wire::{Kind, Ranges};

use crate::dead::DeadLetter;
use crate::desk::Desk;
use crate::frame::{Frame, FrameError};
use crate::intake;
use crate::map::Rules;
use crate::metrics::Metrics;
use crate::rows::Record;
use crate::settings::BatchLimits;
use crate::sink::Ledger;
use crate::spooler::Synced;

/// Payloads of one batch come to this many bytes at most, whatever its rows: it bounds memory.
const MOST_BYTES: usize = 16 << 20;

/// Records of one batch; most metrics messages make no rows, and are booked all the same.
const MOST_RECORDS: usize = 20_000;

/// How long the thread sleeps at most before it looks whether it is to end.
const TICK: Duration = Duration::from_millis(500);

/// Before a disk that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes of records what their sink sends: [`Sink::encode`](crate::sink::Sink::encode).
pub(crate) type Encode = fn(&[&Record]) -> Vec<Bytes>;

/// Records of a job as their sink sends them.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Only records of this kind; `None`: all of the job.
    pub(crate) kind: Option<Kind>,
    /// How many records it was made of.
    pub(crate) records: usize,
    pub(crate) bytes: Vec<Bytes>,
}

/// What the writer gets: records with their rows, and where they stand in the spool.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) records: Vec<Record>,
    /// What was made of them ahead.
    pub(crate) encoded: Vec<Encoded>,
    /// The index of each of them.
    pub(crate) indices: Vec<u64>,
    /// Letters to be kept before the records are booked.
    pub(crate) dead: Vec<DeadLetter>,
    /// Indices that hold nothing any more.
    pub(crate) gaps: Ranges,
    rows: usize,
    bytes: usize,
}

impl Job {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.gaps.is_empty()
    }

    fn is_full(&self, limits: &BatchLimits) -> bool {
        self.rows >= limits.max_rows || self.bytes >= MOST_BYTES || self.records.len() >= MOST_RECORDS
    }

    fn encode(&mut self, ledger: Ledger, encode: Encode) {
        let kinds = match ledger {
            Ledger::InStore => vec![None],
            // Each kind is sent apart.
            Ledger::Beside => Kind::ALL.map(Some).into(),
        };
        for kind in kinds {
            let is_of = |record: &&Record| kind.is_none_or(|kind| record.origin.kind == kind);
            let records: Vec<&Record> = self.records.iter().filter(is_of).collect();
            let bytes = if records.is_empty() { Vec::new() } else { encode(&records) };
            if !bytes.is_empty() {
                self.encoded.push(Encoded { kind, records: records.len(), bytes });
            }
        }
    }
}

/// The thread's own things.
pub(crate) struct Reading {
    pub(crate) reader: Reader,
    /// The first index that is not written yet.
    pub(crate) from: u64,
    pub(crate) synced: Arc<Synced>,
    pub(crate) kinds: &'static [Kind],
    pub(crate) rules: Rules,
    pub(crate) limits: BatchLimits,
    pub(crate) desk: Arc<Desk>,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Ledger,
    pub(crate) encode: Encode,
}

/// What the spool holds can't be read by this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {index} of the spool can't be read: {source}; install the version that wrote it")]
pub struct UnknownFrame {
    /// Where it stands.
    pub index: u64,
    /// Why.
    pub source: FrameError,
}

impl Reading {
    /// Reads until the spool is closed and all of it was handed over, or until nobody takes it.
    pub(crate) fn run(mut self, jobs: &mpsc::Sender<Job>) -> Result<(), UnknownFrame> {
        let mut buffer = Vec::new();
        let mut job = Job::default();
        let mut since: Option<Instant> = None;
        let mut next = self.from;
        let (mut synced, mut closed) = (0, false);
        loop {
            if next >= synced {
                // Caught up: what there is waits for more until it is old enough.
                let left = since.map(|since| self.limits.max_age.saturating_sub(since.elapsed()));
                if job.is_full(&self.limits) || left.is_some_and(|left| left.is_zero()) || (closed && !job.is_empty()) {
                    if !self.hand_over(&mut job, jobs) {
                        return Ok(());
                    }
                    since = None;
                    continue;
                }
                if closed || jobs.is_closed() {
                    return Ok(());
                }
                (synced, closed) = self.synced.wait(next, left.unwrap_or(TICK).min(TICK));
                continue;
            }
            match self.reader.read(next, &mut buffer) {
                Ok(Some(entry)) => {
                    let frame = Frame::read(entry.head).map_err(|source| UnknownFrame { index: next, source })?;
                    let taken = intake::take(&frame, entry.body, self.kinds, &self.rules);
                    job.rows += taken.record.row_count();
                    job.bytes += entry.body.len();
                    job.records.push(taken.record);
                    job.indices.push(next);
                    job.dead.extend(taken.dead);
                    next += 1;
                }
                Ok(None) => {
                    // It is synced, and so it is there; it comes a little later at worst.
                    std::thread::sleep(Duration::from_millis(1));
                    if jobs.is_closed() {
                        return Ok(());
                    }
                    continue;
                }
                Err(ReadError::Gone { first }) if first > next => {
                    job.gaps.insert_range(next, first - 1);
                    next = first;
                }
                Err(ReadError::Gap { to, .. }) if to >= next => {
                    let records = to - next + 1;
                    tracing::error!(
                        "the spool is damaged: {records} records can't be read; hosts that number theirs send them again"
                    );
                    self.metrics.spool_damaged.inc_by(records);
                    job.gaps.insert_range(next, to);
                    // Nobody may be told any more that they are held.
                    self.desk.damaged();
                    next = to + 1;
                }
                Err(error) => {
                    tracing::warn!("the spool can't be read: {error}; trying again");
                    std::thread::sleep(PAUSE);
                    if jobs.is_closed() {
                        return Ok(());
                    }
                    continue;
                }
            }
            since.get_or_insert_with(Instant::now);
            if job.is_full(&self.limits) {
                if !self.hand_over(&mut job, jobs) {
                    return Ok(());
                }
                since = None;
            }
        }
    }

    /// `false`: nobody takes it.
    fn hand_over(&self, job: &mut Job, jobs: &mpsc::Sender<Job>) -> bool {
        let mut job = std::mem::take(job);
        job.encode(self.ledger, self.encode);
        jobs.blocking_send(job).is_ok()
    }
}
