//! Debian's node_exporter beside the agent, over every collector that both have: on this machine as it lives, and on the
//! frozen host, which has the hardware that this one lacks.
//!
//! What may differ stands in the lists below with its reason; all else must be alike: the families, their types, the label sets,
//! and the values. A collector that is added to the catalogue is compared without a word here.

mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use test_servers::{Program, free_port, http, wait_for};
use utilizer_agent::collectors;

use crate::binary::support::{Agent, Setup};
use page::Page;

/// Debian's name for it, and its own.
const PROGRAMS: &[&str] =
    &["/usr/bin/prometheus-node-exporter", "/usr/local/bin/node_exporter", "/usr/bin/node_exporter"];

/// Collectors of node_exporter whose namesakes here are something else.
const NOT_THE_SAME: &[&str] = &[];

/// Switches that give Debian's package, which has some of its own, node_exporter's defaults.
const SWITCHES: &[&str] = &[
    "--collector.bcache.priorityStats",
    "--collector.netdev.device-exclude=",
    r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
    "--collector.filesystem.mount-points-exclude=\
     ^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
];

/// node_exporter's switch, our key, and the folder of the frozen host.
const PATHS: [(&str, &str, &str); 4] = [
    ("procfs", "procfs", "proc"),
    ("sysfs", "sysfs", "sys"),
    ("rootfs", "rootfs", "root"),
    ("udev.data", "udev_data", "udev"),
];

/// What is not compared: the beginning of a family's name or of a series, and why.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("node_scrape_collector_duration_seconds", "each measures itself"),
    ("node_exporter_build_info", "tells which program answers"),
    ("node_filefd_allocated", "each has files of its own open while it reads"),
    ("node_sockstat_sockets_used", "each has sockets of its own open while it reads"),
    ("node_hwmon_sensor_label", "newer ones than Debian's have it of frequencies, too"),
    (r#"node_zfs_zpool_state{state="suspended""#, "newer ones than Debian's know this state"),
    (r#"node_nfsd_requests_total{method="SetClientID"#, "newer ones than Debian's know these two operations"),
];

/// What is not compared on this machine alone.
const NOT_COMPARED_LIVE: &[(&str, &str)] = &[(
    "node_btrfs_device_",
    "node_exporter asks file systems at their mounts, we read sysfs: the frozen host has only that",
)];

/// What is not compared on the frozen host alone.
const NOT_COMPARED_FROZEN: &[(&str, &str)] = &[
    (
        "node_filesystem_",
        "node_exporter 1.5 reads `mounts`, which newer ones and we do not: the frozen host has mountinfo",
    ),
    (r#"node_scrape_collector_success{collector="filesystem"}"#, "for the same reason"),
    ("node_selinux_", "node_exporter asks this machine, whatever paths are given"),
    ("node_tcp_connection_states", "node_exporter asks this machine's kernel, whatever procfs is given"),
    (r#"node_scrape_collector_success{collector="tcpstat"}"#, "for the same reason"),
];

/// Families that newer node_exporters have and Debian's has not: the beginning of their names. What both have of them is
/// compared.
const NEWER: &[&str] = &[
    "node_btrfs_commit",
    "node_btrfs_last_commit_seconds",
    "node_btrfs_max_commit_seconds",
    "node_cpu_frequency_avg_hertz",
    "node_cpu_isolated",
    "node_cpu_online",
    "node_cpu_scaling_governor",
    "node_edac_channel_",
    "node_filesystem_mount_info",
    "node_hwmon_freq_freq_mhz",
    "node_infiniband_",
    "node_md_degraded",
    "node_md_raid_disks",
    "node_netstat_TcpExt_TCPOFOQueue",
    "node_netstat_TcpExt_TCPRcvQDrop",
    "node_network_altnames_info",
    "node_nvme_namespace_",
    "node_os_support_end_timestamp_seconds",
    "node_pressure_irq_stalled_seconds_total",
    "node_softnet_backlog_len",
    "node_softnet_cpu_collision_total",
    "node_softnet_flow_limit_count_total",
    "node_softnet_received_rps_total",
    "node_zfs_arc_memory_available_bytes",
];

/// Labels of ours that newer node_exporters have and Debian's has not: the family, the label.
const NEWER_LABELS: &[(&str, &str)] =
    &[("node_disk_info", "rotational"), ("node_network_info", "adminstate"), ("node_nvme_info", "cntlid")];

/// A difference has to show in each of so many rounds: between two scrapes anything may change once.
const ROUNDS: usize = 12;

/// Differences of floating point and of the digits that are written.
const ACCURACY: f64 = 1e-9;

/// Other programs open and close connections between two readings, so these may be off by [`CONNECTIONS`].
const OF_CONNECTIONS: [&str; 4] =
    ["node_tcp_connection_states", "node_netstat_Tcp_CurrEstab", "node_sockstat_TCP_", "node_sockstat_TCP6_"];
const CONNECTIONS: f64 = 4.0;

fn program() -> &'static str {
    let found = PROGRAMS.iter().find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| {
        panic!("node_exporter is not installed; install it with: apt-get install prometheus-node-exporter")
    })
}

/// The collectors that both have, by what node_exporter says of itself.
fn shared() -> Vec<&'static str> {
    let help = Command::new(program()).arg("--help").output().unwrap();
    let help = [help.stdout, help.stderr].concat();
    let help = String::from_utf8_lossy(&help);
    let theirs: BTreeSet<&str> = help
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("--collector.").or_else(|| word.strip_prefix("--[no-]collector.")))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'))
        .collect();
    assert!(theirs.contains("cpu") && theirs.contains("vmstat"), "node_exporter's help names no collectors: {help}");
    collectors::names().filter(|name| theirs.contains(name) && !NOT_THE_SAME.contains(name)).collect()
}

