//! Properties of each network interface: from the netlink dump that [`Links`] shares and, for the few that it lacks,
//! from `/sys/class/net`; all from there, where the host's trees are not this process's own.
//!
//! Speed, duplex and the ways in which address and name came about ask the driver or take locks, and hardly ever change.
//! They are read at an interface's first sight, when its link or its flags have changed, and every [`REREAD`] intervals.

mod link;
mod sysfs;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::links::{FLAG_UP, Links};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Attribute, Directory, HostRoot};
use crate::pattern::Pattern;
use crate::snapshot::{Families, Labels, MetricType};

use MetricType::{Counter, Gauge};

/// Intervals after which what hardly changes is read again.
const REREAD: u32 = 30;

/// The numeric properties, which are indices into [`FAMILIES`].
#[derive(Debug, Clone, Copy)]
enum Property {
    AddressAssignType,
    Carrier,
    CarrierChanges,
    CarrierDown,
    CarrierUp,
    DeviceId,
    Dormant,
    Flags,
    InterfaceId,
    InterfaceLink,
    LinkMode,
    Mtu,
    NameAssignType,
    Group,
    ProtocolType,
    Speed,
    QueueLength,
    Up,
}

macro_rules! property {
    ($name:literal, $kind:ident) => {
        (concat!("node_network_", $name), concat!("Network device property: ", $name), $kind)
    };
}

/// Family, help and type of each [`Property`].
const FAMILIES: [(&str, &str, MetricType); Property::Up as usize + 1] = [
    property!("address_assign_type", Gauge),
    property!("carrier", Gauge),
    property!("carrier_changes_total", Counter),
    property!("carrier_down_changes_total", Counter),
    property!("carrier_up_changes_total", Counter),
    property!("device_id", Gauge),
    property!("dormant", Gauge),
    property!("flags", Gauge),
    property!("iface_id", Gauge),
    property!("iface_link", Gauge),
    property!("iface_link_mode", Gauge),
    property!("mtu_bytes", Gauge),
    property!("name_assign_type", Gauge),
    property!("net_dev_group", Gauge),
    property!("protocol_type", Gauge),
    property!("speed_bytes", Gauge),
    property!("transmit_queue_length", Gauge),
    ("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.", Gauge),
];

/// `[collectors.netclass]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show no interfaces that match.
    pub ignored_devices: Pattern,
    /// Do not show a speed that the driver says it does not know; by default it is shown as -1 Mbit/s.
    pub ignore_invalid_speed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ignored_devices: Pattern::fixed("^$"), ignore_invalid_speed: false }
    }
}

/// Chooses one of [`Texts`].
type Text = fn(&mut Texts) -> &mut Vec<u8>;

/// What the labels of `node_network_info` are made of. Hardware addresses are bytes by netlink and text in sysfs.
#[derive(Debug, Default)]
struct Texts {
    address: Vec<u8>,
    alias: Vec<u8>,
    broadcast: Vec<u8>,
    duplex: Vec<u8>,
    operstate: Vec<u8>,
    changed: bool,
}

impl Texts {
    /// Sets one of them.
    fn set(&mut self, which: Text, text: &[u8]) {
        let slot = which(self);
        if slot != text {
            slot.clear();
            slot.extend(text);
            self.changed = true;
        }
    }
}

/// An interface that is shown.
#[derive(Debug)]
struct Interface {
    labels: Labels,
    numbers: [Option<f64>; FAMILIES.len()],
    texts: Texts,
    info: Labels,
    altnames: Vec<Labels>,
    /// What they were made of.
    properties: Vec<u8>,
    /// The interval at which the slow ones were read, and what made them due earlier: number, flags, changes of the link.
    read_at: Option<u32>,
    trigger: [Option<f64>; 3],
    /// Files of what changes quickly, where there is no netlink.
    files: Option<Box<sysfs::Files>>,
}

impl Interface {
    fn new(name: &str) -> Self {
        Self {
            labels: Labels::new([("device", name)]),
            numbers: [None; FAMILIES.len()],
            texts: Texts { changed: true, ..Texts::default() },
            info: Labels::none(),
            altnames: Vec::new(),
            properties: Vec::new(),
            read_at: None,
            trigger: [None; 3],
            files: None,
        }
    }

