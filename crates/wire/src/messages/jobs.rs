use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{Body, Kind, Timestamp};

/// An admin job changed its state. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobTransition {
    /// `admin_jobs.id`.
    pub job: i64,
    /// What it became.
    pub status: JobStatus,
    /// What it produced, when completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Json>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

impl Body for JobTransition {
    const KIND: Kind = Kind::Jobs;
}

/// `admin_jobs.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Nobody has taken it.
    Pending,
    /// A host runs it.
    Running,
    /// Done.
    Completed,
    /// Not done; `error_message` says why.
    Failed,
}

/// Command: run a job on this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunJob {
    /// Message version.
    pub v: u32,
    /// `admin_jobs.id`.
    pub job: i64,
    /// `admin_jobs.job_type`, such as `retrain`: names an entry of the host's own `jobs.toml`.
    pub job_type: String,
    /// `admin_jobs.parameters`.
    #[serde(default)]
    pub parameters: Map<String, Json>,
    /// When it was handed out.
    pub time: Timestamp,
    /// After this moment the host must not begin it any more.
    pub start_before: Timestamp,
}
