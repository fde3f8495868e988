//! Notifications that wait: in order for each target, tried again until they arrive or are given up, and bounded.
//!
//! What was tried stays as it is, so that whoever got it twice can tell by its id. What waits behind it is joined: news of
//! the same group into one, and for people all groups into a summary, so that the end of an outage is no flood.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::Timestamp;
use wire::messages::Alert;

use crate::dispatch;
use crate::notification::{Notification, Reason};
use crate::receivers::Outcome;

/// Ids that a target remembers, so that what was decided again after a crash is not sent again.
const MOST_REMEMBERED: usize = 64;

/// Notifications that wait for one target; only those are so many that can't be joined.
const MOST_WAITING: usize = 500;

/// Alerts that wait in all notifications together, so that what waits can be written to one file.
const MOST_ALERTS: usize = 40_000;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// A service that asks for more has lost its mind.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

const MINUTE: Duration = Duration::from_secs(60);

/// How the queue behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Notifications a minute that a target for people gets one by one; more are sent together.
    pub digest_above: usize,
    /// How long a notification is tried.
    pub give_up_after: Duration,
    /// Alerts in one notification.
    pub max_alerts: usize,
}

/// What is known of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether people read it: several groups may stand in one notification.
    pub for_people: bool,
    /// Between two notifications.
    pub pause: Duration,
}

/// All that waits, for each target.
#[derive(Debug)]
pub struct Queue {
    settings: Settings,
    lines: BTreeMap<String, Line>,
    counts: BTreeMap<String, Counts>,
    /// When it was last looked at.
    looked_at: Option<Timestamp>,
    /// A digest has ended since all was written.
    digested: bool,
}

/// What was counted for a target since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Arrived.
    pub sent: u64,
    /// Tries that failed and are repeated.
    pub retried: u64,
    /// Given up.
    pub failed: u64,
    /// Joined with another.
    pub joined: u64,
}

/// What waits, as it is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved(Vec<(String, Line)>);

/// What became of what waits since all of it was written: which are done, and when the next one is tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress(Vec<(String, Step)>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Step {
    /// The first that waits, if it may have arrived.
    tried: Option<String>,
    not_before: Timestamp,
    failures: u32,
    remembered: VecDeque<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// More came in a minute than shall be told one by one.
    #[serde(default)]
    digest: Option<Waiting>,
    /// When the last ones came, a minute at most.
    #[serde(default)]
    came: VecDeque<Timestamp>,
    /// Not before this is tried again.
    not_before: Timestamp,
    failures: u32,
    remembered: VecDeque<String>,
    /// Notifications that were done since all was written.
    #[serde(skip)]
    done: usize,
    #[serde(skip)]
    under_way: bool,
    #[serde(skip)]
    manner: Manner,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Waiting {
    notification: Notification,
    since: Timestamp,
    tried: bool,
}

/// What became of a notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It arrived.
    Sent,
    /// It is tried again at this time.
    Later(Timestamp, String),
    /// It was given up, for this reason.
    GivenUp(Box<Notification>, String),
    /// Nobody waits for it.
    Unknown,
}

impl Queue {
    /// Goes on where `saved` and what came of it since ended.
    pub fn new(settings: Settings, saved: Saved, progress: Progress) -> Self {
        let mut lines: BTreeMap<String, Line> = saved.0.into_iter().collect();
        for (target, step) in progress.0 {
            if let Some(line) = lines.get_mut(&target) {
                line.go_on(step);
            }
        }
        Self { settings, lines, counts: BTreeMap::new(), looked_at: None, digested: false }
    }

    /// What waits, to be kept.
    pub fn saved(&self) -> Saved {
        Saved(self.lines.iter().map(|(target, line)| (target.clone(), line.clone())).collect())
    }

    /// What became of it since [`Queue::written`], to be kept beside what was saved then.
    pub fn progress(&self) -> Progress {
        let steps = self.lines.iter().map(|(target, line)| {
            let tried = line.waiting.front().filter(|first| first.tried).map(|first| first.notification.id.clone());
            let (not_before, failures) = (line.not_before, line.failures);
            (target.clone(), Step { tried, not_before, failures, remembered: line.remembered.clone() })
        });
        Progress(steps.collect())
    }

