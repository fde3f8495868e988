use serde::{Deserialize, Deserializer, Serialize};

use crate::{GroupName, Kind, MemberName, Timestamp};

/// An exporter's state. Retained on `tier/<group>/<member>/status`; also its last will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TierStatus {
    /// Message version.
    pub v: u32,
    /// Its group.
    pub group: GroupName,
    /// Its own name within the group.
    pub member: MemberName,
    /// Whether it is connected.
    pub state: TierState,
    /// When this was written; in a last will, when it connected.
    pub time: Timestamp,
    /// What it writes into: `postgres`, `clickhouse`, `sqlite`.
    pub sink: String,
    /// The kinds it takes.
    #[serde(deserialize_with = "known_kinds")]
    pub kinds: Vec<Kind>,
    /// Whether it confirms what it holds and commits, so that agents keep their records until it does.
    pub durable: bool,
    /// Its version.
    pub version: String,
}

/// Whether an exporter is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TierState {
    /// It is.
    Online,
    /// It is not.
    Offline,
}

/// Skips kinds that this version does not have: an agent that has none of them still waits for the others.
pub fn known_kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Kind>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.iter().filter_map(|kind| kind.parse().ok()).collect())
}
