//! What one pass over this machine costs: time by part, and CPU time in all.
//!
//! `cargo run --release -p utilizer-agent --example pass [PASSES [MILLISECONDS_BETWEEN]]`
//!
//! With a pause between passes everything costs more, since caches are cold: that is how an agent runs.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use utilizer_agent::collectors::{self, CollectorSettings, Pass, Registry};
use utilizer_agent::gauges::{self, Earlier};
use utilizer_agent::host::HostRoot;
use utilizer_agent::processes::SharedTable;
use utilizer_agent::{exposition, snapshot::Families};

const PARTS: [&str; 5] = ["interval pass", "scrape pass", "top", "gauges", "encoding"];

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let passes: u32 = arguments.next().unwrap_or(2000);
    let pause = Duration::from_millis(arguments.next().unwrap_or(0).into());

    let host = HostRoot::default();
    let settings = CollectorSettings::default();
    let table = SharedTable::new(&host, &settings.processes);
    let mut registry = Registry::new(collectors::all_over(&host, &settings, &table));
    let (mut now, mut before, mut scraped) = (Families::default(), Families::default(), Families::default());
    let mut text = Vec::new();
    let mut spent = [Duration::ZERO; PARTS.len()];
    let cpu_before = cpu_nanoseconds(&host)?;
    let mut last = Instant::now();
    for _ in 0..passes {
        std::thread::sleep(pause);
        let at = Instant::now();
        std::mem::swap(&mut now, &mut before);
        let mut part = Meter { spent: spent.iter_mut(), since: at };

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
        let mut derived = Families::default();
        gauges::expose(&gauges, &mut derived);
        gauges::expose_processes(&top, &mut derived);
        exposition::encode(&[&scraped, &derived], &mut text);
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
        writeln!(out, "{part:14} {:8.1} µs", spent.as_secs_f64() * 1e6 / f64::from(passes))?;
    }
    let cpu = (cpu_nanoseconds(&host)? - cpu_before) as f64 / 1e3 / f64::from(passes);
    writeln!(out, "{:14} {cpu:8.1} µs of CPU", "all together")?;
    for status in registry.status() {
        writeln!(out, "  {:12} {:8.1} µs, {:?}", status.name, status.duration.as_secs_f64() * 1e6, status.state)?;
    }
    Ok(())
}

/// Books the time since the last look under one part after the other.
struct Meter<'a> {
    spent: std::slice::IterMut<'a, Duration>,
    since: Instant,
}

impl Meter<'_> {
    fn next(&mut self) {
        let now = Instant::now();
        if let Some(part) = self.spent.next() {
            *part += now - self.since;
        }
        self.since = now;
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
