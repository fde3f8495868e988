//! Energy that CPUs and memory used, from `/sys/class/powercap`.
//!
//! A counter starts anew when it reaches the end of its range, as those of node_exporter do: `rate()` takes that for a
//! restart. Since 2020 only root may read it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::collectors::devices::{Devices, Live, text};
use crate::collectors::{CollectError, Collector, Outcome, Pass, names};
use crate::host::HostRoot;
use crate::snapshot::{Families, Labels};
use ::rules::order;

/// `[collectors.rapl]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// One family for all zones, with the zone's name as label `rapl_zone`, instead of a family for each name.
    pub enable_zone_label: bool,
}

struct Zone {
    family: Cow<'static, str>,
    help: Cow<'static, str>,
    labels: Labels,
    /// In millionths of a joule.
    energy: Live,
    value: Option<u64>,
}

/// See the module.
pub(crate) struct Rapl {
    class: PathBuf,
    settings: Settings,
    zones: Devices<Zone>,
}

impl Rapl {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        let class = host.sys("class/powercap");
        Self { zones: Devices::new(class.clone()), class, settings: settings.clone() }
    }
}

/// The name and index of a zone that calls itself `name`. Some have a number at the end, and it is that; others of one
/// name are counted, which `seen` is for.
fn indexed<'a>(name: &'a str, seen: &mut HashMap<String, u64>) -> (&'a str, u64) {
    let numbered = name.split_once('-').and_then(|(first, rest)| Some((first, rest.parse().ok()?)));
    let (name, index): (&str, u64) = numbered.unwrap_or_else(|| (name, seen.get(name).copied().unwrap_or(0)));
    seen.insert(name.to_owned(), index.saturating_add(1));
    (name, index)
}

fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

impl Collector for Rapl {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn begin(&mut self, pass: Pass) {
        self.zones.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { class, settings, zones: devices } = self;
        let mut seen = HashMap::new();
        let found = devices.get(|entry, place| {
            // A control type, which is a directory beside its zones, has no name.
            let name = text(place.join("name"))?;
            let (name, index) = indexed(&name, &mut seen);
            let index = index.to_string();
            let path = class.join(entry);
            let path = path.to_string_lossy();
            let (family, help, labels) = if settings.enable_zone_label {
                (
                    "node_rapl_joules_total".into(),
                    "Current RAPL value in joules".into(),
                    Labels::new([("index", &*index), ("path", &*path), ("rapl_zone", name)]),
                )
            } else {
                (
                    names::keep(format!("node_rapl_{}_joules_total", sanitized(name))),
                    names::keep(format!("Current RAPL {name} value in joules")),
                    Labels::new([("index", &*index), ("path", &*path)]),
                )
            };
            Some(Zone { family, help, labels, energy: Live::at(place.join("energy_uj"))?, value: None })
        })?;
        let Some(zones) = found else { return Ok(Outcome::Nothing) };
        // Zones of one name stand apart in the directory. Once sorted, they stay so.
        if !zones.is_sorted_by(|a, b| a.family <= b.family) {
            order::sort_by(zones, &|a, b| a.family.cmp(&b.family));
        }
        let mut lost = false;
        let mut before: Option<&str> = None;
        for zone in zones.iter_mut() {
            zone.value = zone.energy.count()?;
            lost |= zone.energy.is_lost(zone.value.is_some());
        }
        for zone in zones.iter() {
            if before != Some(&*zone.family) {
                out.counter(zone.family.clone(), zone.help.clone());
                before = Some(&*zone.family);
            }
            zone.value.inspect(|value| out.push(&zone.labels, *value as f64 / 1_000_000.0));
        }
        let any = zones.iter().any(|zone| zone.value.is_some());
        if lost {
            devices.soon();
        }
        Ok(if any { Outcome::Data } else { Outcome::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_and_indices_are_node_exporters() {
        let mut seen = HashMap::new();
        let mut index = |name| {
            let (name, index) = indexed(name, &mut seen);
            (name.to_owned(), index)
        };
        assert_eq!(index("package-0"), ("package".into(), 0));
        assert_eq!(index("package-1"), ("package".into(), 1));
        assert_eq!(index("dram"), ("dram".into(), 0));
        assert_eq!(index("dram"), ("dram".into(), 1));
        assert_eq!(index("package-0-die-1"), ("package-0-die-1".into(), 0));
        assert_eq!(index("a-b"), ("a-b".into(), 0));
        assert_eq!(sanitized("package-0-die-1"), "package_0_die_1");
    }

    fn host(dir: &std::path::Path) -> HostRoot {
        for (zone, name, energy) in
            [("a:0", "package-0", "1500000"), ("a:0:0", "core", "250000"), ("a:1", "package-1", "3000000")]
        {
            let place = dir.join("class/powercap").join(zone);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("name"), format!("{name}\n")).unwrap();
            fs::write(place.join("energy_uj"), format!("{energy}\n")).unwrap();
        }
        fs::create_dir_all(dir.join("class/powercap/a")).unwrap();
        HostRoot { sys: dir.into(), ..HostRoot::default() }
    }

    #[test]
    fn zones_of_one_name_are_one_family() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let mut rapl = Rapl::new(&host, &Settings::default());
        let mut out = Families::default();
        assert_eq!(rapl.collect(&mut out).unwrap(), Outcome::Data);
        assert_eq!(out.single("node_rapl_core_joules_total"), Some(0.25));
        let packages = out.samples("node_rapl_package_joules_total");
        assert_eq!(packages.iter().map(|s| s.value).collect::<Vec<_>>(), [1.5, 3.0]);
        assert_eq!(packages[1].labels.get("index"), Some("1"));
        assert!(packages[1].labels.get("path").unwrap().ends_with("/class/powercap/a:1"));

        let mut rapl = Rapl::new(&host, &Settings { enable_zone_label: true });
        let mut out = Families::default();
        rapl.collect(&mut out).unwrap();
        let zones = out.samples("node_rapl_joules_total").iter();
        let zones: Vec<_> = zones.map(|s| s.labels.get("rapl_zone").unwrap()).collect();
        assert_eq!(zones, ["package", "core", "package"]);
    }

    #[test]
    fn garbage_is_an_error_and_no_file_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let file = dir.path().join("class/powercap/a:1/energy_uj");
        let mut rapl = Rapl::new(&host, &Settings::default());
        for bad in ["", "x", "-1", "184467440737095516160", "1 2"] {
            fs::write(&file, bad).unwrap();
            let error = rapl.collect(&mut Families::default()).unwrap_err().to_string();
            assert!(error.contains("a:1/energy_uj"), "{error}");
        }
        for zone in ["a:0", "a:0:0", "a:1"] {
            fs::remove_file(dir.path().join("class/powercap").join(zone).join("energy_uj")).unwrap();
        }
        rapl.zones.soon();
        assert_eq!(rapl.collect(&mut Families::default()).unwrap(), Outcome::Nothing);
    }
}
