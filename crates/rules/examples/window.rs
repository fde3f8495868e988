//! What the window of the rules costs: bytes of a sample, time of an append and of a read, memory, and a round of a host.
//!
//! `cargo run --release -p utilizer-rules --example window [FILE]`
//!
//! Without a file, an hour of a host that is made up: 16 processors, 1,300 series, a pass every 10 s. A file has passes
//! that were recorded: for each a line `# pass` with the time in milliseconds, and the samples as a scrape gives them.
//!
//! Two other ways to keep samples stand here for comparison: sixteen plain bytes, and the bit streams of Gorilla (Pelkonen
//! and others, 2015) with the widths for milliseconds that Prometheus uses.

#![allow(clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use utilizer_rules::testing::Random;
use utilizer_rules::window::{Budget, Limits, Samples, Window};
use utilizer_rules::{Need, Sample, Storage, needs, parse};

/// The system's allocator, counting what is asked of it.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came; counting touches nothing that is allocated.
#[allow(unsafe_code, reason = "an allocator can't be written without, and only one sees every allocation")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Pairs = Vec<(String, String)>;

/// The series of one family, with the values of all passes.
struct Family {
    name: String,
    series: Vec<(Pairs, Vec<f64>)>,
}

struct Host {
    times: Vec<i64>,
    families: Vec<Family>,
}

/// How a value moves.
#[derive(Clone, Copy)]
enum Kind {
    Constant,
    /// A counter that grows by up to so many units, of so many to the whole.
    Counter(u64, f64),
    /// A gauge that moves by up to so many units each way, of so many to the whole.
    Gauge(u64, f64),
    /// A fraction that is no decimal.
    Ratio,
}

type Dimensions = &'static [(&'static str, usize)];

/// Families: name, how many of them, their kind, and their labels with the number of values.
const MADE_UP: &[(&str, usize, Kind, Dimensions)] = &[
    ("node_cpu_seconds_total", 1, Kind::Counter(1000, 100.0), &[("cpu", 16), ("mode", 8)]),
    ("node_softirqs_total", 1, Kind::Counter(20_000, 1.0), &[("cpu", 16), ("vector", 6)]),
    ("node_disk_bytes_total", 3, Kind::Counter(10_000, 1.0 / 512.0), &[("device", 4)]),
    ("node_disk_completed_total", 5, Kind::Counter(500, 1.0), &[("device", 4)]),
    ("node_disk_seconds_total", 4, Kind::Counter(3000, 1000.0), &[("device", 4)]),
    ("node_network_bytes_total", 2, Kind::Counter(10_000_000, 1.0), &[("device", 5)]),
    ("node_network_packets_total", 4, Kind::Counter(10_000, 1.0), &[("device", 5)]),
    ("node_network_errors_total", 8, Kind::Constant, &[("device", 5)]),
    ("node_filesystem_bytes", 2, Kind::Gauge(1000, 1.0 / 4096.0), &[("device", 10), ("mountpoint", 1)]),
    ("node_filesystem_constant", 4, Kind::Constant, &[("device", 10), ("mountpoint", 1)]),
    ("node_memory_bytes", 50, Kind::Gauge(20_000, 1.0 / 1024.0), &[]),
    ("node_netstat_total", 100, Kind::Counter(1000, 1.0), &[]),
    ("node_netstat_still_total", 150, Kind::Constant, &[]),
    ("node_load", 3, Kind::Gauge(30, 100.0), &[]),
    ("node_pressure_seconds_total", 6, Kind::Counter(100_000, 1e6), &[]),
    ("node_systemd_unit_state", 1, Kind::Constant, &[("name", 60), ("state", 5)]),
    ("node_hwmon_temp_celsius", 1, Kind::Gauge(4, 4.0), &[("chip", 2), ("sensor", 5)]),
    ("process_group_cpu_seconds_total", 2, Kind::Counter(500, 100.0), &[("group", 20)]),
    ("process_group_bytes", 4, Kind::Gauge(500, 1.0 / 4096.0), &[("group", 20)]),
    ("process_group_count", 6, Kind::Constant, &[("group", 20)]),
    ("node_ratio", 20, Kind::Ratio, &[]),
    ("node_info", 30, Kind::Constant, &[("version", 1)]),
];

