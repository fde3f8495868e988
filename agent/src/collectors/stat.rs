//! Boot time, context switches, forks, interrupts and task counts, from `/proc/stat`.

use std::sync::{Arc, Mutex, PoisonError};

use crate::collectors::procstat::ProcStatFile;
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::snapshot::{Families, MetricType};

/// See the module.
pub(crate) struct Stat {
    stat: Arc<Mutex<ProcStatFile>>,
}

impl Stat {
    pub(crate) fn new(stat: Arc<Mutex<ProcStatFile>>) -> Self {
        Self { stat }
    }
}

impl Collector for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn begin(&mut self, _: Pass) {
        self.stat.lock().unwrap_or_else(PoisonError::into_inner).begin();
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        use MetricType::{Counter, Gauge};
        let mut stat = self.stat.lock().unwrap_or_else(PoisonError::into_inner);
        let stat = stat.current()?;
        for (name, help, kind, value) in [
            ("node_boot_time_seconds", "Node boot time, in unixtime.", Gauge, stat.boot_time),
            ("node_context_switches_total", "Total number of context switches.", Counter, stat.context_switches),
            ("node_forks_total", "Total number of forks.", Counter, stat.forks),
            ("node_intr_total", "Total number of interrupts serviced.", Counter, stat.interrupts),
            ("node_procs_blocked", "Number of processes blocked waiting for I/O to complete.", Gauge, stat.blocked),
            ("node_procs_running", "Number of processes in runnable state.", Gauge, stat.running),
        ] {
            if let Some(value) = value {
                out.family(name, help, kind);
                out.value(value as f64);
            }
        }
        Ok(Outcome::Data)
    }
}
