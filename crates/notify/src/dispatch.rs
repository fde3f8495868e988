//! Decides when which receiver is told of which alerts: grouping, inhibition, silences, repeats, escalation.
//!
//! It follows Alertmanager (`dispatch/`, `notify/`), and departs from it where alerts would be left open or untold:
//! an alert that was told is told to be over also when a silence or an inhibition hides it meanwhile, and a mute time only
//! delays that; what is acknowledged is not repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

use crate::inhibit::Sources;
use crate::notification::{self, Notification, Reason};
use crate::plan::{Plan, Route};
use crate::silence::Silence;

/// Alerts that are followed. A rule that makes more has gone wild.
pub const MOST_ALERTS: usize = 50_000;

/// How notifications look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Alerts in one notification.
    pub max_alerts: usize,
    /// Where people find this host.
    pub external_url: String,
    /// The host and its external labels: of what is said about notifications themselves, and for silences.
    pub labels: LabelSet,
}

/// Somebody takes care of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// Who.
    pub by: String,
    /// What they say.
    #[serde(default)]
    pub comment: String,
    /// Whether there is nothing to take care of.
    #[serde(default)]
    pub false_alarm: bool,
    /// When.
    pub at: Timestamp,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// [`Target::name`](crate::plan::Target).
    pub target: String,
    /// What it is told.
    pub notification: Notification,
}

/// The state, as it is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    alerts: Vec<Known>,
    groups: Vec<(String, Group)>,
    heartbeats: Vec<Timestamp>,
}

/// Decides.
#[derive(Debug)]
pub struct Dispatcher {
    plan: Plan,
    settings: Settings,
    alerts: BTreeMap<String, Known>,
    groups: BTreeMap<String, Group>,
    silences: Vec<Silence>,
    heartbeats: Vec<Timestamp>,
    left_out: u64,
    /// When something was last decided.
    decided_at: Option<Timestamp>,
}

/// An alert, and what was done about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    alert: Alert,
    #[serde(default)]
    ack: Option<Ack>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    labels: LabelSet,
    /// Fingerprints.
    members: BTreeMap<String, Member>,
    /// When news are next told.
    next: Timestamp,
    /// Once for each target: those of the route, and those of its chain as `2:ops/slack/0` ([`sent_name`]).
    sent: BTreeMap<String, Sent>,
    #[serde(skip)]
    route: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Member {
    /// When the group's own receiver was first told of it.
    #[serde(default)]
    told_at: Option<Timestamp>,
    /// Steps of the chain that it went.
    #[serde(default)]
    steps: usize,
    /// It was hidden when its next step came.
    #[serde(default)]
    not_before: Option<Timestamp>,
}

/// What a target was last told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sent {
    firing: BTreeSet<String>,
    resolved: BTreeSet<String>,
    /// What it was told before, and was left out since it is hidden: its end is to be told, and that it is there again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    hidden: BTreeSet<String>,
    at: Timestamp,
    /// How many there were.
    count: u64,
}

impl Sent {
    /// Whether this alert is to be told to be over.
    fn awaits_end(&self, fingerprint: &str) -> bool {
        self.firing.contains(fingerprint) || self.hidden.contains(fingerprint)
    }
}

impl Dispatcher {
    /// Goes on where `saved` ended. Until [`Dispatcher::observe`] is first called, nothing of that is over.
    pub fn new(plan: Plan, settings: Settings, saved: Saved, now: Timestamp) -> Self {
        let mut dispatcher = Self {
            alerts: saved.alerts.into_iter().map(|known| (known.alert.fingerprint.clone(), known)).collect(),
            groups: saved.groups.into_iter().collect(),
            silences: plan.silences.clone(),
            heartbeats: saved.heartbeats,
            plan,
            settings,
            left_out: 0,
            decided_at: None,
        };
        dispatcher.sort_in(now);
        dispatcher
    }

