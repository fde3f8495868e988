//! Functions that change labels: `label_replace`, `label_join`; and the labels of `absent`.

use regex_lite::Regex;

use super::{Element, EvalError, Evaluator, argument, unique};
use crate::Labels;
use crate::ast::{Call, Expr, Kind, Millis};
use crate::labels::MatchOp;
use crate::pattern::{anchored, expand};
use crate::sample::NAME;

/// A value's largest length: nested replacements can double it again and again.
const VALUE_BYTES: usize = 64 << 10;
/// Bytes of new labels that count as much as a sample that is looked at.
const BYTES_PER_SAMPLE: usize = 4;
/// How often a regular expression's states meet a byte in the time of a look at a sample, about.
const MEETINGS_PER_SAMPLE: usize = 64;
/// More states than any expression has that is small enough to be compiled.
const MAX_STATES: usize = 1 << 15;

/// A regular expression, and how many states it has at most.
pub(super) struct Pattern {
    regex: Regex,
    states: usize,
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, EvalError> {
        let invalid = |_| EvalError::Argument(format!("invalid regular expression in label_replace(): {pattern}"));
        let regex = anchored(pattern).map_err(invalid)?;
        // `a{9}` has as many states as `aaaaaaaaa`.
        let repeated = |part: &str| {
            let counts = part.split_once('}').map_or("", |(counts, _)| counts).split(',');
            counts.filter_map(|count| count.trim().parse::<usize>().ok()).max().unwrap_or(1).max(1)
        };
        let states = pattern.split('{').skip(1).map(repeated).fold(pattern.len() + 1, usize::saturating_mul);
        Ok(Self { regex, states: states.min(MAX_STATES) })
    }
}

impl Evaluator<'_> {
    /// `label_replace(vector, target, template, source, regex)`.
    pub(super) fn label_replace(&mut self, call: &Call, at: Millis) -> Result<Vec<Element>, EvalError> {
        let (target, template) = (text(call, 1)?, text(call, 2)?);
        let (source, pattern) = (text(call, 3)?, text(call, 4)?);
        check_target(call, target)?;
        let mut vector = self.vector(argument(call, 0)?, at)?;
        // Taken out while it is used.
        let place = self.patterns.iter().position(|(of, _)| std::ptr::eq(*of, call));
        let known = match place {
            Some(place) => self.patterns.swap_remove(place).1,
            None => Pattern::new(pattern)?,
        };
        let mut written = 0;
        for element in &mut vector {
            let value = element.labels.get(source);
            self.look(value.len().saturating_mul(known.states) / MEETINGS_PER_SAMPLE)?;
            let Some(found) = known.regex.captures(value) else { continue };
            let value = expand(template, &known.regex, &found, VALUE_BYTES).ok_or_else(|| too_long(call))?;
            written += value.len();
            set_label(element, target, &value);
        }
        self.patterns.push((call, known));
        self.look(written / BYTES_PER_SAMPLE)?;
        unique(&vector)?;
        Ok(vector)
    }

    /// `label_join(vector, target, separator, source, …)`.
    pub(super) fn label_join(&mut self, call: &Call, at: Millis) -> Result<Vec<Element>, EvalError> {
        let (target, separator) = (text(call, 1)?, text(call, 2)?);
        let sources = (3..call.args.len()).map(|index| text(call, index)).collect::<Result<Vec<_>, _>>()?;
        if sources.iter().any(|source| source.is_empty()) {
            return Err(EvalError::Argument("invalid source label name in label_join(): ".to_owned()));
        }
        check_target(call, target)?;
        let mut vector = self.vector(argument(call, 0)?, at)?;
        let mut written = 0;
        for element in &mut vector {
            let mut value = String::new();
            for (index, source) in sources.iter().enumerate() {
                if index > 0 {
                    value.push_str(separator);
                }
                value.push_str(element.labels.get(source));
                if value.len() > VALUE_BYTES {
                    return Err(too_long(call));
                }
            }
            written += value.len();
            set_label(element, target, &value);
        }
        self.look(written / BYTES_PER_SAMPLE)?;
        unique(&vector)?;
        Ok(vector)
    }
}

/// An argument that the parser has found to be a text.
fn text(call: &Call, index: usize) -> Result<&str, EvalError> {
    match &argument(call, index)?.kind {
        Kind::Text(text) => Ok(text),
        _ => Err(EvalError::Bug(format!("argument {} of {} is no text", index + 1, call.function))),
    }
}

fn check_target(call: &Call, target: &str) -> Result<(), EvalError> {
    // Since Prometheus 3 every text is a name, but for the empty one.
    if target.is_empty() {
        return Err(EvalError::Argument(format!("invalid destination label name in {}(): {target}", call.function)));
    }
    Ok(())
}

fn set_label(element: &mut Element, target: &str, value: &str) {
    element.labels = element.labels.with(target, value);
    if target == NAME {
        // The new name was meant to stay.
        element.drop_name = false;
    }
}

fn too_long(call: &Call) -> EvalError {
    EvalError::Argument(format!("{}() would make a label value of more than {VALUE_BYTES} bytes", call.function))
}

/// The labels that a series must have had to be there: those that a selector asks for exactly, and once.
pub(super) fn absent_labels(expr: &Expr) -> Labels {
    let (Kind::Vector(selector) | Kind::Matrix(selector, _)) = &expr.kind else { return Labels::none() };
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name != NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            labels.push((&matcher.name, &matcher.value));
            seen.push(&matcher.name);
        } else {
            labels.retain(|(name, _)| *name != matcher.name);
        }
    }
    Labels::new(labels)
}
