//! What was counted, as plain values: for whoever shows metrics.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Counters of one name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counter {
    /// Help text, one line.
    pub help: Cow<'static, str>,
    /// By labels.
    pub samples: BTreeMap<Vec<(Cow<'static, str>, String)>, f64>,
}

/// Counters of all inputs, by name: each stands on a page once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts(BTreeMap<String, Counter>);

impl Counts {
    /// The counters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Counter)> {
        self.0.iter().map(|(name, counter)| (name.as_str(), counter))
    }

    pub(crate) fn add(
        &mut self,
        name: &str,
        help: impl Into<Cow<'static, str>>,
        labels: Vec<(Cow<'static, str>, String)>,
        value: u64,
    ) {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Counter { help: help.into(), samples: BTreeMap::new() });
        }
        // Two inputs may count the same under one name.
        if let Some(counter) = self.0.get_mut(name) {
            *counter.samples.entry(labels).or_default() += value as f64;
        }
    }
}