    /// Whether [`Queue::progress`] does not say all: [`Queue::saved`] has to be written again.
    pub fn outgrown(&self) -> bool {
        self.digested || self.lines.values().any(|line| line.done > MOST_REMEMBERED / 2)
    }

    /// All that waits was written.
    pub fn written(&mut self) {
        self.digested = false;
        self.lines.values_mut().for_each(|line| line.done = 0);
    }

    /// Takes over other settings and the targets that there are. What waits for others is given back.
    pub fn configure(&mut self, settings: Settings, targets: &BTreeMap<String, Manner>) -> Vec<(String, Notification)> {
        self.settings = settings;
        let mut orphans = Vec::new();
        self.lines.retain(|target, line| match targets.get(target) {
            Some(manner) => {
                line.manner = *manner;
                true
            }
            None => {
                let waiting = line.waiting.drain(..).chain(line.digest.take());
                orphans.extend(waiting.map(|waiting| (target.clone(), waiting.notification)));
                false
            }
        });
        for (target, manner) in targets {
            self.lines.entry(target.clone()).or_insert_with(|| Line::new(*manner));
        }
        orphans
    }

    /// Puts a notification behind those that wait. Gives back one that had to go for it, with its target.
    pub fn push(&mut self, target: &str, notification: Notification, now: Timestamp) -> Option<(String, Notification)> {
        let settings = self.settings;
        let counts = self.counts.entry(target.to_owned()).or_default();
        let line = self.lines.entry(target.to_owned()).or_insert_with(|| Line::new(Manner::default()));
        let known = |waiting: &Waiting| waiting.notification.id == notification.id;
        if line.remembered.contains(&notification.id) || line.waiting.iter().any(known) {
            return None;
        }
        let fresh = Waiting { notification, since: now, tried: false };
        if fresh.notification.reason == Reason::Heartbeat {
            // An old one says nothing.
            line.waiting.retain(|waiting| waiting.tried || waiting.notification.reason != Reason::Heartbeat);
            line.waiting.push_back(fresh);
            return None;
        }
        let same = |waiting: &&mut Waiting| {
            let (old, new) = (&waiting.notification, &fresh.notification);
            !waiting.tried && (&old.group_key, old.reason) == (&new.group_key, new.reason)
        };
        if let Some(waiting) = line.waiting.iter_mut().find(same) {
            counts.joined += 1;
            let reason = waiting.notification.reason;
            join(&mut waiting.notification, fresh.notification, reason, settings.max_alerts);
            // The news have their own time to arrive.
            waiting.since = now;
            return None;
        }
        if line.manner.for_people {
            while line.came.front().is_some_and(|first| first.plus(MINUTE) <= now) {
                line.came.pop_front();
            }
            if let Some(digest) = &mut line.digest {
                counts.joined += 1;
                join(&mut digest.notification, fresh.notification, Reason::Digest, settings.max_alerts);
                return None;
            }
            let last = line.waiting.back_mut().filter(|last| !last.tried && last.notification.reason.joins());
            if line.failures > 0
                && let Some(last) = last
                && fresh.notification.reason.joins()
            {
                counts.joined += 1;
                join(&mut last.notification, fresh.notification, Reason::Summary, settings.max_alerts);
                last.since = now;
                return None;
            }
            if fresh.notification.reason.joins() && line.came.len() >= settings.digest_above {
                line.digest = Some(fresh);
                return None;
            }
            line.came.push_back(now);
        }
        line.waiting.push_back(fresh);
        let crowded = if line.waiting.len() > MOST_WAITING { Some(target.to_owned()) } else { self.longest() }?;
        let line = self.lines.get_mut(&crowded)?;
        let oldest = line.waiting.iter().position(|waiting| !waiting.tried)?;
        let gone = line.waiting.remove(oldest)?.notification;
        self.counts.entry(crowded.clone()).or_default().failed += 1;
        Some((crowded, gone))
    }

