//! The fields of `/proc/vmstat` that tell of paging, swapping, faults and kills: node_exporter's default choice.

use std::borrow::Cow;

use crate::collectors::cache::Cache;
use crate::collectors::names;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::snapshot::{Families, MetricType};

type Name = (Cow<'static, str>, Cow<'static, str>);

/// See the module.
pub(crate) struct VmStat {
    file: KeptFile,
    names: Cache<Name>,
}

impl VmStat {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::listing(host.proc("vmstat")), names: Cache::default() }
    }
}

/// `^(oom_kill|pgpg|pswp|pg.*fault).*`
fn is_wanted(field: &[u8]) -> bool {
    field.starts_with(b"oom_kill")
        || field.starts_with(b"pgpg")
        || field.starts_with(b"pswp")
        || (field.starts_with(b"pg") && field[2..].windows(5).any(|part| part == b"fault"))
}

/// Appends a family for each field of the choice; a kernel may be built without counters of them.
fn parse(text: &[u8], names: &mut Cache<Name>, out: &mut Families) -> Result<Outcome, TextError> {
    let mut outcome = Outcome::Nothing;
    if text.is_empty() {
        return Err(TextError::new("the file is empty"));
    }
    names.begin();
    for line in lines(text)?.filter(|line| is_wanted(line)) {
        let mut fields = fields(line);
        let field = fields.text("a field's name")?;
        let value = fields.number("a count")?;
        if !field.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(TextError::expected("a field's name", field));
        }
        let (metric, help) = names.get(field, |field| {
            (
                names::keep(format!("node_vmstat_{field}")),
                names::keep(format!("/proc/vmstat information field {field}.")),
            )
        });
        out.family(metric.clone(), help.clone(), MetricType::Untyped);
        out.value(value as f64);
        outcome = Outcome::Data;
    }
    names.end();
    Ok(outcome)
}

impl Collector for VmStat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, names } = self;
        file.read(|text| parse(text, names, out))?.map_err(CollectError::malformed(file.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Families, TextError> {
        let mut out = Families::default();
        parse(text, &mut Cache::default(), &mut out).map(|_| out)
    }

    #[test]
    fn takes_the_fields_of_the_default_choice() {
        let out = parsed(b"nr_free_pages 5\npgpgin 6\npgmajfault 7\npgalloc_dma 8\npswpout 9\noom_kill 0\n").unwrap();
        let names: Vec<_> = out.iter().map(|f| f.head.name.to_string()).collect();
        assert_eq!(
            names,
            ["node_vmstat_pgpgin", "node_vmstat_pgmajfault", "node_vmstat_pswpout", "node_vmstat_oom_kill"]
        );
        assert_eq!(out.single("node_vmstat_pgmajfault"), Some(7.0));
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [&b""[..], b"pgpgin", b"pgpgin x\n", b"pgpgin 99999999999999999999\n", b"pgpg\xff 1\n"] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }
}