fn made_up() -> Host {
    let mut random = Random(5);
    let times: Vec<i64> = (0..720_i64).map(|n| 1_760_000_000_000 + n * 10_000).collect();
    let times = times.into_iter().map(|time| time + random.below(3) as i64).collect::<Vec<_>>();
    let mut families = Vec::new();
    for (name, count, kind, labels) in MADE_UP {
        for number in 0..*count {
            let name = if *count == 1 { (*name).to_owned() } else { format!("{name}_{number}") };
            let mut sets: Vec<Pairs> = vec![Vec::new()];
            for (label, values) in *labels {
                let with = |set: &Pairs| {
                    let mut all = Vec::new();
                    for value in 0..*values {
                        let pair = ((*label).to_owned(), format!("{label}-{value}"));
                        all.push([set.as_slice(), &[pair]].concat());
                    }
                    all
                };
                sets = sets.iter().flat_map(with).collect();
            }
            let series = sets.into_iter().map(|set| (set, values(&mut random, *kind, times.len()))).collect();
            families.push(Family { name, series });
        }
    }
    Host { times, families }
}

fn values(random: &mut Random, kind: Kind, count: usize) -> Vec<f64> {
    // Each series at a pace of its own; many move seldom.
    let share = random.below(100);
    let mut units = random.below(1 << 30) as i64;
    let next = |_| match kind {
        Kind::Constant => (units % 3) as f64,
        Kind::Counter(step, of) => {
            units += random.below(step * share / 100) as i64;
            units as f64 / of
        }
        Kind::Gauge(step, of) => {
            units = (units + random.below(2 * step + 1) as i64 - step as i64).abs();
            units as f64 / of
        }
        Kind::Ratio => random.below(1 << 40) as f64 / (1_u64 << 40) as f64 / 3.0,
    };
    (0..count).map(next).collect()
}

/// Passes as a scrape gives them. Only series that every pass has are taken.
fn recorded(text: &str) -> Result<Host, Box<dyn Error>> {
    let mut host = Host { times: Vec::new(), families: Vec::new() };
    let mut places = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some(time) = line.strip_prefix("# pass ") {
            host.times.push(time.trim().parse()?);
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        let value: f64 = value.parse()?;
        let (family, at) = *places.entry(series.to_owned()).or_insert_with(|| {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let pair = |text: &str| {
                let (label, value) = text.split_once("=\"").unwrap_or((text, ""));
                (label.to_owned(), value.to_owned())
            };
            let labels =
                labels.trim_end_matches("\"}").split("\",").filter(|text| !text.is_empty()).map(pair).collect();
            if host.families.last().is_none_or(|family| family.name != name) {
                host.families.push(Family { name: name.to_owned(), series: Vec::new() });
            }
            let family = host.families.len() - 1;
            host.families[family].series.push((labels, Vec::new()));
            (family, host.families[family].series.len() - 1)
        });
        host.families[family].series[at].1.push(value);
    }
    // A pass that was cut short does not count.
    host.times.pop();
    let passes = host.times.len();
    for family in &mut host.families {
        family.series.retain(|(_, values)| values.len() >= passes);
        family.series.iter_mut().for_each(|(_, values)| values.truncate(passes));
    }
    host.families.retain(|family| !family.series.is_empty());
    Ok(host)
}

/// A way to keep samples.
trait Kept: Sized {
    fn first(sample: Sample) -> Self;
    fn push(&mut self, sample: Sample);
    fn sum(&self) -> f64;
    fn bytes(&self) -> usize;
}