    /// The state, to be kept.
    pub fn saved(&self) -> Saved {
        Saved {
            alerts: self.alerts.values().cloned().collect(),
            groups: self.groups.iter().map(|(key, group)| (key.clone(), group.clone())).collect(),
            heartbeats: self.heartbeats.clone(),
        }
    }

    /// Takes over another plan. What was told stays known where route and group are the same.
    pub fn set_plan(&mut self, plan: Plan, settings: Settings, now: Timestamp) {
        (self.plan, self.settings) = (plan, settings);
        self.sort_in(now);
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes over all silences but those of the plan.
    pub fn set_silences(&mut self, silences: Vec<Silence>) {
        self.silences = self.plan.silences.iter().cloned().chain(silences).collect();
    }

    /// All silences.
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// Alerts that fire, by fingerprint; those that it knew and that are not among them are over.
    pub fn observe<'a>(&mut self, firing: impl IntoIterator<Item = &'a Alert>, now: Timestamp) {
        let mut present = BTreeSet::new();
        for alert in firing {
            if !self.alerts.contains_key(&alert.fingerprint) && self.alerts.len() >= MOST_ALERTS {
                self.left_out += 1;
                continue;
            }
            present.insert(alert.fingerprint.clone());
            match self.alerts.get_mut(&alert.fingerprint) {
                Some(known) if known.alert.resolved_at.is_none() && known.alert.fired_at == alert.fired_at => {
                    known.alert.annotations.clone_from(&alert.annotations);
                    known.alert.value = alert.value;
                }
                Some(known) => {
                    // Over and there again before anybody looked.
                    *known = Known { alert: alert.clone(), ack: None };
                    self.begin(alert, now);
                }
                None => {
                    let known = Known { alert: alert.clone(), ack: None };
                    self.alerts.insert(alert.fingerprint.clone(), known);
                    self.begin(alert, now);
                }
            }
        }
        for (fingerprint, known) in &mut self.alerts {
            if known.alert.resolved_at.is_none() && !present.contains(fingerprint) {
                known.alert.resolved_at = Some(now);
            }
        }
        self.forget();
    }

    /// How many alerts fire, and how many of them nobody is told of because of a silence.
    pub fn counts(&self, now: Timestamp) -> (usize, usize) {
        let firing = self.alerts.values().filter(|known| known.alert.resolved_at.is_none());
        firing.fold((0, 0), |(all, hidden), known| (all + 1, hidden + usize::from(self.silenced(&known.alert, now))))
    }

    /// Alerts that fire, each with who takes care of it, the silence that hides it, and whether another hides it.
    pub fn alerts(&self, now: Timestamp) -> Vec<(&Alert, Option<&Ack>, Option<&Silence>, bool)> {
        let sources = Sources::of(&self.plan.inhibit, self.firing());
        let firing = self.alerts.values().filter(|known| known.alert.resolved_at.is_none());
        let shown = firing.map(|known| {
            let silence = self.silence_of(&known.alert, now);
            (&known.alert, known.ack.as_ref(), silence, sources.hide(&known.alert))
        });
        shown.collect()
    }

    /// Observations that found no room, ever.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Somebody takes care of alerts that fire: those with this fingerprint, or of this name. Gives them.
    pub fn acknowledge(&mut self, which: &str, ack: &Ack) -> Vec<Alert> {
        let mut found = Vec::new();
        for known in self.alerts.values_mut().filter(|known| known.alert.resolved_at.is_none()) {
            let alert = &known.alert;
            if alert.fingerprint == which || alert.labels.get("alertname") == Some(which) {
                known.ack = Some(ack.clone());
                found.push(alert.clone());
            }
        }
        found
    }

    /// When there is next something to decide, if nothing else happens.
    pub fn next(&self) -> Option<Timestamp> {
        let groups = self.groups.values().flat_map(|group| {
            let route = self.plan.routes.get(group.route);
            let steps = route.into_iter().flat_map(|route| self.steps_due(group, route)).map(|(_, due)| due);
            steps.chain([group.next])
        });
        groups.chain(self.heartbeats.iter().copied()).min()
    }

