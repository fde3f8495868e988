//! When probes run.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::dial::Tools;
use super::found::Found;
use super::{Asking, Memory, Probe, Run, Shared};
use crate::config::Config;

/// Probes that run at the same time; the others wait.
const MOST_AT_ONCE: usize = 16;

/// A probe first runs within this time, so that a start does not have to wait for a long interval.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// A service whose fault is another one each time has so many lines in the log in this time.
const COUNTED: Duration = Duration::from_secs(60);
const MOST_LINES: u32 = 4;

/// What runs probes.
pub struct Runner {
    shared: Shared,
    tools: Arc<Tools>,
    turns: Arc<Semaphore>,
    running: JoinSet<()>,
    /// By the probe's name.
    beats: BTreeMap<String, (Probe, AbortHandle)>,
}

/// Runs the probes of the configuration, and others when it changes, until `stop` returns.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, shared: Shared, stop: impl Future<Output = ()>) {
    let mut runner = Runner::new(shared);
    let mut stop = std::pin::pin!(stop);
    loop {
        let probes = config.borrow_and_update().probes.clone();
        runner.take(&probes);
        tokio::select! {
            () = &mut stop => return,
            Ok(()) = config.changed() => {}
            else => return,
        }
    }
}

impl Runner {
    /// Without probes.
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            tools: Arc::default(),
            turns: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            running: JoinSet::new(),
            beats: BTreeMap::new(),
        }
    }

    /// Runs these. Those that are the same go on, with what they know; others end.
    fn take(&mut self, probes: &[Probe]) {
        self.beats.retain(|_, (probe, task)| {
            let stays = probes.iter().any(|wanted| wanted == probe);
            if !stays {
                // It is dropped where it waits: connections are closed.
                task.abort();
            }
            stays
        });
        self.shared.keep(probes);
        for probe in probes {
            if !self.beats.contains_key(&probe.name) {
                let beat = beat(probe.clone(), self.shared.clone(), self.tools.clone(), self.turns.clone());
                let task = self.running.spawn(beat);
                self.beats.insert(probe.name.clone(), (probe.clone(), task));
            }
        }
        while self.running.try_join_next().is_some() {}
    }
}

/// A place in the interval, by the probe's name: the same at each start, and spread over all probes.
fn place(name: &str, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    interval.mul_f64((hasher.finish() % 1000) as f64 / 1000.0)
}

async fn beat(probe: Probe, shared: Shared, tools: Arc<Tools>, turns: Arc<Semaphore>) {
    let start = Instant::now();
    let mut memory = Memory::default();
    let mut news = News::default();
    let first = start + place(&probe.name, probe.interval);
    let mut due = None;
    sleep_until(start + place(&probe.name, probe.interval.min(FIRST_WITHIN))).await;
    loop {
        // It is never closed.
        let turn = turns.acquire().await;
        let result = once(&probe, &mut memory, &shared, &tools).await;
        drop(turn);
        news.tell(&probe, result.as_ref().err());
        let next = next(first, probe.interval, Instant::now());
        if let Some(due) = due {
            shared.miss(beats(next - due, probe.interval).saturating_sub(1));
        }
        due = Some(next);
        sleep_until(next).await;
    }
}

/// The first beat after now.
fn next(first: Instant, interval: Duration, now: Instant) -> Instant {
    match now.checked_duration_since(first) {
        None => first,
        Some(passed) => first + interval * (beats(passed, interval).saturating_add(1)),
    }
}

/// How often the interval goes into this time.
fn beats(time: Duration, interval: Duration) -> u32 {
    u32::try_from(time.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX)
}

async fn once(probe: &Probe, memory: &mut Memory, shared: &Shared, tools: &Tools) -> Result<(), String> {
    let begun = Instant::now();
    let until = begun + probe.timeout;
    let mut found = Found::default();
    let mut run = Run { found: &mut found, memory, tools, until, timeout: probe.timeout, family: probe.family };
    let result = match timeout_at(until, survived(probe.kind.look().run(&mut run))).await {
        Ok(result) => result,
        Err(_) => {
            let limit = daemon::config::duration::format(probe.timeout);
            Err(format!("{} took longer than {limit} (`timeout`)", found.at()))
        }
    };
    let took = begun.elapsed();
    found.gauge("probe_success", "Whether the probe's target answered as it should.", f64::from(result.is_ok()));
    found.gauge("probe_duration_seconds", "How long the probe took.", took.as_secs_f64());
    shared.put(probe, found, result.clone(), took);
    result
}

/// A panic is the probe's own failure.
async fn survived(mut asking: Asking<'_>) -> Result<(), String> {
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| asking.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(Err("BUG: the probe panicked; the line of it stands above".to_owned())),
    })
    .await
}

/// What the log was told of a probe.
#[derive(Debug, Default)]
struct News {
    said: Option<String>,
    /// Since when lines are counted.
    from: Option<Instant>,
    lines: u32,
}

impl News {
    /// Says what is new, not too often.
    fn tell(&mut self, probe: &Probe, fault: Option<&String>) {
        if self.said.as_ref() == fault {
            return;
        }
        if self.from.is_none_or(|from| from.elapsed() >= COUNTED) {
            (self.from, self.lines) = (Some(Instant::now()), 0);
        }
        if self.lines >= MOST_LINES {
            return;
        }
        match fault {
            Some(why) => warn!("probe {} ({}): {why}", probe.name, probe.target),
            None => info!("probe {} ({}) is answered again", probe.name, probe.target),
        }
        self.said = fault.cloned();
        self.lines += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_that_is_the_same_goes_on() {
        let probes = |paths: &[&str]| {
            let table = |path: &&str| format!("[[probe]]\nname = \"{path}\"\n[probe.file]\npath = \"/{path}\"\n");
            let text: String = paths.iter().map(table).collect();
            let file: crate::config::File = toml::from_str(&text).unwrap();
            super::super::checked(&file.probe).unwrap()
        };
        let mut runner = Runner::new(Shared::default());
        let ids = |runner: &Runner| -> Vec<_> {
            runner.beats.iter().map(|(name, (_, task))| (name.clone(), task.id())).collect()
        };
        runner.take(&probes(&["a", "b"]));
        let before = ids(&runner);
        runner.take(&probes(&["b", "c"]));
        let after = ids(&runner);
        assert_eq!((after.len(), &after[0]), (2, &before[1]), "what it knows of its file stays");
        let mut other = probes(&["b", "c"]);
        other[0].interval = Duration::from_secs(60);
        runner.take(&other);
        assert_ne!(ids(&runner)[0], after[0]);
        assert_eq!(ids(&runner)[1], after[1]);
    }

    #[test]
    fn beats_have_a_place_in_the_interval() {
        let first = Instant::now() + Duration::from_secs(100);
        let interval = Duration::from_secs(10);
        let at = |seconds: u64| first + Duration::from_secs(seconds);
        assert_eq!(next(first, interval, at(0) - interval), first);
        assert_eq!(next(first, interval, at(0)), at(10));
        assert_eq!(next(first, interval, at(25)), at(30));
        let places: Vec<_> = (0..100).map(|number| place(&format!("probe {number}"), interval)).collect();
        assert!(places.iter().all(|place| *place < interval));
        assert!(places.iter().filter(|place| **place < interval / 2).count().abs_diff(50) < 25, "{places:?}");
    }
}
