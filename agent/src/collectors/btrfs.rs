//! Btrfs file systems: space by kind and profile, commits and devices, from `/sys/fs/btrfs/UUID`.
//!
//! What node_exporter learns by asking the file system at its mount is left out, since that waits for a mount that
//! hangs: errors and unused bytes of each device, and the device's own uuid (`btrfs_dev_uuid`).

use std::path::Path;

use crate::collectors::devices::{Devices, Live, text, value};
use crate::collectors::table::{self, Column, Row, Scale};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot, TextError, fields};
use crate::snapshot::{Families, Labels, MetricType};

/// The block layer's, whatever the device's own are.
const SECTOR_BYTES: f64 = 512.0;

/// What space is allocated for.
const KINDS: [&str; 3] = ["data", "metadata", "system"];

const fn gauge(file: &'static str, family: &'static str, help: &'static str) -> Column {
    Column { file, family, help, kind: MetricType::Gauge, scale: Scale::Whole }
}

const OF_ALL: [Column; 1] =
    [gauge("allocation/global_rsv_size", "node_btrfs_global_rsv_size_bytes", "Size of global reserve.")];

const OF_KIND: [Column; 1] =
    [gauge("bytes_reserved", "node_btrfs_reserved_bytes", "Amount of space reserved for a data type")];

const OF_PROFILE: [Column; 2] = [
    gauge("used_bytes", "node_btrfs_used_bytes", "Amount of used space by a layout/data type"),
    gauge("total_bytes", "node_btrfs_size_bytes", "Amount of space allocated for a layout/data type"),
];

/// A line of `commit_stats`: its first word, family, help, type, and what its number is divided by.
type Commit = (&'static [u8], &'static str, &'static str, MetricType, f64);

const COMMITS: [Commit; 4] = [
    (
        b"commits",
        "node_btrfs_commits_total",
        "The total number of commits that have occurred.",
        MetricType::Counter,
        1.0,
    ),
    (
        b"last_commit_ms",
        "node_btrfs_last_commit_seconds",
        "Duration of the most recent commit, in seconds.",
        MetricType::Gauge,
        1000.0,
    ),
    (
        b"max_commit_ms",
        "node_btrfs_max_commit_seconds",
        "Duration of the slowest commit, in seconds.",
        MetricType::Gauge,
        1000.0,
    ),
    (
        b"total_commit_ms",
        "node_btrfs_commit_seconds_total",
        "Sum of the duration of all commits, in seconds.",
        MetricType::Counter,
        1000.0,
    ),
];

fn parse(text: &[u8]) -> Result<[Option<f64>; COMMITS.len()], TextError> {
    let mut values = [None; COMMITS.len()];
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = fields(line);
        let Some(word) = fields.next() else { continue };
        let known = COMMITS.iter().zip(&mut values).find(|((known, ..), _)| *known == word);
        let Some(((.., divisor), value)) = known else { continue };
        *value = Some(fields.number("a count or a duration")? as f64 / divisor);
    }
    if values.iter().all(Option::is_none) {
        return Err(TextError::expected("statistics of commits", text));
    }
    Ok(values)
}

/// How many bytes of the devices hold a byte of data; `None` for a profile that is not known, or has too few devices.
fn ratio(profile: &str, devices: usize) -> Option<f64> {
    let with_parity = |parity: usize| {
        let data = devices.checked_sub(parity).filter(|data| *data > 0)?;
        Some(devices as f64 / data as f64)
    };
    match profile {
        "single" | "raid0" => Some(1.0),
        "dup" | "raid1" | "raid10" => Some(2.0),
        "raid1c3" => Some(3.0),
        "raid1c4" => Some(4.0),
        "raid5" => with_parity(1),
        "raid6" => with_parity(2),
        _ => None,
    }
}

/// The folders or links to folders in this one.
fn folders(place: &Path) -> Vec<String> {
    let mut directory = Directory::new(place.to_owned());
    let entries = directory.list().ok().flatten().unwrap_or_default();
    let names = entries.iter().filter_map(|entry| std::str::from_utf8(entry).ok());
    names.filter(|name| place.join(name).is_dir()).map(str::to_owned).collect()
}

