//! I/O of each block device, from `/proc/diskstats`, and what the device is.

mod info;

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::devices::Rarely;
use crate::collectors::{CollectError, Collector, Outcome, Pass, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::pattern::{self, Pattern};
use crate::snapshot::{Families, Labels, MetricType};
use info::Info;

/// What a column's number is multiplied with to get to base units.
#[derive(Clone, Copy)]
enum Scale {
    Count,
    /// The kernel's sectors here are 512 bytes, whatever the device's own are.
    Sectors,
    Milliseconds,
}

use MetricType::{Counter, Gauge};
use Scale::{Count, Milliseconds, Sectors};

/// The columns after the name, in the file's order: family, help, type, scale.
const COLUMNS: [(&str, &str, MetricType, Scale); 17] = [
    ("node_disk_reads_completed_total", "The total number of reads completed successfully.", Counter, Count),
    ("node_disk_reads_merged_total", "The total number of reads merged.", Counter, Count),
    ("node_disk_read_bytes_total", "The total number of bytes read successfully.", Counter, Sectors),
    ("node_disk_read_time_seconds_total", "The total number of seconds spent by all reads.", Counter, Milliseconds),
    ("node_disk_writes_completed_total", "The total number of writes completed successfully.", Counter, Count),
    ("node_disk_writes_merged_total", "The number of writes merged.", Counter, Count),
    ("node_disk_written_bytes_total", "The total number of bytes written successfully.", Counter, Sectors),
    (
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        Counter,
        Milliseconds,
    ),
    ("node_disk_io_now", "The number of I/Os currently in progress.", Gauge, Count),
    ("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os.", Counter, Milliseconds),
    ("node_disk_io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os.", Counter, Milliseconds),
    // Since Linux 4.18.
    ("node_disk_discards_completed_total", "The total number of discards completed successfully.", Counter, Count),
    ("node_disk_discards_merged_total", "The total number of discards merged.", Counter, Count),
    ("node_disk_discarded_sectors_total", "The total number of sectors discarded successfully.", Counter, Count),
    (
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
        Counter,
        Milliseconds,
    ),
    // Since Linux 5.5.
    ("node_disk_flush_requests_total", "The total number of flush requests completed successfully", Counter, Count),
    (
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        Counter,
        Milliseconds,
    ),
];

/// The first kernels with this file had these; fewer means that a line was cut.
const LEAST_COLUMNS: usize = 11;

/// `[collectors.diskstats]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only devices that match.
    pub device_include: Pattern,
    /// Show no devices that match; RAM disks, loops, floppies and partitions by default.
    pub device_exclude: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device_include: Pattern::default(),
            device_exclude: Pattern::fixed(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"),
        }
    }
}

/// One device's columns.
struct Device {
    /// `None` for a device that is not shown: decided once, at its first sight.
    labels: Option<Labels>,
    columns: [u64; COLUMNS.len()],
    count: usize,
    /// Major and minor number. A name may come back with others.
    numbers: (u64, u64),
    /// What it is, of the numbers that it was read for.
    info: Option<((u64, u64), Info)>,
    /// It was read once only. udev may have come later than the first sight of the device.
    is_new: bool,
}

impl Device {
    fn new(name: &str, settings: &Settings) -> Self {
        let shown = pattern::shows(&settings.device_include, &settings.device_exclude, name);
        Self {
            labels: shown.then(|| Labels::new([("device", name)])),
            columns: [0; COLUMNS.len()],
            count: 0,
            numbers: (0, 0),
            info: None,
            is_new: false,
        }
    }
}

/// See the module.
pub(crate) struct DiskStats {
    host: HostRoot,
    rarely: Rarely,
    /// This pass is one of the interval.
    at_interval: bool,
    file: KeptFile,
    settings: Settings,
    devices: Cache<Device>,
}

impl DiskStats {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self {
            host: host.clone(),
            rarely: Rarely::new(),
            at_interval: false,
            file: KeptFile::listing(host.proc("diskstats")),
            settings: settings.clone(),
            devices: Cache::default(),
        }
    }
}

fn parse(text: &[u8], settings: &Settings, devices: &mut Cache<Device>) -> Result<(), TextError> {
    devices.begin();
    for line in lines(text)? {
        let mut fields = fields(line);
        let numbers = (fields.number("a device's major number")?, fields.number("a device's minor number")?);
        let device = devices.get(fields.text("a device's name")?, |name| Device::new(name, settings));
        device.numbers = numbers;
        device.count = 0;
        // Most devices of a host are not shown: their numbers need not be read.
        if device.labels.is_none() {
            continue;
        }
        for slot in &mut device.columns {
            let Some(number) = fields.number_if_any("a disk statistic")? else { break };
            *slot = number;
            device.count += 1;
        }
        if device.count < LEAST_COLUMNS {
            return Err(TextError::expected("at least 11 statistics of a device", line));
        }
    }
    devices.end();
    Ok(())
}

