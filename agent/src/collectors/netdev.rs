//! Traffic of each network interface, from `/proc/net/dev`.

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::snapshot::{Families, Labels};

/// Family and help of each column, in the file's order.
macro_rules! columns {
    ($($name:literal),* $(,)?) => {
        [$((concat!("node_network_", $name, "_total"), concat!("Network device statistic ", $name, "."))),*]
    };
}

const COLUMNS: [(&str, &str); 16] = columns![
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

/// Two lines of column titles.
const HEADER_LINES: usize = 2;

struct Device {
    labels: Labels,
    columns: [u64; COLUMNS.len()],
}

/// See the module.
pub(crate) struct NetDev {
    file: KeptFile,
    devices: Cache<Device>,
}

impl NetDev {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::listing(host.proc("net/dev")), devices: Cache::default() }
    }
}

fn parse(text: &[u8], devices: &mut Cache<Device>) -> Result<(), TextError> {
    devices.begin();
    let mut lines = lines(text)?;
    for _ in 0..HEADER_LINES {
        let header = lines.next().ok_or_else(|| TextError::new("the lines of titles are missing"))?;
        if !header.contains(&b'|') {
            return Err(TextError::expected("a line of titles", header));
        }
    }
    for line in lines {
        // A name may hold a colon (old aliases do), the numbers after it can't.
        let colon = line.iter().rposition(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| TextError::expected("an interface and a colon", line))?;
        let device = devices.get(line[..colon].trim_ascii(), |name| Device {
            labels: Labels::new([("device", name)]),
            columns: [0; COLUMNS.len()],
        });
        let mut fields = fields(&line[colon + 1..]);
        for slot in &mut device.columns {
            *slot = fields.number("an interface statistic")?;
        }
    }
    devices.end();
    Ok(())
}

impl Collector for NetDev {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, devices } = self;
        file.read(|text| parse(text, devices))?.map_err(CollectError::malformed(file.path()))?;
        for (column, (name, help)) in COLUMNS.into_iter().enumerate() {
            out.counter(name, help);
            for device in devices.asked() {
                out.push(&device.labels, device.columns[column] as f64);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Inter-|   Receive  |  Transmit\n face |bytes |bytes\n";

    fn parsed(rest: &[u8]) -> Result<Cache<Device>, TextError> {
        let mut devices = Cache::default();
        parse(&[HEADER.as_bytes(), rest].concat(), &mut devices).map(|()| devices)
    }

    #[test]
    fn reads_each_interface() {
        let devices = parsed(
            b"    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0:0:18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
        )
        .unwrap();
        let found: Vec<_> =
            devices.asked().map(|d| (d.labels.get("device").unwrap(), d.columns[0], d.columns[15])).collect();
        assert_eq!(found, [("lo", 1, 16), ("eth0:0", u64::MAX, 16)]);
    }

    #[test]
    fn a_name_that_is_not_text_is_still_a_label() {
        let devices = parsed(b"e\xff\"h: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n").unwrap();
        assert_eq!(devices.asked().next().unwrap().labels.get("device"), Some("e\u{fffd}\"h"));
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        assert!(parse(b"", &mut Cache::default()).is_err());
        assert!(parse(b"x\ny\n", &mut Cache::default()).is_err());
        for bad in [
            &b"eth0"[..],
            b"eth0:",
            b"eth0: 1 2 3",
            b"eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 99999999999999999999",
            b"\xff",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }
}
