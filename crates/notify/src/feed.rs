//! What Alertmanagers are fed with: which alerts each of them has to be told of, and when again.
//!
//! As Prometheus does it: an alert is posted at once when it changes and again each [`Settings::resend`] while it fires,
//! with an end four such spans ahead, so that Alertmanager lets it go when nobody posts it any more. One that is over is
//! posted for some time yet. Each Alertmanager has a queue of its own, so that one that is away keeps no other waiting.
//!
//! No clock, no I/O: time comes in, batches go out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde::{Serialize, Serializer};
use wire::{LabelSet, Timestamp};

/// After how many spans of re-sending an alert ends by itself, as Prometheus has it.
const LIFE: u32 = 4;

/// The most alerts of one request.
const MOST_OF_BATCH: usize = 256;

/// In bytes of labels and annotations: after as many, a request is full.
const FULL_BATCH: usize = 1 << 20;

/// Which alert: a hash of its labels, whatever their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u128);

impl Key {
    /// Of an alert with these labels. A label without a value is none.
    pub fn of(labels: &LabelSet) -> Self {
        let mut pairs: Vec<_> = labels.iter().filter(|(_, value)| !value.is_empty()).collect();
        pairs.sort_unstable();
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            (seed, &pairs).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        Self(half(0) << 64 | half(1))
    }
}

/// How alerts are posted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long until an alert is posted again.
    pub resend: Duration,
    /// How long one that is over is posted yet.
    pub resolved_for: Duration,
    /// How many alerts may wait for one Alertmanager; beyond, the oldest is dropped until it is posted again. With fewer than
    /// there may be alerts, some could be dropped each time.
    pub queue: usize,
    /// How many alerts there may be, firing and over.
    pub most: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resend: Duration::from_secs(60),
            resolved_for: Duration::from_secs(15 * 60),
            queue: 100_000,
            most: 100_000,
        }
    }
}

/// An alert that fires.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// All labels. One without a value is left out.
    pub labels: LabelSet,
    /// Annotations.
    pub annotations: LabelSet,
    /// Since when.
    pub starts_at: Timestamp,
    /// Where people find more; empty for nowhere.
    pub generator_url: String,
}

/// There are as many alerts as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are as many alerts as are taken")]
pub struct Full;

/// The alerts, and what each Alertmanager has yet to be told.
#[derive(Debug)]
pub struct Feed {
    settings: Settings,
    alerts: HashMap<Key, Entry>,
    /// When which is posted next.
    due: BTreeSet<(Timestamp, Key)>,
    targets: Vec<Target>,
    last: Timestamp,
}

#[derive(Debug)]
struct Entry {
    alert: Firing,
    ends_at: Option<Timestamp>,
    /// When we were told that it is over.
    resolved: Option<Timestamp>,
    due: Timestamp,
}

#[derive(Debug, Default)]
struct Target {
    queue: VecDeque<Key>,
    queued: HashSet<Key>,
    dropped: u64,
}

/// What one Alertmanager is to be told at once. Its JSON is the body of `POST /api/v2/alerts`.
#[derive(Debug)]
pub struct Batch {
    keys: Vec<Key>,
    body: Vec<u8>,
}

impl Batch {
    /// How many alerts it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// It never is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The request's body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl Feed {
    /// Without alerts, for so many Alertmanagers, numbered from 0.
    pub fn new(settings: Settings, targets: usize) -> Self {
        Self {
            settings,
            alerts: HashMap::new(),
            due: BTreeSet::new(),
            targets: (0..targets).map(|_| Target::default()).collect(),
            last: Timestamp::from_millis(i64::MIN),
        }
    }

