//! Tells Alertmanagers what fires, as Prometheus does: everything, again and again, without routes. Grouping, silences and
//! receivers are theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use notify::feed::{Batch, Feed, Firing, Key, Settings};
use notify::receivers::{Alertmanager, Call, Outcome};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use wire::Timestamp;
use wire::messages::Alert;

use super::deliver::{self, Deliverer};

/// Between two tries, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The Alertmanagers, and what each has yet to be told.
#[derive(Debug)]
pub(super) struct Feeder {
    section: Alertmanager,
    external_url: String,
    feed: Feed,
    ways: Vec<Way>,
    /// By fingerprint, what fires.
    known: BTreeMap<String, Key>,
    sends: JoinSet<(usize, Batch, Outcome)>,
    /// Alerts that found no room.
    left_out: u64,
}

/// How it goes with one of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    busy: bool,
    not_before: Option<Timestamp>,
    failures: u32,
    /// Alerts that were taken, refused, and that could not be told.
    pub(super) counts: [u64; 3],
}

impl Feeder {
    pub(super) fn new(section: Alertmanager, external_url: &str) -> Self {
        let settings = Settings { resend: section.resend, ..Settings::default() };
        Self {
            feed: Feed::new(settings, section.urls.len()),
            ways: vec![Way::default(); section.urls.len()],
            section,
            external_url: external_url.to_owned(),
            known: BTreeMap::new(),
            sends: JoinSet::new(),
            left_out: 0,
        }
    }

    /// Whether it would be another with this section.
    pub(super) fn differs(&self, section: &Alertmanager, external_url: &str) -> bool {
        self.section != *section || self.external_url != external_url
    }

    /// The alerts that fire; those that it knew and that are not among them are over.
    pub(super) fn observe<'a>(&mut self, firing: impl IntoIterator<Item = &'a Alert>, now: Timestamp) {
        if self.ways.is_empty() {
            return;
        }
        let mut before = std::mem::take(&mut self.known);
        for alert in firing {
            before.remove(&alert.fingerprint);
            let firing = Firing {
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at: alert.fired_at,
                generator_url: self.external_url.clone(),
            };
            match self.feed.fire(firing, now) {
                Ok(key) => drop(self.known.insert(alert.fingerprint.clone(), key)),
                Err(_) => self.left_out += 1,
            }
        }
        before.into_values().for_each(|key| self.feed.resolve(key, now, now));
    }

    /// Sends what is due.
    pub(super) fn work(&mut self, deliverer: &mut Deliverer, now: Timestamp) {
        if self.ways.is_empty() {
            return;
        }
        self.feed.tick(now);
        for (at, (way, url)) in self.ways.iter_mut().zip(&self.section.urls).enumerate() {
            if way.busy || way.not_before.is_some_and(|then| then > now) {
                continue;
            }
            let Some(batch) = self.feed.take(at, now) else { continue };
            way.busy = true;
            let call = self.section.post(url, batch.body().to_vec(), &deliver::secret);
            let work = match call {
                Ok(Call::Http(call)) => deliverer.http(call, Alertmanager::outcome),
                Ok(_) => deliver::ready(Outcome::Refused("BUG: an Alertmanager speaks HTTP".to_owned())),
                Err(why) => deliver::ready(Outcome::Retry(None, why)),
            };
            self.sends.spawn(async move { (at, batch, work.await) });
        }
    }

    /// Waits for an answer, for ever where none is to come.
    pub(super) async fn answered(&mut self) -> Option<(usize, Batch, Outcome)> {
        match self.sends.join_next().await {
            Some(Ok(done)) => Some(done),
            Some(Err(panic)) => {
                error!("BUG: telling an Alertmanager failed: {panic}");
                None
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn done(&mut self, (at, batch, outcome): (usize, Batch, Outcome), now: Timestamp) {
        let (Some(way), Some(url)) = (self.ways.get_mut(at), self.section.urls.get(at)) else { return };
        way.busy = false;
        let [taken, refused, failed] = &mut way.counts;
        let alerts = batch.len() as u64;
        match outcome {
            Outcome::Sent => {
                *taken += alerts;
                if way.failures > 0 {
                    info!("the Alertmanager {url} takes alerts again");
                }
                (way.failures, way.not_before) = (0, None);
            }
            // It keeps the good ones of a batch, and what fires is posted again with its next turn.
            Outcome::Refused(why) => {
                *refused += alerts;
                error!("the Alertmanager {url} refuses {alerts} alerts: {why}");
            }
            Outcome::Retry(after, why) => {
                *failed += alerts;
                if way.failures == 0 {
                    warn!("the Alertmanager {url} takes no alerts: {why}; it is tried again for as long as it takes");
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << way.failures.min(6)).min(LONGEST_PAUSE);
                way.failures = way.failures.saturating_add(1);
                way.not_before = Some(now.plus(pause.max(after.unwrap_or_default().min(LONGEST_PAUSE))));
                self.feed.give_back(at, &batch);
            }
        }
    }

    /// When there is next something to send, if nothing else happens.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let waiting = self.ways.iter().enumerate().filter(|(at, way)| !way.busy && self.feed.waiting(*at).0 > 0);
        let waiting = waiting.map(|(_, way)| way.not_before.unwrap_or(Timestamp::from_millis(0)));
        if self.ways.is_empty() { None } else { waiting.chain(self.feed.wake_at()).min() }
    }

    /// Each Alertmanager, how many alerts wait for it, and how many it has never been told.
    pub(super) fn ways(&self) -> impl Iterator<Item = (&str, Way, usize, u64)> {
        self.section.urls.iter().zip(&self.ways).enumerate().map(|(at, (url, way))| {
            let (waiting, dropped) = self.feed.waiting(at);
            (url.as_str(), *way, waiting, dropped + self.left_out)
        })
    }
}
