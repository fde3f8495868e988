//! Connections that the kernel balances over servers (IPVS), from `/proc/net/ip_vs_stats` and `/proc/net/ip_vs`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::collectors::rare::RareFile;
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{HostRoot, KeptFile, TextError, fields, hex, lines, number};
use crate::snapshot::{Families, Labels};

/// The columns of the sums: family and help.
const SUMS: [(&str, &str); 5] = [
    ("node_ipvs_connections_total", "The total number of connections made."),
    ("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
    ("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
    ("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
    ("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
];

/// What each server has, in the order of the file.
const OF_BACKEND: [(&str, &str); 3] = [
    ("node_ipvs_backend_weight", "The current backend weight by local and remote address."),
    ("node_ipvs_backend_connections_active", "The current active connections by local and remote address."),
    ("node_ipvs_backend_connections_inactive", "The current inactive connections by local and remote address."),
];

/// `[collectors.ipvs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// By which labels servers are told apart. Those that are alike in these are summed up.
    pub backend_labels: Vec<BackendLabel>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { backend_labels: LABELS.map(|(label, _)| label).into() }
    }
}

/// A label of `node_ipvs_backend_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendLabel {
    /// The service's address; empty for one that is told by a firewall's mark.
    LocalAddress,
    /// The service's port; 0 for one that is told by a firewall's mark.
    LocalPort,
    /// The server's address.
    RemoteAddress,
    /// The server's port.
    RemotePort,
    /// `TCP`, `UDP`, `SCTP`, or `FWM` for a service that is told by a firewall's mark.
    Proto,
    /// The firewall's mark, as the kernel writes it.
    LocalMark,
}

/// In the order of labels.
const LABELS: [(BackendLabel, &str); 6] = [
    (BackendLabel::LocalAddress, "local_address"),
    (BackendLabel::LocalMark, "local_mark"),
    (BackendLabel::LocalPort, "local_port"),
    (BackendLabel::Proto, "proto"),
    (BackendLabel::RemoteAddress, "remote_address"),
    (BackendLabel::RemotePort, "remote_port"),
];

/// A line of titles, another, and one of hexadecimal sums; what follows are rates.
fn parse_sums(text: &[u8]) -> Result<[u64; SUMS.len()], TextError> {
    let line = lines(text)?.nth(2).ok_or_else(|| TextError::expected("three lines", text))?;
    let mut fields = fields(line);
    let mut sums = [0; SUMS.len()];
    for sum in &mut sums {
        let field = fields.text("a hexadecimal sum")?;
        *sum = hex(field).ok_or_else(|| TextError::expected("a hexadecimal sum", field))?;
    }
    Ok(sums)
}

/// An address and a port as the kernel writes them: `0A0B0001:1538`, or the address in brackets.
#[derive(Debug, Clone, Copy, Default)]
struct Endpoint<'a> {
    address: &'a [u8],
    port: &'a [u8],
}

impl<'a> Endpoint<'a> {
    fn of(text: &'a [u8]) -> Result<Self, TextError> {
        let colon = text.iter().rposition(|byte| *byte == b':');
        let parts = colon.and_then(|colon| Some((text.get(..colon)?, text.get(colon + 1..)?)));
        let (address, port) = parts.ok_or_else(|| TextError::expected("an address and a port", text))?;
        Ok(Self { address, port })
    }

    fn address(&self) -> Result<String, TextError> {
        let bracketed = self.address.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]"));
        let address = match bracketed {
            Some(text) => {
                std::str::from_utf8(text).ok().and_then(|text| text.parse::<Ipv6Addr>().ok()).map(|address| {
                    // node_exporter writes it so, too.
                    address.to_canonical().to_string()
                })
            }
            None if self.address.is_empty() => Some(String::new()),
            None => hex(self.address)
                .filter(|_| self.address.len() == 8)
                .and_then(|bits| u32::try_from(bits).ok())
                .map(|bits| Ipv4Addr::from_bits(bits).to_string()),
        };
        address.ok_or_else(|| TextError::expected("an address", self.address))
    }

    fn port(&self) -> Result<String, TextError> {
        let port = hex(self.port).filter(|port| *port <= u64::from(u16::MAX));
        let port = if self.port.is_empty() { Some(0) } else { port };
        port.map(|port| port.to_string()).ok_or_else(|| TextError::expected("a port", self.port))
    }
}

/// A server, as its line and the service's before it say.
#[derive(Debug, Default)]
struct Backend<'a> {
    proto: &'a [u8],
    mark: &'a [u8],
    local: Endpoint<'a>,
    remote: Endpoint<'a>,
    numbers: [u64; OF_BACKEND.len()],
}