    /// The target for which most alerts wait, if they are too many for all together.
    fn longest(&self) -> Option<String> {
        let alerts = self.lines.iter().map(|(target, line)| {
            let waiting = line.waiting.iter().chain(&line.digest);
            (waiting.map(|waiting| waiting.notification.alerts.len()).sum::<usize>(), target)
        });
        let all: Vec<_> = alerts.collect();
        let too_many = all.iter().map(|(alerts, _)| alerts).sum::<usize>() > MOST_ALERTS;
        all.into_iter().max().filter(|_| too_many).map(|(_, target)| target.clone())
    }

    /// The next notification that can be sent; it is under way until [`Queue::done`] is told what became of it.
    pub fn next(&mut self, now: Timestamp) -> Option<(String, Notification)> {
        let settings = self.settings;
        if self.looked_at.replace(now).is_none_or(|before| now < before) {
            self.lines.values_mut().for_each(|line| line.turn_back(now));
        }
        for (target, line) in &mut self.lines {
            self.digested |= line.end_digest(settings, now);
            if line.under_way || line.not_before > now {
                continue;
            }
            if let Some(first) = line.waiting.front_mut() {
                (first.tried, line.under_way) = (true, true);
                return Some((target.clone(), first.notification.clone()));
            }
        }
        None
    }

    /// When there is next something to send, if nothing else happens.
    pub fn due(&self) -> Option<Timestamp> {
        let lines = self.lines.values().filter_map(|line| {
            let digest = line.digest.as_ref().map(|digest| digest.since.plus(MINUTE));
            let first = line.waiting.front().filter(|_| !line.under_way).map(|_| line.not_before);
            [digest, first].into_iter().flatten().min()
        });
        lines.min()
    }

    /// What became of the notification that was under way. `chance` lies between 0 and 1.
    pub fn done(&mut self, target: &str, id: &str, outcome: Outcome, now: Timestamp, chance: f64) -> Fate {
        let Some(line) = self.lines.get_mut(target) else { return Fate::Unknown };
        let counts = self.counts.entry(target.to_owned()).or_default();
        line.under_way = false;
        let Some(first) = line.waiting.front().filter(|waiting| waiting.notification.id == id) else {
            return Fate::Unknown;
        };
        let heartbeat = first.notification.reason == Reason::Heartbeat;
        let expired = first.since.plus(self.settings.give_up_after) <= now;
        let why = match outcome {
            Outcome::Sent => {
                counts.sent += 1;
                line.failures = 0;
                line.not_before = now.plus(line.manner.pause);
                line.forget_first();
                return Fate::Sent;
            }
            Outcome::Retry(after, why) if !(expired || heartbeat && line.waiting.len() > 1) => {
                counts.retried += 1;
                line.failures = line.failures.saturating_add(1);
                let wait = FIRST_RETRY.saturating_mul(1 << (line.failures - 1).min(10)).min(LONGEST_RETRY);
                let wait = wait.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0));
                let wait = wait.max(after.unwrap_or_default().min(LONGEST_RETRY_AFTER));
                line.not_before = now.plus(wait);
                return Fate::Later(line.not_before, why);
            }
            Outcome::Retry(_, why) => {
                line.failures = line.failures.saturating_add(1);
                line.not_before = now.plus(FIRST_RETRY);
                why
            }
            Outcome::Refused(why) => {
                line.failures = 0;
                line.not_before = now.plus(line.manner.pause);
                why
            }
        };
        counts.failed += 1;
        match line.forget_first() {
            Some(notification) => Fate::GivenUp(Box::new(notification), why),
            None => Fate::Unknown,
        }
    }

    /// How many wait for each target, and how often in a row it failed.
    pub fn depths(&self) -> impl Iterator<Item = (&str, usize, u32)> {
        self.lines.iter().map(|(target, line)| {
            let waiting = line.waiting.len() + usize::from(line.digest.is_some());
            (target.as_str(), waiting, line.failures)
        })
    }

    /// What was counted.
    pub fn counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        self.counts.iter().map(|(target, counts)| (target.as_str(), *counts))
    }
}

impl Line {
    fn new(manner: Manner) -> Self {
        Self {
            waiting: VecDeque::new(),
            digest: None,
            came: VecDeque::new(),
            not_before: Timestamp::from_millis(0),
            failures: 0,
            remembered: VecDeque::new(),
            done: 0,
            under_way: false,
            manner,
        }
    }

