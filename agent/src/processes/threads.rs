//! The states of a process' threads: a listing, and a file for each thread.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};

use super::stat;
use super::table::{ByState, path_below};
use crate::host::{RawDir, TO_READ, number};

/// What it takes to read them. The buffers are a pass'.
pub(super) struct Threads<'a> {
    pub(super) proc: BorrowedFd<'a>,
    pub(super) listing: &'a mut [MaybeUninit<u8>],
    pub(super) text: &'a mut [u8],
}

impl Threads<'_> {
    /// Adds the state of each thread of a process that is itself in `state`. What ends meanwhile is left out.
    pub(super) fn count(&mut self, pid: u32, state: u8, states: &mut ByState) {
        let mut path = [0; 24];
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path_of_tasks = path_below(pid, b"/task\0", &mut path);
        let Ok(tasks) = rustix::fs::openat(self.proc, path_of_tasks, flags, Mode::empty()) else { return };
        let mut entries = RawDir::new(&tasks, &mut *self.listing);
        while let Some(entry) = entries.next() {
            // The process has gone.
            let Ok(entry) = entry else { break };
            let Some(thread) = number(entry.file_name().to_bytes()).and_then(|id| u32::try_from(id).ok()) else {
                continue;
            };
            if thread == pid {
                states.add(state);
                continue;
            }
            let mut path = [0; 24];
            let path = path_below(thread, b"/stat\0", &mut path);
            let read = rustix::fs::openat(&tasks, path, TO_READ, Mode::empty())
                .and_then(|file| rustix::io::pread(&file, &mut *self.text, 0));
            let text = read.ok().and_then(|length| self.text.get(..length));
            if let Some(state) = text.and_then(stat::state) {
                states.add(state);
            }
        }
    }
}