struct FileSystem {
    labels: Labels,
    info: Labels,
    own: Row,
    kinds: Vec<Row>,
    profiles: Vec<Row>,
    ratios: Vec<(Labels, f64)>,
    /// With their sizes, which are read when the file systems are listed.
    devices: Vec<(Labels, f64)>,
    /// Linux has it since 6.0.
    commits: Option<Live>,
    committed: [Option<f64>; COMMITS.len()],
}

impl FileSystem {
    /// `taken` are the uuids of those that were listed before.
    fn new(name: &str, place: &Path, taken: &mut Vec<String>) -> Option<Self> {
        // Beside the file systems stands what the kernel's module can do.
        if !name.contains('-') || !place.is_dir() {
            return None;
        }
        // A copy that was given a uuid of its own, to be mounted beside the original, has the original's here.
        let uuid = text(place.join("metadata_uuid")).filter(|uuid| !uuid.is_empty() && !taken.contains(uuid));
        let uuid = uuid.unwrap_or_else(|| name.to_owned());
        taken.push(uuid.clone());
        let uuid = uuid.as_str();
        let devices = folders(&place.join("devices"));
        let (mut kinds, mut profiles, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for kind in KINDS {
            let place = place.join("allocation").join(kind);
            kinds.push(Row::new(&place, Labels::new([("block_group_type", kind), ("uuid", uuid)]), &OF_KIND));
            for profile in folders(&place) {
                let labels = Labels::new([("block_group_type", kind), ("mode", &*profile), ("uuid", uuid)]);
                ratios.extend(ratio(&profile, devices.len()).map(|ratio| (labels.clone(), ratio)));
                profiles.push(Row::new(&place.join(&profile), labels, &OF_PROFILE));
            }
        }
        let sizes = devices.iter().filter_map(|device| {
            let size = value(place.join("devices").join(device).join("size"))?;
            Some((Labels::new([("device", &**device), ("uuid", uuid)]), size * SECTOR_BYTES))
        });
        let label = text(place.join("label")).unwrap_or_default();
        let labels = Labels::new([("uuid", uuid)]);
        Some(Self {
            info: Labels::new([("label", &*label), ("uuid", uuid)]),
            own: Row::new(place, labels.clone(), &OF_ALL),
            kinds,
            profiles,
            ratios,
            devices: sizes.collect(),
            commits: Live::at(place.join("commit_stats")),
            committed: [None; COMMITS.len()],
            labels,
        })
    }
}

/// See the module.
pub(crate) struct Btrfs {
    file_systems: Devices<FileSystem>,
}

impl Btrfs {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file_systems: Devices::new(host.sys("fs/btrfs")) }
    }
}

impl Collector for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn begin(&mut self, pass: Pass) {
        self.file_systems.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let list = &mut self.file_systems;
        let mut taken = Vec::new();
        let found = list.get(|name, place| FileSystem::new(name, place, &mut taken))?;
        let Some(all) = found else { return Ok(Outcome::Nothing) };
        out.gauge("node_btrfs_info", "Filesystem information");
        all.iter().for_each(|one| out.push(&one.info, 1.0));

