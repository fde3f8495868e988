//! What units and containers use, from the unified hierarchy of control groups (cgroup v2); and, as node_exporter's
//! collector of this name, how many groups each controller has, from `/proc/cgroups`.
//!
//! The families are our own (`utilizer_cgroup_…`). cAdvisor's `container_…` promise labels that only a container's
//! manager knows (image, pod), and beside a kubelet the same use would be counted twice.
//!
//! Off by default, as node_exporter's is: a host with a hundred services has some two thousand series of them.
//! Groups are looked for at interval passes; their files, kept open, are read at each pass.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot, KeptFile, TextError, fields, lines, number};
use crate::pattern::{Pattern, shows};
use crate::processes::cgroup::{container_of, unit_of};
use crate::snapshot::{Families, Labels, MetricType};

/// Groups that are looked at, shown or not.
const MAX_GROUPS: usize = 10_000;
/// Limits change seldom, and so does which files a group has: they are looked at every so many interval passes.
const SLOW_EVERY: u32 = 30;
/// A folder of a group's with no more links than these has no folders in it.
const LINKS_OF_A_LEAF: u64 = 2;

/// `[collectors.cgroups]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only groups whose path matches.
    pub include: Pattern,
    /// Show no groups whose path matches; units that run nothing by default.
    pub exclude: Pattern,
    /// How deep below the root a group may lie.
    pub max_depth: usize,
    /// More groups than these are not shown; those nearest to the root are.
    pub max_cgroups: usize,
    /// Show the time lost to waiting, too (`cpu.pressure`, `io.pressure`, `memory.pressure`).
    pub pressure: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            include: Pattern::default(),
            exclude: Pattern::fixed(r"\.(automount|device|mount|socket|swap|target)$"),
            max_depth: 5,
            max_cgroups: 500,
            pressure: false,
        }
    }
}

/// The families with one sample a group.
const METRICS: [(&str, &str, MetricType); 21] = {
    use MetricType::{Counter, Gauge};
    [
        ("utilizer_cgroup_cpu_usage_seconds_total", "CPU time of the control group and those below it.", Counter),
        ("utilizer_cgroup_cpu_user_seconds_total", "The part of it in user mode.", Counter),
        ("utilizer_cgroup_cpu_system_seconds_total", "The part of it in the kernel.", Counter),
        ("utilizer_cgroup_cpu_periods_total", "Periods in which the group's CPU quota was looked at.", Counter),
        ("utilizer_cgroup_cpu_throttled_periods_total", "Periods in which the quota was used up.", Counter),
        ("utilizer_cgroup_cpu_throttled_seconds_total", "Time for which the quota held tasks back.", Counter),
        (
            "utilizer_cgroup_memory_usage_bytes",
            "Memory of the control group and those below it, with page cache.",
            Gauge,
        ),
        ("utilizer_cgroup_memory_peak_bytes", "The most memory that it had.", Gauge),
        ("utilizer_cgroup_memory_swap_usage_bytes", "Swap that it uses.", Gauge),
        ("utilizer_cgroup_memory_limit_hits_total", "How often it was about to exceed its memory limit.", Counter),
        ("utilizer_cgroup_memory_oom_events_total", "How often memory could not be had within its limit.", Counter),
        ("utilizer_cgroup_memory_oom_kills_total", "Processes of it that were killed for want of memory.", Counter),
        ("utilizer_cgroup_tasks", "Processes and threads in the control group and those below it.", Gauge),
        ("utilizer_cgroup_memory_limit_bytes", "Memory that it may have; absent without a limit.", Gauge),
        ("utilizer_cgroup_memory_swap_limit_bytes", "Swap that it may use; absent without a limit.", Gauge),
        ("utilizer_cgroup_tasks_limit", "Processes and threads that it may have; absent without a limit.", Gauge),
        ("utilizer_cgroup_cpu_waiting_seconds_total", "Time in which some of its tasks waited for a CPU.", Counter),
        ("utilizer_cgroup_io_waiting_seconds_total", "Time in which some of its tasks waited for I/O.", Counter),
        ("utilizer_cgroup_io_stalled_seconds_total", "Time in which all of its tasks waited for I/O.", Counter),
        ("utilizer_cgroup_memory_waiting_seconds_total", "Time in which some of its tasks waited for memory.", Counter),
        ("utilizer_cgroup_memory_stalled_seconds_total", "Time in which all of its tasks waited for memory.", Counter),
    ]
};

