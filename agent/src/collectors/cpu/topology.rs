//! What sysfs tells of the CPUs: how often they were throttled, and which are online and isolated.

use std::ops::RangeInclusive;

use crate::collectors::devices::{self, Live, Rarely};
use crate::collectors::{CollectError, Pass};
use crate::host::{Directory, HostRoot, KeptFile, TextError, number};
use crate::snapshot::{Families, Labels};

/// A counter of the throttling of a package or core.
struct Throttle {
    labels: Labels,
    count: Live,
}

/// See the module.
pub(super) struct Topology {
    directory: Directory,
    rarely: Rarely,
    online_file: KeptFile,
    /// The CPUs that there are, with their labels; none where the first can't be switched off, as node_exporter has it.
    switchable: Vec<(u32, Labels)>,
    online: Vec<RangeInclusive<u32>>,
    isolated: Vec<Labels>,
    cores: Vec<Throttle>,
    packages: Vec<Throttle>,
}

impl Topology {
    pub(super) fn new(host: &HostRoot) -> Self {
        let place = host.sys("devices/system/cpu");
        Self {
            online_file: KeptFile::record(place.join("online")),
            directory: Directory::new(place),
            rarely: Rarely::new(),
            switchable: Vec::new(),
            online: Vec::new(),
            isolated: Vec::new(),
            cores: Vec::new(),
            packages: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    /// The CPUs are others than before.
    pub(super) fn soon(&mut self) {
        self.rarely.soon();
    }

    fn scan(&mut self) -> Result<(), CollectError> {
        let Self { directory, switchable, isolated, cores, packages, .. } = self;
        let place = directory.path().to_owned();
        for list in [&mut *cores, packages] {
            list.clear();
        }
        switchable.clear();
        isolated.clear();

        let Some(names) = directory.list()? else { return Ok(()) };
        let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
        let mut cpus: Vec<u32> =
            names.filter_map(|name| devices::index(name, "cpu")).filter_map(|digits| digits.parse().ok()).collect();
        cpus.sort_unstable();

        let mut ranges = Vec::new();
        if let Some(list) = devices::text(place.join("isolated")) {
            // Only the boot command line fills it; what can't be read there is no reason to show nothing of the CPUs.
            if parse_list(list.as_bytes(), &mut ranges).is_err() {
                ranges.clear();
            }
        }
        let label = |cpu: u32| Labels::new([("cpu", &*cpu.to_string())]);
        isolated.extend(cpus.iter().filter(|cpu| is_in(&ranges, **cpu)).map(|cpu| label(*cpu)));

        if cpus.first().is_some_and(|cpu| place.join(format!("cpu{cpu}/online")).exists()) {
            switchable.extend(cpus.iter().map(|cpu| (*cpu, label(*cpu))));
        }

        let (mut seen_cores, mut seen_packages) = (Vec::new(), Vec::new());
        for cpu in cpus {
            let cpu = place.join(format!("cpu{cpu}"));
            let id = |name: &str| {
                devices::text(cpu.join("topology").join(name)).filter(|id| number(id.as_bytes()).is_some())
            };
            let (Some(package), Some(core)) = (id("physical_package_id"), id("core_id")) else { continue };
            let throttle = |name: &str, labels: Labels| {
                Live::at(cpu.join("thermal_throttle").join(name)).map(|count| Throttle { labels, count })
            };
            // The threads of a core tell the same, and so do the cores of a package.
            let key = (package.clone(), core.clone());
            if !seen_cores.contains(&key) {
                let labels = Labels::new([("package", &*package), ("core", &*core)]);
                if let Some(throttle) = throttle("core_throttle_count", labels) {
                    cores.push(throttle);
                    seen_cores.push(key);
                }
            }
            if !seen_packages.contains(&package)
                && let Some(throttle) = throttle("package_throttle_count", Labels::new([("package", &*package)]))
            {
                packages.push(throttle);
                seen_packages.push(package);
            }
        }
        Ok(())
    }

    pub(super) fn collect(&mut self, out: &mut Families) -> Result<(), CollectError> {
        if self.rarely.is_due() {
            self.scan().inspect_err(|_| self.rarely.soon())?;
        }
        out.counter("node_cpu_core_throttles_total", "Number of times this CPU core has been throttled.");
        push_throttles(&mut self.cores, out)?;
        out.gauge(
            "node_cpu_isolated",
            "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
        );
        self.isolated.iter().for_each(|labels| out.push(labels, 1.0));
        if !self.switchable.is_empty() {
            let Self { online_file, online, .. } = self;
            online_file
                .read(|text| parse_list(text.trim_ascii(), online))?
                .map_err(CollectError::malformed(online_file.path()))?;
            out.gauge("node_cpu_online", "CPUs that are online and being scheduled.");
            for (cpu, labels) in &self.switchable {
                out.push(labels, f64::from(is_in(&self.online, *cpu)));
            }
        }
        out.counter("node_cpu_package_throttles_total", "Number of times this CPU package has been throttled.");
        push_throttles(&mut self.packages, out)
    }
}

fn push_throttles(list: &mut [Throttle], out: &mut Families) -> Result<(), CollectError> {
    for throttle in list {
        if let Some(count) = throttle.count.count()? {
            out.push(&throttle.labels, count as f64);
        }
    }
    Ok(())
}

fn is_in(ranges: &[RangeInclusive<u32>], cpu: u32) -> bool {
    ranges.iter().any(|range| range.contains(&cpu))
}

/// The kernel's way to write a set of CPUs: `0-3,8`. Empty is none.
fn parse_list(text: &[u8], ranges: &mut Vec<RangeInclusive<u32>>) -> Result<(), TextError> {
    ranges.clear();
    if text.is_empty() {
        return Ok(());
    }
    let cpu = |digits: &[u8]| number(digits).and_then(|cpu| u32::try_from(cpu).ok());
    for part in text.split(|byte| *byte == b',') {
        let mut ends = part.splitn(2, |byte| *byte == b'-');
        let first = ends.next().and_then(cpu);
        let last = ends.next().map_or(first, cpu);
        let (Some(first), Some(last)) = (first, last) else {
            return Err(TextError::expected("a CPU's number or two with a dash", part));
        };
        ranges.push(first..=last);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lists_are_numbers_and_ranges() {
        let mut ranges = Vec::new();
        parse_list(b"0-3,8", &mut ranges).unwrap();
        assert_eq!(ranges, [0..=3, 8..=8]);
        parse_list(b"", &mut ranges).unwrap();
        assert!(ranges.is_empty());
        for bad in [&b"x"[..], b"0-", b"-3", b"1,,2", b"0-99999999999", b"1-2-3", b"\xff"] {
            assert!(parse_list(bad, &mut ranges).is_err(), "{}", bad.escape_ascii());
        }
    }

    fn shown(topology: &mut Topology, family: &str) -> Vec<(String, f64)> {
        let mut out = Families::default();
        topology.begin(Pass::Interval);
        topology.collect(&mut out).unwrap();
        let text = |labels: &Labels| labels.iter().map(|(_, value)| value).collect::<Vec<_>>().join("/");
        out.samples(family).iter().map(|sample| (text(&sample.labels), sample.value)).collect()
    }

    #[test]
    fn threads_of_a_core_are_one_and_the_first_that_tells_counts() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let place = host.sys("devices/system/cpu");
        for (cpu, core, count) in [(0, "0", Some("4")), (1, "1", None), (2, "0", Some("5")), (10, "1", Some("6"))] {
            let cpu = place.join(format!("cpu{cpu}"));
            fs::create_dir_all(cpu.join("topology")).unwrap();
            fs::write(cpu.join("topology/physical_package_id"), "0\n").unwrap();
            fs::write(cpu.join("topology/core_id"), core).unwrap();
            if let Some(count) = count {
                fs::create_dir_all(cpu.join("thermal_throttle")).unwrap();
                fs::write(cpu.join("thermal_throttle/core_throttle_count"), count).unwrap();
            }
        }
        fs::create_dir_all(place.join("cpufreq")).unwrap();
        fs::write(place.join("isolated"), "2,10-11\n").unwrap();
        let mut topology = Topology::new(&host);
        let one = |text: &str, value: f64| (text.to_owned(), value);
        assert_eq!(shown(&mut topology, "node_cpu_core_throttles_total"), [one("0/0", 4.0), one("0/1", 6.0)]);
        assert_eq!(shown(&mut topology, "node_cpu_package_throttles_total"), []);
        assert_eq!(shown(&mut topology, "node_cpu_isolated"), [one("2", 1.0), one("10", 1.0)]);
        assert_eq!(shown(&mut topology, "node_cpu_online"), [], "the first CPU can't be switched off");

        fs::write(place.join("cpu0/online"), "1\n").unwrap();
        fs::write(place.join("online"), "0-1,10\n").unwrap();
        topology.soon();
        let online = [one("0", 1.0), one("1", 1.0), one("2", 0.0), one("10", 1.0)];
        assert_eq!(shown(&mut topology, "node_cpu_online"), online);
        fs::write(place.join("online"), "0-1,1").unwrap();
        fs::write(place.join("cpu0/thermal_throttle/core_throttle_count"), "7\n").unwrap();
        assert_eq!(shown(&mut topology, "node_cpu_online")[3], one("10", 0.0));
        assert_eq!(shown(&mut topology, "node_cpu_core_throttles_total")[0], one("0/0", 7.0));
        fs::write(place.join("online"), "what?").unwrap();
        assert!(topology.collect(&mut Families::default()).is_err());
    }
}
