//! The messages that utilizer's programs send each other over MQTT, and the topics they travel on.
//!
//! Values only: no I/O, no clock, no client library. A message is a struct with serde's derives; its JSON is pinned by
//! the files in `golden/` and described by the JSON Schemas in `schema/`, both held to the types by this crate's
//! tests. [`Topic`] is the one place that spells a topic.
//!
//! A receiver ignores fields that it does not know. When the meaning of a field changes, the version in the topic
//! changes ([`VERSION`]).

pub mod chain;
mod kind;
mod labels;
pub mod messages;
mod name;
mod ranges;
mod record;
#[cfg(feature = "schema")]
pub mod schema;
mod stage;
mod time;
mod topic;
mod value;

pub use kind::{Kind, KindError};
pub use labels::LabelSet;
pub use name::{BootId, GroupName, HostName, MemberName, NameError, SilenceId};
pub use ranges::{RangeError, Ranges, SeqByBoot, by_boot};
pub use record::{Body, DecodeError, Head, Record, decode_body, decode_head, decode_state, encode, user_properties};
pub use stage::Stage;
pub use time::{Timestamp, TimestampError};
pub use topic::{Topic, TopicError};
pub use value::Value;

/// The version that stands in every topic and in the field `v` of every message.
pub const VERSION: u32 = 1;

/// `content-type` of every payload.
pub const CONTENT_TYPE: &str = "application/json";
