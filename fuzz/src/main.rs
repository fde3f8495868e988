//! The fuzz targets, in one program: `TARGET=name` chooses, `TARGET=list` names them all.
//!
//! A file of the host is fuzzed through the front door: a copy of the frozen host of the agent's tests lies in a temporary
//! folder, one of its files gets the fuzzer's bytes, and the collectors that care about that file run over it. So parsers
//! stay private, the reading around them is fuzzed too, and a new collector needs no more than a line in [`FILES`].
//! What finds a panic here wants to be a unit test beside its parser.

#![no_main]

mod bytes;
mod host;

use std::sync::{Mutex, OnceLock};

use libfuzzer_sys::fuzz_target;

/// Files of the frozen host, from its root.
const FILES: &[&str] = &[
    "proc/1/mountinfo",
    "proc/300/io",
    "proc/300/task/301/stat",
    "proc/42/stat",
    "proc/cgroups",
    "proc/diskstats",
    "proc/interrupts",
    "proc/loadavg",
    "proc/mdstat",
    "proc/meminfo",
    "proc/net/arp",
    "proc/net/dev",
    "proc/net/ip_vs",
    "proc/net/ip_vs_stats",
    "proc/net/netstat",
    "proc/net/rpc/nfs",
    "proc/net/rpc/nfsd",
    "proc/net/snmp",
    "proc/net/snmp6",
    "proc/net/sockstat",
    "proc/net/sockstat6",
    "proc/net/softnet_stat",
    "proc/net/stat/nf_conntrack",
    "proc/net/udp",
    "proc/net/udp6",
    "proc/pressure/io",
    "proc/pressure/irq",
    "proc/schedstat",
    "proc/softirqs",
    "proc/spl/kstat/zfs/arcstats",
    "proc/spl/kstat/zfs/old/io",
    "proc/spl/kstat/zfs/tank/objset-0x36",
    "proc/stat",
    "proc/sys/fs/file-nr",
    "proc/sys/kernel/random/entropy_avail",
    "proc/sys/net/netfilter/nf_conntrack_count",
    "proc/vmstat",
    "sys/devices/system/cpu/online",
    "sys/devices/system/node/node0/meminfo",
    "sys/devices/system/node/node0/numastat",
    "sys/fs/bcache/2f8a6c10-43d7-4be5-a1c9-7e0b5d3846f2/bdev0/dirty_data",
    "sys/fs/bcache/2f8a6c10-43d7-4be5-a1c9-7e0b5d3846f2/bdev0/writeback_rate_debug",
    "sys/fs/bcache/2f8a6c10-43d7-4be5-a1c9-7e0b5d3846f2/cache0/priority_stats",
    "sys/fs/btrfs/6d1e7a52-0c3b-4a8e-9f27-51b0c6d2e984/commit_stats",
];

/// Files that are read when a device or a process is first seen, or rarely, and the collector that does: it is a new one for
/// each input.
const AT_FIRST_SIGHT: &[(&str, &str)] = &[
    ("proc/300/cmdline", "processes"),
    ("proc/300/status", "processes"),
    ("proc/42/cgroup", "processes"),
    ("proc/cpuinfo", "cpu"),
    ("udev/b8:16", "diskstats"),
];

/// Any file of the frozen host: the first two bytes choose it.
const ANY: &str = "any-file";

/// Runs one input.
type Target = Box<dyn FnMut(&[u8]) + Send>;

static TARGET: OnceLock<Mutex<Target>> = OnceLock::new();

fn choose() -> Target {
    let name = std::env::var("TARGET").unwrap_or_default();
    if let Some((_, run)) = bytes::TARGETS.iter().find(|(known, _)| *known == name) {
        return Box::new(run);
    }
    if name == ANY {
        return host::any_file();
    }
    if FILES.contains(&name.as_str()) {
        return host::one_file(&name);
    }
    if let Some((file, collector)) = AT_FIRST_SIGHT.iter().find(|(file, _)| *file == name) {
        return host::at_first_sight(file, collector);
    }
    let files = FILES.iter().chain(AT_FIRST_SIGHT.iter().map(|(file, _)| file)).copied();
    let names = bytes::TARGETS.iter().map(|(name, _)| *name).chain([ANY]).chain(files);
    names.for_each(|name| println!("{name}"));
    std::process::exit(i32::from(name != "list"));
}

fuzz_target!(init: {
    TARGET.get_or_init(|| Mutex::new(choose()));
}, |data: &[u8]| {
    let mut target = TARGET.get().expect("set at the start").lock().expect("a panic ends the run");
    target(data);
});
