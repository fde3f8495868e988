//! Durable records: a head that identifies, and a body.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::messages::LogRecord;
use crate::{BootId, HostName, Kind, Timestamp, VERSION};

/// What identifies a durable record. (`host`, `boot`, kind, `seq`) is the identity; the kind stands in the topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Head {
    /// Message version, [`VERSION`].
    pub v: u32,
    /// The sending host, as in the topic.
    pub host: HostName,
    /// The run of the agent that made the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
    /// Number within host, boot and kind, from 1. Programs that publish without an agent may leave it out: their
    /// records are then delivered at least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When the record was made.
    pub time: Timestamp,
}

/// The body of a durable kind.
pub trait Body: Serialize + DeserializeOwned {
    /// The kind it is the body of.
    const KIND: Kind;

    /// The log records in it, if it is of those: audit records among them are chained before they are spooled.
    fn log_records(&mut self) -> Option<&mut [LogRecord]> {
        None
    }
}

/// A durable record as it is spooled, published and stored: head and body in one flat JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record<B> {
    /// Its identity.
    #[serde(flatten)]
    pub head: Head,
    /// Its content.
    #[serde(flatten)]
    pub body: B,
}

/// Why a payload is not the message that its topic promises.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("the payload is no {what} message: {source}")]
    Json {
        /// Which message was expected.
        what: &'static str,
        /// serde_json's account, with line and column.
        source: serde_json::Error,
    },
    /// A version that this program does not know.
    #[error("the message has version {found}; this program knows version {VERSION}: update the receiver")]
    Version {
        /// What the message says.
        found: u32,
    },
}

/// Reads a record's head and skips its body: enough to identify it, whatever it holds.
pub fn decode_head(payload: &[u8]) -> Result<Head, DecodeError> {
    let head: Head = serde_json::from_slice(payload).map_err(|source| DecodeError::Json { what: "durable", source })?;
    if head.v != VERSION {
        return Err(DecodeError::Version { found: head.v });
    }
    Ok(head)
}

/// Reads a record's body and skips its head. Two quick passes cost less than one over a flattened struct, which
/// serde would buffer whole.
pub fn decode_body<B: Body>(payload: &[u8]) -> Result<B, DecodeError> {
    serde_json::from_slice(payload).map_err(|source| DecodeError::Json { what: B::KIND.as_str(), source })
}

/// Reads a state or command message (see [`crate::messages`]), checking its version first.
pub fn decode_state<T: DeserializeOwned>(what: &'static str, payload: &[u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let json = |source| DecodeError::Json { what, source };
    let Version { v } = serde_json::from_slice(payload).map_err(json)?;
    if v != VERSION {
        return Err(DecodeError::Version { found: v });
    }
    serde_json::from_slice(payload).map_err(json)
}

/// The payload of any message. Our types always encode: their maps have string keys, and serde_json writes a float
/// that JSON lacks as `null` at worst ([`crate::Value`] writes those as strings).
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_else(|error| unreachable!("BUG: a message does not encode: {error}"))
}

/// The identity as MQTT v5 user properties, so that a receiver can book a record whose payload it can't read.
pub fn user_properties(host: &HostName, boot: Option<&BootId>, kind: Kind, seq: Option<u64>) -> Vec<(String, String)> {
    let mut properties = vec![
        ("v".to_owned(), VERSION.to_string()),
        ("host".to_owned(), host.to_string()),
        ("kind".to_owned(), kind.to_string()),
    ];
    properties.extend(boot.map(|boot| ("boot".to_owned(), boot.to_string())));
    properties.extend(seq.map(|seq| ("seq".to_owned(), seq.to_string())));
    properties
}
