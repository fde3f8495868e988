//! Questions to the kernel by netlink: one dump answers for all interfaces what sysfs has in dozens of files each.
//!
//! A dump is a request and then datagrams of messages until one says that it is done. What comes back is parsed by pure
//! functions over bytes, which trust no length in them. The answer is that of the network namespace of this process, so
//! it stands for the host only where [`HostRoot::is_own`](super::HostRoot::is_own).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

use super::TextError;
use super::file::with_buffer;

/// The kernel fills a datagram of a dump up to the size of the reader's buffer, and no further than this.
const DATAGRAM_BYTES: usize = 32 << 10;
/// No message is larger in earnest.
const MAX_DATAGRAM_BYTES: usize = 4 << 20;
/// The kernel answers at once, or the answer was lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// A dump during which the list changed is asked for again so many times; then it counts as it is.
const TRIES: usize = 3;

/// Length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_DUMP: u16 = 0x300;
/// The list changed while it was dumped.
const FLAG_INTERRUPTED: u16 = 0x10;
const MESSAGE_NOOP: u16 = 1;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// Above the number of an attribute's type, which stands in the low bits.
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// Which part of the kernel is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Route,
    SockDiag,
}

/// A socket that stays open between dumps.
#[derive(Debug)]
pub struct Netlink {
    protocol: Protocol,
    socket: Option<OwnedFd>,
    sequence: u32,
    room: usize,
}

impl Netlink {
    /// Interfaces, addresses and neighbours.
    pub fn route() -> Self {
        Self::new(Protocol::Route)
    }

    /// Sockets.
    pub fn sock_diag() -> Self {
        Self::new(Protocol::SockDiag)
    }

    fn new(protocol: Protocol) -> Self {
        Self { protocol, socket: None, sequence: 0, room: DATAGRAM_BYTES }
    }

    /// Sends a request of this type and hands each message of the answer to `each` with its type and what follows its
    /// header; `restart` is called before the first, and again where the answer has to be asked for anew.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        request: &[u8],
        into: &mut T,
        restart: impl Fn(&mut T),
        each: impl Fn(&mut T, u16, &[u8]) -> Result<(), TextError>,
    ) -> io::Result<()> {
        for attempt in 1.. {
            restart(into);
            match self.try_dump(kind, request, |kind, payload| each(into, kind, payload)) {
                Ok(Answer::Whole) => return Ok(()),
                Ok(Answer::Changed) if attempt >= TRIES => return Ok(()),
                Ok(Answer::Changed) => {}
                // The rest of the answer is still to come, and must not be taken for that of the next request.
                Err(error) => {
                    self.socket = None;
                    let larger = error.kind() == io::ErrorKind::FileTooLarge && self.room <= MAX_DATAGRAM_BYTES;
                    if !larger || attempt >= TRIES {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn try_dump(
        &mut self,
        kind: u16,
        request: &[u8],
        mut each: impl FnMut(u16, &[u8]) -> Result<(), TextError>,
    ) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let Self { protocol, socket, sequence, room } = self;
        let socket = match socket {
            Some(socket) => socket,
            none => none.insert(socket::open(*protocol)?),
        };
        with_buffer(*room, |buffer| {
            let length = HEADER_BYTES + request.len();
            let header = [
                &u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes()[..],
                &kind.to_ne_bytes(),
                &(FLAG_REQUEST | FLAG_DUMP).to_ne_bytes(),
                &sequence.to_ne_bytes(),
                &[0; 4],
                request,
            ];
            let mut at = 0;
            for part in header {
                let Some(slot) = buffer.get_mut(at..at + part.len()) else { return Err(Errno::MSGSIZE.into()) };
                slot.copy_from_slice(part);
                at += part.len();
            }
            retry(|| socket::send(socket, &buffer[..length]))?;
            let mut answer = Answer::Whole;
            loop {
                let length = retry(|| socket::receive(socket, buffer))?;
                let Some(datagram) = buffer.get(..length) else {
                    *room = length.next_power_of_two();
                    return Err(io::ErrorKind::FileTooLarge.into());
                };
                let part = parse(datagram, *sequence, &mut each)?;
                if part.changed {
                    answer = Answer::Changed;
                }
                if part.done {
                    return Ok(answer);
                }
            }
        })
    }
}

/// How a dump ended.
enum Answer {
    Whole,
    /// The list changed while it was dumped: an entry may be missing or there twice.
    Changed,
}

#[cfg(target_os = "linux")]
mod socket {
    use std::os::fd::OwnedFd;

    use rustix::io::Errno;
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

    use super::{PATIENCE, Protocol};

    pub(super) fn open(protocol: Protocol) -> Result<OwnedFd, Errno> {
        let protocol = match protocol {
            Protocol::Route => None,
            Protocol::SockDiag => Some(netlink::SOCK_DIAG),
        };
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(socket)
    }

    /// To the kernel, which is where what has no address goes.
    pub(super) fn send(socket: &OwnedFd, request: &[u8]) -> Result<(), Errno> {
        rustix::net::send(socket, request, SendFlags::empty()).map(|_| ())
    }

    /// The length of a datagram, of which the buffer has what fits into it.
    pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::net::recv(socket, buffer, RecvFlags::TRUNC).map(|(_, length)| length)
    }
}

/// Netlink is Linux' own.
#[cfg(not(target_os = "linux"))]
mod socket {
    use std::os::fd::OwnedFd;

    use rustix::io::Errno;

    use super::Protocol;

    pub(super) fn open(protocol: Protocol) -> Result<OwnedFd, Errno> {
        let _ = (protocol, super::PATIENCE);
        Err(Errno::AFNOSUPPORT)
    }

    pub(super) fn send(_: &OwnedFd, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::AFNOSUPPORT)
    }

    pub(super) fn receive(_: &OwnedFd, _: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::AFNOSUPPORT)
    }
}

