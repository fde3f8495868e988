//! Samples over a range: of a selector, or of an expression evaluated again and again.

use std::rc::Rc;

use super::places::Places;
use super::{EvalError, Evaluated, Evaluator, inner, unnamed};
use crate::ast::{Expr, Kind, Millis, Selector, Subquery};
use crate::sample::{NAME, Sample, Series, is_stale};
use crate::{Labels, order};

/// What a step takes beside the samples, in looks at samples.
const LOOKS_PER_STEP: usize = 4;

/// What a function over a range is asked about: the samples of one series, the newest last, never none.
pub(super) struct Window<'a> {
    pub(super) samples: &'a [Sample],
    /// The samples are after this moment.
    pub(super) after: Millis,
    /// And none is later than this one.
    pub(super) until: Millis,
}

/// The results of a subquery's steps.
pub(super) struct Steps {
    pub(super) series: Series,
    pub(super) drop_name: bool,
}

/// What a selector within a subquery needs for all of the steps.
pub(super) struct Ahead {
    /// Its place in memory, by which it is found.
    selector: *const Selector,
    pub(super) series: Rc<Vec<Series>>,
    /// If there are metrics of several names.
    named: Option<Named>,
}

/// Under which labels series first gave a result that has no name.
#[derive(Default)]
struct Named {
    places: Places,
    labels: Vec<Labels>,
}