    fn set(&mut self, property: Property, value: Option<f64>) {
        self.numbers[property as usize] = value;
    }

    fn get(&self, property: Property) -> Option<f64> {
        self.numbers[property as usize]
    }

    fn set_operstate(&mut self, state: Option<&[u8]>) {
        self.set(Property::Up, state.map(|state| f64::from(state == b"up")));
        self.texts.set(|texts| &mut texts.operstate, state.unwrap_or_default());
    }

    /// Whether the slow properties are to be read in this interval; if so, takes note that they are. Interfaces that came
    /// together are read again at different intervals, by their `place` in the list.
    fn is_due(&mut self, interval: u32, place: usize) -> bool {
        let trigger = [Property::InterfaceId, Property::Flags, Property::CarrierChanges].map(|p| self.get(p));
        // In sysfs, the number is itself among the slow ones.
        let trigger = if self.files.is_some() { [None, trigger[1], trigger[2]] } else { trigger };
        let age = self.read_at.map(|at| interval.wrapping_sub(at));
        if trigger == self.trigger && age.is_some_and(|age| age < REREAD) {
            return false;
        }
        self.trigger = trigger;
        let spread = if age.is_none() { place as u32 % REREAD } else { 0 };
        self.read_at = Some(interval.wrapping_sub(spread));
        true
    }

    /// Reads the slow properties that only sysfs has.
    fn read_slow(&mut self, directory: &Path, settings: &Settings) {
        // One that the driver refuses is missing, and costs no other.
        let attribute = |name| Attribute::new(directory.join(name));
        let number = |name| attribute(name).bytes(sysfs::integer).ok().flatten().flatten();
        self.set(Property::AddressAssignType, number("addr_assign_type"));
        self.set(Property::DeviceId, number("dev_id"));
        self.set(Property::NameAssignType, number("name_assign_type"));
        // In Mbit/s; -1 is unknown.
        let speed = number("speed").filter(|speed| *speed >= 0.0 || !settings.ignore_invalid_speed);
        self.set(Property::Speed, speed.map(|speed| speed * 1e6 / 8.0));
        let texts = &mut self.texts;
        let duplex = attribute("duplex").bytes(|duplex| texts.set(|texts| &mut texts.duplex, duplex));
        if !matches!(duplex, Ok(Some(()))) {
            texts.set(|texts| &mut texts.duplex, b"");
        }
    }

    /// Makes the labels of `node_network_info` anew where something in them has changed.
    fn describe(&mut self, hardware: fn(&[u8]) -> String) {
        let up = self.get(Property::Flags).map(|flags| flags as u32 & FLAG_UP != 0);
        let adminstate = match up {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        let texts = &mut self.texts;
        if !std::mem::take(&mut texts.changed) && self.info.get("adminstate") == Some(adminstate) {
            return;
        }
        self.info = Labels::new([
            ("address", &hardware(&texts.address)),
            ("adminstate", adminstate),
            ("broadcast", &hardware(&texts.broadcast)),
            ("device", self.labels.get("device").unwrap_or_default()),
            ("duplex", &String::from_utf8_lossy(&texts.duplex)),
            ("ifalias", &String::from_utf8_lossy(&texts.alias)),
            ("operstate", &String::from_utf8_lossy(&texts.operstate)),
        ]);
    }
}

/// See the module.
pub(crate) struct NetClass {
    links: Arc<Mutex<Links>>,
    settings: Settings,
    class: PathBuf,
    directory: Directory,
    /// `None` for one that is not shown: decided once, at its first sight.
    interfaces: Cache<Option<Box<Interface>>>,
    /// Counts intervals.
    interval: u32,
}

impl NetClass {
    pub(crate) fn new(host: &HostRoot, settings: &Settings, links: Arc<Mutex<Links>>) -> Self {
        let class = host.sys("class/net");
        Self {
            links,
            settings: settings.clone(),
            directory: Directory::new(class.clone()),
            class,
            interfaces: Cache::default(),
            interval: 0,
        }
    }

