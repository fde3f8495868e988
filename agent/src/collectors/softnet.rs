//! What each CPU did with packets that came in, from `/proc/net/softnet_stat`.

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, hex, lines};
use crate::snapshot::{Families, Labels, MetricType};

use MetricType::{Counter, Gauge};

/// Column, family, help, type. Later kernels have more columns.
const FAMILIES: [(usize, &str, &str, MetricType); 7] = [
    (0, "node_softnet_processed_total", "Number of processed packets", Counter),
    (1, "node_softnet_dropped_total", "Number of dropped packets", Counter),
    (2, "node_softnet_times_squeezed_total", "Number of times processing packets ran out of quota", Counter),
    (
        8,
        "node_softnet_cpu_collision_total",
        "Number of collision occur while obtaining device lock while transmitting",
        Counter,
    ),
    (9, "node_softnet_received_rps_total", "Number of times cpu woken up received_rps", Counter),
    (10, "node_softnet_flow_limit_count_total", "Number of times flow limit has been reached", Counter),
    (11, "node_softnet_backlog_len", "Softnet backlog status", Gauge),
];

/// Where the CPU's number stands since Linux 5.10. In older files the line's own number has to do.
const CPU: usize = 12;
/// Those that are read.
const COLUMNS: usize = CPU + 1;
/// All kernels have these.
const LEAST_COLUMNS: usize = 9;

struct Cpu {
    labels: Labels,
    columns: [u64; COLUMNS],
    count: usize,
}

/// Hexadecimal numbers, a line for each CPU that is online.
fn parse(text: &[u8], cpus: &mut Cache<Cpu>) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::new("the file is empty"));
    }
    cpus.begin();
    for (number, line) in lines(text)?.enumerate() {
        let mut columns = [0; COLUMNS];
        let mut count = 0;
        for (slot, field) in columns.iter_mut().zip(fields(line)) {
            *slot = hex(field).ok_or_else(|| TextError::expected("a hexadecimal count", field))?;
            count += 1;
        }
        if count < LEAST_COLUMNS {
            return Err(TextError::expected("at least 9 counts of a CPU", line));
        }
        let cpu = if count > CPU { columns[CPU] } else { number as u64 };
        let known = cpus.get(&cpu.to_ne_bytes(), |_| Cpu {
            labels: Labels::new([("cpu", &cpu.to_string())]),
            columns: [0; COLUMNS],
            count: 0,
        });
        (known.columns, known.count) = (columns, count);
    }
    cpus.end();
    Ok(())
}

/// See the module.
pub(crate) struct SoftNet {
    file: KeptFile,
    cpus: Cache<Cpu>,
}

impl SoftNet {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::listing(host.proc("net/softnet_stat")), cpus: Cache::default() }
    }
}

impl Collector for SoftNet {
    fn name(&self) -> &'static str {
        "softnet"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, cpus } = self;
        match file.read(|text| parse(text, cpus)) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
            Err(error) => return nothing_if_absent(error.into()),
        }
        for (column, name, help, kind) in FAMILIES {
            out.family(name, help, kind);
            for cpu in cpus.asked().filter(|cpu| cpu.count > column) {
                out.push(&cpu.labels, cpu.columns[column] as f64);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Vec<(String, u64, usize)>, TextError> {
        let mut cpus = Cache::default();
        parse(text, &mut cpus)?;
        Ok(cpus.asked().map(|c| (c.labels.get("cpu").unwrap().to_owned(), c.columns[0], c.count)).collect())
    }

    #[test]
    fn newer_kernels_name_the_cpu() {
        let text = b"0000000a 0 0 0 0 0 0 0 0 0 0 0 0 0 0\nffffffff 0 0 0 0 0 0 0 0 0 0 0 0000000c 0 0\n";
        assert_eq!(parsed(text).unwrap(), [("0".to_owned(), 10, 13), ("12".to_owned(), 0xffff_ffff, 13)]);
        let text = b"00000001 0 0 0 0 0 0 0 0 0 0\n00000002 0 0 0 0 0 0 0 0\n";
        assert_eq!(parsed(text).unwrap(), [("0".to_owned(), 1, 11), ("1".to_owned(), 2, 9)]);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"\n",
            b"0 0 0 0 0 0 0 0\n",
            b"0 0 0 0 0 0 0 0 0",
            b"0 0 0 0 0 0 0 0 x\n",
            b"10000000000000000 0 0 0 0 0 0 0 0\n",
            b"\xff 0 0 0 0 0 0 0 0\n",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
