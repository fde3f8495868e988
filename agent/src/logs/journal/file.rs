//! A file of the journal, read as its format is documented (systemd's `JOURNAL_FILE_FORMAT`).
//!
//! A header of 208 bytes or more, then objects, each at a multiple of 8. An entry is a list of the places of its fields; a
//! field is an object of its own, which all entries with the same value share. Entries are found by a chain of arrays of
//! their places. journald only ever adds: an array's free items are 0, and the header counts the entries that are linked. So
//! a place in a file is a number of entries.
//!
//! Nothing of what is read here is believed: sizes are bounded, arrays have to lie one behind the other, and what does not
//! hold is a [`Fault`] and no panic.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::unpack::{Packing, unpack};

const SIGNATURE: &[u8] = b"LPKSHHRH";

/// Bytes of the oldest header.
const HEADER: usize = 208;

/// What the header says that readers must know: compression, keyed hashes, and places of four bytes.
const COMPACT: u32 = 16;
const KNOWN: u32 = 1 | 2 | 4 | 8 | COMPACT;

const DATA: u8 = 1;
const ENTRY: u8 = 3;
const ARRAY: u8 = 6;

/// Bytes of an object before what is its own.
const OBJECT: usize = 16;

/// More fields has no entry; journald takes 1024.
const MOST_FIELDS: u64 = 4096;

/// Bytes that are taken of an entry.
const MOST_BYTES: usize = 1 << 20;

/// A field's name has at most 64 bytes.
const NAME: usize = 65;

/// Bytes that are read of a compressed field; the rest of a longer one is left out.
const MOST_PACKED: usize = 2 << 20;

/// Fields that are kept, and how long one is: most entries share theirs.
const KEPT: usize = 512;
const KEPT_BYTES: usize = 256;

/// A file can't be read, or what is in it is no journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Format(&'static str),
}

impl Fault {
    const fn new(what: &'static str) -> Self {
        Fault::Format(what)
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether nothing is added any more.
    pub(super) archived: bool,
    compact: bool,
    /// The file, under whatever name.
    pub(super) id: u128,
    /// Entries in it.
    pub(super) entries: u64,
    array: u64,
    /// When its first entry was written, in microseconds.
    pub(super) begins: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER]) -> Result<Self, Fault> {
        if !bytes.starts_with(SIGNATURE) {
            return Err(Fault::new("it does not begin as a journal does"));
        }
        let flags = le32(bytes, 12)?;
        if flags & !KNOWN != 0 {
            return Err(Fault::new("it is in a newer format than this agent knows"));
        }
        let id = bytes.get(24..40).and_then(|id| id.try_into().ok()).map(u128::from_be_bytes);
        Ok(Self {
            archived: bytes.get(16) == Some(&2),
            compact: flags & COMPACT != 0,
            id: id.unwrap_or_default(),
            entries: le64(bytes, 152)?,
            array: le64(bytes, 176)?,
            begins: le64(bytes, 184)?,
        })
    }
}

/// Reads what is at a path, and only a file: a pipe would wait.
pub(super) fn open(path: &Path) -> Result<(File, Header), Fault> {
    let file = File::open(path)?;
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::new("it is too short for a journal"),
        _ => error.into(),
    })?;
    let header = Header::parse(&bytes)?;
    Ok((file, header))
}

/// An entry: when it was written, and its fields as `NAME=value`.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) realtime: u64,
    pub(super) fields: Vec<Arc<Field>>,
    /// Bytes that were left out of fields that are too long, and fields that could not be read.
    pub(super) cut: u64,
    pub(super) unread: u64,
}

/// One field of an entry.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
    cut: u64,
}

/// A file and a place in it.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    pub(super) header: Header,
    /// The entry that comes next, counted from 0.
    pub(super) next: u64,
    /// The array that it is in: where it is, its first entry and how many it holds.
    array: Option<Array>,
    kept: HashMap<u64, Arc<Field>>,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Array {
    at: u64,
    first: u64,
    items: u64,
    next: u64,
}

impl Reader {
    /// Before the entry `next`, counted from 0.
    pub(super) fn new(file: File, header: Header, next: u64) -> Self {
        Self { file, header, next, array: None, kept: HashMap::new(), buffer: Vec::new() }
    }

    /// Looks how many entries there are by now.
    pub(super) fn refresh(&mut self) -> Result<(), Fault> {
        let mut bytes = [0; HEADER];
        self.file.read_exact_at(&mut bytes, 0)?;
        let header = Header::parse(&bytes)?;
        if header.id != self.header.id {
            return Err(Fault::new("it became another file"));
        }
        self.header = header;
        Ok(())
    }

    /// The next entry; `None` where there is none yet. `most` bytes are taken of a field. After a fault in an entry the one
    /// behind it is next.
    pub(super) fn entry(&mut self, most: usize) -> Result<Option<Entry>, Fault> {
        if self.next >= self.header.entries {
            return Ok(None);
        }
        let Some(at) = self.place()? else { return Ok(None) };
        // Its fields may be wrong; it was there.
        self.next += 1;
        self.read(at, most).map(Some)
    }

