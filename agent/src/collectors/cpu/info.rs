//! What the CPUs are, from `/proc/cpuinfo`: read rarely, since it is long on large machines and hardly changes.

use crate::collectors::devices::Rarely;
use crate::collectors::{CollectError, Pass};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines, number};
use crate::pattern::Pattern;
use crate::snapshot::{Families, Labels};
use ::rules::order;

use super::Settings;

/// See the module.
pub(super) struct Info {
    file: KeptFile,
    rarely: Rarely,
    flags_include: Pattern,
    bugs_include: Pattern,
    cpus: Vec<Labels>,
    flags: Vec<Labels>,
    bugs: Vec<Labels>,
}

impl Info {
    /// `None` where nothing of it is to be shown.
    pub(super) fn new(host: &HostRoot, settings: &Settings) -> Option<Self> {
        let Settings { info, info_flags_include: flags, info_bugs_include: bugs, .. } = settings;
        let wanted = *info || flags.regex().is_some() || bugs.regex().is_some();
        wanted.then(|| Self {
            file: KeptFile::listing(host.proc("cpuinfo")),
            rarely: Rarely::new(),
            flags_include: flags.clone(),
            bugs_include: bugs.clone(),
            cpus: Vec::new(),
            flags: Vec::new(),
            bugs: Vec::new(),
        })
    }

    pub(super) fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    /// The CPUs are others than before.
    pub(super) fn soon(&mut self) {
        self.rarely.soon();
    }

    fn read(&mut self) -> Result<(), CollectError> {
        let cpus = self.file.read(parse)?.map_err(CollectError::malformed(self.file.path()))?;
        // Of the first, as node_exporter does; they are the same for all, but for rare machines of mixed cores.
        let first = cpus.first();
        self.flags = first.map_or_else(Vec::new, |cpu| chosen("flag", &cpu.flags, &self.flags_include));
        self.bugs = first.map_or_else(Vec::new, |cpu| chosen("bug", &cpu.bugs, &self.bugs_include));
        self.cpus = cpus.iter().map(Described::labels).collect();
        Ok(())
    }

    pub(super) fn collect(&mut self, out: &mut Families) -> Result<(), CollectError> {
        if self.rarely.is_due() {
            self.read().inspect_err(|_| self.rarely.soon())?;
        }
        for (name, help, all) in [
            (
                "node_cpu_bug_info",
                "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
                &self.bugs,
            ),
            (
                "node_cpu_flag_info",
                "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
                &self.flags,
            ),
            ("node_cpu_info", "CPU information from /proc/cpuinfo.", &self.cpus),
        ] {
            out.gauge(name, help);
            all.iter().for_each(|labels| out.push(labels, 1.0));
        }
        Ok(())
    }
}

/// The words that match; none where no pattern is given.
fn chosen(label: &'static str, words: &str, include: &Pattern) -> Vec<Labels> {
    let mut chosen: Vec<&str> = words.split_ascii_whitespace().filter(|word| include.matches(word)).collect();
    order::sort_by(&mut chosen, &Ord::cmp);
    chosen.dedup();
    chosen.into_iter().map(|word| Labels::new([(label, word)])).collect()
}

/// A CPU as the file describes it; empty where it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Described {
    cpu: u64,
    package: String,
    core: String,
    vendor: String,
    family: String,
    model: String,
    model_name: String,
    microcode: String,
    stepping: String,
    cache_size: String,
    flags: String,
    bugs: String,
}

impl Described {
    fn labels(&self) -> Labels {
        Labels::new([
            ("package", &*self.package),
            ("core", &*self.core),
            ("cpu", &*self.cpu.to_string()),
            ("vendor", &*self.vendor),
            ("family", &*self.family),
            ("model", &*self.model),
            ("model_name", &*self.model_name),
            ("microcode", &*self.microcode),
            ("stepping", &*self.stepping),
            ("cachesize", &*self.cache_size),
        ])
    }
}

