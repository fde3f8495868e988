//! Watchdog timers, from `/sys/class/watchdog`.

use std::path::Path;

use crate::collectors::devices::{Devices, Live, text, value};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::{Families, Labels};

/// File, family, help.
macro_rules! values {
    ($($file:literal $name:literal),* $(,)?) => {
        [$(($file, concat!("node_watchdog_", $name), concat!("Value of /sys/class/watchdog/<watchdog>/", $file))),*]
    };
}

/// What is set up once, or by the daemon that keeps the watchdog at bay.
const SETTINGS: [(&str, &str, &str); 6] = values![
    "access_cs0" "access_cs0",
    "bootstatus" "bootstatus",
    "fw_version" "fw_version",
    "nowayout" "nowayout",
    "pretimeout" "pretimeout_seconds",
    "timeout" "timeout_seconds",
];

const TIME_LEFT: [(&str, &str, &str); 1] = values!["timeleft" "timeleft_seconds"];

struct Watchdog {
    labels: Labels,
    info: Labels,
    settings: [Option<f64>; SETTINGS.len()],
    time_left: Option<Live>,
}

/// See the module.
pub(crate) struct Watchdogs {
    devices: Devices<Watchdog>,
}

impl Watchdogs {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { devices: Devices::new(host.sys("class/watchdog")) }
    }
}

fn make(name: &str, place: &Path) -> Option<Watchdog> {
    let label = |file: &str| text(place.join(file)).unwrap_or_default();
    Some(Watchdog {
        labels: Labels::new([("name", name)]),
        info: Labels::new([
            ("identity", &*label("identity")),
            ("name", name),
            ("options", &*label("options")),
            ("pretimeout_governor", &*label("pretimeout_governor")),
            ("state", &*label("state")),
            ("status", &*label("status")),
        ]),
        settings: SETTINGS.map(|(file, ..)| value(place.join(file))),
        time_left: Live::at(place.join(TIME_LEFT[0].0)),
    })
}

impl Collector for Watchdogs {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    fn begin(&mut self, pass: Pass) {
        self.devices.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Some(devices) = self.devices.get(make)? else { return Ok(Outcome::Nothing) };
        out.gauge("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>");
        for device in devices.iter() {
            out.push(&device.info, 1.0);
        }
        for (number, (_, name, help)) in SETTINGS.into_iter().enumerate() {
            out.gauge(name, help);
            for device in devices.iter() {
                device.settings[number].inspect(|value| out.push(&device.labels, *value));
            }
        }
        let mut lost = false;
        for (_, name, help) in TIME_LEFT {
            out.gauge(name, help);
            for device in devices.iter_mut() {
                let Some(time_left) = &mut device.time_left else { continue };
                let value = time_left.number();
                lost |= time_left.is_lost(value.is_some());
                value.inspect(|value| out.push(&device.labels, *value));
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
    fn shows_what_the_driver_has() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = Watchdogs::new(&host);
        let mut out = Families::default();
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Nothing);

        let place = dir.path().join("class/watchdog/watchdog0");
        fs::create_dir_all(&place).unwrap();
        for (file, text) in [("identity", "iTCO_wdt\n"), ("timeleft", "28\n"), ("timeout", "30\n"), ("nowayout", "x\n")]
        {
            fs::write(place.join(file), text).unwrap();
        }
        collector.devices.soon();
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        assert_eq!(out.single("node_watchdog_timeleft_seconds"), Some(28.0));
        assert_eq!(out.single("node_watchdog_timeout_seconds"), Some(30.0));
        assert_eq!(out.single("node_watchdog_nowayout"), None);
        let info = &out.samples("node_watchdog_info")[0].labels;
        assert_eq!((info.get("identity"), info.get("state")), (Some("iTCO_wdt"), Some("")));

        // A file that is gone reads on while it is open, which sysfs does not allow.
        fs::write(place.join("timeleft"), "").unwrap();
        fs::remove_dir_all(&place).unwrap();
        for left in [1, 0] {
            let mut out = Families::default();
            assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
            assert_eq!(out.samples("node_watchdog_info").len(), left);
            assert!(out.samples("node_watchdog_timeleft_seconds").is_empty());
        }
    }
}
