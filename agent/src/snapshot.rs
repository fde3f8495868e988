//! One reading of the host in Prometheus' data model: families with labelled samples and one time.
//!
//! A snapshot is two flat vectors: family heads in order, and all samples, where each head owns a contiguous range.
//! Collectors append; readers iterate. Labels are shared between passes, so that a collector that keeps its
//! [`Labels`] allocates nothing for them once warm.

use std::borrow::Cow;
use std::sync::Arc;

use wire::Timestamp;

/// Prometheus' metric types that a collector can produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// Only goes up, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Type not known.
    Untyped,
    /// Counts of observations by size: samples with the suffixes `_bucket`, `_sum` and `_count`. From text files only.
    Histogram,
    /// Quantiles: samples without suffix, and with `_sum` and `_count`. From text files only.
    Summary,
}

/// A shared, immutable, ordered set of label pairs. Cloning costs a reference count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[(Cow<'static, str>, Box<str>)]>);

impl Labels {
    /// No labels.
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Labels in the order given. Names are static in collectors; values are any UTF-8.
    pub fn new<const N: usize>(pairs: [(&'static str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (Cow::Borrowed(name), value.into())).collect())
    }

    /// Labels whose names are not known at compile time.
    pub fn owned(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (Cow::Owned(name), value.into())).collect())
    }

    /// The pairs, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What all samples of a family share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Metric name, with unit and `_total` suffix.
    pub name: Cow<'static, str>,
    /// What the samples' names have after that of the family: empty but for the parts of histograms and summaries, which
    /// are several heads of one name.
    pub suffix: &'static str,
    /// Help text, one line.
    pub help: Cow<'static, str>,
    /// Type.
    pub kind: MetricType,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: Labels,
    /// Its value, in the base unit that the name ends with.
    pub value: f64,
}

/// Whose a family is. A scrape can ask for some collectors only (`?collect[]=cpu`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Section {
    /// The agent's own, which a scrape of some collectors does not show.
    #[default]
    Own,
    /// What exporters tell of themselves whatever is asked for: `process_…`, `promhttp_…`.
    Exporter,
    /// About the collectors: each sample is that of the collector in its label `collector`.
    Collectors,
    /// Made by rules over what stands in snapshots; rules do not take it in again.
    Rules,
    /// Of the collector of this name.
    Of(&'static str),
}

/// A head and its samples, borrowed from a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Family<'a> {
    /// Whose it is.
    pub section: Section,
    /// Name, help and type.
    pub head: &'a Head,
    /// In the order they were collected.
    pub samples: &'a [Sample],
}

/// The families of one pass; also what collectors write into.
#[derive(Debug, Clone, Default)]
pub struct Families {
    heads: Vec<(Head, usize)>,
    samples: Vec<Sample>,
    /// Each with the number of its first head. What stands before the first is [`Section::Own`].
    sections: Vec<(Section, usize)>,
}

impl Families {
    /// Empty, with room for as much as `other` holds and some more: what a pass finds is what the one before found.
    pub fn sized_as(other: &Self) -> Self {
        fn room<T>(other: &[T]) -> Vec<T> {
            const MORE: usize = 16;
            Vec::with_capacity(other.len() + MORE)
        }
        Self { heads: room(&other.heads), samples: room(&other.samples), sections: room(&other.sections) }
    }

    /// Says whose the families are that come from here on.
    pub fn section(&mut self, section: Section) {
        self.sections.push((section, self.heads.len()));
    }

    /// Begins a family. Samples pushed from here on belong to it; one that gets none is not shown.
    pub fn family(&mut self, name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>, kind: MetricType) {
        self.part(name, "", help, kind);
    }

    /// Begins a part of a histogram or summary: samples whose names are the family's with `suffix` behind.
    pub fn part(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        suffix: &'static str,
        help: impl Into<Cow<'static, str>>,
        kind: MetricType,
    ) {
        let start = self.samples.len();
        self.heads.push((Head { name: name.into(), suffix, help: help.into(), kind }, start));
    }

