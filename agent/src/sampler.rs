//! The thread that reads the host: once an interval, and when somebody scrapes.
//!
//! It owns all collectors, so that no two passes ever run at once, and it waits for nobody: readings go into a watch
//! channel, where a slow reader finds the latest one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};
use wire::Timestamp;

use crate::collectors::{self, CollectorSettings, Pass, Registry, Status};
use crate::gauges::{self, Earlier, Gauge};
use crate::host::HostRoot;
use crate::probes;
use crate::processes::{ProcessUsage, SharedTable};
use crate::rules;
use crate::snapshot::{Families, Snapshot};

/// Scrapes within this time share one pass.
const COALESCE: Duration = Duration::from_secs(1);

/// A scrape that the sampler has not served after this time is given up.
const SCRAPE_TIME: Duration = Duration::from_secs(10);

/// New collectors may wait so long for the answers of slow sources; what comes later is shown by a later pass.
const RECONFIGURE_TIME: Duration = Duration::from_millis(100);

/// Requests that may wait for the thread. It serves them within microseconds, and more than these wait only where it hangs.
const MAX_REQUESTS: usize = 64;

/// After so many passes nothing more is done for the first time.
#[cfg(target_os = "linux")]
const STARTED_AFTER: u64 = 3;

/// How often memory is given back from then on: what a new connection or a rare event needed.
#[cfg(target_os = "linux")]
const GIVE_BACK_EVERY: Duration = Duration::from_secs(60);

/// A machine that is too slow for its interval misses some all the time.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A reading is old when so many intervals have gone by, and the grace on top.
const OLD_INTERVALS: u32 = 3;

/// A pass over a busy machine may take a while.
const OLD_GRACE: Duration = Duration::from_secs(5);

/// What one interval found.
#[derive(Debug)]
pub struct Reading {
    /// All families.
    pub snapshot: Arc<Snapshot>,
    /// What was derived from this pass and the one before.
    pub gauges: Vec<Gauge>,
    /// The busiest processes; `None` before the second pass, and where they are disabled.
    pub processes: Option<Vec<ProcessUsage>>,
    /// How each collector's run ended.
    pub collectors: Vec<Status>,
    /// Seconds between passes.
    pub interval: Duration,
    /// Whether this is the first pass of the agent, made at start and not at an interval's end.
    pub first: bool,
    /// The sampler about itself.
    pub cost: Cost,
    at: Instant,
}

impl Reading {
    #[cfg(test)]
    pub(crate) fn made(mut self, before: Duration) -> Self {
        self.at = self.at.checked_sub(before).unwrap_or(self.at);
        self
    }

    /// How long ago it was made, where a newer one should be there by now: the sampler hangs.
    pub fn overdue(&self) -> Option<Duration> {
        let age = self.at.elapsed();
        (age > self.interval * OLD_INTERVALS + OLD_GRACE).then_some(age)
    }
}

/// What sampling costs, since the agent started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Interval passes.
    pub passes: u64,
    /// Interval passes that did not happen because one before took too long or the machine slept.
    pub missed: u64,
    /// CPU time of the sampler's thread in seconds, scrapes included.
    pub cpu_seconds: f64,
    /// Wall time of the last pass.
    pub last_duration: Duration,
    /// How late the last pass began.
    pub last_delay: Duration,
}

/// What others make and each snapshot takes in.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// What rules recorded last.
    pub rules: rules::Shared,
    /// What probes found last.
    pub probes: probes::Shared,
}

impl Made {
    fn append_to(&self, out: &mut Families) {
        self.probes.append_to(out);
        self.rules.append_to(out);
    }
}

/// Reads the host when told to. [`spawn`] tells it at each interval; `utilizer-agent sample` does once.
pub struct Sampler {
    registry: Registry,
    /// Filled by the collector of that name; empty where it is disabled.
    processes: SharedTable,
    made: Made,
    previous: Option<Arc<Reading>>,
    cost: Cost,
    /// When missed intervals were last told in the log.
    warned: Option<Instant>,
}