impl Kept for Vec<Sample> {
    fn first(sample: Sample) -> Self {
        vec![sample]
    }
    fn push(&mut self, sample: Sample) {
        Self::push(self, sample);
    }
    fn sum(&self) -> f64 {
        self.iter().map(|sample| sample.value).sum()
    }
    fn bytes(&self) -> usize {
        self.len() * size_of::<Sample>()
    }
}

impl Kept for Samples {
    fn first(sample: Sample) -> Self {
        Self::new(sample)
    }
    fn push(&mut self, sample: Sample) {
        self.push(sample, &mut Budget { used: 0, limit: usize::MAX });
    }
    fn sum(&self) -> f64 {
        self.within(i64::MIN, i64::MAX).map(|sample| sample.value).sum()
    }
    fn bytes(&self) -> usize {
        self.written()
    }
}

/// Gorilla's bits.
struct Gorilla {
    first: Sample,
    bits: Vec<u8>,
    length: usize,
    count: usize,
    at: Place,
}

#[derive(Clone, Copy)]
struct Place {
    time: i64,
    step: i64,
    bits: u64,
    leading: u32,
    trailing: u32,
}

impl Place {
    fn new(first: Sample) -> Self {
        Self { time: first.time, step: 0, bits: first.value.to_bits(), leading: 64, trailing: 0 }
    }
}

impl Gorilla {
    fn put(&mut self, value: u64, width: u32) {
        let mut left = width as usize;
        while left > 0 {
            if self.length.is_multiple_of(8) {
                self.bits.push(0);
            }
            let free = 8 - self.length % 8;
            let put = left.min(free);
            left -= put;
            if let Some(last) = self.bits.last_mut() {
                *last |= ((value >> left & ((1 << put) - 1)) << (free - put)) as u8;
            }
            self.length += put;
        }
    }
}

/// Reads bits.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn get(&mut self, width: u32) -> u64 {
        let mut value = 0;
        let mut left = width as usize;
        while left > 0 {
            let (byte, inside) = (u64::from(self.bytes[self.at / 8]), self.at % 8);
            let take = left.min(8 - inside);
            value = value << take | byte >> (8 - inside - take) & ((1 << take) - 1);
            self.at += take;
            left -= take;
        }
        value
    }
}

impl Kept for Gorilla {
    fn first(first: Sample) -> Self {
        Self { first, bits: Vec::new(), length: 0, count: 1, at: Place::new(first) }
    }

    fn push(&mut self, sample: Sample) {
        let mut at = self.at;
        let step = sample.time - at.time;
        let change = step - at.step;
        match change {
            0 => self.put(0, 1),
            -8191..=8192 => {
                self.put(0b10, 2);
                self.put(change as u64, 14);
            }
            -65535..=65536 => {
                self.put(0b110, 3);
                self.put(change as u64, 17);
            }
            _ => {
                self.put(0b1111, 4);
                self.put(change as u64, 64);
            }
        }
        let differing = sample.value.to_bits() ^ at.bits;
        if differing == 0 {
            self.put(0, 1);
        } else {
            let (leading, trailing) = (differing.leading_zeros().min(31), differing.trailing_zeros());
            if at.leading < 64 && leading >= at.leading && trailing >= at.trailing {
                self.put(0b10, 2);
            } else {
                (at.leading, at.trailing) = (leading, trailing);
                self.put(0b11, 2);
                self.put(u64::from(leading), 5);
                self.put(u64::from(64 - leading - trailing), 6);
            }
            self.put(differing >> at.trailing, 64 - at.leading - at.trailing);
        }
        (at.time, at.step, at.bits) = (sample.time, step, sample.value.to_bits());
        self.at = at;
        self.count += 1;
    }

