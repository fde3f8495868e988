//! Series in memory that keep everything.

use std::collections::HashMap;

use crate::ast::{Millis, Selector};
use crate::{Labels, Sample, Series, Storage};

/// Series of which nothing is forgotten, for tests.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    series: Vec<Series>,
    places: HashMap<Labels, usize>,
}

impl Memory {
    /// No series.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample. One of a time that the series has already replaces it; an older one is put in its place.
    pub fn add(&mut self, labels: &Labels, sample: Sample) {
        let place = *self.places.entry(labels.clone()).or_insert_with(|| {
            self.series.push(Series { labels: labels.clone(), samples: Vec::new() });
            self.series.len() - 1
        });
        let Some(series) = self.series.get_mut(place) else { return };
        let at = series.samples.partition_point(|other| other.time < sample.time);
        match series.samples.get_mut(at) {
            Some(same) if same.time == sample.time => *same = sample,
            _ => series.samples.insert(at, sample),
        }
    }

    /// All series, in the order in which they came.
    pub fn all(&self) -> &[Series] {
        &self.series
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.series.clear();
        self.places.clear();
    }
}

/// Whether a series' labels fulfil all of a selector's conditions.
pub fn selects(selector: &Selector, labels: &Labels) -> bool {
    selector.matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)))
}

impl Storage for Memory {
    fn series(&self, selector: &Selector, after: Millis, until: Millis, _most: usize) -> Vec<Series> {
        let mut found = Vec::new();
        for series in self.series.iter().filter(|series| selects(selector, &series.labels)) {
            let from = series.samples.partition_point(|sample| sample.time <= after);
            let to = series.samples.partition_point(|sample| sample.time <= until);
            match series.samples.get(from..to) {
                Some(samples) if !samples.is_empty() => {
                    found.push(Series { labels: series.labels.clone(), samples: samples.to_vec() });
                }
                _ => {}
            }
        }
        // As Prometheus' storage gives them: some functions and aggregations show the order.
        found.sort_by(|a, b| order(&a.labels, &b.labels));
        found
    }
}

/// The order of Prometheus' label sets: pair by pair, the shorter of two equal beginnings first.
fn order(a: &Labels, b: &Labels) -> std::cmp::Ordering {
    a.iter().cmp(b.iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{MatchOp, Matcher};
    use crate::sample::NAME;

    fn named(name: &str) -> Selector {
        Selector { matchers: vec![Matcher::new(NAME, MatchOp::Equal, name).unwrap()], offset: 0 }
    }

    #[test]
    fn a_range_leaves_out_its_beginning() {
        let mut memory = Memory::new();
        let labels = Labels::new([(NAME, "m")]);
        for time in [3, 1, 2] {
            memory.add(&labels, Sample { time, value: time as f64 });
        }
        memory.add(&labels, Sample { time: 2, value: 20.0 });
        memory.add(&Labels::new([(NAME, "n")]), Sample { time: 2, value: 1.0 });
        let found = memory.series(&named("m"), 1, 3, 9);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].samples, [Sample { time: 2, value: 20.0 }, Sample { time: 3, value: 3.0 }]);
        assert_eq!(memory.series(&named("m"), 3, 9, 9), []);
    }
}