impl Sampler {
    /// Over this host, with these collectors. Reads nothing yet.
    pub fn new(root: &HostRoot, settings: &CollectorSettings, made: Made) -> Self {
        let processes = SharedTable::new(root, &settings.processes);
        Self {
            registry: registry(root, settings, &processes),
            processes,
            made,
            previous: None,
            cost: Cost::default(),
            warned: None,
        }
    }

    /// Waits until slow sources have answers, at the latest so long: for a single pass.
    pub fn settle(&mut self, within: Duration) {
        self.registry.settle(Instant::now() + within);
    }

    /// Reads everything and derives the gauges from this pass and the one before.
    pub fn interval(&mut self, interval: Duration) -> Arc<Reading> {
        let (time, at) = (Timestamp::from(SystemTime::now()), Instant::now());
        let mut families = self.empty();
        self.registry.run(Pass::Interval, &mut families);
        let earlier = self
            .previous
            .as_ref()
            .map(|previous| Earlier { families: &previous.snapshot.families, elapsed: at.duration_since(previous.at) });
        let gauges = gauges::gauges(&families, earlier);
        self.made.append_to(&mut families);
        let total = families.single("node_memory_MemTotal_bytes");
        let processes = self.processes.lock().top(total);
        self.cost.passes += 1;
        self.cost.last_duration = at.elapsed();
        self.cost.cpu_seconds = thread_cpu_seconds();
        let reading = Arc::new(Reading {
            snapshot: Arc::new(Snapshot { time, families }),
            gauges,
            processes,
            collectors: self.registry.status().cloned().collect(),
            interval,
            first: self.previous.is_none(),
            cost: self.cost,
            at,
        });
        self.previous = Some(reading.clone());
        reading
    }

    /// Families to fill, with room for what the interval before found.
    fn empty(&self) -> Families {
        self.previous
            .as_ref()
            .map_or_else(Families::default, |previous| Families::sized_as(&previous.snapshot.families))
    }

    /// As [`Sampler::interval`], and nothing of it is kept.
    #[cfg(test)]
    pub(crate) fn forgetful(&mut self, interval: Duration) -> Arc<Reading> {
        let reading = self.interval(interval);
        self.previous = None;
        reading
    }

    /// Takes note of intervals without a pass.
    fn miss(&mut self, missed: u64) {
        if missed > 0 && self.warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            warn!("{missed} intervals were missed: the last pass took too long, or the machine slept");
        }
        self.cost.missed += missed;
    }

    /// Goes on with other settings.
    fn configure(&mut self, root: &HostRoot, settings: &CollectorSettings) {
        // A table that goes on keeps what it knows of the pass before.
        if settings.runs(collectors::PROCESSES) {
            self.processes.lock().configure(&settings.processes);
        } else {
            self.processes = SharedTable::new(root, &settings.processes);
        }
        self.registry = registry(root, settings, &self.processes);
    }

    /// Reads what a scrape must see fresh.
    pub fn scrape(&mut self) -> Snapshot {
        let time = Timestamp::from(SystemTime::now());
        let mut families = self.empty();
        self.registry.run(Pass::Scrape, &mut families);
        self.made.append_to(&mut families);
        Snapshot { time, families }
    }
}

fn registry(root: &HostRoot, settings: &CollectorSettings, processes: &SharedTable) -> Registry {
    Registry::new(collectors::all_over(root, settings, processes))
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What the thread can be asked.
enum Request {
    Scrape(oneshot::Sender<Arc<Snapshot>>),
    Configure { interval: Duration, settings: Box<CollectorSettings> },
}

/// Talks to the sampler's thread. The thread ends when the last of these is dropped.
#[derive(Clone)]
pub struct Handle {
    requests: SyncSender<Request>,
    readings: watch::Receiver<Option<Arc<Reading>>>,
}

/// A scrape got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// The thread has ended.
    #[error("BUG: the sampler has ended")]
    Ended,
    /// A collector hangs.
    #[error("the sampler did not answer within 10 s; a read of the host's files hangs")]
    Slow,
}