/// The families with one sample a group and device, and the key in `io.stat`.
const DISK_METRICS: [(&str, &str, &[u8]); 4] = [
    ("utilizer_cgroup_io_read_bytes_total", "Bytes that the control group and those below it read.", b"rbytes"),
    ("utilizer_cgroup_io_written_bytes_total", "Bytes that they wrote.", b"wbytes"),
    ("utilizer_cgroup_io_reads_total", "Their reads.", b"rios"),
    ("utilizer_cgroup_io_writes_total", "Their writes.", b"wios"),
];

/// What a file's numbers are: which of [`METRICS`], under which key, divided by what.
type Keys = &'static [(usize, &'static [u8], f64)];

const CPU_STAT: Keys = &[
    (0, b"usage_usec", 1e6),
    (1, b"user_usec", 1e6),
    (2, b"system_usec", 1e6),
    (3, b"nr_periods", 1.0),
    (4, b"nr_throttled", 1.0),
    (5, b"throttled_usec", 1e6),
];
const MEMORY_EVENTS: Keys = &[(9, b"max", 1.0), (10, b"oom", 1.0), (11, b"oom_kill", 1.0)];

/// Files of one number.
const SINGLE: [(&str, usize); 4] =
    [("memory.current", 6), ("memory.peak", 7), ("memory.swap.current", 8), ("pids.current", 12)];
/// Files of one number or `max`, read seldom.
const LIMITS: [(&str, usize); 3] = [("memory.max", 13), ("memory.swap.max", 14), ("pids.max", 15)];
/// Pressure files, and which of [`METRICS`] their lines are. All of a group waiting for a CPU means nothing.
const PRESSURE: [(&str, usize, Option<usize>); 3] =
    [("cpu.pressure", 16, None), ("io.pressure", 17, Some(18)), ("memory.pressure", 19, Some(20))];

type Values = [Option<f64>; METRICS.len()];

/// A file that a group may lack.
struct Source {
    file: KeptFile,
    /// Interval passes before it is looked for again.
    absent_for: u32,
}

impl Source {
    fn new(folder: &Path, name: &str) -> Self {
        Self { file: KeptFile::record(folder.join(name)), absent_for: 0 }
    }

    /// `None` where there is no such file, or where it may not be read: that costs this value only.
    fn read<T>(
        &mut self,
        pass: Pass,
        parse: impl FnOnce(&[u8]) -> Result<T, TextError>,
    ) -> Result<Option<T>, CollectError> {
        if self.absent_for > 0 {
            self.absent_for -= u32::from(pass == Pass::Interval);
            return Ok(None);
        }
        match self.file.read(parse) {
            Ok(value) => value.map(Some).map_err(CollectError::malformed(self.file.path())),
            Err(_) => {
                // Between intervals the group itself may have gone, and be there again at the next: a unit that restarts.
                if pass == Pass::Interval {
                    self.absent_for = SLOW_EVERY;
                }
                Ok(None)
            }
        }
    }
}

/// A group's files.
struct Files {
    cpu: Source,
    events: Source,
    io: Source,
    single: [Source; SINGLE.len()],
    limits: [Source; LIMITS.len()],
    /// None where they are not asked for.
    pressure: Vec<Source>,
}

impl Files {
    fn new(folder: &Path, pressure: bool) -> Self {
        let source = |name: &str| Source::new(folder, name);
        Self {
            cpu: source("cpu.stat"),
            events: source("memory.events"),
            io: source("io.stat"),
            single: SINGLE.map(|(name, _)| source(name)),
            limits: LIMITS.map(|(name, _)| source(name)),
            pressure: if pressure { PRESSURE.iter().map(|(name, ..)| source(name)).collect() } else { Vec::new() },
        }
    }
}

/// A device that a group did I/O on.
struct Disk {
    labels: Labels,
    counts: [Option<u64>; DISK_METRICS.len()],
}

/// A control group.
struct Group {
    /// From the hierarchy's root, as the kernel has it.
    path: Box<[u8]>,
    folder: PathBuf,
    /// The groups in it; taken out while they are looked through.
    listing: Option<Directory>,
    depth: usize,
    /// `None` where the patterns leave it out.
    labels: Option<Labels>,
    /// `None` where it is not shown.
    files: Option<Box<Files>>,
    values: Values,
    disks: Cache<Disk>,
    /// Its limits were read.
    limits_known: bool,
}

