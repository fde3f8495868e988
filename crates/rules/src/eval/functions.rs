//! Functions of instant vectors and numbers, and the way into all the others.

use super::number::{max, min, nan_last};
use super::range::function;
use super::relabel::absent_labels;
use super::time::Date;
use super::{Element, EvalError, Evaluated, Evaluator, argument, histogram};
use crate::ast::{Call, Kind, Millis};
use crate::{Labels, order};

impl Evaluator<'_> {
    pub(super) fn call(&mut self, call: &Call, at: Millis) -> Result<Evaluated, EvalError> {
        if let Some(f) = of_value(call.function) {
            let vector = self.vector(argument(call, 0)?, at)?;
            return Ok(Evaluated::Vector(self.map(vector, &f)?));
        }
        let vector = match call.function {
            "time" => return Ok(Evaluated::Scalar(at as f64 / 1000.0)),
            "pi" => return Ok(Evaluated::Scalar(std::f64::consts::PI)),
            "scalar" => {
                let vector = self.vector(argument(call, 0)?, at)?;
                return Ok(Evaluated::Scalar(match vector.as_slice() {
                    [one] => one.value,
                    _ => f64::NAN,
                }));
            }
            "vector" => {
                let value = self.scalar(argument(call, 0)?, at)?;
                vec![Element { labels: Labels::none(), value, drop_name: false }]
            }
            "absent" => {
                let arg = argument(call, 0)?;
                let labels = || Element { labels: absent_labels(arg), value: 1.0, drop_name: false };
                if self.vector(arg, at)?.is_empty() { vec![labels()] } else { Vec::new() }
            }
            "absent_over_time" => {
                let arg = argument(call, 0)?;
                let labels = || Element { labels: absent_labels(arg), value: 1.0, drop_name: false };
                if self.over_range(arg, at, &mut |_| Some(1.0))?.is_empty() { vec![labels()] } else { Vec::new() }
            }
            "label_replace" => self.label_replace(call, at)?,
            "label_join" => self.label_join(call, at)?,
            "timestamp" => self.timestamp(call, at)?,
            "sort" | "sort_desc" => {
                let mut vector = self.vector(argument(call, 0)?, at)?;
                let sign = if call.function == "sort" { 1.0 } else { -1.0 };
                order::sort_by(&mut vector, &|a, b| nan_last(sign * a.value, sign * b.value));
                vector
            }
            "round" => {
                let vector = self.vector(argument(call, 0)?, at)?;
                let nearest = if call.args.len() > 1 { self.scalar(argument(call, 1)?, at)? } else { 1.0 };
                let inverse = 1.0 / nearest;
                self.map(vector, &|value| (value * inverse + 0.5).floor() / inverse)?
            }
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(call, at)?,
            "histogram_quantile" => {
                let q = self.scalar(argument(call, 0)?, at)?;
                let vector = self.vector(argument(call, 1)?, at)?;
                self.histograms(vector, &|buckets| histogram::quantile(q, buckets))?
            }
            "histogram_fraction" => {
                let (lower, upper) = (self.scalar(argument(call, 0)?, at)?, self.scalar(argument(call, 1)?, at)?);
                let vector = self.vector(argument(call, 2)?, at)?;
                self.histograms(vector, &|buckets| histogram::fraction(lower, upper, buckets))?
            }
            name => match Date::of(0).part(name) {
                Some(_) => self.date(call, at)?,
                None => self.of_range(call, at)?,
            },
        };
        Ok(Evaluated::Vector(vector))
    }

    /// A function of the samples of a range.
    fn of_range(&mut self, call: &Call, at: Millis) -> Result<Vec<Element>, EvalError> {
        let unknown = || EvalError::Bug(format!("there is no function {}", call.function));
        let f = function(call.function).ok_or_else(unknown)?;
        let mut range = None;
        let mut param = f64::NAN;
        for index in 0..call.args.len() {
            let arg = argument(call, index)?;
            if matches!(arg.kind, Kind::Matrix(..) | Kind::Subquery(_)) {
                range = Some(arg);
            } else {
                param = self.scalar(arg, at)?;
            }
        }
        let range = range.ok_or_else(|| EvalError::Bug(format!("{} has no range", call.function)))?;
        let answers = self.over_range(range, at, &mut |window| f(&window, param, at))?;
        let keeps_name = matches!(call.function, "first_over_time" | "last_over_time");
        if !keeps_name && !self.options.delayed_name_removal {
            self.check_names(range, &answers)?;
        }
        let element = |(labels, drop_name, value)| Element { labels, value, drop_name };
        let mut vector: Vec<Element> = answers.into_iter().map(element).collect();
        // It gives what was measured, only later.
        if keeps_name {
            for element in vector.iter_mut().filter(|element| element.drop_name) {
                element.labels = self.named_later(element.labels.clone());
            }
        } else {
            self.drop_names(&mut vector)?;
        }
        Ok(vector)
    }

    /// The time of each sample; of a computed value it is the evaluation's.
    fn timestamp(&mut self, call: &Call, at: Millis) -> Result<Vec<Element>, EvalError> {
        let arg = argument(call, 0)?;
        let Kind::Vector(selector) = &arg.kind else {
            let vector = self.vector(arg, at)?;
            return self.map(vector, &|_| at as f64 / 1000.0);
        };
        let newest = self.newest(selector, at)?;
        self.look(newest.len())?;
        let element = |(labels, sample): (Labels, crate::Sample)| Element {
            labels,
            value: sample.time as f64 / 1000.0,
            drop_name: false,
        };
        self.map(newest.into_iter().map(element).collect(), &|value| value)
    }

    fn clamp(&mut self, call: &Call, at: Millis) -> Result<Vec<Element>, EvalError> {
        let vector = self.vector(argument(call, 0)?, at)?;
        let bound = self.scalar(argument(call, 1)?, at)?;
        let (lowest, highest) = match call.function {
            "clamp_min" => (bound, f64::INFINITY),
            "clamp_max" => (f64::NEG_INFINITY, bound),
            _ => (bound, self.scalar(argument(call, 2)?, at)?),
        };
        if highest < lowest {
            return Ok(Vec::new());
        }
        self.map(vector, &|value| max(lowest, min(highest, value)))
    }

    /// A part of the date that each value stands for in seconds since 1970; without an argument, of the evaluation's.
    fn date(&mut self, call: &Call, at: Millis) -> Result<Vec<Element>, EvalError> {
        let part = |seconds| Date::of(seconds).part(call.function).unwrap_or(f64::NAN);
        if call.args.is_empty() {
            return Ok(vec![Element { labels: Labels::none(), value: part(at / 1000), drop_name: false }]);
        }
        let vector = self.vector(argument(call, 0)?, at)?;
        // A number that is no time has no date.
        let known = |value: f64| value.abs() < i64::MAX as f64;
        self.map(vector, &|value| if known(value) { part(value as i64) } else { f64::NAN })
    }
}

/// A function of each value alone.
fn of_value(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "sgn" => |value| if value == 0.0 || value.is_nan() { value } else { value.signum() },
        _ => return None,
    })
}
