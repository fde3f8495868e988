//! An interface as netlink tells of it.

use std::fmt::Write;

use super::{Interface, Property};
use crate::collectors::links::Link;
use crate::snapshot::Labels;

/// The words of sysfs for the kernel's numbers.
const OPERSTATES: [&str; 7] = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

/// A hardware address as sysfs writes it.
pub(super) fn hardware(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (number, byte) in bytes.iter().enumerate() {
        let colon = if number == 0 { "" } else { ":" };
        // Writing into a text does not fail.
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

impl Interface {
    /// Takes over what the kernel says in this pass.
    pub(super) fn take(&mut self, link: &Link) {
        let flag = |value: Option<bool>| value.map(f64::from);
        self.set(Property::Carrier, flag(link.carrier));
        self.set(Property::CarrierChanges, link.carrier_changes.map(f64::from));
        self.set(Property::CarrierDown, link.carrier_down.map(f64::from));
        self.set(Property::CarrierUp, link.carrier_up.map(f64::from));
        self.set(Property::Dormant, flag(link.dormant));
        self.set(Property::Flags, Some(f64::from(link.flags)));
        self.set(Property::InterfaceId, Some(f64::from(link.index)));
        self.set(Property::InterfaceLink, Some(f64::from(link.link)));
        self.set(Property::LinkMode, link.link_mode.map(f64::from));
        self.set(Property::Mtu, link.mtu.map(f64::from));
        self.set(Property::Group, link.group.map(f64::from));
        self.set(Property::ProtocolType, Some(f64::from(link.kind)));
        self.set(Property::QueueLength, link.queue_length.map(f64::from));
        let state = link.operstate.map(|state| OPERSTATES.get(usize::from(state)).copied().unwrap_or("unknown"));
        self.set_operstate(state.map(str::as_bytes));
        self.texts.set(|texts| &mut texts.address, &link.address);
        self.texts.set(|texts| &mut texts.broadcast, &link.broadcast);
        self.texts.set(|texts| &mut texts.alias, &link.alias);
        if self.properties != link.properties {
            self.properties.clone_from(&link.properties);
            let device = self.labels.get("device").unwrap_or_default();
            let labels = |name| Labels::new([("altname", &*String::from_utf8_lossy(name)), ("device", device)]);
            self.altnames = link.altnames().map(labels).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_what_a_link_says() {
        let mut interface = Interface::new("eth0");
        let mut link = Link {
            index: 4,
            kind: 1,
            flags: 0x1003,
            carrier: Some(true),
            dormant: Some(false),
            operstate: Some(6),
            address: vec![2, 0xfc, 0, 0, 0, 1],
            link: 4,
            ..Link::default()
        };
        interface.take(&link);
        interface.describe(hardware);
        assert_eq!(interface.get(Property::Up), Some(1.0));
        assert_eq!(interface.get(Property::Flags), Some(4099.0));
        assert_eq!(interface.get(Property::Mtu), None);
        assert_eq!(interface.info.get("address"), Some("02:fc:00:00:00:01"));
        assert_eq!(interface.info.get("broadcast"), Some(""));
        assert_eq!(interface.info.get("operstate"), Some("up"));
        link.operstate = Some(99);
        interface.take(&link);
        interface.describe(hardware);
        assert_eq!(interface.get(Property::Up), Some(0.0));
        assert_eq!(interface.info.get("operstate"), Some("unknown"));
    }
}