        type Visit<'a> = &'a mut dyn FnMut(&mut Row) -> Result<(), CollectError>;
        let mut lost =
            table::collect(&OF_ALL, |visit: Visit<'_>| all.iter_mut().try_for_each(|one| visit(&mut one.own)), out)?;
        let kinds = |visit: Visit<'_>| all.iter_mut().flat_map(|one| &mut one.kinds).try_for_each(visit);
        lost |= table::collect(&OF_KIND, kinds, out)?;
        let profiles = |visit: Visit<'_>| all.iter_mut().flat_map(|one| &mut one.profiles).try_for_each(visit);
        lost |= table::collect(&OF_PROFILE, profiles, out)?;
        let mut known = |name, help, of: fn(&FileSystem) -> &Vec<(Labels, f64)>| {
            out.gauge(name, help);
            all.iter().flat_map(of).for_each(|(labels, value)| out.push(labels, *value));
        };
        known("node_btrfs_allocation_ratio", "Data allocation ratio for a layout/data type", |one| &one.ratios);
        known("node_btrfs_device_size_bytes", "Size of a device that is part of the filesystem.", |one| &one.devices);

        for FileSystem { commits, committed, .. } in all.iter_mut() {
            let Some(file) = commits else { continue };
            let read = file.with(parse)?;
            lost |= file.is_lost(read.is_some());
            *committed = read.unwrap_or_default();
        }
        for (column, (_, name, help, kind, _)) in COMMITS.into_iter().enumerate() {
            out.family(name, help, kind);
            for FileSystem { labels, committed, .. } in all.iter() {
                let value = committed.get(column).copied().flatten();
                value.inspect(|value| out.push(labels, *value));
            }
        }
        if lost {
            list.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn ratios_by_profile() {
        for (profile, devices, value) in [
            ("single", 1, Some(1.0)),
            ("dup", 1, Some(2.0)),
            ("raid1c3", 3, Some(3.0)),
            ("raid1c4", 9, Some(4.0)),
            ("raid5", 5, Some(1.25)),
            ("raid6", 4, Some(2.0)),
            ("raid5", 1, None),
            ("raid6", 0, None),
            ("raid77", 4, None),
        ] {
            assert_eq!(ratio(profile, devices), value, "{profile} {devices}");
        }
    }

    #[test]
    fn commits_that_are_cut_or_garbage_are_refused() {
        let text = b"commits 12\nlast_commit_ms 3\nmax_commit_ms 1500\ntotal_commit_ms 2500\nnew x\n";
        assert_eq!(parse(text).unwrap(), [Some(12.0), Some(0.003), Some(1.5), Some(2.5)]);
        for bad in
            [&b""[..], b"commits", b"commits x", b"commits 18446744073709551616", b"\xff\x00", b"max_commit_ms -1"]
        {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_file_system_is_what_its_files_say() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let class = dir.path().join("fs/btrfs");
        let write = |file: &str, text: &str| {
            let path = class.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let run = |btrfs: &mut Btrfs| {
            let mut out = Families::default();
            btrfs.begin(Pass::Interval);
            btrfs.collect(&mut out).map(|outcome| (outcome, out)).map_err(|error| error.to_string())
        };
        assert_eq!(run(&mut Btrfs::new(&host)).unwrap().0, Outcome::Nothing);
        write("features/raid56", "0\n");
        write("a-b/label", "my \"data\"\n");
        write("a-b/devices/sda/size", "2048\n");
        write("a-b/devices/sdb/size", "4096\n");
        write("a-b/allocation/data/bytes_reserved", "4096\n");
        write("a-b/allocation/data/raid1/used_bytes", "100\n");
        write("a-b/allocation/data/raid1/total_bytes", "200\n");
        let mut btrfs = Btrfs::new(&host);
        let out = run(&mut btrfs).unwrap().1;
        assert_eq!(out.samples("node_btrfs_info")[0].labels.get("label"), Some("my \"data\""));
        assert_eq!(out.samples("node_btrfs_info")[0].labels.get("uuid"), Some("a-b"));
        assert_eq!(out.samples("node_btrfs_device_size_bytes")[1].value, 2097152.0);
        assert_eq!(out.single("node_btrfs_allocation_ratio"), Some(2.0));
        assert_eq!(out.single("node_btrfs_used_bytes"), Some(100.0));
        assert_eq!(out.single("node_btrfs_reserved_bytes"), Some(4096.0));
        assert_eq!(out.single("node_btrfs_global_rsv_size_bytes"), None);
        assert_eq!(out.single("node_btrfs_commits_total"), None);
        for bad in ["", "\u{1}", "-4", "99999999999999999999"] {
            write("a-b/allocation/data/raid1/used_bytes", bad);
            let error = run(&mut btrfs).unwrap_err();
            assert!(error.contains("raid1/used_bytes"), "{error}");
        }
        // A balance made another profile of it.
        fs::remove_dir_all(class.join("a-b/allocation/data/raid1")).unwrap();
        write("a-b/allocation/data/single/used_bytes", "7\n");
        write("a-b/metadata_uuid", "c-d\n");
        btrfs.file_systems.soon();
        let out = run(&mut btrfs).unwrap().1;
        assert_eq!(out.single("node_btrfs_used_bytes"), Some(7.0));
        assert_eq!(out.samples("node_btrfs_used_bytes")[0].labels.get("uuid"), Some("c-d"));
        // A copy of it beside it.
        write("e-f/metadata_uuid", "c-d\n");
        btrfs.file_systems.soon();
        let out = run(&mut btrfs).unwrap().1;
        let uuids = out.samples("node_btrfs_info").iter().map(|sample| sample.labels.get("uuid"));
        assert_eq!(uuids.collect::<Vec<_>>(), [Some("c-d"), Some("e-f")]);
    }
}
