//! What log inputs tell of themselves on `/metrics`.

use crate::snapshot::{Families, Labels};

/// Of one input, since the agent started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) truncated: u64,
    pub(crate) records: u64,
    pub(crate) errors: u64,
    /// Files: open, known, bytes not taken yet, given up.
    pub(crate) open: u64,
    pub(crate) watched: u64,
    pub(crate) behind: u64,
    pub(crate) lost: u64,
    /// Messages and connections that were turned away, and datagrams that the kernel dropped.
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
}

/// As of the last second.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub(super) inputs: Vec<(String, Counts)>,
    /// What the inputs count of their lines.
    pub counted: logs::Counts,
    /// The spool takes nothing now.
    pub(super) waits: bool,
}

impl Told {
    /// As metrics of the agent. Names of inputs come from the configuration.
    pub fn describe(&self, out: &mut Families) {
        if self.inputs.is_empty() {
            return;
        }
        let mut each = |counter: bool, name: &'static str, help: &'static str, value: fn(&Counts) -> u64| {
            match counter {
                true => out.counter(name, help),
                false => out.gauge(name, help),
            }
            for (input, counts) in &self.inputs {
                out.push(&Labels::new([("input", input.as_str())]), value(counts) as f64);
            }
        };
        each(true, "utilizer_agent_logs_lines_total", "Lines that were read.", |of| of.lines);
        each(true, "utilizer_agent_logs_bytes_total", "Bytes of the lines that were read.", |of| of.bytes);
        each(
            true,
            "utilizer_agent_logs_truncated_bytes_total",
            "Bytes that were left out of lines that are longer than `max_line`.",
            |of| of.truncated,
        );
        each(true, "utilizer_agent_logs_records_total", "Records that were made of lines.", |of| of.records);
        each(true, "utilizer_agent_logs_errors_total", "Faults of an input: what could not be read.", |of| of.errors);
        each(false, "utilizer_agent_logs_files_watched", "Files that are known.", |of| of.watched);
        each(false, "utilizer_agent_logs_files_open", "Files that are open.", |of| of.open);
        each(
            false,
            "utilizer_agent_logs_behind_bytes",
            "Bytes of files that are there and are not in the spool.",
            |of| of.behind,
        );
        each(
            true,
            "utilizer_agent_logs_files_lost_total",
            "Files that were gone before they were read to their end.",
            |of| of.lost,
        );
        each(
            true,
            "utilizer_agent_logs_refused_total",
            "Messages and connections of syslog that `allow` or `max_connections` turned away.",
            |of| of.refused,
        );
        each(
            true,
            "utilizer_agent_logs_dropped_total",
            "Datagrams of syslog that the kernel dropped, since they came faster than they were read.",
            |of| of.dropped,
        );
        out.gauge("utilizer_agent_logs_waiting", "1 while log inputs do not read, since the spool takes nothing.");
        out.value(f64::from(u8::from(self.waits)));
    }
}
