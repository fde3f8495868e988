//! How many processes and threads there are, by state, from the pass over them that also finds the busiest.
//!
//! The states of single threads (`node_processes_threads_state`) need a file for each of them, and so are only read where
//! the configuration says so.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome, PROCESSES, Pass};
use crate::host::{Attribute, HostRoot};
use crate::pattern::Pattern;
use crate::processes::{Group, GroupFile, SharedTable};
use crate::snapshot::{Families, Labels};

/// The limits are settings of the system, which hardly ever change.
const PASSES_BETWEEN_LIMITS: u32 = 30;

/// `[collectors.processes]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many of the processes with most CPU time, and how many of those with most memory, are told one by one.
    pub top: usize,
    /// Whether their command lines are told, without secrets.
    pub command_line: bool,
    /// What is hidden in command lines beside what looks like a secret.
    pub redact: Vec<Pattern>,
    /// What `[redact]` hides. From there, and not a key of its own.
    #[serde(skip)]
    pub redactor: Arc<logs::Redactor>,
    /// Groups of processes. A process is in the first that takes it.
    pub groups: Vec<Group>,
    /// Whether a process that no group takes is in that of its parent.
    pub group_children: bool,
    /// Which files are read of each process in a group, beside `stat`.
    pub group_files: Vec<GroupFile>,
    /// Whether the states of threads are counted, for which a file of each is read.
    pub thread_states: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            top: 20,
            command_line: true,
            redact: Vec::new(),
            redactor: Arc::default(),
            groups: Vec::new(),
            group_children: true,
            group_files: vec![GroupFile::Fd, GroupFile::Io, GroupFile::Status],
            thread_states: false,
        }
    }
}

/// The collector. The table is also the sampler's, which asks it for the busiest processes.
pub(crate) struct Processes {
    table: SharedTable,
    /// Whether the processes are to be read in this pass: a scrape shows what the interval found.
    due: bool,
    limits: [Limit; 2],
    passes: u32,
    states: Cache<Labels>,
}

/// A limit of the kernel, as last read.
struct Limit {
    family: &'static str,
    help: &'static str,
    file: Attribute,
    value: Option<f64>,
}

impl Processes {
    pub(crate) fn new(host: &HostRoot, table: SharedTable) -> Self {
        let limit = |family, help, file| Limit { family, help, file: Attribute::new(host.proc(file)), value: None };
        let limits = [
            limit("node_processes_max_processes", "Number of max PIDs limit", "sys/kernel/pid_max"),
            limit("node_processes_max_threads", "Limit of threads in the system", "sys/kernel/threads-max"),
        ];
        Self { table, due: true, limits, passes: 0, states: Cache::default() }
    }
}

impl Collector for Processes {
    fn name(&self) -> &'static str {
        PROCESSES
    }

    fn begin(&mut self, pass: Pass) {
        self.due |= pass == Pass::Interval;
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let mut table = self.table.lock();
        if std::mem::take(&mut self.due) {
            if self.passes.is_multiple_of(PASSES_BETWEEN_LIMITS) {
                for limit in &mut self.limits {
                    // One that may not be read is missing, and no reason to show no processes.
                    limit.value = limit.file.number().unwrap_or_default();
                }
            }
            self.passes = self.passes.wrapping_add(1);
            if let Err(error) = table.sample(Instant::now()) {
                // A scrape tries again rather than to show nothing for an interval.
                self.due = true;
                return Err(error);
            }
        }
        let counts = table.counts();
        for limit in &self.limits {
            if let Some(value) = limit.value {
                out.gauge(limit.family, limit.help);
                out.value(value);
            }
        }
        out.gauge("node_processes_pids", "Number of PIDs");
        out.value(counts.processes as f64);
        out.gauge("node_processes_state", "Number of processes in each state.");
        self.states.begin();
        for (state, count) in counts.states() {
            let labels = self.states.get(&[state], |letter| Labels::new([("state", letter)]));
            out.push(labels, count as f64);
        }
        if let Some(states) = counts.thread_states() {
            out.gauge("node_processes_threads_state", "Number of threads in each state.");
            for (state, count) in states {
                let key = [b't', state];
                let labels =
                    self.states.get(&key, |key| Labels::new([("thread_state", key.get(1..).unwrap_or_default())]));
                out.push(labels, count as f64);
            }
        }
        self.states.end();
        out.gauge("node_processes_threads", "Allocated threads in system");
        out.value(counts.threads as f64);
        table.group_families(out);
        Ok(Outcome::Data)
    }
}
