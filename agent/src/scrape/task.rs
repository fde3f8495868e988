//! One target: asked once an interval, its page read, what it says handed on.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rules::sample::NAME;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};
use wire::Timestamp;

use super::config::Job;
use super::newest::Newest;
use super::relabel::{Pairs, set};
use super::request::{Failure, Reason, fetch, too_large};
use super::series::{Counts, Fates, Sample, Series, Wanted};
use super::target::Target;
use super::told::{State, Tally};
use super::{Event, Scraped};
use crate::sampler::thread_cpu_seconds;
use crate::snapshot::MetricType;

/// Pages up to this size are read whenever they come. Larger ones take turns: together they hold few of them in memory.
const SMALL_PAGE: usize = 1 << 20;

/// Larger pages that are under way at a time.
const LARGE_PAGES: usize = 2;

/// Targets that are asked at a time.
const AT_ONCE: usize = 64;

/// A new target is asked so soon, so that rules need not wait for a long interval to know whether it is there.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// What each scrape tells of itself.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// What all tasks share.
pub(super) struct Shared {
    /// Makes hosts with the same configuration ask at different times.
    pub(super) seed: String,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) newest: Newest,
    pub(super) tally: Tally,
    slots: Semaphore,
    large: Semaphore,
}

impl Shared {
    pub(super) fn new(seed: String, events: mpsc::Sender<Event>, newest: Newest, tally: Tally) -> Self {
        Self { seed, events, newest, tally, slots: Semaphore::new(AT_ONCE), large: Semaphore::new(LARGE_PAGES) }
    }
}

/// What a task is to do, as long as nobody says otherwise.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    pub(super) job: Arc<Job>,
    pub(super) target: Target,
    pub(super) wanted: Wanted,
}

impl Assigned {
    /// Whether what is known of series holds on.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.job.section == other.job.section
            && self.target == other.target
            && Arc::ptr_eq(&self.wanted.rules, &other.wanted.rules)
            && self.wanted.include == other.wanted.include
    }
}

/// Scrapes a target until it is aborted.
pub(super) async fn follow(id: u64, mut orders: watch::Receiver<Arc<Assigned>>, shared: Arc<Shared>) {
    let assigned = orders.borrow_and_update().clone();
    let first = FIRST_WITHIN.min(assigned.target.interval).as_millis().max(1);
    let offset = assigned.target.offset(&shared.seed).as_millis() % first;
    let mut next = Instant::now() + Duration::from_millis(u64::try_from(offset).unwrap_or(0));
    let mut task = Task::new(id, assigned, shared);
    loop {
        tokio::select! {
            changed = orders.changed() => match changed {
                Ok(()) => {
                    let assigned = orders.borrow_and_update().clone();
                    if assigned.target.interval != task.assigned.target.interval {
                        next = task.after(Instant::now(), assigned.target.interval);
                    }
                    task.assign(assigned);
                }
                Err(_) => return,
            },
            () = tokio::time::sleep_until(next.into()) => {
                task.scrape().await;
                next = task.after(next, task.assigned.target.interval);
            }
        }
    }
}

struct Task {
    id: u64,
    assigned: Arc<Assigned>,
    shared: Arc<Shared>,
    fates: Fates,
    /// One for each of [`REPORTS`], where somebody wants it.
    reports: [Option<Arc<Series>>; REPORTS.len()],
    /// The last page was a large one.
    is_large: bool,
    /// How the last scrape ended.
    last: Option<Result<(), Reason>>,
}

impl Task {
    fn new(id: u64, assigned: Arc<Assigned>, shared: Arc<Shared>) -> Self {
        let mut task = Self {
            id,
            assigned: assigned.clone(),
            shared,
            fates: Fates::default(),
            reports: Default::default(),
            is_large: false,
            last: None,
        };
        task.assign(assigned);
        task
    }

    fn assign(&mut self, assigned: Arc<Assigned>) {
        if !self.assigned.is_same(&assigned) {
            self.fates.clear();
        }
        let labels: Pairs = assigned.target.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        self.reports = REPORTS.map(|name| {
            let mut labels = labels.clone();
            set(&mut labels, NAME, name);
            assigned.wanted.of(&labels, MetricType::Gauge)
        });
        self.assigned = assigned;
    }