impl Group {
    fn new(raw: &[u8], path: &str, root: &Path, depth: usize, settings: &Settings) -> Self {
        let shown = shows(&settings.include, &settings.exclude, path);
        let folder = root.join(OsStr::from_bytes(raw.strip_prefix(b"/").unwrap_or(raw)));
        Self {
            path: raw.into(),
            listing: Some(Directory::folders(folder.clone())),
            folder,
            depth,
            labels: shown.then(|| labels(path, None)),
            files: None,
            values: [None; METRICS.len()],
            disks: Cache::default(),
            limits_known: false,
        }
    }

    fn read(&mut self, pass: Pass, slow: bool, devices: &mut Devices) -> Result<(), CollectError> {
        let Self { labels, files, values, disks, limits_known, .. } = self;
        let (Some(files), Some(labels)) = (files, labels) else { return Ok(()) };
        let path = labels.get("cgroup").unwrap_or_default();
        let mut fresh: Values = [None; METRICS.len()];
        for (_, at) in LIMITS {
            copy(values, &mut fresh, at);
        }
        files.cpu.read(pass, |text| keyed(text, CPU_STAT, &mut fresh))?;
        files.events.read(pass, |text| keyed(text, MEMORY_EVENTS, &mut fresh))?;
        for (source, (_, at)) in files.single.iter_mut().zip(SINGLE) {
            let value = source.read(pass, single)?.flatten();
            set(&mut fresh, at, value.map(|value| value as f64));
        }
        if slow || !*limits_known {
            for (source, (_, at)) in files.limits.iter_mut().zip(LIMITS) {
                let value = source.read(pass, single)?.flatten();
                set(&mut fresh, at, value.map(|value| value as f64));
            }
            *limits_known = true;
        }
        for (source, (_, some, full)) in files.pressure.iter_mut().zip(PRESSURE) {
            source.read(pass, |text| pressure(text, some, full, &mut fresh))?;
        }
        disks.begin();
        let read = files.io.read(pass, |text| io_stat(text, path, disks, devices));
        disks.end();
        read?;
        *values = fresh;
        Ok(())
    }
}

fn set(values: &mut Values, at: usize, value: Option<f64>) {
    if let Some(slot) = values.get_mut(at) {
        *slot = value;
    }
}

fn copy(from: &Values, to: &mut Values, at: usize) {
    set(to, at, from.get(at).copied().flatten());
}

fn labels(path: &str, device: Option<&str>) -> Labels {
    let (container, unit) = (container_of(path), unit_of(path));
    let pairs = [("cgroup", Some(path)), ("container", container), ("device", device), ("unit", unit)];
    Labels::owned(pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))))
}

/// Lines of a key and a number; those that are not asked for are passed over.
fn keyed(text: &[u8], keys: Keys, values: &mut Values) -> Result<(), TextError> {
    for line in lines(text)? {
        let mut fields = fields(line);
        let key = fields.text("a key")?;
        if let Some((at, _, divisor)) = keys.iter().find(|(_, known, _)| *known == key) {
            let value = fields.number("a number behind its key")?;
            set(values, *at, Some(value as f64 / divisor));
        }
    }
    Ok(())
}

/// One number, or `max` for none.
fn single(text: &[u8]) -> Result<Option<u64>, TextError> {
    let expected = || TextError::expected("a number, or max, and an end of line", text);
    match text.strip_suffix(b"\n").ok_or_else(expected)? {
        b"max" => Ok(None),
        digits => number(digits).map(Some).ok_or_else(expected),
    }
}

/// Lines of `some` and `full` with `total=` and microseconds.
fn pressure(text: &[u8], some: usize, full: Option<usize>, values: &mut Values) -> Result<(), TextError> {
    for line in lines(text)? {
        let mut fields = fields(line);
        let at = match fields.next() {
            Some(b"some") => Some(some),
            Some(b"full") => full,
            _ => return Err(TextError::expected("a line of some or full", line)),
        };
        let total = fields.find_map(|field| field.strip_prefix(b"total=")).and_then(number);
        let total = total.ok_or_else(|| TextError::expected("total= and a number", line))?;
        if let Some(at) = at {
            set(values, at, Some(total as f64 / 1e6));
        }
    }
    Ok(())
}

