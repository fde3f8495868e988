//! What the log and its readers both look at.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    extent: Mutex<Extent>,
}

/// What there is.
#[derive(Debug)]
pub(crate) struct Extent {
    /// The first index that is wanted.
    pub(crate) first: u64,
    /// The index of the next record.
    pub(crate) next: u64,
    /// Never empty. The last one is appended to.
    pub(crate) segments: VecDeque<Segment>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    /// Index of its first record.
    pub(crate) from: u64,
    /// Length of its file.
    pub(crate) bytes: u64,
}

impl Shared {
    pub(crate) fn new(dir: PathBuf, extent: Extent) -> Self {
        Self { dir, extent: Mutex::new(extent) }
    }

    /// Nothing under this lock waits for the disk.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extent {
    /// The segment that holds an index, with the first index after it; `None` if no segment does.
    pub(crate) fn holding(&self, index: u64) -> Option<(Segment, u64)> {
        let after = self.segments.partition_point(|segment| segment.from <= index);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let end = self.segments.get(after).map_or(self.next, |next| next.from);
        (index < end).then_some((*segment, end))
    }
}