    /// What is to be told now.
    pub fn due(&mut self, now: Timestamp) -> Vec<Order> {
        if self.decided_at.replace(now).is_none_or(|before| now < before) {
            self.turn_back(now);
        }
        let mut orders = self.beats(now);
        let keys = |of: &dyn Fn(&Group) -> bool| -> Vec<String> {
            self.groups.iter().filter(|(_, group)| of(group)).map(|(key, _)| key.clone()).collect()
        };
        let due = keys(&|group| group.next <= now);
        let climbing = keys(&|group| {
            let route = self.plan.routes.get(group.route);
            route.is_some_and(|route| self.steps_due(group, route).any(|(_, due)| due <= now))
        });
        if due.is_empty() && climbing.is_empty() {
            return orders;
        }
        let hidden = self.hidden(now);
        for key in climbing {
            self.climb(&key, &hidden, now, &mut orders);
        }
        for key in due {
            self.flush(&key, &hidden, now, &mut orders);
        }
        self.forget();
        orders
    }

    /// The clock was put back, or may have been while nobody looked: what was done was done by now, and what is to be done is
    /// not waited for longer than usual.
    fn turn_back(&mut self, now: Timestamp) {
        for group in self.groups.values_mut() {
            let longest =
                self.plan.routes.get(group.route).map_or(Duration::ZERO, |route| route.wait.max(route.interval));
            group.next = group.next.min(now.plus(longest));
            for sent in group.sent.values_mut() {
                sent.at = sent.at.min(now);
            }
            for member in group.members.values_mut() {
                member.told_at = member.told_at.map(|told| told.min(now));
                member.not_before = member.not_before.map(|then| then.min(now.plus(longest)));
            }
        }
        for (next, heartbeat) in self.heartbeats.iter_mut().zip(&self.plan.heartbeats) {
            *next = (*next).min(now.plus(heartbeat.every));
        }
    }

    fn firing(&self) -> impl Iterator<Item = &Alert> + Clone {
        self.alerts.values().map(|known| &known.alert).filter(|alert| alert.resolved_at.is_none())
    }

    fn silence_of(&self, alert: &Alert, now: Timestamp) -> Option<&Silence> {
        self.silences.iter().find(|silence| silence.hides_on(&self.settings.labels, &alert.labels, now))
    }

    fn silenced(&self, alert: &Alert, now: Timestamp) -> bool {
        self.silence_of(alert, now).is_some()
    }

    /// Fingerprints of what is not to be told.
    fn hidden(&self, now: Timestamp) -> BTreeSet<String> {
        let sources = Sources::of(&self.plan.inhibit, self.firing());
        let all = self.alerts.values().map(|known| &known.alert);
        let hidden = all.filter(|alert| sources.hide(alert) || self.silenced(alert, now));
        hidden.map(|alert| alert.fingerprint.clone()).collect()
    }

    fn begin(&mut self, alert: &Alert, now: Timestamp) {
        for at in self.plan.routes_of(&alert.labels) {
            let Some(route) = self.plan.routes.get(at) else { continue };
            let labels = route.group_labels(&alert.labels);
            let key = group_key(route, &labels);
            // One that waited long enough elsewhere, as before a restart, waits no more.
            let next = if alert.fired_at.plus(route.wait) <= now { now } else { now.plus(route.wait) };
            let group = self.groups.entry(key).or_insert_with(|| Group {
                labels,
                members: BTreeMap::new(),
                next,
                sent: BTreeMap::new(),
                route: at,
            });
            group.members.insert(alert.fingerprint.clone(), Member::default());
        }
    }

