//! What the whole simulation has done so far.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use utilizer_agent::host::HostRoot;
use utilizer_agent::own_process::OwnProcess;
use utilizer_agent::snapshot::Families;
use wire::GroupName;

/// Counters that every connection adds to.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Records made in this run.
    pub(super) made: AtomicU64,
    /// Publishes of records, repetitions among them.
    pub(super) sent: AtomicU64,
    /// Publishes of records that had been published before in this run.
    pub(super) again: AtomicU64,
    /// Publishes of records that the broker took.
    pub(super) acked: AtomicU64,
    /// Publishes that a broken connection left unanswered.
    pub(super) unanswered: AtomicU64,
    /// Publishes that the broker refused.
    pub(super) refused: AtomicU64,
    /// Records that every group has stored, or the broker where there is no group.
    pub(super) freed: AtomicU64,
    /// Records declared lost.
    pub(super) declared: AtomicU64,
    /// Confirmations that came.
    pub(super) confirmations: AtomicU64,
    /// Bytes of payload published.
    pub(super) bytes: AtomicU64,
    /// Connections that stand.
    pub(super) connections: AtomicU64,
    /// Hosts with nothing left to do.
    pub(super) done: AtomicU64,
    committed: Mutex<BTreeMap<GroupName, u64>>,
}

impl Totals {
    /// Adds to a counter.
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// A counter's value.
    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// A group has stored more.
    pub(super) fn committed(&self, group: &GroupName, more: u64) {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        match committed.get_mut(group) {
            Some(count) => *count += more,
            None => drop(committed.insert(group.clone(), more)),
        }
    }

    fn groups(&self) -> Vec<(GroupName, u64)> {
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        committed.iter().map(|(group, count)| (group.clone(), *count)).collect()
    }
}

impl fmt::Display for Totals {
    /// One line: `made 100, sent 120 (20 again), stored 80 (clickhouse 80, postgres 90), declared 0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = Self::get;
        write!(f, "made {}, sent {} ({} again)", get(&self.made), get(&self.sent), get(&self.again))?;
        write!(f, ", done with {}", get(&self.freed))?;
        let groups: Vec<_> = self.groups().into_iter().map(|(group, count)| format!("{group} {count}")).collect();
        if !groups.is_empty() {
            write!(f, " (committed: {})", groups.join(", "))?;
        }
        write!(f, ", declared lost {}", get(&self.declared))?;
        for (count, what) in [(get(&self.unanswered), "unanswered"), (get(&self.refused), "refused by the broker")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// This process' resident memory in bytes and CPU time.
pub(super) fn own_use() -> (Option<f64>, Duration) {
    let mut families = Families::default();
    OwnProcess::new(&HostRoot::default()).describe(&mut families);
    let cpu = families.single("process_cpu_seconds_total").unwrap_or_default();
    (families.single("process_resident_memory_bytes"), Duration::try_from_secs_f64(cpu).unwrap_or_default())
}
