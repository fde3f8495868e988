//! Time of each CPU by mode, from `/proc/stat`; which CPUs are online, isolated or were throttled, from sysfs; and what
//! they are, from `/proc/cpuinfo`.

mod info;
mod topology;

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::procstat::{CpuTicks, ProcStatFile};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::pattern::Pattern;
use crate::snapshot::{Families, Labels};
use info::Info;
use topology::Topology;

/// `[collectors.cpu]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show `node_cpu_guest_seconds_total`.
    pub guest: bool,
    /// Show `node_cpu_info`.
    pub info: bool,
    /// Show `node_cpu_flag_info` for the flags that match, and `node_cpu_info` with it.
    pub info_flags_include: Pattern,
    /// Show `node_cpu_bug_info` for the bugs that match, and `node_cpu_info` with it.
    pub info_bugs_include: Pattern,
}

impl Default for Settings {
    /// node_exporter's.
    fn default() -> Self {
        Self { guest: true, info: false, info_flags_include: Pattern::default(), info_bugs_include: Pattern::default() }
    }
}

/// In the order of the file.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const GUEST_MODES: [&str; 2] = ["user", "nice"];

/// A CPU's idle time that steps back by as much begins anew: the CPU was switched off and on. A smaller step is the kernel
/// correcting its accounts, and is not shown.
const STEP_BACK_SECONDS: u64 = 3;

/// What is shown of a CPU.
struct Shown {
    mode_labels: [Labels; 8],
    guest_labels: [Labels; 2],
    modes: [u64; 8],
    guest: Option<[u64; 2]>,
}

impl Shown {
    fn new(cpu: &str) -> Self {
        Self {
            mode_labels: MODES.map(|mode| Labels::new([("cpu", cpu), ("mode", mode)])),
            guest_labels: GUEST_MODES.map(|mode| Labels::new([("cpu", cpu), ("mode", mode)])),
            modes: [0; 8],
            guest: None,
        }
    }

    /// Takes over what was read, so that no counter goes back but where all began anew.
    fn take(&mut self, now: &CpuTicks, step_back: u64) {
        let anew = self.modes[IDLE].saturating_sub(now.modes[IDLE]) >= step_back;
        let forward = |shown: u64, now: u64| if anew { now } else { shown.max(now) };
        for (shown, now) in self.modes.iter_mut().zip(now.modes) {
            *shown = forward(*shown, now);
        }
        let before = self.guest.unwrap_or_default();
        self.guest = now.guest.map(|[user, nice]| [forward(before[0], user), forward(before[1], nice)]);
    }
}

/// See the module.
pub(crate) struct Cpu {
    stat: Arc<Mutex<ProcStatFile>>,
    guest: bool,
    cpus: Cache<Shown>,
    /// The CPUs that were online at the last pass.
    known: Vec<u32>,
    topology: Topology,
    info: Option<Info>,
    ticks_per_second: u64,
}

impl Cpu {
    pub(crate) fn new(host: &HostRoot, settings: &Settings, stat: Arc<Mutex<ProcStatFile>>) -> Self {
        Self {
            stat,
            guest: settings.guest,
            cpus: Cache::default(),
            known: Vec::new(),
            topology: Topology::new(host),
            info: Info::new(host, settings),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
        }
    }
}

impl Collector for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn begin(&mut self, pass: Pass) {
        self.stat.lock().unwrap_or_else(PoisonError::into_inner).begin();
        self.topology.begin(pass);
        if let Some(info) = &mut self.info {
            info.begin(pass);
        }
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let mut stat = self.stat.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = &stat.current()?.cpus;
        let step_back = STEP_BACK_SECONDS * self.ticks_per_second;
        self.cpus.begin();
        for cpu in cpus {
            // The number's bytes are a key as good as its digits, and cost no formatting.
            let shown = self.cpus.get(&cpu.cpu.to_ne_bytes(), |_| Shown::new(&cpu.cpu.to_string()));
            shown.take(cpu, step_back);
        }
        self.cpus.end();
        if !self.known.iter().eq(cpus.iter().map(|cpu| &cpu.cpu)) {
            self.known.clear();
            self.known.extend(cpus.iter().map(|cpu| cpu.cpu));
            self.topology.soon();
            if let Some(info) = &mut self.info {
                info.soon();
            }
        }

        let seconds = |ticks: u64| ticks as f64 / self.ticks_per_second as f64;
        if self.guest {
            out.counter("node_cpu_guest_seconds_total", "Seconds the CPUs spent in guests (VMs) for each mode.");
            for shown in self.cpus.asked() {
                for (ticks, labels) in shown.guest.iter().flatten().zip(&shown.guest_labels) {
                    out.push(labels, seconds(*ticks));
                }
            }
        }
        out.counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
        for shown in self.cpus.asked() {
            for (ticks, labels) in shown.modes.iter().zip(&shown.mode_labels) {
                out.push(labels, seconds(*ticks));
            }
        }
        self.topology.collect(out)?;
        if let Some(info) = &mut self.info {
            info.collect(out)?;
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(modes: [u64; 8], guest: Option<[u64; 2]>) -> CpuTicks {
        CpuTicks { cpu: 0, modes, guest }
    }

    #[test]
    fn counters_go_back_only_together() {
        let mut shown = Shown::new("0");
        shown.take(&ticks([1000; 8], Some([100; 2])), 300);
        // A correction: each counter waits until the kernel's has caught up.
        shown.take(&ticks([1001, 999, 1000, 701, 1002, 0, 1000, 1000], Some([99, 101])), 300);
        assert_eq!(shown.modes, [1001, 1000, 1000, 1000, 1002, 1000, 1000, 1000]);
        assert_eq!(shown.guest, Some([100, 101]));
        // Idle time three seconds back: the CPU began anew.
        shown.take(&ticks([5, 0, 3, 700, 0, 0, 1, 0], Some([1, 0])), 300);
        assert_eq!((shown.modes, shown.guest), ([5, 0, 3, 700, 0, 0, 1, 0], Some([1, 0])));
        shown.take(&ticks([6; 8], None), 300);
        assert_eq!(shown.guest, None);
    }

    #[test]
    fn a_cpu_that_comes_back_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { proc: dir.path().into(), sys: dir.path().into(), ..HostRoot::default() };
        let stat = Arc::new(Mutex::new(ProcStatFile::new(&host)));
        let mut cpu = Cpu::new(&host, &Settings { guest: false, ..Settings::default() }, stat);
        let mut users = |text: &str| {
            std::fs::write(dir.path().join("stat"), text).unwrap();
            let mut out = Families::default();
            cpu.begin(Pass::Interval);
            cpu.collect(&mut out).unwrap();
            assert!(out.samples("node_cpu_guest_seconds_total").is_empty());
            let samples = out.samples("node_cpu_seconds_total").iter();
            samples.filter(|s| s.labels.get("mode") == Some("user")).map(|s| s.value).collect::<Vec<_>>()
        };
        let hz = rustix::param::clock_ticks_per_second();
        let line = |cpu: u32, user: u64| format!("cpu{cpu} {} 0 0 {} 0 0 0 0 0 0\n", user * hz, 10 * hz);
        assert_eq!(users(&[line(0, 5), line(1, 7)].concat()), [5.0, 7.0]);
        assert_eq!(users(&[line(0, 4)].concat()), [5.0]);
        assert_eq!(users(&[line(0, 6), line(1, 1)].concat()), [6.0, 1.0]);
    }
}
