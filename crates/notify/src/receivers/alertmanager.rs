//! Alertmanagers, by their API v2. Each gets everything: they tell duplicates apart by the labels.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::{LabelSet, Timestamp};

use super::{Answer, Call, Faults, Integration, Outcome, Secret, SecretFile, Secrets, Table, parts};
use crate::Notification;

/// Of the alerts of one request, in bytes of JSON.
const BYTES: usize = 16 << 20;

/// `[[notify.receivers.alertmanager]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alertmanager {
    /// All instances (`http://alertmanager-1:9093`), each of which is told.
    pub urls: Vec<String>,
    /// The authorities that sign the servers' certificates, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file whose first line is a bearer token.
    pub bearer_token_file: Option<SecretFile>,
    /// The user, for basic authentication.
    pub username: String,
    /// A file whose first line is the user's password.
    pub password_file: Option<SecretFile>,
    /// An alert that fires ends there after this long, unless it is sent again. At least three times as long as its
    /// route's `repeat_interval`.
    #[serde(with = "config::duration")]
    pub expire_after: Duration,
}

impl Default for Alertmanager {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            ca_file: None,
            bearer_token_file: None,
            username: String::new(),
            password_file: None,
            expire_after: Duration::from_secs(300),
        }
    }
}

impl Alertmanager {
    fn login(&self) -> parts::Login<'_> {
        parts::Login {
            bearer_token_file: self.bearer_token_file.as_ref(),
            username: &self.username,
            password_file: self.password_file.as_ref(),
        }
    }
}

impl Table for Alertmanager {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        for url in &self.urls {
            all.push(Arc::new(Instance { url: url.clone(), of: self.clone() }));
        }
    }

    fn check(&self, faults: &mut Faults) {
        if self.urls.is_empty() {
            faults.add("urls", "are missing: one or more such as \"http://alertmanager:9093\"");
        }
        for (at, url) in self.urls.iter().enumerate() {
            parts::check_url(url, &format!("urls[{at}]"), faults);
        }
        self.login().check(faults);
        if self.expire_after < Duration::from_secs(10) {
            faults.add("expire_after", "is shorter than 10s: alerts would end between two sends");
        }
    }
}

/// One of the instances.
#[derive(Debug)]
struct Instance {
    url: String,
    of: Alertmanager,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: LabelSet,
    annotations: &'a LabelSet,
    starts_at: Timestamp,
    ends_at: Timestamp,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
}

/// An alert with an empty value is refused there; it means the same without.
fn without_empty(labels: &LabelSet) -> LabelSet {
    let kept = labels.iter().filter(|(name, value)| !name.is_empty() && !value.is_empty());
    kept.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Integration for Instance {
    fn kind(&self) -> &'static str {
        "alertmanager"
    }

    fn send_resolved(&self) -> bool {
        true
    }

    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let mut room = BYTES;
        let posted: Vec<Posted<'_>> = notification
            .alerts
            .iter()
            .map(|alert| Posted {
                labels: without_empty(&alert.labels),
                annotations: &alert.annotations,
                starts_at: alert.fired_at,
                ends_at: alert.resolved_at.unwrap_or_else(|| now.plus(self.of.expire_after)),
                generator_url: if parts::is_url(&notification.external_url) { &notification.external_url } else { "" },
            })
            .filter(|posted| !posted.labels.is_empty())
            .take_while(|posted| {
                let size = serde_json::to_vec(posted).map_or(usize::MAX, |json| json.len() + 1);
                room = room.saturating_sub(size);
                room > 0
            })
            .collect();
        let url = Secret::new(format!("{}/api/v2/alerts", self.url.trim_end_matches('/')));
        let headers = self.of.login().header(secrets)?.into_iter().collect();
        parts::post(url, &posted, headers, self.of.ca_file.as_ref())
    }

    /// It takes what is right of a request even if it answers 400 because of the rest.
    fn outcome(&self, answer: &Answer) -> Outcome {
        match answer.status {
            400 => Outcome::Refused(
                "it answered 400: it does not take some of the alerts, because of their labels or times".to_owned(),
            ),
            404 => {
                let why = "it answered 404: there is no Alertmanager at this URL, or its path differs";
                Outcome::Refused(why.to_owned())
            }
            _ => super::outcome(answer),
        }
    }
}
