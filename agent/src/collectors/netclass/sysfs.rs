//! An interface as `/sys/class/net/<interface>` tells of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Interface, Property, Text};
use crate::host::{Attribute, number};

/// What changes quickly: read at every pass, so that the files stay open.
const QUICK: [(&str, Property); 6] = [
    ("carrier", Property::Carrier),
    ("carrier_changes", Property::CarrierChanges),
    ("carrier_down_count", Property::CarrierDown),
    ("carrier_up_count", Property::CarrierUp),
    ("dormant", Property::Dormant),
    ("flags", Property::Flags),
];

/// What changes when somebody changes it, beside what [`Interface::read_slow`] reads.
const REST: [(&str, Property); 7] = [
    ("ifindex", Property::InterfaceId),
    ("iflink", Property::InterfaceLink),
    ("link_mode", Property::LinkMode),
    ("mtu", Property::Mtu),
    ("netdev_group", Property::Group),
    ("type", Property::ProtocolType),
    ("tx_queue_len", Property::QueueLength),
];

const REST_TEXTS: [(&str, Text); 3] = [
    ("address", |texts| &mut texts.address),
    ("broadcast", |texts| &mut texts.broadcast),
    ("ifalias", |texts| &mut texts.alias),
];

/// The files of what changes quickly.
#[derive(Debug)]
pub(super) struct Files {
    quick: [Attribute; QUICK.len()],
    operstate: Attribute,
}

/// The directory of an interface.
pub(super) fn below(class: &Path, name: &[u8]) -> PathBuf {
    class.join(OsStr::from_bytes(name))
}

/// An interface that is read from this directory.
pub(super) fn interface(name: &str, directory: &Path) -> Interface {
    let quick = QUICK.map(|(name, _)| Attribute::new(directory.join(name)));
    let files = Files { quick, operstate: Attribute::new(directory.join("operstate")) };
    Interface { files: Some(Box::new(files)), ..Interface::new(name) }
}

/// A hardware address is text already.
pub(super) fn hardware(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// A whole number, decimal with or without sign, or hexadecimal after `0x`. `None` for what is none or does not fit.
pub(super) fn integer(text: &[u8]) -> Option<f64> {
    if let Some(digits) = text.strip_prefix(b"0x") {
        // Those from outside may have a sign in front of the digits, the kernel has not.
        let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
        return Some(u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()? as f64);
    }
    match text.strip_prefix(b"-") {
        Some(digits) => Some(-(number(digits)? as f64)),
        None => Some(number(text)? as f64),
    }
}

impl Interface {
    /// Reads what changes quickly.
    pub(super) fn read_quick(&mut self) {
        // One that the driver refuses is missing, and costs no other.
        let Some(mut files) = self.files.take() else { return };
        for (file, (_, property)) in files.quick.iter_mut().zip(QUICK) {
            self.set(property, file.bytes(integer).ok().flatten().flatten());
        }
        if !matches!(files.operstate.bytes(|state| self.set_operstate(Some(state))), Ok(Some(()))) {
            self.set_operstate(None);
        }
        self.files = Some(files);
    }

    /// Reads what netlink would have told.
    pub(super) fn read_rest(&mut self, directory: &Path) {
        for (name, property) in REST {
            self.set(property, Attribute::new(directory.join(name)).bytes(integer).ok().flatten().flatten());
        }
        for (name, which) in REST_TEXTS {
            let texts = &mut self.texts;
            let read = Attribute::new(directory.join(name)).bytes(|text| texts.set(which, text));
            if !matches!(read, Ok(Some(()))) {
                self.texts.set(which, b"");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        for (text, value) in [("0", 0.0), ("-1", -1.0), ("1500", 1500.0), ("0x1003", 4099.0), ("0x0", 0.0)] {
            assert_eq!(integer(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "-", "--1", "0x", "0x+1", "0xg", "0x10000000000000000", "18446744073709551616", "1.5", "up"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_refused_or_garbage_is_missing_alone() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
        write("operstate", b"up\n");
        write("flags", b"0x1003\n");
        write("carrier", b"\xff\xfe");
        write("mtu", b"99999999999999999999\n");
        write("ifindex", b"4\n");
        write("ifalias", b"a \"b\"\xff\n");
        let mut interface = interface("eth0", dir.path());
        interface.read_quick();
        interface.read_rest(dir.path());
        interface.describe(hardware);
        assert_eq!(interface.get(Property::Flags), Some(4099.0));
        assert_eq!(interface.get(Property::InterfaceId), Some(4.0));
        assert_eq!((interface.get(Property::Carrier), interface.get(Property::Mtu)), (None, None));
        assert_eq!(interface.get(Property::Up), Some(1.0));
        assert_eq!(interface.info.get("ifalias"), Some("a \"b\"\u{fffd}"));
        let mut interface = super::interface("eth1", &dir.path().join("gone"));
        interface.read_quick();
        assert_eq!(interface.get(Property::Up), None);
    }
}
