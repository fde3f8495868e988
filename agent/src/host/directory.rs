//! Directories that are listed again and again, such as the classes of sysfs.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::{RawDir, ReadError};

/// Holds some 100 entries at a time.
const LISTING_BYTES: usize = 4 << 10;

/// A directory that stays open between listings.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: Option<OwnedFd>,
    /// Folders only, and nothing is kept open.
    folders: bool,
    /// As the kernel lists them, which is no order of ours, and sorted.
    listed: Vec<Box<[u8]>>,
    sorted: Vec<Box<[u8]>>,
}

impl Directory {
    /// At this path. Reads nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, fd: None, folders: false, listed: Vec::new(), sorted: Vec::new() }
    }

    /// At this path, of which only the folders in it matter. It is opened at each listing: there may be thousands.
    pub fn folders(path: PathBuf) -> Self {
        Self { folders: true, ..Self::new(path) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, sorted, without `.` and `..`. `None` where there is no such directory.
    pub fn list(&mut self) -> Result<Option<&[Box<[u8]>]>, ReadError> {
        let read = self.read();
        if self.folders {
            self.fd = None;
        }
        match read {
            Ok(()) => Ok(Some(&self.sorted)),
            Err(errno) => {
                self.fd = None;
                let error = ReadError::Io { path: self.path.clone(), source: errno.into() };
                if error.is_nothing_here() { Ok(None) } else { Err(error) }
            }
        }
    }

    fn read(&mut self) -> Result<(), Errno> {
        if self.fd.is_some() && self.fill().is_ok() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.fd = Some(rustix::fs::open(&self.path, flags, Mode::empty())?);
        self.fill()
    }

    fn fill(&mut self) -> Result<(), Errno> {
        let Self { fd, folders, listed, sorted, .. } = self;
        let fd = fd.as_ref().ok_or(Errno::BADF)?;
        rustix::fs::seek(fd, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
        let mut entries = RawDir::new(fd, &mut buffer);
        let mut count = 0;
        let mut changed = false;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if *folders && !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                continue;
            }
            // The same names come in the same order at nearly every listing.
            match listed.get_mut(count) {
                Some(known) if **known == *name => {}
                Some(other) => (*other, changed) = (name.into(), true),
                None => {
                    listed.push(name.into());
                    changed = true;
                }
            }
            count += 1;
        }
        changed |= count != listed.len();
        listed.truncate(count);
        if changed {
            sorted.clone_from(listed);
            sorted.sort_unstable();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &mut Directory) -> Option<Vec<String>> {
        let names = directory.list().unwrap()?;
        Some(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    #[test]
    fn lists_anew_and_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("class");
        let mut directory = Directory::new(path.clone());
        assert_eq!(names(&mut directory), None);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(names(&mut directory), Some(vec![]));
        for name in ["b", "c", "a"] {
            std::fs::write(path.join(name), "").unwrap();
        }
        assert_eq!(names(&mut directory).unwrap(), ["a", "b", "c"]);
        std::fs::remove_file(path.join("b")).unwrap();
        assert_eq!(names(&mut directory).unwrap(), ["a", "c"]);
        std::fs::write(path.join("d"), "").unwrap();
        assert_eq!(names(&mut directory).unwrap(), ["a", "c", "d"]);
        std::fs::create_dir(path.join("e")).unwrap();
        let mut folders = Directory::folders(path);
        assert_eq!(names(&mut folders).unwrap(), ["e"]);
        assert!(folders.fd.is_none());
    }
}
