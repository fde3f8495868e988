//! Which hosts a member of a sharded group takes.

use std::fmt;
use std::str::FromStr;

use wire::HostName;

/// One of several shards: `0/4` is the first of four. Every host belongs to exactly one of them, by a hash of its name
/// that no version of this program may change: a host that changed its shard would be unknown to its new ledger.
///
/// To change the number of shards, every member drains its spool first, and each new member starts with the ledgers of
/// all old ones: an agent that was away may still send what an old member has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

/// A text is no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a shard such as \"0/4\": the first of four; they count from 0, and there are at most 1024")]
pub struct ShardError(String);

impl Shard {
    /// Whether a host is this shard's.
    pub fn takes(&self, host: &HostName) -> bool {
        // FNV-1a, then a mixer: the low bits of FNV alone follow the last letter.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in host.as_str().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash.checked_rem(u64::from(self.of)) == Some(u64::from(self.index))
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parse = || {
            let (index, of) = text.split_once('/')?;
            let (index, of) = (index.parse().ok()?, of.parse().ok()?);
            (index < of && of <= 1024).then_some(Shard { index, of })
        };
        parse().ok_or_else(|| ShardError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_one_shard_and_keeps_it() {
        let shards: Vec<Shard> = (0..4).map(|index| format!("{index}/4").parse().unwrap()).collect();
        let mut counts = [0; 4];
        for n in 0..4000 {
            let host: HostName = format!("web-{n:04}").parse().unwrap();
            let of: Vec<_> = (0..4).filter(|&index: &usize| shards[index].takes(&host)).collect();
            assert_eq!(of.len(), 1, "{host}");
            counts[of[0]] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1100).contains(&count)), "{counts:?}");
        // Pinned: another answer would send a host to a ledger that does not know it.
        let takes = |host: &str| (0..4).find(|&index: &usize| shards[index].takes(&host.parse().unwrap()));
        assert_eq!(["web-01", "web-02", "db-1", "a"].map(takes), [Some(0), Some(2), Some(2), Some(1)]);
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "4/4", "0/0", "-1/4", "1", "0/1025", "a/b"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("is not a shard"), "{error}");
        }
        assert_eq!("3/4".parse::<Shard>().unwrap().to_string(), "3/4");
    }
}
