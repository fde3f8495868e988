//! Log records on their way into the spool: encoded as they come, so that a batch knows its size.

use std::time::{Duration, Instant};

use wire::messages::LogRecord;

/// A batch goes when it has this many bytes,
pub(super) const LARGE: usize = 512 << 10;

/// or when its first record is so old.
const OLD: Duration = Duration::from_millis(500);

/// A record with more has a text that was cut: several have to go into one message.
const LARGEST: usize = 1 << 20;

/// Records for one message.
#[derive(Debug)]
pub(crate) struct Batch {
    json: Vec<u8>,
    began: Option<Instant>,
    large: usize,
}

impl Batch {
    /// A batch that is full at so many bytes.
    pub(super) fn new(large: usize) -> Self {
        Self { json: Vec::new(), began: None, large }
    }

    pub(super) fn push(&mut self, mut record: LogRecord, now: Instant) {
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        let begin = self.json.len();
        self.encode(&record);
        if self.json.len() - begin > LARGEST.min(2 * self.large) {
            // Its text alone fits, however it is escaped.
            let mut end = record.message.len().min(self.large / 8);
            while !record.message.is_char_boundary(end) {
                end -= 1;
            }
            record.message.truncate(end);
            record.fields.clear();
            record.fields.insert("utilizer.cut".to_owned(), "too large".to_owned());
            self.json.truncate(begin);
            self.encode(&record);
        }
        self.began.get_or_insert(now);
    }

    fn encode(&mut self, record: &LogRecord) {
        if let Err(error) = serde_json::to_writer(&mut self.json, record) {
            unreachable!("BUG: a log record does not encode: {error}");
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.json.len() >= self.large
    }

    /// When it has to go.
    pub(super) fn due(&self) -> Option<Instant> {
        self.began.map(|began| began + OLD)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// The encoded records with commas between them.
    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    /// Begins the next one.
    pub(super) fn clear(&mut self) {
        self.json.clear();
        self.json.shrink_to(2 * self.large);
        self.began = None;
    }
}
