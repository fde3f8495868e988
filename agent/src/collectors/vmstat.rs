//! Fields of `/proc/vmstat`: by default those that tell of paging, swapping, faults and kills.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::names;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::pattern::{Pattern, shows};
use crate::snapshot::{Families, MetricType};

/// `[collectors.vmstat]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show the fields that match.
    pub fields: Pattern,
}

impl Default for Settings {
    /// node_exporter's.
    fn default() -> Self {
        Self { fields: Pattern::fixed("^(oom_kill|pgpg|pswp|pg.*fault).*") }
    }
}

/// What becomes of a field: decided once, at its first sight.
enum Field {
    /// Its family and help.
    Shown(Cow<'static, str>, Cow<'static, str>),
    Hidden,
    /// What stands there is no field's name.
    Garbage,
}

/// See the module.
pub(crate) struct VmStat {
    file: KeptFile,
    settings: Settings,
    fields: Cache<Field>,
}

impl VmStat {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        let file = KeptFile::listing(host.proc("vmstat"));
        Self { file, settings: settings.clone(), fields: Cache::default() }
    }
}

impl Field {
    fn new(name: &str, settings: &Settings) -> Self {
        if !names::is_metric_part(name) {
            return Self::Garbage;
        }
        // As for node_exporter, an empty pattern shows every field.
        if !shows(&settings.fields, &Pattern::default(), name) {
            return Self::Hidden;
        }
        let help = format!("/proc/vmstat information field {name}.");
        Self::Shown(names::keep(format!("node_vmstat_{name}")), names::keep(help))
    }
}

/// Appends a family for each field of the choice; a kernel may be built without counters of them.
fn parse(text: &[u8], settings: &Settings, known: &mut Cache<Field>, out: &mut Families) -> Result<Outcome, TextError> {
    let mut outcome = Outcome::Nothing;
    if text.is_empty() {
        return Err(TextError::new("the file is empty"));
    }
    known.begin();
    for line in lines(text)? {
        let mut fields = fields(line);
        let name = fields.text("a field's name")?;
        match known.get(name, |name| Field::new(name, settings)) {
            Field::Shown(family, help) => {
                let value = fields.number("a count")?;
                out.family(family.clone(), help.clone(), MetricType::Untyped);
                out.value(value as f64);
                outcome = Outcome::Data;
            }
            Field::Hidden => {}
            Field::Garbage => return Err(TextError::expected("a field's name", name)),
        }
    }
    known.end();
    Ok(outcome)
}

impl Collector for VmStat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, settings, fields } = self;
        file.read(|text| parse(text, settings, fields, out))?.map_err(CollectError::malformed(file.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Families, TextError> {
        let mut out = Families::default();
        parse(text, &Settings::default(), &mut Cache::default(), &mut out).map(|_| out)
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
    fn a_pattern_chooses_other_fields() {
        let settings = |text| Settings { fields: Pattern::new(text).unwrap() };
        for (pattern, found) in [("^nr_", 1), ("", 3), ("nothing", 0)] {
            let mut out = Families::default();
            let text = b"nr_free_pages 5\npgpgin 6\noom_kill 0\n";
            let outcome = parse(text, &settings(pattern), &mut Cache::default(), &mut out).unwrap();
            assert_eq!(out.len(), found, "{pattern:?}");
            assert_eq!(outcome == Outcome::Data, found > 0);
        }
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [&b""[..], b"pgpgin", b"pgpgin x\n", b"pgpgin 99999999999999999999\n", b"pgpg\xff 1\n"] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }
}
