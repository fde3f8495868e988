//! Counters of the network protocols, from `/proc/net/netstat`, `/proc/net/snmp` and `/proc/net/snmp6`: those that the
//! pattern chooses, by default node_exporter's.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::names;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines, number};
use crate::pattern::{Pattern, shows};
use crate::snapshot::{Families, MetricType};

/// `[collectors.netstat]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only fields that match, all if it is empty; a field's name is as in `Tcp_CurrEstab`.
    pub fields: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fields: Pattern::fixed(
                r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
            ),
        }
    }
}

/// A field's family: name and help.
#[derive(Debug, Clone)]
struct Name(Cow<'static, str>, Cow<'static, str>);

impl Name {
    /// `None` for a field that is not shown.
    fn new(protocol: &str, field: &str, settings: &Settings) -> Option<Self> {
        let key = format!("{protocol}_{field}");
        (names::is_metric_part(&key) && shows(&settings.fields, &Pattern::default(), &key)).then(|| {
            let metric = names::keep(format!("node_netstat_{key}"));
            Self(metric, names::keep(format!("Statistic {protocol}{field}.")))
        })
    }

    fn push(&self, value: f64, out: &mut Families) {
        out.family(self.0.clone(), self.1.clone(), MetricType::Untyped);
        out.value(value);
    }
}

/// A line of titles, and those of its columns that are shown.
struct Titles {
    columns: usize,
    shown: Vec<(usize, Name)>,
}

impl Titles {
    fn new(titles: &[u8], settings: &Settings) -> Self {
        let mut all = fields(titles);
        let protocol = all.next().map(String::from_utf8_lossy).unwrap_or_default();
        let protocol = protocol.trim_end_matches(':').to_owned();
        let name = |field| Name::new(&protocol, &String::from_utf8_lossy(field), settings);
        let names: Vec<_> = all.map(name).collect();
        let columns = names.len();
        let shown = names.into_iter().enumerate().filter_map(|(column, name)| Some((column, name?))).collect();
        Self { columns, shown }
    }
}

/// Counters are never negative; `Tcp_MaxConn` is -1 where there is no maximum.
fn signed(text: &[u8]) -> Option<f64> {
    match text.strip_prefix(b"-") {
        Some(digits) => number(digits).map(|value| -(value as f64)),
        None => number(text).map(|value| value as f64),
    }
}

/// `netstat` and `snmp`: pairs of lines, titles above numbers, both after the protocol's name. A line of titles is as long
/// as a page, and never changes while the system runs: it is compared whole, and taken apart once.
fn parse(text: &[u8], settings: &Settings, known: &mut Cache<Titles>, out: &mut Families) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::new("the file is empty"));
    }
    known.begin();
    let mut lines = lines(text)?;
    while let Some(first) = lines.next() {
        let second = lines.next().ok_or_else(|| TextError::expected("a line of numbers below the titles", first))?;
        let colon = first.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| TextError::expected("a protocol and a colon", first))?;
        if !second.starts_with(&first[..=colon]) {
            return Err(TextError::expected("numbers of the protocol of the titles above", second));
        }
        let titles = known.get(first, |_| Titles::new(first, settings));
        let mut shown = titles.shown.iter().peekable();
        let mut count = 0;
        for value in fields(&second[colon + 1..]) {
            if let Some((_, name)) = shown.next_if(|(column, _)| *column == count) {
                name.push(signed(value).ok_or_else(|| TextError::expected("a protocol's count", value))?, out);
            }
            count += 1;
        }
        if count != titles.columns {
            return Err(TextError::expected("as many numbers as there are titles", second));
        }
    }
    known.end();
    Ok(())
}

/// `snmp6`: a line for each field. The protocol's name ends with the first 6.
fn parse_six(
    text: &[u8],
    settings: &Settings,
    known: &mut Cache<Option<Name>>,
    out: &mut Families,
) -> Result<(), TextError> {
    known.begin();
    for line in lines(text)? {
        let mut fields = fields(line);
        let key = fields.text("a field's name")?;
        let name = known.get(key, |key| {
            let (protocol, field) = key.split_at(key.find('6')? + 1);
            Name::new(protocol, field, settings)
        });
        if let Some(name) = name {
            name.push(fields.number("a protocol's count")? as f64, out);
        }
    }
    known.end();
    Ok(())
}

/// See the module.
pub(crate) struct NetStat {
    settings: Settings,
    pairs: [(KeptFile, Cache<Titles>); 2],
    six: KeptFile,
    six_names: Cache<Option<Name>>,
}