    /// The clock was put back, or may have been while nobody looked: nothing came later than now, and nothing waits for longer
    /// than it may.
    fn turn_back(&mut self, now: Timestamp) {
        self.not_before = self.not_before.min(now.plus(LONGEST_RETRY_AFTER));
        for waiting in self.waiting.iter_mut().chain(&mut self.digest) {
            waiting.since = waiting.since.min(now);
        }
        for came in &mut self.came {
            *came = (*came).min(now);
        }
    }

    /// Goes on where it was when the step was written.
    fn go_on(&mut self, step: Step) {
        let known = |waiting: &Waiting| step.remembered.contains(&waiting.notification.id);
        self.waiting.retain(|waiting| !known(waiting));
        self.digest.take_if(|digest| known(digest));
        if let Some(first) =
            self.waiting.front_mut().filter(|first| step.tried.as_ref() == Some(&first.notification.id))
        {
            first.tried = true;
        }
        (self.not_before, self.failures, self.remembered) = (step.not_before, step.failures, step.remembered);
    }

    /// Whether one has ended.
    fn end_digest(&mut self, settings: Settings, now: Timestamp) -> bool {
        let over = |digest: &mut Waiting| digest.since.plus(MINUTE) <= now;
        let Some(digest) = self.digest.take_if(over) else { return false };
        self.came.clear();
        self.came.push_back(now);
        let last =
            self.waiting.back_mut().filter(|last| self.failures > 0 && !last.tried && last.notification.reason.joins());
        match last {
            Some(last) => {
                join(&mut last.notification, digest.notification, Reason::Summary, settings.max_alerts);
                last.since = now;
            }
            None => self.waiting.push_back(digest),
        }
        true
    }

    /// The first is done with; its id stays known.
    fn forget_first(&mut self) -> Option<Notification> {
        let first = self.waiting.pop_front()?;
        self.done += 1;
        self.remembered.push_back(first.notification.id.clone());
        while self.remembered.len() > MOST_REMEMBERED {
            self.remembered.pop_front();
        }
        Some(first.notification)
    }
}

impl Reason {
    /// Whether several may stand in one.
    fn joins(self) -> bool {
        matches!(self, Self::Alerts | Self::Escalation(_) | Self::Digest | Self::Summary)
    }
}

/// Puts the alerts of a later notification into an earlier one: of each alert what is newer.
fn join(into: &mut Notification, later: Notification, reason: Reason, most: usize) {
    if into.group_key != later.group_key {
        into.group_labels = into
            .group_labels
            .iter()
            .filter(|(name, value)| later.group_labels.get(name) == Some(value))
            .map(owned)
            .collect();
    }
    into.id = dispatch::id([into.id.as_str(), later.id.as_str()].into_iter());
    into.reason = reason;
    // What was left out of a group is still left out of its news, and no other.
    into.left_out = match into.group_key == later.group_key {
        true => into.left_out.max(later.left_out),
        false => into.left_out + later.left_out,
    };
    let mut newer: BTreeMap<String, Alert> =
        later.alerts.into_iter().map(|alert| (alert.fingerprint.clone(), alert)).collect();
    for alert in &mut into.alerts {
        if let Some(newer) = newer.remove(&alert.fingerprint) {
            *alert = newer;
        }
    }
    into.alerts.extend(newer.into_values());
    into.alerts.sort_by_key(|alert| (alert.resolved_at.is_some(), alert.fired_at));
    into.left_out += into.alerts.len().saturating_sub(most);
    into.alerts.truncate(most);
    if reason != Reason::Alerts && !matches!(reason, Reason::Escalation(_)) {
        into.group_key = format!("{{}}:{{{}}}", reason.as_str());
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

impl Reason {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Escalation(_) => "escalation",
            Self::Digest => "digest",
            Self::Summary => "summary",
            Self::Heartbeat => "heartbeat",
            Self::Failure => "failure",
            Self::Test => "test",
        }
    }
}

#[cfg(test)]
mod tests;
