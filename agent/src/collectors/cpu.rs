//! Time of each CPU by mode, from `/proc/stat`.

use std::sync::{Arc, Mutex, PoisonError};

use crate::collectors::cache::Cache;
use crate::collectors::procstat::ProcStatFile;
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::snapshot::{Families, Labels};

/// In the order of the file.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];

struct CpuLabels {
    modes: [Labels; 8],
    guest: [Labels; 2],
}

impl CpuLabels {
    fn new(cpu: &str) -> Self {
        Self {
            modes: MODES.map(|mode| Labels::new([("cpu", cpu), ("mode", mode)])),
            guest: GUEST_MODES.map(|mode| Labels::new([("cpu", cpu), ("mode", mode)])),
        }
    }
}

/// See the module.
pub(crate) struct Cpu {
    stat: Arc<Mutex<ProcStatFile>>,
    labels: Cache<CpuLabels>,
    ticks_per_second: f64,
}

impl Cpu {
    pub(crate) fn new(stat: Arc<Mutex<ProcStatFile>>) -> Self {
        Self { stat, labels: Cache::default(), ticks_per_second: rustix::param::clock_ticks_per_second() as f64 }
    }
}

impl Collector for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn begin(&mut self, _: Pass) {
        self.stat.lock().unwrap_or_else(PoisonError::into_inner).begin();
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let mut stat = self.stat.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = &stat.current()?.cpus;
        self.labels.begin();
        for cpu in cpus {
            // The number's bytes are a key as good as its digits, and cost no formatting.
            self.labels.get(&cpu.cpu.to_ne_bytes(), |_| CpuLabels::new(&cpu.cpu.to_string()));
        }

        out.counter("node_cpu_guest_seconds_total", "Seconds the CPUs spent in guests (VMs) for each mode.");
        for (cpu, labels) in cpus.iter().zip(self.labels.asked()) {
            for (ticks, labels) in cpu.guest.iter().flatten().zip(&labels.guest) {
                out.push(labels, *ticks as f64 / self.ticks_per_second);
            }
        }
        out.counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
        for (cpu, labels) in cpus.iter().zip(self.labels.asked()) {
            for (ticks, labels) in cpu.modes.iter().zip(&labels.modes) {
                out.push(labels, *ticks as f64 / self.ticks_per_second);
            }
        }
        self.labels.end();
        Ok(Outcome::Data)
    }
}