    fn push(&self, out: &mut Families) {
        let interfaces = || self.interfaces.asked().flatten();
        for (property, (name, help, kind)) in FAMILIES.into_iter().enumerate() {
            out.family(name, help, kind);
            for interface in interfaces() {
                if let Some(value) = interface.numbers[property] {
                    out.push(&interface.labels, value);
                }
            }
        }
        out.gauge("node_network_info", "Non-numeric data from /sys/class/net/<iface>, value is always 1.");
        // One that went away while it was read has not even a state.
        for interface in interfaces().filter(|interface| interface.get(Property::Up).is_some()) {
            out.push(&interface.info, 1.0);
        }
        out.gauge("node_network_altnames_info", "Non-numeric data of <iface> altname, value is always 1.");
        for labels in interfaces().flat_map(|interface| &interface.altnames) {
            out.push(labels, 1.0);
        }
    }
}

impl Collector for NetClass {
    fn name(&self) -> &'static str {
        "netclass"
    }

    fn begin(&mut self, pass: Pass) {
        if pass == Pass::Interval {
            self.interval = self.interval.wrapping_add(1);
        }
        self.links.lock().unwrap_or_else(PoisonError::into_inner).begin();
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { links, settings, class, directory, interfaces, interval } = self;
        let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |name: &str| !settings.ignored_devices.matches(name);
        interfaces.begin();
        if let Some(links) = links.current()? {
            for (place, link) in links.iter().enumerate() {
                let make = |name: &str| shown(name).then(|| Box::new(Interface::new(name)));
                let Some(interface) = interfaces.get(&link.name, make) else { continue };
                interface.take(link);
                if interface.is_due(*interval, place) {
                    interface.read_slow(&sysfs::below(class, &link.name), settings);
                }
                interface.describe(link::hardware);
            }
        } else {
            let Some(names) = directory.list()? else { return Ok(Outcome::Nothing) };
            for (place, name) in names.iter().enumerate() {
                // Beside the interfaces stand files such as `bonding_masters`.
                let path = || sysfs::below(class, name);
                let make =
                    |text: &str| (shown(text) && path().is_dir()).then(|| Box::new(sysfs::interface(text, &path())));
                let Some(interface) = interfaces.get(name, make) else { continue };
                interface.read_quick();
                if interface.is_due(*interval, place) {
                    let path = path();
                    interface.read_slow(&path, settings);
                    interface.read_rest(&path);
                }
                interface.describe(sysfs::hardware);
            }
        }
        interfaces.end();
        drop(links);
        self.push(out);
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_ones_are_read_when_something_changed_and_every_so_often() {
        let mut interface = Interface::new("eth0");
        interface.set(Property::InterfaceId, Some(7.0));
        interface.set(Property::Flags, Some(4099.0));
        assert!(interface.is_due(100, 7), "its first sight");
        assert!(!interface.is_due(100, 7));
        assert!(!interface.is_due(100 + REREAD - 8, 7));
        assert!(interface.is_due(100 + REREAD - 7, 7), "spread by its place");
        assert!(!interface.is_due(100 + 2 * REREAD - 8, 7));
        assert!(interface.is_due(100 + 2 * REREAD - 7, 7));
        interface.set(Property::CarrierChanges, Some(1.0));
        assert!(interface.is_due(200, 7), "the link went up");
        interface.set(Property::Flags, Some(4098.0));
        assert!(interface.is_due(201, 7), "it was switched off");
        assert!(!interface.is_due(202, 7));
        interface.set(Property::InterfaceId, Some(8.0));
        assert!(interface.is_due(202, 7), "it is another under the same name");
    }

    #[test]
    fn labels_are_made_anew_only_when_something_changed() {
        let mut interface = Interface::new("eth0");
        interface.set_operstate(Some(b"up"));
        interface.describe(sysfs::hardware);
        let first = interface.info.clone();
        assert_eq!(first.get("operstate"), Some("up"));
        assert_eq!(first.get("adminstate"), Some("unknown"));
        interface.set_operstate(Some(b"up"));
        interface.texts.set(|texts| &mut texts.alias, b"");
        assert!(!interface.texts.changed);
        interface.set(Property::Flags, Some(f64::from(FLAG_UP)));
        interface.describe(sysfs::hardware);
        assert_eq!(interface.info.get("adminstate"), Some("up"));
        interface.texts.set(|texts| &mut texts.alias, b"to the \"core\"\xff");
        interface.describe(sysfs::hardware);
        assert_eq!(interface.info.get("ifalias"), Some("to the \"core\"\u{fffd}"));
    }
}