    fn sum(&self) -> f64 {
        let mut at = Place::new(self.first);
        let mut bits = Bits { bytes: &self.bits, at: 0 };
        let mut sum = self.first.value;
        let signed = |value: u64, width: u32| ((value << (64 - width)) as i64) >> (64 - width);
        for _ in 1..self.count {
            let change = match (0..4).take_while(|_| bits.get(1) == 1).count() {
                0 => 0,
                1 => signed(bits.get(14), 14),
                2 => signed(bits.get(17), 17),
                _ => bits.get(64) as i64,
            };
            at.step += change;
            at.time += at.step;
            if bits.get(1) == 1 {
                if bits.get(1) == 1 {
                    at.leading = bits.get(5) as u32;
                    let length = bits.get(6) as u32;
                    at.trailing = 64 - at.leading - if length == 0 { 64 } else { length };
                }
                at.bits ^= bits.get(64 - at.leading - at.trailing) << at.trailing;
            }
            sum += f64::from_bits(at.bits);
        }
        black_box(at.time);
        sum
    }

    fn bytes(&self) -> usize {
        self.bits.len()
    }
}

const ROUNDS: u32 = 5;

fn nanoseconds(since: Instant, of: usize) -> f64 {
    since.elapsed().as_nanos() as f64 / of as f64
}

/// Bytes of a sample, and nanoseconds of an append and of a read; the best of some rounds.
fn measure<K: Kept>(host: &Host) -> (f64, f64, f64) {
    let series: Vec<&[f64]> =
        host.families.iter().flat_map(|f| &f.series).map(|(_, values)| values.as_slice()).collect();
    let count = host.times.len() * series.len();
    let (mut bytes, mut append, mut read) = (0, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let sample = |values: &[f64], n: usize| Sample { time: host.times[n], value: values[n] };
        let mut all: Vec<K> = series.iter().map(|values| K::first(sample(values, 0))).collect();
        // As they come: one of each series, not one series after the other.
        for n in 1..host.times.len() {
            for (kept, values) in all.iter_mut().zip(&series) {
                kept.push(sample(values, n));
            }
        }
        append = append.min(nanoseconds(begin, count));
        let begin = Instant::now();
        let sums: Vec<f64> = all.iter().map(K::sum).collect();
        read = read.min(nanoseconds(begin, count));
        for (sum, values) in sums.iter().zip(&series) {
            assert!(sum.to_bits() == values.iter().sum::<f64>().to_bits(), "BUG: a value did not come back");
        }
        bytes = all.iter().map(K::bytes).sum();
    }
    (bytes as f64 / count as f64, append, read)
}

fn encodings(host: &Host) {
    println!("{:>28} {:>12} {:>10} {:>8}", "", "bytes/sample", "append ns", "read ns");
    let show = |what: &str, (bytes, append, read): (f64, f64, f64)| {
        println!("{what:>28} {bytes:12.2} {append:10.1} {read:8.1}");
    };
    show("plain", measure::<Vec<Sample>>(host));
    show("Gorilla", measure::<Gorilla>(host));
    show("differences of decimals", measure::<Samples>(host));
}

fn give(window: &mut Window, source: utilizer_rules::window::Source, host: &Host, pass: usize, time: i64) -> usize {
    let Ok(mut round) = window.round(source, time) else { return 0 };
    for family in &host.families {
        if round.family(&family.name) {
            for (labels, values) in &family.series {
                round.sample(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())), values[pass]);
            }
        }
    }
    round.end().taken
}

fn all_needs(expressions: impl IntoIterator<Item = String>) -> Result<Vec<Need>, Box<dyn Error>> {
    let mut all = Vec::new();
    for text in expressions {
        all.extend(needs(&parse(&text)?));
    }
    Ok(all)
}

