//! Room kept for the time when there is none.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::no_space;

/// A file of zeros that is given up when the disk is full, so that small files can still be replaced.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
    disk: Disk,
}

impl Reserve {
    /// Takes room in a folder, as far as there is some. Unless the folder can't be written, that never fails.
    pub fn take(dir: &Path, bytes: u64) -> io::Result<Self> {
        Self::take_on(dir, bytes, &Disk::default())
    }

    pub(crate) fn take_on(dir: &Path, bytes: u64, disk: &Disk) -> io::Result<Self> {
        let reserve = Self { path: dir.join("reserve"), bytes, disk: disk.clone() };
        reserve.refill()?;
        Ok(reserve)
    }

    /// Takes the room again where it was given up, as far as there is some.
    pub fn refill(&self) -> io::Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let file = match self.disk.create(&self.path) {
            Err(error) if no_space(&error) => return Ok(()),
            file => file?,
        };
        let mut length = file.metadata()?.len();
        if length > self.bytes {
            return self.disk.cut(&file, &self.path, self.bytes);
        }
        while length < self.bytes {
            let step = (self.bytes - length).min(64 << 10);
            match self.disk.write_at(&file, &self.path, &vec![0; step as usize], length) {
                Err(error) if no_space(&error) => return Ok(()),
                result => result?,
            }
            length += step;
        }
        Ok(())
    }

    /// Gives the room up, if any is left of it.
    pub(crate) fn give_up(&self) -> io::Result<bool> {
        let there = self.bytes > 0 && self.path.exists();
        if there {
            self.disk.remove(&self.path)?;
        }
        Ok(there)
    }

    /// Does something; if there is no room for it, gives up the reserve and does it again. What is left of the room is taken
    /// again at once, before others find it: a file that is replaced needs it each time, and gives back what it had.
    pub fn spend<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match work() {
            Err(error) if no_space(&error) && self.bytes > 0 => {
                self.disk.remove(&self.path)?;
                let result = work();
                // Without it the next one finds less room, and says so.
                let _ = self.refill();
                result
            }
            result => result,
        }
    }
}
