//! Bytes of a segment: `docs/spool-format.md` has the tables.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most bytes that head and body of one record may have together, whatever the options say.
pub const LARGEST_RECORD: usize = 64 << 20;

/// Bytes before a segment's first record.
pub(crate) const HEADER: u64 = 32;

/// Bytes of a record before its head.
pub(crate) const RECORD: usize = 28;

const MAGIC: &[u8; 8] = b"utlspl01";
const EXTENSION: &str = "seg";

/// Names above this are not ours: arithmetic with indices never overflows.
const HIGHEST_NAME: u64 = u64::MAX >> 2;

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) from: u64,
    pub(crate) made_ms: u64,
    pub(crate) salt: u32,
}

impl SegmentHeader {
    pub(crate) fn new(from: u64) -> Self {
        // Each `RandomState` has keys of its own, drawn from the system's random numbers.
        let salt = std::collections::hash_map::RandomState::new().build_hasher().finish() as u32;
        Self { from, made_ms: now_ms(), salt }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.from.to_le_bytes());
        bytes.extend_from_slice(&self.made_ms.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != MAGIC || crc32fast::hash(bytes.get(..28)?) != u32_at(bytes, 28)? {
            return None;
        }
        Some(Self { from: u64_at(bytes, 8)?, made_ms: u64_at(bytes, 16)?, salt: u32_at(bytes, 24)? })
    }
}

/// What stands before a record's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) crc: u32,
    /// Of head and body.
    pub(crate) length: usize,
    pub(crate) head: usize,
    pub(crate) index: u64,
    pub(crate) appended_ms: u64,
}

impl RecordHeader {
    /// `None` if this can't be a record's beginning.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let length = u32_at(bytes, 4)? as usize;
        let head = u32_at(bytes, 8)? as usize;
        if length > LARGEST_RECORD || head > length {
            return None;
        }
        let (index, appended_ms) = (u64_at(bytes, 12)?, u64_at(bytes, 20)?);
        Some(Self { crc: u32_at(bytes, 0)?, length, head, index, appended_ms })
    }

    /// Whether the bytes, from the record's beginning on, are the ones that were appended.
    pub(crate) fn matches(&self, bytes: &[u8], salt: u32) -> bool {
        bytes.get(4..RECORD + self.length).is_some_and(|checked| salted(salt, &[checked]) == self.crc)
    }
}

/// Puts a record into `buffer`, which is emptied first.
pub(crate) fn encode_record(buffer: &mut Vec<u8>, salt: u32, index: u64, head: &[u8], body: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&((head.len() + body.len()) as u32).to_le_bytes());
    buffer.extend_from_slice(&(head.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&index.to_le_bytes());
    buffer.extend_from_slice(&now_ms().to_le_bytes());
    buffer.extend_from_slice(head);
    buffer.extend_from_slice(body);
    let crc = salted(salt, &[&buffer[4..]]);
    buffer[..4].copy_from_slice(&crc.to_le_bytes());
}

fn salted(salt: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Where the segment that begins with this index lies.
pub(crate) fn segment_path(dir: &Path, from: u64) -> PathBuf {
    dir.join(format!("{from:020}.{EXTENSION}"))
}

/// The index in a segment's name.
pub(crate) fn index_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let all = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|&index| all && index <= HIGHEST_NAME)
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
