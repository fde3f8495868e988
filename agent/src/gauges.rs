//! The utilization gauges: the few numbers that say how busy a host is, derived once per interval.
//!
//! Pure functions of two readings and the time between them. A value that can't be told is missing: after a counter
//! ran backwards, where the clock stood still, without swap, at the first reading. None is ever negative or NaN.

use std::sync::Arc;
use std::time::Duration;

use crate::processes::ProcessUsage;
use crate::snapshot::{Families, Labels, Sample};

/// One derived value.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Its name in messages and rows. On `/metrics` it has the prefix `utilizer_`.
    pub name: &'static str,
    /// The device or mount that it is about, where it is about one.
    pub labels: Labels,
    /// In the unit that the name ends with.
    pub value: f64,
}

/// The reading before, for gauges that are about an interval.
#[derive(Debug, Clone, Copy)]
pub struct Earlier<'a> {
    /// What was read.
    pub families: &'a Families,
    /// How long before, by a clock that is never set.
    pub elapsed: Duration,
}

/// A gauge's names and help.
struct Definition {
    name: &'static str,
    exposed: &'static str,
    help: &'static str,
}

macro_rules! definitions {
    ($($name:ident = $text:literal, $help:literal;)*) => {
        $(const $name: &str = $text;)*
        /// In the order in which they are shown.
        const DEFINITIONS: &[Definition] =
            &[$(Definition { name: $name, exposed: concat!("utilizer_", $text), help: $help }),*];
    };
}

definitions! {
    CPU_PERCENT = "cpu_percent", "Share of CPU time that was not idle over the last interval; all CPUs are 100.";
    MEMORY_PERCENT = "memory_percent", "Share of memory that is not available to programs.";
    MEMORY_USED = "memory_used_bytes", "Memory that is not available to programs.";
    MEMORY_TOTAL = "memory_total_bytes", "Memory of the host.";
    SWAP_PERCENT = "swap_percent", "Share of swap space in use; missing without swap.";
    LOAD1 = "load1", "Load average over one minute.";
    DISK_PERCENT = "disk_percent", "Share of the space that users can use which is used, as df has it.";
    DISK_READ = "disk_read_bytes_per_second", "Bytes read from the device over the last interval.";
    DISK_WRITE = "disk_write_bytes_per_second", "Bytes written to the device over the last interval.";
    NETWORK_RECEIVE = "network_receive_bytes_per_second", "Bytes received over the last interval, without lo.";
    NETWORK_TRANSMIT = "network_transmit_bytes_per_second", "Bytes sent over the last interval, without lo.";
    GPU_LOAD = "gpu_load", "Share of the driver's last sample period in which the GPU was busy.";
    GPU_MEMORY_USED = "gpu_memory_used_bytes", "Memory of the GPU in use.";
    GPU_MEMORY_TOTAL = "gpu_memory_total_bytes", "Memory of the GPU.";
    GPU_MEMORY_PERCENT = "gpu_memory_percent", "Share of the GPU's memory in use.";
    GPU_TEMPERATURE = "gpu_temperature_celsius", "Temperature of the GPU.";
    GPU_POWER = "gpu_power_watts", "Power that the GPU draws.";
    PRESSURE_CPU = "pressure_cpu_waiting_percent", "Share of the last interval in which some task waited for a CPU.";
    PRESSURE_IO = "pressure_io_waiting_percent", "Share of the last interval in which some task waited for I/O.";
    PRESSURE_MEMORY = "pressure_memory_waiting_percent",
        "Share of the last interval in which some task waited for memory.";
}

