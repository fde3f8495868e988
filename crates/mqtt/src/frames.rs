//! An ear on the packets that pass through a stream, in both directions.
//!
//! It judges nothing: in a stream that is no MQTT it may end up anywhere, and the library ends that connection.

/// The first byte of a DISCONNECT.
const DISCONNECT: u8 = 0xE0;
/// The first byte of a CONNACK.
const CONNACK: u8 = 0x20;
/// The first byte of a PUBACK.
const PUBACK: u8 = 0x40;

/// Bytes kept of a CONNACK or DISCONNECT; more than a reason and an address need.
const MOST_KEPT: usize = 1024;
/// Codes of PUBACKs kept at once. They are taken as the library passes the PUBACKs on, so that there are few.
const MOST_CODES: usize = 256;
/// Characters that are shown of what a broker says.
const MOST_SHOWN: usize = 300;

/// Follows the packets in a stream of bytes.
#[derive(Debug, Default)]
enum Place {
    /// The next byte is the first of a packet.
    #[default]
    Start,
    /// In the remaining length, of which `shift` bits were read.
    Length { first: u8, length: usize, shift: u32 },
    /// `at` bytes of the packet's body were read, `left` are to come.
    Body { first: u8, at: usize, left: usize },
    /// There is nothing to follow any more.
    Over,
}

impl Place {
    /// Takes some bytes, at least one, and says which packet's body they are part of, and where they begin in it; the
    /// rest stays in `bytes`.
    fn take<'a>(&mut self, bytes: &mut &'a mut [u8]) -> Option<(u8, usize, &'a mut [u8])> {
        match *self {
            Self::Start => {
                let first = split(bytes, 1).first().copied()?;
                *self = Self::Length { first, length: 0, shift: 0 };
                None
            }
            Self::Length { first, length, shift } => {
                let byte = split(bytes, 1).first().copied()?;
                let length = length | usize::from(byte & 0x7F) << shift;
                *self = match (byte & 0x80 != 0, length) {
                    // A fourth continuation is malformed; there is no use in following further.
                    (true, _) if shift >= 21 => Self::Over,
                    (true, _) => Self::Length { first, length, shift: shift + 7 },
                    (false, 0) => Self::Start,
                    (false, left) => Self::Body { first, at: 0, left },
                };
                None
            }
            Self::Body { first, at, left } => {
                let taken = left.min(bytes.len());
                *self = match left - taken {
                    0 => Self::Start,
                    left => Self::Body { first, at: at + taken, left },
                };
                Some((first, at, split(bytes, taken)))
            }
            Self::Over => {
                *bytes = &mut [];
                None
            }
        }
    }
}

/// Takes the first `count` bytes, or what there is.
fn split<'a>(bytes: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    let all = std::mem::take(bytes);
    let (taken, rest) = all.split_at_mut(count.min(all.len()));
    *bytes = rest;
    taken
}

/// What the broker says that the library does not pass on.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    place: Place,
    /// The CONNACK's body, then the DISCONNECT's, as far as it came.
    word: Option<(u8, Vec<u8>)>,
    /// Packet identifiers and codes of PUBACKs whose code the library does not know.
    codes: Vec<(u16, u8)>,
    packet: u16,
}

