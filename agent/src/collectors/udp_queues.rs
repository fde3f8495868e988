//! Bytes that wait in the queues of all UDP sockets, from `/proc/net/udp` and `/proc/net/udp6`.
//!
//! The kernel walks its whole table of sockets for each of the two files, whatever is in it: by far the dearest of the
//! small files. So a version of IP of which `/proc/net/sockstat` says that it has no UDP socket is not asked.

use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, hex, lines};
use crate::snapshot::{Families, Labels};

/// What the titles begin with.
const TITLES: &[u8] = b"sl";
/// Columns before that of the two queues: number, addresses, state.
const BEFORE: usize = 4;

/// Bytes that wait to be sent and to be read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Queues {
    send: u64,
    receive: u64,
}

fn parse(text: &[u8]) -> Result<Queues, TextError> {
    let mut lines = lines(text)?;
    let titles = lines.next().ok_or_else(|| TextError::new("the line of titles is missing"))?;
    if fields(titles).next() != Some(TITLES) {
        return Err(TextError::expected("a line of titles", titles));
    }
    let mut sum = Queues::default();
    for line in lines {
        let queues = fields(line).nth(BEFORE).ok_or_else(|| TextError::expected("the queues of a socket", line))?;
        let both = || {
            let colon = queues.iter().position(|byte| *byte == b':')?;
            Some((hex(&queues[..colon])?, hex(&queues[colon + 1..])?))
        };
        let (send, receive) = both().ok_or_else(|| TextError::expected("the bytes in both queues", queues))?;
        sum.send = sum.send.saturating_add(send);
        sum.receive = sum.receive.saturating_add(receive);
    }
    Ok(sum)
}

/// How many UDP sockets a line that begins with `key` counts.
fn sockets(text: &[u8], key: &[u8]) -> Option<u64> {
    let line = text.split(|byte| *byte == b'\n').find(|line| line.starts_with(key))?;
    let mut fields = fields(&line[key.len()..]);
    fields.find(|field| field == b"inuse")?;
    fields.number_if_any("a count of sockets").ok().flatten()
}

/// What there is of a version of IP.
struct Version {
    file: KeptFile,
    /// Counts its sockets, in a file that costs a tenth.
    counts: KeptFile,
    key: &'static [u8],
    send: Labels,
    receive: Labels,
}

impl Version {
    fn new(host: &HostRoot, suffix: &str, key: &'static [u8], ip: &str) -> Self {
        Self {
            file: KeptFile::listing(host.proc(format!("net/udp{suffix}"))),
            counts: KeptFile::record(host.proc(format!("net/sockstat{suffix}"))),
            key,
            send: Labels::new([("ip", ip), ("queue", "tx")]),
            receive: Labels::new([("ip", ip), ("queue", "rx")]),
        }
    }

    /// `None` where there is no such version of IP.
    fn read(&mut self) -> Result<Option<Queues>, CollectError> {
        let Self { file, counts, key, .. } = self;
        if matches!(counts.read(|text| sockets(text, key)), Ok(Some(0))) {
            return Ok(Some(Queues::default()));
        }
        match file.read(parse) {
            Ok(parsed) => Ok(Some(parsed.map_err(CollectError::malformed(file.path()))?)),
            Err(error) if error.is_nothing_here() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// See the module.
pub(crate) struct UdpQueues {
    versions: [Version; 2],
}

impl UdpQueues {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { versions: [Version::new(host, "", b"UDP:", "v4"), Version::new(host, "6", b"UDP6:", "v6")] }
    }
}

impl Collector for UdpQueues {
    fn name(&self) -> &'static str {
        "udp_queues"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let mut outcome = Outcome::Nothing;
        out.gauge("node_udp_queues", "Number of allocated memory in the kernel for UDP datagrams in bytes.");
        for version in &mut self.versions {
            let Some(queues) = version.read()? else { continue };
            out.push(&version.send, queues.send as f64);
            out.push(&version.receive, queues.receive as f64);
            outcome = Outcome::Data;
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n";
    const SOCKET: &str = "  118: 0100007F:0035 00000000:0000 07 00000010:0000A000 00:00000000 00000000\n";

    #[test]
    fn sums_over_all_sockets() {
        assert_eq!(parse(TITLES.as_bytes()).unwrap(), Queues::default());
        let text = [TITLES, SOCKET, SOCKET].concat();
        assert_eq!(parse(text.as_bytes()).unwrap(), Queues { send: 32, receive: 81_920 });
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in ["", "\n", "x\n", SOCKET] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in
            ["1: a b 07\n", "1: a b 07 12\n", "1: a b 07 x:0\n", "1: a b 07 0:10000000000000000\n", "1: a b 07 0:0"]
        {
            assert!(parse([TITLES, bad].concat().as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn sockets_are_counted_elsewhere() {
        let text = b"sockets: used 22\nTCP: inuse 4\nUDP: inuse 2 mem 0\nUDPLITE: inuse 0\n";
        assert_eq!(sockets(text, b"UDP:"), Some(2));
        assert_eq!(sockets(text, b"UDP6:"), None);
        assert_eq!(sockets(b"UDP: inuse x\n", b"UDP:"), None);
        assert_eq!(sockets(b"UDP: mem 0\n", b"UDP:"), None);
    }

    #[test]
    fn a_table_without_sockets_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { proc: dir.path().into(), ..HostRoot::default() };
        std::fs::create_dir(dir.path().join("net")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join("net").join(name), text).unwrap();
        write("udp", "garbage");
        write("sockstat", "UDP: inuse 0 mem 0\n");
        let mut collector = UdpQueues::new(&host);
        let mut out = Families::default();
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        assert_eq!(out.samples("node_udp_queues").len(), 2, "there is no IPv6");
        write("sockstat", "UDP: inuse 1 mem 0\n");
        assert!(collector.collect(&mut Families::default()).is_err());
    }
}
