//! What notifications tell of themselves on `/metrics`.

use std::collections::BTreeMap;

use notify::Notification;
use notify::dispatch::Dispatcher;
use notify::notification::Reason;
use notify::queue::{Counts, Queue};
use wire::Timestamp;

use super::dead::DeadLetters;
use super::feeder::Feeder;
use crate::snapshot::{Families, Labels};

/// As of the last thing that happened.
#[derive(Debug, Clone, Default)]
pub struct Told {
    targets: BTreeMap<String, Of>,
    /// Alertmanagers: how many alerts wait for each, were taken, refused, not told yet, and were left out.
    alertmanagers: Vec<(String, usize, [u64; 3], u64)>,
    /// Alerts that fire, and those of them that a silence hides.
    firing: usize,
    silenced: usize,
    /// Silences that are in force.
    pub(super) silences: usize,
    /// Alerts that were not looked at, since there are too many.
    left_out: u64,
    /// Notifications that were given up.
    dead: u64,
    /// States that could not be written.
    pub(super) unwritten: u64,
    /// From the beginning of the youngest alert to the first try.
    latency: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Of {
    counts: Counts,
    waiting: usize,
    failures: u32,
}

impl Told {
    pub(super) fn update(&mut self, queue: &Queue, dispatcher: &Dispatcher, dead: &DeadLetters, now: Timestamp) {
        self.targets.clear();
        for (target, waiting, failures) in queue.depths() {
            self.targets.insert(target.to_owned(), Of { waiting, failures, counts: Counts::default() });
        }
        for (target, counts) in queue.counts() {
            self.targets.entry(target.to_owned()).or_default().counts = counts;
        }
        (self.firing, self.silenced) = dispatcher.counts(now);
        (self.left_out, self.dead) = (dispatcher.left_out(), dead.count());
    }

    pub(super) fn feeds(&mut self, feeder: &Feeder) {
        self.alertmanagers.clear();
        for (url, way, waiting, left_out) in feeder.ways() {
            self.alertmanagers.push((url.to_owned(), waiting, way.counts, left_out));
        }
    }

    pub(super) fn note_latency(&mut self, notification: &Notification, now: Timestamp) {
        let youngest = notification.firing().map(|alert| alert.fired_at).max();
        if let Some(began) = youngest.filter(|_| notification.reason == Reason::Alerts) {
            self.latency = (now.as_millis() - began.as_millis()).max(0) as f64 / 1000.0;
        }
    }

    /// As metrics of the agent. Names of receivers come from the configuration, never from outside.
    pub fn describe(&self, out: &mut Families) {
        let labels = |target: &str| {
            let mut parts = target.split('/');
            let (receiver, integration) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let number = parts.next().unwrap_or_default();
            Labels::new([("receiver", receiver), ("integration", integration), ("number", number)])
        };
        let mut each = |counter: bool, name: &'static str, help: &'static str, value: &dyn Fn(&Of) -> f64| {
            match counter {
                true => out.counter(name, help),
                false => out.gauge(name, help),
            }
            for (target, of) in &self.targets {
                out.push(&labels(target), value(of));
            }
        };
        each(true, "utilizer_notify_sent_total", "Notifications that arrived.", &|of| of.counts.sent as f64);
        each(
            true,
            "utilizer_notify_retries_total",
            "Tries to send a notification that failed and are repeated.",
            &|of| of.counts.retried as f64,
        );
        each(
            true,
            "utilizer_notify_given_up_total",
            "Notifications that were refused for good, found no room, or could not be sent for too long.",
            &|of| of.counts.failed as f64,
        );
        each(
            true,
            "utilizer_notify_joined_total",
            "Notifications that were sent as part of another: news of the same group, a digest, a summary.",
            &|of| of.counts.joined as f64,
        );
        each(false, "utilizer_notify_waiting", "Notifications that wait to be sent.", &|of| of.waiting as f64);
        each(false, "utilizer_notify_failures_in_a_row", "Tries that failed since the last that succeeded.", &|of| {
            f64::from(of.failures)
        });
        out.counter(
            "utilizer_notify_alertmanager_alerts_total",
            "Alerts that were posted to Alertmanagers, by what became of it.",
        );
        for (url, _, counts, left_out) in &self.alertmanagers {
            let outcomes = ["taken", "refused", "failed", "left_out"].into_iter().zip(counts.iter().chain([left_out]));
            for (outcome, count) in outcomes {
                out.push(&Labels::new([("alertmanager", url.as_str()), ("outcome", outcome)]), *count as f64);
            }
        }
        out.gauge("utilizer_notify_alertmanager_waiting", "Alerts that wait for an Alertmanager.");
        for (url, waiting, ..) in &self.alertmanagers {
            out.push(&Labels::new([("alertmanager", url.as_str())]), *waiting as f64);
        }
        out.gauge("utilizer_notify_alerts", "Alerts that fire, as notifications see them.");
        out.push(&Labels::new([("state", "active")]), (self.firing - self.silenced.min(self.firing)) as f64);
        out.push(&Labels::new([("state", "silenced")]), self.silenced as f64);
        out.gauge("utilizer_notify_silences", "Silences that are in force.");
        out.value(self.silences as f64);
        out.counter(
            "utilizer_notify_alerts_left_out_total",
            "Alerts that were not looked at, since there are too many.",
        );
        out.value(self.left_out as f64);
        out.counter(
            "utilizer_notify_dead_letters_total",
            "Notifications that were written to the file of those given up.",
        );
        out.value(self.dead as f64);
        out.counter(
            "utilizer_notify_state_failures_total",
            "Times that the state of notifications could not be written.",
        );
        out.value(self.unwritten as f64);
        out.gauge(
            "utilizer_notify_latency_seconds",
            "From the moment when the youngest alert of the last notification began to fire to the request.",
        );
        out.value(self.latency);
    }
}