impl Incoming {
    /// Takes the next bytes, before the library sees them. A PUBACK's reason code that the specification does not have
    /// there, such as mosquitto's 0x95 (packet too large), is replaced by 0x83, or the library would end the connection
    /// over it, and the publish be sent for ever; [`Incoming::code`] has the true one.
    pub(crate) fn listen(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            match self.place.take(&mut bytes) {
                Some((PUBACK, at, body)) => self.puback(at, body),
                Some((first @ (CONNACK | DISCONNECT), at, body)) => {
                    if at == 0 {
                        self.word = Some((first, Vec::new()));
                    }
                    if let Some((_, kept)) = &mut self.word {
                        kept.extend(body.iter().take(MOST_KEPT.saturating_sub(kept.len())));
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    fn puback(&mut self, at: usize, body: &mut [u8]) {
        for (index, byte) in body.iter_mut().enumerate().take(3) {
            match at + index {
                0 => self.packet = u16::from(*byte) << 8,
                1 => self.packet |= u16::from(*byte),
                2 if !matches!(*byte, ..0x80 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99) => {
                    if self.codes.len() < MOST_CODES {
                        self.codes.push((self.packet, *byte));
                    }
                    *byte = 0x83;
                }
                _ => {}
            }
        }
    }

    /// The code of this PUBACK, if it was replaced.
    pub(crate) fn code(&mut self, packet: u16) -> Option<u8> {
        let index = self.codes.iter().position(|(known, _)| *known == packet)?;
        Some(self.codes.swap_remove(index).1)
    }

    /// What the broker said last about the connection: the DISCONNECT, else the CONNACK.
    pub(crate) fn last_word(&self) -> Option<LastWord> {
        let (first, body) = self.word.as_ref()?;
        // A CONNACK has its flags before the code.
        let mut rest = body.get(usize::from(*first == CONNACK)..)?;
        let code = byte(&mut rest)?;
        let mut word = LastWord { code, reason: None, server: None };
        properties(rest, &mut word);
        Some(word)
    }
}

/// Why a broker refused or ended a connection, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastWord {
    /// The reason code; below 0x80 there was no fault.
    pub(crate) code: u8,
    /// The reason string.
    pub(crate) reason: Option<String>,
    /// The server reference: another broker to use.
    pub(crate) server: Option<String>,
}

/// Reads the two texts out of a list of properties, as far as it came and is well formed.
fn properties(mut rest: &[u8], word: &mut LastWord) -> Option<()> {
    while byte(&mut rest)? & 0x80 != 0 {}
    loop {
        match byte(&mut rest)? {
            0x1F => word.reason = Some(shown(text(&mut rest)?)),
            0x1C => word.server = Some(shown(text(&mut rest)?)),
            0x26 => {
                text(&mut rest)?;
                text(&mut rest)?;
            }
            0x12 | 0x15 | 0x16 | 0x1A => {
                text(&mut rest)?;
            }
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => rest = rest.get(1..)?,
            0x13 | 0x21 | 0x22 => rest = rest.get(2..)?,
            0x11 | 0x27 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(byte(rest)?) << 8 | usize::from(byte(rest)?);
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(MOST_SHOWN).collect()
}

/// What we say that the broker has to answer.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(Place);

impl Outgoing {
    /// Takes the bytes that were written; says whether a packet began among them to which an answer belongs:
    /// CONNECT, PUBLISH (all of ours are at QoS 1), SUBSCRIBE, UNSUBSCRIBE, PINGREQ.
    pub(crate) fn asks(&mut self, bytes: &[u8]) -> bool {
        let mut asks = false;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.0 {
                Place::Start => asks |= matches!(byte >> 4, 1 | 3 | 8 | 10 | 12),
                Place::Body { left, .. } if left > 1 => {
                    // Whole bodies at once: they are what there is most of.
                    let skipped = (left - 1).min(bytes.len() - at);
                    self.0 = Place::Body { first: 0, at: 0, left: left - skipped };
                    at += skipped;
                    continue;
                }
                _ => {}
            }
            self.0.take(&mut &mut [byte][..]);
            at += 1;
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONNACK, a PUBLISH of 200 bytes that is full of what looks like a DISCONNECT, PINGRESP.
    fn before() -> Vec<u8> {
        let mut bytes = vec![0x20, 0x03, 0x00, 0x00, 0x00, 0x32, 0xC8, 0x01];
        bytes.extend([0xE0, 0x01].repeat(100));
        bytes.extend([0xD0, 0x00]);
        bytes
    }

    fn heard(bytes: &[u8], size: usize) -> (Incoming, Vec<u8>) {
        let (mut incoming, mut bytes) = (Incoming::default(), bytes.to_vec());
        bytes.chunks_mut(size).for_each(|chunk| incoming.listen(chunk));
        (incoming, bytes)
    }

    #[test]
    fn a_disconnect_is_found_in_each_of_its_forms_and_however_the_bytes_come() {
        for last in [&[0xE0, 0x01, 0x8E][..], &[0xE0, 0x02, 0x8E, 0x00], &[0xE0, 0x05, 0x8E, 0x03, 0x1F, 0x00, 0x00]] {
            let bytes = [&before()[..], last].concat();
            for size in [1, 2, 3, 7, bytes.len()] {
                let (incoming, passed) = heard(&bytes, size);
                assert_eq!(incoming.last_word().unwrap().code, 0x8E, "in pieces of {size}");
                assert_eq!(passed, bytes);
            }
        }
    }

    #[test]
    fn nothing_is_found_where_there_is_none() {
        for bytes in [vec![0xFF; 100], vec![0xE0, 0x00], vec![0xE0], vec![0x20, 0x01, 0x00], vec![]] {
            assert_eq!(heard(&bytes, 3).0.last_word(), None, "{bytes:02X?}");
        }
        assert_eq!(heard(&before(), 3).0.last_word().unwrap().code, 0);
    }

    #[test]
    fn the_brokers_words_and_the_other_server_are_read_between_other_properties() {
        let mut connack = vec![0x00, 0x9D, 29];
        connack.extend([0x13, 0, 5, 0x26, 0, 1, b'k', 0, 1, b'v', 0x1C, 0, 5]);
        connack.extend(b"other");
        connack.extend([0x21, 0, 1, 0x1F, 0, 5]);
        connack.extend(b"moved");
        let bytes = [&[0x20, connack.len() as u8][..], &connack].concat();
        let expected = LastWord { code: 0x9D, reason: Some("moved".into()), server: Some("other".into()) };
        for size in [1, 4, bytes.len()] {
            assert_eq!(heard(&bytes, size).0.last_word().unwrap(), expected);
        }
        // Cut off anywhere, what came is understood as far as it goes.
        for length in 4..bytes.len() {
            assert_eq!(heard(&bytes[..length], 1).0.last_word().unwrap().code, 0x9D);
        }
    }

    #[test]
    fn what_is_kept_of_a_word_without_end_is_bounded() {
        let mut bytes = vec![0xE0, 0xFF, 0xFF, 0xFF, 0x7F, 0x80];
        bytes.resize(1 << 20, 0x26);
        assert!(heard(&bytes, 4096).0.word.unwrap().1.len() <= MOST_KEPT);
        let mut pubacks = Vec::new();
        (0..10_000_u16).for_each(|packet| pubacks.extend([&[0x40, 3][..], &packet.to_be_bytes(), &[0xFF]].concat()));
        assert!(heard(&pubacks, 4096).0.codes.len() <= MOST_CODES);
    }

    #[test]
    fn a_pubacks_code_that_the_library_does_not_know_is_kept_for_it() {
        let bytes = [0x40, 0x03, 0x01, 0x02, 0x95, 0x40, 0x02, 0x00, 0x05, 0x40, 0x04, 0x00, 0x06, 0x87, 0x00];
        for size in [1, 2, 3, bytes.len()] {
            let (mut incoming, passed) = heard(&bytes, size);
            assert_eq!(passed[..5], [0x40, 0x03, 0x01, 0x02, 0x83]);
            assert_eq!(passed[5..], bytes[5..]);
            assert_eq!([incoming.code(6), incoming.code(0x0102), incoming.code(0x0102)], [None, Some(0x95), None]);
        }
    }

    #[test]
    fn only_what_has_an_answer_asks() {
        let publish = [&[0x32, 0x82, 0x01][..], &[0xC0; 130]].concat();
        let acks = [0x40, 0x02, 0x00, 0x01, 0x40, 0x04, 0xC0, 0xC0, 0xC0, 0xC0, 0xE0, 0x00];
        for size in [1, 2, 5, 200] {
            let asked = |bytes: &[u8]| {
                let mut outgoing = Outgoing::default();
                bytes.chunks(size).map(|chunk| outgoing.asks(chunk)).filter(|asks| *asks).count()
            };
            assert_eq!(asked(&publish), 1);
            assert_eq!(asked(&acks), 0);
            assert_eq!(asked(&[&acks[..], &[0xC0, 0x00]].concat()), 1);
        }
    }
}
