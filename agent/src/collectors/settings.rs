//! What the configuration says about collectors: which run, and a table for each that has keys of its own.

use serde::{Deserialize, Serialize};

use crate::collectors::{
    CATALOGUE, arp, bcache, cgroups, cpu, diskstats, filesystem, gpu, hwmon, infiniband, interrupts, ipvs, netclass,
    netdev, netstat, powersupplyclass, processes, rapl, stat, systemd, tapestats, textfile, vmstat,
};

/// `[collectors]`. The tables below it stand beside the collectors that they are for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectorSettings {
    /// Run these too, beside those that run by default.
    pub enable: Vec<String>,
    /// Run these not; stands over `enable`.
    pub disable: Vec<String>,
    /// Run only what `enable` names.
    pub disable_defaults: bool,
    /// `[collectors.arp]`
    pub arp: arp::Settings,
    /// `[collectors.bcache]`
    pub bcache: bcache::Settings,
    /// `[collectors.cgroups]`
    pub cgroups: cgroups::Settings,
    /// `[collectors.cpu]`
    pub cpu: cpu::Settings,
    /// `[collectors.diskstats]`
    pub diskstats: diskstats::Settings,
    /// `[collectors.filesystem]`
    pub filesystem: filesystem::Settings,
    /// `[collectors.gpu]`
    pub gpu: gpu::Settings,
    /// `[collectors.hwmon]`
    pub hwmon: hwmon::Settings,
    /// `[collectors.infiniband]`
    pub infiniband: infiniband::Settings,
    /// `[collectors.interrupts]`
    pub interrupts: interrupts::Settings,
    /// `[collectors.ipvs]`
    pub ipvs: ipvs::Settings,
    /// `[collectors.netclass]`
    pub netclass: netclass::Settings,
    /// `[collectors.netdev]`
    pub netdev: netdev::Settings,
    /// `[collectors.netstat]`
    pub netstat: netstat::Settings,
    /// `[collectors.powersupplyclass]`
    pub powersupplyclass: powersupplyclass::Settings,
    /// `[collectors.processes]`
    pub processes: processes::Settings,
    /// `[collectors.rapl]`
    pub rapl: rapl::Settings,
    /// `[collectors.stat]`
    pub stat: stat::Settings,
    /// `[collectors.systemd]`
    pub systemd: systemd::Settings,
    /// `[collectors.tapestats]`
    pub tapestats: tapestats::Settings,
    /// `[collectors.textfile]`
    pub textfile: textfile::Settings,
    /// `[collectors.vmstat]`
    pub vmstat: vmstat::Settings,
}

impl CollectorSettings {
    /// Whether the collector of this name runs.
    pub fn runs(&self, name: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|listed| listed == name);
        let by_default = CATALOGUE.iter().any(|(known, default)| *known == name && *default);
        !named(&self.disable) && (named(&self.enable) || (by_default && !self.disable_defaults))
    }

    /// The names of those that run, in order.
    pub fn running(&self) -> impl Iterator<Item = &'static str> {
        super::names().filter(|name| self.runs(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_stands_over_the_defaults() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut settings = CollectorSettings::default();
        assert!(settings.runs("cpu") && settings.runs("vmstat") && !settings.runs("nonesuch"));
        settings.disable = list(&["vmstat"]);
        assert!(settings.runs("cpu") && !settings.runs("vmstat"));
        settings.enable = list(&["vmstat", "loadavg"]);
        settings.disable_defaults = true;
        assert_eq!(settings.running().collect::<Vec<_>>(), ["loadavg"]);
    }
}
