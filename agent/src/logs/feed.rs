//! The way from a source's lines into the batch.

use std::time::Instant;

use logs::{Policy, Stream};
use wire::Timestamp;
use wire::messages::LogRecord;

use super::batch::Batch;
use super::told::Counts;

/// What a source works with while it reads.
pub(crate) struct Feed<'a> {
    pub(super) policy: &'a mut Policy,
    pub(super) batch: &'a mut Batch,
    /// For pieces of files: larger than a line may be.
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) out: &'a mut Vec<LogRecord>,
    /// Bytes of a line that are taken.
    pub(super) max_line: usize,
    pub(super) now: Instant,
    pub(super) time: Timestamp,
    pub(super) counts: &'a mut Counts,
}

impl Feed<'_> {
    /// Takes a line: [`Stream::line`].
    pub(crate) fn line(&mut self, stream: &mut Stream, text: &[u8], end: u64, cut: u64) {
        self.counts.lines += 1;
        self.counts.bytes += text.len() as u64 + cut;
        self.counts.truncated += cut;
        stream.line(self.policy, text, end, cut, self.time, self.out);
        self.pack();
    }

    /// Takes an entry of the journal: [`Stream::journal`].
    pub(crate) fn journal(&mut self, stream: &mut Stream, fields: &[(String, String)], bytes: u64, cut: u64) {
        self.counts.lines += 1;
        self.counts.bytes += bytes + cut;
        self.counts.truncated += cut;
        stream.journal(self.policy, fields, 0, self.time, self.out);
        self.pack();
    }

    /// Takes a record that is one already: [`Policy::push`].
    pub(crate) fn record(&mut self, record: LogRecord) {
        self.counts.lines += 1;
        self.counts.bytes += record.message.len() as u64;
        self.policy.push(record, self.time, self.out);
        self.pack();
    }

    /// What waits in a stream is complete.
    pub(crate) fn flush(&mut self, stream: &mut Stream) {
        stream.flush(self.policy, self.time, self.out);
        self.pack();
    }

    /// Says what was left out.
    pub(super) fn tick(&mut self) {
        self.policy.tick(self.time, self.out);
        self.pack();
    }

    fn pack(&mut self) {
        for record in self.out.drain(..) {
            self.counts.records += 1;
            self.batch.push(record, self.now);
        }
    }

    /// The batch has to go before more is taken.
    pub(crate) fn full(&self) -> bool {
        self.batch.is_full()
    }
}
