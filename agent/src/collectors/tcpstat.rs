//! TCP connections in each state, and the bytes in their queues: from a dump of the kernel's sockets by netlink, or, where
//! the host's procfs is not this process's own, from `/proc/net/tcp` and `/proc/net/tcp6`.
//!
//! The kernel walks its table of connections for either; the dump spares it the text, which is most of the work. With ten
//! thousands of connections both are dear, so the collector does not run by default.

use crate::collectors::links::is_denied;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, Netlink, TextError, fields, hex, lines};
use crate::snapshot::{Families, Labels};

/// The kernel's states, from 1 on.
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];
/// A connection that is being made has a state of its own inside the kernel.
const NEW_SYN_RECV: u64 = 12;
const SYN_RECV: u64 = 3;

/// What was counted of all sockets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    states: [u64; STATES.len()],
    receive: u64,
    send: u64,
}

impl Counts {
    fn add(&mut self, state: u64, receive: u64, send: u64) -> Result<(), TextError> {
        let state = if state == NEW_SYN_RECV { SYN_RECV } else { state };
        let slot = usize::try_from(state).ok().and_then(|state| self.states.get_mut(state.checked_sub(1)?));
        *slot.ok_or_else(|| TextError::new(format!("{state} is no state of a TCP connection")))? += 1;
        self.receive = self.receive.saturating_add(receive);
        self.send = self.send.saturating_add(send);
        Ok(())
    }
}

/// What the titles begin with.
const TITLES: &[u8] = b"sl";
/// The columns before the state: number and addresses.
const BEFORE: usize = 3;

/// `/proc/net/tcp` and `tcp6`
fn parse(text: &[u8], counts: &mut Counts) -> Result<(), TextError> {
    let mut lines = lines(text)?;
    let titles = lines.next().ok_or_else(|| TextError::new("the line of titles is missing"))?;
    if fields(titles).next() != Some(TITLES) {
        return Err(TextError::expected("a line of titles", titles));
    }
    for line in lines {
        let mut fields = fields(line);
        let state =
            fields.nth(BEFORE).and_then(hex).ok_or_else(|| TextError::expected("a connection's state", line))?;
        let queues = fields.text("the queues of a connection")?;
        let both = || {
            let colon = queues.iter().position(|byte| *byte == b':')?;
            Some((hex(&queues[..colon])?, hex(&queues[colon + 1..])?))
        };
        let (send, receive) = both().ok_or_else(|| TextError::expected("the bytes in both queues", queues))?;
        counts.add(state, receive, send)?;
    }
    Ok(())
}

/// `TCPDIAG_GETSOCK`, which is also the type of the answers. The newer `SOCK_DIAG_BY_FAMILY` asks for IPv4 and IPv6 apart,
/// and each question makes the kernel walk its whole table, of hundreds of thousands of mostly empty places.
const BOTH_FAMILIES: u16 = 18;
/// A bit for each of [`STATES`]. Sockets that are merely bound would cost the kernel another walk.
const ALL_STATES: u32 = 0xffe;
/// `struct inet_diag_req`: a family that is not looked at, lengths, addresses, the states from here on, and a number.
const REQUEST_BYTES: usize = 60;
const REQUEST_STATES: usize = 52;
/// `struct inet_diag_msg`: family, state, ten words of other things and what the timers say, then the two queues.
const ANSWER_STATE: usize = 1;
const ANSWER_QUEUES: usize = 56;

/// Asks for all TCP sockets, with nothing besides.
fn request() -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    request[REQUEST_STATES..REQUEST_STATES + 4].copy_from_slice(&ALL_STATES.to_ne_bytes());
    request
}

fn take(counts: &mut Counts, kind: u16, message: &[u8]) -> Result<(), TextError> {
    if kind != BOTH_FAMILIES {
        return Ok(());
    }
    let read = || {
        let state = *message.get(ANSWER_STATE)?;
        let [receive, send] = *message.get(ANSWER_QUEUES..)?.first_chunk::<8>()?.as_chunks::<4>().0 else {
            return None;
        };
        Some((state, u32::from_ne_bytes(receive), u32::from_ne_bytes(send)))
    };
    let (state, receive, send) =
        read().ok_or_else(|| TextError::expected("what the kernel says of a socket", message))?;
    counts.add(state.into(), receive.into(), send.into())
}

/// See the module.
pub(crate) struct TcpStat {
    /// `None` where files are to be read.
    socket: Option<Netlink>,
    /// It has answered before.
    answered: bool,
    files: [KeptFile; 2],
    labels: [Labels; STATES.len()],
    queues: [Labels; 2],
}

