//! The local header of a spooled message: what the tier knows of it before anybody reads its payload.
//!
//! The spool keeps header and payload apart, each record with its checksum; the payload is the message as it came. The
//! header, with numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of this layout, 1 |
//! | 8 | when the message came, milliseconds since 1970 |
//! | 1 | kind: its place in [`Kind::ALL`] |
//! | 1 + n | the topic's host: length, text |
//! | 1 | 1: numbered; 0: not |
//! | 1 + n, 8 | if numbered: the boot's length and text, the number |
//! | 16 | if not: random bytes that stand for an identity in the ids of its rows |
//! | 2 + n | the content type where it is another than ours: length, text; else length 0 |

use delivery::Identity;
use delivery::ledger::MOST_SEQ;
use wire::{BootId, HostName, Kind, Timestamp};

/// Of this layout.
const VERSION: u8 = 1;

/// How the runs begin that replayed dead letters get. It sorts before all ids of agents' runs, which begin with a digit:
/// to the ledger these are earlier runs, which no host's status names, and it forgets them as such.
pub(crate) const REPLAYED: &str = "-replay-";

/// What is known of a spooled message beside its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it came.
    pub received: Timestamp,
    /// The host that its topic names.
    pub host: HostName,
    /// The kind that its topic names.
    pub kind: Kind,
    /// What tells it from others.
    pub mark: Mark,
    /// Its content type, where that is not [`wire::CONTENT_TYPE`].
    pub content_type: Option<String>,
}

/// What tells a message from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The sender numbered it.
    Numbered(BootId, u64),
    /// The sender did not; drawn at random when it came.
    Drawn(u128),
}

/// Why a header can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Written by a later version of this program.
    #[error("its header has version {0}, and this program knows {VERSION}: a later version wrote it")]
    Version(u8),
    /// The checksum is right and the content is not.
    #[error("its header makes no sense")]
    Nonsense,
}

impl Frame {
    /// Host, boot, kind and number; `None` if the sender did not number it.
    pub fn identity(&self) -> Option<Identity> {
        match &self.mark {
            Mark::Numbered(boot, seq) => {
                Some(Identity { host: self.host.clone(), boot: boot.clone(), kind: self.kind, seq: *seq })
            }
            Mark::Drawn(_) => None,
        }
    }

    /// The beginning of the ids of its rows: the same each time that it is read.
    pub fn event(&self) -> String {
        match &self.mark {
            Mark::Numbered(boot, seq) => format!("{boot}-{seq}"),
            Mark::Drawn(random) => uuid::Uuid::from_u128(*random).to_string(),
        }
    }

    /// Appends the header to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.received.as_millis().to_le_bytes());
        out.push(Kind::ALL.iter().position(|kind| *kind == self.kind).unwrap_or_default() as u8);
        // Names have their bounds below 256 bytes.
        text(out, self.host.as_str());
        match &self.mark {
            Mark::Numbered(boot, seq) => {
                out.push(1);
                text(out, boot.as_str());
                out.extend_from_slice(&seq.to_le_bytes());
            }
            Mark::Drawn(random) => {
                out.push(0);
                out.extend_from_slice(&random.to_le_bytes());
            }
        }
        let content_type = self.content_type.as_deref().unwrap_or_default();
        let length = u16::try_from(content_type.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&content_type.as_bytes()[..usize::from(length)]);
    }

    /// Reads a header. What a later minor change may append is passed over.
    pub fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let received = Timestamp::from_millis(i64::from_le_bytes(take(&mut rest)?));
        let [kind] = take(&mut rest)?;
        let kind = *Kind::ALL.get(usize::from(kind)).ok_or(FrameError::Nonsense)?;
        let host = short(&mut rest)?.parse().map_err(|_| FrameError::Nonsense)?;
        let mark = match take(&mut rest)? {
            [1] => {
                let boot = short(&mut rest)?.parse().map_err(|_| FrameError::Nonsense)?;
                Mark::Numbered(boot, u64::from_le_bytes(take(&mut rest)?))
            }
            [0] => Mark::Drawn(u128::from_le_bytes(take(&mut rest)?)),
            _ => return Err(FrameError::Nonsense),
        };
        let length = u16::from_le_bytes(take(&mut rest)?);
        let content_type = String::from_utf8_lossy(slice(&mut rest, usize::from(length))?);
        let content_type = (!content_type.is_empty()).then(|| content_type.into_owned());
        Ok(Self { received, host, kind, mark, content_type })
    }
}

