//! PagerDuty: Events API v2.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::Timestamp;

use super::{Answer, Call, Faults, Integration, Outcome, Secret, SecretFile, Secrets, Table, parts};
use crate::Notification;
use crate::notification::{Reason, Status};
use crate::text::{self, Text, View};

/// Of the summary, in characters.
const SUMMARY: usize = 1024;
/// Of each text of the details, in bytes. An event takes 512 KB, and nobody reads as much.
const DETAIL: usize = 30_000;
/// Runbooks that are linked.
const LINKS: usize = 5;

/// `[[notify.receivers.pagerduty]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDuty {
    /// Whether the incident is resolved when the alerts are over.
    pub send_resolved: bool,
    /// A file whose first line is the integration key of the service.
    pub routing_key_file: Option<SecretFile>,
    /// Where events go to.
    pub url: String,
    /// The authorities that sign the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A template of the summary.
    pub summary: Text,
    /// A template of the severity: `critical`, `error`, `warning` or `info`. Without it, that of the worst alert.
    pub severity: Text,
    /// A template of the component that is in trouble.
    pub component: Text,
    /// A template of the group of components.
    pub group: Text,
    /// A template of the kind of event. Without it, the alerts' name.
    pub class: Text,
}

impl Default for PagerDuty {
    fn default() -> Self {
        Self {
            send_resolved: true,
            routing_key_file: None,
            url: "https://events.pagerduty.com/v2/enqueue".to_owned(),
            ca_file: None,
            summary: Text::default(),
            severity: Text::default(),
            component: Text::default(),
            group: Text::default(),
            class: Text::default(),
        }
    }
}

/// What PagerDuty calls a severity.
fn severity(text: &str) -> Option<&'static str> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "critical" | "emergency" | "fatal" | "page" => "critical",
        "error" | "high" | "major" => "error",
        "warning" | "warn" | "medium" | "minor" => "warning",
        "info" | "information" | "low" | "none" => "info",
        _ => return None,
    })
}

/// What belongs together has the same key: a group of one host, whichever receiver's step tells of it.
fn dedup_key(notification: &Notification) -> String {
    let reason = match notification.reason {
        Reason::Alerts | Reason::Escalation(_) => String::new(),
        other => super::webhook::reason(other),
    };
    parts::hash(&[&notification.host, &notification.group_key, &reason])
}

impl PagerDuty {
    fn event(&self, notification: &Notification, now: Timestamp, key: &Secret) -> Value {
        // What has no alerts, such as a test, is over only if it says so by its alerts.
        let over = notification.status() == Status::Resolved && !notification.alerts.is_empty();
        let view = View::of(notification, now, |_| None);
        let filled = |text: &Text, most| {
            let filled = text.fill(&view).map(|text| text::line(&text, most));
            filled.filter(|text| !text.is_empty())
        };
        let labels = notification.common_labels();
        let source = labels.get("instance").filter(|instance| !instance.is_empty()).unwrap_or(&notification.host);
        let source = Some(text::line(source, 500)).filter(|source| !source.is_empty());
        let mut details = json!({
            "firing": alerts_text(notification, Status::Firing),
            "resolved": alerts_text(notification, Status::Resolved),
            "num_firing": notification.firing().count(),
            "num_resolved": notification.resolved().count(),
            "left_out": notification.left_out,
            "host": text::cut(&notification.host, 500),
            "id": notification.id,
        });
        if let (Some(reason), Some(details)) = (text::reason(notification), details.as_object_mut()) {
            details.insert("reason".to_owned(), reason.into());
        }
        let mut payload = json!({
            "summary": filled(&self.summary, SUMMARY).unwrap_or_else(|| text::cut(&text::title(notification), SUMMARY)),
            "source": source.unwrap_or_else(|| "utilizer".to_owned()),
            "severity": filled(&self.severity, 100)
                .and_then(|text| severity(&text))
                .unwrap_or_else(|| text::severity(notification)),
            "timestamp": notification.time.to_string(),
            "custom_details": details,
        });
        let class = filled(&self.class, 200)
            .or_else(|| labels.get("alertname").map(|name| text::line(name, 200)));
        let (component, group) = (filled(&self.component, 200), filled(&self.group, 200));
        let others = [("component", component), ("group", group), ("class", class)];
        for (key, value) in others {
            if let (Some(value), Some(payload)) = (value, payload.as_object_mut()) {
                payload.insert(key.to_owned(), value.into());
            }
        }
        let mut runbooks: Vec<String> = Vec::new();
        for runbook in text::alerts(notification).take(100).filter_map(|alert| alert.runbook) {
            if runbooks.len() < LINKS && !runbooks.contains(&runbook) {
                runbooks.push(runbook);
            }
        }
        let mut event = json!({
            "routing_key": key.expose(),
            "event_action": if over { "resolve" } else { "trigger" },
            "dedup_key": dedup_key(notification),
            "client": "utilizer",
            "links": runbooks.iter().map(|url| json!({"href": url, "text": "Runbook"})).collect::<Vec<_>>(),
            "payload": payload,
        });
        if parts::is_url(&notification.external_url)
            && let Some(event) = event.as_object_mut()
        {
            event.insert("client_url".to_owned(), text::cut(&notification.external_url, 1000).into());
        }
        event
    }
}

/// The alerts of one status, as text.
fn alerts_text(notification: &Notification, status: Status) -> String {
    let firing = status == Status::Firing;
    let alerts = notification.alerts.iter().filter(|alert| alert.resolved_at.is_none() == firing);
    let alerts: Vec<_> = alerts.take(200).cloned().collect();
    let count = if firing { notification.firing().count() } else { notification.resolved().count() };
    let left_out = count - alerts.len();
    let part = Notification { alerts, left_out, reason: Reason::Alerts, ..notification.without_alerts() };
    if part.alerts.is_empty() { String::new() } else { text::body(&part, DETAIL) }
}

impl Table for PagerDuty {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        let file = self.routing_key_file.as_ref();
        parts::check_url_file(file, "routing_key_file", "the service's integration key", faults);
        parts::check_url(&self.url, "url", faults);
    }
}

impl Integration for PagerDuty {
    fn kind(&self) -> &'static str {
        "pagerduty"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let Some(file) = &self.routing_key_file else { return Err("no routing_key_file is configured".to_owned()) };
        let key = parts::secret(file, secrets)?;
        let event = self.event(notification, now, &key);
        parts::post(Secret::new(&self.url), &event, Vec::new(), self.ca_file.as_ref())
    }

    fn outcome(&self, answer: &Answer) -> Outcome {
        match answer.status {
            400 => Outcome::Refused("it answered 400: the event or the routing key is not right".to_owned()),
            413 => Outcome::Refused("it answered 413: the event is too large".to_owned()),
            _ => super::outcome(answer),
        }
    }
}
