//! Time lost to waiting for CPU, memory and I/O, and to interrupts, from `/proc/pressure`. Kernels may lack it or have it
//! switched off.

use crate::collectors::{CollectError, Collector, Outcome, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines, number};
use crate::snapshot::Families;

const CPU_WAITING: [&str; 2] =
    ["node_pressure_cpu_waiting_seconds_total", "Total time in seconds that processes have waited for CPU time"];
const IO_WAITING: [&str; 2] =
    ["node_pressure_io_waiting_seconds_total", "Total time in seconds that processes have waited due to IO congestion"];
const IO_STALLED: [&str; 2] = [
    "node_pressure_io_stalled_seconds_total",
    "Total time in seconds no process could make progress due to IO congestion",
];
const MEMORY_WAITING: [&str; 2] =
    ["node_pressure_memory_waiting_seconds_total", "Total time in seconds that processes have waited for memory"];
const MEMORY_STALLED: [&str; 2] = [
    "node_pressure_memory_stalled_seconds_total",
    "Total time in seconds no process could make progress due to memory congestion",
];
const IRQ_STALLED: [&str; 2] = [
    "node_pressure_irq_stalled_seconds_total",
    "Total time in seconds no process could make progress due to IRQ congestion",
];

/// See the module.
pub(crate) struct Pressure {
    cpu: KeptFile,
    io: KeptFile,
    memory: KeptFile,
    /// Since Linux 6.1, and only if it accounts for interrupts' time. `None` once it was not there.
    irq: Option<KeptFile>,
}

impl Pressure {
    pub(crate) fn new(host: &HostRoot) -> Self {
        let file = |name| KeptFile::record(host.proc("pressure").join(name));
        Self { cpu: file("cpu"), io: file("io"), memory: file("memory"), irq: Some(file("irq")) }
    }
}

/// Microseconds since boot in which some, and in which all tasks that could run waited.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stalls {
    some: Option<u64>,
    full: Option<u64>,
}

fn parse(text: &[u8]) -> Result<Stalls, TextError> {
    let mut stalls = Stalls::default();
    for line in lines(text)? {
        let mut fields = fields(line);
        let slot = match fields.next() {
            Some(b"some") => &mut stalls.some,
            Some(b"full") => &mut stalls.full,
            _ => return Err(TextError::expected("a line of some or full", line)),
        };
        let total = fields.find_map(|field| field.strip_prefix(b"total=")).and_then(number);
        *slot = Some(total.ok_or_else(|| TextError::expected("total= and a number", line))?);
    }
    // Interrupts have only "full", old kernels' CPU only "some".
    match stalls {
        Stalls { some: None, full: None } => Err(TextError::new("no line begins with some or full: the file is empty")),
        stalls => Ok(stalls),
    }
}

fn read(file: &mut KeptFile) -> Result<Stalls, CollectError> {
    file.read(parse)?.map_err(CollectError::malformed(file.path()))
}

impl Collector for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let cpu = match read(&mut self.cpu) {
            Ok(cpu) => cpu,
            Err(error) => return nothing_if_absent(error),
        };
        let (io, memory) = (read(&mut self.io)?, read(&mut self.memory)?);
        let irq = match self.irq.as_mut().map(read) {
            Some(Err(CollectError::Read(error))) if error.is_nothing_here() => {
                self.irq = None;
                None
            }
            irq => irq.transpose()?,
        };
        for ([name, help], microseconds) in [
            (CPU_WAITING, cpu.some),
            (IO_STALLED, io.full),
            (IO_WAITING, io.some),
            (IRQ_STALLED, irq.and_then(|irq| irq.full)),
            (MEMORY_STALLED, memory.full),
            (MEMORY_WAITING, memory.some),
        ] {
            if let Some(microseconds) = microseconds {
                out.counter(name, help);
                out.value(microseconds as f64 / 1e6);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_totals() {
        let text =
            b"some avg10=1.25 avg60=0.00 avg300=0.00 total=1402\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(parse(text).unwrap(), Stalls { some: Some(1402), full: Some(7) });
        assert_eq!(parse(b"some avg10=0.00 total=3\n").unwrap(), Stalls { some: Some(3), full: None });
        assert_eq!(parse(b"full avg10=0.00 total=9\n").unwrap(), Stalls { some: None, full: Some(9) });
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"some",
            b"some avg10=0.00 total=",
            b"half total=1\n",
            b"some total=99999999999999999999",
            b"\xff",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parse(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_kernel_without_it_has_nothing_here() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { proc: dir.path().into(), ..HostRoot::default() };
        assert_eq!(Pressure::new(&host).collect(&mut Families::default()).unwrap(), Outcome::Nothing);
    }
}