impl Mark {
    /// What the user properties of a message say, else what its payload does, else something drawn.
    pub fn of(properties: &[(String, String)], payload: &[u8]) -> Self {
        let property = |name: &str| properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let stated = property("boot").and_then(|boot| boot.parse().ok());
        let stated = stated.zip(property("seq").and_then(|seq| seq.parse().ok()));
        let stated = match stated {
            Some(stated) => Some(stated),
            None => wire::decode_head(payload).ok().and_then(|head| head.boot.zip(head.seq)),
        };
        match stated {
            Some((boot, seq)) if (1..=MOST_SEQ).contains(&seq) => Mark::Numbered(boot, seq),
            _ => Mark::Drawn(uuid::Uuid::new_v4().as_u128()),
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

fn slice<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], FrameError> {
    let (head, tail) = rest.split_at_checked(length).ok_or(FrameError::Nonsense)?;
    *rest = tail;
    Ok(head)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FrameError> {
    slice(rest, N)?.try_into().map_err(|_| FrameError::Nonsense)
}

fn short<'a>(rest: &mut &'a [u8]) -> Result<&'a str, FrameError> {
    let [length] = take(rest)?;
    std::str::from_utf8(slice(rest, usize::from(length))?).map_err(|_| FrameError::Nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(mark: Mark, content_type: Option<&str>) -> Frame {
        Frame {
            received: Timestamp::from_millis(1_795_300_000_123),
            host: "web-01".parse().unwrap(),
            kind: Kind::Logs,
            mark,
            content_type: content_type.map(str::to_owned),
        }
    }

    #[test]
    fn a_header_reads_back_and_its_beginnings_do_not() {
        let boot = "0193f1de-7c7a-7000-8000-000000000001".parse().unwrap();
        for frame in [
            frame(Mark::Numbered(boot, 7), None),
            frame(Mark::Drawn(u128::MAX - 3), Some("application/zstd")),
            frame(Mark::Drawn(0), None),
        ] {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            assert_eq!(Frame::read(&bytes), Ok(frame.clone()));
            for end in 0..bytes.len() {
                assert_eq!(Frame::read(&bytes[..end]), Err(FrameError::Nonsense), "{end} bytes of {frame:?}");
            }
            bytes.extend_from_slice(b"what a later version says beside it");
            assert_eq!(Frame::read(&bytes), Ok(frame));
            bytes[0] = 2;
            assert_eq!(Frame::read(&bytes), Err(FrameError::Version(2)));
        }
    }

    #[test]
    fn the_mark_comes_from_the_properties_or_else_from_the_payload() {
        let properties =
            |boot: &str, seq: &str| vec![("boot".to_owned(), boot.to_owned()), ("seq".to_owned(), seq.to_owned())];
        let payload = br#"{"v":1,"host":"a","boot":"b2","seq":9,"time":"2026-11-21T22:30:00Z","records":[]}"#;
        let numbered = |boot: &str, seq| Mark::Numbered(boot.parse().unwrap(), seq);
        assert_eq!(Mark::of(&properties("b1", "7"), b"not looked at"), numbered("b1", 7));
        assert_eq!(Mark::of(&[], payload), numbered("b2", 9));
        assert_eq!(Mark::of(&properties("b 1", "7"), payload), numbered("b2", 9));
        for (properties, payload) in [
            (vec![], &b"{"[..]),
            (properties("b1", "0"), b"{}"),
            (properties("b1", "9223372036854775807"), b"{}"),
            (vec![], br#"{"v":1,"host":"a","time":"2026-11-21T22:30:00Z"}"#),
        ] {
            assert!(matches!(Mark::of(&properties, payload), Mark::Drawn(_)), "{properties:?}");
        }
    }
}
