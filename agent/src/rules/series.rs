//! Series that rules make, on their way into the next snapshot.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rules::sample::NAME;
use tracing::warn;

use crate::collectors::names;
use crate::snapshot::{Families, Labels, MetricType, Section};

/// Between the thread that evaluates and the one that samples.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Families>>);

impl Shared {
    /// What was made last, as families of [`Section::Rules`].
    pub fn append_to(&self, out: &mut Families) {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !families.is_empty() {
            out.section(Section::Rules);
            out.append(&families);
        }
    }

    pub(super) fn set(&self, families: Families) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = families;
    }
}

/// Makes families of series.
#[derive(Debug, Default)]
pub(super) struct Maker {
    /// Names that a collector has too, said once.
    clashes: BTreeSet<String>,
}

impl Maker {
    /// `target` are the labels that every series of this host has in rules; on its page they would say nothing, and whoever
    /// scrapes it gives them anew. A name that a collector has as well is left out: a family stands on a page once.
    pub(super) fn families<'a>(
        &mut self,
        series: impl Iterator<Item = (&'a rules::Labels, f64)>,
        target: &[(String, String)],
        taken: impl Fn(&str) -> bool,
    ) -> Families {
        let mut series: Vec<(&rules::Labels, f64)> = series.collect();
        series.sort_by(|a, b| a.0.get(NAME).cmp(b.0.get(NAME)));
        let mut families = Families::default();
        for of_name in series.chunk_by(|a, b| a.0.get(NAME) == b.0.get(NAME)) {
            let Some(name) = of_name.first().map(|(labels, _)| labels.get(NAME)) else { continue };
            if taken(name) {
                if self.clashes.insert(name.to_owned()) {
                    warn!(
                        "the rule that records {name} has the name of a metric of this host: only other rules see it"
                    );
                }
                continue;
            }
            let (kind, help) = match name {
                "ALERTS" => (MetricType::Gauge, "1 for each alert that is pending or fires."),
                "ALERTS_FOR_STATE" => (MetricType::Gauge, "Since when each alert's expression holds."),
                _ => (MetricType::Untyped, "Recorded by a rule."),
            };
            // Each pass takes the families over: it shall allocate nothing for their names.
            families.family(names::keep(name.to_owned()), help, kind);
            for (labels, value) in of_name {
                let known =
                    |pair: (&str, &str)| target.iter().any(|(name, value)| (name.as_str(), value.as_str()) == pair);
                let pairs = labels.iter().filter(|pair| pair.0 != NAME && !known(*pair));
                families.push(&Labels::owned(pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))), *value);
            }
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_become_families_without_the_targets_labels() {
        let labels = |pairs: &[(&str, &str)]| rules::Labels::new(pairs.iter().copied());
        let series = [
            (labels(&[(NAME, "b"), ("job", "node"), ("x", "1")]), 1.0),
            (labels(&[(NAME, "node_load1"), ("job", "node")]), 2.0),
            (labels(&[(NAME, "a"), ("job", "other")]), 3.0),
            (labels(&[(NAME, "b"), ("job", "node"), ("x", "2")]), 4.0),
        ];
        let target = [("job".to_owned(), "node".to_owned())];
        let made = Maker::default()
            .families(series.iter().map(|(labels, value)| (labels, *value)), &target, |name| name == "node_load1");
        let shared = Shared::default();
        shared.set(made);
        let mut out = Families::default();
        shared.append_to(&mut out);
        let found: Vec<_> =
            out.iter().map(|family| (&*family.head.name, family.section, family.samples.len())).collect();
        assert_eq!(found, [("a", Section::Rules, 1), ("b", Section::Rules, 2)]);
        assert_eq!(out.samples("a")[0].labels.get("job"), Some("other"));
        assert_eq!(out.samples("b")[0].labels.iter().collect::<Vec<_>>(), [("x", "1")]);
    }
}
