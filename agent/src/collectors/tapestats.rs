//! I/O of tape drives, from `/sys/class/scsi_tape`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::collectors::devices::{Devices, index};
use crate::collectors::table::{self, Column, Row, Scale};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::pattern::Pattern;
use crate::snapshot::{Families, Labels, MetricType};

use MetricType::{Counter, Gauge};
use Scale::{Nanoseconds, Whole};

macro_rules! columns {
    ($($file:literal $name:literal $kind:ident $scale:ident $help:literal),* $(,)?) => {
        [$(Column {
            file: concat!("stats/", $file),
            family: concat!("node_tape_", $name),
            help: $help,
            kind: $kind,
            scale: $scale,
        }),*]
    };
}

const COLUMNS: [Column; 10] = columns![
    "in_flight" "io_now" Gauge Whole "The number of I/Os currently outstanding to this device.",
    "other_cnt" "io_others_total" Counter Whole
        "The number of I/Os issued to the tape drive other than read or write commands. The time taken to complete these \
         commands uses the following calculation \
         io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
    "io_ns" "io_time_seconds_total" Counter Nanoseconds
        "The amount of time spent waiting for all I/O to complete (including read and write). This includes tape movement \
         commands such as seeking between file or set marks and implicit tape movement such as when rewind on close tape \
         devices are used.",
    "read_byte_cnt" "read_bytes_total" Counter Whole "The number of bytes read from the tape drive.",
    "read_ns" "read_time_seconds_total" Counter Nanoseconds
        "The amount of time spent waiting for read requests to complete.",
    "read_cnt" "reads_completed_total" Counter Whole "The number of read requests issued to the tape drive.",
    "resid_cnt" "residual_total" Counter Whole
        "The number of times during a read or write we found the residual amount to be non-zero. This should mean that a \
         program is issuing a read larger thean the block size on tape. For write not all data made it to tape.",
    "write_ns" "write_time_seconds_total" Counter Nanoseconds
        "The amount of time spent waiting for write requests to complete.",
    "write_cnt" "writes_completed_total" Counter Whole "The number of write requests issued to the tape drive.",
    "write_byte_cnt" "written_bytes_total" Counter Whole "The number of bytes written to the tape drive.",
];

/// `[collectors.tapestats]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show no drives that match.
    pub ignored_devices: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ignored_devices: Pattern::fixed("^$") }
    }
}

/// See the module.
pub(crate) struct TapeStats {
    settings: Settings,
    drives: Devices<Row>,
}

impl TapeStats {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self { settings: settings.clone(), drives: Devices::new(host.sys("class/scsi_tape")) }
    }
}

impl Collector for TapeStats {
    fn name(&self) -> &'static str {
        "tapestats"
    }

    fn begin(&mut self, pass: Pass) {
        self.drives.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { settings, drives } = self;
        // A drive has more entries, by how it is opened: nst0, st0a and so on.
        let make = |name: &str, place: &Path| {
            let shown = index(name, "st").is_some() && !settings.ignored_devices.matches(name);
            shown.then(|| Row::new(place, Labels::new([("device", name)]), &COLUMNS))
        };
        let Some(rows) = drives.get(make)? else { return Ok(Outcome::Nothing) };
        let rows = |visit: &mut dyn FnMut(&mut Row) -> Result<(), CollectError>| rows.iter_mut().try_for_each(visit);
        if table::collect(&COLUMNS, rows, out)? {
            drives.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_drive_is_shown_once_and_garbage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["st0", "nst0", "st0a", "st1"] {
            let place = dir.path().join("class/scsi_tape").join(name).join("stats");
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("read_ns"), "1500000000\n").unwrap();
        }
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = TapeStats::new(&host, &Settings { ignored_devices: Pattern::new("1$").unwrap() });
        let mut out = Families::default();
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        assert_eq!(out.single("node_tape_read_time_seconds_total"), Some(1.5));
        fs::write(dir.path().join("class/scsi_tape/st0/stats/read_ns"), "\u{1}").unwrap();
        let error = collector.collect(&mut Families::default()).unwrap_err().to_string();
        assert!(error.contains("st0/stats/read_ns"), "{error}");
    }
}
