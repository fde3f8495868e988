//! Durable kinds: what is numbered, spooled, confirmed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A durable kind of record.
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
    /// All kinds. Their places stand in files.
    pub const ALL: [Kind; 5] = [Kind::Metrics, Kind::Logs, Kind::Alerts, Kind::Pipeline, Kind::Jobs];

    /// All kinds by their worth: what stands first is dropped first when room runs out. Alerts are few, small, and what
    /// people are woken by: nobody else's records push them out.
    pub const BY_WORTH: [Kind; 5] = [Kind::Metrics, Kind::Logs, Kind::Pipeline, Kind::Jobs, Kind::Alerts];

    /// The place in [`Kind::BY_WORTH`].
    pub fn worth(self) -> usize {
        match self {
            Kind::Metrics => 0,
            Kind::Logs => 1,
            Kind::Pipeline => 2,
            Kind::Jobs => 3,
            Kind::Alerts => 4,
        }
    }

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
