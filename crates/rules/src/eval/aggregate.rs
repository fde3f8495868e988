//! Operators over one vector: `sum by (mode) (…)`.

use super::number::{Mean, Sum, nan_last, quantile};
use super::places::Places;
use super::{Element, EvalError, Evaluator, inner};
use crate::ast::{Aggregate, AggregateOp, Expr, Grouped, Kind, Millis};
use crate::sample::NAME;
use crate::{Labels, order};

/// The elements that are aggregated into one.
struct Group {
    labels: Labels,
    members: Vec<Element>,
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, at: Millis) -> Result<Vec<Element>, EvalError> {
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk => self.top(aggregate, at),
            AggregateOp::CountValues => self.count_values(aggregate, at),
            op => {
                let q = match &aggregate.param {
                    Some(param) => self.scalar(param, at)?,
                    None => f64::NAN,
                };
                let vector = self.vector(&aggregate.expr, at)?;
                let one = |group: Group| Element {
                    value: value(op, q, &group.members),
                    drop_name: group.members.iter().any(|element| element.drop_name),
                    labels: group.labels,
                };
                Ok(grouped(&aggregate.grouping, vector).into_iter().map(one).collect())
            }
        }
    }

    /// The k largest or smallest of each group. NaN is neither.
    fn top(&mut self, aggregate: &Aggregate, at: Millis) -> Result<Vec<Element>, EvalError> {
        let k = self.scalar(param(aggregate)?, at)?;
        if k < 1.0 {
            return Ok(Vec::new());
        }
        if k.is_nan() {
            return Err(EvalError::Argument("Parameter value is NaN".to_owned()));
        }
        if k >= i64::MAX as f64 {
            return Err(EvalError::Argument(format!("Scalar value {k:?} overflows int64")));
        }
        let vector = self.vector(&aggregate.expr, at)?;
        let sign = if aggregate.op == AggregateOp::Topk { 1.0 } else { -1.0 };
        let mut result = Vec::new();
        for group in grouped(&aggregate.grouping, vector) {
            let mut best = Best { heap: Vec::new(), k: k as usize, sign };
            group.members.into_iter().for_each(|element| best.offer(element));
            order::sort_by(&mut best.heap, &|a, b| nan_last(-sign * a.value, -sign * b.value));
            result.append(&mut best.heap);
        }
        Ok(result)
    }

    /// How often each value occurs; the value becomes a label.
    fn count_values(&mut self, aggregate: &Aggregate, at: Millis) -> Result<Vec<Element>, EvalError> {
        let Kind::Text(label) = &inner(param(aggregate)?).kind else {
            return Err(EvalError::Bug("count_values has no label".to_owned()));
        };
        if label.is_empty() {
            return Err(EvalError::Argument(format!("invalid label name {label:?}")));
        }
        let mut vector = self.vector(&aggregate.expr, at)?;
        for element in &mut vector {
            element.labels = element.labels.with(label, &go_decimal(element.value));
        }
        let mut grouping = aggregate.grouping.clone();
        if let Grouped::By(by) = &mut grouping {
            by.push(label.clone());
        }
        let one = |group: Group| Element { labels: group.labels, value: group.members.len() as f64, drop_name: false };
        Ok(grouped(&grouping, vector).into_iter().map(one).collect())
    }
}

/// The k best elements, the least of them first: a binary heap just like Go's, so that of equal ones the same stay.
struct Best {
    heap: Vec<Element>,
    k: usize,
    /// 1 if large ones are good, -1 if small ones are.
    sign: f64,
}

impl Best {
    fn offer(&mut self, element: Element) {
        if self.heap.len() < self.k {
            self.heap.push(element);
            self.rise(self.heap.len() - 1);
        } else if let Some(least) = self.heap.first_mut()
            && (self.sign * least.value < self.sign * element.value
                || (least.value.is_nan() && !element.value.is_nan()))
        {
            *least = element;
            self.sink();
        }
    }

    fn less(&self, a: usize, b: usize) -> bool {
        match (self.heap.get(a), self.heap.get(b)) {
            (Some(a), Some(b)) => a.value.is_nan() || self.sign * a.value < self.sign * b.value,
            _ => false,
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.less(at, (at - 1) / 2) {
            self.heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self) {
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if self.less(right, left) { right } else { left };
            if !self.less(child, at) {
                return;
            }
            self.heap.swap(child, at);
            at = child;
        }
    }
}

/// A float as Prometheus makes a label of it: without an exponent.
fn go_decimal(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

fn param(aggregate: &Aggregate) -> Result<&Expr, EvalError> {
    aggregate.param.as_ref().ok_or_else(|| EvalError::Bug(format!("{:?} has no parameter", aggregate.op)))
}

/// Groups in the order of their first members.
fn grouped(grouping: &Grouped, vector: Vec<Element>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known = Places::default();
    for element in vector {
        let labels = match grouping {
            Grouped::By(by) if by.is_empty() => Labels::none(),
            Grouped::By(by) => element.labels.filtered(|name| by.iter().any(|by| by == name)),
            Grouped::Without(out) => element.labels.filtered(|name| name != NAME && !out.iter().any(|out| out == name)),
        };
        let (place, new) = known.place(labels.clone());
        if new {
            groups.push(Group { labels, members: Vec::new() });
        }
        if let Some(group) = groups.get_mut(place) {
            group.members.push(element);
        }
    }
    groups
}

/// The value of a group that has at least one member.
fn value(op: AggregateOp, q: f64, members: &[Element]) -> f64 {
    let Some((first, rest)) = members.split_first() else { return f64::NAN };
    let mut values = rest.iter().map(|element| element.value);
    match op {
        AggregateOp::Sum => {
            let mut sum = Sum::starting(first.value);
            values.for_each(|value| sum.add(value));
            sum.total()
        }
        AggregateOp::Avg => {
            let mut mean = Mean::starting(first.value);
            values.for_each(|value| mean.add(value));
            mean.mean()
        }
        AggregateOp::Min => {
            values.fold(first.value, |min, value| if min > value || min.is_nan() { value } else { min })
        }
        AggregateOp::Max => {
            values.fold(first.value, |max, value| if max < value || max.is_nan() { value } else { max })
        }
        AggregateOp::Count => members.len() as f64,
        AggregateOp::Stddev => variance(first.value, &mut values).sqrt(),
        AggregateOp::Stdvar => variance(first.value, &mut values),
        AggregateOp::Quantile => quantile(q, members.iter().map(|element| element.value).collect()),
        AggregateOp::Group => 1.0,
        // These have ways of their own.
        AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::CountValues => f64::NAN,
    }
}

/// By Welford's method: one pass, and no difference of large squares.
fn variance(first: f64, rest: &mut dyn Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean) = (1.0, first);
    let mut squares = if first.is_finite() { 0.0 } else { f64::NAN };
    for value in rest {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}
