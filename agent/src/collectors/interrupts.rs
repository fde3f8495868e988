//! Interrupts that each CPU served, by line, from `/proc/interrupts`. Many samples on large machines: off by default.

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::softirqs::parse_titles;
use crate::collectors::{CollectError, Collector, Outcome, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines, number};
use crate::pattern::{self, Pattern};
use crate::snapshot::{Families, Labels};

/// `[collectors.interrupts]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only interrupts that match. Matched is `type;info;devices`.
    pub name_include: Pattern,
    /// Show no interrupts that match.
    pub name_exclude: Pattern,
    /// Show interrupts that have not come on a CPU.
    pub include_zeros: bool,
}

impl Default for Settings {
    /// node_exporter's.
    fn default() -> Self {
        Self { name_include: Pattern::default(), name_exclude: Pattern::default(), include_zeros: true }
    }
}

/// One interrupt's counts, in the order of the columns.
struct Interrupt {
    /// What the line says behind the counts.
    about: Box<[u8]>,
    /// None where it is not shown.
    labels: Vec<Labels>,
    counts: Vec<u64>,
}

impl Interrupt {
    fn new(name: &str, about: &[u8], cpus: &[u32], settings: &Settings) -> Self {
        let text = String::from_utf8_lossy(about);
        let mut words = text.split_ascii_whitespace();
        // A line with a number has a controller and devices, one with a name has a description.
        let info = if number(name.as_bytes()).is_some() {
            words.next().unwrap_or_default().to_owned()
        } else {
            joined(&mut words)
        };
        let devices = joined(&mut words);
        let shown = pattern::shows(&settings.name_include, &settings.name_exclude, &format!("{name};{info};{devices}"));
        let labels = |cpu: &u32| {
            Labels::new([("cpu", &*cpu.to_string()), ("type", name), ("info", &*info), ("devices", &*devices)])
        };
        let labels = if shown { cpus.iter().map(labels).collect() } else { Vec::new() };
        Self { about: about.into(), counts: vec![0; labels.len()], labels }
    }
}

fn joined<'a>(words: &mut impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// See the module.
pub(crate) struct Interrupts {
    file: KeptFile,
    settings: Settings,
    /// The CPUs of the columns.
    cpus: Vec<u32>,
    interrupts: Cache<Interrupt>,
}

impl Interrupts {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self {
            file: KeptFile::listing(host.proc("interrupts")),
            settings: settings.clone(),
            cpus: Vec::new(),
            interrupts: Cache::default(),
        }
    }
}

fn parse(
    text: &[u8],
    settings: &Settings,
    cpus: &mut Vec<u32>,
    interrupts: &mut Cache<Interrupt>,
) -> Result<(), TextError> {
    let mut lines = lines(text)?;
    let titles = lines.next().ok_or_else(|| TextError::new("the file is empty"))?;
    if parse_titles(titles, cpus)? {
        *interrupts = Cache::default();
    }
    interrupts.begin();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| TextError::expected("an interrupt and a colon", line))?;
        let name = line[..colon].trim_ascii();
        let counts = fields(&line[colon + 1..]);
        let mut rest = counts.clone();
        // Lines that count errors of the whole machine have no column for each CPU, and no description.
        if rest.by_ref().take(cpus.len()).count() < cpus.len() {
            continue;
        }
        let about = rest.rest().trim_ascii();
        if about.is_empty() {
            continue;
        }
        let one = interrupts.get(name, |name| Interrupt::new(name, about, cpus, settings));
        if *one.about != *about {
            *one = Interrupt::new(&String::from_utf8_lossy(name), about, cpus, settings);
        }
        let mut counts = counts;
        for slot in &mut one.counts {
            *slot = counts.number("a count of interrupts")?;
        }
    }
    interrupts.end();
    Ok(())
}

