//! An expression's value at one moment, as Prometheus 3.14 would tell it: floats only.
//!
//! A walk of the tree. Subqueries evaluate their expression step by step over samples that are read once. Two bounds
//! keep bad expressions from taking the host's memory and time: [`Options::max_samples`] of what is held at once, and
//! [`Work`], a multiple of it, of what is looked at in all.

use std::cell::Cell;
use std::rc::Rc;

use crate::ast::{Call, Expr, Kind, Millis, Selector};
use crate::needs::LOOKBACK;
use crate::sample::{NAME, Series, Storage, Value, is_stale};
use crate::{Labels, Sample, order};
use places::Places;

mod aggregate;
mod binary;
mod functions;
mod histogram;
mod number;
mod places;
mod range;
mod relabel;
mod subquery;
mod time;

/// Labels that describe the metric and go together with its name.
const METADATA: [&str; 3] = [NAME, "__type__", "__unit__"];
/// How many times [`Options::max_samples`] may be looked at in one evaluation.
const LOOKS: usize = 2;

/// How expressions are evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How far back an instant selector looks for a sample.
    pub lookback: Millis,
    /// The step of subqueries that name none.
    pub step: Millis,
    /// Whether names of metrics fall away at the end instead of where a value is changed. Prometheus has it off unless
    /// its feature `promql-delayed-name-removal` is on.
    pub delayed_name_removal: bool,
    /// How many samples an evaluation may hold at once.
    pub max_samples: usize,
}

/// As Prometheus does without settings, except for the bound: there it is ten times as high.
impl Default for Options {
    fn default() -> Self {
        Self { lookback: LOOKBACK, step: 60_000, delayed_name_removal: false, max_samples: 5_000_000 }
    }
}

/// Why an expression has no value. Texts that also Prometheus has are the same as there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Two elements of a result would be the same series.
    #[error("vector cannot contain metrics with the same labelset")]
    SameLabels,
    /// Elements of two vectors do not find each other as `on`, `ignoring` and `group_…` say.
    #[error("{0}")]
    Matching(String),
    /// An argument's value is outside of what the function takes.
    #[error("{0}")]
    Argument(String),
    /// More samples at once than [`Options::max_samples`].
    #[error("query processing would load too many samples into memory: {0} at once is the limit, select fewer series")]
    TooManySamples(usize),
    /// Too much for one evaluation, or for all templates of a rule: a subquery with very many steps.
    #[error(
        "it looks at more than {0} samples: select fewer series, or give subqueries longer steps or shorter ranges"
    )]
    TooMuchWork(usize),
    /// [`Storage::given_up`].
    #[error("the evaluation took too long: select fewer series, or give subqueries longer steps")]
    GivenUp,
    /// The tree is none that the parser makes.
    #[error("BUG: {0}")]
    Bug(String),
}

/// What evaluations that belong together may still look at, in samples.
#[derive(Debug, Clone)]
pub struct Work {
    limit: usize,
    done: Cell<usize>,
}

impl Work {
    /// As much as one evaluation may do.
    pub fn new(options: &Options) -> Self {
        Self { limit: options.max_samples.saturating_mul(LOOKS), done: Cell::new(0) }
    }

    /// Counts samples that are looked at, or what takes about as long.
    pub fn look(&self, samples: usize) -> Result<(), EvalError> {
        self.done.set(self.done.get().saturating_add(samples));
        if self.done.get() > self.limit { Err(EvalError::TooMuchWork(self.limit)) } else { Ok(()) }
    }
}

/// Evaluates an expression at a moment.
pub fn evaluate(expr: &Expr, storage: &dyn Storage, at: Millis, options: &Options) -> Result<Value, EvalError> {
    evaluate_within(expr, storage, at, options, &Work::new(options))
}

