use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ranges::by_boot;
use crate::{BootId, GroupName, HostName, Kind, LabelSet, SeqByBoot, Timestamp};

/// A host's state. Retained: birth (`online`), clean stop and last will (`offline`), each with the agent's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Message version.
    pub v: u32,
    /// The host.
    pub host: HostName,
    /// Whether its agent is connected.
    pub state: HostState,
    /// The agent's run.
    pub boot: BootId,
    /// When this was written; in a last will, when the agent started.
    pub time: Timestamp,
    /// The agent's version.
    pub version: String,
    /// `offline` only: the agent stopped on purpose. A last will says `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Seconds between two passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<f64>,
    /// External labels of the host, from its configuration.
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub labels: LabelSet,
    /// What the host is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// The exporter groups whose confirmations the agent waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// The lowest number that some group has not confirmed, per run and kind: ledgers may forget what is below.
    #[serde(default, skip_serializing_if = "SeqByBoot::is_empty", deserialize_with = "by_boot")]
    pub lowest_unconfirmed: SeqByBoot<u64>,
    /// Records that will never come, until every group has booked them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "known_losses")]
    pub dropped: Vec<Loss>,
}

/// Whether a host's agent is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// It is.
    Online,
    /// It is not.
    Offline,
}

/// What a host is. Everything that can't be read is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Inventory {
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Kernel release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Such as `x86_64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The processor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// Logical processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<u32>,
    /// Physical cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_count: Option<u32>,
    /// Main memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// Graphics processors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
}

/// One graphics processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gpu {
    /// Index on the host.
    pub index: u32,
    /// The driver's unique id.
    pub uuid: String,
    /// Model name.
    pub name: String,
    /// Memory.
    pub memory_total_bytes: u64,
}

/// Records that are declared lost: `[boot, kind, from, to, reason]` in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The run that made them.
    pub boot: BootId,
    /// Their kind.
    pub kind: Kind,
    /// First number.
    pub from: u64,
    /// Last number.
    pub to: u64,
    /// Why.
    pub reason: LossReason,
}

/// Why records were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The queue or spool was full.
    Full,
    /// Older than the spool keeps.
    Age,
    /// The segment on disk could not be read.
    Corrupt,
    /// The agent ended before it could be sent, and it was in memory only.
    Stopped,
    /// No broker takes a message of this size.
    TooLarge,
    /// A reason that a later version has.
    #[serde(other)]
    Other,
}

impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(5)?;
        tuple.serialize_element(&self.boot)?;
        tuple.serialize_element(&self.kind)?;
        tuple.serialize_element(&self.from)?;
        tuple.serialize_element(&self.to)?;
        tuple.serialize_element(&self.reason)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let LossOf { boot, kind, from, to, reason } = LossOf::<Kind>::deserialize(deserializer)?;
        Ok(Loss { boot, kind, from, to, reason })
    }
}

/// Reads losses and skips those of kinds that this version does not have.
pub fn known_losses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Loss>, D::Error> {
    let known = |LossOf { boot, kind, from, to, reason }: LossOf<String>| {
        Some(Loss { boot, kind: kind.parse().ok()?, from, to, reason })
    };
    Ok(Vec::<LossOf<String>>::deserialize(deserializer)?.into_iter().filter_map(known).collect())
}

/// A loss whose kind may be one of a later version.
struct LossOf<K> {
    boot: BootId,
    kind: K,
    from: u64,
    to: u64,
    reason: LossReason,
}

impl<'de, K: Deserialize<'de>> Deserialize<'de> for LossOf<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<K>(PhantomData<K>);
        impl<'de, K: Deserialize<'de>> Visitor<'de> for Fields<K> {
            type Value = LossOf<K>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("[boot, kind, from, to, reason]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LossOf<K>, A::Error> {
                let short = |length| A::Error::invalid_length(length, &"[boot, kind, from, to, reason]");
                let boot = seq.next_element()?.ok_or_else(|| short(0))?;
                let kind = seq.next_element()?.ok_or_else(|| short(1))?;
                let from = seq.next_element()?.ok_or_else(|| short(2))?;
                let to = seq.next_element()?.ok_or_else(|| short(3))?;
                let reason = seq.next_element()?.ok_or_else(|| short(4))?;
                // A later version may say more; a receiver ignores what it does not know.
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                if to < from {
                    return Err(A::Error::custom("a loss that ends before it begins"));
                }
                Ok(LossOf { boot, kind, from, to, reason })
            }
        }
        deserializer.deserialize_seq(Fields(PhantomData))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Loss {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Loss".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Records that are declared lost: [boot, kind, from, to, reason].",
            "type": "array",
            "prefixItems": [
                generator.subschema_for::<BootId>(),
                generator.subschema_for::<Kind>(),
                { "type": "integer", "minimum": 1 },
                { "type": "integer", "minimum": 1 },
                generator.subschema_for::<LossReason>(),
            ],
            "minItems": 5
        })
    }
}
