//! Samples, series, and what an expression evaluates to.

use crate::Labels;
use crate::ast::{Millis, Selector};

/// The label that holds a metric's name.
pub const NAME: &str = "__name__";

/// The value that says: this series has ended. One NaN among many, so that only its bits tell (Prometheus,
/// `model/value/value.go`).
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a value says that a series has ended.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE.to_bits()
}

/// A value at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub time: Millis,
    /// In the unit that the metric's name says.
    pub value: f64,
}

/// Samples under one set of labels, in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// With the metric's name, if it has one.
    pub labels: Labels,
    /// In the order of time.
    pub samples: Vec<Sample>,
}

/// Where samples are. [`crate::window::Window`] is one; tests and files are others.
pub trait Storage {
    /// The series that match, each with its samples in (after, until], the markers of their ends included. Series without
    /// such a sample are left out. The selector's offset is no matter: the caller has counted it in. With more than `most`
    /// samples, it is no use to go on: the caller does not take so many.
    fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<Series>;

    /// The same with only the newest sample of each.
    fn latest(&self, selector: &Selector, after: Millis, until: Millis) -> Vec<(Labels, Sample)> {
        let newest = |series: Series| series.samples.last().map(|sample| (series.labels.clone(), *sample));
        self.series(selector, after, until, usize::MAX).into_iter().filter_map(newest).collect()
    }

    /// How many series have to be looked at to find those that match: that takes its time also where none does.
    fn examined(&self, _selector: &Selector) -> usize {
        0
    }

    /// Whether nobody waits for the value any more. It is asked again and again, and then the evaluation fails.
    fn given_up(&self) -> bool {
        false
    }
}

/// What an expression evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number without labels.
    Scalar(f64),
    /// A text.
    Text(String),
    /// One value for each set of labels. The order says something only after `sort` and `topk`.
    Vector(Vec<(Labels, f64)>),
    /// Series, of a range selector or a subquery.
    Matrix(Vec<Series>),
}
