//! Everything that the collectors, the gauges and the process table make of a frozen host, as text.
//!
//! The host is `fixtures/host`, the text `golden/metrics.txt`. After a change that is meant, run the test with
//! `UPDATE_GOLDEN=1` and read the difference before it is committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use utilizer_agent::collectors::{self, CollectorSettings, Pass, ProcessSettings, Registry, State};
use utilizer_agent::exposition;
use utilizer_agent::gauges::{self, Earlier};
use utilizer_agent::host::HostRoot;
use utilizer_agent::pattern::Pattern;
use utilizer_agent::processes::ProcessTable;
use utilizer_agent::snapshot::Families;

/// Families whose values are this machine's or this moment's: the golden text has 0 for them. The space of the frozen
/// mounts is that of the disk on which the fixture lies; memory that is counted in pages depends on their size.
const VARIABLE: &[&str] = &[
    "node_filesystem_avail_bytes",
    "node_filesystem_files",
    "node_filesystem_files_free",
    "node_filesystem_free_bytes",
    "node_filesystem_size_bytes",
    "node_scrape_collector_duration_seconds",
    "node_sockstat_TCP_mem_bytes",
    "node_sockstat_UDP_mem_bytes",
    "node_time_seconds",
    "utilizer_collector_duration_seconds",
    "utilizer_disk_percent",
    "utilizer_process_memory_percent",
    "utilizer_process_resident_memory_bytes",
];

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            // A class of sysfs is links to devices, whose places are told apart by where the links lead.
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else if kind.is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A copy of the frozen host, for tests that change it.
struct Frozen {
    _dir: tempfile::TempDir,
    host: HostRoot,
}

