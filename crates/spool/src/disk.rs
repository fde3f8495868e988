//! Everything that changes files, in one place, so that tests can stop it after any byte.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The way to the disk. In tests it can end at a byte, or have little room.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) shim: Option<std::sync::Arc<crate::tests::shim::Shim>>,
}

impl Disk {
    /// Opens a file for reading and writing, and makes it if it is not there.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        #[cfg(test)]
        if let Some(shim) = &self.shim {
            shim.create(path)?;
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        // What is spooled may be anybody's log lines.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }

    /// Writes all bytes at a place, or as many as there is room for.
    pub(crate) fn write_at(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(shim) = &self.shim {
            let (let_through, error) = shim.write(path, bytes, at);
            file.write_all_at(&bytes[..let_through], at)?;
            return error.map_or(Ok(()), Err);
        }
        let _ = path;
        file.write_all_at(bytes, at)
    }

    /// Ends a file here.
    pub(crate) fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(shim) = &self.shim {
            shim.cut(path, length)?;
        }
        let _ = path;
        file.set_len(length)
    }

    /// Returns once what was written is on the disk.
    pub(crate) fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        if let Some(shim) = &self.shim {
            return shim.sync(path);
        }
        let _ = path;
        file.sync_data()
    }

    /// The same for the names in a folder.
    pub(crate) fn sync_folder(&self, dir: &Path) -> io::Result<()> {
        #[cfg(test)]
        if let Some(shim) = &self.shim {
            return shim.sync_folder();
        }
        File::open(dir)?.sync_all()
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(test)]
        if let Some(shim) = &self.shim {
            shim.rename(from, to)?;
        }
        fs::rename(from, to)
    }

    /// Unlinks a file; one that is not there is unlinked already.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        if let Some(shim) = &self.shim {
            shim.remove(path)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
