//! Gives back memory that is not in use.
//!
//! Reading the configuration, the first look at every device, handshakes: more than half of the code runs once, or once in
//! a while. Its pages stay mapped, and count as the agent's memory, until the system is short of memory. They are read from
//! the file again where they are needed after all. What was allocated and freed goes back too.

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

/// The pages of files that this program runs from: code and constants.
pub struct Pages(Vec<(usize, usize)>);

impl Pages {
    /// Of what is mapped now. To be called before a library is loaded that may be closed again: its addresses may belong
    /// to somebody else later. Empty where the system does not say it.
    pub fn mapped() -> Self {
        // Always of the true procfs: addresses from a frozen or foreign one would be somebody else's.
        let maps = fs::read_to_string(HostRoot::default().proc("self/smaps")).unwrap_or_default();
        Self(unwritten(&maps))
    }

    /// Takes them out of this process' memory, and freed memory out of its heap. A system that can't do one of them
    /// leaves it.
    pub fn give_back(&self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: it gives free pages of the heap back to the system, under the allocator's own lock.
        unsafe {
            libc::malloc_trim(0);
        }
        for &(start, length) in &self.0 {
            // SAFETY: the range is a private mapping of a file, of a program or library that is never closed, that nobody
            // may write through and of which no page differs from the file, from where the kernel reads them again at the
            // next use. It does the same by itself when it is short of memory. A failure changes nothing.
            let _ = unsafe { madvise(std::ptr::without_provenance_mut(start), length, Advice::LinuxDontNeed) };
        }
    }
}

/// Start and length of the mappings in `smaps` that are as their files are.
fn unwritten(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            // Pages that were written before the mapping was made read-only: relocated addresses.
            (Some("Anonymous:"), Some(pages)) if pages != "0" => current = None,
            (Some("Swap:"), Some("0")) => found.extend(current.take()),
            (Some(key), Some(_)) if key.ends_with(':') => {}
            _ => current = of_file(line),
        }
    }
    found
}

/// Start and length of the mapping that a line of `maps` tells of, if it is a private one of a file and can't be written.
fn of_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let inode = fields.nth(2)?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (matches!(rights, "r-xp" | "r--p") && inode != "0" && start < end).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_its_file_is_chosen() {
        let swapped = |line: &str, anonymous, swapped| {
            format!("{line}\nSize: 4 kB\nRss: 4 kB\nAnonymous: {anonymous} kB\nSwap: {swapped} kB\nVmFlags: rd\n")
        };
        let mapping = |line: &str, anonymous| swapped(line, anonymous, 0);
        let code = "55d0c0a52000-55d0c0df8000 r-xp 00052000 fe:00 1315 /usr/bin/utilizer-agent";
        let constants = "55d0c0a00000-55d0c0a52000 r--p 00000000 fe:00 1315 /usr/bin/a name: with blanks";
        let text = [mapping(code, 0), mapping(constants, 0), mapping(code, 4), swapped(code, 0, 4)].concat();
        assert_eq!(unwritten(&text), [(0x55d0_c0a5_2000, 0x3a_6000), (0x55d0_c0a0_0000, 0x5_2000)]);
        for other in [
            "55d0c0a52000-55d0c0df8000 rw-p 00052000 fe:00 1315 /usr/bin/utilizer-agent",
            "55d0c0a52000-55d0c0df8000 rwxp 00052000 fe:00 1315 /usr/bin/utilizer-agent",
            "55d0c0a52000-55d0c0df8000 r-xs 00052000 fe:00 1315 /usr/bin/utilizer-agent",
            "7ffd0a5f2000-7ffd0a5f4000 r-xp 00000000 00:00 0 [vdso]",
            "7ffd0a5f2000-7ffd0a5f2000 r-xp 00000000 fe:00 1 x",
            "7ffd0a5f2000",
            "",
        ] {
            assert_eq!(unwritten(&mapping(other, 0)), [], "{other}");
        }
    }

    #[test]
    fn what_was_given_back_still_runs() {
        let resident = || {
            let text = fs::read_to_string(HostRoot::default().proc("self/status")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let pages = Pages::mapped();
        for _ in 0..2 {
            let before = resident();
            pages.give_back();
            assert!(resident() < before, "{before} kB of files were resident before");
            // Constants come back as they were, too.
            assert_eq!(format!("{:?}", 0.1_f64 + 0.2), "0.30000000000000004");
        }
    }
}
