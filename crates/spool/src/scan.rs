//! Reading records from a segment, one after the other.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::format::{HEADER, RECORD, RecordHeader, SegmentHeader};

/// Bytes read at a time: few calls, and little memory for a reader.
const CHUNK: usize = 64 << 10;

/// How far a search for the next good record goes, and how many places it looks at closely.
const SEARCHED: u64 = 64 << 20;
const CANDIDATES: usize = 1000;
/// Bytes that all those may have together.
const CHECKED: usize = 256 << 20;

#[derive(Debug)]
pub(crate) struct Scanner {
    file: File,
    salt: u32,
    /// Where the next record begins.
    offset: u64,
    /// Bytes of the file from `base` on.
    window: Vec<u8>,
    base: u64,
}

/// What stands at the scanner's place.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// A good record, passed now.
    Record { header: RecordHeader, head: &'a [u8], body: &'a [u8] },
    /// The end.
    End,
    /// Something else. The scanner stays where it is.
    Bad,
}

/// The header of a segment file; `None` if it has no valid one.
pub(crate) fn read_header(file: &File, from: u64) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; HEADER as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(SegmentHeader::decode(&bytes).filter(|header| header.from == from)),
    }
}

impl Scanner {
    /// At the first record.
    pub(crate) fn new(file: File, salt: u32) -> Self {
        Self { file, salt, offset: HEADER, window: Vec::new(), base: 0 }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to a place where a record begins.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Reads the record of this index, in a file of `end` bytes.
    pub(crate) fn next(&mut self, index: u64, end: u64) -> io::Result<Next<'_>> {
        if self.offset >= end {
            return Ok(Next::End);
        }
        let header = self.bytes(RECORD, end)?.and_then(RecordHeader::decode);
        let Some(header) = header.filter(|header| header.index == index) else { return Ok(Next::Bad) };
        let (salt, length) = (self.salt, RECORD + header.length);
        if !self.bytes(length, end)?.is_some_and(|bytes| header.matches(bytes, salt)) {
            return Ok(Next::Bad);
        }
        let at = (self.offset - self.base) as usize;
        self.offset += length as u64;
        let record = self.window.get(at + RECORD..at + length).unwrap_or_default();
        let (head, body) = record.split_at_checked(header.head).unwrap_or_default();
        Ok(Next::Record { header, head, body })
    }

    /// So many bytes from the scanner's place on; `None` if the file ends before.
    fn bytes(&mut self, count: usize, end: u64) -> io::Result<Option<&[u8]>> {
        if self.offset + count as u64 > end {
            return Ok(None);
        }
        let inside = |base: u64, offset: u64| offset.checked_sub(base).and_then(|at| usize::try_from(at).ok());
        let there = inside(self.base, self.offset).is_some_and(|at| at + count <= self.window.len());
        if !there {
            self.base = self.offset;
            // A large record's memory is not kept for the small ones after it.
            if count <= CHUNK && self.window.capacity() > 2 * CHUNK {
                self.window = Vec::new();
            }
            let wanted = count.max(CHUNK).min(usize::try_from(end - self.offset).unwrap_or(usize::MAX));
            self.window.resize(wanted, 0);
            let mut filled = 0;
            while filled < wanted {
                match self.file.read_at(&mut self.window[filled..], self.offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.window.clear();
                        return Err(error);
                    }
                }
            }
            self.window.truncate(filled);
        }
        let at = inside(self.base, self.offset).unwrap_or(usize::MAX);
        Ok(at.checked_add(count).and_then(|to| self.window.get(at..to)))
    }

    /// Looks behind bad bytes for the next good record with an index from `index` on and below `below`, goes there and
    /// returns its index. `None`, and no move, if there is none within bounds.
    pub(crate) fn search(&mut self, index: u64, below: u64, end: u64) -> io::Result<Option<u64>> {
        let mut buffer = Vec::new();
        let (mut candidates, mut checked) = (0, 0);
        let mut at = self.offset + 1;
        let last = end.min(self.offset.saturating_add(SEARCHED));
        while at + RECORD as u64 <= last {
            buffer.resize((last - at).min(1 << 20) as usize, 0);
            if !self.read_exact(&mut buffer, at)? {
                return Ok(None);
            }
            // Room that was taken and never written.
            if buffer.iter().all(|&byte| byte == 0) {
                at += (buffer.len() - RECORD + 1) as u64;
                continue;
            }
            for (place, bytes) in buffer.windows(RECORD).enumerate() {
                let offset = at + place as u64;
                let Some(header) = RecordHeader::decode(bytes) else { continue };
                if header.index < index || header.index >= below || offset + (RECORD + header.length) as u64 > end {
                    continue;
                }
                candidates += 1;
                checked += header.length;
                if candidates > CANDIDATES || checked > CHECKED {
                    return Ok(None);
                }
                let mut record = vec![0; RECORD + header.length];
                if self.read_exact(&mut record, offset)? && header.matches(&record, self.salt) {
                    self.seek(offset);
                    return Ok(Some(header.index));
                }
            }
            // The last places of this piece are the first ones of the next.
            at += (buffer.len() - RECORD + 1) as u64;
        }
        Ok(None)
    }

    /// Fills the buffer; `false` if the file ends before.
    fn read_exact(&self, buffer: &mut [u8], at: u64) -> io::Result<bool> {
        match self.file.read_exact_at(buffer, at) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}