impl Frozen {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&here().join("fixtures/host"), dir.path());
        let below = |name| dir.path().join(name);
        let host = HostRoot { proc: below("proc"), sys: below("sys"), root: below("root"), udev: below("udev") };
        Self { _dir: dir, host }
    }

    /// Puts one text for another, which must be there, into a file of the procfs.
    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.host.proc(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not contain {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn registry(&self) -> Registry {
        Registry::new(collectors::all(&self.host, &settings()))
    }
}

/// All of the frozen host that can be shown, but for what is no part of the frozen host: a developer's own GPU, and the discipline of the
/// machine's clock, which a system call tells.
fn settings() -> CollectorSettings {
    let mut settings = CollectorSettings {
        enable: ["cgroups", "interrupts", "meminfo_numa", "softirqs"].map(str::to_owned).into(),
        disable: vec!["gpu".to_owned(), "timex".to_owned()],
        ..CollectorSettings::default()
    };
    settings.cpu.info_flags_include = Pattern::new("^a").unwrap();
    settings.cpu.info_bugs_include = Pattern::new("spectre").unwrap();
    settings.stat.softirq = true;
    settings.processes.thread_states = true;
    settings.bcache.priority_stats = true;
    settings
}

fn interval(registry: &mut Registry) -> Families {
    let mut out = Families::default();
    registry.run(Pass::Interval, &mut out);
    out
}

/// An interval pass that has an answer from each of the three mounts, however long this machine takes to give one.
fn settled(registry: &mut Registry) -> Families {
    loop {
        let out = interval(registry);
        if out.samples("node_filesystem_device_error").len() == 3 {
            return out;
        }
    }
}

fn encoded(parts: &[&Families]) -> String {
    let mut text = Vec::new();
    exposition::encode(parts, &mut text);
    String::from_utf8(text).unwrap()
}

/// Takes out what is this machine's.
fn frozen(text: &str) -> String {
    let line = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if matches!(name, "node_uname_info" | "node_time_zone_offset_seconds") && !line.starts_with('#') {
            return format!("{name} 1");
        }
        match line.rsplit_once(' ') {
            Some((series, _)) if VARIABLE.contains(&name) => format!("{series} 0"),
            _ => line.to_owned(),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn a_frozen_host_reads_as_the_golden_text() {
    let host = Frozen::new();
    let mut registry = host.registry();
    let mut table = ProcessTable::new(&host.host, &ProcessSettings::default());
    let start = Instant::now();
    let before = settled(&mut registry);
    // The pass before tells which processes are listed, so that this one has rates of theirs.
    table.sample(start).unwrap();
    let start = start + Duration::from_secs(10);
    table.sample(start).unwrap();
    table.top(None).unwrap();

    // Ten seconds later.
    host.change("stat", "cpu0 5000 100 1800 40000", "cpu0 5500 100 1900 40400");
    host.change("stat", "cpu1 4000 50 1500 41000 120", "cpu1 4000 50 1500 41900 220");
    host.change("diskstats", "nvme0n1 52000 310 4096000", "nvme0n1 52100 310 4104000");
    host.change("net/dev", "98765432100", "98765532100");
    host.change("pressure/io", "total=12500000", "total=13000000");
    host.change("300/stat", " 5000 50 ", " 5240 60 ");
    host.change("300/io", "write_bytes: 1228800", "write_bytes: 2048000");
    let later = start + Duration::from_secs(10);
    table.sample(later).unwrap();
    let now = settled(&mut registry);

    let mut derived = Families::default();
    let earlier = Earlier { families: &before, elapsed: later - start };
    gauges::expose(&gauges::gauges(&now, Some(earlier)), &mut derived);
    let top = table.top(now.single("node_memory_MemTotal_bytes")).unwrap();
    let command_line = top.iter().find(|usage| usage.pid == 300).and_then(|usage| usage.details.command_line.clone());
    let expected = "/usr/bin/web --listen=0.0.0.0:80 --db postgres://***@db.internal/shop --session-secret ***";
    assert_eq!(command_line.as_deref(), Some(expected));
    gauges::expose_processes(&top, &mut derived);
    // Labels that hold a path hold it as it is seen from here.
    let text = frozen(&encoded(&[&now, &derived])).replace(&*host.host.sys.to_string_lossy(), "/sys");

    let path = here().join("golden/metrics.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (number, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", number + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{}", path.display());
}

#[test]
fn a_second_scrape_says_the_same() {
    let host = Frozen::new();
    let mut registry = host.registry();
    let first = frozen(&encoded(&[&settled(&mut registry)]));
    let mut second = Families::default();
    registry.run(Pass::Scrape, &mut second);
    assert_eq!(frozen(&encoded(&[&second])), first);
}

/// What [`not_working`] says of a collector that found nothing.
const NOTHING: &str = "nothing here";

/// The collectors that fail or find nothing, by name.
fn not_working(registry: &Registry) -> Vec<(&'static str, String)> {
    registry
        .status()
        .filter_map(|status| match &status.state {
            State::Data | State::Waiting => None,
            State::Nothing => Some((status.name, NOTHING.to_owned())),
            State::Failed(error) => Some((status.name, error.clone())),
        })
        .collect()
}

/// What can happen to a file.
type Damage = fn(&[u8]) -> Vec<u8>;

#[test]
fn each_broken_file_fails_its_own_collector_and_says_which_file() {
    let broken: &[(&str, &[&str])] = &[
        ("stat", &["cpu", "stat"]),
        ("loadavg", &["loadavg"]),
        ("meminfo", &["meminfo"]),
        ("diskstats", &["diskstats"]),
        ("net/dev", &["netdev"]),
        ("net/ip_vs", &["ipvs"]),
        ("net/ip_vs_stats", &["ipvs"]),
        ("net/netstat", &["netstat"]),
        ("net/rpc/nfs", &["nfs"]),
        ("net/rpc/nfsd", &["nfsd"]),
        ("net/snmp", &["netstat"]),
        ("net/sockstat", &["sockstat"]),
        ("net/sockstat6", &["sockstat"]),
        ("net/softnet_stat", &["softnet"]),
        ("net/stat/nf_conntrack", &["conntrack"]),
        ("sys/net/netfilter/nf_conntrack_count", &["conntrack"]),
        ("pressure/io", &["pressure"]),
        ("mdstat", &["mdadm"]),
        ("vmstat", &["vmstat"]),
        ("interrupts", &["interrupts"]),
        ("pressure/irq", &["pressure"]),
        ("schedstat", &["schedstat"]),
        ("softirqs", &["softirqs"]),
        ("sys/fs/file-nr", &["filefd"]),
        ("sys/kernel/random/entropy_avail", &["entropy"]),
        ("1/mountinfo", &["filesystem"]),
        ("cgroups", &["cgroups"]),
    ];
    // Cut in the middle of a line, binary, a number over 64 bits.
    let damages: [Damage; 3] = [
        |_| b"cpu0 1 2\npg".to_vec(),
        |_| (0..=255).cycle().take(5000).collect(),
        |text| {
            let text = String::from_utf8_lossy(text);
            let digits = |c: char| c.is_ascii_digit();
            let blown = text.split([' ', '\t']).map(|word| {
                let all = !word.is_empty() && word.trim_end().chars().all(digits);
                if all { word.replace(word.trim_end(), "184467440737095516160") } else { word.to_owned() }
            });
            let text = blown.collect::<Vec<_>>().join(" ");
            text.replace("total=", "total=99999999999999999999").replace("0.42", "zero").into_bytes()
        },
    ];
    // One host for all: each file is whole again, and seen to work, before the next one is broken.
    let host = Frozen::new();
    let mut registry = host.registry();
    settled(&mut registry);
    assert_eq!(not_working(&registry), []);
    for (file, names) in broken {
        let path = host.host.proc(file);
        let whole = fs::read(&path).unwrap();
        for (number, damage) in damages.iter().enumerate() {
            fs::write(&path, damage(&whole)).unwrap();
            interval(&mut registry);
            let failed = not_working(&registry);
            let found: Vec<_> = failed.iter().map(|(name, _)| *name).collect();
            assert_eq!(found, *names, "{file}, damage {number}");
            for (name, error) in failed {
                assert!(error.contains(&*path.to_string_lossy()), "{name}: {error}");
            }
            fs::write(&path, &whole).unwrap();
            interval(&mut registry);
            assert_eq!(not_working(&registry), [], "{file}");
        }
    }
}

#[test]
fn an_empty_machine_has_errors_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().to_path_buf();
    let host = HostRoot { proc: empty.clone(), sys: empty.clone(), root: empty.clone(), udev: empty };
    let mut registry = Registry::new(collectors::all(&host, &settings()));
    let out = interval(&mut registry);
    // What every machine has is missed; what many do not have is no error.
    let failed = not_working(&registry).into_iter().filter(|(_, error)| error != NOTHING);
    let failed: Vec<_> = failed.map(|(name, _)| name).collect();
    assert_eq!(failed, ["cpu", "filesystem", "loadavg", "meminfo", "netdev", "softirqs", "stat", "vmstat"]);
    assert!(out.single("node_time_seconds").is_some());
}
