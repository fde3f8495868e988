//! The newest values of scraped series that are published, for the host's metrics record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rules::order;
use tracing::warn;
use wire::Value;
use wire::messages::{Family, FamilyType, Sample as WireSample};

use super::series::Sample;
use crate::message::label_set;
use crate::snapshot::MetricType;

/// Between those who scrape and the publisher.
#[derive(Debug, Clone, Default)]
pub struct Newest(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// By the number of the target.
    targets: BTreeMap<u64, Vec<Sample>>,
    /// Samples that the last record had no room for, and all so far.
    left_out: (usize, u64),
}

impl Newest {
    /// What a target has now; nothing where it is down or gone.
    pub(super) fn set(&self, target: u64, mut samples: Vec<Sample>) {
        // What no table takes stays away, and is no fault: a quantile of nothing is NaN.
        samples.retain(|sample| sample.series.of_publish && sample.value.is_finite());
        let mut inner = self.lock();
        if samples.is_empty() {
            inner.targets.remove(&target);
        } else {
            inner.targets.insert(target, samples);
        }
    }

    /// Families of at most `most` samples, sorted by name.
    pub fn families(&self, most: usize) -> Vec<Family> {
        let mut inner = self.lock();
        let mut all: Vec<Sample> = inner.targets.values().flatten().cloned().collect();
        let left_out = all.len().saturating_sub(most);
        if left_out > 0 && inner.left_out.0 == 0 {
            warn!(
                "{left_out} scraped samples are not published: publish.max_scraped is {most}; let publish.include choose less"
            );
        }
        inner.left_out.0 = left_out;
        inner.left_out.1 += left_out as u64;
        drop(inner);
        order::sort_by(&mut all, &|a, b| a.series.name.cmp(&b.series.name));
        all.truncate(most);
        let mut families: Vec<Family> = Vec::new();
        for Sample { series, value, .. } in all {
            let sample = WireSample { labels: label_set(&series.labels), value: Value(value) };
            match families.last_mut().filter(|family| *family.name == *series.name) {
                Some(family) => family.samples.push(sample),
                None => families.push(Family {
                    name: series.name.to_string(),
                    kind: match series.kind {
                        MetricType::Counter => FamilyType::Counter,
                        MetricType::Gauge => FamilyType::Gauge,
                        _ => FamilyType::Unknown,
                    },
                    scraped: true,
                    samples: vec![sample],
                }),
            }
        }
        families
    }

    /// Samples that records had no room for.
    pub(super) fn left_out(&self) -> u64 {
        self.lock().left_out.1
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::*;
    use crate::snapshot::Labels;

    #[test]
    fn the_newest_values_become_families_within_a_bound() {
        let sample = |name: &str, instance: &str, value: f64, of_publish| Sample {
            series: Arc::new(Series {
                name: name.into(),
                labels: Labels::owned([("instance".to_owned(), instance.to_owned())]),
                kind: MetricType::Gauge,
                of_rules: false,
                of_publish,
            }),
            value,
            time: None,
        };
        let newest = Newest::default();
        assert!(newest.families(10).is_empty());
        newest.set(1, vec![sample("b", "x", 1.0, true), sample("a", "x", 2.0, true), sample("c", "x", 3.0, false)]);
        newest.set(2, vec![sample("b", "y", 4.0, true), sample("b", "z", f64::NAN, true)]);
        let shown = |most| {
            let all = newest.families(most);
            all.iter().map(|family| (family.name.clone(), family.samples.len())).collect::<Vec<_>>()
        };
        assert_eq!(shown(10), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!((shown(1), newest.left_out()), (vec![("a".to_owned(), 1)], 2));
        assert!(newest.families(9).iter().all(|family| family.scraped && family.kind == FamilyType::Gauge));
        newest.set(1, Vec::new());
        assert_eq!(shown(10), [("b".to_owned(), 1)]);
    }
}
