//! How fast each CPU runs and may run, from sysfs.
//!
//! What changes is asked at interval passes only: some kernels sleep for 10 ms at each question (`scaling_cur_freq` before
//! Linux 5.18 on x86). Limits and governors are set by people and read rarely.

use std::time::{Duration, Instant};

use crate::collectors::devices::{self, Live, Rarely};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot};
use crate::snapshot::{Families, Labels};

/// Attribute, family and help. sysfs has kHz.
const LIVE: [(&str, &str, &str); 3] = [
    ("cpuinfo_avg_freq", "node_cpu_frequency_avg_hertz", "Average CPU thread frequency in hertz."),
    ("cpuinfo_cur_freq", "node_cpu_frequency_hertz", "Current CPU thread frequency in hertz."),
    ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz."),
];
const SLOW: [(&str, &str, &str); 4] = [
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz."),
    ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz."),
];

/// A kernel that takes longer for all CPUs is asked rarely.
const PATIENCE: Duration = Duration::from_millis(50);

struct Cpu {
    labels: Labels,
    /// `None` where there is no such attribute.
    live: [Option<Live>; LIVE.len()],
    now: [Option<f64>; LIVE.len()],
    slow: [Option<f64>; SLOW.len()],
    /// Each that could be chosen, and whether it is.
    governors: Vec<(Labels, bool)>,
}

/// See the module.
pub(crate) struct CpuFreq {
    directory: Directory,
    rarely: Rarely,
    /// Those that can be asked; none in most virtual machines.
    cpus: Vec<Cpu>,
    has_cpus: bool,
    is_slow: bool,
    error: Option<CollectError>,
}

impl CpuFreq {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self {
            directory: Directory::new(host.sys("devices/system/cpu")),
            rarely: Rarely::new(),
            cpus: Vec::new(),
            has_cpus: false,
            is_slow: false,
            error: None,
        }
    }

    fn scan(&mut self) -> Result<(), CollectError> {
        self.cpus.clear();
        self.has_cpus = false;
        let place = self.directory.path().to_owned();
        let names = self.directory.list()?.unwrap_or_default();
        let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
        for number in names.filter_map(|name| devices::index(name, "cpu")) {
            self.has_cpus = true;
            // A CPU that is switched off has none.
            let place = place.join(format!("cpu{number}/cpufreq"));
            if !place.is_dir() {
                continue;
            }
            let live = LIVE.map(|(name, _, _)| Live::at(place.join(name)));
            let slow = SLOW.map(|(name, _, _)| devices::value(place.join(name)).map(|khz| khz * 1000.0));
            let governor = devices::text(place.join("scaling_governor")).filter(|governor| !governor.is_empty());
            let all = governor.as_ref().and_then(|_| devices::text(place.join("scaling_available_governors")));
            let governors = all.iter().flat_map(|all| all.split_ascii_whitespace());
            let governors = governors
                .map(|one| (Labels::new([("cpu", number), ("governor", one)]), Some(one) == governor.as_deref()));
            self.cpus.push(Cpu {
                labels: Labels::new([("cpu", number)]),
                now: [None; LIVE.len()],
                slow,
                governors: governors.collect(),
                live,
            });
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<(), CollectError> {
        let rarely = self.rarely.is_due();
        if rarely {
            self.scan().inspect_err(|_| self.rarely.soon())?;
        } else if self.is_slow {
            return Ok(());
        }
        let begun = Instant::now();
        for cpu in &mut self.cpus {
            for (now, attribute) in cpu.now.iter_mut().zip(&mut cpu.live) {
                *now = attribute.as_mut().and_then(Live::number).map(|khz| khz * 1000.0);
            }
        }
        self.is_slow = begun.elapsed() > PATIENCE;
        Ok(())
    }
}

impl Collector for CpuFreq {
    fn name(&self) -> &'static str {
        "cpufreq"
    }

    fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
        if pass == Pass::Interval || self.error.is_some() {
            self.error = self.refresh().err();
        }
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if let Some(error) = self.error.take() {
            self.rarely.soon();
            return Err(error);
        }
        // CPUs without a frequency to tell are no failure for node_exporter.
        if !self.has_cpus {
            return Ok(Outcome::Nothing);
        }
        for (at, (_, name, help)) in LIVE.into_iter().enumerate() {
            out.gauge(name, help);
            for cpu in &self.cpus {
                cpu.now[at].into_iter().for_each(|hertz| out.push(&cpu.labels, hertz));
            }
        }
        for (at, (_, name, help)) in SLOW.into_iter().enumerate() {
            out.gauge(name, help);
            for cpu in &self.cpus {
                cpu.slow[at].into_iter().for_each(|hertz| out.push(&cpu.labels, hertz));
            }
        }
        out.gauge("node_cpu_scaling_governor", "Current enabled CPU frequency governor.");
        for (labels, chosen) in self.cpus.iter().flat_map(|cpu| &cpu.governors) {
            out.push(labels, f64::from(*chosen));
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_cpu_with_what_its_driver_tells() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = CpuFreq::new(&host);
        let run = |collector: &mut CpuFreq, pass| {
            let mut out = Families::default();
            collector.begin(pass);
            (collector.collect(&mut out).unwrap(), out)
        };
        assert_eq!(run(&mut collector, Pass::Interval).0, Outcome::Nothing);

        let place = host.sys("devices/system/cpu");
        let first = place.join("cpu0/cpufreq");
        fs::create_dir_all(&first).unwrap();
        fs::create_dir_all(place.join("cpu1")).unwrap();
        for (name, text) in [
            ("scaling_cur_freq", "1700000\n"),
            ("cpuinfo_max_freq", "3500000\n"),
            ("scaling_max_freq", "broken\n"),
            ("scaling_governor", "powersave\n"),
            ("scaling_available_governors", "performance powersave\n"),
        ] {
            fs::write(first.join(name), text).unwrap();
        }
        collector.rarely.soon();
        let (outcome, out) = run(&mut collector, Pass::Interval);
        assert_eq!(outcome, Outcome::Data);
        assert_eq!(out.single("node_cpu_scaling_frequency_hertz"), Some(1.7e9));
        assert_eq!(out.single("node_cpu_frequency_max_hertz"), Some(3.5e9));
        assert_eq!(out.single("node_cpu_scaling_frequency_max_hertz"), None);
        assert_eq!(out.single("node_cpu_frequency_hertz"), None);
        let governors = out.samples("node_cpu_scaling_governor").iter();
        let governors: Vec<_> = governors.map(|s| (s.labels.get("governor").unwrap().to_owned(), s.value)).collect();
        assert_eq!(governors, [("performance".to_owned(), 0.0), ("powersave".to_owned(), 1.0)]);

        fs::write(first.join("scaling_cur_freq"), "800000\n").unwrap();
        let speed = |out: &Families| out.single("node_cpu_scaling_frequency_hertz");
        assert_eq!(speed(&run(&mut collector, Pass::Scrape).1), Some(1.7e9), "asked at intervals only");
        assert_eq!(speed(&run(&mut collector, Pass::Interval).1), Some(8e8));
        collector.is_slow = true;
        fs::write(first.join("scaling_cur_freq"), "900000\n").unwrap();
        assert_eq!(speed(&run(&mut collector, Pass::Interval).1), Some(8e8), "asked rarely");
    }
}
