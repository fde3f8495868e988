//! The processes of a host from pass to pass.

use std::cmp::Ordering;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::details::{DetailTable, Sources};
use super::files::Files;
use super::groups::{Groups, Membership, Seen};
use super::redact::Redactor;
use super::stat::Stat;
use super::threads::Threads;
use super::users::Users;
use super::{Details, ProcessUsage};
use crate::collectors::{CollectError, ProcessSettings};
use crate::host::{HostRoot, KeptFile, RawDir, ReadError, TO_READ, fields, number};
use crate::snapshot::Families;

/// Each open file holds a page in the kernel besides its descriptor.
const MOST_KEPT_FILES: usize = 1024;

/// `stat` has 52 numbers of at most 20 digits and a name of at most 64 bytes.
const STAT_BYTES: usize = 2048;

/// The boot time is read again after so many passes: it moves when the clock is set.
const PASSES_BETWEEN_BOOT_TIMES: u32 = 30;

/// Holds some 500 entries of a directory at a time.
const LISTING_BYTES: usize = 16 << 10;

/// How many processes there are, of those that could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    by_state: ByState,
    /// Threads; only where they are asked for.
    threads_by_state: Option<ByState>,
}

/// Counts by the letter of a state, which is the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ByState([u32; 128]);

impl Default for ByState {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl ByState {
    pub(super) fn add(&mut self, state: u8) {
        if let Some(count) = self.0.get_mut(usize::from(state)) {
            *count += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u8, u32)> {
        (0u8..).zip(self.0).filter(|(letter, count)| *count > 0 && letter.is_ascii_alphabetic())
    }
}

impl Counts {
    fn add(&mut self, reading: &Reading) {
        self.processes += 1;
        self.threads += reading.threads;
        self.by_state.add(reading.state);
    }

    /// The states that occur, as the kernel's letters, with the number of processes in each.
    pub fn states(&self) -> impl Iterator<Item = (u8, u32)> {
        self.by_state.iter()
    }

    /// The states of threads in the same way; `None` where the settings don't ask for them.
    pub fn thread_states(&self) -> Option<impl Iterator<Item = (u8, u32)>> {
        self.threads_by_state.as_ref().map(|states| states.iter())
    }
}

/// One process between passes.
pub(super) struct Entry {
    pub(super) pid: u32,
    file: Option<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// What the last pass read; `None` where the process could not be read.
    pub(super) now: Option<Reading>,
    /// CPU ticks over the last interval; `None` where they are not known.
    used_ticks: Option<u64>,
    /// Its place in a group.
    pub(super) membership: Membership,
}

impl Entry {
    fn new(pid: u32) -> Self {
        Self { pid, file: None, name: Vec::new(), now: None, used_ticks: None, membership: Membership::default() }
    }
}

/// What a pass keeps of a process' `stat`.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) state: u8,
    pub(super) parent: u32,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) threads: u64,
    pub(super) start_ticks: u64,
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_pages: u64,
}

impl Reading {
    fn of(stat: &Stat<'_>) -> Self {
        Self {
            state: stat.state,
            parent: stat.parent,
            minor_faults: stat.minor_faults,
            major_faults: stat.major_faults,
            threads: stat.threads,
            start_ticks: stat.start_ticks,
            user_ticks: stat.user_ticks,
            system_ticks: stat.system_ticks,
            virtual_bytes: stat.virtual_bytes,
            resident_pages: stat.resident_pages,
        }
    }

    /// In user and kernel mode; that they fit together was looked at.
    fn cpu_ticks(&self) -> u64 {
        self.user_ticks.wrapping_add(self.system_ticks)
    }
}

/// The processes of a host, from pass to pass.
pub struct ProcessTable {
    proc: PathBuf,
    /// The directory, kept open, below which the files are opened.
    directory: Option<OwnedFd>,
    /// Sorted by pid.
    entries: Vec<Entry>,
    counts: Counts,
    boot: BootTime,
    details: DetailTable,
    files: Files,
    users: Users,
    redactor: Redactor,
    groups: Groups,
    settings: ProcessSettings,
    /// Buffers of a pass.
    pids: Vec<u32>,
    before: Vec<Entry>,
    order: Vec<u32>,
    listing: Vec<MaybeUninit<u8>>,
    text: Box<[u8; STAT_BYTES]>,
    last_pass: Option<Instant>,
    /// Between the last two passes.
    elapsed: Option<Duration>,
    kept_files: usize,
    most_kept_files: usize,
    ticks_per_second: f64,
    page_bytes: f64,
}

