//! What reads the host: one file a collector, one explicit list of them.
//!
//! A collector parses one source and appends families to a [`Families`]; it never knows who reads them. Parsers are
//! pure functions over bytes; the reading around them is thin and adds the path to the error. To add a collector,
//! write its file, and name it in [`CATALOGUE`] and in `linux`; keys of its own are a `Settings` in its file, which
//! [`CollectorSettings`] has as a table.

mod arp;
mod bcache;
mod bonding;
mod btrfs;
mod cache;
mod cgroups;
mod conntrack;
mod cpu;
mod cpufreq;
mod devices;
mod diskstats;
mod dmi;
mod drm;
mod edac;
mod entropy;
mod fibrechannel;
mod filefd;
mod filesystem;
mod gpu;
mod hwmon;
mod infiniband;
mod interrupts;
mod ipvs;
mod links;
mod loadavg;
mod mdadm;
mod meminfo;
mod meminfo_numa;
pub(crate) mod names;
mod netclass;
mod netdev;
mod netstat;
mod nfs;
mod nfsd;
mod nvme;
mod os;
mod portable;
mod powersupplyclass;
mod pressure;
mod processes;
mod procstat;
mod rapl;
mod rare;
mod registry;
mod rpc;
mod schedstat;
mod selinux;
mod settings;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
#[doc(hidden)]
pub mod systemd;
mod table;
mod tapestats;
mod tcpstat;
#[doc(hidden)]
pub mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;
mod xfs;
mod zfs;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub use processes::Settings as ProcessSettings;
pub use registry::{Registry, State, Status};
pub use settings::CollectorSettings;

use crate::host::{HostRoot, ReadError, TextError};
use crate::processes::SharedTable;
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

    /// Whether it runs behind the others, because it looks at what they appended or takes what they leave.
    fn runs_last(&self) -> bool {
        false
    }

    /// Waits for answers to what [`Collector::begin`] asked, at the latest `until`: where no later pass can show them.
    fn settle(&mut self, until: Instant) {
        let _ = until;
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

/// The collector that reads the processes into the table that the sampler asks for the busiest ones.
pub const PROCESSES: &str = "processes";

/// All collectors by name, in the order in which they run, and whether each runs by default.
pub const CATALOGUE: &[(&str, bool)] = &[
    ("arp", true),
    ("bcache", true),
    ("bonding", true),
    ("btrfs", true),
    ("cgroups", false),
    ("conntrack", true),
    ("cpu", true),
    ("cpufreq", true),
    ("diskstats", true),
    ("dmi", true),
    ("drm", true),
    ("edac", true),
    ("entropy", true),
    ("fibrechannel", true),
    ("filefd", true),
    ("filesystem", true),
    ("gpu", true),
    ("hwmon", true),
    ("infiniband", true),
    ("interrupts", false),
    ("ipvs", true),
    ("loadavg", true),
    ("mdadm", true),
    ("meminfo", true),
    ("meminfo_numa", false),
    ("netclass", true),
    ("netdev", true),
    ("netstat", true),
    ("nfs", true),
    ("nfsd", true),
    ("nvme", true),
    ("os", true),
    ("powersupplyclass", true),
    ("pressure", true),
    (PROCESSES, true),
    ("rapl", true),
    ("schedstat", true),
    ("selinux", true),
    ("sockstat", true),
    ("softirqs", false),
    ("softnet", true),
    ("stat", true),
    ("systemd", false),
    ("tapestats", true),
    ("tcpstat", false),
    ("textfile", true),
    ("thermal_zone", true),
    ("time", true),
    ("timex", true),
    ("udp_queues", true),
    ("uname", true),
    ("vmstat", true),
    ("watchdog", true),
    ("xfs", true),
    ("zfs", true),
];

/// The names in [`CATALOGUE`].
pub fn names() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|(name, _)| *name)
}

/// All collectors that run by `settings`, in the order of [`CATALOGUE`].
///
/// Everything compiles on every Unix, so that nothing rots where nobody runs it; which readers are taken is decided here.
pub fn all(host: &HostRoot, settings: &CollectorSettings) -> Vec<Box<dyn Collector>> {
    all_over(host, settings, &SharedTable::new(host, &settings.processes))
}

/// The same over this table of processes, which outlives them.
pub fn all_over(host: &HostRoot, settings: &CollectorSettings, processes: &SharedTable) -> Vec<Box<dyn Collector>> {
    let mut list = if cfg!(target_os = "linux") { linux(host, settings, processes) } else { portable::all() };
    list.retain(|collector| settings.runs(collector.name()));
    list
}