impl Handle {
    /// The readings of the intervals; the latest is always there after the first.
    pub fn readings(&self) -> watch::Receiver<Option<Arc<Reading>>> {
        self.readings.clone()
    }

    /// The latest reading.
    pub fn latest(&self) -> Option<Arc<Reading>> {
        self.readings.borrow().clone()
    }

    /// A snapshot that is at most a second old.
    pub async fn scrape(&self) -> Result<Arc<Snapshot>, ScrapeError> {
        // As the thread would answer, which need not wake for it.
        if let Some(reading) = self.readings.borrow().as_ref().filter(|reading| reading.at.elapsed() < COALESCE) {
            return Ok(reading.snapshot.clone());
        }
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Scrape(reply)).map_err(|error| match error {
            TrySendError::Full(_) => ScrapeError::Slow,
            TrySendError::Disconnected(_) => ScrapeError::Ended,
        })?;
        match tokio::time::timeout(SCRAPE_TIME, answer).await {
            Ok(answer) => answer.map_err(|_| ScrapeError::Ended),
            Err(_) => Err(ScrapeError::Slow),
        }
    }

    /// Changes interval and collectors from the next pass on.
    pub fn configure(&self, interval: Duration, settings: CollectorSettings) {
        let settings = Box::new(settings);
        match self.requests.try_send(Request::Configure { interval, settings }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                error!("interval and collectors stay as they are: a read of the host's files hangs; restart the agent")
            }
            Err(TrySendError::Disconnected(_)) => error!("BUG: the sampler has ended"),
        }
    }
}

/// Starts the thread. The first pass is made at once, the others at whole multiples of the interval since 1970. What
/// was `made` joins each of them.
pub fn spawn(root: HostRoot, interval: Duration, settings: CollectorSettings, made: Made) -> std::io::Result<Handle> {
    spawn_by(since_epoch, root, interval, settings, made)
}

/// By this clock, which may jump: it tells the time since 1970.
fn spawn_by(
    clock: impl Fn() -> Duration + Send + 'static,
    root: HostRoot,
    interval: Duration,
    settings: CollectorSettings,
    made: Made,
) -> std::io::Result<Handle> {
    let (requests, inbox) = sync_channel(MAX_REQUESTS);
    let (publish, readings) = watch::channel(None);
    thread::Builder::new().name("sampler".to_owned()).spawn(move || {
        let sampler = Sampler::new(&root, &settings, made);
        run(&clock, &root, interval, sampler, &inbox, &publish);
    })?;
    Ok(Handle { requests, readings })
}

