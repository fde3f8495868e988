//! Every field of `/proc/meminfo`.

use std::borrow::Cow;

use crate::collectors::cache::Cache;
use crate::collectors::names;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::snapshot::{Families, MetricType};

/// A field's family.
struct Name {
    metric: Cow<'static, str>,
    help: Cow<'static, str>,
}

/// See the module.
pub(crate) struct MemInfo {
    file: KeptFile,
    names: Cache<Option<Name>>,
}

impl MemInfo {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::record(host.proc("meminfo")), names: Cache::default() }
    }
}

/// A line's key, its value in base units, and whether that is bytes.
fn parse_line(line: &[u8]) -> Result<(&[u8], f64, bool), TextError> {
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.ok_or_else(|| TextError::expected("a key with a colon", line))?;
    let mut fields = fields(&line[colon + 1..]);
    let value = fields.number("an amount of memory")? as f64;
    match fields.next() {
        None => Ok((&line[..colon], value, false)),
        Some(b"kB") => Ok((&line[..colon], value * 1024.0, true)),
        Some(unit) => Err(TextError::expected("the unit kB or none", unit)),
    }
}

/// `Active(anon)` in bytes is `node_memory_Active_anon_bytes`. `None` for what can't be a name.
fn name(key: &str, bytes: bool) -> Option<Name> {
    let mut field = key.replace('(', "_").replace(')', "");
    if !names::is_metric_part(&field) {
        return None;
    }
    if bytes {
        field.push_str("_bytes");
    }
    Some(Name {
        metric: names::keep(format!("node_memory_{field}")),
        help: names::keep(format!("Memory information field {field}.")),
    })
}

/// Appends a family for each line.
fn parse(text: &[u8], names: &mut Cache<Option<Name>>, out: &mut Families) -> Result<(), TextError> {
    let mut total = false;
    names.begin();
    for line in lines(text)? {
        let (key, value, bytes) = parse_line(line)?;
        total |= key == b"MemTotal";
        if let Some(name) = names.get(key, |key| name(key, bytes)) {
            out.family(name.metric.clone(), name.help.clone(), MetricType::Gauge);
            out.value(value);
        }
    }
    names.end();
    if total { Ok(()) } else { Err(TextError::new("no line begins with MemTotal: the file is empty or cut")) }
}

impl Collector for MemInfo {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, names } = self;
        file.read(|text| parse(text, names, out))?.map_err(CollectError::malformed(file.path()))?;
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Families, TextError> {
        let mut out = Families::default();
        parse(text, &mut Cache::default(), &mut out).map(|()| out)
    }

    #[test]
    fn names_follow_key_and_unit() {
        let text = b"MemTotal:       2048 kB\nActive(anon):      3 kB\nHugePages_Total:       7\n";
        let out = parsed(text).unwrap();
        assert_eq!(out.single("node_memory_MemTotal_bytes"), Some(2_097_152.0));
        assert_eq!(out.single("node_memory_Active_anon_bytes"), Some(3072.0));
        assert_eq!(out.single("node_memory_HugePages_Total"), Some(7.0));
        let help = out.iter().nth(1).unwrap().head.help.clone();
        assert_eq!(help, "Memory information field Active_anon_bytes.");
    }

    #[test]
    fn a_key_that_is_no_name_is_left_out() {
        let out = parsed(b"MemTotal: 1 kB\nB\xc3\xa4d key: 2 kB\n: 3 kB\n").unwrap();
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"MemTotal:",
            b"MemTotal: 12 k",
            b"MemTotal",
            b"MemTotal: -1 kB\n",
            b"MemTotal: 99999999999999999999 kB\n",
            b"MemFree: 1 kB\n",
            b"\x7fELF\x02\x01",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }
}
