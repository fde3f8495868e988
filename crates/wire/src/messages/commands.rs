use serde::{Deserialize, Serialize};

use crate::{GroupName, Timestamp};

/// Command: somebody has seen an alert; stop escalating it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Acknowledge {
    /// Message version.
    pub v: u32,
    /// The alert's fingerprint.
    pub fingerprint: String,
    /// Who.
    pub author: String,
    /// What they say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether it was a false alarm.
    #[serde(default)]
    pub false_alarm: bool,
    /// When.
    pub time: Timestamp,
}

/// Command: pause or resume the host's monitoring, or wait no longer for a group of exporters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Control {
    /// Message version.
    pub v: u32,
    /// What to do.
    pub action: ControlAction,
    /// Who asks.
    pub author: String,
    /// When.
    pub time: Timestamp,
    /// A pause ends by itself at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// `retire_group` only: the group. A command without it asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
}

/// What a [`Control`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ControlAction {
    /// Stop sampling and alerting.
    Pause,
    /// Go on.
    Resume,
    /// Forget the group of `group`: its exporters are gone for good, and no record waits for them any more. It is repeated
    /// until the host's status no longer lists the group, so it must do no harm when it comes again. A group that
    /// announces itself afterwards is a new one.
    RetireGroup,
}
