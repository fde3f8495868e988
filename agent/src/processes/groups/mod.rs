//! Groups of processes and what they use together, under process-exporter's names.
//!
//! A process is matched once, when it is seen first or takes another name. Counters are sums of what members used
//! between passes, so that they go on when members end. Of processes that were there before the agent, what they used
//! before is not counted; of those that began since, all is. As process-exporter does it.

mod rule;

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::files::{Files, Status, Transferred};
use super::redact::Redactor;
use super::table::{Entry, Reading};
use super::users::Users;
use crate::collectors::ProcessSettings;
use crate::snapshot::{Families, Labels};
use rule::{Facts, Needs};

pub use rule::{Group, Template};

/// Names may have anything of a process in them, and each is a dozen and a half series.
const MOST_GROUPS: usize = 500;

/// A label is not to hold a whole command line.
const LONGEST_NAME: usize = 200;

/// What hardly ever changes, or was refused, is read again after so many passes.
const PASSES_BETWEEN_SLOW: u32 = 30;

/// No tree of processes is so deep; a circle of parents is.
const DEEPEST: usize = 256;

/// A file of each process in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupFile {
    /// `fd` and `limits`: open files, and their share of the limit.
    Fd,
    /// `io`: bytes from and to storage.
    Io,
    /// `status`: swapped memory, context switches of the first thread. Those of all would take a file for each.
    Status,
    /// `smaps_rollup`: proportional memory. The kernel walks all of a process' memory for it.
    Smaps,
}

/// How a pass came upon a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// As in the pass before.
    Before,
    /// The same process has another name: most often another program.
    Renamed,
    /// It began since the pass before.
    Born,
    /// It is older than the first pass.
    Found,
}

/// A process' place among the groups.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Whether the rules were asked.
    asked: bool,
    born: bool,
    member: Option<Box<Member>>,
}

impl Membership {
    /// Takes note of how a pass came upon the process.
    pub(super) fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Before => {}
            Seen::Renamed => self.asked = false,
            Seen::Born => *self = Self { born: true, ..Self::default() },
            Seen::Found => *self = Self::default(),
        }
    }
}

/// What a member's counters were at the last pass.
#[derive(Debug)]
struct Member {
    group: u32,
    /// From `stat`: user and system time, minor and major faults.
    base: [u64; 4],
    /// Bytes read and written, or `None` before the first reading.
    io: Option<[u64; 2]>,
    switches: Option<[u64; 2]>,
    most_open_files: Option<u64>,
    age: u32,
    /// `io` and `smaps_rollup` are the user's and root's: no use in asking again at once.
    refused: [bool; 2],
}

/// The sums of a group.
struct Sums {
    labels: GroupLabels,
    /// User and system time in ticks, minor and major faults.
    base: [u64; 4],
    /// Bytes read and written; `None` as long as no member's were to be read. As the others below.
    io: Option<[u64; 2]>,
    switches: Option<[u64; 2]>,
    now: Now,
    /// Passes without a member.
    empty: u32,
}

/// What a group's members have at this moment.
#[derive(Debug, Clone, Copy, Default)]
struct Now {
    processes: u64,
    threads: u64,
    resident_bytes: u64,
    virtual_bytes: u64,
    swapped_bytes: Option<u64>,
    /// Proportionally: resident and swapped.
    shares: Option<[u64; 2]>,
    /// In the order of [`STATES`].
    states: [u64; 5],
    open_files: Option<u64>,
    worst_ratio: Option<f64>,
    oldest_ticks: Option<u64>,
}

const STATES: [&str; 5] = ["Running", "Sleeping", "Waiting", "Zombie", "Other"];

struct GroupLabels {
    group: Labels,
    user: Labels,
    system: Labels,
    resident: Labels,
    virtually: Labels,
    swapped: Labels,
    share: Labels,
    swapped_share: Labels,
    states: [Labels; 5],
    voluntary: Labels,
    forced: Labels,
}