/// The same with a bound on its work that it shares with others.
pub fn evaluate_within(
    expr: &Expr,
    storage: &dyn Storage,
    at: Millis,
    options: &Options,
    work: &Work,
) -> Result<Value, EvalError> {
    let mut evaluator =
        Evaluator { storage, options, held: 0, work, steps: 0, ahead: Vec::new(), patterns: Vec::new() };
    let expr = inner(expr);
    if matches!(expr.kind, Kind::Matrix(..) | Kind::Subquery(_)) {
        let mut series = evaluator.matrix(expr, at)?;
        order::sort_by(&mut series, &|a, b| a.labels.cmp(&b.labels));
        return Ok(Value::Matrix(series));
    }
    Ok(match evaluator.eval(expr, at)? {
        Evaluated::Scalar(value) => Value::Scalar(value),
        Evaluated::Text(text) => Value::Text(text),
        Evaluated::Vector(mut vector) => {
            if options.delayed_name_removal {
                for element in vector.iter_mut().filter(|element| element.drop_name) {
                    element.labels = unnamed(&element.labels);
                }
                unique(&vector)?;
            }
            Value::Vector(vector.into_iter().map(|element| (element.labels, element.value)).collect())
        }
    })
}

/// Without parentheses around it.
fn inner(mut expr: &Expr) -> &Expr {
    while let Kind::Paren(within) = &expr.kind {
        expr = within;
    }
    expr
}

/// Labels without the metric's name and what else belongs to it.
fn unnamed(labels: &Labels) -> Labels {
    labels.filtered(|name| !METADATA.contains(&name))
}

/// One value of a vector.
#[derive(Debug, Clone)]
struct Element {
    labels: Labels,
    value: f64,
    /// The name shall fall away at the end. Only said where it has not done so already.
    drop_name: bool,
}

/// A node's value; ranges have their own way, [`Evaluator::over_range`].
#[derive(Debug)]
enum Evaluated {
    Scalar(f64),
    Text(String),
    Vector(Vec<Element>),
}

/// Whether the elements are of several metrics, so that without their names some may be the same.
fn several_names(vector: &[Element]) -> bool {
    let same = |a: &Element, b: &Element| METADATA.iter().all(|name| a.labels.get(name) == b.labels.get(name));
    vector.first().is_some_and(|first| !vector.iter().all(|element| same(first, element)))
}

/// Refuses two elements with the same labels.
fn unique(vector: &[Element]) -> Result<(), EvalError> {
    let distinct = match vector {
        [] | [_] => true,
        [a, b] => a.labels != b.labels,
        more => {
            let mut seen = Places::default();
            more.iter().all(|element| seen.place(element.labels.clone()).1)
        }
    };
    if distinct { Ok(()) } else { Err(EvalError::SameLabels) }
}

/// One evaluation.
struct Evaluator<'a> {
    storage: &'a dyn Storage,
    options: &'a Options,
    /// Samples in memory.
    held: usize,
    /// Samples looked at since the beginning.
    work: &'a Work,
    /// How many subqueries are around the node at hand.
    steps: usize,
    /// What selectors within subqueries read, sorted by their places in memory.
    ahead: Vec<subquery::Ahead>,
    /// Compiled once, though a subquery evaluates `label_replace` many times: with the call's place in memory.
    patterns: Vec<(*const Call, relabel::Pattern)>,
}

