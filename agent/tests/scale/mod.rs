//! Machines that have much of something, as frozen trees that are made here: thousands of network interfaces.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use utilizer_agent::collectors::{self, CollectorSettings, Pass, Registry, State};
use utilizer_agent::host::HostRoot;
use utilizer_agent::snapshot::Families;

const INTERFACES: usize = 5000;
/// Far more than a pass takes on any machine, and far less than it would if each interface were searched among all.
const BOUND: Duration = Duration::from_secs(20);

/// The collectors that have something for each interface.
const NAMES: [&str; 4] = ["arp", "bonding", "netclass", "netdev"];

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// `net/dev` and `net/arp` of these interfaces.
fn tables(root: &Path, interfaces: impl Iterator<Item = usize>) {
    let mut dev = "Inter-|   Receive  |  Transmit\n face |bytes |bytes\n".to_owned();
    let mut arp = "IP address       HW type     Flags       HW address            Mask     Device\n".to_owned();
    for number in interfaces {
        writeln!(dev, "veth{number}: {number} 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
        writeln!(arp, "192.0.2.1 0x1 0x2 02:00:00:00:00:05 * veth{number}").unwrap();
    }
    write(root, "proc/net/dev", &dev);
    write(root, "proc/net/arp", &arp);
}

fn pass(registry: &mut Registry, kind: Pass) -> Families {
    let mut out = Families::default();
    let begun = Instant::now();
    registry.run(kind, &mut out);
    assert!(begun.elapsed() < BOUND, "a pass took {:?}", begun.elapsed());
    let failed: Vec<_> = registry.status().filter(|status| status.state != State::Data).collect();
    assert!(failed.is_empty(), "{failed:?}");
    out
}

/// The value of one interface's sample.
fn value(out: &Families, family: &str, device: &str) -> Option<f64> {
    let sample = out.samples(family).iter().find(|sample| sample.labels.get("device") == Some(device))?;
    Some(sample.value)
}

#[test]
fn thousands_of_interfaces() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    tables(root, 0..INTERFACES);
    // As in sysfs, what stands there are links; all of them to one device, for the time that files take to be made.
    for (device, state) in [("up", "up\n"), ("down", "down\n")] {
        write(root, &format!("sys/devices/{device}/operstate"), state);
        write(root, &format!("sys/devices/{device}/mtu"), "1500\n");
    }
    let class = root.join("sys/class/net");
    fs::create_dir_all(&class).unwrap();
    let link = |number: usize, device: &str| {
        symlink(Path::new("../../devices").join(device), class.join(format!("veth{number}"))).unwrap();
    };
    (0..INTERFACES).for_each(|number| link(number, "up"));
    write(root, "sys/class/net/bonding_masters", "\n");
    let below = |name| root.join(name);
    let host = HostRoot { proc: below("proc"), sys: below("sys"), root: below("root"), udev: below("udev") };
    let enable = NAMES.map(str::to_owned).to_vec();
    let settings = CollectorSettings { enable, disable_defaults: true, ..CollectorSettings::default() };
    let mut registry = Registry::new(collectors::all(&host, &settings));

    for kind in [Pass::Interval, Pass::Scrape, Pass::Interval] {
        let out = pass(&mut registry, kind);
        for family in ["node_network_receive_bytes_total", "node_network_up", "node_network_info", "node_arp_entries"] {
            assert_eq!(out.samples(family).len(), INTERFACES, "{family}");
        }
        assert_eq!(value(&out, "node_network_receive_bytes_total", "veth4711"), Some(4711.0));
        assert_eq!(value(&out, "node_network_mtu_bytes", "veth4711"), Some(1500.0));
    }

    // The kernel lists them the other way round, one has gone and one has come.
    tables(root, (1..=INTERFACES).rev());
    fs::remove_file(class.join("veth0")).unwrap();
    link(INTERFACES, "down");
    let out = pass(&mut registry, Pass::Scrape);
    assert_eq!(out.samples("node_network_receive_bytes_total").len(), INTERFACES);
    assert_eq!(value(&out, "node_network_receive_bytes_total", "veth0"), None);
    assert_eq!(value(&out, "node_network_receive_bytes_total", "veth4711"), Some(4711.0));
    assert_eq!(value(&out, "node_network_up", "veth0"), None);
    assert_eq!(value(&out, "node_network_up", "veth4711"), Some(1.0));
    assert_eq!(value(&out, "node_network_up", "veth5000"), Some(0.0));
    assert_eq!(value(&out, "node_arp_entries", "veth5000"), Some(1.0));
}