impl ProcessTable {
    /// Of the host. Reads nothing yet.
    pub fn new(host: &HostRoot, settings: &ProcessSettings) -> Self {
        // The other half of the descriptors is for everything else that the agent does.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most_kept_files = usize::try_from(limit / 2).unwrap_or(usize::MAX).min(MOST_KEPT_FILES);
        Self {
            proc: host.proc.clone(),
            directory: None,
            entries: Vec::new(),
            counts: Counts::default(),
            boot: BootTime::new(host),
            details: DetailTable::default(),
            files: Files::default(),
            users: Users::new(host),
            redactor: Redactor::new(&settings.redact, &settings.redactor),
            groups: Groups::new(settings),
            settings: settings.clone(),
            pids: Vec::new(),
            before: Vec::new(),
            order: Vec::new(),
            listing: Vec::new(),
            text: Box::new([0; STAT_BYTES]),
            last_pass: None,
            elapsed: None,
            kept_files: 0,
            most_kept_files,
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
            page_bytes: rustix::param::page_size() as f64,
        }
    }

    /// Goes on with other settings.
    pub fn configure(&mut self, settings: &ProcessSettings) {
        if self.settings != *settings {
            self.settings = settings.clone();
            self.redactor = Redactor::new(&settings.redact, &settings.redactor);
            self.groups = Groups::new(settings);
            self.entries.iter_mut().for_each(|entry| entry.membership = Membership::default());
            // What was shown under the former settings.
            self.details.clear();
        }
    }

    /// Reads all processes; `at` is the time of this pass. A process that goes away meanwhile, or may not be read, is
    /// normal: it is left out. An error means that the processes could not even be listed.
    pub fn sample(&mut self, at: Instant) -> Result<(), CollectError> {
        if let Err(error) = self.list() {
            // The next pass begins anew: an interval across a gap would mix two.
            self.directory = None;
            self.entries.clear();
            self.counts = Counts::default();
            self.kept_files = 0;
            (self.last_pass, self.elapsed) = (None, None);
            self.groups.failed();
            return Err(error);
        }
        self.elapsed = self.last_pass.and_then(|last| at.checked_duration_since(last));
        self.boot.refresh();
        let first = self.last_pass.is_none();
        self.last_pass = Some(at);
        self.merge(first);
        self.group();
        if self.settings.thread_states {
            self.count_threads();
        }
        Ok(())
    }

    /// Sums the processes up by group.
    fn group(&mut self) {
        let Some(directory) = self.directory.as_ref().filter(|_| !self.groups.is_empty()) else { return };
        self.users.begin();
        self.groups.update(
            &mut self.entries,
            &mut super::groups::Sources {
                proc: directory.as_fd(),
                files: &mut self.files,
                users: &mut self.users,
                redactor: &self.redactor,
                page_bytes: self.page_bytes as u64,
            },
        );
    }

    /// Counts threads by state: dear, since each has a file of its own.
    fn count_threads(&mut self) {
        let Some(directory) = &self.directory else { return };
        let mut states = ByState::default();
        let mut threads = Threads { proc: directory.as_fd(), listing: &mut self.listing, text: &mut self.text[..] };
        for entry in &self.entries {
            let Some(reading) = &entry.now else { continue };
            match reading.threads {
                // The only thread is the process; of one that has ended and waits for its parent, none is counted.
                0 | 1 => states.add(reading.state),
                _ => threads.count(entry.pid, reading.state, &mut states),
            }
        }
        self.counts.threads_by_state = Some(states);
    }

    /// Appends the families of the groups.
    pub fn group_families(&self, out: &mut Families) {
        self.groups.families(self.ticks_per_second, self.boot.seconds, out);
    }