impl Collector for Interrupts {
    fn name(&self) -> &'static str {
        "interrupts"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, settings, cpus, interrupts } = self;
        match file.read(|text| parse(text, settings, cpus, interrupts)) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
            Err(error) => return nothing_if_absent(error.into()),
        }
        out.counter("node_interrupts_total", "Interrupt details.");
        for one in interrupts.asked() {
            for (labels, count) in one.labels.iter().zip(&one.counts) {
                if *count > 0 || settings.include_zeros {
                    out.push(labels, *count as f64);
                }
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"           CPU0       CPU1\n  1:       9      0   IO-APIC   1-edge   i8042\n\
        NMI:   0   5   Non-maskable interrupts\nIPI0:1 2 Rescheduling interrupts\nERR:          3\nMIS: 0\n";

    fn parsed(text: &[u8], settings: &Settings) -> Result<Vec<(String, u64)>, TextError> {
        let mut interrupts = Cache::default();
        parse(text, settings, &mut Vec::new(), &mut interrupts)?;
        let text = |labels: &Labels| labels.iter().map(|(_, value)| value).collect::<Vec<_>>().join("/");
        let found = interrupts.asked().flat_map(|one| one.labels.iter().zip(&one.counts));
        Ok(found.map(|(labels, count)| (text(labels), *count)).collect())
    }

    fn texts(found: &[(String, u64)]) -> Vec<(&str, u64)> {
        found.iter().map(|(text, count)| (text.as_str(), *count)).collect()
    }

    #[test]
    fn lines_have_a_controller_and_devices_or_a_description() {
        let found = parsed(TEXT, &Settings::default()).unwrap();
        assert_eq!(
            texts(&found),
            [
                ("0/1/IO-APIC/1-edge i8042", 9),
                ("1/1/IO-APIC/1-edge i8042", 0),
                ("0/NMI/Non-maskable interrupts/", 0),
                ("1/NMI/Non-maskable interrupts/", 5),
                ("0/IPI0/Rescheduling interrupts/", 1),
                ("1/IPI0/Rescheduling interrupts/", 2),
            ]
        );
    }

    #[test]
    fn what_is_matched_is_the_whole_description() {
        let pattern = |text| Pattern::new(text).unwrap();
        let only = Settings { name_include: pattern("^1;IO-APIC;.*i8042$"), ..Settings::default() };
        assert_eq!(parsed(TEXT, &only).unwrap().len(), 2);
        let but = Settings { name_exclude: pattern("interrupts"), ..Settings::default() };
        assert_eq!(parsed(TEXT, &but).unwrap().len(), 2);
    }

    #[test]
    fn a_number_may_go_to_another_device() {
        let (mut cpus, mut interrupts) = (Vec::new(), Cache::default());
        let settings = Settings::default();
        parse(b"CPU0\n5: 1 A x\n", &settings, &mut cpus, &mut interrupts).unwrap();
        parse(b"CPU0\n5: 2 A y\n", &settings, &mut cpus, &mut interrupts).unwrap();
        assert_eq!(interrupts.asked().next().unwrap().labels[0].get("devices"), Some("y"));
        parse(b"CPU0 CPU3\n5: 2 7 A y\n", &settings, &mut cpus, &mut interrupts).unwrap();
        assert_eq!(interrupts.asked().next().unwrap().labels[1].get("cpu"), Some("3"));
    }

    #[test]
    fn zeros_may_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("interrupts"), TEXT).unwrap();
        let host = HostRoot { proc: dir.path().into(), ..HostRoot::default() };
        let mut out = Families::default();
        let settings = Settings { include_zeros: false, ..Settings::default() };
        Interrupts::new(&host, &settings).collect(&mut out).unwrap();
        assert_eq!(out.samples("node_interrupts_total").len(), 4);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"\n",
            b"CPU0 x\n",
            b"CPU0\n1 5 A b\n",
            b"CPU0\n1: x A b\n",
            b"CPU0\n1: 99999999999999999999 A b\n",
            b"CPU0\n1: 5 A b",
            b"\xff\n",
        ] {
            assert!(parsed(bad, &Settings::default()).is_err(), "{}", bad.escape_ascii());
        }
    }
}
