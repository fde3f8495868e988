//! Which processes use the CPU and the memory: one pass over `/proc/PID/stat`.
//!
//! `stat` is the dearest file of a pass, so everything comes from this one (resident memory from its field 24, not
//! from `statm`), and files stay open up to a bound. None is evicted for another: on a scan that goes round, that would
//! reopen them all.

pub(crate) mod cgroup;
mod details;
mod files;
mod groups;
mod redact;
mod stat;
mod users;

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::collectors::{CollectError, ProcessSettings};
use crate::host::{HostRoot, KeptFile, RawDir, ReadError, fields, number};
use crate::snapshot::Families;
use details::{DetailTable, Sources};
use files::Files;
use groups::{Groups, Membership, Seen};
use redact::Redactor;
use stat::Stat;
use users::Users;

pub use details::Details;
pub use groups::{Group, GroupFile, Template};

/// Each open file holds a page in the kernel besides its descriptor.
const MOST_KEPT_FILES: usize = 1024;

/// `stat` has 52 numbers of at most 20 digits and a name of at most 64 bytes.
const STAT_BYTES: usize = 2048;

/// The boot time is read again after so many passes: it moves when the clock is set.
const PASSES_BETWEEN_BOOT_TIMES: u32 = 30;

/// Holds some 500 entries of a directory at a time.
const LISTING_BYTES: usize = 16 << 10;

/// What one process used over an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessUsage {
    /// Process id.
    pub pid: u32,
    /// The name that the process gave itself, at most 15 bytes; longer for kernel threads.
    pub name: String,
    /// Share of the interval on a CPU; one core is 100.
    pub cpu_percent: f64,
    /// Share of the host's memory; missing where that is not known.
    pub memory_percent: Option<f64>,
    /// Resident memory.
    pub resident_memory_bytes: f64,
    /// Threads.
    pub threads: u64,
    /// The kernel's letter for the state, such as `R`, `S` or `D`.
    pub state: char,
    /// When it started, in clock ticks since boot: with the pid, a process' identity.
    pub start_ticks: u64,
    /// When it started, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// What takes more files than all processes are read with.
    pub details: Details,
}

/// The table of a host's processes, which a collector fills and the sampler asks.
#[derive(Clone)]
pub struct SharedTable(Arc<Mutex<ProcessTable>>);

impl SharedTable {
    /// Of this host. Reads nothing yet.
    pub fn new(host: &HostRoot, settings: &ProcessSettings) -> Self {
        Self(Arc::new(Mutex::new(ProcessTable::new(host, settings))))
    }

    /// The table, for this pass. One thread uses it, so nobody waits.
    pub fn lock(&self) -> MutexGuard<'_, ProcessTable> {
        // After a panic in the middle of a pass the next one begins anew.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many processes there are, of those that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    /// By the letter of the state, which is the index.
    by_state: [u32; 128],
}

impl Default for Counts {
    fn default() -> Self {
        Self { processes: 0, threads: 0, by_state: [0; 128] }
    }
}

impl Counts {
    fn add(&mut self, reading: &Reading) {
        self.processes += 1;
        self.threads += reading.threads;
        if let Some(count) = self.by_state.get_mut(usize::from(reading.state)) {
            *count += 1;
        }
    }

    /// The states that occur, as the kernel's letters, with the number of processes in each.
    pub fn states(&self) -> impl Iterator<Item = (u8, u32)> {
        (0u8..).zip(self.by_state).filter(|(letter, count)| *count > 0 && letter.is_ascii_alphabetic())
    }
}

/// One process between passes.
struct Entry {
    pid: u32,
    file: Option<OwnedFd>,
    name: Vec<u8>,
    /// What the last pass read; `None` where the process could not be read.
    now: Option<Reading>,
    /// CPU ticks over the last interval; `None` where they are not known.
    used_ticks: Option<u64>,
    /// Its place in a group.
    membership: Membership,
}

impl Entry {
    fn new(pid: u32) -> Self {
        Self { pid, file: None, name: Vec::new(), now: None, used_ticks: None, membership: Membership::default() }
    }
}

