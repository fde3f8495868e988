//! The system's clock, its zone and its source. A collector so that a scrape shows how far this host's clock is off.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::collectors::devices::{self, Devices};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{HostRoot, zone};
use crate::snapshot::{Families, Labels};

/// A device that counts time; there is one for all CPUs.
struct Source {
    current: Labels,
    available: Vec<Labels>,
}

/// See the module.
pub(crate) struct Time {
    sources: Devices<Source>,
    zone: Labels,
}

impl Time {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { sources: Devices::new(host.sys("devices/system/clocksource")), zone: Labels::none() }
    }
}

impl Collector for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn begin(&mut self, pass: Pass) {
        self.sources.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_secs_f64(),
            // A clock set before 1970 is wrong, but it is what the system says.
            Err(before) => -before.duration().as_secs_f64(),
        };
        let sources = self.sources.get(|name, place| {
            let device = devices::index(name, "clocksource")?;
            let labels = |source: &str| Labels::new([("device", device), ("clocksource", source)]);
            let available = devices::text(place.join("available_clocksource"))?;
            Some(Source {
                current: labels(&devices::text(place.join("current_clocksource"))?),
                available: available.split_ascii_whitespace().map(labels).collect(),
            })
        })?;
        let sources = sources.map(|sources| &sources[..]).unwrap_or_default();
        out.gauge(
            "node_time_clocksource_available_info",
            "Available clocksources read from '/sys/devices/system/clocksource'.",
        );
        sources.iter().flat_map(|source| &source.available).for_each(|labels| out.push(labels, 1.0));
        out.gauge(
            "node_time_clocksource_current_info",
            "Current clocksource read from '/sys/devices/system/clocksource'.",
        );
        sources.iter().for_each(|source| out.push(&source.current, 1.0));
        out.gauge("node_time_seconds", "System time in seconds since epoch (1970).");
        out.value(seconds);
        let offset = zone(seconds.floor() as i64, |offset, name| {
            if self.zone.get("time_zone") != Some(name) {
                self.zone = Labels::new([("time_zone", name)]);
            }
            offset
        });
        if let Some(offset) = offset {
            out.gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.");
            out.push(&self.zone, offset);
        }
        Ok(Outcome::Data)
    }
}