    /// Fills `pids`, sorted.
    fn list(&mut self) -> Result<(), CollectError> {
        let failed = |errno: Errno| CollectError::Read(ReadError::Io { path: self.proc.clone(), source: errno.into() });
        let directory = match &self.directory {
            Some(directory) => directory,
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.directory.insert(rustix::fs::open(&self.proc, flags, Mode::empty()).map_err(failed)?)
            }
        };
        rustix::fs::seek(directory, SeekFrom::Start(0)).map_err(failed)?;
        self.listing.resize(LISTING_BYTES, MaybeUninit::uninit());
        self.pids.clear();
        let mut entries = RawDir::new(directory, &mut self.listing);
        while let Some(entry) = entries.next() {
            let name = entry.map_err(failed)?;
            let pid = number(name.file_name().to_bytes()).and_then(|pid| u32::try_from(pid).ok());
            self.pids.extend(pid);
        }
        // The kernel lists pids in order; a frozen tree does not.
        if !self.pids.is_sorted() {
            self.pids.sort_unstable();
        }
        self.pids.dedup();
        Ok(())
    }

    /// Reads each listed process into the table and forgets the others.
    fn merge(&mut self, first: bool) {
        std::mem::swap(&mut self.entries, &mut self.before);
        self.entries.clear();
        self.counts = Counts::default();
        let mut before = std::mem::take(&mut self.before);
        let mut old = before.drain(..).peekable();
        for index in 0..self.pids.len() {
            let pid = self.pids[index];
            while let Some(gone) = old.next_if(|entry| entry.pid < pid) {
                self.kept_files -= usize::from(gone.file.is_some());
            }
            let known = old.next_if(|entry| entry.pid == pid);
            // Not there at the last pass: all that it used, it used since.
            let born = known.is_none() && !first;
            let mut entry = known.unwrap_or_else(|| Entry::new(pid));
            self.read(&mut entry, born);
            if let Some(reading) = &entry.now {
                self.counts.add(reading);
            }
            self.entries.push(entry);
        }
        self.kept_files -= old.filter(|entry| entry.file.is_some()).count();
        self.before = before;
    }

    /// Brings an entry up to date.
    fn read(&mut self, entry: &mut Entry, born: bool) {
        let earlier = entry.now.take();
        entry.used_ticks = None;
        let Some(length) = self.read_text(entry) else { return };
        // A process whose stat does not parse is one that may not be read; there is no such kernel, only frozen trees.
        let Ok(stat) = super::stat::parse(&self.text[..length]) else { return };
        let now = Reading::of(&stat);
        let renamed = entry.name != stat.name;
        if renamed {
            entry.name.clear();
            entry.name.extend_from_slice(stat.name);
        }
        let (used_ticks, seen) = match earlier {
            // The same process. Ticks that run backwards are not known ones.
            Some(earlier) if earlier.start_ticks == now.start_ticks => {
                (now.cpu_ticks().checked_sub(earlier.cpu_ticks()), if renamed { Seen::Renamed } else { Seen::Before })
            }
            // The pid was taken over by another since.
            Some(_) => (Some(now.cpu_ticks()), Seen::Born),
            None if born => (Some(now.cpu_ticks()), Seen::Born),
            None => (None, Seen::Found),
        };
        entry.used_ticks = used_ticks;
        entry.membership.see(seen);
        entry.now = Some(now);
    }

    /// Reads a process' `stat` into `text`; how long it is, or `None` where there is nothing to read.
    fn read_text(&mut self, entry: &mut Entry) -> Option<usize> {
        if let Some(file) = &entry.file {
            if let Ok(length) = rustix::io::pread(file, &mut self.text[..], 0) {
                return Some(length);
            }
            // That process has gone; the pid may be another's by now.
            entry.file = None;
            self.kept_files -= 1;
        }
        let mut path = [0; 24];
        let file =
            rustix::fs::openat(self.directory.as_ref()?, stat_path(entry.pid, &mut path), TO_READ, Mode::empty())
                .ok()?;
        let length = rustix::io::pread(&file, &mut self.text[..], 0).ok()?;
        if self.kept_files < self.most_kept_files {
            entry.file = Some(file);
            self.kept_files += 1;
        }
        Some(length)
    }

    /// How many processes and threads the last pass found.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The processes that used the CPU most between the last two passes and those with most memory, so many of each as
    /// the settings say. In the order of CPU time, so that the busiest stand first; those with more memory first among
    /// equals. `None` before the second pass, since a share of no interval is not 0 but unknown.
    pub fn top(&mut self, memory_total_bytes: Option<f64>) -> Option<Vec<ProcessUsage>> {
        let seconds = self.elapsed.map(|elapsed| elapsed.as_secs_f64()).filter(|seconds| *seconds > 0.0)?;
        let mut order = std::mem::take(&mut self.order);
        self.choose(&mut order);
        let usage = |index: &u32| {
            let entry = self.entries.get(*index as usize)?;
            Some(self.usage(entry.used_ticks?, entry.now?, entry, seconds, memory_total_bytes))
        };
        let mut top: Vec<ProcessUsage> = order.iter().filter_map(usage).collect();
        self.order = order;
        self.describe(&mut top);
        Some(top)
    }

    /// Adds what takes more files.
    fn describe(&mut self, top: &mut [ProcessUsage]) {
        let (Some(directory), Some(elapsed)) = (&self.directory, self.elapsed) else { return };
        self.users.begin();
        let mut sources = Sources {
            proc: directory.as_fd(),
            files: &mut self.files,
            users: &mut self.users,
            redactor: self.settings.command_line.then_some(&self.redactor),
            elapsed,
        };
        self.details.begin();
        for usage in top {
            usage.details = self.details.of(usage.pid, usage.start_ticks, usage.name.as_bytes(), &mut sources);
        }
        self.details.end();
    }

    /// Fills `order` with the places in `entries` of the processes that [`ProcessTable::top`] shows.
    fn choose(&self, order: &mut Vec<u32>) {
        order.clear();
        let known = (0..).zip(&self.entries).filter(|(_, entry)| entry.used_ticks.is_some() && entry.now.is_some());
        order.extend(known.map(|(index, _)| index));
        let key = |index: &u32| {
            let entry = &self.entries[*index as usize];
            (entry.used_ticks.unwrap_or(0), entry.now.map_or(0, |now| now.resident_pages))
        };
        let busiest = |a: &u32, b: &u32| key(b).cmp(&key(a)).then(a.cmp(b));
        let largest = |a: &u32, b: &u32| key(b).1.cmp(&key(a).1).then_with(|| busiest(a, b));
        // One type for both: the selection is not compiled twice.
        type Order<'a> = &'a dyn Fn(&u32, &u32) -> Ordering;
        let (busiest, largest): (Order<'_>, Order<'_>) = (&busiest, &largest);
        if self.settings.top == 0 {
            order.clear();
        } else if order.len() > self.settings.top {
            order.select_nth_unstable_by(self.settings.top - 1, largest);
            // The largest come to the end, and the busiest of all are looked for from the start again.
            let mut large: Vec<u32> = order[..self.settings.top].to_vec();
            order.select_nth_unstable_by(self.settings.top - 1, busiest);
            order.truncate(self.settings.top);
            large.retain(|index| !order.contains(index));
            order.append(&mut large);
        }
        order.sort_unstable_by(busiest);
    }

    fn usage(&self, ticks: u64, now: Reading, entry: &Entry, seconds: f64, total: Option<f64>) -> ProcessUsage {
        let resident = now.resident_pages as f64 * self.page_bytes;
        ProcessUsage {
            pid: entry.pid,
            name: String::from_utf8_lossy(&entry.name).into_owned(),
            cpu_percent: ticks as f64 / self.ticks_per_second / seconds * 100.0,
            memory_percent: total.filter(|total| *total > 0.0).map(|total| resident / total * 100.0),
            resident_memory_bytes: resident,
            threads: now.threads,
            state: char::from(now.state),
            start_ticks: now.start_ticks,
            start_time_seconds: self.start_time(now.start_ticks),
            details: Details::default(),
        }
    }

    /// In seconds since 1970.
    fn start_time(&self, ticks: u64) -> Option<f64> {
        Some(self.boot.seconds? as f64 + ticks as f64 / self.ticks_per_second)
    }
}

