//! The files of a process beside `stat`, each of which is read only for the processes that need it.

use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::host::{RawDir, TO_READ, TextError, fields, lines};

/// Room for all of them but long command lines, of which the beginning is enough.
const TEXT_BYTES: usize = 8192;

/// Holds some 200 entries of a directory of descriptors at a time.
const LISTING_BYTES: usize = 4 << 10;

/// A reader of files below `/proc/PID`, with its buffers.
pub(super) struct Files {
    text: Box<[u8]>,
    path: String,
    /// Whether descriptors can be counted by the size of their directory: on procfs since Linux 6.2.
    counted_by_size: Option<bool>,
}

/// Bytes that a process had read from and written to storage, from `io`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Transferred {
    pub(super) read: u64,
    pub(super) written: u64,
}

/// What `status` says beyond `stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// The effective user.
    pub(super) user: Option<u32>,
    /// Memory that is swapped out. Kernel threads have none.
    pub(super) swapped_bytes: u64,
    /// Context switches of the main thread because it waited for something, and because its time was over.
    pub(super) switches: [u64; 2],
}

/// Shares of memory that is used by several processes, from `smaps_rollup`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Proportional {
    pub(super) resident_bytes: u64,
    pub(super) swapped_bytes: u64,
}

impl Default for Files {
    fn default() -> Self {
        Self { text: vec![0; TEXT_BYTES].into(), path: String::new(), counted_by_size: None }
    }
}

impl Files {
    fn path(&mut self, pid: u32, file: &str) -> &str {
        self.path.clear();
        // Writing to a String can't fail.
        let _ = write!(self.path, "{pid}/{file}");
        &self.path
    }

    /// Opens a file of a process; `proc` is the open directory.
    pub(super) fn open(&mut self, proc: BorrowedFd<'_>, pid: u32, file: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(proc, self.path(pid, file), TO_READ, Mode::empty())
    }

    /// Reads an open file from its start; as much as there is room for.
    pub(super) fn text(&mut self, file: impl AsFd) -> Result<&[u8], Errno> {
        let mut length = 0;
        while length < self.text.len() {
            match rustix::io::pread(&file, &mut self.text[length..], length as u64)? {
                0 => break,
                read => length += read,
            }
            // One record, which is handed out whole where there is room.
            if length < self.text.len() / 2 {
                break;
            }
        }
        Ok(&self.text[..length])
    }

    /// Opens and reads a file of a process.
    fn read(&mut self, proc: BorrowedFd<'_>, pid: u32, file: &str) -> Result<&[u8], Errno> {
        let fd = self.open(proc, pid, file)?;
        self.text(&fd)
    }

