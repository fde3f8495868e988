//! What a file is, whatever its name: device, inode, its first bytes, and the bytes before the place up to which it was read.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Bytes at a file's beginning that tell it from others: a line or two with their times.
pub(super) const HEAD: usize = 256;

/// Bytes before a place that tell whether it is still the same content.
pub(super) const BEFORE: usize = 64;

/// Paths that are longer are kept without their beginning.
const LONGEST_PATH: usize = 700;

/// Some bytes, without keeping them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many.
    pub(super) bytes: usize,
    hash: u64,
}

impl Mark {
    pub(super) fn of(bytes: &[u8]) -> Self {
        // FNV-1a: it stands on the disk, and must not change with a version of the library.
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { bytes: bytes.len(), hash }
    }

    /// Of the last [`BEFORE`] of these.
    pub(super) fn before(bytes: &[u8]) -> Self {
        Self::of(bytes.get(bytes.len().saturating_sub(BEFORE)..).unwrap_or_default())
    }

    /// Whether these bytes begin as it says.
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        bytes.get(..self.bytes).is_some_and(|begin| Self::of(begin) == *self)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:x}", self.bytes, self.hash)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (bytes, hash) = text.split_once(':').ok_or(())?;
        let bytes = bytes.parse().ok().filter(|bytes| *bytes <= HEAD).ok_or(())?;
        Ok(Self { bytes, hash: u64::from_str_radix(hash, 16).map_err(drop)? })
    }
}

/// Device and inode.
pub(super) type Id = (u64, u64);

/// A file, and up to where it was read; as it stands in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) id: Id,
    /// Up to here.
    pub(super) at: u64,
    /// Its first bytes.
    pub(super) head: Mark,
    /// The bytes before `at`.
    pub(super) before: Mark,
    /// When that was, in ms since 1970.
    pub(super) time: i64,
    /// Its name then.
    pub(super) path: PathBuf,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id: (device, inode), at, head, before, time, path } = self;
        let path = path.to_string_lossy();
        let cut = path.len().saturating_sub(LONGEST_PATH);
        let from = (cut..path.len()).find(|at| path.is_char_boundary(*at)).unwrap_or(path.len());
        let path = path.get(from..).unwrap_or_default();
        write!(f, "{device} {inode} {at} {head} {before} {time} {path}")
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(7, ' ');
        let mut next = || parts.next().ok_or(());
        let number = |text: &str| text.parse().map_err(drop);
        Ok(Self {
            id: (number(next()?)?, number(next()?)?),
            at: number(next()?)?,
            head: next()?.parse()?,
            before: next()?.parse()?,
            time: next()?.parse().map_err(drop)?,
            path: next()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = Position {
            id: (66_306, 1234),
            at: 1 << 40,
            head: Mark::of(b"2026-01-01 first line\n"),
            before: Mark::before(&[b'x'; 100]),
            time: 1_767_225_600_000,
            path: "/var/log/a file with spaces.log".into(),
        };
        assert_eq!(position.to_string().parse(), Ok(position.clone()));
        assert_eq!(position.before.bytes, BEFORE);
        let long = Position { path: format!("/é{}", "é".repeat(2000)).into(), ..position };
        assert!(long.to_string().len() < 1024);
        for bad in ["", "1 2 3", "1 2 3 4:z 5:0 6 x", "1 2 3 9999:0 1:0 6 x"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn other_bytes_have_another_mark() {
        let mark = Mark::of(b"abc");
        assert!(mark.begins(b"abcd") && mark.begins(b"abc"));
        assert!(!mark.begins(b"ab") && !mark.begins(b"abd"));
        assert!(Mark::default().begins(b"") || Mark::of(b"").begins(b""));
    }
}
