//! Commands: jobs that `utilizer-jobs` runs with its own rights. Only the job's name and the JSON on its standard input
//! come from here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wire::Timestamp;

use super::webhook::{self, Payload};
use super::{Call, Faults, Integration, Secrets, Table};
use crate::Notification;

/// Of the alerts of one call, in bytes of JSON: a command's standard input is bounded.
const BYTES: usize = 256 << 10;

/// `[[notify.receivers.command]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// Whether it runs when alerts are over, too; the JSON says which it is.
    pub send_resolved: bool,
    /// The job, as `jobs.toml` names it.
    pub job: String,
    /// At most so many alerts in the JSON, the rest is counted; 0: as many as fit into 256 KiB.
    pub max_alerts: usize,
}

impl Default for Command {
    fn default() -> Self {
        Self { send_resolved: true, job: String::new(), max_alerts: 0 }
    }
}

#[derive(Serialize)]
struct Input<'a> {
    #[serde(flatten)]
    payload: Payload<'a>,
    /// The same whenever this notification is sent again.
    id: &'a str,
    reason: String,
    host: &'a str,
    time: Timestamp,
    /// The values of the alerts' expressions, in the order of the alerts.
    values: Vec<wire::Value>,
}

impl Table for Command {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.job.is_empty() {
            faults.add("job", "is missing: a job that jobs.toml names");
        } else if self.job.len() > 64 || !self.job.chars().all(sign) {
            faults.add("job", "is no name of a job: up to 64 letters, digits, dashes, dots and underscores");
        }
    }
}

impl Integration for Command {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn call(&self, notification: &Notification, _: Timestamp, _: &Secrets<'_>) -> Result<Call, String> {
        let payload = Payload::of(notification, self.max_alerts, BYTES);
        let input = Input {
            values: notification.alerts.iter().take(payload.len()).map(|alert| alert.value).collect(),
            payload,
            id: &notification.id,
            reason: webhook::reason(notification.reason),
            host: &notification.host,
            time: notification.time,
        };
        let body = serde_json::to_vec(&input).map_err(|error| format!("BUG: the input is no JSON: {error}"))?;
        Ok(Call::Command { job: self.job.clone(), body })
    }
}