/// Lines of a key, a colon and a value. A CPU begins with its number; what stands before the first is common to all. The
/// keys differ between architectures.
fn parse(text: &[u8]) -> Result<Vec<Described>, TextError> {
    let mut cpus: Vec<Described> = Vec::new();
    let mut common = Described::default();
    for line in lines(text)? {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (key, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        let mut words = fields(key);
        if words.next() == Some(b"processor") {
            // s390 has the number in the key.
            let digits = words.next().unwrap_or(value);
            let cpu = number(digits).ok_or_else(|| TextError::expected("a CPU's number", line))?;
            cpus.push(Described { cpu, ..common.clone() });
            continue;
        }
        let cpu = cpus.last_mut().unwrap_or(&mut common);
        let slot = match key {
            b"physical id" => &mut cpu.package,
            b"core id" => &mut cpu.core,
            b"vendor" | b"vendor_id" => &mut cpu.vendor,
            b"cpu family" => &mut cpu.family,
            b"model" => &mut cpu.model,
            b"model name" => &mut cpu.model_name,
            // POWER has no other name for it.
            b"cpu" if cpu.model_name.is_empty() => &mut cpu.model_name,
            b"microcode" => &mut cpu.microcode,
            b"stepping" => &mut cpu.stepping,
            b"cache size" => &mut cpu.cache_size,
            b"flags" | b"Features" | b"features" => &mut cpu.flags,
            b"bugs" => &mut cpu.bugs,
            _ => continue,
        };
        *slot = String::from_utf8_lossy(value).into_owned();
    }
    if cpus.is_empty() {
        return Err(TextError::new("no line begins with processor: the file is empty or cut"));
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: &[u8] = b"processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 79\nmodel name\t: A CPU: fast\n\
        stepping\t: 1\nmicrocode\t: 0xb00\ncache size\t: 8192 KB\nphysical id\t: 0\ncore id\t\t: 3\nflags\t\t: fpu vme aes\n\
        bugs\t\t: spectre_v1 mds\npower management:\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\n\n";

    #[test]
    fn a_cpu_begins_with_its_number() {
        let cpus = parse(X86).unwrap();
        assert_eq!(cpus.len(), 2);
        let values: Vec<_> = cpus[0].labels().iter().map(|(_, value)| value.to_owned()).collect();
        assert_eq!(values, ["0", "3", "0", "GenuineIntel", "6", "79", "A CPU: fast", "0xb00", "1", "8192 KB"]);
        assert_eq!((&*cpus[1].vendor, &*cpus[1].model), ("GenuineIntel", ""));
        let flags = chosen("flag", &cpus[0].flags, &Pattern::new("^(aes|fpu)$").unwrap());
        assert_eq!(flags, [Labels::new([("flag", "aes")]), Labels::new([("flag", "fpu")])]);
        assert_eq!(chosen("bug", &cpus[0].bugs, &Pattern::default()), []);
    }

    #[test]
    fn other_architectures_have_other_keys() {
        let s390 =
            parse(b"vendor_id       : IBM/S390\nfeatures\t: esan3 zarch\nprocessor 0: version = 00,  machine = 8561\n");
        let s390 = s390.unwrap();
        assert_eq!((s390[0].cpu, &*s390[0].vendor, &*s390[0].flags), (0, "IBM/S390", "esan3 zarch"));
        let arm = parse(b"processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n\nprocessor\t: 1\n").unwrap();
        assert_eq!((arm.len(), &*arm[0].flags), (2, "fp asimd"));
        assert_eq!(parse(b"processor\t: 0\ncpu\t\t: POWER9\n").unwrap()[0].model_name, "POWER9");
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in
            [&b""[..], b"processor", b"processor : x\n", b"processor : 99999999999999999999\n", b"\xff\n", b"a : b\n"]
        {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        for end in 0..X86.len() - 1 {
            let cut = parse(&X86[..end]);
            assert!(cut.is_err() || X86[end - 1] == b'\n', "{end}");
        }
    }
}
