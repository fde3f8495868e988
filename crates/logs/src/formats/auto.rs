//! Any line: what it looks like is tried, the cheap and sure first; what looks like nothing is text.

use wire::Timestamp;

use super::{Reading, access, json, logfmt, plain, syslog};
use crate::columns::Draft;

pub(super) fn read<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> bool {
    let understood = match line.as_bytes().first() {
        Some(b'{' | b' ' | b'\t') => json::read(line, reading, now, draft),
        Some(b'<') => syslog::with_priority(line, reading, now, draft),
        Some(_) if logfmt::is_likely(line) => logfmt::read(line, reading, now, draft),
        Some(_) if memchr::memmem::find(line.as_bytes(), b"] \"").is_some() => access::read(line, reading, now, draft),
        Some(byte) if byte.is_ascii_alphanumeric() => syslog::tagged(line, reading, now, draft),
        _ => false,
    };
    understood || plain::read(line, reading, now, draft)
}