fn retry<R>(mut call: impl FnMut() -> Result<R, Errno>) -> Result<R, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// What a datagram said about the dump as a whole.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    done: bool,
    changed: bool,
}

/// Hands the messages of one datagram to `each`, those that answer the request of this sequence number.
fn parse(
    mut datagram: &[u8],
    sequence: u32,
    mut each: impl FnMut(u16, &[u8]) -> Result<(), TextError>,
) -> io::Result<Part> {
    let mut part = Part::default();
    if datagram.is_empty() {
        return Err(malformed(TextError::new("a message is empty")));
    }
    while !datagram.is_empty() && !part.done {
        let (length, kind, flags, of) = header(datagram).ok_or_else(|| malformed(cut("a message", datagram)))?;
        let message = datagram.get(HEADER_BYTES..length).ok_or_else(|| malformed(cut("a message", datagram)))?;
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        if of != sequence {
            continue;
        }
        part.changed |= flags & FLAG_INTERRUPTED != 0;
        match kind {
            MESSAGE_NOOP => {}
            MESSAGE_ERROR | MESSAGE_DONE => {
                // Both end the answer, and both carry an error number, which is 0 or negative.
                let error = bytes::<4>(message, 0).map_or(0, i32::from_ne_bytes);
                if error < 0 {
                    return Err(io::Error::from_raw_os_error(error.saturating_neg()));
                }
                part.done = true;
            }
            kind => each(kind, message).map_err(malformed)?,
        }
    }
    Ok(part)
}

fn header(datagram: &[u8]) -> Option<(usize, u16, u16, u32)> {
    let length = u32::from_ne_bytes(bytes(datagram, 0)?) as usize;
    let kind = u16::from_ne_bytes(bytes(datagram, 4)?);
    let flags = u16::from_ne_bytes(bytes(datagram, 6)?);
    let sequence = u32::from_ne_bytes(bytes(datagram, 8)?);
    (length >= HEADER_BYTES).then_some((length, kind, flags, sequence))
}

/// Messages and attributes begin at multiples of four.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

fn cut(what: &str, bytes: &[u8]) -> TextError {
    TextError::expected(&format!("{what} of the length that it says"), bytes)
}