/// What 1,000 series hold in memory that are kept for an hour.
fn memory(host: &Host) -> Result<(), Box<dyn Error>> {
    let mut thousand = Host { times: host.times.clone(), families: Vec::new() };
    let mut left = 1000;
    for family in &host.families {
        let series: Vec<_> = family.series.iter().take(left).cloned().collect();
        left -= series.len();
        thousand.families.push(Family { name: family.name.clone(), series });
    }
    let before = IN_USE.load(Ordering::Relaxed);
    let mut window = Window::new(all_needs(["max_over_time({job=\"node\"}[1h])".to_owned()])?, Limits::default())?;
    let source = window.source([("job", "node"), ("instance", "host-1:9100")]);
    for (pass, time) in host.times.iter().enumerate() {
        give(&mut window, source, &thousand, pass, *time);
    }
    let in_use = IN_USE.load(Ordering::Relaxed) - before;
    let usage = window.usage();
    println!(
        "\n{} series, {} samples: {:.0} kB on the heap; {usage:?}",
        usage.series,
        usage.samples,
        in_use as f64 / 1e3
    );
    Ok(())
}

/// About as many selectors as the shipped rules have. Of what is named once for a recorded host and once for the one that
/// is made up, each has one.
const EXPRESSIONS: &[&str] = &[
    r#"avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))"#,
    r#"rate(node_cpu_seconds_total{mode=~"mode-[01]"}[5m])"#,
    r#"rate(node_cpu_seconds_total{mode="iowait"}[15m])"#,
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    "node_memory_SwapFree_bytes / node_memory_SwapTotal_bytes",
    "rate(node_vmstat_oom_kill[10m]) + rate(node_vmstat_pgmajfault[5m]) + rate(node_vmstat_pswpin[5m])",
    r#"node_filesystem_avail_bytes{fstype!=""} / node_filesystem_size_bytes{fstype!=""}"#,
    r#"predict_linear(node_filesystem_avail_bytes{fstype!=""}[6h], 86400)"#,
    r#"node_filesystem_files_free{fstype!=""} / node_filesystem_files{fstype!=""}"#,
    r#"node_filesystem_readonly{fstype!=""} == 1 or node_filesystem_device_error == 1"#,
    "rate(node_pressure_cpu_waiting_seconds_total[5m]) + rate(node_pressure_memory_waiting_seconds_total[5m])",
    "rate(node_pressure_io_waiting_seconds_total[5m])",
    r#"node_load1 / count without (cpu, mode) (node_cpu_seconds_total{mode="idle"}) + node_load5 + node_load15"#,
    "rate(node_network_receive_errs_total[2m]) / rate(node_network_receive_packets_total[2m])",
    "rate(node_network_transmit_errs_total[2m]) / rate(node_network_transmit_packets_total[2m])",
    "rate(node_network_receive_bytes_total[5m]) + rate(node_network_transmit_bytes_total[5m])",
    "node_nf_conntrack_entries / node_nf_conntrack_entries_limit",
    "node_timex_offset_seconds + deriv(node_timex_offset_seconds[5m]) + node_timex_sync_status",
    "min_over_time(node_timex_sync_status[5m]) + node_timex_maxerror_seconds",
    r#"node_systemd_unit_state{state="failed"} == 1"#,
    r#"changes(node_systemd_unit_state{state="state-0"}[15m]) > 5"#,
    "node_md_disks_required - ignoring (state) node_md_disks",
    "rate(node_edac_correctable_errors_total[1h]) + rate(node_edac_uncorrectable_errors_total[1h])",
    "node_hwmon_temp_celsius > 90 or node_thermal_zone_temp > 90",
    "node_filefd_allocated / node_filefd_maximum",
    "rate(node_disk_io_time_weighted_seconds_total[5m]) + rate(node_disk_io_time_seconds_total[5m])",
    "rate(node_disk_read_time_seconds_total[5m]) / rate(node_disk_reads_completed_total[5m])",
    "rate(node_disk_seconds_total_0[5m]) + rate(node_disk_bytes_total_0[5m])",
    "avg_over_time(node_load_0[1h]) + stddev_over_time(node_load_0[1h]) + node_load_1 + node_load_2",
    "predict_linear(node_filesystem_bytes_0[6h], 86400) / node_filesystem_bytes_1",
    "node_filesystem_constant_0 == 1 or node_filesystem_constant_1 == 2 or node_filesystem_constant_2 == 3",
    "rate(node_network_errors_total_0[2m]) / rate(node_network_packets_total_0[2m])",
    "rate(node_network_errors_total_1[2m]) / rate(node_network_packets_total_1[2m])",
    "rate(node_network_bytes_total_0[5m]) + rate(node_network_bytes_total_1[5m])",
    "node_memory_bytes_0 / node_memory_bytes_1 + node_memory_bytes_2 / node_memory_bytes_3",
    "rate(node_netstat_total_0[5m]) + rate(node_netstat_total_1[5m]) + node_netstat_still_total_0",
    "rate(node_pressure_seconds_total_0[5m]) + rate(node_pressure_seconds_total_1[5m])",
    "process_group_count_0 == 0 or rate(process_group_cpu_seconds_total_0[5m]) > 1",
    "deriv(process_group_bytes_0[1h]) > 1e6 and process_group_bytes_1 > 1e9",
    "up == 0 or absent(up)",
];

