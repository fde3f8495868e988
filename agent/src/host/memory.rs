//! Gives back the memory that only the start needed.
//!
//! Reading the configuration, the first look at every device, the first handshakes: more than half of the code runs once.
//! Its pages stay mapped, and count as the agent's memory, until the system is short of memory. They are read from the
//! file again where they are needed after all. What the start allocated and freed goes back too.

#![allow(unsafe_code, reason = "the kernel and the C library are told about memory; see the calls")]

use std::fs;

use rustix::mm::{Advice, madvise};

use super::HostRoot;

/// One heap for all threads: glibc makes one for each, and three threads that seldom allocate at the same time need none
/// of their own. To be called before there is a second thread.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number that the allocator reads when it would make another heap.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Takes the mappings of code out of this process' memory, and freed memory out of its heap. A system that can't do one
/// of them leaves it.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it gives free pages of the heap back to the system, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
    // Always of the true procfs: addresses from a frozen or foreign one would be somebody else's.
    let Ok(maps) = fs::read_to_string(HostRoot::default().proc("self/maps")) else { return };
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: the range is a private mapping of a file that nobody may write through: all its pages are as they are in
        // the file, from where the kernel reads them again at the next use. It does the same by itself when it is short of
        // memory. A failure changes nothing.
        let _ = unsafe { madvise(std::ptr::without_provenance_mut(start), length, Advice::LinuxDontNeed) };
    }
}

/// Start and length of a line's mapping, if it is code of a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let inode = fields.nth(2)?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (rights == "r-xp" && inode != "0" && start < end).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_chosen() {
        let page = "55d0c0a52000-55d0c0df8000 r-xp 00052000 fe:00 1315 /usr/bin/utilizer-agent";
        assert_eq!(code(page), Some((0x55d0_c0a5_2000, 0x3a_6000)));
        for other in [
            "55d0c0a52000-55d0c0df8000 r--p 00052000 fe:00 1315 /usr/bin/utilizer-agent",
            "55d0c0a52000-55d0c0df8000 rwxp 00052000 fe:00 1315 /usr/bin/utilizer-agent",
            "55d0c0a52000-55d0c0df8000 r-xs 00052000 fe:00 1315 /usr/bin/utilizer-agent",
            "7ffd0a5f2000-7ffd0a5f4000 r-xp 00000000 00:00 0 [vdso]",
            "7ffd0a5f2000-7ffd0a5f2000 r-xp 00000000 fe:00 1 x",
            "7ffd0a5f2000",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_given_back_still_runs() {
        let resident = || {
            let text = fs::read_to_string(HostRoot::default().proc("self/status")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        give_back();
        assert!(resident() < before, "{before} kB of files were resident before");
    }
}