fn malformed(error: TextError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The attributes in this part of a message: type, without flags, and value. After one whose length is wrong there are no
/// more.
pub fn attributes(message: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), TextError>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut rest);
        let attribute = || {
            let length = usize::from(u16::from_ne_bytes(bytes(all, 0)?));
            let kind = u16::from_ne_bytes(bytes(all, 2)?) & !ATTRIBUTE_FLAGS;
            Some((kind, all.get(4..length)?, all.get(aligned(length)..).unwrap_or_default()))
        };
        let Some((kind, value, behind)) = attribute() else { return Some(Err(cut("an attribute", all))) };
        rest = behind;
        Some(Ok((kind, value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = (HEADER_BYTES + payload.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(payload);
        message.resize(aligned(message.len()), 0);
        message
    }

    fn parsed(datagram: &[u8]) -> (io::Result<Part>, Vec<(u16, Vec<u8>)>) {
        let mut found = Vec::new();
        let result = parse(datagram, 7, |kind, payload| {
            found.push((kind, payload.to_vec()));
            Ok(())
        });
        (result, found)
    }

    #[test]
    fn hands_out_the_messages_of_its_own_request() {
        let datagram = [
            message(16, 0, 7, b"one"),
            message(16, 0, 6, b"of an earlier request"),
            message(MESSAGE_NOOP, 0, 7, b""),
            message(16, FLAG_INTERRUPTED, 7, b"four"),
        ];
        let (part, found) = parsed(&datagram.concat());
        assert_eq!(part.unwrap(), Part { done: false, changed: true });
        assert_eq!(found, [(16, b"one".to_vec()), (16, b"four".to_vec())]);
        let (part, found) = parsed(&[message(MESSAGE_DONE, 0, 7, &[0; 4]), message(16, 0, 7, b"late")].concat());
        assert_eq!(part.unwrap(), Part { done: true, changed: false });
        assert_eq!(found, []);
    }

    #[test]
    fn the_kernels_errors_come_back() {
        for kind in [MESSAGE_ERROR, MESSAGE_DONE] {
            let error = parsed(&message(kind, 0, 7, &(-2i32).to_ne_bytes())).0.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(2));
            assert!(parsed(&message(kind, 0, 7, &i32::MIN.to_ne_bytes())).0.is_err());
        }
    }

    #[test]
    fn wrong_lengths_are_errors_and_end() {
        let whole = message(16, 0, 7, b"payload");
        for end in 0..whole.len() - 1 {
            assert!(parsed(&whole[..end]).0.is_err(), "{end}");
        }
        for length in [0u32, 1, 15, 1000, u32::MAX] {
            let mut bad = whole.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(parsed(&bad).0.is_err(), "{length}");
        }
        assert!(parsed(&[0; 64]).0.is_err());
        assert!(parsed(&[0xff; 64]).0.is_err());
    }

    #[test]
    fn any_bytes_come_to_an_end() {
        let whole =
            [message(16, 0, 7, b"one"), message(16, 0, 7, b"two"), message(MESSAGE_DONE, 0, 7, &[0; 4])].concat();
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
            let _ = parsed(&bytes);
            assert!(attributes(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }

    #[test]
    fn attributes_stand_at_multiples_of_four() {
        let bytes = [&[5, 0, 3, 0, b'x', 0, 0, 0][..], &[4, 0, 4, 0x80], &[6, 0, 5, 0, 1, 2]].concat();
        if cfg!(target_endian = "little") {
            let found: Vec<_> = attributes(&bytes).map(Result::unwrap).collect();
            assert_eq!(found, [(3, &b"x"[..]), (4, b""), (5, &[1, 2])]);
        }
        for bad in [&[0u8; 4][..], &[0; 8], &[3, 0, 3, 0], &[0xff; 40], &[4], &[4, 0, 1]] {
            let found: Vec<_> = attributes(bad).take(10).collect();
            assert!(matches!(found[..], [Err(_)]), "{bad:?}");
        }
    }

    #[test]
    fn this_machine_answers() {
        const GET_LINK: u16 = 18;
        let mut socket = Netlink::route();
        for _ in 0..3 {
            let mut count = 0;
            let each = |count: &mut u32, kind: u16, _: &[u8]| {
                assert_eq!(kind, 16);
                *count += 1;
                Ok(())
            };
            match socket.dump(GET_LINK, &[0; 16], &mut count, |count| *count = 0, each) {
                Ok(()) => assert!(count >= 1, "every network namespace has lo"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
            }
        }
    }
}