fn run(
    clock: &dyn Fn() -> Duration,
    root: &HostRoot,
    mut interval: Duration,
    mut sampler: Sampler,
    inbox: &Receiver<Request>,
    publish: &watch::Sender<Option<Arc<Reading>>>,
) {
    #[cfg(target_os = "linux")]
    let (pages, mut given_back) = (crate::host::memory::Pages::mapped(), None::<Instant>);
    let first = sampler.interval(interval);
    // An interval's pass serves scrapes as well as one of their own does.
    let mut fresh = (first.at, first.snapshot.clone());
    publish.send_replace(Some(first));
    let mut due = next_after(clock(), interval);
    loop {
        match inbox.recv_timeout(due.saturating_sub(clock()).min(interval)) {
            Ok(Request::Scrape(reply)) => {
                if fresh.0.elapsed() >= COALESCE {
                    fresh = (Instant::now(), Arc::new(sampler.scrape()));
                }
                // Whoever asked may have gone away meanwhile.
                let _ = reply.send(fresh.1.clone());
            }
            Ok(Request::Configure { interval: new, settings }) => {
                interval = new;
                due = next_after(clock(), interval);
                sampler.configure(root, &settings);
                // Sources that are asked at intervals would show nothing to a scrape before the next one, which may be an
                // hour away.
                sampler.settle(RECONFIGURE_TIME);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let now = clock();
                let Tick { pass, missed } = tick(now, due, interval);
                if pass {
                    sampler.miss(missed);
                    sampler.cost.last_delay = now.saturating_sub(due);
                    let reading = sampler.interval(interval);
                    fresh = (reading.at, reading.snapshot.clone());
                    publish.send_replace(Some(reading));
                    #[cfg(target_os = "linux")]
                    if sampler.cost.passes >= STARTED_AFTER
                        && given_back.is_none_or(|last| last.elapsed() >= GIVE_BACK_EVERY)
                    {
                        pages.give_back();
                        given_back = Some(Instant::now());
                    }
                }
                let next = next_after(clock().max(if pass { due } else { Duration::ZERO }), interval);
                if pass {
                    // Those that went by during the pass.
                    sampler.miss(intervals(next.saturating_sub(next_after(now, interval)), interval));
                }
                due = next;
            }
        }
    }
}

/// What a wake-up means.
#[derive(Debug, PartialEq, Eq)]
struct Tick {
    pass: bool,
    missed: u64,
}

/// At `now`, with a pass due at `due`. A clock that was set back makes no pass, one that was set forward or a machine
/// that slept makes one and counts those that it skipped.
fn tick(now: Duration, due: Duration, interval: Duration) -> Tick {
    match now.checked_sub(due) {
        None => Tick { pass: false, missed: 0 },
        Some(late) => Tick { pass: true, missed: intervals(late, interval) },
    }
}

/// How often the interval goes into this time.
fn intervals(time: Duration, interval: Duration) -> u64 {
    u64::try_from(time.as_nanos() / interval.as_nanos()).unwrap_or(u64::MAX)
}

/// The first whole multiple of the interval after `now`.
fn next_after(now: Duration, interval: Duration) -> Duration {
    let passed = now.as_nanos() / interval.as_nanos();
    let nanos = (passed + 1) * interval.as_nanos();
    Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
}

