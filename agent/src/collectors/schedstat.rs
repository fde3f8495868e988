//! How long each CPU ran tasks and how long tasks waited for it, from `/proc/schedstat`. Kernels may be built without.

use crate::collectors::cache::Cache;
use crate::collectors::devices::Rarely;
use crate::collectors::{CollectError, Collector, Outcome, Pass, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::snapshot::{Families, Labels};

/// Of each CPU: time it ran and time tasks waited, in nanoseconds, and time slices. The file has these three last.
const COLUMNS: [(&str, &str, f64); 3] = [
    ("node_schedstat_running_seconds_total", "Number of seconds CPU spent running a process.", 1e9),
    ("node_schedstat_waiting_seconds_total", "Number of seconds spent by processing waiting for this CPU.", 1e9),
    ("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.", 1.0),
];

/// Counts of calls that stand before them.
const SKIPPED: usize = 6;

struct Cpu {
    labels: Labels,
    columns: [u64; COLUMNS.len()],
}

/// See the module.
pub(crate) struct SchedStat {
    file: KeptFile,
    /// When to look for a file that was not there: most kernels never get it.
    absent: Option<Rarely>,
    cpus: Cache<Cpu>,
}

impl SchedStat {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::listing(host.proc("schedstat")), absent: None, cpus: Cache::default() }
    }
}

fn parse(text: &[u8], cpus: &mut Cache<Cpu>) -> Result<(), TextError> {
    cpus.begin();
    for line in lines(text)? {
        // Lines of a version, a time and scheduling domains stand between those of the CPUs.
        let Some(rest) = line.strip_prefix(b"cpu") else { continue };
        let mut fields = fields(rest);
        let name = fields.text("a CPU's number")?;
        if !name.iter().all(u8::is_ascii_digit) {
            return Err(TextError::expected("a CPU's number", name));
        }
        let cpu = cpus.get(name, |cpu| Cpu { labels: Labels::new([("cpu", cpu)]), columns: [0; COLUMNS.len()] });
        for _ in 0..SKIPPED {
            fields.number("a count of the scheduler")?;
        }
        for slot in &mut cpu.columns {
            *slot = fields.number("a time of the scheduler")?;
        }
    }
    cpus.end();
    match cpus.asked().next() {
        Some(_) => Ok(()),
        None => Err(TextError::new("no line begins with cpu0 or another CPU: the file is empty or cut")),
    }
}

impl Collector for SchedStat {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn begin(&mut self, pass: Pass) {
        if let Some(rarely) = &mut self.absent {
            rarely.begin(pass);
        }
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, absent, cpus } = self;
        if absent.as_mut().is_some_and(|rarely| !rarely.is_due()) {
            return Ok(Outcome::Nothing);
        }
        match file.read(|text| parse(text, cpus)) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
            Err(error) => {
                let nothing = nothing_if_absent(error.into())?;
                // Due was now.
                absent.get_or_insert_with(Rarely::new).is_due();
                return Ok(nothing);
            }
        }
        *absent = None;
        for (column, (name, help, divisor)) in COLUMNS.into_iter().enumerate() {
            out.counter(name, help);
            for cpu in cpus.asked() {
                out.push(&cpu.labels, cpu.columns[column] as f64 / divisor);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Cache<Cpu>, TextError> {
        let mut cpus = Cache::default();
        parse(text, &mut cpus).map(|()| cpus)
    }

    const TEXT: &[u8] = b"version 15\ntimestamp 4300000000\ncpu0 0 0 0 0 0 0 2000000000 500 7\ndomain0 MC 03 1 2 3\n\
        cpu12 1 2 3 4 5 6 7 8 9\n";

    #[test]
    fn reads_each_cpu() {
        let cpus = parsed(TEXT).unwrap();
        let found: Vec<_> = cpus.asked().map(|cpu| (cpu.labels.get("cpu").unwrap(), cpu.columns)).collect();
        assert_eq!(found, [("0", [2_000_000_000, 500, 7]), ("12", [7, 8, 9])]);
    }

    #[test]
    fn a_file_that_was_not_there_is_looked_for_rarely() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { proc: dir.path().into(), ..HostRoot::default() };
        let mut collector = SchedStat::new(&host);
        let mut run = || {
            collector.begin(Pass::Interval);
            collector.collect(&mut Families::default()).unwrap()
        };
        assert_eq!(run(), Outcome::Nothing);
        std::fs::write(dir.path().join("schedstat"), TEXT).unwrap();
        let passes = (0..100).take_while(|_| run() == Outcome::Nothing).count();
        assert!(passes < 60, "{passes}");
        assert_eq!(run(), Outcome::Data);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"version 15\n",
            b"cpu0 0 0 0 0 0 0 1 2\n",
            b"cpu0 0 0 0 0 0 0 1 2 99999999999999999999\n",
            b"cpux 0 0 0 0 0 0 1 2 3\n",
            b"cpu0 0 0 0 0 0 0 1 2 3",
            b"\xff\xfe\n",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
        }
        for end in 0..TEXT.len() {
            let _ = parsed(&TEXT[..end]);
        }
    }
}
