//! Software interrupts that each CPU served, by type, from `/proc/softirqs`.

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines, number};
use crate::snapshot::{Families, Labels};

/// One type's counts, in the order of the columns.
struct Type {
    labels: Vec<Labels>,
    counts: Vec<u64>,
}

/// See the module.
pub(crate) struct SoftIrqs {
    file: KeptFile,
    /// The CPUs of the columns.
    cpus: Vec<u32>,
    types: Cache<Type>,
}

impl SoftIrqs {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::listing(host.proc("softirqs")), cpus: Vec::new(), types: Cache::default() }
    }
}

/// The CPUs that a line of titles (`CPU0 CPU2`) names, into `cpus`. Whether they are others than before.
pub(super) fn parse_titles(line: &[u8], cpus: &mut Vec<u32>) -> Result<bool, TextError> {
    let (mut count, mut changed) = (0, false);
    for title in fields(line) {
        let cpu = title.strip_prefix(b"CPU").and_then(number).and_then(|cpu| u32::try_from(cpu).ok());
        let cpu = cpu.ok_or_else(|| TextError::expected("the title of a CPU's column", title))?;
        match cpus.get_mut(count) {
            Some(known) if *known == cpu => {}
            Some(other) => (*other, changed) = (cpu, true),
            None => {
                cpus.push(cpu);
                changed = true;
            }
        }
        count += 1;
    }
    if count == 0 {
        return Err(TextError::new("the line of titles names no CPU"));
    }
    changed |= count != cpus.len();
    cpus.truncate(count);
    Ok(changed)
}

fn parse(text: &[u8], cpus: &mut Vec<u32>, types: &mut Cache<Type>) -> Result<(), TextError> {
    let mut lines = lines(text)?;
    let titles = lines.next().ok_or_else(|| TextError::new("the file is empty"))?;
    if parse_titles(titles, cpus)? {
        *types = Cache::default();
    }
    types.begin();
    for line in lines {
        let mut fields = fields(line);
        let name = fields.text("a type of software interrupt")?;
        let name = name.strip_suffix(b":").ok_or_else(|| TextError::expected("a type and a colon", name))?;
        let one = types.get(name, |name| Type {
            labels: cpus.iter().map(|cpu| Labels::new([("cpu", &*cpu.to_string()), ("type", name)])).collect(),
            counts: vec![0; cpus.len()],
        });
        for slot in &mut one.counts {
            *slot = fields.number("a count of software interrupts")?;
        }
    }
    types.end();
    match types.asked().next() {
        Some(_) => Ok(()),
        None => Err(TextError::new("no type of software interrupt: the file was cut")),
    }
}

impl Collector for SoftIrqs {
    fn name(&self) -> &'static str {
        "softirqs"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, cpus, types } = self;
        file.read(|text| parse(text, cpus, types))?.map_err(CollectError::malformed(file.path()))?;
        out.counter("node_softirqs_functions_total", "Softirq counts per CPU.");
        for one in types.asked() {
            for (labels, count) in one.labels.iter().zip(&one.counts) {
                out.push(labels, *count as f64);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Vec<(String, f64)>, TextError> {
        let (mut cpus, mut types) = (Vec::new(), Cache::default());
        parse(text, &mut cpus, &mut types)?;
        let text = |labels: &Labels| labels.iter().map(|(_, value)| value).collect::<Vec<_>>().join("/");
        let found = types.asked().flat_map(|one| one.labels.iter().zip(&one.counts));
        Ok(found.map(|(labels, count)| (text(labels), *count as f64)).collect())
    }

    #[test]
    fn columns_are_the_cpus_of_the_titles() {
        let found = parsed(b"      CPU0   CPU2\n  HI:   1    2\nNET_RX:   3  4\n").unwrap();
        let found: Vec<_> = found.iter().map(|(text, count)| (text.as_str(), *count)).collect();
        assert_eq!(found, [("0/HI", 1.0), ("2/HI", 2.0), ("0/NET_RX", 3.0), ("2/NET_RX", 4.0)]);
    }

    #[test]
    fn a_cpu_that_comes_changes_the_columns() {
        let (mut cpus, mut types) = (Vec::new(), Cache::default());
        parse(b"CPU0\nHI: 1\n", &mut cpus, &mut types).unwrap();
        parse(b"CPU0 CPU1\nHI: 1 2\n", &mut cpus, &mut types).unwrap();
        assert_eq!(types.asked().next().unwrap().counts, [1, 2]);
        parse(b"CPU1\nHI: 2\n", &mut cpus, &mut types).unwrap();
        assert_eq!(types.asked().next().unwrap().labels[0].get("cpu"), Some("1"));
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"\n",
            b"CPU0\n",
            b"CPU0 x\nHI: 1 2\n",
            b"CPU0 CPU1\nHI: 1\n",
            b"CPU0\nHI 1\n",
            b"CPU0\nHI: 99999999999999999999\n",
            b"CPU0\nHI: 1",
            b"\xff\n\xff\n",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
