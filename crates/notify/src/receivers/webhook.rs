//! Anything that takes what Alertmanager sends to webhooks: the payload's version 4.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

use super::{Call, Faults, Integration, Secret, SecretFile, Secrets, Table, parts};
use crate::Notification;
use crate::notification::{Reason, Status};
use crate::text::NEVER;

/// Of the alerts of one payload, in bytes of JSON; more are counted as truncated.
const BYTES: usize = 4 << 20;

/// `[[notify.receivers.webhook]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Whether it is told when alerts are over.
    pub send_resolved: bool,
    /// Where to, if there is no secret in it.
    pub url: String,
    /// A file whose first line is the URL.
    pub url_file: Option<SecretFile>,
    /// From the environment.
    #[serde(skip)]
    pub secret_url: Option<Secret>,
    /// The authorities that sign the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file whose first line is a bearer token.
    pub bearer_token_file: Option<SecretFile>,
    /// The user, for basic authentication.
    pub username: String,
    /// A file whose first line is the user's password.
    pub password_file: Option<SecretFile>,
    /// Further headers. None of them is secret.
    pub headers: BTreeMap<String, String>,
    /// At most so many alerts in one payload, the rest is counted; 0: as many as fit into 4 MiB.
    pub max_alerts: usize,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            send_resolved: true,
            url: String::new(),
            url_file: None,
            secret_url: None,
            ca_file: None,
            bearer_token_file: None,
            username: String::new(),
            password_file: None,
            headers: BTreeMap::new(),
            max_alerts: 0,
        }
    }
}

/// What Alertmanager sends.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<PayloadAlert<'a>>,
    group_labels: &'a LabelSet,
    common_labels: LabelSet,
    common_annotations: LabelSet,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: &'static str,
    labels: &'a LabelSet,
    annotations: &'a LabelSet,
    starts_at: Timestamp,
    ends_at: Timestamp,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: &'a str,
}

impl<'a> PayloadAlert<'a> {
    fn of(alert: &'a Alert, notification: &'a Notification) -> Self {
        Self {
            status: if alert.resolved_at.is_some() { Status::Resolved } else { Status::Firing }.as_str(),
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: alert.fired_at,
            ends_at: alert.resolved_at.unwrap_or_else(|| Timestamp::from_millis(NEVER)),
            generator_url: &notification.external_url,
            fingerprint: &alert.fingerprint,
        }
    }
}

impl<'a> Payload<'a> {
    /// How many alerts it holds.
    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }

    /// With at most so many alerts (0: all), of at most so many bytes.
    pub(super) fn of(notification: &'a Notification, most: usize, bytes: usize) -> Self {
        let most = if most == 0 { usize::MAX } else { most };
        let mut room = bytes;
        let mut alerts = Vec::new();
        for alert in notification.alerts.iter().take(most) {
            let alert = PayloadAlert::of(alert, notification);
            let size = serde_json::to_vec(&alert).map_or(usize::MAX, |json| json.len() + 1);
            if size > room {
                break;
            }
            room -= size;
            alerts.push(alert);
        }
        Self {
            receiver: &notification.receiver,
            status: notification.status().as_str(),
            truncated_alerts: notification.alerts.len() - alerts.len() + notification.left_out,
            alerts,
            group_labels: &notification.group_labels,
            common_labels: notification.common_labels(),
            common_annotations: notification.common_annotations(),
            external_url: &notification.external_url,
            version: "4",
            group_key: &notification.group_key,
        }
    }
}

/// Why something is sent, in one word: `alerts`, `escalation-2`, `digest`.
pub(super) fn reason(reason: Reason) -> String {
    match reason {
        Reason::Alerts => "alerts".to_owned(),
        Reason::Escalation(step) => format!("escalation-{step}"),
        Reason::Digest => "digest".to_owned(),
        Reason::Summary => "summary".to_owned(),
        Reason::Heartbeat => "heartbeat".to_owned(),
        Reason::Failure => "failure".to_owned(),
        Reason::Test => "test".to_owned(),
    }
}

impl Webhook {
    fn login(&self) -> parts::Login<'_> {
        parts::Login {
            bearer_token_file: self.bearer_token_file.as_ref(),
            username: &self.username,
            password_file: self.password_file.as_ref(),
        }
    }
}

impl Table for Webhook {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        match (self.url.is_empty(), &self.url_file) {
            (true, None) => faults.add("url", "is missing; where there is a secret in it, name a file in url_file"),
            (false, Some(_)) => faults.add("url_file", "stands beside url: there can be only one"),
            (false, None) => parts::check_url(&self.url, "url", faults),
            (true, file) => parts::check_url_file(file.as_ref(), "url_file", "the URL", faults),
        }
        self.login().check(faults);
        for (name, value) in &self.headers {
            let key = format!("headers.{name}");
            if let Some(fault) = parts::header_fault(name) {
                faults.add(&key, fault);
            } else if parts::secret_header(name) {
                faults.add(&key, "may hold a secret, which does not belong in this file: use bearer_token_file or \
                                  username and password_file");
            } else if value.chars().any(char::is_control) {
                faults.add(&key, "has control characters in it");
            }
        }
    }
}

impl Integration for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn call(&self, notification: &Notification, _: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let url = match (&self.secret_url, &self.url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => parts::secret_url(Some(file), secrets)?,
            (None, None) => Secret::new(&self.url),
        };
        let mut headers: Vec<(String, Secret)> =
            self.headers.iter().map(|(name, value)| parts::header(name, value)).collect();
        headers.extend(self.login().header(secrets)?);
        headers.push(parts::idempotency(notification));
        headers.push(parts::header("Utilizer-Reason", &reason(notification.reason)));
        let payload = Payload::of(notification, self.max_alerts, BYTES);
        parts::post(url, &payload, headers, self.ca_file.as_ref())
    }
}
