//! Neighbours of each interface in the ARP table, from `/proc/net/arp`.

use serde::{Deserialize, Serialize};

use crate::collectors::{CollectError, Collector, Outcome, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::pattern::{self, Pattern};
use crate::snapshot::{Families, Labels};

/// What the titles begin with.
const TITLES: &[u8] = b"IP";
/// Address, type, flags, hardware address and mask stand before the interface.
const BEFORE: usize = 5;

/// `[collectors.arp]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only interfaces that match.
    pub device_include: Pattern,
    /// Show no interfaces that match.
    pub device_exclude: Pattern,
}

/// An interface, and how many lines name it: those of one need not stand together.
struct Device {
    name: Box<[u8]>,
    /// `None` for one that is not shown: decided once, at its first sight.
    labels: Option<Labels>,
    entries: u64,
}

/// Counts the lines of each interface; `devices` are sorted by name.
fn parse(text: &[u8], settings: &Settings, devices: &mut Vec<Device>) -> Result<(), TextError> {
    let mut lines = lines(text)?;
    let titles = lines.next().ok_or_else(|| TextError::new("the line of titles is missing"))?;
    if fields(titles).next() != Some(TITLES) {
        return Err(TextError::expected("a line of titles", titles));
    }
    for device in devices.iter_mut() {
        device.entries = 0;
    }
    for line in lines {
        let name = fields(line).nth(BEFORE).ok_or_else(|| TextError::expected("an interface", line))?;
        let place = devices.binary_search_by(|device| device.name.as_ref().cmp(name)).unwrap_or_else(|place| {
            let text = String::from_utf8_lossy(name);
            let labels = pattern::shows(&settings.device_include, &settings.device_exclude, &text)
                .then(|| Labels::new([("device", &*text)]));
            devices.insert(place, Device { name: name.into(), labels, entries: 0 });
            place
        });
        devices[place].entries += 1;
    }
    devices.retain(|device| device.entries > 0);
    Ok(())
}

/// See the module.
pub(crate) struct Arp {
    file: KeptFile,
    settings: Settings,
    devices: Vec<Device>,
}

impl Arp {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self { file: KeptFile::listing(host.proc("net/arp")), settings: settings.clone(), devices: Vec::new() }
    }
}

impl Collector for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, settings, devices } = self;
        match file.read(|text| parse(text, settings, devices)) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
            Err(error) => return nothing_if_absent(error.into()),
        }
        out.gauge("node_arp_entries", "ARP entries by device");
        for device in devices {
            if let Some(labels) = &device.labels {
                out.push(labels, device.entries as f64);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: &str = "IP address       HW type     Flags       HW address            Mask     Device\n";

    fn line(device: &str) -> String {
        format!("192.0.2.1        0x1         0x2         02:00:00:00:00:05     *        {device}\n")
    }

    fn counts(devices: &[Device]) -> Vec<(String, u64)> {
        devices.iter().map(|d| (String::from_utf8_lossy(&d.name).into_owned(), d.entries)).collect()
    }

    #[test]
    fn counts_lines_by_interface() {
        let (settings, mut devices) = (Settings::default(), Vec::new());
        let text = [TITLES, &line("eth1"), &line("eth0"), &line("eth1")].concat();
        parse(text.as_bytes(), &settings, &mut devices).unwrap();
        assert_eq!(counts(&devices), [("eth0".to_owned(), 1), ("eth1".to_owned(), 2)]);
        parse([TITLES, &line("eth1")].concat().as_bytes(), &settings, &mut devices).unwrap();
        assert_eq!(counts(&devices), [("eth1".to_owned(), 1)]);
        parse(TITLES.as_bytes(), &settings, &mut devices).unwrap();
        assert!(devices.is_empty());
    }

    #[test]
    fn patterns_choose() {
        let settings = Settings { device_exclude: Pattern::new("^veth").unwrap(), ..Settings::default() };
        let mut devices = Vec::new();
        parse([TITLES, &line("eth1"), &line("veth0")].concat().as_bytes(), &settings, &mut devices).unwrap();
        let shown: Vec<_> = devices.iter().map(|device| device.labels.is_some()).collect();
        assert_eq!(shown, [true, false]);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in
            ["", "\n", "x\n", &line("eth0"), &[TITLES, "192.0.2.1 0x1\n"].concat(), &[TITLES, "1 2 3 4 5 e"].concat()]
        {
            assert!(parse(bad.as_bytes(), &Settings::default(), &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
