//! Small files that are replaced as a whole: after any crash the old one is there or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;

/// The most that is read of one; what is larger is not ours.
const LARGEST: u64 = 64 << 20;

const MARK: &[u8] = b"\n#crc32 ";

/// Ending of the file that is being written.
pub(crate) const UNFINISHED: &str = ".state.new";

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.state"))
}

/// Replaces the state of this name. On return it is on the disk.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_on(&Disk::default(), dir, name, bytes)
}

pub(crate) fn write_on(disk: &Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() as u64 > LARGEST - 64 {
        // It would be written, and not be read.
        let text = format!(
            "a state of {} bytes is larger than {} bytes, the most that one may have",
            bytes.len(),
            LARGEST - 64
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let unfinished = dir.join(format!("{name}{UNFINISHED}"));
    let mut content = Vec::with_capacity(bytes.len() + 20);
    content.extend_from_slice(bytes);
    content.extend_from_slice(MARK);
    content.extend_from_slice(format!("{:08x}\n", crc32fast::hash(bytes)).as_bytes());
    let written = disk.create(&unfinished).and_then(|file| {
        // One that an earlier crash left may be longer.
        disk.cut(&file, &unfinished, 0)?;
        disk.write_at(&file, &unfinished, &content, 0)?;
        disk.sync(&file, &unfinished)
    });
    if let Err(error) = written {
        // Its bytes are worth more to others now; the error that matters is the first one.
        let _ = disk.remove(&unfinished);
        return Err(error);
    }
    disk.rename(&unfinished, &path(dir, name))?;
    disk.sync_folder(dir)
}

/// The state of this name; `None` if there is none. One that is damaged is an error of the kind
/// [`InvalidData`](io::ErrorKind::InvalidData).
pub fn read(dir: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let path = path(dir, name);
    let length = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()));
    if length > LARGEST {
        return Err(damaged());
    }
    let mut content = fs::read(&path)?;
    let end = content.len().checked_sub(MARK.len() + 9).ok_or_else(damaged)?;
    let line = content.get(end..).and_then(|line| line.strip_prefix(MARK)).ok_or_else(damaged)?;
    let expected = format!("{:08x}\n", crc32fast::hash(content.get(..end).unwrap_or_default()));
    if line != expected.as_bytes() {
        return Err(damaged());
    }
    content.truncate(end);
    Ok(Some(content))
}