impl TcpStat {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self {
            socket: host.is_own().then(Netlink::sock_diag),
            answered: false,
            files: ["net/tcp", "net/tcp6"].map(|name| KeptFile::listing(host.proc(name))),
            labels: STATES.map(|state| Labels::new([("state", state)])),
            queues: ["rx_queued_bytes", "tx_queued_bytes"].map(|state| Labels::new([("state", state)])),
        }
    }

    /// `None` where the kernel can't be asked.
    fn ask(&mut self) -> Result<Option<Counts>, CollectError> {
        let Some(socket) = &mut self.socket else { return Ok(None) };
        let mut counts = Counts::default();
        let restart = |counts: &mut Counts| *counts = Counts::default();
        match socket.dump(BOTH_FAMILIES, &request(), &mut counts, restart, take) {
            Ok(()) => {
                self.answered = true;
                Ok(Some(counts))
            }
            // A kernel without the module, or a sandbox.
            Err(error) if !self.answered && (is_denied(&error) || error.kind() == std::io::ErrorKind::NotFound) => {
                self.socket = None;
                Ok(None)
            }
            Err(source) => Err(CollectError::System { what: "ask the kernel for its TCP connections", source }),
        }
    }

    /// `None` where there are no such files.
    fn read(&mut self) -> Result<Option<Counts>, CollectError> {
        let mut counts = None;
        for file in &mut self.files {
            match file.read(|text| parse(text, counts.get_or_insert_default())) {
                Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
                Err(error) if error.is_nothing_here() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(counts)
    }
}

impl Collector for TcpStat {
    fn name(&self) -> &'static str {
        "tcpstat"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let counts = match self.ask()? {
            None => self.read()?,
            counts => counts,
        };
        let Some(counts) = counts else { return Ok(Outcome::Nothing) };
        out.gauge("node_tcp_connection_states", "Number of connection states.");
        // As node_exporter has it, a state without connections is not shown.
        for (labels, count) in self.labels.iter().zip(counts.states).filter(|(_, count)| *count > 0) {
            out.push(labels, count as f64);
        }
        if counts.states.iter().any(|count| *count > 0) {
            for (labels, bytes) in self.queues.iter().zip([counts.receive, counts.send]) {
                out.push(labels, bytes as f64);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n";

    fn parsed(rest: &str) -> Result<Counts, TextError> {
        let mut counts = Counts::default();
        parse([TITLES, rest].concat().as_bytes(), &mut counts).map(|()| counts)
    }

    #[test]
    fn counts_states_and_bytes() {
        let counts = parsed(
            "   0: 00000000:07E8 00000000:0000 0A 00000000:00000002 00:00000000 00000000\n   1: 0100007F:8FA9 0100007F:C260 01 00000010:00000001 03:00000B5F 00000000\n",
        )
        .unwrap();
        assert_eq!((counts.states[9], counts.states[0], counts.receive, counts.send), (1, 1, 3, 16));
        assert_eq!(parsed("").unwrap(), Counts::default());
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        assert!(parse(b"", &mut Counts::default()).is_err());
        assert!(parse(b"x\n", &mut Counts::default()).is_err());
        for bad in [
            "\n",
            "0: a b\n",
            "0: a b 00 0:0\n",
            "0: a b 0D 0:0\n",
            "0: a b 01 0\n",
            "0: a b 01 x:0\n",
            "0: a b 01 0:0",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_kernels_answers_are_counted() {
        let mut message = vec![0; 72];
        message[1] = 12;
        message[56..64].copy_from_slice(&[7u32.to_ne_bytes(), 9u32.to_ne_bytes()].concat());
        let mut counts = Counts::default();
        take(&mut counts, BOTH_FAMILIES, &message).unwrap();
        take(&mut counts, 99, b"").unwrap();
        assert_eq!((counts.states[2], counts.receive, counts.send), (1, 7, 9));
        for bad in [&message[..63], &message[..1], b""] {
            assert!(take(&mut counts, BOTH_FAMILIES, bad).is_err());
        }
        message[1] = 0;
        assert!(take(&mut counts, BOTH_FAMILIES, &message).is_err());
    }

    #[test]
    fn a_listener_of_this_machine_is_found() {
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut collector = TcpStat::new(&HostRoot::default());
        for _ in 0..2 {
            let mut out = Families::default();
            collector.collect(&mut out).unwrap();
            let states = out.samples("node_tcp_connection_states");
            let listening = states.iter().find(|sample| sample.labels.get("state") == Some("listen"));
            assert!(listening.is_some_and(|sample| sample.value >= 1.0));
        }
    }
}