    /// Begins a family of counters.
    pub fn counter(&mut self, name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) {
        self.family(name, help, MetricType::Counter);
    }

    /// Begins a family of gauges.
    pub fn gauge(&mut self, name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) {
        self.family(name, help, MetricType::Gauge);
    }

    /// Adds a sample to the family begun last.
    pub fn push(&mut self, labels: &Labels, value: f64) {
        debug_assert!(!self.heads.is_empty(), "BUG: a sample before its family");
        self.samples.push(Sample { labels: labels.clone(), value });
    }

    /// Adds a sample without labels to the family begun last.
    pub fn value(&mut self, value: f64) {
        thread_local!(static NONE: Labels = Labels::none());
        NONE.with(|none| self.push(none, value));
    }

    /// Adds all families of `other`, as part of the section begun last.
    pub fn append(&mut self, other: &Families) {
        let before = self.samples.len();
        self.heads.extend(other.heads.iter().map(|(head, start)| (head.clone(), before + start)));
        self.samples.extend_from_slice(&other.samples);
    }

    /// How far it is filled: give it to [`Families::truncate`] to undo what came after.
    pub fn mark(&self) -> Mark {
        Mark { heads: self.heads.len(), samples: self.samples.len(), sections: self.sections.len() }
    }

    /// Forgets everything since `mark`: half a reading is never shown.
    pub fn truncate(&mut self, mark: Mark) {
        self.heads.truncate(mark.heads);
        self.samples.truncate(mark.samples);
        self.sections.truncate(mark.sections);
    }

    /// Empties it, keeping its buffers.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.samples.clear();
        self.sections.clear();
    }

    /// All families that have samples, in the order collected.
    pub fn iter(&self) -> impl Iterator<Item = Family<'_>> {
        let mut sections = self.sections.iter().peekable();
        let mut section = Section::default();
        self.heads.iter().enumerate().filter_map(move |(i, (head, _))| {
            while let Some((begun, _)) = sections.next_if(|(_, first)| *first <= i) {
                section = *begun;
            }
            let samples = self.of_head(i);
            (!samples.is_empty()).then_some(Family { section, head, samples })
        })
    }

    /// The samples of the head of this number.
    fn of_head(&self, index: usize) -> &[Sample] {
        let start = self.heads.get(index).map_or(self.samples.len(), |(_, start)| *start);
        let end = self.heads.get(index + 1).map_or(self.samples.len(), |(_, next)| *next);
        &self.samples[start..end]
    }

    /// The samples of the family of that name; empty where there is none.
    pub fn samples(&self, name: &str) -> &[Sample] {
        let named = self.heads.iter().enumerate().filter(|(_, (head, _))| head.name == name);
        named.map(|(index, _)| self.of_head(index)).find(|samples| !samples.is_empty()).unwrap_or_default()
    }

    /// The value of a family's only sample.
    pub fn single(&self, name: &str) -> Option<f64> {
        match self.samples(name) {
            [sample] => Some(sample.value),
            _ => None,
        }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// A position in [`Families`].
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    heads: usize,
    samples: usize,
    sections: usize,
}

/// What one pass over the host found.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the pass began.
    pub time: Timestamp,
    /// Everything the collectors read.
    pub families: Families,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_knows_whose_it_is() {
        let mut out = Families::default();
        out.gauge("before", "Before any section.");
        out.value(1.0);
        out.section(Section::Of("empty"));
        out.section(Section::Of("cpu"));
        for name in ["a", "b"] {
            out.gauge(name, "Of one collector.");
            out.value(2.0);
        }
        out.section(Section::Of("failed"));
        let mark = out.mark();
        out.gauge("half", "Taken back.");
        out.section(Section::Exporter);
        out.truncate(mark);
        out.section(Section::Collectors);
        out.gauge("about", "About all.");
        out.value(3.0);
        let found: Vec<_> = out.iter().map(|family| (&*family.head.name, family.section)).collect();
        let cpu = Section::Of("cpu");
        assert_eq!(found, [("before", Section::Own), ("a", cpu), ("b", cpu), ("about", Section::Collectors)]);
    }
}
