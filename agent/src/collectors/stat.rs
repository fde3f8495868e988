//! Boot time, context switches, forks, interrupts and task counts, from `/proc/stat`.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::collectors::procstat::{ProcStatFile, SOFTIRQS};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::snapshot::{Families, Labels, MetricType};

/// `[collectors.stat]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show software interrupts by type, in `node_softirqs_total`.
    pub softirq: bool,
}

/// See the module.
pub(crate) struct Stat {
    stat: Arc<Mutex<ProcStatFile>>,
    /// None where they are not shown.
    softirq_labels: Vec<Labels>,
}

impl Stat {
    pub(crate) fn new(settings: &Settings, stat: Arc<Mutex<ProcStatFile>>) -> Self {
        let types = if settings.softirq { &SOFTIRQS[..] } else { &[] };
        let softirq_labels = types.iter().map(|one| Labels::new([("vector", *one)])).collect();
        Self { stat, softirq_labels }
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
        if let Some(softirqs) = &stat.softirqs {
            out.counter("node_softirqs_total", "Number of softirq calls.");
            for (labels, count) in self.softirq_labels.iter().zip(softirqs) {
                out.push(labels, *count as f64);
            }
        }
        Ok(Outcome::Data)
    }
}
