//! All network interfaces as the kernel tells them in one netlink dump (`RTM_GETLINK`), read once a pass for the
//! collectors that live on it: `/sys/class/net` has the same in two dozen files each.

use std::io;

use rustix::io::Errno;

use crate::collectors::CollectError;
use crate::host::{HostRoot, Netlink, TextError, attributes};

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
/// `struct ifinfomsg`
const LINK_BYTES: usize = 16;

/// The kernel's numbers of the attributes that are read.
mod attribute {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const BROADCAST: u16 = 2;
    pub(super) const NAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const QUEUE_LENGTH: u16 = 13;
    pub(super) const OPERSTATE: u16 = 16;
    pub(super) const LINK_MODE: u16 = 17;
    pub(super) const ALIAS: u16 = 20;
    pub(super) const STATS64: u16 = 23;
    pub(super) const GROUP: u16 = 27;
    pub(super) const FILTER: u16 = 29;
    pub(super) const PROMISCUITY: u16 = 30;
    pub(super) const CARRIER: u16 = 33;
    pub(super) const CARRIER_CHANGES: u16 = 35;
    pub(super) const CARRIER_UP: u16 = 47;
    pub(super) const CARRIER_DOWN: u16 = 48;
    pub(super) const PROPERTIES: u16 = 52;
    pub(super) const ALTNAME: u16 = 53;
    pub(super) const ALLMULTI: u16 = 61;
}

/// Leaves out the counters of IPv6 for each interface, which are half of the work and of the answer.
const WITHOUT_FAMILY_COUNTERS: u32 = 1 << 3;

/// The flags that sysfs does not show: the kernel derives them for this answer.
const DERIVED_FLAGS: u32 = FLAG_RUNNING | FLAG_PROMISC | FLAG_ALLMULTI | FLAG_LOWER_UP | FLAG_DORMANT;
/// The interface is switched on.
pub(crate) const FLAG_UP: u32 = 1;
const FLAG_RUNNING: u32 = 1 << 6;
const FLAG_PROMISC: u32 = 1 << 8;
const FLAG_ALLMULTI: u32 = 1 << 9;
const FLAG_LOWER_UP: u32 = 1 << 16;
const FLAG_DORMANT: u32 = 1 << 17;

/// What the kernel counts of an interface, in the order of `struct rtnl_link_stats64`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stat {
    ReceivePackets,
    TransmitPackets,
    ReceiveBytes,
    TransmitBytes,
    ReceiveErrors,
    TransmitErrors,
    ReceiveDropped,
    TransmitDropped,
    Multicast,
    Collisions,
    ReceiveLengthErrors,
    ReceiveOverErrors,
    ReceiveCrcErrors,
    ReceiveFrameErrors,
    ReceiveFifoErrors,
    ReceiveMissedErrors,
    TransmitAbortedErrors,
    TransmitCarrierErrors,
    TransmitFifoErrors,
    TransmitHeartbeatErrors,
    TransmitWindowErrors,
    ReceiveCompressed,
    TransmitCompressed,
    /// Since Linux 4.6.
    ReceiveNoHandler,
}

/// How many there are.
const STATS: usize = Stat::ReceiveNoHandler as usize + 1;

/// One interface.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Its number, and its name: bytes, for nothing promises UTF-8.
    pub(crate) index: u32,
    pub(crate) name: Vec<u8>,
    /// `ARPHRD_*`
    pub(crate) kind: u16,
    /// As sysfs shows them.
    pub(crate) flags: u32,
    /// `None` while it is switched off, as in sysfs.
    pub(crate) dormant: Option<bool>,
    pub(crate) carrier: Option<bool>,
    pub(crate) operstate: Option<u8>,
    pub(crate) link_mode: Option<u8>,
    pub(crate) mtu: Option<u32>,
    pub(crate) queue_length: Option<u32>,
    pub(crate) group: Option<u32>,
    /// The interface below it; its own number if there is none.
    pub(crate) link: u32,
    pub(crate) carrier_changes: Option<u32>,
    pub(crate) carrier_up: Option<u32>,
    pub(crate) carrier_down: Option<u32>,
    /// Of the hardware; empty for an interface without.
    pub(crate) address: Vec<u8>,
    pub(crate) broadcast: Vec<u8>,
    pub(crate) alias: Vec<u8>,
    /// Other names, still packed: see [`Link::altnames`].
    pub(crate) properties: Vec<u8>,
    /// In the order of [`Stat`]; `None` from a kernel older than that.
    pub(crate) stats: [Option<u64>; STATS],
}