impl<'a> Backend<'a> {
    /// What the kernel wrote of a label.
    fn written(&self, label: BackendLabel) -> &'a [u8] {
        match label {
            BackendLabel::LocalAddress => self.local.address,
            BackendLabel::LocalPort => self.local.port,
            BackendLabel::RemoteAddress => self.remote.address,
            BackendLabel::RemotePort => self.remote.port,
            BackendLabel::Proto => self.proto,
            BackendLabel::LocalMark => self.mark,
        }
    }

    fn label(&self, label: BackendLabel) -> Result<String, TextError> {
        match label {
            BackendLabel::LocalAddress => self.local.address(),
            BackendLabel::LocalPort => self.local.port(),
            BackendLabel::RemoteAddress => self.remote.address(),
            BackendLabel::RemotePort => self.remote.port(),
            BackendLabel::Proto | BackendLabel::LocalMark => {
                Ok(String::from_utf8_lossy(self.written(label)).into_owned())
            }
        }
    }
}

/// Calls `each` for each server.
fn parse(text: &[u8], mut each: impl FnMut(&Backend<'_>) -> Result<(), TextError>) -> Result<(), TextError> {
    let mut lines = lines(text)?;
    let title = lines.next().filter(|line| line.starts_with(b"IP Virtual Server"));
    title.ok_or_else(|| TextError::expected("the line of IPVS' version", text))?;
    let mut backend = Backend::default();
    // Two lines are titles, one for the services and one for their servers.
    for line in lines.skip(2) {
        let mut fields = fields(line);
        match fields.next() {
            None => {}
            Some(b"->") if backend.proto.is_empty() => return Err(TextError::expected("a service first", line)),
            Some(b"->") => {
                backend.remote = Endpoint::of(fields.text("a server's address")?)?;
                let _how_it_is_reached = fields.text("a way to forward")?;
                for value in &mut backend.numbers {
                    *value = number(fields.text("a weight or a count")?)
                        .ok_or_else(|| TextError::expected("a weight or a count", line))?;
                }
                each(&backend)?;
            }
            Some(b"FWM") => {
                backend = Backend { proto: b"FWM", mark: fields.text("a firewall's mark")?, ..Backend::default() };
            }
            Some(proto) if proto.iter().all(u8::is_ascii_uppercase) => {
                backend = Backend { proto, local: Endpoint::of(fields.text("an address")?)?, ..Backend::default() };
            }
            Some(_) => return Err(TextError::expected("a service or a server", line)),
        }
    }
    Ok(())
}

/// Servers with the same labels.
#[derive(Debug)]
struct Series {
    labels: Labels,
    numbers: [u64; OF_BACKEND.len()],
    is_there: bool,
}

/// All servers, by what the kernel wrote of their labels: so known ones need no label anew.
#[derive(Debug, Default)]
struct Backends {
    known: BTreeMap<Box<[u8]>, Series>,
    key: Vec<u8>,
}

impl Backends {
    fn read(&mut self, text: &[u8], labels: &[BackendLabel]) -> Result<(), TextError> {
        for series in self.known.values_mut() {
            (series.numbers, series.is_there) = ([0; OF_BACKEND.len()], false);
        }
        parse(text, |backend| self.add(backend, labels))?;
        self.known.retain(|_, series| series.is_there);
        Ok(())
    }

    fn add(&mut self, backend: &Backend<'_>, labels: &[BackendLabel]) -> Result<(), TextError> {
        let Self { known, key } = self;
        key.clear();
        for label in labels {
            key.extend_from_slice(backend.written(*label));
            key.push(b' ');
        }
        if !known.contains_key(key.as_slice()) {
            let chosen = LABELS.iter().filter(|(label, _)| labels.contains(label));
            let pairs = chosen.map(|(label, name)| Ok(((*name).to_owned(), backend.label(*label)?)));
            let labels = Labels::owned(pairs.collect::<Result<Vec<_>, TextError>>()?);
            let numbers = [0; OF_BACKEND.len()];
            known.insert(key.as_slice().into(), Series { labels, numbers, is_there: true });
        }
        if let Some(series) = known.get_mut(key.as_slice()) {
            series.is_there = true;
            for (sum, number) in series.numbers.iter_mut().zip(backend.numbers) {
                *sum = sum.saturating_add(number);
            }
        }
        Ok(())
    }
}

/// See the module.
pub(crate) struct Ipvs {
    settings: Settings,
    sums: RareFile,
    file: KeptFile,
    backends: Backends,
}

impl Ipvs {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            sums: RareFile::new(KeptFile::record(host.proc("net/ip_vs_stats"))),
            file: KeptFile::listing(host.proc("net/ip_vs")),
            backends: Backends::default(),
        }
    }
}

