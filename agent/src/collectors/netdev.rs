//! Traffic of each network interface: from the netlink dump that [`Links`] shares, or, where the host's procfs is not
//! this process's own, from `/proc/net/dev`. The kernel makes both from the same counters; the file lacks
//! `receive_nohandler`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::links::{Link, Links, Stat};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{HostRoot, KeptFile, Netlink, TextError, attributes, fields, lines};
use crate::pattern::{self, Pattern};
use crate::snapshot::{Families, Labels};

/// Family and help of a column.
macro_rules! columns {
    ($($name:literal = $($stat:ident)+),* $(,)?) => {
        [$((
            concat!("node_network_", $name, "_total"),
            concat!("Network device statistic ", $name, "."),
            &[$(Stat::$stat),+] as &[Stat],
        )),*]
    };
}

/// The columns in the file's order, and the counters of which the kernel makes each. The last is not in the file.
const COLUMNS: [(&str, &str, &[Stat]); 17] = columns![
    "receive_bytes" = ReceiveBytes,
    "receive_packets" = ReceivePackets,
    "receive_errs" = ReceiveErrors,
    "receive_drop" = ReceiveDropped ReceiveMissedErrors,
    "receive_fifo" = ReceiveFifoErrors,
    "receive_frame" = ReceiveFrameErrors ReceiveLengthErrors ReceiveOverErrors ReceiveCrcErrors,
    "receive_compressed" = ReceiveCompressed,
    "receive_multicast" = Multicast,
    "transmit_bytes" = TransmitBytes,
    "transmit_packets" = TransmitPackets,
    "transmit_errs" = TransmitErrors,
    "transmit_drop" = TransmitDropped,
    "transmit_fifo" = TransmitFifoErrors,
    "transmit_colls" = Collisions,
    "transmit_carrier" =
        TransmitCarrierErrors TransmitAbortedErrors TransmitHeartbeatErrors TransmitWindowErrors,
    "transmit_compressed" = TransmitCompressed,
    "receive_nohandler" = ReceiveNoHandler,
];

/// How many of them the file has.
const FILE_COLUMNS: usize = 16;

/// Two lines of column titles.
const HEADER_LINES: usize = 2;

/// `[collectors.netdev]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only interfaces that match.
    pub device_include: Pattern,
    /// Show no interfaces that match.
    pub device_exclude: Pattern,
    /// Show the addresses of each interface too. They are asked for by netlink only: not where the host's procfs is
    /// mounted elsewhere.
    pub address_info: bool,
}

struct Device {
    /// `None` for one that is not shown: decided once, at its first sight.
    labels: Option<Labels>,
    columns: [Option<u64>; COLUMNS.len()],
}

/// See the module.
pub(crate) struct NetDev {
    links: Arc<Mutex<Links>>,
    file: KeptFile,
    settings: Settings,
    devices: Cache<Device>,
    addresses: Addresses,
}

impl NetDev {
    pub(crate) fn new(host: &HostRoot, settings: &Settings, links: Arc<Mutex<Links>>) -> Self {
        Self {
            links,
            file: KeptFile::listing(host.proc("net/dev")),
            settings: settings.clone(),
            devices: Cache::default(),
            addresses: Addresses::default(),
        }
    }
}

fn device(name: &str, settings: &Settings) -> Device {
    Device {
        labels: pattern::shows(&settings.device_include, &settings.device_exclude, name)
            .then(|| Labels::new([("device", name)])),
        columns: [None; COLUMNS.len()],
    }
}

fn take(links: &[Link], settings: &Settings, devices: &mut Cache<Device>) {
    devices.begin();
    for link in links {
        let device = devices.get(&link.name, |name| device(name, settings));
        for (slot, (_, _, stats)) in device.columns.iter_mut().zip(COLUMNS) {
            // A sum of counters wraps as each of them does.
            *slot = stats.iter().map(|stat| link.stat(*stat)).try_fold(0u64, |sum, stat| Some(sum.wrapping_add(stat?)));
        }
    }
    devices.end();
}

fn parse(text: &[u8], settings: &Settings, devices: &mut Cache<Device>) -> Result<(), TextError> {
    devices.begin();
    let mut lines = lines(text)?;
    for _ in 0..HEADER_LINES {
        let header = lines.next().ok_or_else(|| TextError::new("the lines of titles are missing"))?;
        if !header.contains(&b'|') {
            return Err(TextError::expected("a line of titles", header));
        }
    }
    for line in lines {
        // A name may hold a colon (old aliases do), the numbers after it can't.
        let colon = line.iter().rposition(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| TextError::expected("an interface and a colon", line))?;
        let device = devices.get(line[..colon].trim_ascii(), |name| device(name, settings));
        let mut fields = fields(&line[colon + 1..]);
        for slot in device.columns.iter_mut().take(FILE_COLUMNS) {
            *slot = Some(fields.number("an interface statistic")?);
        }
    }
    devices.end();
    Ok(())
}