    /// Puts all alerts into the groups of the plan.
    fn sort_in(&mut self, now: Timestamp) {
        let mut old = std::mem::take(&mut self.groups);
        let silences = self.silences.drain(..).filter(|silence| silence.origin != crate::silence::Origin::File);
        self.silences = self.plan.silences.iter().cloned().chain(silences.collect::<Vec<_>>()).collect();
        let alerts: Vec<Alert> = self.alerts.values().map(|known| known.alert.clone()).collect();
        for alert in &alerts {
            self.begin(alert, now);
        }
        // One that is over is told only where that is yet to come.
        let over =
            |fingerprint: &String| self.alerts.get(fingerprint).is_some_and(|known| known.alert.resolved_at.is_some());
        let there = old.iter().filter(|(key, _)| self.groups.contains_key(*key));
        let placed: BTreeSet<String> =
            there.flat_map(|(_, group)| group.members.keys()).filter(|of| over(of)).cloned().collect();
        for (key, group) in &mut self.groups {
            let before = old.remove(key);
            let had =
                |fingerprint: &String| before.as_ref().is_some_and(|before| before.members.contains_key(fingerprint));
            group.members.retain(|fingerprint, _| !placed.contains(fingerprint) || had(fingerprint));
            let Some(before) = before else { continue };
            let Some(route) = self.plan.routes.get(group.route) else { continue };
            group.next = before.next.min(now.plus(route.interval));
            group.sent = before.sent;
            // A target that is no more is told nothing, and keeps nothing waiting for that.
            let own = self.plan.targets(&route.receiver).iter().map(|target| sent_name(None, &target.name));
            let steps = route.steps.iter().enumerate().flat_map(|(step, of)| {
                self.plan.targets(&of.receiver).iter().map(move |target| sent_name(Some(step), &target.name))
            });
            let names: BTreeSet<String> = own.chain(steps).collect();
            group.sent.retain(|name, _| names.contains(name));
            for (fingerprint, member) in &mut group.members {
                if let Some(before) = before.members.get(fingerprint) {
                    *member = before.clone();
                }
            }
        }
        self.heartbeats.resize(self.plan.heartbeats.len(), now);
        for (next, heartbeat) in self.heartbeats.iter_mut().zip(&self.plan.heartbeats) {
            *next = (*next).min(now.plus(heartbeat.every));
        }
        self.forget();
    }

    /// Drops groups without members, and alerts that are over and in no group.
    fn forget(&mut self) {
        self.groups.retain(|_, group| !group.members.is_empty());
        let used: BTreeSet<&String> = self.groups.values().flat_map(|group| group.members.keys()).collect();
        self.alerts.retain(|fingerprint, known| known.alert.resolved_at.is_none() || used.contains(fingerprint));
    }