impl NetStat {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        let file = |name| KeptFile::listing(host.proc(name));
        Self {
            settings: settings.clone(),
            pairs: [file("net/netstat"), file("net/snmp")].map(|file| (file, Cache::default())),
            six: file("net/snmp6"),
            six_names: Cache::default(),
        }
    }
}

impl Collector for NetStat {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { settings, pairs, six, six_names } = self;
        let mut outcome = Outcome::Nothing;
        for (file, known) in pairs {
            match file.read(|text| parse(text, settings, known, out)) {
                Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
                Err(error) if error.is_nothing_here() => continue,
                Err(error) => return Err(error.into()),
            }
            outcome = Outcome::Data;
        }
        // Without IPv6 there is no such file.
        match six.read(|text| parse_six(text, settings, six_names, out)) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(six.path()))?,
            Err(error) if error.is_nothing_here() => return Ok(outcome),
            Err(error) => return Err(error.into()),
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8], known: &mut Cache<Titles>) -> Result<Families, TextError> {
        let mut out = Families::default();
        parse(text, &Settings::default(), known, &mut out).map(|()| out)
    }

    #[test]
    fn takes_the_fields_of_the_pattern() {
        let mut known = Cache::default();
        let text = b"Tcp: MaxConn ActiveOpens CurrEstab\nTcp: -1 20 3\nUdp: InDatagrams Sometimes\nUdp: 7 8\n";
        for _ in 0..2 {
            let out = parsed(text, &mut known).unwrap();
            let names: Vec<_> = out.iter().map(|f| f.head.name.to_string()).collect();
            assert_eq!(
                names,
                ["node_netstat_Tcp_ActiveOpens", "node_netstat_Tcp_CurrEstab", "node_netstat_Udp_InDatagrams"]
            );
            assert_eq!(out.single("node_netstat_Tcp_ActiveOpens"), Some(20.0));
            assert_eq!(out.iter().next().unwrap().head.help, "Statistic TcpActiveOpens.");
        }
        // Another kernel has other columns.
        let out = parsed(b"Tcp: New ActiveOpens\nTcp: 1 21\n", &mut known).unwrap();
        assert_eq!(out.single("node_netstat_Tcp_ActiveOpens"), Some(21.0));
    }

    #[test]
    fn all_fields_when_asked_for() {
        let settings = Settings { fields: Pattern::new("^Tcp_").unwrap() };
        let mut out = Families::default();
        let text = b"Tcp: MaxConn B\xff d\nTcp: -1 2 3\n";
        parse(text, &settings, &mut Cache::default(), &mut out).unwrap();
        assert_eq!(out.single("node_netstat_Tcp_MaxConn"), Some(-1.0));
        assert_eq!(out.single("node_netstat_Tcp_d"), Some(3.0));
        assert_eq!(out.len(), 2, "what can't be a name is left out");
        // As in node_exporter, and as with vmstat.
        let (settings, mut out) = (Settings { fields: Pattern::default() }, Families::default());
        parse(b"Tcp: MaxConn\nTcp: -1\nFoo: Bar\nFoo: 1\n", &settings, &mut Cache::default(), &mut out).unwrap();
        assert_eq!(out.len(), 2, "an empty pattern is no pattern");
    }

    #[test]
    fn version_six_has_a_line_for_each_field() {
        let (mut known, mut out) = (Cache::default(), Families::default());
        let text = b"Ip6InReceives                   \t2\nIp6InOctets\t256\nUdpLite6InErrors 3\nSomethingElse 1\n";
        parse_six(text, &Settings::default(), &mut known, &mut out).unwrap();
        assert_eq!(out.single("node_netstat_Ip6_InOctets"), Some(256.0));
        assert_eq!(out.single("node_netstat_UdpLite6_InErrors"), Some(3.0));
        assert_eq!(out.len(), 2);
        for bad in
            [&b"Ip6InOctets"[..], b"Ip6InOctets\n", b"Ip6InOctets x\n", b"Ip6InOctets 18446744073709551616\n", b"\n"]
        {
            assert!(parse_six(bad, &Settings::default(), &mut known, &mut out).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"Tcp: ActiveOpens",
            b"Tcp: ActiveOpens\n",
            b"Tcp: ActiveOpens\nUdp: 1\n",
            b"Tcp: ActiveOpens InSegs\nTcp: 1\n",
            b"Tcp: ActiveOpens\nTcp: 1 2\n",
            b"Tcp: ActiveOpens\nTcp: x\n",
            b"Tcp: ActiveOpens\nTcp: 18446744073709551616\n",
            b"Tcp ActiveOpens\nTcp 1\n",
            b"\xff\xfe\n\n",
        ] {
            assert!(parsed(bad, &mut Cache::default()).is_err(), "{}", bad.escape_ascii());
        }
    }
}
