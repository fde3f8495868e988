//! What a block device is: from udev's database and sysfs. Constants mostly, so they are read rarely.

use std::path::PathBuf;

use crate::collectors::devices;
use crate::host::{HostRoot, KeptFile, TextError, decimal, lines};
use crate::snapshot::{Families, Labels};

/// The properties of udev that are shown.
const KEYS: [&str; 21] = [
    "DM_LV_LAYER",
    "DM_LV_NAME",
    "DM_NAME",
    "DM_UUID",
    "DM_VG_NAME",
    "ID_ATA",
    "ID_ATA_ROTATION_RATE_RPM",
    "ID_ATA_WRITE_CACHE",
    "ID_ATA_WRITE_CACHE_ENABLED",
    "ID_FS_TYPE",
    "ID_FS_USAGE",
    "ID_FS_UUID",
    "ID_FS_VERSION",
    "ID_MODEL",
    "ID_PATH",
    "ID_REVISION",
    "ID_SERIAL",
    "ID_SERIAL_SHORT",
    "ID_WWN",
    "SCSI_IDENT_SERIAL",
    // No device has it: a place for keys that are not here.
    "",
];

/// Values of [`KEYS`], as udev wrote them; empty where it did not.
struct Properties([String; KEYS.len()]);

impl Properties {
    fn none() -> Self {
        Self([const { String::new() }; KEYS.len()])
    }

    fn get(&self, key: &str) -> &str {
        let at = KEYS.iter().position(|known| *known == key).unwrap_or(KEYS.len() - 1);
        &self.0[at]
    }
}

/// Lines of a letter, a colon and more; `E:` is a property.
fn parse(text: &[u8]) -> Result<Properties, TextError> {
    let mut properties = Properties::none();
    for line in lines(text)? {
        let Some(property) = line.strip_prefix(b"E:") else { continue };
        let Some(equals) = property.iter().position(|byte| *byte == b'=') else { continue };
        let (key, value) = (&property[..equals], &property[equals + 1..]);
        if !key.is_empty()
            && let Some(at) = KEYS.iter().position(|known| known.as_bytes() == key)
        {
            properties.0[at] = String::from_utf8_lossy(value).into_owned();
        }
    }
    Ok(properties)
}

/// Property, family and help of what ATA disks tell of themselves.
const ATA: [(&str, &str, &str); 3] = [
    ("ID_ATA_ROTATION_RATE_RPM", "node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs)."),
    ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "ATA disk has a write cache."),
    ("ID_ATA_WRITE_CACHE_ENABLED", "node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled."),
];

/// What is shown of a device.
pub(super) struct Info {
    info: Labels,
    filesystem: Option<Labels>,
    device_mapper: Option<Labels>,
    ata: [Option<f64>; ATA.len()],
}

impl Info {
    /// Of the device with this name and these numbers. What can't be read is empty, as for node_exporter: whoever lacks
    /// udev has disks all the same.
    pub(super) fn read(host: &HostRoot, name: &str, numbers: (u64, u64)) -> Self {
        let (major, minor) = (&*numbers.0.to_string(), &*numbers.1.to_string());
        let file = host.udev(format!("b{major}:{minor}"));
        let properties = read(file).unwrap_or_else(Properties::none);
        let get = |key| properties.get(key);
        let serials = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"];
        let serial = serials.into_iter().map(get).find(|serial| !serial.is_empty()).unwrap_or_default();
        // sysfs can't have a slash in a name.
        let queue = host.sys("block").join(name.replace('/', "!")).join("queue/rotational");
        let rotational = if devices::text(queue).as_deref() == Some("1") { "1" } else { "0" };
        let info = Labels::new([
            ("device", name),
            ("major", major),
            ("minor", minor),
            ("path", get("ID_PATH")),
            ("wwn", get("ID_WWN")),
            ("model", get("ID_MODEL")),
            ("serial", serial),
            ("revision", get("ID_REVISION")),
            ("rotational", rotational),
        ]);
        let filesystem = (!get("ID_FS_TYPE").is_empty()).then(|| {
            Labels::new([
                ("device", name),
                ("type", get("ID_FS_TYPE")),
                ("usage", get("ID_FS_USAGE")),
                ("uuid", get("ID_FS_UUID")),
                ("version", get("ID_FS_VERSION")),
            ])
        });
        let device_mapper = (!get("DM_NAME").is_empty()).then(|| {
            Labels::new([
                ("device", name),
                ("name", get("DM_NAME")),
                ("uuid", get("DM_UUID")),
                ("vg_name", get("DM_VG_NAME")),
                ("lv_name", get("DM_LV_NAME")),
                ("lv_layer", get("DM_LV_LAYER")),
            ])
        });
        let is_ata = !get("ID_ATA").is_empty();
        let ata = ATA.map(|(key, _, _)| is_ata.then(|| decimal(get(key).as_bytes())).flatten());
        Self { info, filesystem, device_mapper, ata }
    }
}

