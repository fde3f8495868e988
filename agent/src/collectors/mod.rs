//! What reads the host: one file a collector, one explicit list of them.
//!
//! A collector parses one source and appends families to a [`Families`]; it never knows who reads them. Parsers are
//! pure functions over bytes; the reading around them is thin and adds the path to the error. To add a collector,
//! write its file, and name it in [`NAMES`] and in [`all`].

mod cache;
mod cpu;
mod diskstats;
mod filesystem;
mod loadavg;
mod meminfo;
mod names;
mod netdev;
mod pressure;
mod procstat;
mod registry;
mod stat;
mod time;
mod uname;
mod vmstat;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use registry::{Registry, State, Status};

use crate::host::{HostRoot, ReadError, TextError};
use crate::snapshot::Families;

/// One source of families.
pub trait Collector: Send {
    /// Its name, as the configuration and the label `collector` have it.
    fn name(&self) -> &'static str;

    /// Told to every collector before the first of a pass runs. At an interval pass, what must not be asked for at
    /// each scrape is asked for here. What goes wrong is said by [`Collector::collect`].
    fn begin(&mut self, pass: Pass) {
        let _ = pass;
    }

    /// Appends what it finds to `out`. What a failed one appended is taken back by the [`Registry`].
    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError>;
}

/// Why the collectors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The interval has come round: slow sources are asked again.
    Interval,
    /// Somebody scrapes between intervals: slow sources show what the last interval found.
    Scrape,
}

/// How a reading ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something was read.
    Data,
    /// This machine or kernel does not have what the collector reads. Not an error, and nothing is shown.
    Nothing,
}

/// A reading failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file was read but does not say what it should.
    #[error("{} does not read as expected: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: TextError,
    },
    /// A system call other than on a file failed, or a helper thread could not be used.
    #[error("cannot {what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl CollectError {
    /// For `map_err` on a parser's result.
    pub(crate) fn malformed(path: &std::path::Path) -> impl FnOnce(TextError) -> Self {
        move |source| Self::Malformed { path: path.into(), source }
    }
}

/// Turns an absent file into [`Outcome::Nothing`].
pub(crate) fn nothing_if_absent(error: CollectError) -> Result<Outcome, CollectError> {
    match error {
        CollectError::Read(error) if error.is_nothing_here() => Ok(Outcome::Nothing),
        error => Err(error),
    }
}

/// The list of processes. It fills no families, so the sampler runs it beside the collectors; for whoever configures, it is one.
pub const PROCESSES: &str = "processes";

/// The names of all collectors, in the order in which they run, and [`PROCESSES`].
pub const NAMES: &[&str] = &[
    "cpu",
    "diskstats",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "pressure",
    "stat",
    "time",
    "uname",
    "vmstat",
    PROCESSES,
];

/// What the configuration says about collectors.
#[derive(Debug, Clone)]
pub struct CollectorSettings {
    /// Collectors that do not run. Names that are not in [`NAMES`] are the configuration's to refuse.
    pub disable: Vec<String>,
    /// How long a mount may take to answer before it is reported as hung.
    pub filesystem_deadline: Duration,
}

impl Default for CollectorSettings {
    fn default() -> Self {
        Self { disable: Vec::new(), filesystem_deadline: Duration::from_secs(5) }
    }
}

/// All collectors that `settings` does not disable, in the order in which they run.
pub fn all(host: &HostRoot, settings: &CollectorSettings) -> Vec<Box<dyn Collector>> {
    let proc_stat = Arc::new(Mutex::new(procstat::ProcStatFile::new(host)));
    let mut list: Vec<Box<dyn Collector>> = vec![
        Box::new(cpu::Cpu::new(Arc::clone(&proc_stat))),
        Box::new(diskstats::DiskStats::new(host)),
        Box::new(filesystem::Filesystem::new(host, settings.filesystem_deadline)),
        Box::new(loadavg::LoadAvg::new(host)),
        Box::new(meminfo::MemInfo::new(host)),
        Box::new(netdev::NetDev::new(host)),
        Box::new(pressure::Pressure::new(host)),
        Box::new(stat::Stat::new(proc_stat)),
        Box::new(time::Time),
        Box::new(uname::Uname::new()),
        Box::new(vmstat::VmStat::new(host)),
    ];
    let named = NAMES.iter().copied().filter(|name| *name != PROCESSES);
    debug_assert!(list.iter().map(|c| c.name()).eq(named), "BUG: NAMES and all() differ");
    list.retain(|collector| !settings.disable.iter().any(|name| name == collector.name()));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disabled_collector_is_left_out() {
        let host = HostRoot::default();
        let every = all(&host, &CollectorSettings::default()).len();
        assert_eq!(every, NAMES.len() - 1);
        let settings = CollectorSettings { disable: vec!["vmstat".into(), "cpu".into()], ..Default::default() };
        let names: Vec<_> = all(&host, &settings).iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), every - 2);
        assert!(!names.contains(&"cpu") && !names.contains(&"vmstat"));
    }
}