/// All gauges that can be told from a reading and the one before it.
pub fn gauges(now: &Families, earlier: Option<Earlier<'_>>) -> Vec<Gauge> {
    let mut out = Gauges(Vec::with_capacity(32));
    let earlier = earlier.filter(|earlier| !earlier.elapsed.is_zero());

    if let Some(earlier) = earlier {
        out.one(CPU_PERCENT, cpu_percent(now, earlier.families));
    }
    memory(now, &mut out);
    out.one(LOAD1, now.single("node_load1"));
    disk_percent(now, &mut out);
    gpus(now, &mut out);
    if let Some(earlier) = earlier {
        out.rates(DISK_READ, now, earlier, "node_disk_read_bytes_total");
        out.rates(DISK_WRITE, now, earlier, "node_disk_written_bytes_total");
        out.rates(NETWORK_RECEIVE, now, earlier, "node_network_receive_bytes_total");
        out.rates(NETWORK_TRANSMIT, now, earlier, "node_network_transmit_bytes_total");
        for (gauge, family) in [
            (PRESSURE_CPU, "node_pressure_cpu_waiting_seconds_total"),
            (PRESSURE_IO, "node_pressure_io_waiting_seconds_total"),
            (PRESSURE_MEMORY, "node_pressure_memory_waiting_seconds_total"),
        ] {
            out.one(gauge, share_of_time(now, earlier, family));
        }
    }
    out.0
}

/// The gauges that were found, with what is common to all: no value that is not a number gets in.
struct Gauges(Vec<Gauge>);

impl Gauges {
    fn push(&mut self, name: &'static str, labels: Labels, value: f64) {
        if value.is_finite() && value >= 0.0 {
            self.0.push(Gauge { name, labels, value });
        }
    }

    fn one(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.push(name, Labels::none(), value);
        }
    }

    /// Per second, for each device of a counter.
    fn rates(&mut self, name: &'static str, now: &Families, earlier: Earlier<'_>, family: &str) {
        let before = earlier.families.samples(family);
        for (index, sample) in now.samples(family).iter().enumerate() {
            if sample.labels.get("device") == Some("lo") {
                continue;
            }
            if let Some(increase) = increase(before, index, sample) {
                self.push(name, sample.labels.clone(), increase / earlier.elapsed.as_secs_f64());
            }
        }
    }
}

/// The sample of the same labels, which mostly stands in the same place.
fn counterpart(before: &[Sample], index: usize, sample: &Sample) -> Option<f64> {
    let same = |other: &&Sample| other.labels == sample.labels;
    before.get(index).filter(same).or_else(|| before.iter().find(same)).map(|other| other.value)
}

/// How much a counter grew. `None` where it is new or ran backwards.
fn increase(before: &[Sample], index: usize, sample: &Sample) -> Option<f64> {
    let increase = sample.value - counterpart(before, index, sample)?;
    (increase >= 0.0).then_some(increase)
}

/// The kernel lets idle and iowait step back a little when it corrects its accounts; node_exporter overlooks as much.
const OVERLOOKED_SECONDS: f64 = 3.0;

/// 100 is all CPUs. Guest time is contained in user time and not counted again. A CPU that is new, or whose counters
/// began anew, is left out of this interval.
fn cpu_percent(now: &Families, before: &Families) -> Option<f64> {
    let before = before.samples("node_cpu_seconds_total");
    let now = now.samples("node_cpu_seconds_total");
    let (mut busy, mut total) = (0.0, 0.0);
    let mut index = 0;
    // The samples of one CPU stand together.
    for cpu in now.chunk_by(|a, b| a.labels.get("cpu") == b.labels.get("cpu")) {
        let (mut cpu_busy, mut cpu_total, mut known) = (0.0, 0.0, true);
        for sample in cpu {
            let step = counterpart(before, index, sample).map(|earlier| sample.value - earlier);
            index += 1;
            match step {
                Some(step) if step > -OVERLOOKED_SECONDS => {
                    let step = step.max(0.0);
                    cpu_total += step;
                    if !matches!(sample.labels.get("mode"), Some("idle" | "iowait")) {
                        cpu_busy += step;
                    }
                }
                _ => known = false,
            }
        }
        if known {
            busy += cpu_busy;
            total += cpu_total;
        }
    }
    (total > 0.0).then(|| busy / total * 100.0)
}

fn memory(now: &Families, out: &mut Gauges) {
    let field = |name| now.single(name);
    let total = field("node_memory_MemTotal_bytes");
    if let (Some(total), Some(available)) = (total, field("node_memory_MemAvailable_bytes")) {
        // In some containers the available memory is the host's and the total is not.
        let used = (total - available).max(0.0);
        if total > 0.0 {
            out.push(MEMORY_PERCENT, Labels::none(), used / total * 100.0);
        }
        out.push(MEMORY_USED, Labels::none(), used);
    }
    out.one(MEMORY_TOTAL, total);
    if let (Some(total), Some(free)) = (field("node_memory_SwapTotal_bytes"), field("node_memory_SwapFree_bytes"))
        && total > 0.0
    {
        out.push(SWAP_PERCENT, Labels::none(), (total - free).max(0.0) / total * 100.0);
    }
}

