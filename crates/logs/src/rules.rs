//! Which lines a rule of the configuration is for.

use std::collections::BTreeMap;

use wire::messages::{Level, LogRecord};

use crate::levels;
use crate::pattern::Pattern;

/// All that is given has to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    message: Option<Pattern>,
    levels: Vec<Level>,
    services: Vec<String>,
    fields: Vec<(String, Pattern)>,
}

/// As written, wherever it stands.
pub(crate) struct Written<'a> {
    pub(crate) message: Option<&'a str>,
    pub(crate) levels: &'a [String],
    pub(crate) services: &'a [String],
    pub(crate) fields: &'a BTreeMap<String, String>,
}

impl Condition {
    /// `fault` is told each key that is wrong, and why.
    pub(crate) fn new(written: &Written<'_>, mut fault: impl FnMut(&str, String)) -> Self {
        let mut condition = Self { services: written.services.to_vec(), ..Self::default() };
        if let Some(text) = written.message.filter(|text| !text.is_empty()) {
            condition.message = Pattern::new(text).map_err(|error| fault("match", error)).ok();
        }
        for word in written.levels {
            match levels::of_word(word) {
                Some(level) => condition.levels.push(level),
                None => fault("levels", format!("{word:?} is not a level: DEBUG, INFO, WARN, ERROR or FATAL")),
            }
        }
        for (name, text) in written.fields {
            match Pattern::new(text) {
                Ok(pattern) => condition.fields.push((name.clone(), pattern)),
                Err(error) => fault(&format!("fields.{name}"), error),
            }
        }
        condition
    }

    /// With a pattern of ours.
    pub(crate) fn with_message(mut self, pattern: Pattern) -> Self {
        self.message = Some(pattern);
        self
    }

    /// Whether it takes every line.
    pub(crate) fn is_empty(&self) -> bool {
        self.message.is_none() && self.levels.is_empty() && self.services.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn takes(&self, record: &LogRecord) -> bool {
        self.takes_but_message(record) && self.message.as_ref().is_none_or(|pattern| pattern.matches(&record.message))
    }

    /// All but what it asks of the message.
    pub(crate) fn takes_but_message(&self, record: &LogRecord) -> bool {
        (self.levels.is_empty() || self.levels.contains(&record.level))
            && (self.services.is_empty() || self.services.contains(&record.service_name))
            && self.fields.iter().all(|(name, pattern)| record.fields.get(name).is_some_and(|v| pattern.matches(v)))
    }

    pub(crate) fn message(&self) -> Option<&Pattern> {
        self.message.as_ref()
    }
}