impl Collector for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }

    fn begin(&mut self, pass: Pass) {
        self.sums.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { settings, sums, file, backends } = self;
        let Some(sums) = sums.read(parse_sums)? else { return Ok(Outcome::Nothing) };
        for ((name, help), sum) in SUMS.into_iter().zip(sums) {
            out.counter(name, help);
            out.value(sum as f64);
        }
        let read = file.read(|text| backends.read(text, &settings.backend_labels))?;
        read.map_err(CollectError::malformed(file.path()))?;
        for (column, (name, help)) in OF_BACKEND.into_iter().enumerate() {
            out.gauge(name, help);
            for Series { labels, numbers, .. } in backends.known.values() {
                let number = numbers.get(column);
                number.inspect(|number| out.push(labels, **number as f64));
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: &str = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
                          -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

    /// Labels' values and numbers of each series.
    fn read(text: &str, labels: &[BackendLabel]) -> Result<Vec<(String, [u64; 3])>, TextError> {
        let mut backends = Backends::default();
        // Twice: what is known is summed up anew.
        backends.read(text.as_bytes(), labels)?;
        backends.read(text.as_bytes(), labels)?;
        let values = |labels: &Labels| labels.iter().map(|(_, value)| value.to_owned()).collect::<Vec<_>>().join(" ");
        Ok(backends.known.values().map(|series| (values(&series.labels), series.numbers)).collect())
    }

    #[test]
    fn servers_of_services_by_address_and_by_mark() {
        let text = format!(
            "{TITLES}TCP  0A0B0001:1538 wlc persistent 360 FFFFFFFF\n  -> 0A0B0015:1538      Tunnel  100    31  2\n\
             SCTP [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr\n  \
             -> [2001:0db8:0000:0000:0000:0000:0000:0002]:1F90 Route 1 3 4\n\
             FWM  0000002A wlc\n  -> 0A0B0020:0050  Route   0      5          1\n"
        );
        let all = Settings::default().backend_labels;
        assert_eq!(
            read(&text, &all).unwrap(),
            [
                (" 0000002A 0 FWM 10.11.0.32 80".to_owned(), [0, 5, 1]),
                ("10.11.0.1  5432 TCP 10.11.0.21 5432".to_owned(), [100, 31, 2]),
                ("2001:db8::1  80 SCTP 2001:db8::2 8080".to_owned(), [1, 3, 4]),
            ]
        );
        let by_port = read(&text, &[BackendLabel::RemotePort]).unwrap();
        assert_eq!(
            by_port,
            [("80".to_owned(), [0, 5, 1]), ("5432".to_owned(), [100, 31, 2]), ("8080".to_owned(), [1, 3, 4])]
        );
        assert_eq!(read(&text, &[]).unwrap(), [(String::new(), [101, 39, 7])]);
        assert_eq!(read(TITLES, &all).unwrap(), []);
    }

    #[test]
    fn a_server_that_is_gone_is_forgotten() {
        let mut backends = Backends::default();
        let labels = Settings::default().backend_labels;
        let service = format!("{TITLES}UDP 0A000001:0035 rr\n");
        backends.read(format!("{service}  -> 0A000002:0035 Masq 1 0 0\n").as_bytes(), &labels).unwrap();
        assert_eq!(backends.known.len(), 1);
        backends.read(service.as_bytes(), &labels).unwrap();
        assert!(backends.known.is_empty());
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        let labels = Settings::default().backend_labels;
        for bad in [
            "",
            "TCP 0A000001:0050 rr\n",
            "  -> 0A000002:0050 Masq 1 0 0\n",
            "TCP 0A000001:0050 rr\n  -> 0A000002:0050 Masq 1 0\n",
            "TCP 0A000001:0050 rr\n  -> 0A000002:0050 Masq 1 0 0",
            "TCP 0A000001:0050 rr\n  -> 0A000002:0050 Masq 1 0 -1\n",
            "TCP 0A000001:0050 rr\n  -> 0A000002:0050 Masq 99999999999999999999 0 0\n",
            "TCP 0A000001:0050 rr\n  -> 0A0002:0050 Masq 1 0 0\n",
            "TCP 0A000001:0050 rr\n  -> 0A000002:10050 Masq 1 0 0\n",
            "TCP 0A000001:0050 rr\n  -> 0A000002 Masq 1 0 0\n",
            "TCP 0A000001:0050 rr\n  -> [::x]:0050 Masq 1 0 0\n",
            "TCP\n",
            "FWM\n",
            "tcp 0A000001:0050 rr\n",
            "\u{1}\u{2}\n",
        ] {
            let text = if bad.is_empty() { String::new() } else { format!("{TITLES}{bad}") };
            // A service without servers is none to be shown.
            assert!(read(&text, &labels).is_err() || bad == "TCP 0A000001:0050 rr\n", "{bad:?}");
        }
        assert!(read("\u{1}\n", &labels).is_err());
    }

    #[test]
    fn sums_are_hexadecimal() {
        let titles = "   Total Incoming Outgoing\n   Conns  Packets  Packets\n";
        let sums = |line: &str| parse_sums(format!("{titles}{line}").as_bytes());
        assert_eq!(sums("1A 2b0 0 FFFFFFFF1 ff\n\n 1 2\n").unwrap(), [26, 688, 0, 68719476721, 255]);
        for bad in ["", "1 2 3 4\n", "1 2 3 4 5", "1 2 3 4 x\n", "1 2 3 4 10000000000000000\n"] {
            assert!(sums(bad).is_err(), "{bad}");
        }
        assert!(parse_sums(b"\xff\xfe").is_err());
    }
}