/// Both, running, with the same collectors.
struct Pair {
    ours: Agent,
    theirs: Program,
    port: u16,
    frozen: bool,
    _textfiles: tempfile::TempDir,
}

impl Pair {
    /// Over this machine, or over another's files.
    fn start(frozen: Option<&Path>) -> Self {
        let names = shared();
        let textfiles = tempfile::tempdir().unwrap();
        let text = "# HELP backup_age_seconds Since the last one.\n# TYPE backup_age_seconds gauge\nbackup_age_seconds{to=\"a\"} 12.5\n";
        std::fs::write(textfiles.path().join("backup.prom"), text).unwrap();
        let port = free_port();
        let mut arguments = vec![
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--collector.disable-defaults".to_owned(),
            format!("--collector.textfile.directory={}", textfiles.path().display()),
        ];
        arguments.extend(names.iter().map(|name| format!("--collector.{name}")));
        let mut setup = Setup::new().set("collectors.disable_defaults", true);
        for (collector, key) in [("processes", "thread_states"), ("bcache", "priority_stats")] {
            setup =
                setup.set(&format!("collectors.{collector}"), toml::Table::from_iter([(key.to_owned(), true.into())]));
        }
        setup = setup.set("path.textfile", textfiles.path().display().to_string());
        for (switch, key, folder) in PATHS {
            if let Some(host) = frozen {
                let path = host.join(folder).display().to_string();
                arguments.push(format!("--path.{switch}={path}"));
                setup = setup.set(&format!("path.{key}"), path);
            }
        }
        if frozen.is_some() {
            // It would ask this machine's kernel, whatever paths are given.
            arguments.push("--no-collector.netdev.netlink".to_owned());
        }
        arguments.extend(SWITCHES.iter().map(|switch| (*switch).to_owned()));
        let theirs = Program::start(program().as_ref(), &arguments, &[]);
        wait_for("node_exporter answers", || {
            (http::ask(([127, 0, 0, 1], port).into(), "GET", "/", b"").status == 200).then_some(())
        });

        let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
        let ours = setup.set("collectors.enable", names).start();
        Self { ours, theirs, port, frozen: frozen.is_some(), _textfiles: textfiles }
    }

    /// One reading of ours between two of theirs.
    fn round(&self) -> (Page, Page, Page) {
        let before = self.their_page();
        // A scrape may be answered from the pass before: two more, and the one shown began after `before`.
        let passes = || self.ours.metric("utilizer_sampler_passes_total");
        let begun = passes().unwrap_or(0.0);
        wait_for("the agent reads anew", || passes().filter(|now| *now >= begun + 2.0));
        let answer = self.ours.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let ours = NEWER_LABELS
            .iter()
            .fold(Page::read(&answer.body), |page, (family, label)| page.without_label(family, label));
        (before, ours, self.their_page())
    }

    fn their_page(&self) -> Page {
        let answer = http::ask(([127, 0, 0, 1], self.port).into(), "GET", "/metrics", b"");
        assert_eq!(answer.status, 200, "{}\n{}", answer.body, self.theirs.log());
        Page::read(&answer.body)
    }
}

