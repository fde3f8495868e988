//! Durable kinds: what is numbered, spooled, confirmed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A durable kind of record. The order is that of worth: what stands first is dropped first when room runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Utilization gauges and published families of one interval.
    Metrics,
    /// A batch of log records.
    Logs,
    /// One alert transition.
    Alerts,
    /// Metrics of pipeline jobs.
    Pipeline,
    /// A transition of an admin job.
    Jobs,
}

impl Kind {
    /// All kinds, least valuable first.
    pub const ALL: [Kind; 5] = [Kind::Metrics, Kind::Logs, Kind::Alerts, Kind::Pipeline, Kind::Jobs];

    /// As it stands in topics.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Metrics => "metrics",
            Kind::Logs => "logs",
            Kind::Alerts => "alerts",
            Kind::Pipeline => "pipeline",
            Kind::Jobs => "jobs",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no durable kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a durable kind (metrics, logs, alerts, pipeline, jobs)")]
pub struct KindError(pub String);

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| KindError(text.to_owned()))
    }
}