impl Evaluator<'_> {
    /// What was read for a selector; nothing outside of subqueries.
    pub(super) fn ahead(&mut self, selector: &Selector) -> Option<&mut Ahead> {
        let found = self.ahead.binary_search_by(|ahead| ahead.selector.cmp(&std::ptr::from_ref(selector)));
        self.ahead.get_mut(found.ok()?)
    }

    /// Asks `f` about each series in a range; gives each answer with the series' labels, and whether their name is to be
    /// dropped already.
    pub(super) fn over_range(
        &mut self,
        expr: &Expr,
        at: Millis,
        f: &mut dyn FnMut(Window<'_>) -> Option<f64>,
    ) -> Result<Vec<(Labels, bool, f64)>, EvalError> {
        let mut result = Vec::new();
        let mut ask = |labels: &Labels, drop_name, samples: &[Sample], after, until| {
            let within = |moment| samples.partition_point(|sample| sample.time <= moment);
            let samples = samples.get(within(after)..within(until)).unwrap_or_default();
            if !samples.is_empty()
                && let Some(value) = f(Window { samples, after, until })
            {
                result.push((labels.clone(), drop_name, value));
            }
            // Also a series without a sample then takes its time.
            samples.len() + 1
        };
        match &expr.kind {
            Kind::Matrix(selector, range) => {
                let until = at.saturating_sub(selector.offset);
                let after = until.saturating_sub(*range);
                let ahead = self.ahead(selector).map(|ahead| Rc::clone(&ahead.series));
                let is_ahead = ahead.is_some();
                let series = match ahead {
                    Some(ahead) => ahead,
                    None => Rc::new(self.samples(selector, after, until)?),
                };
                let looked =
                    series.iter().map(|series| ask(&series.labels, false, &series.samples, after, until)).sum();
                if !is_ahead {
                    self.release(series.iter().map(|series| series.samples.len()).sum());
                }
                self.look(looked)?;
            }
            Kind::Subquery(subquery) => {
                let until = at.saturating_sub(subquery.offset);
                let after = until.saturating_sub(subquery.range);
                let steps = self.subquery(subquery, at)?;
                let looked = steps
                    .iter()
                    .map(|Steps { series, drop_name }| ask(&series.labels, *drop_name, &series.samples, after, until))
                    .sum();
                self.release(steps.iter().map(|steps| steps.series.samples.len()).sum());
                self.look(looked)?;
            }
            _ => return Err(EvalError::Bug("a range is needed".to_owned())),
        }
        Ok(result)
    }

    /// Series that differ in their names alone must not both give results without them, be it at different steps.
    pub(super) fn check_names(&mut self, expr: &Expr, results: &[(Labels, bool, f64)]) -> Result<(), EvalError> {
        let Kind::Matrix(selector, _) = &expr.kind else { return Ok(()) };
        let Some(named) = self.ahead(selector).and_then(|ahead| ahead.named.as_mut()) else { return Ok(()) };
        for (labels, ..) in results {
            let (place, new) = named.places.place(unnamed(labels));
            if new {
                named.labels.push(labels.clone());
            } else if named.labels.get(place) != Some(labels) {
                return Err(EvalError::SameLabels);
            }
        }
        Ok(())
    }

    /// The samples themselves: of a range that is the whole expression.
    pub(super) fn matrix(&mut self, expr: &Expr, at: Millis) -> Result<Vec<Series>, EvalError> {
        match &expr.kind {
            Kind::Matrix(selector, range) => {
                let until = at.saturating_sub(selector.offset);
                let mut series = self.samples(selector, until.saturating_sub(*range), until)?;
                series.retain(|series| !series.samples.is_empty());
                Ok(series)
            }
            Kind::Subquery(subquery) => {
                let mut all: Vec<Series> = Vec::new();
                let mut seen = Places::default();
                for Steps { mut series, drop_name } in self.subquery(subquery, at)? {
                    if drop_name && self.options.delayed_name_removal {
                        series.labels = unnamed(&series.labels);
                    }
                    // Series that had different names come together, unless both have a value at a step.
                    let (place, _) = seen.place(series.labels.clone());
                    let Some(first) = all.get_mut(place) else {
                        all.push(series);
                        continue;
                    };
                    first.samples.append(&mut series.samples);
                    order::sort_by(&mut first.samples, &|a, b| a.time.cmp(&b.time));
                    if first.samples.windows(2).any(|pair| pair[0].time == pair[1].time) {
                        return Err(EvalError::SameLabels);
                    }
                }
                Ok(all)
            }
            _ => Err(EvalError::Bug("a range is needed".to_owned())),
        }
    }

    /// Reads a selector's samples without the markers of ends. They are held until they are released.
    fn samples(&mut self, selector: &Selector, after: Millis, until: Millis) -> Result<Vec<Series>, EvalError> {
        self.look(self.storage.examined(selector))?;
        let most = self.room();
        let mut all = if after < until { self.storage.series(selector, after, until, most) } else { Vec::new() };
        self.hold(all.iter().map(|series| series.samples.len()).sum())?;
        let held: usize = all.iter().map(|series| series.samples.len()).sum();
        all.iter_mut().for_each(|series| series.samples.retain(|sample| !is_stale(sample.value)));
        self.release(held - all.iter().map(|series| series.samples.len()).sum::<usize>());
        Ok(all)
    }

    /// Evaluates an expression at each step. Steps are multiples of the step's length, so that one moment's samples do
    /// not depend on when one asks. The results are held until they are released.
    pub(super) fn subquery(&mut self, subquery: &Subquery, at: Millis) -> Result<Vec<Steps>, EvalError> {
        let step = subquery.step.filter(|step| *step > 0).unwrap_or(self.options.step).max(1);
        let until = at.saturating_sub(subquery.offset);
        let after = until.saturating_sub(subquery.range);
        let first = after.div_euclid(step).saturating_add(1).saturating_mul(step);
        let held = self.held;
        if self.steps == 0 {
            self.read_ahead(&subquery.expr, first, until)?;
            order::sort_by(&mut self.ahead, &|a, b| a.selector.cmp(&b.selector));
        }
        let ahead = self.held - held;
        self.steps += 1;
        let mut series: Vec<Steps> = Vec::new();
        let mut known = Places::default();
        let mut time = first;
        while time <= until {
            self.look(LOOKS_PER_STEP)?;
            let elements = match self.eval(&subquery.expr, time)? {
                Evaluated::Vector(vector) => vector.into_iter().map(|e| (e.labels, e.drop_name, e.value)).collect(),
                Evaluated::Scalar(value) => vec![(Labels::none(), false, value)],
                Evaluated::Text(_) => return Err(EvalError::Bug("a subquery over a text".to_owned())),
            };
            self.hold(elements.len())?;
            for (labels, drop_name, value) in elements {
                let (place, new) = known.place(labels.clone());
                if new {
                    series.push(Steps { series: Series { labels, samples: Vec::new() }, drop_name });
                }
                if let Some(steps) = series.get_mut(place) {
                    if steps.series.samples.last().is_some_and(|last| last.time == time) {
                        return Err(EvalError::SameLabels);
                    }
                    steps.series.samples.push(Sample { time, value });
                }
            }
            let Some(next) = time.checked_add(step) else { break };
            time = next;
        }
        self.steps -= 1;
        if self.steps == 0 {
            self.ahead.clear();
            self.release(ahead);
        }
        Ok(series)
    }

    /// Reads for each selector of an expression what its evaluations between two moments need.
    fn read_ahead(&mut self, expr: &Expr, first: Millis, last: Millis) -> Result<(), EvalError> {
        let expr = inner(expr);
        match &expr.kind {
            Kind::Vector(selector) => {
                let after = first.saturating_sub(selector.offset).saturating_sub(self.options.lookback);
                let until = last.saturating_sub(selector.offset);
                self.look(self.storage.examined(selector))?;
                let most = self.room();
                let all = if first <= last { self.storage.series(selector, after, until, most) } else { Vec::new() };
                self.hold(all.iter().map(|series| series.samples.len()).sum())?;
                self.ahead.push(Ahead { selector, series: Rc::new(all), named: None });
            }
            Kind::Matrix(selector, range) => {
                let after = first.saturating_sub(selector.offset).saturating_sub(*range);
                let all = self.samples(selector, after, last.saturating_sub(selector.offset))?;
                let mut names = all.iter().map(|series| series.labels.get(NAME));
                let first = names.next();
                let named = names.any(|name| Some(name) != first).then(Named::default);
                self.ahead.push(Ahead { selector, series: Rc::new(all), named });
            }
            Kind::Subquery(subquery) => {
                let first = first.saturating_sub(subquery.offset).saturating_sub(subquery.range);
                self.read_ahead(&subquery.expr, first, last.saturating_sub(subquery.offset))?;
            }
            Kind::Negated(negated) => self.read_ahead(negated, first, last)?,
            Kind::Binary(binary) => {
                self.read_ahead(&binary.left, first, last)?;
                self.read_ahead(&binary.right, first, last)?;
            }
            Kind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    self.read_ahead(param, first, last)?;
                }
                self.read_ahead(&aggregate.expr, first, last)?;
            }
            Kind::Call(call) => {
                for arg in &call.args {
                    self.read_ahead(arg, first, last)?;
                }
            }
            Kind::Number(_) | Kind::Text(_) | Kind::Paren(_) => {}
        }
        Ok(())
    }
}
