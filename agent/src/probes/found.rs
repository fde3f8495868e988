//! What a run finds.

use std::borrow::Cow;

use crate::snapshot::MetricType;

/// Samples on their way to the results.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(super) series: Vec<Series>,
    /// What is being done, as in `the answer took too long`.
    stage: &'static str,
}

/// One sample. The labels of its probe are put to it later.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) name: Cow<'static, str>,
    pub(super) help: Cow<'static, str>,
    pub(super) kind: MetricType,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: f64,
}

impl Found {
    /// A gauge without labels of its own. One that is there already has this value from now on.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.put(name.into(), help.into(), MetricType::Gauge, Vec::new(), value);
    }

    /// A counter.
    pub(crate) fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.put(name.into(), help.into(), MetricType::Counter, Vec::new(), value);
    }

    /// A gauge with a label.
    pub(crate) fn labelled(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: (&'static str, impl Into<String>),
        value: f64,
    ) {
        self.put(name.into(), help.into(), MetricType::Gauge, vec![(label.0, label.1.into())], value);
    }

    /// A gauge of a name that a user chose.
    pub(crate) fn named(&mut self, name: &str, value: f64) {
        let name = crate::collectors::names::keep(name.to_owned());
        let help = "A value of an answer, chosen by the configuration of the probe.";
        self.put(name, help.into(), MetricType::Gauge, Vec::new(), value);
    }

    fn put(
        &mut self,
        name: Cow<'static, str>,
        help: Cow<'static, str>,
        kind: MetricType,
        labels: Vec<(&'static str, String)>,
        value: f64,
    ) {
        match self.series.iter_mut().find(|series| series.name == name && series.labels == labels) {
            Some(series) => series.value = value,
            None => self.series.push(Series { name, help, kind, labels, value }),
        }
    }

    /// Says what is being done from now on, for what is said when the time is over.
    pub(crate) fn stage(&mut self, stage: &'static str) {
        self.stage = stage;
    }

    /// What was being done last.
    pub(super) fn at(&self) -> &'static str {
        if self.stage.is_empty() { "the run" } else { self.stage }
    }

    #[cfg(test)]
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.series.iter().find(|series| series.name == name).map(|series| series.value)
    }
}
