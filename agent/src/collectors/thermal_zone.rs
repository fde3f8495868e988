//! Temperatures and cooling devices as the kernel's thermal control sees them, from `/sys/class/thermal`.

use std::path::Path;

use crate::collectors::devices::{Devices, Live, index, text, value};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::{Families, Labels};

enum Device {
    Zone {
        labels: Labels,
        /// In thousandths of a degree.
        temperature: Live,
    },
    Cooling {
        labels: Labels,
        /// Some drivers have -1 for "not at work".
        state: Live,
        max_state: Option<f64>,
    },
}

/// See the module.
pub(crate) struct ThermalZone {
    devices: Devices<Device>,
}

impl ThermalZone {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { devices: Devices::new(host.sys("class/thermal")) }
    }
}

fn make(name: &str, place: &Path) -> Option<Device> {
    if let Some(zone) = index(name, "thermal_zone") {
        let labels = Labels::new([("type", &text(place.join("type"))?), ("zone", zone)]);
        Some(Device::Zone { labels, temperature: Live::at(place.join("temp"))? })
    } else {
        let cooling = index(name, "cooling_device")?;
        let labels = Labels::new([("name", cooling), ("type", &text(place.join("type"))?)]);
        let state = Live::at(place.join("cur_state"))?;
        Some(Device::Cooling { labels, state, max_state: value(place.join("max_state")) })
    }
}

impl Collector for ThermalZone {
    fn name(&self) -> &'static str {
        "thermal_zone"
    }

    fn begin(&mut self, pass: Pass) {
        self.devices.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Some(devices) = self.devices.get(make)? else { return Ok(Outcome::Nothing) };
        let mut lost = false;
        out.gauge("node_cooling_device_cur_state", "Current throttle state of the cooling device");
        for device in devices.iter_mut() {
            if let Device::Cooling { labels, state, .. } = device {
                let value = state.number();
                lost |= state.is_lost(value.is_some());
                value.inspect(|value| out.push(labels, *value));
            }
        }
        out.gauge("node_cooling_device_max_state", "Maximum throttle state of the cooling device");
        for device in devices.iter() {
            if let Device::Cooling { labels, max_state: Some(value), .. } = device {
                out.push(labels, *value);
            }
        }
        out.gauge("node_thermal_zone_temp", "Zone temperature in Celsius");
        for device in devices.iter_mut() {
            if let Device::Zone { labels, temperature } = device {
                let value = temperature.number();
                lost |= temperature.is_lost(value.is_some());
                value.inspect(|value| out.push(labels, value / 1000.0));
            }
        }
        if lost {
            self.devices.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_zone_without_a_value_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join("class/thermal").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (zone, temperature) in [("0", "48500\n"), ("1", "garbage\n"), ("2", "-2500\n")] {
            write(&format!("thermal_zone{zone}/type"), "acpitz\n");
            write(&format!("thermal_zone{zone}/temp"), temperature);
        }
        write("thermal_zone3/temp", "1000\n");
        write("thermal_zonex/type", "x\n");
        write("cooling_device0/type", "intel_powerclamp\n");
        write("cooling_device0/cur_state", "-1\n");
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = ThermalZone::new(&host);
        let mut zones = || {
            let mut out = Families::default();
            collector.begin(Pass::Interval);
            assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
            assert_eq!(out.single("node_cooling_device_cur_state"), Some(-1.0));
            assert_eq!(out.single("node_cooling_device_max_state"), None);
            let zones = out.samples("node_thermal_zone_temp").iter();
            zones.map(|s| (s.labels.get("zone").unwrap().to_owned(), s.value)).collect::<Vec<_>>()
        };
        assert_eq!(zones(), [("0".to_owned(), 48.5), ("2".to_owned(), -2.5)]);
        // One goes, another takes its place: that is seen one pass later. A file that is gone reads on while it is open,
        // which sysfs does not allow.
        write("thermal_zone2/temp", "");
        fs::remove_dir_all(dir.path().join("class/thermal/thermal_zone2")).unwrap();
        write("thermal_zone7/type", "x86_pkg_temp\n");
        write("thermal_zone7/temp", "50000\n");
        assert_eq!(zones().len(), 1);
        assert_eq!(zones()[1], ("7".to_owned(), 50.0));
    }
}
