//! What probes found last, on its way into snapshots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::rules::order;
use wire::Timestamp;

use super::Probe;
use super::found::{Found, Series};
use crate::snapshot::{Families, Labels, MetricType, Section};

/// What was found counts for so many intervals; a probe that did not run for longer has no value rather than an old one.
const KEPT_INTERVALS: u32 = 3;

/// Between the thread that probes and the one that samples.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// By the probe's name.
    results: BTreeMap<String, Outcome>,
    /// Runs that did not begin in time.
    missed: u64,
    /// Whether there are probes at all.
    any: bool,
    /// Made of the results, until the moment when the first of them is too old.
    families: Option<(Families, Option<Instant>)>,
}

#[derive(Debug)]
struct Outcome {
    state: State,
    until: Instant,
    series: Vec<(Series, Labels)>,
}

/// How a probe's last run ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct State {
    /// The probe.
    pub probe: String,
    /// `http`, …
    pub kind: &'static str,
    /// What it asks.
    pub target: String,
    /// Whether it answered as it should.
    pub success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the run ended.
    pub time: Timestamp,
    /// How long it took, in seconds.
    pub duration_seconds: f64,
    /// How often it runs, in seconds.
    pub interval_seconds: f64,
}

impl Shared {
    /// What was found last and is not too old.
    pub fn append_to(&self, out: &mut Families) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_good = |made: &(Families, Option<Instant>)| made.1.is_none_or(|until| now < until);
        if !inner.families.as_ref().is_some_and(is_good) {
            inner.results.retain(|_, outcome| now < outcome.until);
            let until = inner.results.values().map(|outcome| outcome.until).min();
            inner.families = Some((inner.made(), until));
        }
        if let Some((families, _)) = &inner.families
            && !families.is_empty()
        {
            out.section(Section::Own);
            out.append(families);
        }
    }

    /// The state of each probe that ran not too long ago, by name.
    pub fn states(&self) -> Vec<State> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        inner.results.values().filter(|outcome| now < outcome.until).map(|outcome| outcome.state.clone()).collect()
    }

    /// A run has ended.
    pub(super) fn put(&self, probe: &Probe, found: Found, result: Result<(), String>, took: Duration) {
        let labels: Vec<_> = found.series.into_iter().map(|series| labelled(probe, series)).collect();
        let state = State {
            probe: probe.name.clone(),
            kind: probe.kind.name(),
            target: probe.target.clone(),
            success: result.is_ok(),
            reason: result.err(),
            time: Timestamp::from(std::time::SystemTime::now()),
            duration_seconds: took.as_secs_f64(),
            interval_seconds: probe.interval.as_secs_f64(),
        };
        let until = Instant::now() + probe.interval * KEPT_INTERVALS;
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.results.insert(probe.name.clone(), Outcome { state, until, series: labels });
        inner.families = None;
    }

    /// So many runs did not begin in time.
    pub(super) fn miss(&self, runs: u32) {
        if runs > 0 {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.missed += u64::from(runs);
            inner.families = None;
        }
    }

    /// There are these probes from now on.
    pub(super) fn keep(&self, probes: &[Probe]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.any = !probes.is_empty();
        inner.results.retain(|name, _| probes.iter().any(|probe| probe.name == *name));
        inner.families = None;
    }
}

fn labelled(probe: &Probe, series: Series) -> (Series, Labels) {
    let own = series.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let labels = Labels::owned(probe.labels.iter().cloned().chain(own));
    (series, labels)
}

impl Inner {
    /// All samples of one name become one family.
    fn made(&self) -> Families {
        let mut all: Vec<(&Series, &Labels)> = self
            .results
            .values()
            .flat_map(|outcome| outcome.series.iter().map(|(series, labels)| (series, labels)))
            .collect();
        order::sort_by(&mut all, &|a, b| a.0.name.cmp(&b.0.name));
        let mut families = Families::default();
        for of_name in all.chunk_by(|a, b| a.0.name == b.0.name) {
            let Some((first, _)) = of_name.first() else { continue };
            families.family(first.name.clone(), first.help.clone(), first.kind);
            of_name.iter().for_each(|(series, labels)| families.push(labels, series.value));
        }
        if self.any {
            families.family(
                "utilizer_probe_runs_missed_total",
                "Runs of probes that were left out, since the ones before took too long.",
                MetricType::Counter,
            );
            families.value(self.missed as f64);
        }
        families
    }
}
