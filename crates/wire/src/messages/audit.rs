use serde::{Deserialize, Serialize};

use crate::chain::Hash;
use crate::{BootId, HostName, Timestamp};

/// How far the chains of a host's audit records go, as its agent has them on its disk ([`crate::chain`]). State, retained:
/// who can write into a store can't write here, so that a chain that was cut off or made anew in the store shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditHeads {
    /// Message version.
    pub v: u32,
    /// The host.
    pub host: HostName,
    /// When this was said.
    pub time: Timestamp,
    /// The latest runs of the agent that had audit records, the newest last.
    pub heads: Vec<AuditHead>,
}

/// How far the chain of one run goes at least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditHead {
    /// The run of the agent.
    pub boot: BootId,
    /// The number of its last record.
    pub seq: u64,
    /// The hash of that record.
    pub hash: Hash,
    /// When that record was put into the spool.
    pub time: Timestamp,
    /// Records that the agent had to give up, so that no store has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<AuditLoss>,
}

/// Audit records that are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditLoss {
    /// The number of the first one.
    pub from: u64,
    /// The number of the last one.
    pub to: u64,
    /// The hash of the last one, on which the chain goes on.
    pub hash: Hash,
}
