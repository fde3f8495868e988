//! What one pass over this machine costs: time and allocations by part and by collector, and CPU time in all.
//!
//! `cargo run --release -p utilizer-agent --example pass [PASSES [MILLISECONDS_BETWEEN [all]]]`
//!
//! With a pause between passes everything costs more, since caches are cold: that is how an agent runs. With `all`, also
//! the collectors run that do not by default.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use utilizer_agent::collectors::{self, CATALOGUE, Collector, CollectorSettings, Pass, Registry};
use utilizer_agent::exposition::{self, Choice, Format, Order};
use utilizer_agent::gauges::{self, Earlier};
use utilizer_agent::host::HostRoot;
use utilizer_agent::processes::SharedTable;
use utilizer_agent::snapshot::Families;

/// The system's allocator, counting what is asked of it by all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came; counting touches nothing that is allocated.
#[allow(unsafe_code, reason = "an allocator can't be written without, and only one sees every allocation")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Passes that are not counted: files are opened, labels made.
const WARM: u32 = 5;

/// Passes over each collector by itself: enough for what is read every thirtieth time to come twice.
const ALONE: u32 = 60;

const PARTS: [&str; 5] = ["interval pass", "scrape pass", "top", "gauges", "encoding"];

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse().ok());
    let passes: u32 = numbers.next().unwrap_or(2000).max(1);
    let pause = Duration::from_millis(numbers.next().unwrap_or(0).into());

    let host = HostRoot::default();
    let mut settings = CollectorSettings::default();
    if arguments.iter().any(|argument| argument == "all") {
        settings.enable = CATALOGUE.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    let table = SharedTable::new(&host, &settings.processes);
    let mut registry = Registry::new(collectors::all_over(&host, &settings, &table));
    let (mut now, mut before, mut scraped) = (Families::default(), Families::default(), Families::default());
    let (mut text, mut order) = (Vec::new(), Order::default());
    let mut derived = Families::default();
    let mut spent = [Spent::default(); PARTS.len()];
    let mut cpu_before = 0;
    let mut last = Instant::now();
    for pass in 0..WARM + passes {
        if pass == WARM {
            spent = Default::default();
            cpu_before = cpu_nanoseconds(&host)?;
        }
        std::thread::sleep(pause);
        let at = Instant::now();
        std::mem::swap(&mut now, &mut before);
        let mut part = Meter { spent: spent.iter_mut(), since: at, allocations: allocations() };

        now.clear();
        registry.run(Pass::Interval, &mut now);
        part.next();
        scraped.clear();
        registry.run(Pass::Scrape, &mut scraped);
        part.next();
        let top = table.lock().top(now.single("node_memory_MemTotal_bytes")).unwrap_or_default();
        part.next();
        let gauges = gauges::gauges(&now, Some(Earlier { families: &before, elapsed: at - last }));
        part.next();
        derived.clear();
        gauges::expose(&gauges, &mut derived);
        gauges::expose_processes(&top, &mut derived);
        exposition::encode_again(Format::Classic, Choice::All, &[&scraped, &derived], &mut order, &mut text);
        part.next();
        last = at;
    }

    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} processes, {} samples, {} bytes of text",
        table.lock().counts().processes,
        scraped.len(),
        text.len()
    )?;
    for (part, spent) in PARTS.iter().zip(spent) {
        let (time, allocations) = (spent.time.as_secs_f64() * 1e6, spent.allocations as f64);
        let passes = f64::from(passes);
        writeln!(out, "{part:14} {:8.1} µs, {:7.1} allocations", time / passes, allocations / passes)?;
    }
    let cpu = (cpu_nanoseconds(&host)? - cpu_before) as f64 / 1e3 / f64::from(passes);
    writeln!(out, "{:14} {cpu:8.1} µs of CPU", "all together")?;
    writeln!(out, "\neach collector by itself, an interval pass, back to back:")?;
    for mut collector in collectors::all(&host, &settings) {
        let Spent { time, allocations } = alone(&mut *collector);
        let (time, allocations) = (time.as_secs_f64() * 1e6, allocations as f64);
        let passes = f64::from(ALONE);
        writeln!(out, "  {:20} {:8.1} µs, {:7.1} allocations", collector.name(), time / passes, allocations / passes)?;
    }
    for status in registry.status() {
        if !matches!(status.state, collectors::State::Data) {
            writeln!(out, "  {}: {:?}", status.name, status.state)?;
        }
    }
    Ok(())
}

fn alone(collector: &mut dyn Collector) -> Spent {
    let mut families = Families::default();
    let mut spent = Spent::default();
    for pass in 0..WARM + ALONE {
        if pass == WARM {
            spent = Spent::default();
        }
        families.clear();
        let mut meter = Meter {
            spent: std::slice::from_mut(&mut spent).iter_mut(),
            since: Instant::now(),
            allocations: allocations(),
        };
        collector.begin(Pass::Interval);
        // Why it fails is told by the registry.
        let _ = collector.collect(&mut families);
        meter.next();
    }
    spent
}

fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// What a part has cost.
#[derive(Clone, Copy, Default)]
struct Spent {
    time: Duration,
    allocations: u64,
}

/// Books what was spent since the last look under one part after the other.
struct Meter<'a> {
    spent: std::slice::IterMut<'a, Spent>,
    since: Instant,
    allocations: u64,
}

impl Meter<'_> {
    fn next(&mut self) {
        let now = (Instant::now(), allocations());
        if let Some(part) = self.spent.next() {
            part.time += now.0 - self.since;
            part.allocations += now.1 - self.allocations;
        }
        (self.since, self.allocations) = now;
    }
}

/// CPU time of all threads of this process.
fn cpu_nanoseconds(host: &HostRoot) -> io::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(host.proc("self/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
