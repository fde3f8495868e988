//! Load averages, from `/proc/loadavg`.

use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields};
use crate::snapshot::Families;

/// See the module.
pub(crate) struct LoadAvg {
    file: KeptFile,
}

impl LoadAvg {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::record(host.proc("loadavg")) }
    }
}

/// The averages over 1, 5 and 15 minutes.
fn parse(text: &[u8]) -> Result<[f64; 3], TextError> {
    let mut fields = fields(text);
    let mut loads = [0.0; 3];
    for load in &mut loads {
        let field = fields.text("a load average")?;
        *load = std::str::from_utf8(field)
            .ok()
            .and_then(|field| field.parse().ok())
            .filter(|load: &f64| load.is_finite() && *load >= 0.0)
            .ok_or_else(|| TextError::expected("a load average", field))?;
    }
    // The task counts follow; without them the file was cut, and its last number with it.
    fields.text("the counts of tasks")?;
    Ok(loads)
}

impl Collector for LoadAvg {
    fn name(&self) -> &'static str {
        "loadavg"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let [one, five, fifteen] = self.file.read(parse)?.map_err(CollectError::malformed(self.file.path()))?;
        for (name, help, load) in [
            ("node_load1", "1m load average.", one),
            ("node_load15", "15m load average.", fifteen),
            ("node_load5", "5m load average.", five),
        ] {
            out.gauge(name, help);
            out.value(load);
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_three_averages() {
        assert_eq!(parse(b"0.21 12.50 0.19 2/1234 98765\n").unwrap(), [0.21, 12.5, 0.19]);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in
            [&b""[..], b"0.1", b"0.1 0.2", b"0.1 0.2 0.", b"a b c d", b"NaN 1 1 1/1 1", b"-1 1 1 1/1", b"\xff 1 1 1"]
        {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