/// A clock before 1970 counts as 1970.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn passes_stand_on_whole_multiples() {
        let secs = Duration::from_secs_f64;
        assert_eq!(next_after(secs(1003.5), TEN), secs(1010.0));
        assert_eq!(next_after(secs(1010.0), TEN), secs(1020.0));
        assert_eq!(next_after(secs(0.3), Duration::from_millis(250)), secs(0.5));
    }

    #[test]
    fn clock_jumps_are_survived() {
        let secs = Duration::from_secs;
        assert_eq!(tick(secs(1010), secs(1010), TEN), Tick { pass: true, missed: 0 });
        assert_eq!(tick(secs(1019), secs(1010), TEN), Tick { pass: true, missed: 0 });
        assert_eq!(tick(secs(1045), secs(1010), TEN), Tick { pass: true, missed: 3 });
        assert_eq!(tick(secs(500), secs(1010), TEN), Tick { pass: false, missed: 0 });
    }

    #[tokio::test]
    async fn a_clock_that_jumps_stops_neither_passes_nor_scrapes() {
        const HOUR: u64 = 3_600_000;
        let ahead = Arc::new(AtomicU64::new(2 * HOUR));
        let offset = ahead.clone();
        let clock = move || since_epoch() + Duration::from_millis(offset.load(Ordering::Relaxed));
        let interval = Duration::from_millis(100);
        let handle =
            spawn_by(clock, HostRoot::default(), interval, CollectorSettings::default(), Made::default()).unwrap();
        let mut readings = handle.readings();
        let mut passes = 0;
        for (now_ahead, missed) in [(2 * HOUR, 0), (HOUR, 0), (0, 0), (HOUR, HOUR / 100)] {
            ahead.store(now_ahead, Ordering::Relaxed);
            let wanted = passes + 3;
            let done = |r: &Option<Arc<Reading>>| r.as_ref().is_some_and(|r| r.cost.passes >= wanted);
            // Not by reference: the thread can't publish the next one as long as it lives.
            let reading = readings.wait_for(done).await.unwrap().clone().unwrap();
            // Shares are of the time that went by, whatever the clock said.
            for gauge in reading.gauges.iter().filter(|gauge| gauge.name == "cpu_percent") {
                assert!((0.0..=100.0).contains(&gauge.value), "{}", gauge.value);
            }
            assert!(reading.cost.missed >= missed.saturating_sub(1), "{} at {now_ahead}", reading.cost.missed);
            assert!(reading.cost.missed < missed + 100, "{} at {now_ahead}", reading.cost.missed);
            assert!(handle.scrape().await.is_ok());
            passes = readings.borrow().as_ref().map_or(0, |r| r.cost.passes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn scrapes_of_a_sampler_that_hangs_are_given_up_and_bounded() {
        let (requests, _inbox) = sync_channel(1);
        let handle = Handle { requests, readings: watch::channel(None).1 };
        let begun = tokio::time::Instant::now();
        assert_eq!(handle.scrape().await.unwrap_err(), ScrapeError::Slow);
        assert_eq!(begun.elapsed(), SCRAPE_TIME);
        assert_eq!(handle.scrape().await.unwrap_err(), ScrapeError::Slow);
        assert_eq!(begun.elapsed(), SCRAPE_TIME, "the second has no place to wait");
    }

    #[tokio::test]
    async fn other_settings_leave_no_gap_until_the_next_interval() {
        let hour = Duration::from_secs(3600);
        let handle = spawn(HostRoot::default(), hour, CollectorSettings::default(), Made::default()).unwrap();
        let first = handle.readings().wait_for(Option::is_some).await.unwrap().clone().unwrap();
        while first.at.elapsed() < COALESCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let disable = vec!["loadavg".to_owned()];
        handle.configure(hour, CollectorSettings { disable, ..CollectorSettings::default() });
        let scraped = handle.scrape().await.unwrap().clone();
        assert_eq!(scraped.families.single("node_load1"), None);
        assert!(!scraped.families.samples("node_filesystem_device_error").is_empty(), "mounts are asked at intervals");
    }

    #[tokio::test]
    async fn intervals_and_scrapes_are_served_by_one_thread() {
        let handle =
            spawn(HostRoot::default(), Duration::from_millis(100), CollectorSettings::default(), Made::default())
                .unwrap();
        let mut readings = handle.readings();
        let first = readings.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(first.first && first.processes.is_none());
        let second = readings.wait_for(|r| r.as_ref().is_some_and(|r| !r.first)).await.unwrap().clone().unwrap();
        assert!(second.gauges.iter().any(|g| g.name == "cpu_percent"));
        assert!(second.processes.is_some());
        let (a, b) = (handle.scrape().await.unwrap(), handle.scrape().await.unwrap());
        assert!(Arc::ptr_eq(&a, &b), "scrapes within a second share a pass");
        assert!(a.families.single("node_load1").is_some());
        let disable = vec!["loadavg".to_owned(), "processes".to_owned()];
        handle.configure(Duration::from_millis(150), CollectorSettings { disable, ..CollectorSettings::default() });
        let changed = |r: &Option<Arc<Reading>>| r.as_ref().is_some_and(|r| r.interval.as_millis() == 150);
        let reading = readings.wait_for(changed).await.unwrap().clone().unwrap();
        assert_eq!(reading.snapshot.families.single("node_load1"), None);
        assert!(reading.processes.is_none() && reading.collectors.iter().all(|status| status.name != "processes"));
    }
}