/// Used of what users can use: blocks that are kept for root are neither.
fn disk_percent(now: &Families, out: &mut Gauges) {
    let free = now.samples("node_filesystem_free_bytes");
    let available = now.samples("node_filesystem_avail_bytes");
    for (index, size) in now.samples("node_filesystem_size_bytes").iter().enumerate() {
        let (Some(free), Some(available)) = (counterpart(free, index, size), counterpart(available, index, size))
        else {
            continue;
        };
        let used = (size.value - free).max(0.0);
        // A file system without blocks (most virtual ones) has no share: 0/0 is kept out by push.
        let label = |name| size.labels.get(name).unwrap_or_default();
        let labels = Labels::new([("device", label("device")), ("mountpoint", label("mountpoint"))]);
        out.push(DISK_PERCENT, labels, used / (used + available) * 100.0);
    }
}

const MEBIBYTE: f64 = 1_048_576.0;

/// Of each GPU as a whole; MIG instances have families, and no gauges.
fn gpus(now: &Families, out: &mut Gauges) {
    let utilization = now.samples("DCGM_FI_DEV_GPU_UTIL");
    let used = now.samples("DCGM_FI_DEV_FB_USED");
    let total = now.samples("DCGM_FI_DEV_FB_TOTAL");
    let temperature = now.samples("DCGM_FI_DEV_GPU_TEMP");
    let power = now.samples("DCGM_FI_DEV_POWER_USAGE");
    for (index, gpu) in now.samples("utilizer_gpu_up").iter().enumerate() {
        let of = |samples| counterpart(samples, index, gpu);
        let label = |name| gpu.labels.get(name).unwrap_or_default();
        let labels = Labels::new([("gpu", label("gpu")), ("name", label("modelName")), ("uuid", label("UUID"))]);
        let mut push = |name, value: Option<f64>| {
            if let Some(value) = value {
                out.push(name, labels.clone(), value);
            }
        };
        let (used, total) = (of(used), of(total));
        push(GPU_LOAD, of(utilization));
        push(GPU_MEMORY_USED, used.map(|used| used * MEBIBYTE));
        push(GPU_MEMORY_TOTAL, total.map(|total| total * MEBIBYTE));
        // A GPU without memory of its own has no share: 0/0 is kept out by push.
        push(GPU_MEMORY_PERCENT, used.zip(total).map(|(used, total)| used / total * 100.0));
        push(GPU_TEMPERATURE, of(temperature));
        push(GPU_POWER, of(power));
    }
    amd_gpus(now, out);
}

/// AMD's, from sysfs. Temperature and power are among hwmon's families only.
fn amd_gpus(now: &Families, out: &mut Gauges) {
    for (index, card) in now.samples("node_drm_card_info").iter().enumerate() {
        // The information has more labels than the figures, which may be missing for some cards.
        let name = card.labels.get("card").unwrap_or_default();
        let of = |family| {
            let samples = now.samples(family);
            let same = |sample: &&Sample| sample.labels.get("card") == Some(name);
            samples.get(index).filter(same).or_else(|| samples.iter().find(same)).map(|sample| sample.value)
        };
        let uuid = card.labels.get("unique_id").unwrap_or_default();
        let labels = Labels::new([("gpu", name), ("name", "AMD GPU"), ("uuid", uuid)]);
        let mut push = |name, value: Option<f64>| {
            if let Some(value) = value {
                out.push(name, labels.clone(), value);
            }
        };
        let (used, total) = (of("node_drm_memory_vram_used_bytes"), of("node_drm_memory_vram_size_bytes"));
        push(GPU_LOAD, of("node_drm_gpu_busy_percent"));
        push(GPU_MEMORY_USED, used);
        push(GPU_MEMORY_TOTAL, total);
        push(GPU_MEMORY_PERCENT, used.zip(total).map(|(used, total)| used / total * 100.0));
    }
}