/// What a round of the whole host costs, and what reading everything that the rules look at does.
fn round(host: &Host) -> Result<(), Box<dyn Error>> {
    let all = all_needs(EXPRESSIONS.iter().map(|text| (*text).to_owned()))?;
    let mut window = Window::new(all.clone(), Limits::default())?;
    let source = window.source([("job", "node"), ("instance", "host-1:9100")]);
    let passes = host.times.len();
    let Some((first, last)) = host.times.first().zip(host.times.last()) else { return Ok(()) };
    let span = last - first + 10_000;
    let mut taken = 0;
    // Twice, so that the longest ranges are full.
    let mut time = *first;
    for again in 0..6 {
        for (pass, at) in host.times.iter().enumerate() {
            time = at + again * span;
            taken = give(&mut window, source, host, pass, time);
        }
    }
    let given: usize = host.families.iter().map(|family| family.series.len()).sum();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let mut spent = Vec::with_capacity(passes);
    for pass in 0..passes {
        time += 10_000;
        let begin = Instant::now();
        give(&mut window, source, host, pass, time);
        spent.push(nanoseconds(begin, 1));
    }
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - allocations) as f64 / passes as f64;
    spent.sort_by(f64::total_cmp);
    let median = spent.get(passes / 2).copied().unwrap_or_default();
    println!(
        "\na round of {given} samples, {} families; {} selectors take {taken}: {:.1} µs (median), {:.0} ns a sample that \
         is taken, {allocations:.2} allocations",
        host.families.len(),
        all.len(),
        median / 1000.0,
        median / taken as f64
    );
    println!("{:?}, {:?}", window.usage(), window.counts());

    let (mut samples, mut series) = (0, 0);
    let (mut range, mut newest) = (f64::MAX, f64::MAX);
    for _ in 0..20 {
        let begin = Instant::now();
        let read = |need: &Need| {
            window
                .series(&need.selector, time - need.back, time, usize::MAX)
                .iter()
                .map(|s| s.samples.len())
                .sum::<usize>()
        };
        samples = all.iter().map(read).sum::<usize>();
        range = range.min(nanoseconds(begin, 1));
        let begin = Instant::now();
        let read = |need: &Need| black_box(window.latest(&need.selector, time - 300_000, time)).len();
        series = all.iter().map(read).sum::<usize>();
        newest = newest.min(nanoseconds(begin, 1));
    }
    println!("all ranges: {samples} samples in {:.1} µs, {:.1} ns each", range / 1000.0, range / samples as f64);
    println!("the newest of each: {series} series in {:.1} µs, {:.1} ns each", newest / 1000.0, newest / series as f64);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let host = match std::env::args().nth(1) {
        Some(path) => recorded(&std::fs::read_to_string(path)?)?,
        None => made_up(),
    };
    let series: usize = host.families.iter().map(|family| family.series.len()).sum();
    println!("{series} series, {} passes\n", host.times.len());
    encodings(&host);
    memory(&host)?;
    round(&host)
}
