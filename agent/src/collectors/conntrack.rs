//! The table of tracked connections: how full it is, from `/proc/sys/net/netfilter`, and what became of packets, from
//! `/proc/net/stat/nf_conntrack`.

use crate::collectors::{CollectError, Collector, Outcome, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, hex, lines, number};
use crate::snapshot::Families;

/// Title of the column, family, help.
const STATS: [(&[u8], &str, &str); 8] = [
    (b"found", "node_nf_conntrack_stat_found", "Number of searched entries which were successful."),
    (b"invalid", "node_nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked."),
    (
        b"ignore",
        "node_nf_conntrack_stat_ignore",
        "Number of packets seen which are already connected to a conntrack entry.",
    ),
    (b"insert", "node_nf_conntrack_stat_insert", "Number of entries inserted into the list."),
    (
        b"insert_failed",
        "node_nf_conntrack_stat_insert_failed",
        "Number of entries for which list insertion was attempted but failed.",
    ),
    (b"drop", "node_nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure."),
    (
        b"early_drop",
        "node_nf_conntrack_stat_early_drop",
        "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
    ),
    (
        b"search_restart",
        "node_nf_conntrack_stat_search_restart",
        "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
    ),
];

/// Sums over all CPUs, in the order of [`STATS`]; `None` for what this kernel does not count.
type Sums = [Option<u64>; STATS.len()];

/// A line of titles, and a line of hexadecimal numbers for each CPU.
fn parse(text: &[u8]) -> Result<Sums, TextError> {
    let mut lines = lines(text)?;
    let titles = lines.next().ok_or_else(|| TextError::new("the line of titles is missing"))?;
    if fields(titles).next() != Some(b"entries") {
        return Err(TextError::expected("a line of titles", titles));
    }
    let mut sums = Sums::default();
    let mut cpus = 0;
    for line in lines {
        let mut values = fields(line);
        for title in fields(titles) {
            let value = values.text("a count of each title")?;
            let value = hex(value).ok_or_else(|| TextError::expected("a hexadecimal count", value))?;
            if let Some(place) = STATS.iter().position(|(name, _, _)| *name == title) {
                sums[place] = Some(sums[place].unwrap_or(0).saturating_add(value));
            }
        }
        cpus += 1;
    }
    if cpus == 0 {
        return Err(TextError::new("there is no line of a CPU"));
    }
    Ok(sums)
}

fn whole(text: &[u8]) -> Result<f64, TextError> {
    let text = text.trim_ascii();
    number(text).map(|number| number as f64).ok_or_else(|| TextError::expected("a number of connections", text))
}

/// See the module.
pub(crate) struct ConnTrack {
    entries: KeptFile,
    limit: KeptFile,
    stats: KeptFile,
}

impl ConnTrack {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self {
            entries: KeptFile::record(host.proc("sys/net/netfilter/nf_conntrack_count")),
            limit: KeptFile::record(host.proc("sys/net/netfilter/nf_conntrack_max")),
            stats: KeptFile::listing(host.proc("net/stat/nf_conntrack")),
        }
    }
}

impl Collector for ConnTrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { entries, limit, stats } = self;
        let mut read = |file: &mut KeptFile, name, help| {
            let value = file.read(whole)?.map_err(CollectError::malformed(file.path()))?;
            out.gauge(name, help);
            out.value(value);
            Ok(())
        };
        let help = "Number of currently allocated flow entries for connection tracking.";
        // Nothing is tracked until a firewall's rule asks for it.
        if let Err(error) = read(entries, "node_nf_conntrack_entries", help) {
            return nothing_if_absent(error);
        }
        read(limit, "node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.")?;
        let sums = match stats.read(parse) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(stats.path()))?,
            // A kernel may be built without them.
            Err(error) if error.is_nothing_here() => return Ok(Outcome::Data),
            Err(error) => return Err(error.into()),
        };
        for (sum, (_, name, help)) in sums.into_iter().zip(STATS) {
            out.gauge(name, help);
            if let Some(sum) = sum {
                out.value(sum as f64);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_cpus_by_title() {
        let sums = parse(b"entries  searched found drop  x\n10 1 2 3 4\n10 1 ff 4 5\n").unwrap();
        assert_eq!(sums, [Some(257), None, None, None, None, Some(7), None, None]);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"\n",
            b"found\n1\n",
            b"entries found\n",
            b"entries found\n1\n",
            b"entries found\n1 2",
            b"entries found\n1 x\n",
            b"entries found\n1 10000000000000000\n",
            b"\xff\n1\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        for bad in [&b""[..], b"x", b"-1", b"18446744073709551616", b"1 2"] {
            assert!(whole(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
