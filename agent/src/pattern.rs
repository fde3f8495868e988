//! Regular expressions of the configuration, as node_exporter's switches have them.
//!
//! They decide which devices, mounts or fields are shown. A collector asks once for each name it meets and keeps the
//! answer with what else it keeps of the device: matching has no place in a pass over known ones.

use std::fmt;

use regex_lite::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A regular expression, not anchored unless it says so; the empty one is "not given". RE2's syntax, as Prometheus' world
/// writes it, but for classes of Unicode.
#[derive(Clone, Default)]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// From what a user wrote; the error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = match text {
            "" => None,
            text => Some(Regex::new(text).map_err(|e| format!("{text:?} is not a regular expression: {e}"))?),
        };
        Ok(Self { text: text.to_owned(), regex })
    }

    /// From a default of ours.
    pub fn fixed(text: &'static str) -> Self {
        Self::new(text).unwrap_or_else(|e| unreachable!("BUG: {e}"))
    }

    /// Whether it is given and matches.
    pub fn matches(&self, name: &str) -> bool {
        // A copy shares the expression, but not the scratch space of a match, which one keeps for good: tens of kilobytes
        // for what is asked at the start, and then once for each new device.
        self.regex.clone().is_some_and(|regex| regex.is_match(name))
    }

    /// The expression, where one is given.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_ref()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether a name is shown: where `include` is given it must match, and `exclude` must not.
pub fn shows(include: &Pattern, exclude: &Pattern, name: &str) -> bool {
    (include.regex.is_none() || include.matches(name)) && !exclude.matches(name)
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_is_included_and_not_excluded() {
        let pattern = |text| Pattern::new(text).unwrap();
        assert!(shows(&pattern(""), &pattern(""), "eth0"));
        assert!(shows(&pattern("eth"), &pattern(""), "veth0"), "not anchored");
        assert!(!shows(&pattern("^eth"), &pattern(""), "veth0"));
        assert!(!shows(&pattern("eth"), &pattern("0$"), "eth0"));
        assert!(shows(&pattern(""), &pattern("0$"), "eth1"));
    }

    #[test]
    fn a_bad_one_says_why() {
        let error = Pattern::new("eth(").unwrap_err();
        assert!(error.starts_with("\"eth(\" is not a regular expression: "), "{error}");
    }
}
