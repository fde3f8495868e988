//! Names that stand in topics and identities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Why a name can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("{what} is empty")]
    Empty {
        /// What it was meant to name.
        what: &'static str,
    },
    /// Too long.
    #[error("{what} has {length} characters; at most {limit} are allowed")]
    Long {
        /// What it was meant to name.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// A character that would break a topic.
    #[error("{what} {name:?} has the character {character:?}; letters, digits, '.', '_' and '-' are allowed")]
    Character {
        /// What it was meant to name.
        what: &'static str,
        /// The name.
        name: String,
        /// The first bad character.
        character: char,
    },
}

fn check(what: &'static str, limit: usize, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    let length = name.chars().count();
    if length > limit {
        return Err(NameError::Long { what, length, limit });
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(character) => Err(NameError::Character { what, name: name.to_owned(), character }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $limit:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transparent))]
        #[serde(transparent)]
        pub struct $type(
            #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[A-Za-z0-9._-]+$"), length(max = $limit)))]
            String,
        );

        impl $type {
            /// How many characters it may have.
            pub const LIMIT: usize = $limit;

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                check($what, $limit, name)?;
                Ok(Self(name.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A host's name as it stands in topics and rows. At most 90 characters, so that `host:<host>` fits a
    /// `job_id` of 100.
    HostName, "the host name", 90
}
name! {
    /// The exporters that share one copy of the telemetry.
    GroupName, "the group name", 60
}
name! {
    /// One exporter of a group. Stable over restarts.
    MemberName, "the member name", 90
}
name! {
    /// One run of an agent: a UUID in practice, time-ordered (version 7).
    BootId, "the boot id", 40
}

name! {
    /// A silence's id, chosen by who makes it.
    SilenceId, "the silence id", 60
}

impl HostName {
    /// A host name from whatever the system is called: characters that a topic can't hold become `-`, the rest
    /// is cut at the limit. `None` where nothing usable is left.
    pub fn from_system(name: &str) -> Option<Self> {
        let safe: String = name
            .trim()
            .chars()
            .take(Self::LIMIT)
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .collect();
        safe.parse().ok()
    }
}