impl Collector for DiskStats {
    fn name(&self) -> &'static str {
        "diskstats"
    }

    fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
        self.at_interval = pass == Pass::Interval;
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { host, rarely, at_interval, file, settings, devices } = self;
        match file.read(|text| parse(text, settings, devices)) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(file.path()))?,
            // Kernels without block devices have no such file.
            Err(error) => return nothing_if_absent(error.into()),
        }
        for (column, (name, help, kind, scale)) in COLUMNS.into_iter().enumerate() {
            out.family(name, help, kind);
            for device in devices.asked().filter(|device| device.count > column) {
                if let Some(labels) = &device.labels {
                    let value = device.columns[column] as f64;
                    out.push(
                        labels,
                        match scale {
                            Count => value,
                            Sectors => value * 512.0,
                            Milliseconds => value / 1000.0,
                        },
                    );
                }
            }
        }

        let all_due = rarely.is_due();
        for device in devices.asked_mut() {
            let Some(name) = device.labels.as_ref().and_then(|labels| labels.get("device")) else { continue };
            let known = device.info.as_ref().is_some_and(|(numbers, _)| *numbers == device.numbers);
            if !known || all_due || (device.is_new && *at_interval) {
                let info = Info::read(host, name, device.numbers);
                device.info = Some((device.numbers, info));
                device.is_new = !known;
            }
        }
        let described = devices.asked().filter_map(|device| {
            let (_, info) = device.info.as_ref()?;
            Some((device.labels.as_ref()?, info))
        });
        info::collect(described, out);
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Cache<Device>, TextError> {
        let mut devices = Cache::default();
        parse(text, &Settings::default(), &mut devices).map(|()| devices)
    }

    #[test]
    fn the_default_exclusion_is_node_exporters() {
        let exclude = Settings::default().device_exclude;
        for out in ["ram0", "zram1", "loop12", "fd0", "sda1", "hdc12", "vdb3", "xvda1", "nvme0n1p2", "nvme12n34p56"] {
            assert!(exclude.matches(out), "{out}");
        }
        for shown in [
            "sda",
            "vda",
            "sdaa",
            "sdaa1",
            "nvme0n1",
            "nvme0c0n1",
            "dm-0",
            "md127",
            "mmcblk0p1",
            "sr0",
            "7",
            "",
            "ä1",
            "nvmen1p1",
        ] {
            assert!(!exclude.matches(shown), "{shown}");
        }
    }

    #[test]
    fn old_kernels_have_fewer_columns() {
        let text = b"   8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n 8 16 sdb 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19\n";
        let devices = parsed(text).unwrap();
        let counts: Vec<_> = devices.asked().map(|d| d.count).collect();
        assert_eq!(counts, [11, 17]);
    }

    #[test]
    fn what_a_device_is_is_read_rarely_and_for_new_ones_twice() {
        let dir = tempfile::tempdir().unwrap();
        let below = |name: &str| dir.path().join(name);
        let host = HostRoot { proc: below(""), sys: below("sys"), udev: below("udev"), ..HostRoot::default() };
        std::fs::create_dir(&host.udev).unwrap();
        let line = |minor: u32| format!(" 8 {minor} sda 1 2 3 4 5 6 7 8 9 10 11\n 7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n");
        let model = |minor: u32, model: &str| {
            std::fs::write(host.udev(format!("b8:{minor}")), format!("E:ID_MODEL={model}\n")).unwrap();
        };
        std::fs::write(below("diskstats"), line(0)).unwrap();
        let mut collector = DiskStats::new(&host, &Settings::default());
        let mut shown = |pass| {
            let mut out = Families::default();
            collector.begin(pass);
            collector.collect(&mut out).unwrap();
            let samples = out.samples("node_disk_info");
            assert_eq!(samples.len(), 1, "a loop is not shown");
            samples[0].labels.get("model").unwrap().to_owned()
        };
        assert_eq!(shown(Pass::Interval), "", "udev is late");
        model(0, "first");
        assert_eq!(shown(Pass::Scrape), "");
        assert_eq!(shown(Pass::Interval), "first");
        model(0, "changed");
        assert_eq!(shown(Pass::Interval), "first", "not at each pass");
        model(16, "second");
        std::fs::write(below("diskstats"), line(16)).unwrap();
        assert_eq!(shown(Pass::Scrape), "second", "another device under the name");
        model(16, "third");
        assert_eq!((0..60).map(|_| shown(Pass::Interval)).next_back().unwrap(), "third");
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b"8"[..],
            b"8 0",
            b"8 0 sda",
            b"8 0 sda 1 2 3",
            b"8 0 sda 1 2 3 4 5 6 7 8 9 10 x",
            b"8 0 sda 1 2 3 4 5 6 7 8 9 10 99999999999999999999",
            b"\xff\xfe\n",
            b"\n\n",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }
}
