use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{Body, Kind, Timestamp, Value};

/// Characters that `recap_system_metrics.job_id` holds.
pub const JOB_ID_LIMIT: usize = 100;
/// Characters that `recap_system_metrics.stage` holds.
pub const STAGE_LIMIT: usize = 50;
/// Characters that `recap_system_metrics.metric_name` holds.
pub const METRIC_NAME_LIMIT: usize = 100;

/// Metrics that a job reports about itself. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pipeline {
    /// In the order they were reported.
    pub records: Vec<PipelineRecord>,
}

impl Body for Pipeline {
    const KIND: Kind = Kind::Pipeline;
}

/// One row of `recap_system_metrics`, as a job reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PipelineRecord {
    /// The job, at most 100 characters.
    pub job_id: String,
    /// Its stage, such as `classification`, at most 50 characters.
    pub stage: String,
    /// Such as `f1_score`, at most 100 characters.
    pub metric_name: String,
    /// The value. NaN and infinities can be written down here, so that one of them spoils a row and not the message;
    /// no store takes them.
    pub metric_value: Value,
    /// Anything else, such as `{"model": "ensemble_v2"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Json>>,
    /// When it was measured; the record's time where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
}

/// Why a row can't be stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordFault {
    /// A text is empty.
    #[error("{field} is empty")]
    Empty {
        /// Which.
        field: &'static str,
    },
    /// A text is longer than its column.
    #[error("{field} has {length} characters; its column holds {limit}")]
    Long {
        /// Which.
        field: &'static str,
        /// How long it is.
        length: usize,
        /// What fits.
        limit: usize,
    },
    /// A text holds U+0000, which PostgreSQL does not store.
    #[error("{field} holds the character U+0000, which can't be stored")]
    Nul {
        /// Which.
        field: &'static str,
    },
    /// NaN or an infinity.
    #[error("metric_value is {value}; only finite numbers can be stored")]
    NotFinite {
        /// The value.
        value: f64,
    },
}

impl PipelineRecord {
    /// Whether every store takes it: the agent asks before it accepts, the exporter again before it writes.
    pub fn check(&self) -> Result<(), RecordFault> {
        check_row(&self.job_id, &self.stage, &self.metric_name, self.metric_value)?;
        match &self.metadata {
            Some(metadata) if metadata.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) => {
                Err(RecordFault::Nul { field: "metadata" })
            }
            _ => Ok(()),
        }
    }
}

/// The same for a row that is not a record yet, but for its metadata.
pub fn check_row(job_id: &str, stage: &str, metric_name: &str, metric_value: Value) -> Result<(), RecordFault> {
    check_text("job_id", job_id, JOB_ID_LIMIT)?;
    check_text("stage", stage, STAGE_LIMIT)?;
    check_text("metric_name", metric_name, METRIC_NAME_LIMIT)?;
    if !metric_value.0.is_finite() {
        return Err(RecordFault::NotFinite { value: metric_value.0 });
    }
    Ok(())
}

fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), RecordFault> {
    let length = text.chars().count();
    if length == 0 {
        Err(RecordFault::Empty { field })
    } else if length > limit {
        Err(RecordFault::Long { field, length, limit })
    } else if text.contains('\0') {
        Err(RecordFault::Nul { field })
    } else {
        Ok(())
    }
}

fn has_nul(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains('\0'),
        Json::Array(values) => values.iter().any(has_nul),
        Json::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}
