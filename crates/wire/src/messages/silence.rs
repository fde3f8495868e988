use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A silence for all hosts that it matches. State, retained on `fleet/silences/<id>`; an empty payload removes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Silence {
    /// Message version.
    pub v: u32,
    /// An alert is silenced when all of these match its labels.
    pub matchers: Vec<Matcher>,
    /// From when.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who.
    pub author: String,
    /// Why.
    pub comment: String,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Matcher {
    /// The label's name. A label that an alert lacks has the value "".
    pub name: String,
    /// How to compare.
    pub operator: MatchOperator,
    /// With what.
    pub value: String,
}

/// Prometheus' matching operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum MatchOperator {
    /// Equal.
    #[serde(rename = "=")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=")]
    NotEqual,
    /// Matches the whole value.
    #[serde(rename = "=~")]
    Regex,
    /// Does not match the whole value.
    #[serde(rename = "!~")]
    NotRegex,
}