/// Lines of a device's numbers and `key=number`. Linux 5.15 and later leave the line open behind a device without figures,
/// so that the next one follows on it, or nothing; NVMe multipath and ZFS have devices that are called `(unknown)`.
fn io_stat(text: &[u8], path: &str, disks: &mut Cache<Disk>, devices: &mut Devices) -> Result<(), TextError> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (text, open) = text.split_at(whole);
    if let Some(field) = fields(open).find(|field| !names_device(field)) {
        return Err(TextError::expected("an end of line after the last figure", field));
    }
    for line in lines(text)? {
        let mut fields = fields(line);
        let mut device = fields.text("a device's numbers")?;
        if !names_device(device) {
            return Err(TextError::expected("a device's numbers", line));
        }
        while let Some(next) = fields.clone().next().filter(|next| names_device(next)) {
            device = next;
            fields.next();
        }
        if device == UNKNOWN_DEVICE || fields.clone().next().is_none() {
            continue;
        }
        let disk = disks.get(device, |numbers| Disk {
            labels: labels(path, Some(devices.name(numbers))),
            counts: [None; DISK_METRICS.len()],
        });
        disk.counts = [None; DISK_METRICS.len()];
        for field in fields {
            let mut parts = field.splitn(2, |byte| *byte == b'=');
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
                return Err(TextError::expected("key=number", line));
            };
            for (slot, (_, _, known)) in disk.counts.iter_mut().zip(DISK_METRICS) {
                if known == key {
                    *slot = Some(number(value).ok_or_else(|| TextError::expected("key=number", field))?);
                }
            }
        }
    }
    Ok(())
}

/// What the kernel calls a device that it hides.
const UNKNOWN_DEVICE: &[u8] = b"(unknown)";

fn names_device(text: &[u8]) -> bool {
    text == UNKNOWN_DEVICE || is_device(text)
}

/// `8:0`
fn is_device(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |byte| *byte == b':');
    let is_number = |part: Option<&[u8]>| part.is_some_and(|part| number(part).is_some());
    is_number(parts.next()) && is_number(parts.next())
}

/// Names of block devices by their numbers, each looked up once.
struct Devices {
    sys: PathBuf,
    names: HashMap<Box<str>, Box<str>>,
}

impl Devices {
    /// Numbers are those of a device, so that no path can be made of them; a device that is not there keeps them.
    fn name(&mut self, numbers: &str) -> &str {
        let Self { sys, names } = self;
        names.entry(numbers.into()).or_insert_with(|| {
            let uevent = KeptFile::record(sys.join(numbers).join("uevent")).read(|text| {
                let name = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"DEVNAME="));
                name.map(|name| String::from_utf8_lossy(name).into_owned().into_boxed_str())
            });
            uevent.ok().flatten().unwrap_or_else(|| numbers.into())
        })
    }
}

/// A controller of `/proc/cgroups`.
struct Controller {
    labels: Labels,
    groups: u64,
    enabled: u64,
}

/// `name hierarchy groups enabled`, under a line of titles.
fn controllers(text: &[u8], known: &mut Cache<Controller>) -> Result<(), TextError> {
    known.begin();
    for line in lines(text)?.filter(|line| !line.starts_with(b"#")) {
        let mut fields = fields(line);
        let controller = known.get(fields.text("a controller's name")?, |name| Controller {
            labels: Labels::new([("subsys_name", name)]),
            groups: 0,
            enabled: 0,
        });
        fields.number("a hierarchy's number")?;
        controller.groups = fields.number("how many groups there are")?;
        controller.enabled = fields.number("whether it is enabled")?;
    }
    known.end();
    Ok(())
}

/// See the module.
pub(crate) struct Cgroups {
    settings: Settings,
    root: PathBuf,
    root_listing: Directory,
    groups: Cache<Group>,
    devices: Devices,
    controllers_file: KeptFile,
    controllers: Cache<Controller>,
    /// There is a unified hierarchy.
    unified: bool,
    dropped: usize,
    rounds: u32,
    pass: Pass,
    failure: Option<CollectError>,
}