impl GroupLabels {
    fn new(name: &str) -> Self {
        let with = |key, value| Labels::new([("groupname", name), (key, value)]);
        Self {
            group: Labels::new([("groupname", name)]),
            user: with("mode", "user"),
            system: with("mode", "system"),
            resident: with("memtype", "resident"),
            virtually: with("memtype", "virtual"),
            swapped: with("memtype", "swapped"),
            share: with("memtype", "proportionalResident"),
            swapped_share: with("memtype", "proportionalSwapped"),
            states: STATES.map(|state| with("state", state)),
            voluntary: with("ctxswitchtype", "voluntary"),
            forced: with("ctxswitchtype", "nonvoluntary"),
        }
    }
}

/// The groups of the configuration.
pub(super) struct Groups {
    rules: Vec<Group>,
    needs: Needs,
    children: bool,
    files: Vec<GroupFile>,
    sums: Vec<Sums>,
    by_name: HashMap<String, u32>,
    /// So many at the beginning have names that are always there, and make no room for others.
    fixed: usize,
    /// Processes that found no place because there were too many groups.
    dropped: u64,
    errors: Errors,
}

#[derive(Default)]
struct Errors {
    passes: u64,
    processes: u64,
    partial: u64,
}

/// What the groups read with.
pub(super) struct Sources<'a> {
    pub(super) proc: BorrowedFd<'a>,
    pub(super) files: &'a mut Files,
    pub(super) users: &'a mut Users,
    pub(super) redactor: &'a Redactor,
    pub(super) page_bytes: u64,
}