impl Collector for NetDev {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn begin(&mut self, _: Pass) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).begin();
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { links, file, settings, devices, addresses } = self;
        let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
        let links = links.current()?;
        match links {
            Some(links) => take(links, settings, devices),
            None => file.read(|text| parse(text, settings, devices))?.map_err(CollectError::malformed(file.path()))?,
        }
        for (column, (name, help, _)) in COLUMNS.into_iter().enumerate() {
            out.counter(name, help);
            for device in devices.asked() {
                if let (Some(labels), Some(value)) = (&device.labels, device.columns[column]) {
                    out.push(labels, value as f64);
                }
            }
        }
        if settings.address_info
            && let Some(links) = links
        {
            addresses.collect(links, settings, out)?;
        }
        Ok(Outcome::Data)
    }
}

/// `node_network_address_info`
struct Addresses {
    socket: Netlink,
    /// Of each address, by what the kernel says of it, then its interface's number and name.
    known: Cache<Option<Labels>>,
    key: Vec<u8>,
    /// Where each interface stands in the list, by number.
    places: Vec<(u32, usize)>,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { socket: Netlink::route(), known: Cache::default(), key: Vec::new(), places: Vec::new() }
    }
}

const GET_ADDRESS: u16 = 22;
const NEW_ADDRESS: u16 = 20;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, interface.
const ADDRESS_BYTES: usize = 8;
const ATTRIBUTE_ADDRESS: u16 = 1;
/// The own address where the other is that of the far end.
const ATTRIBUTE_LOCAL: u16 = 2;

/// An address, its prefix length and the number of its interface; `None` for a family other than IP.
fn parse_address(message: &[u8]) -> Result<Option<(IpAddr, u8, u32)>, TextError> {
    let head: &[u8; ADDRESS_BYTES] =
        message.first_chunk().ok_or_else(|| TextError::expected("an address's head", message))?;
    let [_, prefix, _, _, i0, i1, i2, i3] = *head;
    let (mut address, mut local) = (None, None);
    for attribute in attributes(&message[ADDRESS_BYTES..]) {
        match attribute? {
            (ATTRIBUTE_ADDRESS, value) => address = Some(value),
            (ATTRIBUTE_LOCAL, value) => local = Some(value),
            _ => {}
        }
    }
    let ip = local.or(address).and_then(|bytes| {
        let four = || Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
        four().or_else(|| Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)))
    });
    Ok(ip.map(|ip| (ip, prefix, u32::from_ne_bytes([i0, i1, i2, i3]))))
}

/// node_exporter's word for how far an address reaches.
fn scope(ip: IpAddr) -> &'static str {
    let (near, interface_only, global) = match ip {
        IpAddr::V4(ip) => (
            ip.is_loopback() || ip.is_link_local() || ip.octets().starts_with(&[224, 0, 0]),
            false,
            !(ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST),
        ),
        IpAddr::V6(ip) => (
            ip.is_loopback() || ip.is_unicast_link_local() || ip.segments()[0] & 0xff0f == 0xff02,
            ip.segments()[0] & 0xff0f == 0xff01,
            !(ip.is_multicast() || ip == Ipv6Addr::UNSPECIFIED),
        ),
    };
    match (near, interface_only, global) {
        (true, _, _) => "link-local",
        (_, true, _) => "interface-local",
        (_, _, true) => "global",
        _ => "",
    }
}

