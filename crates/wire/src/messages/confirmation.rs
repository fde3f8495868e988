use serde::{Deserialize, Serialize};

use crate::ranges::by_boot;
use crate::{Ranges, SeqByBoot};

/// Command: what an exporter has of this host. Topic: `command/<host>/confirmed/<group>/<member>`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Confirmation {
    /// Message version.
    pub v: u32,
    /// Whether this names everything that the member has; else only what came since its last confirmation.
    pub whole: bool,
    /// On the member's disk and not yet in the store. A lease, renewed by each confirmation that names it.
    #[serde(default, skip_serializing_if = "SeqByBoot::is_empty", deserialize_with = "by_boot")]
    pub held: SeqByBoot<Ranges>,
    /// In the store, or booked as declared lost: the host may forget it for this group.
    #[serde(default, skip_serializing_if = "SeqByBoot::is_empty", deserialize_with = "by_boot")]
    pub committed: SeqByBoot<Ranges>,
}