impl Evaluator<'_> {
    /// Counts samples that are looked at.
    fn look(&mut self, samples: usize) -> Result<(), EvalError> {
        if self.storage.given_up() {
            return Err(EvalError::GivenUp);
        }
        self.work.look(samples)
    }

    /// How many more samples may be kept in memory.
    fn room(&self) -> usize {
        self.options.max_samples.saturating_sub(self.held)
    }

    /// Counts samples that are kept in memory, until they are [released](Self::release).
    fn hold(&mut self, samples: usize) -> Result<(), EvalError> {
        self.held = self.held.saturating_add(samples);
        let limit = self.options.max_samples;
        if self.held > limit { Err(EvalError::TooManySamples(limit)) } else { Ok(()) }
    }

    fn release(&mut self, samples: usize) {
        self.held = self.held.saturating_sub(samples);
    }

    fn eval(&mut self, expr: &Expr, at: Millis) -> Result<Evaluated, EvalError> {
        self.look(1)?;
        let result = match &expr.kind {
            Kind::Number(number) => Evaluated::Scalar(*number),
            Kind::Text(text) => Evaluated::Text(text.clone()),
            Kind::Vector(selector) => {
                let newest = self.newest(selector, at)?.into_iter();
                let element =
                    |(labels, sample): (Labels, Sample)| Element { labels, value: sample.value, drop_name: false };
                Evaluated::Vector(newest.map(element).collect())
            }
            Kind::Paren(within) => self.eval(within, at)?,
            Kind::Negated(negated) => match self.eval(negated, at)? {
                Evaluated::Scalar(number) => Evaluated::Scalar(-number),
                Evaluated::Vector(vector) => Evaluated::Vector(self.map(vector, &|value| -value)?),
                Evaluated::Text(_) => return Err(EvalError::Bug("a text is negated".to_owned())),
            },
            Kind::Binary(binary) => self.binary(binary, at)?,
            Kind::Aggregate(aggregate) => Evaluated::Vector(self.aggregate(aggregate, at)?),
            Kind::Call(call) => self.call(call, at)?,
            Kind::Matrix(..) | Kind::Subquery(_) => {
                return Err(EvalError::Bug("a range stands where an instant vector or a number is needed".to_owned()));
            }
        };
        if let Evaluated::Vector(vector) = &result {
            self.look(vector.len())?;
        }
        Ok(result)
    }

    fn vector(&mut self, expr: &Expr, at: Millis) -> Result<Vec<Element>, EvalError> {
        match self.eval(expr, at)? {
            Evaluated::Vector(vector) => Ok(vector),
            other => Err(EvalError::Bug(format!("an instant vector is needed, not {other:?}"))),
        }
    }

    fn scalar(&mut self, expr: &Expr, at: Millis) -> Result<f64, EvalError> {
        match self.eval(expr, at)? {
            Evaluated::Scalar(number) => Ok(number),
            other => Err(EvalError::Bug(format!("a number is needed, not {other:?}"))),
        }
    }

    /// The newest sample of each series that has not ended.
    fn newest(&mut self, selector: &Selector, at: Millis) -> Result<Vec<(Labels, Sample)>, EvalError> {
        let until = at.saturating_sub(selector.offset);
        let after = until.saturating_sub(self.options.lookback);
        let Some(read) = self.ahead(selector).map(|ahead| Rc::clone(&ahead.series)) else {
            self.look(self.storage.examined(selector))?;
            let mut newest = self.storage.latest(selector, after, until);
            newest.retain(|(_, sample)| !is_stale(sample.value));
            // Nothing is kept of it for longer than the walk: what is too much, is so at once.
            self.hold(newest.len())?;
            self.release(newest.len());
            return Ok(newest);
        };
        // Also series without a sample then take their time.
        self.look(read.len())?;
        let last = |series: &Series| {
            let end = series.samples.partition_point(|sample| sample.time <= until);
            let sample = series.samples.get(end.checked_sub(1)?)?;
            (sample.time > after && !is_stale(sample.value)).then(|| (series.labels.clone(), *sample))
        };
        Ok(read.iter().filter_map(last).collect())
    }

    /// A label set from which a value was made that the metric's name does not describe any more.
    fn named_later(&self, labels: Labels) -> Labels {
        if self.options.delayed_name_removal { labels } else { unnamed(&labels) }
    }

    /// Drops the names of a vector.
    fn drop_names(&self, vector: &mut [Element]) -> Result<(), EvalError> {
        vector.iter_mut().for_each(|element| element.drop_name = true);
        if self.options.delayed_name_removal {
            return Ok(());
        }
        let several = several_names(vector);
        vector.iter_mut().for_each(|element| element.labels = unnamed(&element.labels));
        if several { unique(vector) } else { Ok(()) }
    }

    /// A vector with each value changed.
    fn map(&self, mut vector: Vec<Element>, f: &dyn Fn(f64) -> f64) -> Result<Vec<Element>, EvalError> {
        vector.iter_mut().for_each(|element| element.value = f(element.value));
        self.drop_names(&mut vector)?;
        Ok(vector)
    }
}

/// An argument of a call.
fn argument(call: &Call, index: usize) -> Result<&Expr, EvalError> {
    let missing = || EvalError::Bug(format!("{} has no argument number {}", call.function, index + 1));
    call.args.get(index).map(inner).ok_or_else(missing)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