impl Addresses {
    fn collect(&mut self, links: &[Link], settings: &Settings, out: &mut Families) -> Result<(), CollectError> {
        self.places.clear();
        self.places.extend(links.iter().enumerate().map(|(place, link)| (link.index, place)));
        self.places.sort_unstable();
        let Self { socket, known, key, places } = self;
        let each = |(known, key): &mut (&mut Cache<Option<Labels>>, &mut Vec<u8>), kind, message: &[u8]| {
            if kind != NEW_ADDRESS {
                return Ok(());
            }
            let Some((ip, prefix, index)) = parse_address(message)? else { return Ok(()) };
            let place = places.binary_search_by_key(&index, |(index, _)| *index).ok();
            // An interface that came after the other dump waits for the next pass.
            let Some(link) = place.and_then(|at| links.get(places[at].1)) else { return Ok(()) };
            key.clear();
            match ip {
                IpAddr::V4(ip) => key.extend(ip.octets()),
                IpAddr::V6(ip) => key.extend(ip.octets()),
            }
            key.push(prefix);
            key.extend(index.to_ne_bytes());
            key.extend(&link.name);
            known.get(key, |_| {
                let device = String::from_utf8_lossy(&link.name);
                pattern::shows(&settings.device_include, &settings.device_exclude, &device).then(|| {
                    Labels::new([
                        ("address", &ip.to_string()),
                        ("device", &device),
                        ("netmask", &prefix.to_string()),
                        ("scope", scope(ip)),
                    ])
                })
            });
            Ok(())
        };
        let asked =
            socket.dump(GET_ADDRESS, &[0; ADDRESS_BYTES], &mut (&mut *known, key), |(known, _)| known.begin(), each);
        asked.map_err(|source| CollectError::System { what: "ask the kernel for its network addresses", source })?;
        known.end();
        out.gauge("node_network_address_info", "node network address by device");
        for labels in known.asked().flatten() {
            out.push(labels, 1.0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::links::tests::attribute;

    const HEADER: &str = "Inter-|   Receive  |  Transmit\n face |bytes |bytes\n";

    fn parsed(rest: &[u8]) -> Result<Cache<Device>, TextError> {
        let mut devices = Cache::default();
        parse(&[HEADER.as_bytes(), rest].concat(), &Settings::default(), &mut devices).map(|()| devices)
    }

    fn name(device: &Device) -> &str {
        device.labels.as_ref().unwrap().get("device").unwrap()
    }

    #[test]
    fn reads_each_interface() {
        let devices = parsed(
            b"    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0:0:18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
        )
        .unwrap();
        let found: Vec<_> = devices.asked().map(|d| (name(d), d.columns[0], d.columns[15], d.columns[16])).collect();
        assert_eq!(found, [("lo", Some(1), Some(16), None), ("eth0:0", Some(u64::MAX), Some(16), None)]);
    }

    #[test]
    fn a_name_that_is_not_text_is_still_a_label() {
        let devices = parsed(b"e\xff\"h: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n").unwrap();
        assert_eq!(name(devices.asked().next().unwrap()), "e\u{fffd}\"h");
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        assert!(parse(b"", &Settings::default(), &mut Cache::default()).is_err());
        assert!(parse(b"x\ny\n", &Settings::default(), &mut Cache::default()).is_err());
        for bad in [
            &b"eth0"[..],
            b"eth0:",
            b"eth0: 1 2 3",
            b"eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 99999999999999999999",
            b"\xff",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn patterns_choose() {
        let settings = Settings { device_exclude: Pattern::new("^(lo|veth)").unwrap(), ..Settings::default() };
        assert!(device("lo", &settings).labels.is_none());
        assert!(device("veth12", &settings).labels.is_none());
        assert!(device("eth0", &settings).labels.is_some());
        let settings = Settings { device_include: Pattern::new("^eth").unwrap(), ..settings };
        assert!(device("eth0", &settings).labels.is_some());
        assert!(device("wlan0", &settings).labels.is_none());
    }

    #[test]
    fn addresses_are_the_near_ends() {
        let head = [2u8, 24, 0, 0];
        let index = 7u32.to_ne_bytes();
        let far = attribute(ATTRIBUTE_ADDRESS, &[10, 0, 0, 2]);
        let near = attribute(ATTRIBUTE_LOCAL, &[10, 0, 0, 1]);
        let message = [&head[..], &index, &far, &near].concat();
        assert_eq!(parse_address(&message).unwrap(), Some(([10, 0, 0, 1].into(), 24, 7)));
        let message = [&head[..], &index, &far].concat();
        assert_eq!(parse_address(&message).unwrap(), Some(([10, 0, 0, 2].into(), 24, 7)));
        let message = [&head[..], &index, &attribute(ATTRIBUTE_ADDRESS, &[1, 2, 3])].concat();
        assert_eq!(parse_address(&message).unwrap(), None);
        for bad in [&b""[..], &head, &[&head[..], &index, &[0; 4]].concat(), &[&head[..], &index, &[255; 5]].concat()] {
            assert!(parse_address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scopes_are_node_exporters() {
        for (ip, expected) in [
            ("127.0.0.1", "link-local"),
            ("169.254.1.1", "link-local"),
            ("224.0.0.1", "link-local"),
            ("192.168.0.1", "global"),
            ("0.0.0.0", ""),
            ("255.255.255.255", ""),
            ("239.1.1.1", ""),
            ("::1", "link-local"),
            ("fe80::1", "link-local"),
            ("ff02::1", "link-local"),
            ("ff01::1", "interface-local"),
            ("fd00::2", "global"),
            ("2001:db8::1", "global"),
            ("::", ""),
        ] {
            assert_eq!(scope(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