    /// Where the next entry is.
    fn place(&mut self) -> Result<Option<u64>, Fault> {
        let mut array = match self.array.filter(|array| array.first <= self.next) {
            Some(array) => array,
            None if self.header.array == 0 => return Ok(None),
            None => self.load(self.header.array, 0)?,
        };
        while self.next - array.first >= array.items {
            if array.next == 0 {
                // It was the last one, and may have got another since.
                let again = self.load(array.at, array.first)?;
                if again.next == 0 {
                    self.array = Some(array);
                    return Ok(None);
                }
                array = again;
            }
            if array.next <= array.at {
                return Err(Fault::new("a list of entries leads back"));
            }
            array = self.load(array.next, array.first.saturating_add(array.items))?;
        }
        self.array = Some(array);
        let width = self.width();
        let at = array.at + (OBJECT + 8) as u64 + (self.next - array.first) * width as u64;
        let mut item = [0; 8];
        self.file.read_exact_at(&mut item[..width], at)?;
        let at = u64::from_le_bytes(item);
        Ok((at != 0).then_some(at))
    }

    fn width(&self) -> usize {
        if self.header.compact { 4 } else { 8 }
    }

    fn load(&self, at: u64, first: u64) -> Result<Array, Fault> {
        let mut bytes = [0; OBJECT + 8];
        let size = self.object(at, ARRAY, &mut bytes)?.0;
        let items = (size - bytes.len() as u64) / self.width() as u64;
        if items == 0 {
            return Err(Fault::new("a list of entries is empty"));
        }
        Ok(Array { at, first, items, next: le64(&bytes, OBJECT)? })
    }

    /// Reads the beginning of an object, and gives its size and flags.
    fn object(&self, at: u64, kind: u8, bytes: &mut [u8]) -> Result<(u64, u8), Fault> {
        if at < HEADER as u64 || !at.is_multiple_of(8) {
            return Err(Fault::new("an object's place can't be one"));
        }
        self.file.read_exact_at(bytes, at)?;
        let size = le64(bytes, 8)?;
        if bytes.first() != Some(&kind) {
            return Err(Fault::new("an object is of another kind than it should be"));
        }
        if size < bytes.len() as u64 || size > i64::MAX as u64 / 2 {
            return Err(Fault::new("an object's size can't be one"));
        }
        Ok((size, bytes.get(1).copied().unwrap_or_default()))
    }

    fn read(&mut self, at: u64, most: usize) -> Result<Entry, Fault> {
        let mut head = [0; 64];
        let (size, _) = self.object(at, ENTRY, &mut head)?;
        let width = if self.header.compact { 4 } else { 16 };
        let items = (size - head.len() as u64) / width as u64;
        if items > MOST_FIELDS {
            return Err(Fault::new("an entry has more fields than there can be"));
        }
        let mut room = MOST_BYTES;
        let mut entry = Entry { realtime: le64(&head, 24)?, ..Entry::default() };
        let mut places = vec![0; items as usize * width];
        self.file.read_exact_at(&mut places, at + head.len() as u64)?;
        for item in places.chunks_exact(width) {
            let at = if self.header.compact { u64::from(le32(item, 0)?) } else { le64(item, 0)? };
            match self.field(at, most.min(room)) {
                Ok(field) => {
                    room = room.saturating_sub(field.value.len());
                    entry.cut += field.cut;
                    entry.fields.push(field);
                }
                Err(_) => entry.unread += 1,
            }
        }
        if entry.fields.is_empty() {
            return Err(Fault::new("an entry has no field that can be read"));
        }
        Ok(entry)
    }

    fn field(&mut self, at: u64, most: usize) -> Result<Arc<Field>, Fault> {
        if let Some(field) = self.kept.get(&at) {
            return Ok(field.clone());
        }
        let mut head = [0; 72];
        let head = if self.header.compact { &mut head[..] } else { &mut head[..64] };
        let (size, flags) = self.object(at, DATA, head)?;
        let bytes = size - head.len() as u64;
        let packing = match flags & 7 {
            0 => None,
            1 => Some(Packing::Xz),
            2 => Some(Packing::Lz4),
            4 => Some(Packing::Zstd),
            _ => return Err(Fault::new("a field is compressed in two ways")),
        };
        let most = most + NAME;
        let limit = if packing.is_some() { MOST_PACKED } else { most };
        let taken = usize::try_from(bytes).unwrap_or(usize::MAX).min(limit);
        self.buffer.clear();
        self.buffer.resize(taken, 0);
        self.file.read_exact_at(&mut self.buffer, at + head.len() as u64)?;
        let unpacked;
        let (text, cut) = match packing {
            None => (&self.buffer[..], bytes - taken as u64),
            Some(packing) => {
                let unread = Fault::new("a field can't be unpacked");
                unpacked = unpack(packing, &self.buffer, most).ok_or(unread)?;
                (&unpacked.0[..], unpacked.1)
            }
        };
        let equals = memchr::memchr(b'=', text).filter(|at| (1..NAME).contains(at));
        let equals = equals.ok_or(Fault::new("a field has no name"))?;
        let (name, value) = text.split_at(equals);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let field = Arc::new(Field { name: text(name), value: text(value.get(1..).unwrap_or_default()), cut });
        if taken <= KEPT_BYTES && packing.is_none() && cut == 0 {
            if self.kept.len() >= KEPT {
                self.kept.clear();
            }
            self.kept.insert(at, field.clone());
        }
        Ok(field)
    }
}

fn le64(bytes: &[u8], at: usize) -> Result<u64, Fault> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Fault::new("an object is too short"))
}

fn le32(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(Fault::new("an object is too short"))
}
