//! What a receiver is told at once.

use serde::{Deserialize, Serialize};
use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

use crate::dispatch;

/// One message to one receiver: a group of alerts, or what is said about notifications themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// 32 hex digits: the same whenever this is sent again.
    pub id: String,
    /// The receiver's name.
    pub receiver: String,
    /// Why it is sent.
    pub reason: Reason,
    /// The route and the values of `group_by`, as Alertmanager writes it: `{}/{severity="critical"}:{alertname="A"}`.
    pub group_key: String,
    /// The labels that alerts were grouped by.
    pub group_labels: LabelSet,
    /// The alerts, those that fire first. One that is over has `resolved_at`.
    pub alerts: Vec<Alert>,
    /// Alerts that were left out because there are too many.
    #[serde(default)]
    pub left_out: usize,
    /// Where people find this host; empty where that is not configured.
    #[serde(default)]
    pub external_url: String,
    /// The host that tells this. Two hosts have groups of the same key, and their incidents must not close each other.
    #[serde(default)]
    pub host: String,
    /// When it was decided.
    pub time: Timestamp,
}

/// Why a notification is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A group of alerts has news, or is repeated.
    Alerts,
    /// Nobody acknowledged: this step of the chain, from 1.
    Escalation(u8),
    /// There were more notifications in a minute than the receiver shall get.
    Digest,
    /// The receiver could not be reached; this stands for all that it missed.
    Summary,
    /// Nothing happened: whoever misses this knows that the host is silent.
    Heartbeat,
    /// Another receiver refused a notification for good.
    Failure,
    /// Somebody tries the receiver.
    Test,
}

/// Whether something fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// At least one alert fires.
    Firing,
    /// All are over.
    Resolved,
}

impl Status {
    /// As Alertmanager writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl Notification {
    /// Of all alerts together.
    pub fn status(&self) -> Status {
        if self.firing().next().is_some() { Status::Firing } else { Status::Resolved }
    }

    /// The alerts that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().filter(|alert| alert.resolved_at.is_none())
    }

    /// The alerts that are over.
    pub fn resolved(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().filter(|alert| alert.resolved_at.is_some())
    }

    /// The same without its alerts, for a part of them.
    pub(crate) fn without_alerts(&self) -> Self {
        Self {
            id: self.id.clone(),
            receiver: self.receiver.clone(),
            reason: self.reason,
            group_key: self.group_key.clone(),
            group_labels: self.group_labels.clone(),
            alerts: Vec::new(),
            left_out: 0,
            external_url: self.external_url.clone(),
            host: self.host.clone(),
            time: self.time,
        }
    }

    /// The labels that all alerts have with the same values.
    pub fn common_labels(&self) -> LabelSet {
        common(self.alerts.iter().map(|alert| &alert.labels))
    }

    /// The annotations that all alerts have with the same texts.
    pub fn common_annotations(&self) -> LabelSet {
        common(self.alerts.iter().map(|alert| &alert.annotations))
    }
}

/// What is told of notifications themselves, as alerts, so that every receiver can show it.
impl Notification {
    fn about_itself(about: About<'_>, labels: &LabelSet, time: Timestamp) -> Self {
        let About { receiver, reason, name, severity, target, text } = about;
        let mut labels = labels.clone();
        labels.insert("alertname".to_owned(), name.to_owned());
        labels.insert("severity".to_owned(), severity.to_owned());
        if let Some(target) = target {
            labels.insert("receiver".to_owned(), target.to_owned());
        }
        let host = host_of(&labels);
        let hash = dispatch::id(labels.iter().flat_map(|(name, value)| [name, value]));
        let alert = Alert {
            fingerprint: hash.chars().take(16).collect(),
            labels,
            annotations: [("summary".to_owned(), text)].into_iter().collect(),
            value: 1.0.into(),
            active_at: time,
            fired_at: time,
            resolved_at: None,
        };
        Self {
            id: dispatch::id([hash.as_str(), receiver, &time.to_string()].into_iter()),
            receiver: receiver.to_owned(),
            reason,
            group_key: format!("{{}}:{{alertname={name:?}}}"),
            group_labels: [("alertname".to_owned(), name.to_owned())].into_iter().collect(),
            alerts: vec![alert],
            left_out: 0,
            external_url: String::new(),
            host,
            time,
        }
    }

    /// The host lives. `labels` are those of the host, here as below.
    pub fn heartbeat(receiver: &str, labels: &LabelSet, time: Timestamp) -> Self {
        let text = "This host can send notifications. Be alarmed when this stops.".to_owned();
        let (reason, name, severity) = (Reason::Heartbeat, "Watchdog", "none");
        Self::about_itself(About { receiver, reason, name, severity, target: None, text }, labels, time)
    }

    /// Somebody tries a receiver.
    pub fn test(receiver: &str, labels: &LabelSet, time: Timestamp) -> Self {
        let text = "This is a test: nothing is wrong.".to_owned();
        let (reason, name, severity) = (Reason::Test, "NotificationTest", "info");
        Self::about_itself(About { receiver, reason, name, severity, target: None, text }, labels, time)
    }

    /// Another receiver refused a notification for good, or could not be reached for too long.
    pub fn failure(
        receiver: &str,
        target: &str,
        why: &str,
        refused: &Notification,
        labels: &LabelSet,
        time: Timestamp,
    ) -> Self {
        let text = format!(
            "A notification of {} alerts to {target} was given up: {why}. Group: {}.",
            refused.alerts.len() + refused.left_out,
            refused.group_key
        );
        let (reason, name, severity) = (Reason::Failure, "NotificationFailed", "warning");
        Self::about_itself(About { receiver, reason, name, severity, target: Some(target), text }, labels, time)
    }
}

struct About<'a> {
    receiver: &'a str,
    reason: Reason,
    name: &'a str,
    severity: &'a str,
    target: Option<&'a str>,
    text: String,
}

/// The host that has these labels.
pub(crate) fn host_of(labels: &LabelSet) -> String {
    labels.get("host").or_else(|| labels.get("instance")).unwrap_or_default().to_owned()
}

fn common<'a>(mut sets: impl Iterator<Item = &'a LabelSet>) -> LabelSet {
    let Some(first) = sets.next() else { return LabelSet::default() };
    let mut common: Vec<(&str, &str)> = first.iter().collect();
    for set in sets {
        common.retain(|(name, value)| set.get(name) == Some(value));
    }
    common.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
