//! Reading a log, from any thread.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::ReadError;
use crate::format::{HEADER, RECORD, segment_path};
use crate::scan::{Next, Scanner, read_header};
use crate::shared::{Segment, Shared};

/// One place is remembered for so many bytes of a segment, so that a jump back reads no more than that.
const REMEMBERED: u64 = 64 << 10;

/// Reads records by their index. In order it costs no search; a jump costs at most a read of one segment the first time.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    open: Option<Open>,
}

/// The segment that was read last.
#[derive(Debug)]
struct Open {
    from: u64,
    scanner: Scanner,
    /// The index of the record at the scanner's place.
    index: u64,
    /// Index and offset of some records, rising.
    places: Vec<(u64, u64)>,
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its index.
    pub index: u64,
    /// What the owner keeps for itself.
    pub head: &'a [u8],
    /// The rest.
    pub body: &'a [u8],
    /// When it was appended, in ms since 1970.
    pub appended_ms: u64,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    /// Reads the record of an index into `buffer`; `None` if it was not appended yet.
    pub fn read<'a>(&mut self, index: u64, buffer: &'a mut Vec<u8>) -> Result<Option<Entry<'a>>, ReadError> {
        let (segment, end) = {
            let extent = self.shared.lock();
            if index >= extent.next {
                return Ok(None);
            }
            if index < extent.first {
                return Err(ReadError::Gone { first: extent.first });
            }
            match extent.holding(index) {
                Some(found) => found,
                // Files that were missing when the log was opened.
                None => {
                    let to = extent.segments.front().map_or(extent.next, |first| first.from) - 1;
                    return Err(ReadError::Gap { from: index, to });
                }
            }
        };
        let gap = |to| ReadError::Gap { from: index, to };
        if !self.open_segment(segment, index)? {
            // It was unlinked while we looked, or can't be read at all.
            let first = self.shared.lock().first;
            return Err(if index < first { ReadError::Gone { first } } else { gap(end - 1) });
        }
        let failed = |path: PathBuf| move |source| ReadError::Io { path, source };
        let path = segment_path(&self.shared.dir, segment.from);
        let Some(open) = &mut self.open else { return Err(gap(end - 1)) };
        open.go_to(index);
        loop {
            let (at, offset) = (open.index, open.scanner.offset());
            if open.places.last().map_or(HEADER, |&(_, known)| known) + REMEMBERED <= offset {
                open.places.push((at, offset));
            }
            match open.scanner.next(at, segment.bytes).map_err(failed(path.clone()))? {
                Next::Record { header, head, body } => {
                    open.index += 1;
                    if at < index {
                        continue;
                    }
                    buffer.clear();
                    buffer.extend_from_slice(head);
                    buffer.extend_from_slice(body);
                    let (head, body) = buffer.split_at_checked(header.head).unwrap_or_default();
                    return Ok(Some(Entry { index, head, body, appended_ms: header.appended_ms }));
                }
                Next::End => return Err(gap(end - 1)),
                Next::Bad => {
                    // Good records may follow.
                    match open.scanner.search(at + 1, end, segment.bytes).map_err(failed(path.clone()))? {
                        Some(found) => open.index = found,
                        None => return Err(gap(end - 1)),
                    }
                    if open.index > index {
                        return Err(gap(open.index - 1));
                    }
                }
            }
        }
    }

    /// Opens the segment, unless it is the one that is open; `false` if it can't be read at all.
    fn open_segment(&mut self, segment: Segment, index: u64) -> Result<bool, ReadError> {
        if self.open.as_ref().is_some_and(|open| open.from == segment.from) {
            return Ok(true);
        }
        self.open = None;
        let path = segment_path(&self.shared.dir, segment.from);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(ReadError::Io { path, source }),
        };
        let Some(header) = read_header(&file, segment.from).map_err(|source| ReadError::Io { path, source })? else {
            return Ok(false);
        };
        debug_assert!(segment.from <= index);
        let scanner = Scanner::new(file, header.salt);
        self.open = Some(Open { from: segment.from, scanner, index: segment.from, places: Vec::new() });
        Ok(true)
    }
}

impl Open {
    /// Goes to the nearest known place at or before an index.
    fn go_to(&mut self, index: u64) {
        let known = self.places.partition_point(|&(at, _)| at <= index);
        let (at, offset) =
            known.checked_sub(1).and_then(|i| self.places.get(i)).copied().unwrap_or((self.from, HEADER));
        if self.index > index || self.index < at {
            self.index = at;
            self.scanner.seek(offset);
        }
    }
}

const _: () = assert!(REMEMBERED > RECORD as u64);
