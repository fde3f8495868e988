//! Sockets in use and the memory that they hold, from `/proc/net/sockstat` and `/proc/net/sockstat6`.

use std::borrow::Cow;

use crate::collectors::cache::Cache;
use crate::collectors::names;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::snapshot::{Families, MetricType};

/// The counts that are shown. A kernel's other ones are not known to dashboards.
const COUNTS: [&str; 6] = ["inuse", "orphan", "tw", "alloc", "mem", "memory"];
/// The one among them that is in pages; it is shown in bytes too.
const PAGES: &[u8] = b"mem";

/// A family: name and help.
type Name = (Cow<'static, str>, Cow<'static, str>);

/// The families of a protocol, in the order of [`COUNTS`], and that of its memory in bytes.
struct Protocol {
    counts: [Name; COUNTS.len()],
    bytes: Name,
}

fn name(protocol: &str, state: &str) -> Name {
    (
        names::keep(format!("node_sockstat_{protocol}_{state}")),
        names::keep(format!("Number of {protocol} sockets in state {state}.")),
    )
}

/// Appends a family for each count. Both files have lines of the form `TCP: inuse 4 orphan 0`.
fn parse(text: &[u8], page: f64, known: &mut Cache<Option<Protocol>>, out: &mut Families) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::new("the file is empty"));
    }
    known.begin();
    for line in lines(text)? {
        let mut fields = fields(line);
        let protocol = fields.text("a protocol")?;
        let protocol =
            protocol.strip_suffix(b":").ok_or_else(|| TextError::expected("a protocol and a colon", line))?;
        let names = known.get(protocol, |protocol| {
            names::is_metric_part(protocol).then(|| Protocol {
                counts: COUNTS.map(|count| name(protocol, count)),
                bytes: name(protocol, "mem_bytes"),
            })
        });
        let mut any = false;
        while let Some(key) = fields.next() {
            let value = fields.number("a count of sockets")? as f64;
            any = true;
            if protocol == b"sockets" {
                if key == b"used" {
                    out.gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.");
                    out.value(value);
                }
                continue;
            }
            let Some(names) = names else { continue };
            let Some(place) = COUNTS.iter().position(|count| count.as_bytes() == key) else { continue };
            let mut push = |(metric, help): &Name, value| {
                out.family(metric.clone(), help.clone(), MetricType::Gauge);
                out.value(value);
            };
            push(&names.counts[place], value);
            if key == PAGES {
                push(&names.bytes, value * page);
            }
        }
        if !any {
            return Err(TextError::expected("counts of sockets behind the protocol", line));
        }
    }
    known.end();
    Ok(())
}

/// See the module.
pub(crate) struct SockStat {
    files: [(KeptFile, Cache<Option<Protocol>>); 2],
    page: f64,
}

impl SockStat {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self {
            files: ["net/sockstat", "net/sockstat6"].map(|name| (KeptFile::record(host.proc(name)), Cache::default())),
            page: rustix::param::page_size() as f64,
        }
    }
}

impl Collector for SockStat {
    fn name(&self) -> &'static str {
        "sockstat"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let mut outcome = Outcome::Nothing;
        let page = self.page;
        for (file, known) in &mut self.files {
            match file.read(|text| parse(text, page, known, out)) {
                Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
                // Without a version of IP, its file is missing.
                Err(error) if error.is_nothing_here() => continue,
                Err(error) => return Err(error.into()),
            }
            outcome = Outcome::Data;
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Families, TextError> {
        let mut out = Families::default();
        parse(text, 4096.0, &mut Cache::default(), &mut out).map(|()| out)
    }

    #[test]
    fn pages_are_shown_in_bytes_too() {
        let out = parsed(b"sockets: used 22\nTCP: inuse 4 orphan 1 new 9 mem 130\nFRAG: inuse 0 memory 7\n").unwrap();
        assert_eq!(out.single("node_sockstat_sockets_used"), Some(22.0));
        assert_eq!(out.single("node_sockstat_TCP_mem"), Some(130.0));
        assert_eq!(out.single("node_sockstat_TCP_mem_bytes"), Some(532_480.0));
        assert_eq!(out.single("node_sockstat_FRAG_memory"), Some(7.0));
        assert_eq!(out.len(), 7, "a count that nobody knows is left out");
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"\n",
            b"TCP:\n",
            b"TCP: inuse\n",
            b"TCP: inuse 4",
            b"TCP inuse 4\n",
            b"TCP: inuse x\n",
            b"TCP: inuse 4 mem\n",
            b"TCP: mem 18446744073709551616\n",
            b"\xff: a b\n",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