impl Cgroups {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        let root = host.sys("fs/cgroup");
        Self {
            settings: settings.clone(),
            root_listing: Directory::folders(root.clone()),
            root,
            groups: Cache::default(),
            devices: Devices { sys: host.sys("dev/block"), names: HashMap::new() },
            controllers_file: KeptFile::record(host.proc("cgroups")),
            controllers: Cache::default(),
            unified: false,
            dropped: 0,
            rounds: 0,
            pass: Pass::Interval,
            failure: None,
        }
    }

    /// Finds the groups, those nearest to the root first, and decides which are shown.
    fn find(&mut self) -> Result<(), CollectError> {
        let Self { settings, root, root_listing, groups, .. } = self;
        groups.begin();
        // Where version 1 is mounted beside it, the unified hierarchy has no controllers, and lies elsewhere.
        self.unified = root.join("cgroup.controllers").exists();
        if self.unified {
            let mut key = Vec::new();
            let mut count = 0;
            let mut add = |groups: &mut Cache<Group>, listing: &mut Directory, path: &[u8], depth: usize| {
                for name in listing.list()?.unwrap_or_default() {
                    if count >= MAX_GROUPS {
                        break;
                    }
                    count += 1;
                    key.clear();
                    key.extend_from_slice(path);
                    key.push(b'/');
                    key.extend_from_slice(name);
                    groups.get(&key, |path| Group::new(&key, path, root, depth, settings));
                }
                Ok::<(), CollectError>(())
            };
            add(groups, root_listing, b"", 1)?;
            let mut next = 0;
            while let Some(group) = groups.nth(next) {
                next += 1;
                // Some file systems of frozen trees count no links and say 1.
                let is_leaf = std::fs::metadata(&group.folder).is_ok_and(|found| found.nlink() == LINKS_OF_A_LEAF);
                let (depth, path) = (group.depth + 1, group.path.clone());
                if is_leaf || depth > settings.max_depth {
                    continue;
                }
                let Some(mut listing) = group.listing.take() else { continue };
                // One that may not be looked into is shown without what is in it.
                let _ = add(groups, &mut listing, &path, depth);
                if let Some(group) = groups.nth(next - 1) {
                    group.listing = Some(listing);
                }
            }
        }
        groups.end();
        let mut room = settings.max_cgroups;
        self.dropped = 0;
        for group in groups.asked_mut().filter(|group| group.labels.is_some()) {
            if room == 0 {
                self.dropped += 1;
                group.files = None;
                group.limits_known = false;
                continue;
            }
            room -= 1;
            let Group { files, folder, .. } = group;
            files.get_or_insert_with(|| Box::new(Files::new(folder, settings.pressure)));
        }
        Ok(())
    }
}

