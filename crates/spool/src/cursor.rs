//! The file that says from where on records are wanted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::format::{u32_at, u64_at};

const SLOT: u64 = 512;
const USED: usize = 20;

#[derive(Debug)]
pub(crate) struct Cursor {
    file: Arc<File>,
    path: PathBuf,
    disk: Disk,
    generation: u64,
    /// The slot that is written next: never the last one that was synced.
    slot: u64,
}

/// What the file says, without changing it; `None` where it says nothing valid.
pub(crate) fn read(dir: &Path) -> io::Result<Option<u64>> {
    match File::open(path(dir)) {
        Ok(file) => Ok(newest(&file)?.map(|(_, _, first)| first)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("cursor")
}

/// Slot, generation and index of the newest valid slot.
fn newest(file: &File) -> io::Result<Option<(u64, u64, u64)>> {
    let mut best = None;
    for slot in 0..2 {
        let mut bytes = [0; USED];
        match file.read_exact_at(&mut bytes, slot * SLOT) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            result => result?,
        }
        let (generation, first) = (u64_at(&bytes, 0).unwrap_or(0), u64_at(&bytes, 8).unwrap_or(0));
        let valid = u32_at(&bytes, 16) == Some(crc32fast::hash(&bytes[..16])) && generation < u64::MAX;
        if valid && best.is_none_or(|(_, newest, _)| newest < generation) {
            best = Some((slot, generation, first));
        }
    }
    Ok(best)
}

impl Cursor {
    /// Opens it, or makes it; also gives the index in it.
    pub(crate) fn open(dir: &Path, disk: &Disk) -> io::Result<(Self, u64)> {
        let path = path(dir);
        let file = disk.create(&path)?;
        let length = file.metadata()?.len();
        if length < 2 * SLOT {
            // All of its room is taken now, so that a full disk does not matter later.
            disk.write_at(&file, &path, &vec![0; (2 * SLOT - length) as usize], length)?;
        }
        // A slot that was written and not synced must not be the only one when the other is overwritten.
        disk.sync(&file, &path)?;
        let (slot, generation, first) = newest(&file)?.unwrap_or((1, 0, 0));
        Ok((Self { file: Arc::new(file), path, disk: disk.clone(), generation, slot: 1 - slot }, first))
    }

    /// Writes an index; a power cut may still undo it.
    pub(crate) fn write(&mut self, first: u64) -> io::Result<()> {
        let generation = self.generation + 1;
        let mut bytes = Vec::with_capacity(USED);
        bytes.extend_from_slice(&generation.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        self.disk.write_at(&self.file, &self.path, &bytes, self.slot * SLOT)?;
        self.generation = generation;
        Ok(())
    }

    /// What is to be synced after a write. Then [`Cursor::synced`] is called; no write comes in between.
    pub(crate) fn to_sync(&self) -> (Arc<File>, PathBuf) {
        (self.file.clone(), self.path.clone())
    }

    /// The last index written is on the disk.
    pub(crate) fn synced(&mut self) {
        self.slot = 1 - self.slot;
    }
}
