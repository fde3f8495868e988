//! `/proc/stat`, read once a pass for the two collectors that live on it: it is dear on machines with many CPUs and
//! interrupts.

use crate::collectors::CollectError;
use crate::host::{HostRoot, KeptFile, TextError, fields, lines, number};

/// Time that one CPU spent in each mode since boot, in clock ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    /// Its number.
    pub(crate) cpu: u32,
    /// user, nice, system, idle, iowait, irq, softirq, steal.
    pub(crate) modes: [u64; 8],
    /// Contained in user and nice: guest, guest nice.
    pub(crate) guest: Option<[u64; 2]>,
}

/// What `/proc/stat` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProcStat {
    /// The CPUs that are online.
    pub(crate) cpus: Vec<CpuTicks>,
    /// Interrupts serviced.
    pub(crate) interrupts: Option<u64>,
    /// Context switches.
    pub(crate) context_switches: Option<u64>,
    /// Boot time, seconds since 1970.
    pub(crate) boot_time: Option<u64>,
    /// Processes and threads made.
    pub(crate) forks: Option<u64>,
    /// Tasks that run or could.
    pub(crate) running: Option<u64>,
    /// Tasks that wait for I/O.
    pub(crate) blocked: Option<u64>,
    /// Software interrupts by type, as [`SOFTIRQS`] has them.
    pub(crate) softirqs: Option<[u64; SOFTIRQS.len()]>,
}

/// The types of software interrupts, in the order of the file, under node_exporter's names.
pub(crate) const SOFTIRQS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

/// Parses the whole file into `into`, whose buffers are kept.
pub(crate) fn parse(text: &[u8], into: &mut ProcStat) -> Result<(), TextError> {
    let mut cpus = std::mem::take(&mut into.cpus);
    cpus.clear();
    *into = ProcStat { cpus, ..ProcStat::default() };
    for line in lines(text)? {
        let mut fields = fields(line);
        let Some(key) = fields.next() else { continue };
        let slot = match key {
            b"cpu" => continue,
            b"intr" => &mut into.interrupts,
            b"ctxt" => &mut into.context_switches,
            b"btime" => &mut into.boot_time,
            b"processes" => &mut into.forks,
            b"procs_running" => &mut into.running,
            b"procs_blocked" => &mut into.blocked,
            b"softirq" => {
                fields.number("the count of all software interrupts")?;
                let mut softirqs = [0; SOFTIRQS.len()];
                for softirq in &mut softirqs {
                    *softirq = fields.number("a count of software interrupts")?;
                }
                into.softirqs = Some(softirqs);
                continue;
            }
            key => {
                if let Some(digits) = key.strip_prefix(b"cpu") {
                    let cpu = number(digits).and_then(|cpu| u32::try_from(cpu).ok());
                    let cpu = cpu.ok_or_else(|| TextError::expected("a CPU's number", key))?;
                    let mut modes = [0; 8];
                    for mode in &mut modes {
                        *mode = fields.number("a CPU time")?;
                    }
                    let guest = match (fields.number_if_any("guest time")?, fields.number_if_any("guest time")?) {
                        (Some(user), Some(nice)) => Some([user, nice]),
                        _ => None,
                    };
                    into.cpus.push(CpuTicks { cpu, modes, guest });
                }
                continue;
            }
        };
        *slot = Some(fields.number("a count")?);
    }
    if into.cpus.is_empty() {
        return Err(TextError::new("no line begins with cpu0 or another CPU: the file is empty or cut"));
    }
    Ok(())
}

/// The file, and what it said in this pass.
#[derive(Debug)]
pub(crate) struct ProcStatFile {
    file: KeptFile,
    reading: ProcStat,
    fresh: bool,
}

impl ProcStatFile {
    /// Below the host's procfs.
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::record(host.proc("stat")), reading: ProcStat::default(), fresh: false }
    }

    /// A pass begins: what was read before is old.
    pub(crate) fn begin(&mut self) {
        self.fresh = false;
    }

    /// What the file says in this pass.
    pub(crate) fn current(&mut self) -> Result<&ProcStat, CollectError> {
        if !self.fresh {
            let Self { file, reading, .. } = self;
            file.read(|text| parse(text, reading))?.map_err(CollectError::malformed(file.path()))?;
            self.fresh = true;
        }
        Ok(&self.reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
cpu  30 3 33 300 3 3 3 3 3 3
cpu0 10 1 11 100 1 2 3 4 5 6
cpu12 20 2 22 200 2 1 0 0 0 0
intr 777 0 5 6
ctxt 888
btime 1700000000
processes 999
procs_running 2
procs_blocked 1
softirq 55 1 2 3 4 5 6 7 8 9 10
";

    fn parsed(text: &[u8]) -> Result<ProcStat, TextError> {
        let mut stat = ProcStat::default();
        parse(text, &mut stat).map(|()| stat)
    }

    #[test]
    fn reads_cpus_and_counts() {
        let stat = parsed(TEXT.as_bytes()).unwrap();
        assert_eq!(stat.cpus.len(), 2);
        assert_eq!(stat.cpus[0], CpuTicks { cpu: 0, modes: [10, 1, 11, 100, 1, 2, 3, 4], guest: Some([5, 6]) });
        assert_eq!(stat.cpus[1].cpu, 12);
        assert_eq!(stat.interrupts, Some(777));
        assert_eq!((stat.context_switches, stat.boot_time, stat.forks), (Some(888), Some(1_700_000_000), Some(999)));
        assert_eq!((stat.running, stat.blocked), (Some(2), Some(1)));
        assert_eq!(stat.softirqs, Some([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    }

    #[test]
    fn a_second_parse_leaves_nothing_of_the_first() {
        let mut stat = parsed(TEXT.as_bytes()).unwrap();
        parse(b"cpu3 1 2 3 4 5 6 7 8\n", &mut stat).unwrap();
        assert_eq!(stat.cpus, [CpuTicks { cpu: 3, modes: [1, 2, 3, 4, 5, 6, 7, 8], guest: None }]);
        assert_eq!(stat.interrupts, None);
    }

    #[test]
    fn what_is_cut_or_garbage_is_an_error() {
        for bad in [
            &b""[..],
            b"\n",
            b"cpu  1 2 3 4 5 6 7 8 9 10\n",
            b"cpu0 1 2 3",
            b"cpu0 1 2 3 4 5 6 7 99999999999999999999\n",
            b"cpu0 1 2 3 4 5 6 7 -8\n",
            b"cpux 1 2 3 4 5 6 7 8\n",
            b"cpu99999999999 1 2 3 4 5 6 7 8\n",
            b"cpu0 1 2 3 4 5 6 7 8\nctxt\n",
            b"cpu0 1 2 3 4 5 6 7 8\nsoftirq 5 1 2 2\n",
            b"\x00\xff\xfe garbage \x80",
        ] {
            assert!(parsed(bad).is_err(), "{:?}", bad.escape_ascii().to_string());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{:?}", bad.escape_ascii().to_string());
        }
        // Cut anywhere: an error or less, never a panic.
        for end in 0..TEXT.len() {
            let _ = parsed(&TEXT.as_bytes()[..end]);
        }
    }
}