impl Collector for Cgroups {
    fn name(&self) -> &'static str {
        "cgroups"
    }

    /// Its thousands of files would take all places among those that are kept open; so the others take theirs before.
    fn runs_last(&self) -> bool {
        true
    }

    fn begin(&mut self, pass: Pass) {
        self.pass = pass;
        if pass == Pass::Interval {
            self.failure = self.find().err();
            self.rounds = self.rounds.wrapping_add(1);
        }
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let Self { groups, devices, controllers_file, controllers, pass, rounds, .. } = self;
        let known = controllers_file.read(|text| self::controllers(text, controllers));
        let has_controllers = match known {
            Ok(parsed) => {
                parsed.map_err(CollectError::malformed(controllers_file.path()))?;
                true
            }
            Err(error) if error.is_nothing_here() => false,
            Err(error) => return Err(error.into()),
        };
        if !has_controllers && !self.unified {
            return Ok(Outcome::Nothing);
        }
        if has_controllers {
            // Both help texts are node_exporter's.
            out.gauge("node_cgroups_cgroups", "Current cgroup number of the subsystem.");
            controllers.asked().for_each(|one| out.push(&one.labels, one.groups as f64));
            out.gauge("node_cgroups_enabled", "Current cgroup number of the subsystem.");
            controllers.asked().for_each(|one| out.push(&one.labels, one.enabled as f64));
        }
        if !self.unified {
            return Ok(Outcome::Data);
        }
        let slow = *pass == Pass::Interval && rounds.is_multiple_of(SLOW_EVERY);
        for group in groups.asked_mut() {
            group.read(*pass, slow, devices)?;
        }
        let shown = || groups.asked().filter(|group| group.files.is_some());
        for (at, (name, help, kind)) in METRICS.into_iter().enumerate() {
            out.family(name, help, kind);
            for group in shown() {
                if let (Some(labels), Some(value)) = (&group.labels, group.values.get(at).copied().flatten()) {
                    out.push(labels, value);
                }
            }
        }
        for (at, (name, help, _)) in DISK_METRICS.into_iter().enumerate() {
            out.counter(name, help);
            for disk in shown().flat_map(|group| group.disks.asked()) {
                if let Some(count) = disk.counts.get(at).copied().flatten() {
                    out.push(&disk.labels, count as f64);
                }
            }
        }
        out.gauge("utilizer_cgroups", "Control groups of which figures are shown.");
        out.value(shown().count() as f64);
        out.gauge("utilizer_cgroups_dropped", "Groups that are not shown: more than collectors.cgroups.max_cgroups.");
        out.value(self.dropped as f64);
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "4f0c9a1b2e3d5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";

    struct Tree {
        dir: tempfile::TempDir,
    }

    impl Tree {
        /// A unified hierarchy without groups.
        fn new() -> Self {
            let tree = Self { dir: tempfile::tempdir().unwrap() };
            fs::create_dir_all(tree.dir.path().join("proc")).unwrap();
            tree.write("", "cgroup.controllers", "cpuset cpu io memory pids\n");
            tree
        }

        fn write(&self, group: &str, file: &str, text: &str) {
            let folder = self.folder(group);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
        }

        fn folder(&self, group: &str) -> PathBuf {
            self.dir.path().join("sys/fs/cgroup").join(group.trim_start_matches('/'))
        }

        fn host(&self) -> HostRoot {
            let below = |name| self.dir.path().join(name);
            HostRoot { proc: below("proc"), sys: below("sys"), ..HostRoot::default() }
        }

        fn collector(&self, settings: Settings) -> Cgroups {
            Cgroups::new(&self.host(), &settings)
        }
    }

    fn pass(collector: &mut Cgroups, pass: Pass) -> Result<Families, CollectError> {
        let mut out = Families::default();
        collector.begin(pass);
        collector.collect(&mut out).map(|_| out)
    }

    fn interval(collector: &mut Cgroups) -> Families {
        pass(collector, Pass::Interval).unwrap()
    }

    /// Samples of a family: path, value.
    fn values(out: &Families, family: &str) -> Vec<(String, f64)> {
        let path = |labels: &Labels| labels.get("cgroup").unwrap().to_owned();
        out.samples(family).iter().map(|sample| (path(&sample.labels), sample.value)).collect()
    }

    fn paths(out: &Families) -> Vec<String> {
        values(out, "utilizer_cgroup_tasks").into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_unit_and_a_container_with_all_their_files() {
        let tree = Tree::new();
        let web = "/system.slice/web.service";
        tree.write(web, "cpu.stat", "usage_usec 3500000\nuser_usec 3000000\nsystem_usec 500000\nnr_periods 0\n");
        tree.write(web, "memory.current", "1048576\n");
        tree.write(web, "memory.max", "max\n");
        tree.write(web, "pids.max", "4915\n");
        tree.write(web, "memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n");
        tree.write(web, "io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n259:1 \n");
        tree.write(
            web,
            "memory.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=500000\n",
        );
        fs::create_dir_all(tree.dir.path().join("sys/dev/block/8:0")).unwrap();
        fs::write(tree.dir.path().join("sys/dev/block/8:0/uevent"), "MAJOR=8\nMINOR=0\nDEVNAME=sda\n").unwrap();
        let docker = format!("/system.slice/docker-{ID}.scope");
        tree.write(&docker, "pids.current", "3\n");
        let mut collector = tree.collector(Settings { pressure: true, ..Settings::default() });
        let out = interval(&mut collector);

        let one = |family: &str| match out.samples(family) {
            [sample] if sample.labels.get("unit") == Some("web.service") => sample.value,
            other => panic!("{family}: {other:?}"),
        };
        assert_eq!(one("utilizer_cgroup_cpu_usage_seconds_total"), 3.5);
        assert_eq!(one("utilizer_cgroup_cpu_system_seconds_total"), 0.5);
        assert_eq!(one("utilizer_cgroup_cpu_periods_total"), 0.0);
        assert_eq!(one("utilizer_cgroup_memory_usage_bytes"), 1_048_576.0);
        assert_eq!(one("utilizer_cgroup_memory_limit_hits_total"), 7.0);
        assert_eq!(one("utilizer_cgroup_memory_oom_events_total"), 2.0);
        assert_eq!(one("utilizer_cgroup_memory_oom_kills_total"), 1.0);
        assert_eq!(one("utilizer_cgroup_tasks_limit"), 4915.0);
        assert_eq!(one("utilizer_cgroup_memory_waiting_seconds_total"), 1.5);
        assert_eq!(one("utilizer_cgroup_memory_stalled_seconds_total"), 0.5);
        assert_eq!(one("utilizer_cgroup_io_written_bytes_total"), 8192.0);
        assert!(out.samples("utilizer_cgroup_memory_limit_bytes").is_empty(), "max is no limit");
        let read = &out.samples("utilizer_cgroup_io_reads_total")[0];
        let labels: Vec<_> = read.labels.iter().collect();
        assert_eq!(labels, [("cgroup", web), ("device", "sda"), ("unit", "web.service")]);
        let tasks = &out.samples("utilizer_cgroup_tasks")[0];
        assert_eq!(tasks.labels.get("container"), Some(ID));
        assert_eq!(out.single("utilizer_cgroups"), Some(3.0));
    }

    #[test]
    fn groups_come_and_go() {
        let tree = Tree::new();
        tree.write("/a.slice/x.service", "pids.current", "1\n");
        let mut collector = tree.collector(Settings::default());
        assert_eq!(paths(&interval(&mut collector)), ["/a.slice/x.service"]);
        tree.write("/a.slice/y.service", "pids.current", "2\n");
        tree.write("/a.slice/x.service", "pids.current", "5\n");
        let out = pass(&mut collector, Pass::Scrape).unwrap();
        assert_eq!(values(&out, "utilizer_cgroup_tasks"), [("/a.slice/x.service".to_owned(), 5.0)]);
        assert_eq!(paths(&interval(&mut collector)), ["/a.slice/x.service", "/a.slice/y.service"]);
        fs::remove_dir_all(tree.folder("/a.slice/x.service")).unwrap();
        assert_eq!(paths(&interval(&mut collector)), ["/a.slice/y.service"]);
        fs::remove_dir_all(tree.folder("/a.slice")).unwrap();
        assert!(paths(&interval(&mut collector)).is_empty());
    }

    #[test]
    fn a_unit_that_restarts_between_intervals_is_missed_no_longer() {
        let tree = Tree::new();
        let unit = "/a.slice/x.service";
        tree.write(unit, "pids.current", "1\n");
        let mut collector = tree.collector(Settings::default());
        assert_eq!(paths(&interval(&mut collector)), [unit]);
        fs::remove_dir_all(tree.folder(unit)).unwrap();
        // A kernel's file says that its group has gone; these have to be closed for that.
        for group in collector.groups.asked_mut() {
            group.files = group.files.take().map(|_| Box::new(Files::new(&group.folder, false)));
        }
        assert!(paths(&pass(&mut collector, Pass::Scrape).unwrap()).is_empty());
        tree.write(unit, "pids.current", "2\n");
        assert_eq!(paths(&interval(&mut collector)), [unit]);
    }

    #[test]
    fn devices_without_figures_share_a_line_or_have_no_end() {
        let counted = |text: &str| {
            let mut disks = Cache::default();
            disks.begin();
            let mut devices = Devices { sys: "/nonexistent".into(), names: HashMap::new() };
            io_stat(text.as_bytes(), "/a", &mut disks, &mut devices).map_err(|error| error.to_string())?;
            let one = |disk: &Disk| (disk.labels.get("device").unwrap().to_owned(), disk.counts[0]);
            Ok::<_, String>(disks.asked().map(one).collect::<Vec<_>>())
        };
        let disk = |device: &str, bytes| (device.to_owned(), Some(bytes));
        let text = "8:0 rbytes=5 wbytes=0\n7:7 7:6 7:4 rbytes=28672 rios=22\n(unknown) rbytes=3\n8:16 rbytes=7\n";
        assert_eq!(counted(text).unwrap(), [disk("8:0", 5), disk("7:4", 28672), disk("8:16", 7)]);
        assert_eq!(counted("8:0 rbytes=5\n7:1 7:0 ").unwrap(), [disk("8:0", 5)]);
        for none in ["", "252:0 ", "7:1 (unknown) 7:0 ", "(unknown) 7:0 \n"] {
            assert_eq!(counted(none).unwrap(), [], "{none}");
        }
        for bad in ["8:0 rbytes=5", "8:0 rbytes=5\n8:1 rby", "8:0 x 8:1 rbytes=1\n", "x rbytes=1\n", "8:0 rbytes=x\n"] {
            assert!(counted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_depth_and_number_bound_them() {
        let tree = Tree::new();
        for group in ["/a.slice", "/a.slice/b.slice", "/a.slice/b.slice/c.service", "/z.mount", "/z.slice", "/dev.swap"]
        {
            tree.write(group, "pids.current", "1\n");
        }
        let shown = |settings: Settings| {
            let out = interval(&mut tree.collector(settings));
            (paths(&out).join(" "), out.single("utilizer_cgroups_dropped").unwrap())
        };
        let all = "/a.slice /z.slice /a.slice/b.slice /a.slice/b.slice/c.service";
        assert_eq!(shown(Settings::default()), (all.to_owned(), 0.0));
        let settings = Settings { include: Pattern::new("service$").unwrap(), ..Settings::default() };
        assert_eq!(shown(settings), ("/a.slice/b.slice/c.service".to_owned(), 0.0));
        let settings = Settings { max_depth: 2, ..Settings::default() };
        assert_eq!(shown(settings), ("/a.slice /z.slice /a.slice/b.slice".to_owned(), 0.0));
        let settings = Settings { max_cgroups: 2, ..Settings::default() };
        assert_eq!(shown(settings), ("/a.slice /z.slice".to_owned(), 2.0));
    }

    #[test]
    fn limits_and_absent_files_are_looked_at_seldom() {
        let tree = Tree::new();
        tree.write("/x.service", "pids.max", "10\n");
        let mut collector = tree.collector(Settings::default());
        assert_eq!(values(&interval(&mut collector), "utilizer_cgroup_tasks_limit")[0].1, 10.0);
        tree.write("/x.service", "pids.max", "20\n");
        tree.write("/x.service", "pids.current", "4\n");
        let mut passes = 0;
        let out = loop {
            passes += 1;
            let out = interval(&mut collector);
            if values(&out, "utilizer_cgroup_tasks_limit")[0].1 == 20.0 {
                break out;
            }
            assert!(passes <= SLOW_EVERY);
        };
        assert!(passes > 1);
        let has_tasks = |out: &Families| !out.samples("utilizer_cgroup_tasks").is_empty();
        assert!(has_tasks(&out) || has_tasks(&interval(&mut collector)) || has_tasks(&interval(&mut collector)));
    }

    #[test]
    fn version_one_has_the_controllers_only() {
        let tree = Tree { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(tree.dir.path().join("proc")).unwrap();
        tree.write("/memory/x.service", "memory.current", "1\n");
        let mut collector = tree.collector(Settings::default());
        collector.begin(Pass::Interval);
        assert_eq!(collector.collect(&mut Families::default()).unwrap(), Outcome::Nothing);
        let text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t4\t1\nrdma\t0\t1\t0\n";
        fs::write(tree.dir.path().join("proc/cgroups"), text).unwrap();
        let out = interval(&mut collector);
        let numbers = |family| out.samples(family).iter().map(|sample| sample.value).collect::<Vec<_>>();
        assert_eq!(
            (numbers("node_cgroups_cgroups"), numbers("node_cgroups_enabled")),
            (vec![4.0, 1.0], vec![1.0, 0.0])
        );
        assert_eq!(out.samples("node_cgroups_cgroups")[0].labels.get("subsys_name"), Some("cpu"));
        assert_eq!(out.len(), 4);
    }

    #[test]
    fn a_broken_file_is_named() {
        for (file, text) in [
            ("cpu.stat", "usage_usec 12"),
            ("cpu.stat", "usage_usec\n"),
            ("cpu.stat", "usage_usec 99999999999999999999\n"),
            ("memory.current", "12"),
            ("memory.current", "\u{fffd}\n"),
            ("memory.max", "maximum\n"),
            ("memory.events", "max -1\n"),
            ("io.stat", "8:0 rbytes=x\n"),
            ("io.stat", "../../x rbytes=1\n"),
            ("io.stat", "8:0 rbytes\n"),
            ("io.stat", "8:0 rbytes=1"),
            ("cpu.pressure", "some avg10=0.00\n"),
            ("cpu.pressure", "many total=1\n"),
        ] {
            let tree = Tree::new();
            tree.write("/x.service", file, text);
            let mut collector = tree.collector(Settings { pressure: true, ..Settings::default() });
            let error = pass(&mut collector, Pass::Interval).unwrap_err().to_string();
            assert!(error.contains(&format!("x.service/{file} does not read as expected")), "{text}: {error}");
        }
        let mut known = Cache::default();
        for text in [&b"cpu\t1"[..], b"cpu\t1\t4\n", b"cpu\t1\t4\tx\n", b"cpu 1 99999999999999999999 1\n"] {
            assert!(controllers(text, &mut known).is_err(), "{}", text.escape_ascii());
        }
    }
}
