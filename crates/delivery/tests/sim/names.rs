//! Short names for long ones: a record is four numbers, so that a million of them cost little.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use delivery::Identity;
use delivery::ledger::Key;
use wire::{BootId, HostName, Kind};

/// In the order of their worth.
pub(crate) const KINDS: [Kind; 3] = [Kind::Metrics, Kind::Logs, Kind::Alerts];

/// Groups by their place in `World::stores`.
pub(crate) const PG: u8 = 0;
pub(crate) const CH: u8 = 1;
pub(crate) const LATE: u8 = 2;
pub(crate) const GROUPS: [&str; 3] = ["postgres", "clickhouse", "late"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rec {
    pub(crate) host: u8,
    pub(crate) boot: u16,
    pub(crate) kind: Kind,
    pub(crate) seq: u32,
}

pub(crate) fn host(n: u8) -> HostName {
    format!("h{n}").parse().unwrap()
}

/// A host's runs in the order of their names, as time-ordered ids are. The upper byte tells two agents of one host apart.
pub(crate) fn boot(n: u16) -> BootId {
    format!("run-{:04}-{}", n & 0xff, n >> 8).parse().unwrap()
}

pub(crate) fn boot_number(boot: &BootId) -> u16 {
    let mut parts = boot.as_str().split('-').skip(1).map(|part| part.parse::<u16>().unwrap());
    let low = parts.next().unwrap();
    low | parts.next().unwrap() << 8
}

pub(crate) fn host_number(host: &HostName) -> u8 {
    host.as_str()[1..].parse().unwrap()
}

impl Rec {
    pub(crate) fn identity(self) -> Identity {
        Identity { host: host(self.host), boot: boot(self.boot), kind: self.kind, seq: u64::from(self.seq) }
    }

    pub(crate) fn key(self) -> Key {
        Key { host: host(self.host), boot: boot(self.boot), kind: self.kind }
    }
}

/// A quick hash: the keys are ours.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}

pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;
pub(crate) type Set<K> = HashSet<K, BuildHasherDefault<Mix>>;

/// The record that `UTILIZER_TRACE=host,boot,kind,seq` names.
pub(crate) fn traced() -> Option<Rec> {
    let text = std::env::var("UTILIZER_TRACE").ok()?;
    let mut parts = text.split(',');
    let mut next = || parts.next().unwrap();
    Some(Rec {
        host: next().parse().unwrap(),
        boot: next().parse().unwrap(),
        kind: next().parse().unwrap(),
        seq: next().parse().unwrap(),
    })
}