/// When the host was booted.
struct BootTime {
    file: KeptFile,
    passes: u32,
    /// Since 1970.
    seconds: Option<u64>,
}

impl BootTime {
    fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::record(host.proc("stat")), passes: 0, seconds: None }
    }

    fn refresh(&mut self) {
        if self.passes.is_multiple_of(PASSES_BETWEEN_BOOT_TIMES)
            && let Ok(Some(seconds)) = self.file.read(boot_time)
            // The kernel rounds it anew each time: a process' start is not to move by that.
            && self.seconds.is_none_or(|before| before.abs_diff(seconds) > 1)
        {
            self.seconds = Some(seconds);
        }
        self.passes = self.passes.wrapping_add(1);
    }
}

/// From `/proc/stat`. `None` where the line is not whole.
fn boot_time(text: &[u8]) -> Option<u64> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"btime ")?.strip_suffix(b"\n"))?;
    fields(line).next().and_then(number)
}

/// `PID/stat` with the end that a C string has, without allocating.
fn stat_path(pid: u32, buffer: &mut [u8; 24]) -> &CStr {
    path_below(pid, b"/stat\0", buffer)
}

/// The number and what stands behind it, which ends with a 0.
pub(super) fn path_below<'a>(pid: u32, end: &[u8], buffer: &'a mut [u8; 24]) -> &'a CStr {
    let mut at = buffer.len();
    for byte in end.iter().rev() {
        at -= 1;
        buffer[at] = *byte;
    }
    let mut rest = pid;
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // Digits, "/stat" and the end just written: there is nothing to refuse.
    CStr::from_bytes_with_nul(&buffer[at..]).unwrap_or(c"")
}

#[cfg(test)]
mod tests;