    /// `cmdline` as it is, and whether there is more of it.
    pub(super) fn command_line(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<(&[u8], bool)> {
        let text = self.read(proc, pid, "cmdline").ok()?;
        Some((text, text.len() >= TEXT_BYTES))
    }

    /// `cgroup`. A text that filled the buffer may be cut.
    pub(super) fn place(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<super::cgroup::Place> {
        let text = self.read(proc, pid, "cgroup").ok().filter(|text| text.len() < TEXT_BYTES)?;
        super::cgroup::parse(text).ok()
    }

    /// `status`.
    pub(super) fn status(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<Status> {
        parse_status(self.read(proc, pid, "status").ok()?).ok()
    }

    /// `io`, which its user and root may read.
    pub(super) fn transferred(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<Transferred> {
        parse_io(self.read(proc, pid, "io").ok()?).ok()
    }

    /// `smaps_rollup`, which its user and root may read. The dearest of all.
    pub(super) fn proportional(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<Proportional> {
        parse_smaps(self.read(proc, pid, "smaps_rollup").ok()?).ok()
    }

    /// The soft limit of open files, from `limits`; `None` also where there is no limit.
    pub(super) fn most_open_files(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<u64> {
        parse_limits(self.read(proc, pid, "limits").ok()?).ok()?
    }

    /// Where descriptors are counted by the size of their directory: that directory, which has the count for its size.
    pub(super) fn descriptors(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<OwnedFd> {
        // It need not be readable to have a size.
        let flags = ONLY_TO_ASK | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &str| rustix::fs::openat(proc, path, flags, Mode::empty()).ok();
        self.are_counted_by_size(proc).then(|| open(self.path(pid, "fd"))).flatten()
    }

    fn are_counted_by_size(&mut self, proc: BorrowedFd<'_>) -> bool {
        *self.counted_by_size.get_or_insert_with(|| is_procfs(proc))
    }

    /// How many files a process has open.
    pub(super) fn open_files(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Option<u64> {
        if self.are_counted_by_size(proc) {
            let size = rustix::fs::statat(proc, self.path(pid, "fd"), AtFlags::empty()).ok()?.st_size;
            // Before Linux 6.2 it is always 0, and a process without open files is soon listed.
            if size > 0 {
                return u64::try_from(size).ok();
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(proc, self.path(pid, "fd"), flags, Mode::empty()).ok()?;
        let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
        let mut entries = RawDir::new(&directory, &mut buffer);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            count += u64::from(entry.ok()?.file_name().to_bytes().iter().all(u8::is_ascii_digit));
        }
        Some(count)
    }
}

#[cfg(target_os = "linux")]
fn is_procfs(proc: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(proc).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Opens without reading.
#[cfg(target_os = "linux")]
const ONLY_TO_ASK: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const ONLY_TO_ASK: OFlags = OFlags::RDONLY;

#[cfg(not(target_os = "linux"))]
fn is_procfs(_: BorrowedFd<'_>) -> bool {
    false
}

/// The values of `key: value` lines, for the keys that are asked for.
fn values<const N: usize>(text: &[u8], keys: [&[u8]; N]) -> Result<[Option<u64>; N], TextError> {
    let mut found = [None; N];
    for line in lines(text)? {
        let Some(position) = keys.iter().position(|key| line.starts_with(key)) else { continue };
        found[position] = Some(fields(&line[keys[position].len()..]).number("a number")?);
    }
    Ok(found)
}

pub(super) fn parse_io(text: &[u8]) -> Result<Transferred, TextError> {
    match values(text, [b"read_bytes:", b"write_bytes:"])? {
        [Some(read), Some(written)] => Ok(Transferred { read, written }),
        _ => Err(TextError::expected("read_bytes and write_bytes", text)),
    }
}

fn parse_status(text: &[u8]) -> Result<Status, TextError> {
    let mut status = Status::default();
    for line in lines(text)? {
        if let Some(users) = line.strip_prefix(b"Uid:") {
            // Real, effective, saved, of file systems.
            let user = fields(users).nth(1).and_then(crate::host::number).and_then(|user| u32::try_from(user).ok());
            status.user = Some(user.ok_or_else(|| TextError::expected("the effective user", line))?);
        }
    }
    let keys: [&[u8]; 3] = [b"VmSwap:", b"voluntary_ctxt_switches:", b"nonvoluntary_ctxt_switches:"];
    let [swapped, voluntary, forced] = values(text, keys)?;
    status.swapped_bytes = kibibytes(swapped.unwrap_or(0))?;
    match (voluntary, forced) {
        (Some(voluntary), Some(forced)) => status.switches = [voluntary, forced],
        _ => return Err(TextError::expected("context switches", text)),
    }
    Ok(status)
}

fn parse_smaps(text: &[u8]) -> Result<Proportional, TextError> {
    match values(text, [b"Pss:", b"SwapPss:"])? {
        [Some(resident), swapped] => {
            Ok(Proportional { resident_bytes: kibibytes(resident)?, swapped_bytes: kibibytes(swapped.unwrap_or(0))? })
        }
        _ => Err(TextError::expected("Pss", text)),
    }
}

fn kibibytes(count: u64) -> Result<u64, TextError> {
    count.checked_mul(1024).ok_or_else(|| TextError::new("a size does not fit 64 bits"))
}

fn parse_limits(text: &[u8]) -> Result<Option<u64>, TextError> {
    let key = b"Max open files";
    for line in lines(text)? {
        if let Some(rest) = line.strip_prefix(key) {
            let soft = fields(rest).text("the soft limit")?;
            if soft == b"unlimited" {
                return Ok(None);
            }
            return crate::host::number(soft).map(Some).ok_or_else(|| TextError::expected("the soft limit", soft));
        }
    }
    Err(TextError::expected("Max open files", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IO: &str = "rchar: 11\nwchar: 12\nsyscr: 13\nsyscw: 14\nread_bytes: 4096\nwrite_bytes: 8192\n\
                      cancelled_write_bytes: 1\n";
    const STATUS: &str = "Name:\tx\nState:\tS (sleeping)\nUid:\t1000\t33\t1000\t1000\nVmSwap:\t      12 kB\nThreads:\t1\n\
                          voluntary_ctxt_switches:\t70\nnonvoluntary_ctxt_switches:\t8\n";
    const SMAPS: &str = "55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:    100 kB\nPss:     60 kB\nPss_Dirty:  1 kB\n\
                         Swap:   9 kB\nSwapPss:   3 kB\nLocked: 0 kB\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max processes             100                  100                  processes \n\
                          Max open files            1024                 524288               files     \n";

    #[test]
    fn reads_what_is_needed() {
        assert_eq!(parse_io(IO.as_bytes()), Ok(Transferred { read: 4096, written: 8192 }));
        let status = Status { user: Some(33), swapped_bytes: 12 << 10, switches: [70, 8] };
        assert_eq!(parse_status(STATUS.as_bytes()), Ok(status));
        let kernel_thread = STATUS.replace("VmSwap:\t      12 kB\n", "");
        assert_eq!(parse_status(kernel_thread.as_bytes()).unwrap().swapped_bytes, 0);
        let smaps = Proportional { resident_bytes: 60 << 10, swapped_bytes: 3 << 10 };
        assert_eq!(parse_smaps(SMAPS.as_bytes()), Ok(smaps));
        assert_eq!(parse_limits(LIMITS.as_bytes()), Ok(Some(1024)));
        assert_eq!(parse_limits(LIMITS.replace("1024  ", "unlimited").as_bytes()), Ok(None));
    }

    #[test]
    fn what_is_cut_or_garbage_is_an_error() {
        for text in [IO, STATUS, SMAPS, LIMITS] {
            let parse: &dyn Fn(&[u8]) -> bool = &|text| {
                parse_io(text).is_ok()
                    || parse_status(text).is_ok()
                    || parse_smaps(text).is_ok()
                    || parse_limits(text).is_ok()
            };
            assert!(parse(text.as_bytes()));
            for end in 0..text.len() {
                let cut = &text.as_bytes()[..end];
                assert!(!parse(cut) || cut.ends_with(b"\n"), "{:?}", text.get(..end));
            }
            let blown: String = text
                .chars()
                .flat_map(|c| c.to_string().repeat(if c.is_ascii_digit() { 25 } else { 1 }).chars().collect::<Vec<_>>())
                .collect();
            assert!(!parse(blown.as_bytes()), "{blown}");
            assert!(!parse(b"\x00\xff\xfe\n") && !parse(b""));
        }
        assert!(parse_status(STATUS.replace("33", "-1").as_bytes()).is_err());
        assert!(parse_status(STATUS.replace("12 kB", "18446744073709551615 kB").as_bytes()).is_err());
    }
}