/// Percent of the interval that a counter of seconds grew by.
fn share_of_time(now: &Families, earlier: Earlier<'_>, family: &str) -> Option<f64> {
    let grown = now.single(family)? - earlier.families.single(family)?;
    // The kernel's clock and ours may differ by a hair.
    (grown >= 0.0).then(|| (grown / earlier.elapsed.as_secs_f64() * 100.0).min(100.0))
}

/// The gauges as families for `/metrics`, under their prefixed names.
pub fn expose(gauges: &[Gauge], out: &mut Families) {
    for definition in DEFINITIONS {
        let mut samples = gauges.iter().filter(|gauge| gauge.name == definition.name).peekable();
        if samples.peek().is_some() {
            out.gauge(definition.exposed, definition.help);
            samples.for_each(|gauge| out.push(&gauge.labels, gauge.value));
        }
    }
}

/// The name on `/metrics` of a gauge that messages and rows know by this name.
pub fn exposed_name(name: &str) -> Option<&'static str> {
    DEFINITIONS.iter().find(|definition| definition.name == name).map(|definition| definition.exposed)
}

/// A family of the top processes.
struct OfProcesses {
    name: &'static str,
    help: &'static str,
    value: fn(&ProcessUsage) -> Option<f64>,
}

/// In the order in which they are shown.
const OF_PROCESSES: [OfProcesses; 9] = [
    OfProcesses {
        name: "utilizer_process_cpu_percent",
        help: "CPU time of the busiest processes over the last interval; one core is 100.",
        value: |usage| Some(usage.cpu_percent),
    },
    OfProcesses {
        name: "utilizer_process_memory_percent",
        help: "Resident memory of the busiest processes, as share of the host's.",
        value: |usage| usage.memory_percent,
    },
    OfProcesses {
        name: "utilizer_process_resident_memory_bytes",
        help: "Resident memory of the busiest processes.",
        value: |usage| Some(usage.resident_memory_bytes),
    },
    OfProcesses {
        name: "utilizer_process_threads",
        help: "Threads of the busiest processes.",
        value: |usage| Some(usage.threads as f64),
    },
    OfProcesses {
        name: "utilizer_process_start_time_seconds",
        help: "When the busiest processes started, since 1970.",
        value: |usage| usage.start_time_seconds,
    },
    OfProcesses {
        name: "utilizer_process_open_fds",
        help: "Open files of the busiest processes.",
        value: |usage| usage.details.open_fds.map(|count| count as f64),
    },
    OfProcesses {
        name: "utilizer_process_max_fds",
        help: "How many files the busiest processes may have open.",
        value: |usage| usage.details.max_fds.map(|count| count as f64),
    },
    OfProcesses {
        name: "utilizer_process_read_bytes_per_second",
        help: "Bytes that the busiest processes read from storage over the last interval.",
        value: |usage| usage.details.read_bytes_per_second,
    },
    OfProcesses {
        name: "utilizer_process_write_bytes_per_second",
        help: "Bytes that the busiest processes wrote to storage over the last interval.",
        value: |usage| usage.details.write_bytes_per_second,
    },
];