    /// An alert fires. One that does already is told with its new annotations when it is posted again.
    pub fn fire(&mut self, mut alert: Firing, now: Timestamp) -> Result<Key, Full> {
        alert.labels = alert.labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let key = Key::of(&alert.labels);
        let is_full = self.alerts.len() >= self.settings.most;
        match self.alerts.get_mut(&key) {
            Some(entry) => {
                let is_new = entry.ends_at.is_some() || entry.alert.starts_at != alert.starts_at;
                (entry.alert, entry.ends_at, entry.resolved) = (alert, None, None);
                if is_new {
                    self.hurry(key, now);
                }
            }
            None if is_full => return Err(Full),
            None => {
                self.alerts.insert(key, Entry { alert, ends_at: None, resolved: None, due: now });
                self.due.insert((now, key));
            }
        }
        Ok(key)
    }

    /// An alert is over, since a time that may have gone by.
    pub fn resolve(&mut self, key: Key, ends_at: Timestamp, now: Timestamp) {
        let Some(entry) = self.alerts.get_mut(&key).filter(|entry| entry.ends_at.is_none()) else { return };
        entry.ends_at = Some(ends_at.min(now));
        entry.resolved = Some(now);
        self.hurry(key, now);
    }

    fn hurry(&mut self, key: Key, now: Timestamp) {
        if let Some(entry) = self.alerts.get_mut(&key) {
            self.due.remove(&(entry.due, key));
            entry.due = now;
            self.due.insert((now, key));
        }
    }