/// What a pass keeps of a process' `stat`.
#[derive(Clone, Copy)]
struct Reading {
    state: u8,
    parent: u32,
    minor_faults: u64,
    major_faults: u64,
    threads: u64,
    start_ticks: u64,
    user_ticks: u64,
    system_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
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
            redactor: Redactor::new(&settings.redact),
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
            self.redactor = Redactor::new(&settings.redact);
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
        Ok(())
    }

    /// Sums the processes up by group.
    fn group(&mut self) {
        let Some(directory) = self.directory.as_ref().filter(|_| !self.groups.is_empty()) else { return };
        self.users.refresh();
        self.groups.update(
            &mut self.entries,
            &mut groups::Sources {
                proc: directory.as_fd(),
                files: &mut self.files,
                users: &mut self.users,
                redactor: &self.redactor,
                page_bytes: self.page_bytes as u64,
            },
        );
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
        let Ok(stat) = stat::parse(&self.text[..length]) else { return };
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
        let file = rustix::fs::openat(
            self.directory.as_ref()?,
            stat_path(entry.pid, &mut path),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
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
        self.users.refresh();
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
    let mut at = buffer.len();
    for byte in b"/stat\0".iter().rev() {
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
mod tests {
    use std::path::Path;

    use super::*;

    /// A frozen procfs whose processes tests write.
    struct Frozen {
        dir: tempfile::TempDir,
        table: ProcessTable,
        start: Instant,
    }

    impl Frozen {
        fn new() -> Self {
            Self::within(tempfile::tempdir().unwrap())
        }

        /// In memory where there is such a place: a disk takes a minute for ten thousand processes.
        fn large() -> Self {
            Self::within(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
        }

        fn within(dir: tempfile::TempDir) -> Self {
            let table = ProcessTable::new(
                &HostRoot { proc: dir.path().into(), ..HostRoot::default() },
                &ProcessSettings::default(),
            );
            Self { dir, table, start: Instant::now() }
        }

        fn path(&self, pid: u32) -> std::path::PathBuf {
            self.dir.path().join(pid.to_string())
        }

        fn write(&self, pid: u32, name: &str, cpu_ticks: u64, started: u64, pages: u64) {
            let fields = format!(
                "{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {cpu_ticks} 0 0 0 20 0 3 0 {started} 1000000 {pages} 1 2 3\n"
            );
            std::fs::create_dir_all(self.path(pid)).unwrap();
            std::fs::write(self.path(pid).join("stat"), fields).unwrap();
        }

        fn remove(&self, pid: u32) {
            std::fs::remove_dir_all(self.path(pid)).unwrap();
        }

        /// A pass so many seconds after the start; the top processes as pid, name and percent.
        fn pass(&mut self, second: u64) -> Option<Vec<(u32, String, f64)>> {
            self.table.sample(self.start + Duration::from_secs(second)).unwrap();
            let top = self.table.top(None)?;
            Some(top.into_iter().map(|usage| (usage.pid, usage.name, usage.cpu_percent)).collect())
        }
    }

    fn row(pid: u32, name: &str, percent: f64) -> (u32, String, f64) {
        (pid, name.into(), percent)
    }

    #[test]
    fn the_first_pass_knows_no_shares() {
        let mut frozen = Frozen::new();
        frozen.write(7, "seven", 500, 10, 1);
        assert_eq!(frozen.pass(0), None);
        frozen.write(7, "seven", 600, 10, 1);
        assert_eq!(frozen.pass(2), Some(vec![row(7, "seven", 50.0)]));
    }

    #[test]
    fn the_busiest_first_and_the_larger_among_equals() {
        let mut frozen = Frozen::new();
        for (pid, pages) in [(5, 1), (30, 9), (4, 2), (100, 1)] {
            frozen.write(pid, "p", 0, pid.into(), pages);
        }
        frozen.pass(0);
        frozen.write(100, "p", 300, 100, 1);
        assert_eq!(
            frozen.pass(1).unwrap().iter().map(|row| (row.0, row.2)).collect::<Vec<_>>(),
            [(100, 300.0), (30, 0.0), (4, 0.0), (5, 0.0)]
        );
        for (top, expected) in [(3, vec![100, 30, 4]), (2, vec![100, 30, 4]), (1, vec![100, 30]), (0, vec![])] {
            frozen.table.configure(&ProcessSettings { top, ..ProcessSettings::default() });
            let found: Vec<_> = frozen.table.top(None).unwrap().into_iter().map(|usage| usage.pid).collect();
            assert_eq!(found, expected, "{top}");
        }
    }

    #[test]
    fn counts_by_state() {
        let mut frozen = Frozen::new();
        for pid in 1..=3 {
            frozen.write(pid, "p", 0, 1, 1);
        }
        let path = frozen.path(3).join("stat");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(") S ", ") \u{7f} ")).unwrap();
        frozen.pass(0);
        let counts = frozen.table.counts();
        assert_eq!((counts.processes, counts.threads), (3, 9));
        assert_eq!(counts.states().collect::<Vec<_>>(), [(b'S', 2)]);
    }

    #[test]
    fn a_reused_pid_is_not_a_continuation() {
        let mut frozen = Frozen::new();
        frozen.write(9, "old", 100_000, 10, 1);
        frozen.pass(0);
        frozen.write(9, "new", 30, 777, 1);
        assert_eq!(frozen.pass(1), Some(vec![row(9, "new", 30.0)]));
    }

    #[test]
    fn a_new_process_used_all_it_used_since() {
        let mut frozen = Frozen::new();
        frozen.write(1, "init", 0, 1, 1);
        frozen.pass(0);
        frozen.write(2, "born", 40, 500, 1);
        assert_eq!(frozen.pass(4), Some(vec![row(2, "born", 10.0), row(1, "init", 0.0)]));
    }

    #[test]
    fn the_gone_and_the_unreadable_are_left_out() {
        let mut frozen = Frozen::new();
        for pid in [1, 2, 3] {
            frozen.write(pid, "p", 0, 1, 1);
        }
        frozen.pass(0);
        frozen.remove(2);
        std::fs::write(frozen.path(3).join("stat"), "3 (p) S 1").unwrap();
        std::fs::create_dir(frozen.path(4)).unwrap();
        std::fs::write(frozen.dir.path().join("uptime"), "no process").unwrap();
        assert_eq!(frozen.pass(1), Some(vec![row(1, "p", 0.0)]));
        assert_eq!(frozen.table.counts().processes, 1);
        // One that was listed but not readable may have run for long before: its ticks are not this interval's.
        frozen.write(3, "p", 5000, 1, 1);
        assert_eq!(frozen.pass(2), Some(vec![row(1, "p", 0.0)]));
        assert_eq!(frozen.pass(3).unwrap().len(), 2);
    }

    #[test]
    fn ticks_that_run_backwards_are_not_shown() {
        let mut frozen = Frozen::new();
        frozen.write(1, "p", 100, 1, 1);
        frozen.pass(0);
        frozen.write(1, "p", 99, 1, 1);
        assert_eq!(frozen.pass(1), Some(vec![]));
    }

    #[test]
    fn time_that_stands_still_gives_no_shares() {
        let mut frozen = Frozen::new();
        frozen.write(1, "p", 100, 1, 1);
        frozen.pass(5);
        assert_eq!(frozen.pass(5), None);
        assert_eq!(frozen.pass(4), None);
        assert!(frozen.pass(6).is_some());
    }

    #[test]
    fn memory_is_a_share_of_the_hosts() {
        let mut frozen = Frozen::new();
        frozen.write(1, "p", 0, 1, 10);
        frozen.pass(0);
        frozen.pass(1);
        let resident = 10.0 * rustix::param::page_size() as f64;
        let usage = &frozen.table.top(Some(resident * 4.0)).unwrap()[0];
        assert_eq!((usage.resident_memory_bytes, usage.memory_percent), (resident, Some(25.0)));
        assert_eq!((usage.threads, usage.state, usage.start_ticks), (3, 'S', 1));
        assert_eq!(frozen.table.top(None).unwrap()[0].memory_percent, None);
        assert_eq!(frozen.table.top(Some(0.0)).unwrap()[0].memory_percent, None);
    }

    /// The details of the process that is listed first.
    fn details(frozen: &mut Frozen, second: u64) -> Details {
        frozen.table.sample(frozen.start + Duration::from_secs(second)).unwrap();
        frozen.table.top(None).unwrap().remove(0).details
    }

    #[test]
    fn the_listed_are_told_in_detail() {
        let mut frozen = Frozen::new();
        frozen.write(7, "web", 0, 10, 1);
        let path = frozen.path(7);
        let put = |file: &str, text: &str| std::fs::write(path.join(file), text).unwrap();
        put("cmdline", "web\0--token\0hunter2\0");
        put("cgroup", "0::/system.slice/web.service\n");
        put("io", "read_bytes: 100\nwrite_bytes: 4000\n");
        put("limits", "Max open files 64 128 files\n");
        put("status", "Uid:\t0\t4242\t0\t0\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n");
        std::fs::create_dir(path.join("fd")).unwrap();
        put("fd/0", "");
        put("fd/19", "");
        frozen.pass(0);
        assert_eq!(details(&mut frozen, 1).read_bytes_per_second, None);
        put("io", "read_bytes: 300\nwrite_bytes: 4000\n");
        let found = details(&mut frozen, 3);
        let expected = Details {
            open_fds: Some(2),
            max_fds: Some(64),
            read_bytes_per_second: Some(100.0),
            write_bytes_per_second: Some(0.0),
            command_line: Some("web --token ***".into()),
            user: Some("4242".into()),
            unit: Some("web.service".into()),
            container: None,
        };
        assert_eq!(found, expected);

        // What is slow is read again with the name, and now and then.
        put("cmdline", "other\0");
        assert_eq!(details(&mut frozen, 4).command_line, expected.command_line);
        frozen.write(7, "renamed", 0, 10, 1);
        assert_eq!(details(&mut frozen, 5).command_line.as_deref(), Some("other"));
        put("cmdline", "again\0");
        assert!((6..40).any(|second| details(&mut frozen, second).command_line.as_deref() == Some("again")));
        // Another process of that number has other files.
        put("cmdline", "successor\0");
        frozen.write(7, "renamed", 0, 99, 1);
        let found = details(&mut frozen, 41);
        assert_eq!((found.command_line.as_deref(), found.read_bytes_per_second), (Some("successor"), None));

        let settings = ProcessSettings { command_line: false, ..ProcessSettings::default() };
        frozen.table.configure(&settings);
        assert_eq!(details(&mut frozen, 42).command_line, None);
        let redact = vec![crate::pattern::Pattern::new("succ").unwrap()];
        frozen.table.configure(&ProcessSettings { redact, ..ProcessSettings::default() });
        assert_eq!(details(&mut frozen, 43).command_line.as_deref(), Some("***essor"));
    }

    #[test]
    fn what_may_not_be_read_is_missing() {
        let mut frozen = Frozen::new();
        frozen.write(7, "other", 0, 10, 1);
        // A directory can be opened and not read, by root too.
        for file in ["io", "limits", "status", "cgroup", "cmdline"] {
            std::fs::create_dir(frozen.path(7).join(file)).unwrap();
        }
        frozen.pass(0);
        for second in 1..5 {
            assert_eq!(details(&mut frozen, second), Details::default());
        }
        for file in ["io", "limits", "status", "cgroup", "cmdline"] {
            std::fs::remove_dir(frozen.path(7).join(file)).unwrap();
            std::fs::write(frozen.path(7).join(file), b"\xff\x00\n garbage").unwrap();
        }
        let found = (5..40).map(|second| details(&mut frozen, second)).last().unwrap();
        assert_eq!(found, Details { command_line: Some("\u{fffd}   garbage".into()), ..Details::default() });
    }

    #[test]
    fn the_boot_time_moves_when_the_clock_is_set_and_not_by_rounding() {
        let mut frozen = Frozen::new();
        frozen.write(7, "p", 0, 250, 1);
        let stat = frozen.dir.path().join("stat");
        let mut start = |text: &str, seconds: std::ops::Range<u64>| {
            std::fs::write(&stat, text).unwrap();
            seconds
                .map(|second| frozen.pass(second).and_then(|_| frozen.table.top(None)?.remove(0).start_time_seconds))
                .last()
        };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(start("cpu0 1\nbtime 1000\n", 0..2), Some(Some(1000.0 + 250.0 / ticks)));
        assert_eq!(start("btime 1001\n", 2..40), Some(Some(1000.0 + 250.0 / ticks)));
        assert_eq!(start("btime 5000\n", 40..80), Some(Some(5000.0 + 250.0 / ticks)));
        assert_eq!(start("btime 70", 80..120), Some(Some(5000.0 + 250.0 / ticks)), "cut");
    }

    fn settings(text: &str) -> ProcessSettings {
        toml::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    impl Frozen {
        /// The series of a family after a pass, as the labels' values and the value.
        fn series(&mut self, second: u64, family: &str) -> Vec<(String, f64)> {
            self.table.sample(self.start + Duration::from_secs(second)).unwrap();
            let mut out = Families::default();
            self.table.group_families(&mut out);
            let values = |labels: &crate::snapshot::Labels| {
                labels.iter().map(|(_, value)| value.to_owned()).collect::<Vec<_>>().join(" ")
            };
            let name = format!("namedprocess_namegroup_{family}");
            out.samples(&name).iter().map(|sample| (values(&sample.labels), sample.value)).collect()
        }
    }

    fn one(name: &str, value: f64) -> (String, f64) {
        (name.to_owned(), value)
    }

    #[test]
    fn counters_of_groups_go_on_when_members_end() {
        let mut frozen = Frozen::new();
        frozen
            .table
            .configure(&settings("group_children = false\n[[groups]]\nname = '{{.Comm}}'\ncomm = ['web', 'idle']\n"));
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        frozen.write(1, "web", 700, 1, 10);
        frozen.write(2, "other", 700, 1, 10);
        let user = |series: Vec<(String, f64)>| {
            series.into_iter().filter(|(name, _)| name == "web user").map(|(_, value)| value * ticks).next_back()
        };
        assert_eq!(user(frozen.series(0, "cpu_seconds_total")), Some(0.0), "older than the agent");
        frozen.write(1, "web", 750, 1, 10);
        frozen.write(3, "web", 30, 5, 10);
        assert_eq!(user(frozen.series(1, "cpu_seconds_total")), Some(80.0), "one went on, one is new");
        frozen.remove(1);
        frozen.write(3, "web", 20, 6, 10);
        assert_eq!(user(frozen.series(2, "cpu_seconds_total")), Some(100.0), "one ended, one number was taken over");
        frozen.remove(3);
        assert_eq!(user(frozen.series(3, "cpu_seconds_total")), Some(100.0));
        assert_eq!(frozen.series(4, "num_procs"), [one("web", 0.0)]);
        assert_eq!(frozen.series(5, "oldest_start_time_seconds"), []);
        // One whose stat can't be read for a pass is not counted twice.
        frozen.write(4, "web", 5, 7, 10);
        frozen.series(6, "num_procs");
        std::fs::write(frozen.path(4).join("stat"), "4 (web) S").unwrap();
        frozen.series(7, "num_procs");
        frozen.write(4, "web", 9, 7, 10);
        assert!(user(frozen.series(8, "cpu_seconds_total")).unwrap() <= 109.0);
        std::fs::remove_dir_all(frozen.dir.path().join("4")).unwrap();
    }

    #[test]
    fn groups_have_what_their_members_have() {
        let mut frozen = Frozen::new();
        frozen
            .table
            .configure(&settings("[[groups]]\nname = 'all'\ncomm = ['web']\n[[groups]]\nname = 'none'\ncomm = ['x']"));
        frozen.write(1, "web", 0, 300, 10);
        frozen.write(2, "web", 0, 200, 5);
        for (pid, bytes, files) in [(1, 100, 2), (2, 5, 1)] {
            let path = frozen.path(pid);
            let put = |file: &str, text: &str| std::fs::write(path.join(file), text).unwrap();
            put("io", &format!("read_bytes: {bytes}\nwrite_bytes: 1\n"));
            put("limits", "Max open files 8 8 files\n");
            put(
                "status",
                "Uid:\t0\t0\t0\t0\nVmSwap:\t3 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t1\n",
            );
            std::fs::create_dir(path.join("fd")).unwrap();
            (0..files).for_each(|fd| put(&format!("fd/{fd}"), ""));
        }
        std::fs::write(frozen.dir.path().join("stat"), "btime 1000\n").unwrap();
        let page = rustix::param::page_size() as f64;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(frozen.series(0, "num_procs"), [one("all", 2.0), one("none", 0.0)]);
        assert_eq!(frozen.series(1, "num_threads")[0], one("all", 6.0));
        assert_eq!(frozen.series(2, "open_filedesc"), [one("all", 3.0), one("none", 0.0)]);
        assert_eq!(frozen.series(3, "worst_fd_ratio"), [one("all", 0.25), one("none", 0.0)]);
        assert_eq!(frozen.series(4, "oldest_start_time_seconds"), [one("all", 1000.0 + 200.0 / ticks)]);
        assert_eq!(frozen.series(5, "states")[..2], [one("all Running", 0.0), one("all Sleeping", 2.0)]);
        let expected = [one("all resident", 15.0 * page), one("all virtual", 2e6), one("all swapped", 6144.0)];
        assert_eq!(frozen.series(6, "memory_bytes")[..3], expected);
        std::fs::write(frozen.path(1).join("io"), "read_bytes: 140\nwrite_bytes: 0\n").unwrap();
        assert_eq!(frozen.series(7, "read_bytes_total"), [one("all", 40.0)]);
        assert_eq!(frozen.series(8, "write_bytes_total"), [one("all", 0.0)], "ran backwards");
        assert_eq!(frozen.series(9, "context_switches_total")[0], one("all voluntary", 0.0));
        // Another that may not be read is not half a group.
        std::fs::remove_file(frozen.path(2).join("io")).unwrap();
        assert_eq!(frozen.series(10, "read_bytes_total"), [one("all", 40.0)]);
        frozen.table.configure(&settings("group_files = []\n[[groups]]\nname = 'all'\ncomm = ['web']\n"));
        assert_eq!(frozen.series(11, "open_filedesc"), []);
        assert_eq!(frozen.series(12, "num_procs"), [one("all", 2.0)]);
    }

    #[test]
    fn children_are_in_the_group_of_their_parents() {
        let mut frozen = Frozen::new();
        let groups = "[[groups]]\nname = '{{.Comm}}'\ncomm = ['shell', 'daemon']\n";
        frozen.table.configure(&settings(groups));
        let write = |frozen: &Frozen, pid: u32, name: &str, parent: u32| {
            frozen.write(pid, name, 0, pid.into(), 1);
            let path = frozen.path(pid).join("stat");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace(") S 1 ", &format!(") S {parent} "))).unwrap();
        };
        write(&frozen, 1, "init", 0);
        write(&frozen, 50, "shell", 1);
        // The parent may have the greater number.
        write(&frozen, 20, "make", 50);
        write(&frozen, 10, "cc", 20);
        write(&frozen, 60, "alone", 1);
        write(&frozen, 70, "circle", 71);
        write(&frozen, 71, "circle", 70);
        assert_eq!(frozen.series(0, "num_procs"), [one("shell", 3.0)]);
        // It stays there when the parent ends, until it becomes another program.
        frozen.remove(50);
        write(&frozen, 20, "make", 1);
        assert_eq!(frozen.series(1, "num_procs"), [one("shell", 2.0)]);
        write(&frozen, 20, "daemon", 1);
        assert_eq!(frozen.series(2, "num_procs"), [one("shell", 1.0), one("daemon", 1.0)]);
        frozen.table.configure(&settings(&format!("group_children = false\n{groups}")));
        assert_eq!(frozen.series(3, "num_procs"), [one("daemon", 1.0)]);
    }

    #[test]
    fn too_many_groups_are_counted_and_not_shown() {
        let mut frozen = Frozen::large();
        frozen.table.configure(&settings("group_children = false\n[[groups]]\nname = '{{.PID}}'\nuser = ['4242']\n"));
        let status = "Uid:\t0\t4242\t0\t0\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n";
        for pid in 1..=600 {
            frozen.write(pid, "p", 0, 1, 1);
            std::fs::write(frozen.path(pid).join("status"), status).unwrap();
        }
        assert_eq!(frozen.series(0, "num_procs").len(), 500);
        let dropped = |frozen: &Frozen| {
            let mut out = Families::default();
            frozen.table.group_families(&mut out);
            out.single("utilizer_process_groups_dropped_total")
        };
        assert_eq!(dropped(&frozen), Some(100.0));
        // Groups without members make room.
        (1..=50).for_each(|pid| frozen.remove(pid));
        frozen.series(1, "num_procs");
        (601..=640).for_each(|pid| {
            frozen.write(pid, "p", 0, 1, 1);
            std::fs::write(frozen.path(pid).join("status"), status).unwrap();
        });
        let found = frozen.series(2, "num_procs");
        assert_eq!((found.len(), dropped(&frozen)), (500, Some(100.0)));
        assert_eq!(found.iter().filter(|(_, count)| *count == 1.0).count(), 490);
    }

    #[test]
    fn secrets_are_in_no_groups_name() {
        let mut frozen = Frozen::new();
        let groups = "[[groups]]\nname = '{{.ExeBase}} {{.Matches.All}}'\ncmdline = ['(?P<All>.+)']\n";
        frozen.table.configure(&settings(groups));
        frozen.write(1, "web", 0, 1, 1);
        std::fs::write(frozen.path(1).join("cmdline"), "/bin/web\0--password=hunter2\0").unwrap();
        assert_eq!(frozen.series(0, "num_procs"), [one("web /bin/web --password=***", 1.0)]);
        frozen.write(2, "title", 0, 1, 1);
        std::fs::write(frozen.path(2).join("cmdline"), "title --password=/hunter2").unwrap();
        let shown = format!("{:?}", frozen.series(1, "num_procs"));
        assert!(shown.contains("title --password=***") && !shown.contains("hunter2"), "{shown}");
    }

    /// With names that no format likes, some that can't be read, and some that go away between listing and reading.
    #[test]
    fn ten_thousand_processes() {
        let mut frozen = Frozen::large();
        frozen.table.most_kept_files = 300;
        frozen.table.configure(&settings("[[groups]]\nname = '{{.Comm}}'\ncmdline = ['.+']\ncomm = ['even']\n"));
        for pid in 1..=10_000 {
            let name = match pid % 5 {
                0 => "new\nline",
                1 => "quo\"te\\",
                2 => "a) R 1 (b",
                3 => "even",
                _ => "caf\u{e9}",
            };
            frozen.write(pid, name, u64::from(pid), 7, 1);
        }
        for pid in (5..=10_000).step_by(500) {
            let text = std::fs::read(frozen.path(pid).join("stat")).unwrap();
            let text: Vec<u8> = text.iter().map(|byte| if *byte == b'\n' { 0xff } else { *byte }).collect();
            std::fs::write(frozen.path(pid).join("stat"), text).unwrap();
        }
        // Listed and gone, listed and not to be read.
        for pid in [77, 78, 79] {
            std::fs::remove_file(frozen.path(pid).join("stat")).unwrap();
        }
        std::fs::create_dir(frozen.path(77).join("stat")).unwrap();
        frozen.pass(0);
        let counts = frozen.table.counts().clone();
        assert_eq!((counts.processes, counts.threads), (9_997, 3 * 9_997));
        assert_eq!(frozen.table.kept_files, 300);
        frozen.write(9_000, "busy \u{1}", 100_000, 7, 1);
        (100..1000).for_each(|pid| frozen.remove(pid));
        let top = frozen.pass(10).unwrap();
        assert_eq!(top[0].0, 9_000);
        assert_eq!(top.len(), 20);
        assert_eq!(frozen.table.counts().processes, 9_097);
        assert!(frozen.table.kept_files <= 300);
    }

    /// sysinfo reads the same processes by ways of its own.
    #[test]
    fn agrees_with_sysinfo() {
        use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
        let mut table = ProcessTable::new(&HostRoot::default(), &settings("top = 100000"));
        let start = Instant::now();
        table.sample(start).unwrap();
        let mut system = System::new().unwrap();
        let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
        table.sample(start + Duration::from_secs(1)).unwrap();
        let own = table.top(None).unwrap();
        let mut compared = 0;
        for usage in &own {
            let Some(other) = system.process(sysinfo::Pid::from_u32(usage.pid)) else { continue };
            // What began or changed meanwhile is another story.
            if usage.name.as_str() != &*other.name().to_string_lossy() {
                continue;
            }
            let (a, b) = (usage.resident_memory_bytes, other.memory() as f64);
            assert!((a - b).abs() <= 0.2 * a.max(b) + 8e6, "{} {}: {a}, {b}", usage.pid, usage.name);
            let start = usage.start_time_seconds.unwrap();
            assert!((start - other.start_time() as f64).abs() <= 2.0, "{}", usage.name);
            compared += 1;
        }
        let expected = system.processes().len();
        assert!(compared * 10 >= expected * 8, "{compared} of {expected} processes agree, of {}", own.len());
    }

    #[test]
    fn files_beyond_the_bound_are_opened_each_time() {
        let mut frozen = Frozen::new();
        frozen.table.most_kept_files = 2;
        for pid in 1..=5 {
            frozen.write(pid, "p", 0, 1, 1);
        }
        frozen.pass(0);
        assert_eq!(frozen.pass(1).unwrap().len(), 5);
        assert_eq!(frozen.table.kept_files, 2);
        frozen.remove(1);
        frozen.remove(5);
        frozen.pass(2);
        let kept = frozen.table.entries.iter().filter(|entry| entry.file.is_some()).count();
        assert_eq!((kept, frozen.table.kept_files), (2, 2));
        for pid in 2..=4 {
            frozen.remove(pid);
        }
        frozen.pass(3);
        assert_eq!(frozen.table.kept_files, 0);
    }

    #[test]
    fn a_procfs_that_is_not_there_is_an_error_that_names_it() {
        let host = HostRoot { proc: "/nowhere/at/all".into(), ..HostRoot::default() };
        let error = ProcessTable::new(&host, &ProcessSettings::default()).sample(Instant::now()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nowhere/at/all"), "{error}");
    }

    #[test]
    fn finds_this_very_process() {
        let host = HostRoot::default();
        let settings = ProcessSettings { top: usize::MAX, ..ProcessSettings::default() };
        let mut table = ProcessTable::new(&host, &settings);
        let start = Instant::now();
        table.sample(start).unwrap();
        table.sample(start + Duration::from_secs(1)).unwrap();
        let all = table.top(None).unwrap();
        let this = all.iter().find(|usage| usage.pid == std::process::id()).unwrap();
        let comm = std::fs::read_to_string(Path::new(&host.proc("self/comm"))).unwrap();
        assert_eq!(this.name, comm.trim_end());
        assert!(this.resident_memory_bytes > 100_000.0);
        assert!(all.iter().all(|usage| usage.cpu_percent >= 0.0));
    }

    #[test]
    fn paths_are_spelled_without_allocating() {
        let mut buffer = [0; 24];
        assert_eq!(stat_path(0, &mut buffer), c"0/stat");
        assert_eq!(stat_path(u32::MAX, &mut buffer), c"4294967295/stat");
    }
}
