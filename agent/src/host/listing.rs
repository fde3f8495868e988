//! Listing a directory where the kernel's own call for it is not at hand. Has the form of Linux' `RawDir`.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{Dir, DirEntry};
use rustix::io::Errno;

/// The entries of an open directory.
pub(crate) struct RawDir {
    entries: Result<Dir, Errno>,
}

/// One entry.
pub(crate) struct Entry(DirEntry);

impl RawDir {
    /// Of this directory; the buffer is for systems that read into it.
    pub(crate) fn new(directory: impl AsFd, _buffer: &mut [MaybeUninit<u8>]) -> Self {
        Self { entries: Dir::read_from(directory) }
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Option<Result<Entry, Errno>> {
        match &mut self.entries {
            Ok(entries) => entries.next().map(|entry| entry.map(Entry)),
            Err(errno) => Some(Err(*errno)),
        }
    }
}

impl Entry {
    /// What kind of file it is.
    pub(crate) fn file_type(&self) -> rustix::fs::FileType {
        self.0.file_type()
    }

    /// Its name.
    pub(crate) fn file_name(&self) -> &CStr {
        self.0.file_name()
    }
}