fn read(path: PathBuf) -> Option<Properties> {
    let mut file = KeptFile::record(path);
    match file.read(parse) {
        Ok(Ok(properties)) => Some(properties),
        Ok(Err(error)) => {
            tracing::debug!(path = %file.path().display(), %error, "udev's data of a device does not read as expected");
            None
        }
        Err(_) => None,
    }
}

/// Appends what is known of the devices: each with its labels for families that have the device's name alone.
pub(super) fn collect<'a>(devices: impl Iterator<Item = (&'a Labels, &'a Info)> + Clone, out: &mut Families) {
    for (at, (_, family, help)) in ATA.into_iter().enumerate() {
        out.gauge(family, help);
        for (labels, info) in devices.clone() {
            info.ata[at].into_iter().for_each(|value| out.push(labels, value));
        }
    }
    out.gauge("node_disk_device_mapper_info", "Info about disk device mapper.");
    devices.clone().filter_map(|(_, info)| info.device_mapper.as_ref()).for_each(|labels| out.push(labels, 1.0));
    out.gauge("node_disk_filesystem_info", "Info about disk filesystem.");
    devices.clone().filter_map(|(_, info)| info.filesystem.as_ref()).for_each(|labels| out.push(labels, 1.0));
    out.gauge("node_disk_info", "Info of /sys/block/<block_device>.");
    devices.for_each(|(_, info)| out.push(&info.info, 1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_lines_of_e() {
        let text = b"S:disk/by-id/x\nI:123\nE:ID_MODEL=A=B \xff\nE:ID_OTHER=x\nE:=y\nE:none\nG:systemd\nE:ID_ATA=1\n";
        let found = parse(text).unwrap();
        assert_eq!((found.get("ID_MODEL"), found.get("ID_ATA"), found.get("ID_WWN")), ("A=B \u{fffd}", "1", ""));
        assert_eq!(found.get("ID_OTHER"), "");
        assert!(parse(b"E:ID_MODEL=A\nE:ID_SER").is_err(), "cut");
        assert_eq!(parse(b"").unwrap().get("ID_MODEL"), "");
    }

    #[test]
    fn the_serial_is_what_the_label_on_the_disk_has() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { udev: dir.path().into(), sys: dir.path().into(), ..HostRoot::default() };
        let serial = |text: &str| {
            std::fs::write(dir.path().join("b8:0"), text).unwrap();
            Info::read(&host, "sda", (8, 0)).info.get("serial").unwrap().to_owned()
        };
        assert_eq!(serial("E:ID_SERIAL=long\nE:ID_SERIAL_SHORT=short\nE:SCSI_IDENT_SERIAL=scsi\n"), "scsi");
        assert_eq!(serial("E:ID_SERIAL=long\nE:ID_SERIAL_SHORT=short\n"), "short");
        assert_eq!(serial("E:ID_SERIAL=long\n"), "long");
        assert_eq!(serial("E:ID_SERIAL=cut"), "", "rather none than half of one");
    }

    #[test]
    fn ata_figures_are_those_of_ata_disks() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { udev: dir.path().into(), sys: dir.path().into(), ..HostRoot::default() };
        let ata = |text: &str| {
            std::fs::write(dir.path().join("b8:0"), text).unwrap();
            Info::read(&host, "sda", (8, 0)).ata
        };
        let text = "E:ID_ATA_ROTATION_RATE_RPM=7200\nE:ID_ATA_WRITE_CACHE=yes\n";
        assert_eq!(ata(text), [None; 3]);
        assert_eq!(ata(&format!("{text}E:ID_ATA=1\n")), [Some(7200.0), None, None]);
    }

    #[test]
    fn a_slash_in_a_name_stays_below_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { udev: dir.path().into(), sys: dir.path().into(), ..HostRoot::default() };
        std::fs::create_dir_all(dir.path().join("block/cciss!c0d0/queue")).unwrap();
        std::fs::write(dir.path().join("block/cciss!c0d0/queue/rotational"), "1\n").unwrap();
        assert_eq!(Info::read(&host, "cciss/c0d0", (104, 0)).info.get("rotational"), Some("1"));
        assert_eq!(Info::read(&host, "sda", (8, 0)).info.get("rotational"), Some("0"));
    }
}