impl Groups {
    pub(super) fn new(settings: &ProcessSettings) -> Self {
        let mut groups = Self {
            rules: settings.groups.clone(),
            needs: Needs::of(&settings.groups),
            children: settings.group_children,
            files: settings.group_files.clone(),
            sums: Vec::new(),
            by_name: HashMap::new(),
            fixed: 0,
            dropped: 0,
            errors: Errors::default(),
        };
        // A group with one name is shown also while nothing runs in it, so that a rule can wait for just that.
        for rule in &settings.groups {
            rule.name.plain().and_then(|name| groups.place(name.to_owned()));
        }
        groups.fixed = groups.sums.len();
        groups
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The processes could not be listed.
    pub(super) fn failed(&mut self) {
        self.errors.passes += 1;
        self.sums.iter_mut().for_each(|sums| sums.now = Now::default());
    }

    /// Sums up what a pass read.
    pub(super) fn update(&mut self, entries: &mut [Entry], sources: &mut Sources<'_>) {
        // Nothing is what a group without members has, but nothing is known of one whose members may not be read.
        let files = &self.files;
        let zero = |file: GroupFile| files.contains(&file).then_some(0);
        let none = Now {
            swapped_bytes: zero(GroupFile::Status),
            shares: zero(GroupFile::Smaps).map(|zero| [zero; 2]),
            open_files: zero(GroupFile::Fd),
            worst_ratio: files.contains(&GroupFile::Fd).then_some(0.0),
            ..Now::default()
        };
        self.sums.iter_mut().for_each(|sums| sums.now = none);
        let mut without = Vec::new();
        for (index, entry) in entries.iter_mut().enumerate() {
            if entry.now.is_none() {
                self.errors.processes += 1;
            } else if !entry.membership.asked {
                entry.membership.asked = true;
                match self.by_rules(entry, sources) {
                    Some(group) => entry.join(group),
                    None => {
                        entry.membership.member = None;
                        without.push(index);
                    }
                }
            }
        }
        if self.children {
            for index in without {
                if let Some(group) = of_parents(entries, index) {
                    entries[index].join(group);
                }
            }
        }
        for entry in entries {
            if let (Some(now), Some(member)) = (&entry.now, &mut entry.membership.member) {
                self.add(entry.pid, now, member, sources);
            }
        }
        for sums in &mut self.sums {
            sums.empty = if sums.now.processes > 0 { 0 } else { sums.empty.saturating_add(1) };
        }
    }

    /// The group that the rules put a process into.
    fn by_rules(&mut self, entry: &Entry, sources: &mut Sources<'_>) -> Option<u32> {
        let Sources { proc, files, users, redactor, .. } = sources;
        let mut facts =
            Facts { pid: entry.pid, comm: String::from_utf8_lossy(&entry.name).into_owned(), ..Facts::default() };
        if self.needs.command_line
            && let Some((raw, cut)) = files.command_line(*proc, entry.pid)
        {
            let program = raw.split(|byte| *byte == 0).next().unwrap_or_default();
            facts.program = String::from_utf8_lossy(program).into_owned();
            facts.shown_program = redactor.command_line(program, cut && program.len() == raw.len());
            facts.command_line = redactor.command_line(raw, cut);
        }
        if self.needs.user
            && let Some(Status { user: Some(user), .. }) = files.status(*proc, entry.pid)
        {
            facts.user = users.name(user).to_string();
        }
        if self.needs.place
            && let Some(place) = files.place(*proc, entry.pid)
        {
            facts.unit = place.unit.map(Into::into).unwrap_or_default();
            facts.container = place.container.map(Into::into).unwrap_or_default();
            facts.cgroup = place.path.into();
        }
        let mut name = self.rules.iter().find_map(|rule| rule.name_for(&facts)).filter(|name| !name.is_empty())?;
        if let Some((end, _)) = name.char_indices().nth(LONGEST_NAME) {
            name.truncate(end);
        }
        self.place(name)
    }

    /// The place of the group of this name; `None` where there are too many.
    fn place(&mut self, name: String) -> Option<u32> {
        if let Some(place) = self.by_name.get(&name) {
            return Some(*place);
        }
        let sums = Sums {
            labels: GroupLabels::new(&name),
            base: [0; 4],
            io: None,
            switches: None,
            now: Now::default(),
            empty: 0,
        };
        let place = if self.sums.len() < MOST_GROUPS {
            self.sums.push(sums);
            self.sums.len() - 1
        } else {
            // The one that has been empty for longest makes room.
            let others = self.sums.iter().enumerate().skip(self.fixed);
            let (place, longest) = others.max_by_key(|(_, sums)| sums.empty)?;
            if longest.empty == 0 {
                self.dropped += 1;
                return None;
            }
            self.by_name.retain(|_, old| *old as usize != place);
            self.sums[place] = sums;
            place
        };
        let place = u32::try_from(place).ok()?;
        self.by_name.insert(name, place);
        Some(place)
    }

    /// Adds a member's part.
    fn add(&mut self, pid: u32, now: &Reading, member: &mut Member, sources: &mut Sources<'_>) {
        let Some(sums) = self.sums.get_mut(member.group as usize) else { return };
        let Sources { proc, files, page_bytes, .. } = sources;
        let reads = |file: GroupFile| self.files.contains(&file);
        let is_slow = member.age.is_multiple_of(PASSES_BETWEEN_SLOW);
        member.age = member.age.wrapping_add(1);
        let mut is_partial = false;

        let base = now.base();
        grow(&mut sums.base, base, member.base);
        member.base = base;
        let gauges = &mut sums.now;
        if gauges.processes == 0 {
            *gauges = Now::default();
        }
        gauges.processes += 1;
        gauges.threads += now.threads;
        gauges.resident_bytes = gauges.resident_bytes.saturating_add(now.resident_pages.saturating_mul(*page_bytes));
        gauges.virtual_bytes = gauges.virtual_bytes.saturating_add(now.virtual_bytes);
        gauges.states[state(now.state)] += 1;
        gauges.oldest_ticks = Some(gauges.oldest_ticks.map_or(now.start_ticks, |oldest| oldest.min(now.start_ticks)));

        if reads(GroupFile::Fd) {
            if is_slow {
                member.most_open_files = files.most_open_files(*proc, pid);
            }
            match files.open_files(*proc, pid) {
                Some(open) => {
                    add_to(&mut gauges.open_files, open);
                    if let Some(most) = member.most_open_files.filter(|most| *most > 0) {
                        let ratio = open as f64 / most as f64;
                        gauges.worst_ratio = Some(gauges.worst_ratio.map_or(ratio, |worst| worst.max(ratio)));
                    }
                }
                None => is_partial = true,
            }
        }
        if reads(GroupFile::Io) && (is_slow || !member.refused[0]) {
            let read = files.transferred(*proc, pid);
            member.refused[0] = read.is_none();
            match read {
                Some(Transferred { read, written }) => count(&mut sums.io, &mut member.io, [read, written]),
                None => is_partial = true,
            }
        }
        if reads(GroupFile::Status) {
            match files.status(*proc, pid) {
                Some(status) => {
                    add_to(&mut gauges.swapped_bytes, status.swapped_bytes);
                    count(&mut sums.switches, &mut member.switches, status.switches);
                }
                None => is_partial = true,
            }
        }
        if reads(GroupFile::Smaps) && (is_slow || !member.refused[1]) {
            let shares = files.proportional(*proc, pid);
            member.refused[1] = shares.is_none();
            match shares {
                Some(shares) => {
                    let [resident, swapped] = gauges.shares.get_or_insert([0; 2]);
                    *resident = resident.saturating_add(shares.resident_bytes);
                    *swapped = swapped.saturating_add(shares.swapped_bytes);
                }
                None => is_partial = true,
            }
        }
        self.errors.partial += u64::from(is_partial);
    }

    /// Appends the families.
    pub(super) fn families(&self, ticks_per_second: f64, boot: Option<u64>, out: &mut Families) {
        if self.is_empty() {
            return;
        }
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second;

        out.gauge("namedprocess_namegroup_num_procs", "number of processes in this group");
        self.each(out, |sums, push| push(&sums.labels.group, sums.now.processes as f64));
        out.counter("namedprocess_namegroup_cpu_seconds_total", "Cpu user usage in seconds");
        self.each(out, |sums, push| {
            push(&sums.labels.user, seconds(sums.base[0]));
            push(&sums.labels.system, seconds(sums.base[1]));
        });
        out.counter("namedprocess_namegroup_read_bytes_total", "number of bytes read by this group");
        self.each(out, |sums, push| {
            if let Some([read, _]) = sums.io {
                push(&sums.labels.group, read as f64);
            }
        });
        out.counter("namedprocess_namegroup_write_bytes_total", "number of bytes written by this group");
        self.each(out, |sums, push| {
            if let Some([_, written]) = sums.io {
                push(&sums.labels.group, written as f64);
            }
        });
        out.counter("namedprocess_namegroup_major_page_faults_total", "Major page faults");
        self.each(out, |sums, push| push(&sums.labels.group, sums.base[3] as f64));
        out.counter("namedprocess_namegroup_minor_page_faults_total", "Minor page faults");
        self.each(out, |sums, push| push(&sums.labels.group, sums.base[2] as f64));
        out.counter("namedprocess_namegroup_context_switches_total", "Context switches");
        self.each(out, |sums, push| {
            if let Some([voluntary, forced]) = sums.switches {
                push(&sums.labels.voluntary, voluntary as f64);
                push(&sums.labels.forced, forced as f64);
            }
        });
        out.gauge("namedprocess_namegroup_memory_bytes", "number of bytes of memory in use");
        self.each(out, |Sums { labels, now, .. }, push| {
            push(&labels.resident, now.resident_bytes as f64);
            push(&labels.virtually, now.virtual_bytes as f64);
            if let Some(swapped) = now.swapped_bytes {
                push(&labels.swapped, swapped as f64);
            }
            if let Some([share, swapped_share]) = now.shares {
                push(&labels.share, share as f64);
                push(&labels.swapped_share, swapped_share as f64);
            }
        });
        out.gauge("namedprocess_namegroup_open_filedesc", "number of open file descriptors for this group");
        self.each(out, |sums, push| {
            if let Some(open) = sums.now.open_files {
                push(&sums.labels.group, open as f64);
            }
        });
        out.gauge(
            "namedprocess_namegroup_worst_fd_ratio",
            "the worst (closest to 1) ratio between open fds and max fds among all procs in this group",
        );
        self.each(out, |sums, push| {
            if let Some(ratio) = sums.now.worst_ratio {
                push(&sums.labels.group, ratio);
            }
        });
        out.gauge(
            "namedprocess_namegroup_oldest_start_time_seconds",
            "start time in seconds since 1970/01/01 of oldest process in group",
        );
        self.each(out, |sums, push| {
            if let (Some(ticks), Some(boot)) = (sums.now.oldest_ticks, boot) {
                push(&sums.labels.group, boot as f64 + seconds(ticks));
            }
        });
        out.gauge("namedprocess_namegroup_num_threads", "Number of threads");
        self.each(out, |sums, push| push(&sums.labels.group, sums.now.threads as f64));
        out.gauge(
            "namedprocess_namegroup_states",
            "Number of processes in states Running, Sleeping, Waiting, Zombie, or Other",
        );
        self.each(out, |sums, push| {
            for (labels, count) in sums.labels.states.iter().zip(sums.now.states) {
                push(labels, count as f64);
            }
        });
        out.counter("namedprocess_scrape_errors", "general scrape errors: no proc metrics collected during a cycle");
        out.value(self.errors.passes as f64);
        out.counter("namedprocess_scrape_procread_errors", "incremented each time a proc's metrics collection fails");
        out.value(self.errors.processes as f64);
        out.counter(
            "namedprocess_scrape_partial_errors",
            "incremented each time a tracked proc's metrics collection fails partially, e.g. unreadable I/O stats",
        );
        out.value(self.errors.partial as f64);
        out.counter(
            "utilizer_process_groups_dropped_total",
            "Processes that are in no group because there were too many groups.",
        );
        out.value(self.dropped as f64);
    }

    fn each(&self, out: &mut Families, show: impl Fn(&Sums, &mut dyn FnMut(&Labels, f64))) {
        for sums in &self.sums {
            show(sums, &mut |labels, value| out.push(labels, value));
        }
    }
}

impl Entry {
    /// Becomes a member. One that changes its group takes what it used so far not along.
    fn join(&mut self, group: u32) {
        let Some(now) = &self.now else { return };
        let born = self.membership.born;
        match &mut self.membership.member {
            Some(member) => member.group = group,
            None => {
                self.membership.member = Some(Box::new(Member {
                    group,
                    base: if born { [0; 4] } else { now.base() },
                    io: born.then_some([0; 2]),
                    switches: born.then_some([0; 2]),
                    most_open_files: None,
                    age: 0,
                    refused: [false; 2],
                }));
            }
        }
    }
}

impl Reading {
    /// The counters of `stat` that groups sum up.
    fn base(&self) -> [u64; 4] {
        [self.user_ticks, self.system_ticks, self.minor_faults, self.major_faults]
    }
}

/// The group of the nearest parent that is in one.
fn of_parents(entries: &[Entry], index: usize) -> Option<u32> {
    let mut parent = entries[index].now?.parent;
    for _ in 0..DEEPEST {
        let position = entries.binary_search_by_key(&parent, |entry| entry.pid).ok()?;
        let entry = &entries[position];
        if let Some(member) = &entry.membership.member {
            return Some(member.group);
        }
        parent = entry.now.map(|now| now.parent).filter(|parent| *parent != entry.pid)?;
    }
    None
}

/// The place among [`STATES`].
fn state(letter: u8) -> usize {
    match letter {
        b'R' => 0,
        b'S' => 1,
        b'D' => 2,
        b'Z' => 3,
        _ => 4,
    }
}

/// Adds what each counter grew by; one that ran backwards did not grow.
fn grow<const N: usize>(sums: &mut [u64; N], now: [u64; N], before: [u64; N]) {
    for ((sum, now), before) in sums.iter_mut().zip(now).zip(before) {
        *sum = sum.saturating_add(now.saturating_sub(before));
    }
}

/// Adds what counters of a file grew by that was not to be read at all times.
fn count<const N: usize>(sums: &mut Option<[u64; N]>, before: &mut Option<[u64; N]>, now: [u64; N]) {
    grow(sums.get_or_insert([0; N]), now, before.unwrap_or(now));
    *before = Some(now);
}

fn add_to(sum: &mut Option<u64>, value: u64) {
    *sum = Some(sum.unwrap_or(0).saturating_add(value));
}
