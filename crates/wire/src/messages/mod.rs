//! Every message, one file a subject.
//!
//! Durable bodies ([`Metrics`], [`Logs`], [`AlertTransition`], [`Pipeline`], [`JobTransition`]) travel inside a
//! [`crate::Record`]. The others are state or commands: they carry `v` themselves and no `seq`.

mod alerts;
mod audit;
mod commands;
mod confirmation;
mod jobs;
mod logs;
mod metrics;
mod pipeline;
mod silence;
mod status;
mod tier;

pub use alerts::{ActiveAlerts, Alert, AlertState, AlertTransition};
pub use audit::{AuditHead, AuditHeads, AuditLoss};
pub use commands::{Acknowledge, Control, ControlAction};
pub use confirmation::Confirmation;
pub use jobs::{JobStatus, JobTransition, RunJob};
pub use logs::{Level, LogRecord, Logs};
pub use metrics::{Family, FamilyType, Gauge, Metrics, Process, Sample};
pub use pipeline::{JOB_ID_LIMIT, METRIC_NAME_LIMIT, Pipeline, PipelineRecord, RecordFault, STAGE_LIMIT, check_row};
pub use silence::{MatchOperator, Matcher, Silence};
pub use status::{Gpu, HostState, Inventory, Loss, LossReason, Status, known_losses};
pub use tier::{TierState, TierStatus, known_kinds};
