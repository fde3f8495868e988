//! PostgreSQL's binary COPY format, written by hand into one buffer that is sent in large pieces.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};
use wire::Timestamp;

/// A piece of this size is sent. With small ones each row costs a way through the client's channel and a system call;
/// larger ones gain nothing.
const PIECE: usize = 64 << 10;

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// In place of a tuple's number of fields.
const TRAILER: i16 = -1;

/// In place of a field's length.
const NULL: i32 = -1;

/// The version of JSONB's binary form: text follows.
const JSONB: u8 = 1;

/// 2000-01-01, from which PostgreSQL counts, in milliseconds of ours.
const EPOCH: i64 = 946_684_800_000;

/// The rows of one COPY.
#[derive(Debug)]
pub(crate) struct Rows {
    buffer: BytesMut,
}

impl Rows {
    pub(crate) fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(PIECE + (4 << 10));
        buffer.put_slice(HEADER);
        Self { buffer }
    }

    /// Begins a row.
    pub(crate) fn row(&mut self, fields: i16) {
        self.buffer.put_i16(fields);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.length(text.len());
        self.buffer.put_slice(text.as_bytes());
    }

    pub(crate) fn float(&mut self, number: f64) {
        self.length(8);
        self.buffer.put_f64(number);
    }

    /// A TIMESTAMPTZ. Milliseconds of the years 1 to 9999 are far from the ends of an i64 in microseconds.
    pub(crate) fn time(&mut self, time: Timestamp) {
        self.length(8);
        self.buffer.put_i64((time.as_millis() - EPOCH).saturating_mul(1000));
    }

    /// A JSONB from its text.
    pub(crate) fn json(&mut self, text: &str) {
        self.length(text.len() + 1);
        self.buffer.put_u8(JSONB);
        self.buffer.put_slice(text.as_bytes());
    }

    /// A JSONB from its value.
    pub(crate) fn object(&mut self, map: &Map<String, Value>) {
        // A map of JSON values always has a text.
        self.json(&serde_json::to_string(map).unwrap_or_default());
    }

    pub(crate) fn null(&mut self) {
        self.buffer.put_i32(NULL);
    }

    /// What is to be sent now, if it is enough for a piece.
    pub(crate) fn piece(&mut self) -> Option<Bytes> {
        (self.buffer.len() >= PIECE).then(|| {
            let piece = self.buffer.split().freeze();
            self.buffer.reserve(PIECE + (4 << 10));
            piece
        })
    }

    /// The last piece.
    pub(crate) fn end(mut self) -> Bytes {
        self.buffer.put_i16(TRAILER);
        self.buffer.freeze()
    }

    fn length(&mut self, length: usize) {
        // A record has 4 MiB at most; were it ever more than 2 GiB, the server refuses the row.
        self.buffer.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    }
}
