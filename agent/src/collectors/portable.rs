//! What other systems than Linux tell, by sysinfo: fewer families, under node_exporter's names for Linux.
//!
//! One name per idea on all systems, so that the gauges, dashboards and rules need no second spelling; node_exporter itself
//! has other names for memory on BSD and macOS. What sysinfo does not have is not shown, above all the CPU's seconds by
//! mode. Linux has its own readers, so there this module is only checked by its tests.

use sysinfo::{Disks, MemoryRefreshKind, Networks, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::collectors::uname::Uname;
use crate::collectors::{CollectError, Collector, Outcome, time};
use crate::host::HostRoot;
use crate::snapshot::{Families, Labels};

/// The collectors, in the order of their names. [`super::CATALOGUE`] has these and more, so that one configuration is
/// valid on all systems.
pub(super) fn all() -> Vec<Box<dyn Collector>> {
    vec![
        Box::new(Portable { name: "filesystem", fill: filesystem }),
        Box::new(Portable { name: "loadavg", fill: loadavg }),
        Box::new(Portable { name: "meminfo", fill: meminfo }),
        Box::new(Portable { name: "netdev", fill: netdev }),
        Box::new(Portable { name: "processes", fill: processes }),
        Box::new(Portable { name: "stat", fill: stat }),
        Box::new(time::Time::new(&HostRoot::default())),
        Box::new(Uname::new()),
    ]
}

/// A collector without memory: what it costs to ask anew matters less here than on Linux.
struct Portable {
    name: &'static str,
    fill: fn(&mut Families) -> Result<(), sysinfo::Error>,
}

impl Collector for Portable {
    fn name(&self) -> &'static str {
        self.name
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let before = out.len();
        (self.fill)(out).map_err(|error| CollectError::System {
            what: "ask the system through sysinfo",
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(if out.len() > before { Outcome::Data } else { Outcome::Nothing })
    }
}

fn loadavg(out: &mut Families) -> Result<(), sysinfo::Error> {
    let load = System::load_average()?;
    out.gauge("node_load1", "1m load average.");
    out.value(load.one);
    out.gauge("node_load15", "15m load average.");
    out.value(load.fifteen);
    out.gauge("node_load5", "5m load average.");
    out.value(load.five);
    Ok(())
}

fn stat(out: &mut Families) -> Result<(), sysinfo::Error> {
    let boot = System::boot_time()?;
    out.gauge("node_boot_time_seconds", "Node boot time, in unixtime.");
    out.value(boot as f64);
    Ok(())
}

fn meminfo(out: &mut Families) -> Result<(), sysinfo::Error> {
    let mut system = System::new()?;
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    // None has no memory at all: it could not be asked.
    if system.total_memory() == 0 {
        return Ok(());
    }
    for (name, help, bytes) in [
        ("node_memory_MemAvailable_bytes", "Memory information field MemAvailable_bytes.", system.available_memory()),
        ("node_memory_MemFree_bytes", "Memory information field MemFree_bytes.", system.free_memory()),
        ("node_memory_MemTotal_bytes", "Memory information field MemTotal_bytes.", system.total_memory()),
        ("node_memory_SwapFree_bytes", "Memory information field SwapFree_bytes.", system.free_swap()),
        ("node_memory_SwapTotal_bytes", "Memory information field SwapTotal_bytes.", system.total_swap()),
    ] {
        out.gauge(name, help);
        out.value(bytes as f64);
    }
    Ok(())
}

fn filesystem(out: &mut Families) -> Result<(), sysinfo::Error> {
    let disks = Disks::new_with_refreshed_list()?;
    let labels = |disk: &sysinfo::Disk| {
        Labels::new([
            ("device", &*disk.name().to_string_lossy()),
            ("fstype", &*disk.file_system().to_string_lossy()),
            ("mountpoint", &*disk.mount_point().to_string_lossy()),
        ])
    };
    let all: Vec<_> = disks.iter().map(|disk| (labels(disk), disk)).collect();
    out.gauge("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.");
    all.iter().for_each(|(labels, disk)| out.push(labels, disk.available_space() as f64));
    out.gauge("node_filesystem_readonly", "Filesystem read-only status.");
    all.iter().for_each(|(labels, disk)| out.push(labels, f64::from(disk.is_read_only())));
    out.gauge("node_filesystem_size_bytes", "Filesystem size in bytes.");
    all.iter().for_each(|(labels, disk)| out.push(labels, disk.total_space() as f64));
    Ok(())
}

/// A counter of an interface: its family, the family's help, and where it comes from.
type NetworkCounter = (&'static str, &'static str, fn(&sysinfo::NetworkData) -> u64);

const NETWORK: [NetworkCounter; 6] = [
    (
        "node_network_receive_bytes_total",
        "Network device statistic receive_bytes.",
        sysinfo::NetworkData::total_received,
    ),
    (
        "node_network_receive_errs_total",
        "Network device statistic receive_errs.",
        sysinfo::NetworkData::total_errors_on_received,
    ),
    (
        "node_network_receive_packets_total",
        "Network device statistic receive_packets.",
        sysinfo::NetworkData::total_packets_received,
    ),
    (
        "node_network_transmit_bytes_total",
        "Network device statistic transmit_bytes.",
        sysinfo::NetworkData::total_transmitted,
    ),
    (
        "node_network_transmit_errs_total",
        "Network device statistic transmit_errs.",
        sysinfo::NetworkData::total_errors_on_transmitted,
    ),
    (
        "node_network_transmit_packets_total",
        "Network device statistic transmit_packets.",
        sysinfo::NetworkData::total_packets_transmitted,
    ),
];

fn netdev(out: &mut Families) -> Result<(), sysinfo::Error> {
    let networks = Networks::new_with_refreshed_list()?;
    let mut all: Vec<_> =
        networks.iter().map(|(name, data)| (name, Labels::new([("device", &*name.to_string_lossy())]), data)).collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    for (name, help, counter) in NETWORK {
        out.counter(name, help);
        all.iter().for_each(|(_, labels, data)| out.push(labels, counter(data) as f64));
    }
    Ok(())
}

fn processes(out: &mut Families) -> Result<(), sysinfo::Error> {
    let mut system = System::new()?;
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing().without_tasks());
    let count = system.processes().len();
    if count > 0 {
        out.gauge("node_processes_pids", "Number of PIDs");
        out.value(count as f64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::{CATALOGUE, Pass, Registry, State};

    #[test]
    fn this_machine_has_something_for_each() {
        let mut registry = Registry::new(all());
        let mut out = Families::default();
        registry.run(Pass::Interval, &mut out);
        for status in registry.status() {
            // A container may have no file system that sysinfo counts as a disk.
            let expected =
                status.state == State::Data || (status.name == "filesystem" && status.state == State::Nothing);
            assert!(expected, "{}: {:?}", status.name, status.state);
        }
        let total = out.single("node_memory_MemTotal_bytes").unwrap();
        assert!(out.single("node_memory_MemAvailable_bytes").is_some_and(|bytes| bytes > 0.0 && bytes <= total));
        assert!(out.single("node_processes_pids").is_some_and(|count| count >= 1.0));
    }

    #[test]
    fn its_names_are_known_and_in_order() {
        let names: Vec<_> = all().iter().map(|collector| collector.name()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(names.iter().all(|name| CATALOGUE.iter().any(|(known, _)| known == name)), "{names:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_agrees_with_the_readers_of_linux() {
        use crate::collectors::{self, CollectorSettings};
        use crate::host::HostRoot;
        let run = |list| {
            let mut out = Families::default();
            Registry::new(list).run(Pass::Interval, &mut out);
            out
        };
        let (by_sysinfo, own) = (run(all()), run(collectors::all(&HostRoot::default(), &CollectorSettings::default())));
        for name in ["node_memory_MemTotal_bytes", "node_memory_SwapTotal_bytes", "node_boot_time_seconds"] {
            assert_eq!(by_sysinfo.single(name), own.single(name), "{name}");
        }
        for family in by_sysinfo.iter().filter(|family| family.head.name.starts_with("node_")) {
            let Some(native) = own.iter().find(|native| native.head.name == family.head.name) else { continue };
            assert_eq!(
                (native.head.kind, &native.head.help),
                (family.head.kind, &family.head.help),
                "{:?}",
                family.head
            );
        }
    }
}
