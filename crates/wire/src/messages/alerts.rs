use serde::{Deserialize, Serialize};

use crate::{Body, BootId, HostName, Kind, LabelSet, Timestamp, Value};

/// An alert began to fire, resolved, or somebody takes care of it. Durable; pending alerts are not sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AlertTransition {
    /// What it became.
    pub state: AlertState,
    /// The alert.
    pub alert: Alert,
}

impl Body for AlertTransition {
    const KIND: Kind = Kind::Alerts;
}

/// A state that is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Its expression held for at least `for`.
    Firing,
    /// It no longer fires.
    Resolved,
    /// Somebody takes care of it, while it fires on. Who and why stand in the annotations `acknowledged_by`,
    /// `acknowledgement` and `false_alarm`.
    Acknowledged,
}

/// One alert of one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Alert {
    /// 16 hex digits, a hash of the labels: the same over the alert's whole life.
    pub fingerprint: String,
    /// All labels, `alertname` among them.
    pub labels: LabelSet,
    /// Annotations, their templates rendered.
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub annotations: LabelSet,
    /// The expression's value.
    pub value: Value,
    /// When the expression first held.
    pub active_at: Timestamp,
    /// When it began to fire.
    pub fired_at: Timestamp,
    /// When it resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
}

/// The alerts that fire on a host now. State, retained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActiveAlerts {
    /// Message version.
    pub v: u32,
    /// The host.
    pub host: HostName,
    /// The agent's run.
    pub boot: BootId,
    /// When this was true.
    pub time: Timestamp,
    /// Sorted by fingerprint; empty when all is well.
    pub alerts: Vec<Alert>,
}
