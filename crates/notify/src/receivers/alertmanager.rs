//! Alertmanagers, by their API v2. Each gets everything: they tell duplicates apart by the labels. No route leads to them:
//! an alert that is not posted again and again ends there, so that they are fed by [`Feed`](crate::feed::Feed).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Answer, Call, Faults, HttpCall, Outcome, Secret, SecretFile, Secrets, parts};

/// `[notify.alertmanager]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alertmanager {
    /// All instances (`http://alertmanager-1:9093`), each of which is told; none where this is empty.
    pub urls: Vec<String>,
    /// The authorities that sign the servers' certificates, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file whose first line is a bearer token.
    pub bearer_token_file: Option<SecretFile>,
    /// The user, for basic authentication.
    pub username: String,
    /// A file whose first line is the user's password.
    pub password_file: Option<SecretFile>,
    /// How often an alert that fires is posted; without it for four times as long, it ends there.
    #[serde(with = "config::duration")]
    pub resend: Duration,
}

impl Default for Alertmanager {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            ca_file: None,
            bearer_token_file: None,
            username: String::new(),
            password_file: None,
            resend: Duration::from_secs(60),
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

    /// What is wrong with it: the key and a sentence.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut faults = Faults::default();
        for (at, url) in self.urls.iter().enumerate() {
            parts::check_url(url, &format!("urls[{at}]"), &mut faults);
        }
        self.login().check(&mut faults);
        if self.resend < Duration::from_secs(1) {
            faults.add("resend", "must be at least 1s");
        }
        faults.0
    }

    /// The request that posts alerts to one of `urls`; the body is a [`Batch`](crate::feed::Batch)'s.
    pub fn post(&self, url: &str, body: Vec<u8>, secrets: &Secrets<'_>) -> Result<Call, String> {
        let url = Secret::new(format!("{}/api/v2/alerts", url.trim_end_matches('/')));
        let mut headers = vec![parts::header("Content-Type", "application/json"), parts::agent()];
        headers.extend(self.login().header(secrets)?);
        Ok(Call::Http(HttpCall { method: "POST", url, headers, body, ca_file: self.ca_file.clone() }))
    }

    /// It takes what is right of a request even if it answers 400 because of the rest. Whoever is not let in may be, once
    /// somebody has seen to it; so with what is not found.
    pub fn outcome(answer: &Answer) -> Outcome {
        match answer.status {
            400 => Outcome::Refused(
                "it answered 400: it does not take some of the alerts, because of their labels or times".to_owned(),
            ),
            413 => Outcome::Refused("it answered 413: the request is too large for it".to_owned()),
            200..=299 => Outcome::Sent,
            status => Outcome::Retry(answer.retry_after, format!("it answered {status}")),
        }
    }
}
