//! The agent's own process, under the names that Prometheus' client libraries give.

use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::host::{HostRoot, KeptFile, fields};
use crate::snapshot::Families;

/// Reads what the process uses; keeps what does not change.
#[derive(Debug)]
pub struct OwnProcess {
    statm: KeptFile,
    descriptors: std::path::PathBuf,
    started: Option<f64>,
}

impl OwnProcess {
    /// Of this process as the host shows it.
    pub fn new(root: &HostRoot) -> Self {
        Self {
            statm: KeptFile::record(root.proc("self/statm")),
            descriptors: root.proc("self/fd"),
            started: started(root),
        }
    }

    /// Appends the families. What can't be read is missing.
    pub fn describe(&mut self, out: &mut Families) {
        let limit = |resource| getrlimit(resource).current.map_or(u64::MAX as f64, |limit| limit as f64);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        out.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
        out.value(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        out.gauge("process_max_fds", "Maximum number of open file descriptors.");
        out.value(limit(Resource::Nofile));
        if let Some(open) = self.open_descriptors() {
            out.gauge("process_open_fds", "Number of open file descriptors.");
            out.value(open);
        }
        let page = rustix::param::page_size() as f64;
        let sizes = self.statm.read(|text| {
            let mut words = fields(text);
            Some((words.number("size").ok()?, words.number("resident").ok()?))
        });
        if let Ok(Some((size, resident))) = sizes {
            out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
            out.value(resident as f64 * page);
            out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
            out.value(size as f64 * page);
        }
        if let Some(started) = self.started {
            out.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
            out.value(started);
        }
        out.gauge("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.");
        out.value(limit(Resource::As));
    }

    /// Linux 6.2 and newer tell it as the size of the directory; before, its entries are counted.
    fn open_descriptors(&self) -> Option<f64> {
        let size = std::fs::metadata(&self.descriptors).ok()?.len();
        if size > 0 {
            return Some(size as f64);
        }
        // The one that reads the directory is among them.
        Some(std::fs::read_dir(&self.descriptors).ok()?.count().saturating_sub(1) as f64)
    }
}

/// Ticks since the boot count the time asleep as well.
#[cfg(target_os = "linux")]
const SINCE_BOOT: ClockId = ClockId::Boottime;
/// Nobody asks: there is no procfs to read the start from.
#[cfg(not(target_os = "linux"))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

/// Seconds since 1970.
fn started(root: &HostRoot) -> Option<f64> {
    let stat = std::fs::read(root.proc("self/stat")).ok()?;
    // The name, in parentheses, may hold spaces; the start is the 20th field behind it, in ticks since the boot.
    let behind = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut words = fields(stat.get(behind..)?);
    for _ in 0..19 {
        words.next()?;
    }
    let ticks = words.number("start").ok()?;
    let boot = clock_gettime(SINCE_BOOT);
    let up = boot.tv_sec as f64 + boot.tv_nsec as f64 / 1e9;
    let age = up - ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let begun = SystemTime::now().checked_sub(Duration::try_from_secs_f64(age.max(0.0)).ok()?)?;
    let since = begun.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    // Ticks are hundredths of a second.
    Some((since.as_secs_f64() * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let mut own = OwnProcess::new(&HostRoot::default());
        let mut out = Families::default();
        own.describe(&mut out);
        let value = |name: &str| out.single(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-1.0..86400.0).contains(&age), "{age}");
        let nowhere = HostRoot { proc: "/nonexistent".into(), ..HostRoot::default() };
        let mut out = Families::default();
        OwnProcess::new(&nowhere).describe(&mut out);
        assert!(out.single("process_open_fds").is_none() && out.single("process_cpu_seconds_total").is_some());
    }
}
