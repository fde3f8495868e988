//! Which processes use the CPU and the memory: one pass over `/proc/PID/stat`.
//!
//! `stat` is the dearest file of a pass, so everything comes from this one (resident memory from its field 24, not
//! from `statm`), and files stay open up to a bound. None is evicted for another: on a scan that goes round, that would
//! reopen them all.

pub(crate) mod cgroup;
mod details;
mod files;
mod groups;
mod redact;
mod stat;
mod table;
mod threads;
mod users;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::collectors::ProcessSettings;
use crate::host::HostRoot;

pub use details::Details;
pub use groups::{Group, GroupFile, Template};
pub use table::{Counts, ProcessTable};

/// What one process used over an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessUsage {
    /// Process id.
    pub pid: u32,
    /// The name that the process gave itself, at most 15 bytes; longer for kernel threads.
    pub name: String,
    /// Share of the interval on a CPU; one core is 100.
    pub cpu_percent: f64,
    /// Share of the host's memory; missing where that is not known.
    pub memory_percent: Option<f64>,
    /// Resident memory.
    pub resident_memory_bytes: f64,
    /// Threads.
    pub threads: u64,
    /// The kernel's letter for the state, such as `R`, `S` or `D`.
    pub state: char,
    /// When it started, in clock ticks since boot: with the pid, a process' identity.
    pub start_ticks: u64,
    /// When it started, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// What takes more files than all processes are read with.
    pub details: Details,
}

/// The table of a host's processes, which a collector fills and the sampler asks.
#[derive(Clone)]
pub struct SharedTable(Arc<Mutex<ProcessTable>>);

impl SharedTable {
    /// Of this host. Reads nothing yet.
    pub fn new(host: &HostRoot, settings: &ProcessSettings) -> Self {
        Self(Arc::new(Mutex::new(ProcessTable::new(host, settings))))
    }

    /// The table, for this pass. One thread uses it, so nobody waits.
    pub fn lock(&self) -> MutexGuard<'_, ProcessTable> {
        // After a panic in the middle of a pass the next one begins anew.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