/// The top processes as families for `/metrics`. Command lines are not among them: they would make a new series of each.
pub fn expose_processes(top: &[ProcessUsage], out: &mut Families) {
    if top.is_empty() {
        return;
    }
    let labels: Vec<Labels> =
        top.iter().map(|usage| Labels::new([("pid", &*usage.pid.to_string()), ("name", &*usage.name)])).collect();
    for OfProcesses { name, help, value } in OF_PROCESSES {
        out.gauge(name, help);
        for (usage, labels) in top.iter().zip(&labels) {
            if let Some(value) = value(usage) {
                out.push(labels, value);
            }
        }
    }
    out.gauge("utilizer_process_info", "Always 1; the labels say whose the busiest processes are.");
    for usage in top {
        let text = |text: &Option<Arc<str>>| text.clone().unwrap_or_default();
        let details = &usage.details;
        out.push(
            &Labels::new([
                ("pid", &*usage.pid.to_string()),
                ("name", &*usage.name),
                ("user", &*text(&details.user)),
                ("unit", &*text(&details.unit)),
                ("container", &*text(&details.container)),
            ]),
            1.0,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::Details;

    const SECOND: Duration = Duration::from_secs(1);

    /// A sample's family, labels and value.
    type Line<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

    /// Families of counters; lines of one family stand together.
    fn families(lines: &[Line<'_>]) -> Families {
        let mut out = Families::default();
        let mut last = "";
        for (name, labels, value) in lines {
            if *name != last {
                out.counter((*name).to_owned(), "");
                last = name;
            }
            out.push(&Labels::owned(labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))), *value);
        }
        out
    }

    fn cpus(ticks: &[[f64; 4]]) -> Families {
        let mut out = Families::default();
        out.counter("node_cpu_guest_seconds_total", "");
        out.push(&Labels::new([("cpu", "0"), ("mode", "user")]), ticks.first().map_or(0.0, |t| t[0]));
        out.counter("node_cpu_seconds_total", "");
        for (cpu, values) in ticks.iter().enumerate() {
            for (mode, value) in ["user", "system", "idle", "iowait"].into_iter().zip(values) {
                out.push(&Labels::new([("cpu", &*cpu.to_string()), ("mode", mode)]), *value);
            }
        }
        out
    }

    fn cpu(before: &[[f64; 4]], now: &[[f64; 4]]) -> Option<f64> {
        let (before, now) = (cpus(before), cpus(now));
        value(&gauges(&now, Some(Earlier { families: &before, elapsed: SECOND })), CPU_PERCENT)
    }

    fn value(gauges: &[Gauge], name: &str) -> Option<f64> {
        let mut found = gauges.iter().filter(|gauge| gauge.name == name);
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} twice");
        Some(first.value)
    }

    #[test]
    fn a_gpus_gauges_are_those_that_it_tells() {
        let (a, b) = (
            [("gpu", "0"), ("UUID", "GPU-a"), ("modelName", "A")],
            [("gpu", "1"), ("UUID", "GPU-b"), ("modelName", "B")],
        );
        let part = [&a[..], &[("GPU_I_PROFILE", "1g.10gb"), ("GPU_I_ID", "7")]].concat();
        let now = families(&[
            ("DCGM_FI_DEV_GPU_TEMP", &b, 61.0),
            ("DCGM_FI_DEV_GPU_UTIL", &b, 93.0),
            ("DCGM_FI_DEV_FB_TOTAL", &a, 4096.0),
            ("DCGM_FI_DEV_FB_TOTAL", &part, 1024.0),
            ("DCGM_FI_DEV_FB_USED", &a, 1024.0),
            ("DCGM_FI_DEV_FB_USED", &part, 1000.0),
            ("utilizer_gpu_up", &a, 1.0),
            ("utilizer_gpu_up", &b, 1.0),
        ]);
        let gauges = gauges(&now, None);
        let found: Vec<_> =
            gauges.iter().map(|gauge| (gauge.name, gauge.labels.get("gpu").unwrap(), gauge.value)).collect();
        assert_eq!(
            found,
            [
                (GPU_MEMORY_USED, "0", 1024.0 * MEBIBYTE),
                (GPU_MEMORY_TOTAL, "0", 4096.0 * MEBIBYTE),
                (GPU_MEMORY_PERCENT, "0", 25.0),
                (GPU_LOAD, "1", 93.0),
                (GPU_TEMPERATURE, "1", 61.0),
            ]
        );
        assert_eq!((gauges[3].labels.get("name"), gauges[3].labels.get("uuid")), (Some("B"), Some("GPU-b")));
    }

    #[test]
    fn idle_and_iowait_are_idle_and_all_cpus_are_100() {
        assert_eq!(cpu(&[[0.0; 4]; 2], &[[20.0, 10.0, 50.0, 20.0], [50.0, 50.0, 0.0, 0.0]]), Some(65.0));
        assert_eq!(cpu(&[[5.0; 4]], &[[5.0, 5.0, 15.0, 5.0]]), Some(0.0));
        assert_eq!(cpu(&[[5.0; 4]], &[[6.0, 5.0, 5.0, 5.0]]), Some(100.0));
    }

    #[test]
    fn a_cpu_that_stood_still_began_anew_or_is_new_is_left_out() {
        assert_eq!(cpu(&[[5.0; 4]], &[[5.0; 4]]), None);
        assert_eq!(cpu(&[[500.0; 4]], &[[1.0; 4]]), None);
        assert_eq!(cpu(&[[500.0; 4], [0.0; 4]], &[[1.0; 4], [3.0, 0.0, 1.0, 0.0]]), Some(75.0));
        assert_eq!(cpu(&[[0.0; 4]], &[[1.0, 0.0, 1.0, 0.0], [900.0, 0.0, 0.0, 0.0]]), Some(50.0));
        assert_eq!(cpu(&[], &[[1.0; 4]]), None);
        // A correction of idle time: the rest still counts.
        assert_eq!(cpu(&[[10.0; 4]], &[[11.0, 10.0, 11.0, 9.9]]), Some(50.0));
    }

    #[test]
    fn memory_and_swap() {
        let now = families(&[
            ("node_memory_MemTotal_bytes", &[], 1000.0),
            ("node_memory_MemAvailable_bytes", &[], 250.0),
            ("node_memory_SwapTotal_bytes", &[], 0.0),
            ("node_memory_SwapFree_bytes", &[], 0.0),
            ("node_load1", &[], 1.5),
        ]);
        let gauges = gauges(&now, None);
        assert_eq!(value(&gauges, MEMORY_PERCENT), Some(75.0));
        assert_eq!(value(&gauges, MEMORY_USED), Some(750.0));
        assert_eq!(value(&gauges, MEMORY_TOTAL), Some(1000.0));
        assert_eq!(value(&gauges, SWAP_PERCENT), None);
        assert_eq!(value(&gauges, LOAD1), Some(1.5));
        assert_eq!(value(&gauges, CPU_PERCENT), None);
    }

    #[test]
    fn disks_are_as_full_as_df_says() {
        let labels = |point| [("device", "/dev/a"), ("fstype", "ext4"), ("mountpoint", point)];
        let now = families(&[
            ("node_filesystem_avail_bytes", &labels("/"), 20.0),
            ("node_filesystem_avail_bytes", &labels("/empty"), 0.0),
            ("node_filesystem_free_bytes", &labels("/"), 40.0),
            ("node_filesystem_free_bytes", &labels("/empty"), 0.0),
            ("node_filesystem_size_bytes", &labels("/"), 100.0),
            ("node_filesystem_size_bytes", &labels("/empty"), 0.0),
            ("node_filesystem_size_bytes", &labels("/only-size"), 7.0),
        ]);
        let found: Vec<_> = gauges(&now, None).into_iter().filter(|gauge| gauge.name == DISK_PERCENT).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].value, 75.0);
        assert_eq!(found[0].labels, Labels::new([("device", "/dev/a"), ("mountpoint", "/")]));
    }

    #[test]
    fn rates_are_per_second_and_without_lo() {
        let at = |eth: f64, lo: f64, disk: f64, waited: f64| {
            families(&[
                ("node_network_receive_bytes_total", &[("device", "lo")], lo),
                ("node_network_receive_bytes_total", &[("device", "eth0")], eth),
                ("node_disk_read_bytes_total", &[("device", "sda")], disk),
                ("node_pressure_io_waiting_seconds_total", &[], waited),
            ])
        };
        let before = at(1000.0, 0.0, 700.0, 10.0);
        let now = at(5000.0, 900.0, 699.0, 10.5);
        let elapsed = Duration::from_secs(2);
        let found = gauges(&now, Some(Earlier { families: &before, elapsed }));
        assert_eq!(value(&found, NETWORK_RECEIVE), Some(2000.0));
        assert_eq!(value(&found, DISK_READ), None, "ran backwards");
        assert_eq!(value(&found, PRESSURE_IO), Some(25.0));
        assert_eq!(value(&found, PRESSURE_CPU), None);
        // No time, no rate.
        assert!(gauges(&now, Some(Earlier { families: &before, elapsed: Duration::ZERO })).is_empty());
    }

    #[test]
    fn devices_may_come_go_and_change_places() {
        let at = |devices: &[(&str, f64)]| {
            let mut out = Families::default();
            out.counter("node_disk_written_bytes_total", "");
            devices.iter().for_each(|(name, value)| out.push(&Labels::new([("device", name)]), *value));
            out
        };
        let (before, now) =
            (at(&[("a", 10.0), ("b", 20.0), ("c", 30.0)]), at(&[("new", 99.0), ("c", 31.0), ("a", 12.0)]));
        let found: Vec<_> = gauges(&now, Some(Earlier { families: &before, elapsed: SECOND }))
            .into_iter()
            .map(|gauge| (gauge.labels.get("device").unwrap_or_default().to_owned(), gauge.value))
            .collect();
        assert_eq!(found, [("c".to_owned(), 1.0), ("a".to_owned(), 2.0)]);
    }

    #[test]
    fn whatever_the_readings_no_gauge_is_negative_or_no_number() {
        // A small generator with a fixed seed: extremes of all sorts in every place.
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let extremes = [0.0, -1.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 1e-300, 42.5, 1e9];
            extremes[(seed % 10) as usize]
        };
        for _ in 0..5000 {
            let mut reading = || {
                let mut out = cpus(&[[next(), next(), next(), next()], [next(), next(), next(), next()]]);
                for name in [
                    "node_memory_MemTotal_bytes",
                    "node_memory_MemAvailable_bytes",
                    "node_memory_SwapTotal_bytes",
                    "node_memory_SwapFree_bytes",
                    "node_load1",
                    "node_filesystem_size_bytes",
                    "node_filesystem_free_bytes",
                    "node_filesystem_avail_bytes",
                    "node_disk_read_bytes_total",
                    "node_network_transmit_bytes_total",
                    "node_pressure_cpu_waiting_seconds_total",
                ] {
                    out.gauge(name, "");
                    out.value(next());
                }
                out
            };
            let (before, now) = (reading(), reading());
            for gauge in gauges(&now, Some(Earlier { families: &before, elapsed: SECOND })) {
                assert!(gauge.value.is_finite() && gauge.value >= 0.0, "{gauge:?}");
                if gauge.name.ends_with("_percent") && gauge.name != DISK_PERCENT {
                    let bound = if gauge.name.starts_with("cpu") || gauge.name.starts_with("pressure") {
                        100.0
                    } else {
                        f64::MAX
                    };
                    assert!(gauge.value <= bound, "{gauge:?}");
                }
            }
        }
    }

    #[test]
    fn families_for_metrics_carry_the_prefix() {
        let gauges = [
            Gauge { name: DISK_READ, labels: Labels::new([("device", "a")]), value: 1.0 },
            Gauge { name: CPU_PERCENT, labels: Labels::none(), value: 2.0 },
            Gauge { name: DISK_READ, labels: Labels::new([("device", "b")]), value: 3.0 },
        ];
        let mut out = Families::default();
        expose(&gauges, &mut out);
        let names: Vec<_> = out.iter().map(|family| (family.head.name.to_string(), family.samples.len())).collect();
        assert_eq!(
            names,
            [("utilizer_cpu_percent".to_owned(), 1), ("utilizer_disk_read_bytes_per_second".to_owned(), 2)]
        );
    }

    #[test]
    fn processes_are_families_by_pid_and_name() {
        let usage = ProcessUsage {
            pid: 12,
            name: "a\"b".into(),
            cpu_percent: 150.0,
            memory_percent: None,
            resident_memory_bytes: 4096.0,
            threads: 1,
            state: 'R',
            start_ticks: 5,
            start_time_seconds: None,
            details: Details { user: Some("web".into()), open_fds: Some(7), ..Details::default() },
        };
        let mut out = Families::default();
        expose_processes(&[usage], &mut out);
        let names: Vec<_> = out.iter().map(|family| family.head.name.to_string()).collect();
        let expected = ["cpu_percent", "resident_memory_bytes", "threads", "open_fds", "info"];
        assert_eq!(names, expected.map(|name| format!("utilizer_process_{name}")));
        assert_eq!(out.samples("utilizer_process_info")[0].labels.get("user"), Some("web"));
        let sample = &out.samples("utilizer_process_cpu_percent")[0];
        assert_eq!((sample.labels.get("pid"), sample.labels.get("name")), (Some("12"), Some("a\"b")));
        expose_processes(&[], &mut Families::default());
    }
}