    /// Puts what is due into the queues, and forgets what is over for long enough.
    pub fn tick(&mut self, now: Timestamp) {
        if now < self.last {
            // The clock was set back: nothing may wait until it has caught up.
            self.due = self
                .alerts
                .iter_mut()
                .map(|(key, entry)| {
                    entry.due = now;
                    entry.resolved = entry.resolved.map(|at| at.min(now));
                    (now, *key)
                })
                .collect();
        }
        self.last = now;
        while let Some(&(at, key)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(entry) = self.alerts.get_mut(&key) else { continue };
            if entry.resolved.is_some_and(|at| now >= at.plus(self.settings.resolved_for)) {
                self.alerts.remove(&key);
                continue;
            }
            entry.due = now.plus(self.settings.resend);
            self.due.insert((entry.due, key));
            for target in &mut self.targets {
                target.push(key, self.settings.queue);
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do if nothing changes before.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next batch for an Alertmanager, as things are now.
    pub fn take(&mut self, target: usize, now: Timestamp) -> Option<Batch> {
        let target = self.targets.get_mut(target)?;
        let mut keys = Vec::new();
        let mut posted = Vec::new();
        let mut size = 0;
        let until = self.settings.resend.saturating_mul(LIFE);
        while keys.len() < MOST_OF_BATCH
            && size < FULL_BATCH
            && let Some(key) = target.queue.pop_front()
        {
            target.queued.remove(&key);
            let Some(Entry { alert, ends_at, .. }) = self.alerts.get(&key) else { continue };
            let pairs = alert.labels.iter().chain(alert.annotations.iter());
            size += pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>();
            // Alertmanager refuses an end before the beginning, which hosts with a wrong clock may tell.
            let starts_at = alert.starts_at.min(ends_at.unwrap_or(now));
            posted.push(Postable {
                labels: &alert.labels,
                annotations: &alert.annotations,
                starts_at,
                ends_at: ends_at.unwrap_or_else(|| now.plus(until)),
                generator_url: &alert.generator_url,
            });
            keys.push(key);
        }
        if keys.is_empty() { None } else { Some(Batch { keys, body: wire::encode(&posted) }) }
    }

    /// A batch that did not get through is first in the queue again, as its alerts are then.
    pub fn give_back(&mut self, target: usize, batch: &Batch) {
        let most = self.settings.queue;
        let Some(target) = self.targets.get_mut(target) else { return };
        for key in batch.keys.iter().rev() {
            if !target.queued.contains(key) {
                if target.queue.len() >= most {
                    target.dropped += 1;
                    continue;
                }
                target.queued.insert(*key);
                target.queue.push_front(*key);
            }
        }
    }

    /// Whether this alert fires.
    pub fn fires(&self, key: Key) -> bool {
        self.alerts.get(&key).is_some_and(|entry| entry.ends_at.is_none())
    }

    /// How many alerts fire, and how many are over and still told.
    pub fn counts(&self) -> (usize, usize) {
        let resolved = self.alerts.values().filter(|entry| entry.ends_at.is_some()).count();
        (self.alerts.len() - resolved, resolved)
    }

    /// How many alerts wait for an Alertmanager, and how many were dropped there.
    pub fn waiting(&self, target: usize) -> (usize, u64) {
        self.targets.get(target).map_or((0, 0), |target| (target.queue.len(), target.dropped))
    }
}

impl Target {
    fn push(&mut self, key: Key, most: usize) {
        if !self.queued.insert(key) {
            return;
        }
        if self.queue.len() >= most.max(1)
            && let Some(oldest) = self.queue.pop_front()
        {
            self.queued.remove(&oldest);
            self.dropped += 1;
        }
        self.queue.push_back(key);
    }
}

/// Alertmanager's `postableAlert`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Postable<'a> {
    #[serde(serialize_with = "sorted")]
    labels: &'a LabelSet,
    #[serde(serialize_with = "sorted")]
    annotations: &'a LabelSet,
    starts_at: Timestamp,
    ends_at: Timestamp,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
}

fn sorted<S: Serializer>(labels: &LabelSet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().collect::<BTreeMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn labels(pairs: &[(&str, &str)]) -> LabelSet {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn alert(name: &str, starts_at: i64) -> Firing {
        Firing {
            labels: labels(&[("alertname", name), ("empty", "")]),
            annotations: labels(&[("summary", "s")]),
            starts_at: at(starts_at),
            generator_url: String::new(),
        }
    }

    /// What an Alertmanager gets at this time: name, start and end in seconds.
    fn posted(feed: &mut Feed, target: usize, now: i64) -> Vec<(String, i64, i64)> {
        feed.tick(at(now));
        let mut all = Vec::new();
        while let Some(batch) = feed.take(target, at(now)) {
            let alerts: Vec<Value> = serde_json::from_slice(batch.body()).unwrap();
            assert_eq!(alerts.len(), batch.len());
            let seconds = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap().as_millis() / 1000;
            all.extend(alerts.iter().map(|alert| {
                assert!(alert["labels"].get("empty").is_none() && alert.get("generatorURL").is_none());
                let name = alert["labels"]["alertname"].as_str().unwrap().to_owned();
                (name, seconds(&alert["startsAt"]), seconds(&alert["endsAt"]))
            }));
        }
        all
    }

    fn one(name: &str, starts_at: i64, ends_at: i64) -> Vec<(String, i64, i64)> {
        vec![(name.to_owned(), starts_at, ends_at)]
    }

    #[test]
    fn an_alert_is_told_at_once_again_each_minute_and_when_over() {
        let mut feed = Feed::new(Settings::default(), 1);
        let key = feed.fire(alert("A", 990), at(1000)).unwrap();
        assert_eq!(posted(&mut feed, 0, 1000), one("A", 990, 1240));
        assert_eq!(posted(&mut feed, 0, 1059), []);
        feed.fire(alert("A", 990), at(1059)).unwrap();
        assert_eq!(posted(&mut feed, 0, 1059), [], "nothing is new");
        assert_eq!(feed.wake_at(), Some(at(1060)));
        assert_eq!(posted(&mut feed, 0, 1060), one("A", 990, 1300));
        feed.resolve(key, at(1065), at(1070));
        assert_eq!(posted(&mut feed, 0, 1070), one("A", 990, 1065));
        feed.resolve(key, at(1071), at(1071));
        assert_eq!(posted(&mut feed, 0, 1130), one("A", 990, 1065), "its end stays as it is");
        assert_eq!(feed.counts(), (0, 1));
        let mut told = 0;
        for now in 1131..2100 {
            told += posted(&mut feed, 0, now).len();
        }
        assert_eq!((told, feed.counts()), (13, (0, 0)), "for a quarter of an hour");
        // It fires anew within that time or after: told at once.
        let key = feed.fire(alert("A", 3000), at(3000)).unwrap();
        feed.resolve(key, at(3001), at(3001));
        assert_eq!(posted(&mut feed, 0, 3001), one("A", 3000, 3001));
        feed.fire(alert("A", 3002), at(3002)).unwrap();
        assert_eq!(posted(&mut feed, 0, 3002), one("A", 3002, 3242));
    }

    #[test]
    fn an_alertmanager_that_is_away_keeps_no_other_waiting_and_gets_the_latest() {
        let mut feed = Feed::new(Settings { queue: 3, ..Settings::default() }, 2);
        let key = feed.fire(alert("A", 1), at(1)).unwrap();
        feed.tick(at(1));
        let lost = feed.take(0, at(1)).unwrap();
        feed.give_back(0, &lost);
        assert_eq!(posted(&mut feed, 1, 1).len(), 1);
        feed.resolve(key, at(5), at(5));
        feed.tick(at(5));
        for name in ["B", "C", "D"] {
            feed.fire(alert(name, 6), at(6)).unwrap();
        }
        feed.tick(at(6));
        assert_eq!((feed.waiting(0), feed.waiting(1)), ((3, 1), (3, 1)), "the oldest is dropped");
        assert_eq!(posted(&mut feed, 0, 7).len(), 3);
        assert_eq!(posted(&mut feed, 0, 65), one("A", 1, 5), "and comes with the next turn");
    }

    #[test]
    fn times_of_wrong_clocks_are_such_that_alertmanager_takes_them() {
        let mut feed = Feed::new(Settings::default(), 1);
        let key = feed.fire(alert("A", 9000), at(100)).unwrap();
        assert_eq!(posted(&mut feed, 0, 100), one("A", 100, 340));
        feed.resolve(key, at(9001), at(110));
        assert_eq!(posted(&mut feed, 0, 110), one("A", 110, 110));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut feed = Feed::new(Settings::default(), 1);
        feed.fire(alert("A", 9000), at(9000)).unwrap();
        assert_eq!(posted(&mut feed, 0, 9000).len(), 1);
        assert_eq!(posted(&mut feed, 0, 100).len(), 1);
        assert_eq!(posted(&mut feed, 0, 160).len(), 1);
    }

    #[test]
    fn more_alerts_than_there_may_be_are_refused_and_batches_are_bounded() {
        let mut feed = Feed::new(Settings { most: 600, ..Settings::default() }, 1);
        for n in 0..600 {
            feed.fire(alert(&n.to_string(), 1), at(1)).unwrap();
        }
        assert_eq!(feed.fire(alert("x", 1), at(1)), Err(Full));
        assert!(feed.fire(alert("5", 1), at(1)).is_ok(), "those that are there may go on");
        feed.tick(at(1));
        let sizes: Vec<_> = std::iter::from_fn(|| feed.take(0, at(1))).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [256, 256, 88]);
        let mut feed = Feed::new(Settings::default(), 1);
        for n in 0..3 {
            let mut long = alert(&n.to_string(), 1);
            long.annotations.insert("description".to_owned(), "x".repeat(FULL_BATCH / 2));
            feed.fire(long, at(1)).unwrap();
        }
        feed.tick(at(1));
        let sizes: Vec<_> = std::iter::from_fn(|| feed.take(0, at(1))).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [2, 1]);
    }

    #[test]
    fn a_key_knows_no_order() {
        assert_eq!(Key::of(&labels(&[("a", "1"), ("b", "2")])), Key::of(&labels(&[("b", "2"), ("a", "1"), ("c", "")])));
        assert_ne!(Key::of(&labels(&[("a", "1")])), Key::of(&labels(&[("a", "2")])));
    }
}