/// The readers of `/proc` and `/sys`.
fn linux(host: &HostRoot, settings: &CollectorSettings, processes: &SharedTable) -> Vec<Box<dyn Collector>> {
    let proc_stat = Arc::new(Mutex::new(procstat::ProcStatFile::new(host)));
    let links = Arc::new(Mutex::new(links::Links::new(host)));
    let list: Vec<Box<dyn Collector>> = vec![
        Box::new(arp::Arp::new(host, &settings.arp)),
        Box::new(bcache::Bcache::new(host, &settings.bcache)),
        Box::new(bonding::Bonding::new(host)),
        Box::new(btrfs::Btrfs::new(host)),
        Box::new(cgroups::Cgroups::new(host, &settings.cgroups)),
        Box::new(conntrack::ConnTrack::new(host)),
        Box::new(cpu::Cpu::new(host, &settings.cpu, Arc::clone(&proc_stat))),
        Box::new(cpufreq::CpuFreq::new(host)),
        Box::new(diskstats::DiskStats::new(host, &settings.diskstats)),
        Box::new(dmi::Dmi::new(host)),
        Box::new(drm::Drm::new(host)),
        Box::new(edac::Edac::new(host)),
        Box::new(entropy::Entropy::new(host)),
        Box::new(fibrechannel::FibreChannel::new(host)),
        Box::new(filefd::FileFd::new(host)),
        Box::new(filesystem::Filesystem::new(host, &settings.filesystem)),
        Box::new(gpu::Gpu::new(host, &settings.gpu)),
        Box::new(hwmon::HwMon::new(host, &settings.hwmon)),
        Box::new(infiniband::InfiniBand::new(host, &settings.infiniband)),
        Box::new(interrupts::Interrupts::new(host, &settings.interrupts)),
        Box::new(ipvs::Ipvs::new(host, &settings.ipvs)),
        Box::new(loadavg::LoadAvg::new(host)),
        Box::new(mdadm::MdAdm::new(host)),
        Box::new(meminfo::MemInfo::new(host)),
        Box::new(meminfo_numa::MemInfoNuma::new(host)),
        Box::new(netclass::NetClass::new(host, &settings.netclass, Arc::clone(&links))),
        Box::new(netdev::NetDev::new(host, &settings.netdev, links)),
        Box::new(netstat::NetStat::new(host, &settings.netstat)),
        Box::new(nfs::Nfs::new(host)),
        Box::new(nfsd::Nfsd::new(host)),
        Box::new(nvme::Nvme::new(host)),
        Box::new(os::Os::new(host)),
        Box::new(powersupplyclass::PowerSupplies::new(host, &settings.powersupplyclass)),
        Box::new(pressure::Pressure::new(host)),
        Box::new(processes::Processes::new(host, processes.clone())),
        Box::new(rapl::Rapl::new(host, &settings.rapl)),
        Box::new(schedstat::SchedStat::new(host)),
        Box::new(selinux::SeLinux::new(host)),
        Box::new(sockstat::SockStat::new(host)),
        Box::new(softirqs::SoftIrqs::new(host)),
        Box::new(softnet::SoftNet::new(host)),
        Box::new(stat::Stat::new(&settings.stat, proc_stat)),
        Box::new(systemd::Systemd::new(host, &settings.systemd)),
        Box::new(tapestats::TapeStats::new(host, &settings.tapestats)),
        Box::new(tcpstat::TcpStat::new(host)),
        Box::new(textfile::TextFiles::new(&settings.textfile)),
        Box::new(thermal_zone::ThermalZone::new(host)),
        Box::new(time::Time::new(host)),
        Box::new(timex::Timex),
        Box::new(udp_queues::UdpQueues::new(host)),
        Box::new(uname::Uname::new()),
        Box::new(vmstat::VmStat::new(host, &settings.vmstat)),
        Box::new(watchdog::Watchdogs::new(host)),
        Box::new(xfs::Xfs::new(host)),
        Box::new(zfs::Zfs::new(host)),
    ];
    debug_assert!(list.iter().map(|c| c.name()).eq(names()), "BUG: CATALOGUE and linux() differ");
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disabled_collector_is_left_out() {
        let host = HostRoot::default();
        let every = all(&host, &CollectorSettings::default()).len();
        let by_default = CATALOGUE.iter().filter(|(_, default)| *default);
        assert_eq!(every, by_default.count());
        let settings = CollectorSettings { disable: vec!["vmstat".into(), "cpu".into()], ..Default::default() };
        let names: Vec<_> = all(&host, &settings).iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), every - 2);
        assert!(!names.contains(&"cpu") && !names.contains(&"vmstat"));
    }
}