impl Link {
    /// A counter.
    pub(crate) fn stat(&self, stat: Stat) -> Option<u64> {
        self.stats[stat as usize]
    }

    /// The names that it has besides.
    pub(crate) fn altnames(&self) -> impl Iterator<Item = &[u8]> {
        attributes(&self.properties).filter_map(|attribute| match attribute {
            Ok((attribute::ALTNAME, name)) => Some(text(name)),
            _ => None,
        })
    }

    /// Takes over what a message says; all that was there before is forgotten.
    fn parse(&mut self, message: &[u8]) -> Result<(), TextError> {
        let head: &[u8; LINK_BYTES] =
            message.first_chunk().ok_or_else(|| TextError::expected("an interface's head", message))?;
        // Family, a gap, type, number, flags, a mask of flags.
        let [_, _, kind0, kind1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *head;
        let index = u32::from_ne_bytes([i0, i1, i2, i3]);
        let told = u32::from_ne_bytes([f0, f1, f2, f3]);
        for buffer in [&mut self.name, &mut self.address, &mut self.broadcast, &mut self.alias, &mut self.properties] {
            buffer.clear();
        }
        let up = told & FLAG_UP != 0;
        *self = Self {
            index,
            kind: u16::from_ne_bytes([kind0, kind1]),
            flags: told & !DERIVED_FLAGS,
            dormant: up.then_some(told & FLAG_DORMANT != 0),
            link: index,
            name: std::mem::take(&mut self.name),
            address: std::mem::take(&mut self.address),
            broadcast: std::mem::take(&mut self.broadcast),
            alias: std::mem::take(&mut self.alias),
            properties: std::mem::take(&mut self.properties),
            ..Self::default()
        };
        for attribute in attributes(&message[LINK_BYTES..]) {
            let (kind, value) = attribute?;
            match kind {
                attribute::NAME => self.name.extend(text(value)),
                attribute::ADDRESS => self.address.extend(value),
                attribute::BROADCAST => self.broadcast.extend(value),
                attribute::ALIAS => self.alias.extend(text(value)),
                attribute::PROPERTIES => self.properties.extend(value),
                attribute::MTU => self.mtu = Some(number(value)?),
                attribute::LINK => self.link = number(value)?,
                attribute::QUEUE_LENGTH => self.queue_length = Some(number(value)?),
                attribute::GROUP => self.group = Some(number(value)?),
                attribute::CARRIER_CHANGES => self.carrier_changes = Some(number(value)?),
                attribute::CARRIER_UP => self.carrier_up = Some(number(value)?),
                attribute::CARRIER_DOWN => self.carrier_down = Some(number(value)?),
                attribute::OPERSTATE => self.operstate = Some(byte(value)?),
                attribute::LINK_MODE => self.link_mode = Some(byte(value)?),
                attribute::CARRIER => self.carrier = up.then_some(byte(value)? != 0),
                attribute::PROMISCUITY if number(value)? > 0 => self.flags |= FLAG_PROMISC,
                attribute::ALLMULTI if number(value)? > 0 => self.flags |= FLAG_ALLMULTI,
                attribute::STATS64 => {
                    for (slot, eight) in self.stats.iter_mut().zip(value.as_chunks::<8>().0) {
                        *slot = Some(u64::from_ne_bytes(*eight));
                    }
                }
                _ => {}
            }
        }
        if self.name.is_empty() {
            return Err(TextError::new("an interface has no name"));
        }
        Ok(())
    }
}

/// Without the NUL at its end.
fn text(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn number(value: &[u8]) -> Result<u32, TextError> {
    let bytes = value.try_into().map_err(|_| TextError::expected("four bytes of an interface's attribute", value))?;
    Ok(u32::from_ne_bytes(bytes))
}

fn byte(value: &[u8]) -> Result<u8, TextError> {
    match value {
        [byte] => Ok(*byte),
        _ => Err(TextError::expected("one byte of an interface's attribute", value)),
    }
}

/// The list, whose buffers are kept.
#[derive(Debug, Default)]
struct List {
    slots: Vec<Link>,
    count: usize,
}

impl List {
    fn add(&mut self, kind: u16, message: &[u8]) -> Result<(), TextError> {
        if kind != NEW_LINK {
            return Ok(());
        }
        if self.count == self.slots.len() {
            self.slots.push(Link::default());
        }
        if let Some(slot) = self.slots.get_mut(self.count) {
            slot.parse(message)?;
            self.count += 1;
        }
        Ok(())
    }
}

/// The interfaces, and what the kernel said of them in this pass.
#[derive(Debug)]
pub(crate) struct Links {
    /// `None` where netlink does not speak of the host that is watched, or may not be used: then files are read.
    socket: Option<Netlink>,
    request: [u8; LINK_BYTES + 8],
    list: List,
    fresh: bool,
    /// It has answered before.
    answered: bool,
}

impl Links {
    /// Of this host.
    pub(crate) fn new(host: &HostRoot) -> Self {
        let mut request = [0; LINK_BYTES + 8];
        request[LINK_BYTES..][..2].copy_from_slice(&8u16.to_ne_bytes());
        request[LINK_BYTES + 2..][..2].copy_from_slice(&attribute::FILTER.to_ne_bytes());
        request[LINK_BYTES + 4..].copy_from_slice(&WITHOUT_FAMILY_COUNTERS.to_ne_bytes());
        let socket = host.is_own().then(Netlink::route);
        Self { socket, request, list: List::default(), fresh: false, answered: false }
    }

    /// A pass begins: what was read before is old.
    pub(crate) fn begin(&mut self) {
        self.fresh = false;
    }

    /// All interfaces in this pass. `None` where they have to be read from files.
    pub(crate) fn current(&mut self) -> Result<Option<&[Link]>, CollectError> {
        if !self.fresh {
            let Self { socket, request, list, .. } = self;
            let Some(open) = socket else { return Ok(None) };
            match open.dump(GET_LINK, request, list, |list| list.count = 0, List::add) {
                Ok(()) => (self.answered, self.fresh) = (true, true),
                Err(error) if !self.answered && is_denied(&error) => {
                    self.socket = None;
                    return Ok(None);
                }
                Err(source) => {
                    return Err(CollectError::System { what: "ask the kernel for its network interfaces", source });
                }
            }
        }
        Ok(Some(&self.list.slots[..self.list.count]))
    }
}

/// Whether a sandbox keeps the process from netlink, or the kernel has none.
pub(crate) fn is_denied(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT, Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::OPNOTSUPP]
        .into_iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn head(index: u32, kind: u16, flags: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    /// A switched-on interface with two counters.
    fn eth0() -> Vec<u8> {
        [
            head(2, 1, FLAG_UP | 1 << 1 | FLAG_RUNNING | FLAG_LOWER_UP),
            attribute(attribute::NAME, b"eth0\0"),
            attribute(attribute::MTU, &1500u32.to_ne_bytes()),
            attribute(attribute::OPERSTATE, &[6]),
            attribute(attribute::CARRIER, &[1]),
            attribute(attribute::PROMISCUITY, &2u32.to_ne_bytes()),
            attribute(attribute::ADDRESS, &[2, 0, 0, 0, 0, 10]),
            attribute(attribute::STATS64, &[5u64.to_ne_bytes(), u64::MAX.to_ne_bytes()].concat()),
            attribute(attribute::PROPERTIES | 0x8000, &attribute(attribute::ALTNAME, b"enp1s0\0")),
            attribute(1000, b"of a later kernel"),
        ]
        .concat()
    }

    #[test]
    fn reads_what_an_interface_says() {
        let mut link = Link::default();
        link.parse(&eth0()).unwrap();
        assert_eq!((link.index, &*link.name, link.kind), (2, &b"eth0"[..], 1));
        assert_eq!(link.flags, 0x103, "as sysfs shows them");
        assert_eq!((link.mtu, link.link, link.operstate), (Some(1500), 2, Some(6)));
        assert_eq!((link.carrier, link.dormant), (Some(true), Some(false)));
        assert_eq!((link.carrier_changes, link.queue_length), (None, None));
        assert_eq!(link.stat(Stat::ReceivePackets), Some(5));
        assert_eq!(link.stat(Stat::TransmitPackets), Some(u64::MAX));
        assert_eq!(link.stat(Stat::ReceiveBytes), None, "the message ends before it");
        assert_eq!(link.altnames().collect::<Vec<_>>(), [b"enp1s0"]);
        // Another into the same buffers, switched off.
        let other = [head(3, 772, 0), attribute(attribute::NAME, b"lo"), attribute(attribute::CARRIER, &[1])].concat();
        link.parse(&other).unwrap();
        assert_eq!((link.index, &*link.name, link.flags, link.link), (3, &b"lo"[..], 0, 3));
        assert_eq!((link.carrier, link.dormant, link.mtu), (None, None, None), "as sysfs refuses them");
        assert_eq!((link.address.len(), link.altnames().count()), (0, 0));
        assert_eq!(link.stat(Stat::ReceivePackets), None);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        let whole = eth0();
        for end in 0..whole.len() {
            // Never a panic; an error but for a cut between attributes.
            let _ = Link::default().parse(&whole[..end]);
        }
        let named = [head(1, 1, 0), attribute(attribute::NAME, b"eth0")].concat();
        for bad in [
            vec![],
            vec![0; 15],
            head(1, 1, 0),
            [head(1, 1, 0), attribute(attribute::NAME, b"\0")].concat(),
            [named.clone(), vec![0; 4]].concat(),
            [named.clone(), vec![0xff; 9]].concat(),
            [named.clone(), attribute(attribute::MTU, &[1, 2])].concat(),
            [named.clone(), attribute(attribute::MTU, &[0; 8])].concat(),
            [named.clone(), attribute(attribute::OPERSTATE, b"")].concat(),
        ] {
            assert!(Link::default().parse(&bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(Link::default().parse(&named).is_ok());
    }

    #[test]
    fn any_bytes_are_an_error_or_an_interface() {
        let whole = eth0();
        // A fixed sequence: what fails, fails again.
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + next() % 8 {
                let at = next() % bytes.len();
                bytes[at] = next() as u8;
            }
            bytes.truncate(next() % (bytes.len() + 1));
            let mut link = Link::default();
            if link.parse(&bytes).is_ok() {
                let _ = link.altnames().count();
            }
        }
    }

    #[test]
    fn the_list_forgets_the_gone() {
        let mut list = List::default();
        list.add(NEW_LINK, &eth0()).unwrap();
        list.add(NEW_LINK, &eth0()).unwrap();
        list.add(17, b"a removal").unwrap();
        assert_eq!(list.count, 2);
        list.count = 0;
        list.add(NEW_LINK, &eth0()).unwrap();
        assert_eq!((list.count, list.slots.len()), (1, 2));
        assert!(list.add(NEW_LINK, b"").is_err());
    }

    #[test]
    fn a_foreign_host_is_read_from_files() {
        let host = HostRoot { proc: "elsewhere".into(), ..HostRoot::default() };
        assert!(Links::new(&host).current().unwrap().is_none());
    }
}