    /// The next moment of the target's own, behind the one that was planned; those that are over are missed.
    fn after(&self, planned: Instant, interval: Duration) -> Instant {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let interval = millis(interval).max(1);
        let since = millis(planned.elapsed());
        if since >= interval {
            self.shared.tally.missed(since / interval);
        }
        // Half an interval behind the one that was planned at least: a clock that is a little behind gave that one again.
        let ahead = (interval / 2).saturating_sub(since);
        let now = millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let offset = millis(self.assigned.target.offset(&self.shared.seed)) % interval;
        let wait = ahead + (offset + interval - now.saturating_add(ahead) % interval) % interval;
        Instant::now() + Duration::from_millis(wait)
    }

    async fn scrape(&mut self) {
        // Never closed; and where it is, there is nobody to scrape for.
        let shared = self.shared.clone();
        let Ok(_slot) = shared.slots.acquire().await else { return };
        let assigned = self.assigned.clone();
        let Assigned { job, target, .. } = &*assigned;
        let (begun, time) = (Instant::now(), Timestamp::from(SystemTime::now()).as_millis());
        let mut counts = Counts::default();
        let result = self.page(&assigned, begun, time, &mut counts).await;
        let took = begun.elapsed();
        self.tell(target, result.as_ref().err());
        let state = State {
            job: job.section.job.clone(),
            instance: target.labels.get("instance").unwrap_or_default().to_owned(),
            up: Some(result.is_ok()),
            fault: result.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            took,
            samples: counts.kept,
        };
        let word = result.as_ref().err().map_or("ok", |failure| failure.reason.as_str());
        shared.tally.scraped(self.id, state, word, thread_cpu_seconds());

        let values = [
            f64::from(result.is_ok()),
            took.as_secs_f64(),
            counts.scraped as f64,
            counts.kept as f64,
            counts.added as f64,
        ];
        let mut samples = result.unwrap_or_default();
        let reports = self.reports.iter().zip(values);
        samples
            .extend(reports.filter_map(|(series, value)| Some(Sample { series: series.clone()?, value, time: None })));
        shared.newest.set(self.id, samples.iter().filter(|sample| sample.series.of_publish).cloned().collect());
        samples.retain(|sample| sample.series.of_rules);
        let event = Event::Scraped(Scraped { target: self.id, time, samples });
        if timeout(target.interval, shared.events.send(event)).await.is_err() {
            shared.tally.untaken();
        }
    }

    /// Gets the page and reads it.
    async fn page(
        &mut self,
        assigned: &Assigned,
        begun: Instant,
        time: i64,
        counts: &mut Counts,
    ) -> Result<Vec<Sample>, Failure> {
        let Assigned { job, target, wanted } = assigned;
        let until = begun + target.timeout;
        let limit = usize::try_from(job.section.body_size_limit).unwrap_or(usize::MAX);
        let shared = self.shared.clone();
        let mut turn = None;
        let fetched = loop {
            if self.is_large && turn.is_none() {
                turn = Some(turn_of(&shared.large, target, until).await?);
            }
            let most = if turn.is_some() { limit } else { limit.min(SMALL_PAGE) };
            match fetch(job, &target.url, target.timeout, until, most).await? {
                Ok(fetched) => break fetched,
                Err(_) if most == limit => return Err(too_large(limit)),
                Err(_) => self.is_large = true,
            }
        };
        self.is_large = fetched.len() > SMALL_PAGE;
        let format = fetched.format;
        let text = fetched.text(limit)?;
        self.fates.read(&text, format, time, (job, target, wanted), counts)
    }

    /// Into the log, once a change.
    fn tell(&mut self, target: &Target, failure: Option<&Failure>) {
        let now = failure.map_or(Ok(()), |failure| Err(failure.reason));
        match (self.last.replace(now), failure) {
            (before, Some(failure)) if before != Some(now) => warn!("{} is down: {failure}", target.name()),
            (Some(Err(_)), None) => info!("{} is up again", target.name()),
            _ => {}
        }
    }
}

/// Waits until a large page may come.
async fn turn_of<'a>(large: &'a Semaphore, target: &Target, until: Instant) -> Result<SemaphorePermit<'a>, Failure> {
    match tokio::time::timeout_at(until.into(), large.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(_)) | Err(_) => {
            let seconds = target.timeout.as_secs_f64();
            Err(Reason::Timeout.failure(format!("other large pages took all of the {seconds} s that it had")))
        }
    }
}