fn is_left_out(name: &str, frozen: bool) -> bool {
    // What the two say of themselves is not about the host.
    let own = ["go_", "process_", "promhttp_", "utilizer_"];
    let listed = NOT_COMPARED.iter().chain(if frozen { NOT_COMPARED_FROZEN } else { NOT_COMPARED_LIVE });
    own.iter().chain(listed.map(|(prefix, _)| prefix)).any(|prefix| name.starts_with(prefix))
}

fn is_newer(name: &str) -> bool {
    NEWER.iter().any(|prefix| name.starts_with(prefix))
}

/// Every difference of a round, by what differs; the text shows both sides.
fn differences(before: &Page, ours: &Page, after: &Page, frozen: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut note = |what: String, how: String| {
        found.insert(what, how);
    };
    let names: BTreeSet<&String> = before.types.keys().chain(ours.types.keys()).collect();
    for name in names {
        match (before.types.get(name), ours.types.get(name)) {
            (Some(theirs), Some(ours)) if theirs != ours => {
                note(format!("type of {name}"), format!("{theirs}, ours {ours}"))
            }
            (Some(_), None) if after.types.contains_key(name) => note(format!("{name} is missing"), String::new()),
            (None, Some(_)) if !after.types.contains_key(name) && !is_newer(name) => {
                note(format!("{name} is ours alone"), String::new())
            }
            _ => {}
        }
    }
    let common = |name: &str| before.types.contains_key(name) && ours.types.contains_key(name);
    for (series, theirs) in before.series.iter().filter(|(series, _)| common(&series.family)) {
        let Some(later) = after.series.get(series) else { continue };
        match ours.series.get(series) {
            None => note(format!("{series} is missing"), format!("theirs {theirs}")),
            Some(ours) => {
                let (low, high) = (theirs.min(*later), theirs.max(*later));
                let of_connections = OF_CONNECTIONS.iter().any(|prefix| series.family.starts_with(prefix));
                let room = high.abs() * ACCURACY + if of_connections && !frozen { CONNECTIONS } else { 0.0 };
                let both_nan = ours.is_nan() && theirs.is_nan();
                if !(both_nan || (low - room..=high + room).contains(ours)) {
                    note(format!("value of {series}"), format!("theirs {theirs} and then {later}, ours {ours}"));
                }
            }
        }
    }
    for (series, value) in ours.series.iter().filter(|(series, _)| common(&series.family)) {
        if !before.series.contains_key(series) && !after.series.contains_key(series) {
            note(format!("{series} is ours alone"), format!("ours {value}"));
        }
    }
    found.retain(|what, _| !is_left_out(what.trim_start_matches("type of ").trim_start_matches("value of "), frozen));
    found
}

#[test]
fn what_both_find_on_this_machine_is_the_same() {
    compare(&Pair::start(None));
}

#[test]
fn what_both_find_on_the_frozen_host_is_the_same() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host");
    compare(&Pair::start(Some(&host)));
}

#[allow(clippy::print_stdout, reason = "texts for people may differ, and whoever compares them wants to know where")]
fn compare(pair: &Pair) {
    let mut left: Option<BTreeMap<String, String>> = None;
    for _ in 0..ROUNDS {
        let (before, ours, after) = pair.round();
        let now = differences(&before, &ours, &after, pair.frozen);
        left = Some(match left {
            None => now,
            Some(earlier) => earlier.into_iter().filter(|(what, _)| now.contains_key(what)).collect(),
        });
        if left.as_ref().is_some_and(BTreeMap::is_empty) {
            println!("{} families compared; help differs for {:?}", before.types.len(), help_differs(&before, &ours));
            return;
        }
    }
    let left: Vec<_> = left.into_iter().flatten().map(|(what, how)| format!("{what}: {how}")).collect();
    panic!("{} differences from node_exporter:\n{}", left.len(), left.join("\n"));
}

/// Texts for people: told, and no fault.
fn help_differs<'a>(theirs: &'a Page, ours: &Page) -> Vec<&'a String> {
    let differs = |(name, help): &(&String, &String)| ours.help.get(*name).is_some_and(|ours| ours != *help);
    theirs.help.iter().filter(|(name, _)| !is_left_out(name, false)).filter(differs).map(|(name, _)| name).collect()
}