    /// Members that may go the next step of their chain, and when.
    fn steps_due<'a>(&'a self, group: &'a Group, route: &'a Route) -> impl Iterator<Item = (&'a String, Timestamp)> {
        group.members.iter().filter_map(|(fingerprint, member)| {
            let step = route.steps.get(member.steps)?;
            let due = member.told_at?.plus(step.after).max(member.not_before.unwrap_or(member.told_at?));
            let known = self.alerts.get(fingerprint)?;
            (known.alert.resolved_at.is_none() && known.ack.is_none()).then_some((fingerprint, due))
        })
    }

    /// Nobody acknowledged in time: tells the next of the chain.
    fn climb(&mut self, key: &str, hidden: &BTreeSet<String>, now: Timestamp, orders: &mut Vec<Order>) {
        let Some(group) = self.groups.get(key) else { return };
        let Some(route) = self.plan.routes.get(group.route) else { return };
        let due = self.steps_due(group, route).filter(|(_, due)| *due <= now);
        let due: Vec<String> = due.map(|(fingerprint, _)| fingerprint.clone()).collect();
        let muted = route.is_muted(now);
        let again = group.next.max(now.plus(Duration::from_secs(1)));
        let mut steps = BTreeSet::new();
        let Some(group) = self.groups.get_mut(key) else { return };
        for fingerprint in &due {
            let Some(member) = group.members.get_mut(fingerprint) else { continue };
            if muted || hidden.contains(fingerprint) {
                member.not_before = Some(again);
                continue;
            }
            // After a time without this host there may be several at once: each is told.
            while let (Some(step), Some(told)) = (route.steps.get(member.steps), member.told_at) {
                if told.plus(step.after) > now {
                    break;
                }
                // Of one that was over and began anew before anybody was told, this is the first word.
                for target in self.plan.targets(&step.receiver) {
                    if let Some(sent) = group.sent.get_mut(&sent_name(Some(member.steps), &target.name)) {
                        sent.firing.remove(fingerprint);
                    }
                }
                steps.insert(member.steps);
                member.steps += 1;
            }
        }
        for step in steps {
            self.tell_step(key, step, hidden, now, orders);
        }
    }

    fn tell_step(
        &mut self,
        key: &str,
        step: usize,
        hidden: &BTreeSet<String>,
        now: Timestamp,
        orders: &mut Vec<Order>,
    ) {
        let Some(route) = self.groups.get(key).and_then(|group| self.plan.routes.get(group.route)) else { return };
        let Some(receiver) = route.steps.get(step).map(|step| step.receiver.clone()) else { return };
        for at in 0..self.plan.targets(&receiver).len() {
            orders.extend(self.tell(key, Some(step), &receiver, at, hidden, now));
        }
    }

    /// A group's time has come.
    fn flush(&mut self, key: &str, hidden: &BTreeSet<String>, now: Timestamp, orders: &mut Vec<Order>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let Some(route) = self.plan.routes.get(group.route) else { return };
        group.next = now.plus(route.interval);
        let (muted, batch, steps, receiver) =
            (route.is_muted(now), route.batch, route.steps.len(), route.receiver.clone());
        if !muted {
            for at in 0..self.plan.targets(&receiver).len() {
                orders.extend(self.tell(key, None, &receiver, at, hidden, now));
            }
            self.mark_told(key, hidden, now);
            for step in 0..steps {
                self.tell_step(key, step, hidden, now, orders);
            }
        }
        let Some(group) = self.groups.get_mut(key) else { return };
        let (alerts, sent) = (&self.alerts, &group.sent);
        group.members.retain(|fingerprint, _| {
            let over = alerts.get(fingerprint).is_none_or(|known| known.alert.resolved_at.is_some());
            !over || (muted && batch) || sent.values().any(|sent| sent.awaits_end(fingerprint))
        });
    }

    fn mark_told(&mut self, key: &str, hidden: &BTreeSet<String>, now: Timestamp) {
        let Some(group) = self.groups.get_mut(key) else { return };
        for (fingerprint, member) in &mut group.members {
            let Some(known) = self.alerts.get(fingerprint) else { continue };
            if known.alert.resolved_at.is_none() && !hidden.contains(fingerprint) {
                member.told_at.get_or_insert(now);
            }
        }
    }

    /// What one target is told of a group, if there is any news for it.
    fn tell(
        &mut self,
        key: &str,
        step: Option<usize>,
        receiver: &str,
        at: usize,
        hidden: &BTreeSet<String>,
        now: Timestamp,
    ) -> Option<Order> {
        let target = self.plan.targets(receiver).get(at)?.clone();
        let group = self.groups.get_mut(key)?;
        let route = self.plan.routes.get(group.route)?;
        let name = sent_name(step, &target.name);
        let before = group.sent.get(&name);
        let told = |fingerprint: &String| before.is_some_and(|sent| sent.awaits_end(fingerprint));

        let (mut firing, mut resolved, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (fingerprint, member) in &group.members {
            if step.is_some_and(|step| member.steps <= step) && !told(fingerprint) {
                continue;
            }
            let Some(known) = self.alerts.get(fingerprint) else { continue };
            let (over, hides) = (known.alert.resolved_at.is_some(), hidden.contains(fingerprint));
            match (over, hides) {
                (false, false) => firing.push(known),
                (true, _) if told(fingerprint) || !hides => resolved.push(known),
                // It fires still, and its end is to be told.
                (false, true) if told(fingerprint) => kept.push(fingerprint.clone()),
                _ => {}
            }
        }
        let prints = |of: &[&Known]| of.iter().map(|known| known.alert.fingerprint.clone()).collect::<BTreeSet<_>>();
        let (now_firing, now_resolved) = (prints(&firing), prints(&resolved));
        let none_over = resolved.is_empty();
        let unknown_over = |sent: &Sent| !now_resolved.is_subset(&sent.resolved);
        let news = match before {
            None => !firing.is_empty() || (route.batch && !none_over),
            Some(sent) if !now_firing.is_subset(&sent.firing) => true,
            Some(sent) if firing.is_empty() => {
                let awaited = now_resolved.iter().any(|fingerprint| sent.hidden.contains(fingerprint));
                !none_over && (!sent.firing.is_empty() || awaited || (route.batch && unknown_over(sent)))
            }
            Some(sent) if (target.send_resolved || route.batch) && unknown_over(sent) => true,
            // A step is told once.
            Some(_) if step.is_some() => false,
            Some(sent) => sent.at.plus(route.repeat) <= now && firing.iter().any(|known| known.ack.is_none()),
        };
        if !news {
            return None;
        }
        let count = before.map_or(0, |sent| sent.count) + 1;
        // A group that was told of the end is forgotten, and counts anew: its next end is another one. So does one that was
        // not in the plan for a while, and an end is no repetition.
        let parts = now_firing.iter().map(String::as_str).chain([""]).chain(now_resolved.iter().map(String::as_str));
        let times = firing.iter().chain(&resolved).map(|known| known.alert.fired_at.as_millis().to_string());
        let times = times.collect::<Vec<_>>().join(" ");
        let id = id([key, &name, &count.to_string(), &times].into_iter().chain(parts));
        let with_resolved = target.send_resolved || route.batch;
        let mut alerts: Vec<Alert> = firing.iter().map(|known| known.alert.clone()).collect();
        if with_resolved {
            alerts.extend(resolved.iter().map(|known| known.alert.clone()));
        }
        let left_out = alerts.len().saturating_sub(self.settings.max_alerts);
        alerts.truncate(self.settings.max_alerts);
        let labels = group.labels.clone();
        let hidden = kept.into_iter().collect();
        let sent = Sent { firing: now_firing, resolved: now_resolved, hidden, at: now, count };
        group.sent.insert(name, sent);
        if alerts.is_empty() {
            return None;
        }
        let reason = step.map_or(Reason::Alerts, |step| Reason::Escalation(u8::try_from(step + 1).unwrap_or(u8::MAX)));
        let notification = Notification {
            id,
            receiver: receiver.to_owned(),
            reason,
            group_key: key.to_owned(),
            group_labels: labels,
            alerts,
            left_out,
            external_url: self.settings.external_url.clone(),
            host: notification::host_of(&self.settings.labels),
            time: now,
        };
        Some(Order { target: target.name, notification })
    }

    fn beats(&mut self, now: Timestamp) -> Vec<Order> {
        let mut orders = Vec::new();
        for (next, heartbeat) in self.heartbeats.iter_mut().zip(&self.plan.heartbeats) {
            if *next > now {
                continue;
            }
            *next = now.plus(heartbeat.every);
            let mut notification = Notification::heartbeat(&heartbeat.receiver, &self.settings.labels, now);
            notification.external_url.clone_from(&self.settings.external_url);
            for target in self.plan.targets(&heartbeat.receiver) {
                orders.push(Order { target: target.name.clone(), notification: notification.clone() });
            }
        }
        orders
    }
}

/// What a target is called among those of a group that were told: with its step before it.
fn sent_name(step: Option<usize>, target: &str) -> String {
    step.map_or_else(|| target.to_owned(), |step| format!("{}:{target}", step + 1))
}

fn group_key(route: &Route, labels: &LabelSet) -> String {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{}:{{{}}}", route.key, labels.join(", "))
}

/// 128 bits of FNV-1a as hex digits, each text followed by the byte 255.
pub(crate) fn id<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let bytes = texts.flat_map(|text| text.bytes().chain([255]));
    for byte in bytes {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests;
