use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Peer;

/// Which peers are answered: `"loopback"`, `"private"`, `"all"`, an address, or a network such as `"192.0.2.0/24"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow(Vec<Net>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net {
    address: IpAddr,
    prefix: u8,
}

/// An entry that names no set of peers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of \"loopback\", \"private\", \"all\", an IP address or a network such as \"192.0.2.0/24\"")]
pub struct AllowError(String);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Net {
    Net { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
}

const fn v6(first: u16, last: u16, prefix: u8) -> Net {
    Net { address: IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last)), prefix }
}

const LOOPBACK: &[Net] = &[v4(127, 0, 0, 0, 8), v6(0, 1, 128)];

/// RFC 1918 and RFC 4193, and link-local addresses (RFC 3927, RFC 4291).
const PRIVATE: &[Net] = &[
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(169, 254, 0, 0, 16),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
];

const ALL: &[Net] = &[v4(0, 0, 0, 0, 0), v6(0, 0, 0)];

impl Allow {
    /// Over the Unix socket only.
    pub fn nobody() -> Self {
        Self(Vec::new())
    }

    /// From the entries of a configuration.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, AllowError> {
        let mut nets = Vec::new();
        for entry in entries {
            match entry.as_ref() {
                "loopback" => nets.extend(LOOPBACK),
                "private" => nets.extend(PRIVATE),
                "all" => nets.extend(ALL),
                text => nets.push(Net::parse(text).ok_or_else(|| AllowError(text.to_owned()))?),
            }
        }
        Ok(Self(nets))
    }

    /// Whether this peer is answered. The Unix socket always is: its file's mode decides.
    pub fn permits(&self, peer: Peer) -> bool {
        match peer {
            Peer::Unix => true,
            Peer::Ip(address) => self.0.iter().any(|net| net.contains(address.to_canonical())),
        }
    }
}

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse().ok()?, Some(prefix.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Self { address, prefix })
    }

    fn contains(self, address: IpAddr) -> bool {
        // Both as left-aligned 128 bits: then one comparison of the leading bits fits both families.
        let (net, address) = match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                (u128::from(net.to_bits()) << 96, u128::from(address.to_bits()) << 96)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits(), address.to_bits()),
            _ => return false,
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        net & mask == address & mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_sorted_by_their_address() {
        let allow = |entries: &[&str]| Allow::parse(entries).unwrap();
        let ip = |text: &str| Peer::Ip(text.parse().unwrap());
        let default = allow(&["loopback", "private"]);
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(default.permits(ip(inside)), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "192.0.2.1", "2001:db8::1", "::ffff:8.8.8.8", "::", "0.0.0.0"] {
            assert!(!default.permits(ip(outside)), "{outside}");
        }
        assert!(default.permits(Peer::Unix));
        assert!(allow(&["192.0.2.0/24"]).permits(ip("192.0.2.200")));
        assert!(!allow(&["192.0.2.0/25"]).permits(ip("192.0.2.200")));
        assert!(allow(&["2001:db8::7"]).permits(ip("2001:db8::7")));
        assert!(allow(&["all"]).permits(ip("8.8.8.8")) && allow(&["all"]).permits(ip("2001:db8::1")));
        assert!(!allow(&[]).permits(ip("127.0.0.1")));
    }

    #[test]
    fn entries_that_mean_nothing_are_named() {
        for bad in ["", "localhost", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1"] {
            let error = Allow::parse(&[bad]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{bad:?} is none of")), "{error}");
        }
    }
}
