//! The formats of lines. Each is one file and one line in `FORMATS`.

use wire::Timestamp;
use wire::messages::LogRecord;

use crate::columns::{Columns, Draft};
use crate::pattern::Pattern;

mod access;
mod auto;
pub(crate) mod container;
pub mod journal;
mod json;
mod logfmt;
pub mod otlp;
mod pattern;
mod plain;
mod postgres;
mod syslog;

pub(crate) use postgres::goes_on as postgres_goes_on;

/// Fills a draft from a line; false where the line is not in this format, and then the draft is as it was.
type Read = for<'a> fn(&'a str, &Reading, Timestamp, &mut Draft<'a>) -> bool;

/// What `format` may be, beside `container`.
pub(crate) const FORMATS: &[(&str, Read)] = &[
    ("auto", auto::read),
    ("json", json::read),
    ("logfmt", logfmt::read),
    ("access", access::read),
    ("pattern", pattern::read),
    ("syslog", syslog::read),
    ("postgres", postgres::read),
    ("plain", plain::read),
];

/// Lines that container engines wrap others in.
pub(crate) const CONTAINER: &str = "container";

/// How an input's lines are read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) format: usize,
    pub(crate) columns: Columns,
    pub(crate) pattern: Option<Pattern>,
}

/// What was found out about a line beside its record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    /// It is not in the format that it should have.
    pub(crate) strange: bool,
    /// What it says of its time is no time.
    pub(crate) bad_time: bool,
    /// Bytes of it that were left out.
    pub(crate) cut: u64,
}

impl Reading {
    pub(crate) fn new(format: &str, columns: Columns, pattern: Option<Pattern>) -> Option<Self> {
        let format = FORMATS.iter().position(|(name, _)| *name == format)?;
        Some(Self { format, columns, pattern })
    }

    /// The record of a text: a line, or several that belong together.
    pub(crate) fn record<'a>(&self, text: &'a str, draft: Draft<'a>, now: Timestamp) -> (LogRecord, Facts) {
        match memchr::memchr(0x1b, text.as_bytes()) {
            None => self.read(text, draft, now),
            // A draft lives no longer than its line.
            Some(_) => self.read(&without_colours(text), Draft::around(&draft), now),
        }
    }

    fn read<'a>(&self, text: &'a str, mut draft: Draft<'a>, now: Timestamp) -> (LogRecord, Facts) {
        let read = FORMATS.get(self.format).map_or(plain::read as Read, |(_, read)| *read);
        // A line is what is read; those that follow it belong to its message. But an object may have several.
        let (first, rest) = match memchr::memchr(b'\n', text.as_bytes()) {
            Some(_) if text.starts_with('{') && read(text, self, now, &mut draft) => (text, ""),
            Some(end) => {
                let (first, rest) = text.split_at(end);
                self.line(read, first, now, &mut draft);
                (first, rest)
            }
            None => {
                self.line(read, text, now, &mut draft);
                (text, "")
            }
        };
        let belongs;
        let rest = if self.format_name() == "postgres" && !rest.is_empty() {
            belongs = postgres::parts(rest, self, now, &mut draft);
            &*belongs
        } else {
            rest
        };
        let strange = draft.strange;
        let (mut record, bad_time) = draft.lenient(&self.columns, first, now);
        record.message.push_str(rest);
        (record, Facts { strange, bad_time, cut: 0 })
    }

    pub(crate) fn format_name(&self) -> &'static str {
        FORMATS.get(self.format).map_or("plain", |(name, _)| *name)
    }

    fn line<'a>(&self, read: Read, line: &'a str, now: Timestamp, draft: &mut Draft<'a>) {
        if !read(line, self, now, draft) {
            draft.strange = true;
            plain::read(line, self, now, draft);
        }
    }
}

/// Without the sequences that colour a terminal.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part.strip_prefix('[') {
            // Parameters, and a letter at the end.
            Some(rest) => {
                let end = rest.find(|c: char| !matches!(c, '0'..='9' | ';' | ':' | '?')).unwrap_or(rest.len());
                let rest = rest.get(end..).unwrap_or_default();
                out.push_str(rest.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest));
            }
            None => out.push_str(part),
        }
    }
    out
}
