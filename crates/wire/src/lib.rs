//! The messages of utilizer.
mod kind;
mod name;
mod time;

pub use kind::{Kind, KindError};
pub use name::{BootId, GroupName, HostName, MemberName, NameError};
pub use time::{Timestamp, TimestampError};
