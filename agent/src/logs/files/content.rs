//! The bytes of a file, plain or compressed, read from any place.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::identity::{BEFORE, HEAD, Id, Mark};

/// An open file.
#[derive(Debug)]
pub(super) enum Content {
    /// As it lies on the disk.
    Plain(File),
    /// Compressed, and read from its beginning on.
    Gzip(Box<Gzip>),
}

/// A compressed file: what was decompressed last is kept, so that a step back costs nothing.
#[derive(Debug)]
pub(super) struct Gzip {
    file: File,
    decoder: MultiGzDecoder<File>,
    window: Vec<u8>,
    /// Where the window begins.
    base: u64,
    ended: bool,
}

/// What the file system says of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: Id,
    /// Bytes; of a compressed file not known.
    pub(super) size: u64,
    /// Names that it has.
    pub(super) links: u64,
}

impl Found {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { id: (metadata.dev(), metadata.ino()), size: metadata.len(), links: metadata.nlink() }
    }
}

impl Gzip {
    fn new(file: File) -> io::Result<Self> {
        let decoder = MultiGzDecoder::new(file.try_clone()?);
        Ok(Self { file, decoder, window: Vec::new(), base: 0, ended: false })
    }

    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if at < self.base {
            use std::io::Seek;
            self.file.rewind()?;
            *self = Self::new(self.file.try_clone()?)?;
        }
        let mut piece = vec![0; 64 << 10];
        loop {
            let end = self.base + self.window.len() as u64;
            // What lies before is not wanted again.
            let before = usize::try_from(at - self.base).unwrap_or(usize::MAX).min(self.window.len());
            if end >= at + buffer.len() as u64 || self.ended {
                let found = self.window.get(before..).unwrap_or_default();
                let count = if end < at { 0 } else { found.len().min(buffer.len()) };
                if let (Some(to), Some(from)) = (buffer.get_mut(..count), found.get(..count)) {
                    to.copy_from_slice(from);
                }
                return Ok(count);
            }
            self.window.drain(..before);
            self.base += before as u64;
            match self.decoder.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(count) => self.window.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // It may still be written: the next try begins anew.
                    self.ended = false;
                    self.window.clear();
                    self.base = u64::MAX;
                    return Err(error);
                }
            }
        }
    }
}

impl Content {
    pub(super) fn open(path: &Path, gzip: bool) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe would hold everything up.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        Ok(if gzip { Self::Gzip(Box::new(Gzip::new(file)?)) } else { Self::Plain(file) })
    }

    pub(super) fn found(&self) -> io::Result<Found> {
        match self {
            Self::Plain(file) => Ok(Found::of(&file.metadata()?)),
            Self::Gzip(gzip) => Ok(Found { size: u64::MAX, ..Found::of(&gzip.file.metadata()?) }),
        }
    }

    pub(super) fn is_gzip(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }

    /// Fills the buffer as far as there is something.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let file = match self {
            Self::Gzip(gzip) => return gzip.read_at(buffer, at),
            Self::Plain(file) => file,
        };
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Its first bytes.
    pub(super) fn head(&mut self) -> io::Result<Mark> {
        let mut bytes = [0; HEAD];
        let count = self.read_at(&mut bytes, 0)?;
        Ok(Mark::of(bytes.get(..count).unwrap_or_default()))
    }

    /// Whether it begins so.
    pub(super) fn begins(&mut self, head: Mark) -> io::Result<bool> {
        let mut bytes = [0; HEAD];
        let count = self.read_at(&mut bytes, 0)?;
        Ok(head.begins(bytes.get(..count).unwrap_or_default()))
    }

    /// The bytes before a place; `None` if it ends before.
    pub(super) fn before(&mut self, at: u64) -> io::Result<Option<Mark>> {
        let mut bytes = [0; BEFORE];
        let wanted = usize::try_from(at).unwrap_or(BEFORE).min(BEFORE);
        let place = bytes.get_mut(..wanted).unwrap_or_default();
        let count = self.read_at(place, at - wanted as u64)?;
        Ok((count == wanted).then(|| Mark::of(place)))
    }
}
