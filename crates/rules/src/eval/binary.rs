//! Operators between two expressions.

use std::fmt::Write;

use super::places::Places;
use super::{Element, EvalError, Evaluated, Evaluator, METADATA, several_names, unique};
use crate::ast::{Binary, BinaryOp, Cardinality, Grouped, Matching, Millis};
use crate::sample::NAME;
use crate::{Labels, order};

impl Evaluator<'_> {
    pub(super) fn binary(&mut self, binary: &Binary, at: Millis) -> Result<Evaluated, EvalError> {
        let left = self.eval(&binary.left, at)?;
        let right = self.eval(&binary.right, at)?;
        let result = match (left, right) {
            (Evaluated::Scalar(left), Evaluated::Scalar(right)) => {
                let value = match compare(binary.op, left, right) {
                    Some(holds) => f64::from(u8::from(holds)),
                    None => arithmetic(binary.op, left, right)?,
                };
                return Ok(Evaluated::Scalar(value));
            }
            (Evaluated::Vector(vector), Evaluated::Scalar(number)) => {
                self.with_number(binary, vector, &|value| (value, number))?
            }
            (Evaluated::Scalar(number), Evaluated::Vector(vector)) => {
                self.with_number(binary, vector, &|value| (number, value))?
            }
            (Evaluated::Vector(left), Evaluated::Vector(right)) if binary.op.is_set() => {
                set(binary.op, &binary.matching, left, right)
            }
            (Evaluated::Vector(left), Evaluated::Vector(right)) => self.matched(binary, left, right)?,
            _ => return Err(EvalError::Bug("an operator stands beside a text".to_owned())),
        };
        Ok(Evaluated::Vector(result))
    }

    /// A vector and a number; `sides` puts the two in their order. A comparison keeps the vector's value.
    fn with_number(
        &self,
        binary: &Binary,
        vector: Vec<Element>,
        sides: &dyn Fn(f64) -> (f64, f64),
    ) -> Result<Vec<Element>, EvalError> {
        let mut result = Vec::with_capacity(vector.len());
        for mut element in vector {
            let (left, right) = sides(element.value);
            match compare(binary.op, left, right) {
                Some(holds) if binary.bool => element.value = f64::from(u8::from(holds)),
                Some(false) => continue,
                Some(true) => {}
                None => element.value = arithmetic(binary.op, left, right)?,
            }
            result.push(element);
        }
        if binary.bool || !binary.op.is_comparison() {
            self.drop_names(&mut result)?;
        }
        Ok(result)
    }

    /// Each element with the one of the other side that has the same values in the labels that count.
    fn matched(&self, binary: &Binary, left: Vec<Element>, right: Vec<Element>) -> Result<Vec<Element>, EvalError> {
        if left.is_empty() || right.is_empty() {
            return Ok(Vec::new());
        }
        let matching = &binary.matching;
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };

        let mut ones = Places::default();
        for element in &one {
            if let (other, false) = ones.place(signature(matching, &element.labels)) {
                let other = one.get(other).unwrap_or(element);
                return Err(many_to_many(matching, swapped, &element.labels, &other.labels));
            }
        }
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let mut matched = vec![false; one.len()];
        // Elements of one metric are told apart by labels that the result keeps, if it takes over none.
        let ambiguous = !one_to_one && (!matching.include.is_empty() || several_names(&many));
        let mut known = Places::default();
        // Which labels came out of which group.
        let mut results: Vec<(usize, usize)> = Vec::new();
        let mut result = Vec::new();
        for element in &many {
            let group = ones.find(&signature(matching, &element.labels));
            let Some((group, other)) = group.and_then(|group| Some((group, one.get(group)?))) else { continue };
            let (l, r) = (element.value, other.value);
            let (l, r) = if swapped { (r, l) } else { (l, r) };
            let (value, keep) = match compare(binary.op, l, r) {
                Some(holds) if binary.bool => (f64::from(u8::from(holds)), true),
                Some(holds) => (l, holds),
                None => (arithmetic(binary.op, l, r)?, true),
            };
            // Also what a comparison sorts out has to be unambiguous.
            if let Some(matched) = matched.get_mut(group)
                && std::mem::replace(matched, true)
                && one_to_one
            {
                let how = "many-to-one matching must be explicit (group_left/group_right)";
                return Err(EvalError::Matching(format!("multiple matches for labels: {how}")));
            }
            if !keep && !ambiguous {
                continue;
            }
            let labels = self.result_labels(binary, &element.labels, &other.labels);
            if ambiguous {
                results.push((known.place(labels.clone()).0, group));
            }
            if keep {
                result.push(Element { labels, value, drop_name: binary.bool });
            }
        }
        order::sort_by(&mut results, &Ord::cmp);
        if results.windows(2).any(|pair| pair.first() == pair.last()) {
            let how = "grouping labels must ensure unique matches";
            return Err(EvalError::Matching(format!("multiple matches for labels: {how}")));
        }
        if ambiguous && !self.options.delayed_name_removal {
            unique(&result)?;
        }
        Ok(result)
    }

    fn result_labels(&self, binary: &Binary, many: &Labels, one: &Labels) -> Labels {
        let matching = &binary.matching;
        let unnamed = !binary.op.is_comparison() || (binary.bool && !self.options.delayed_name_removal);
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let kept = many.filtered(|name| {
            let kept = match &matching.labels {
                _ if !one_to_one => true,
                Grouped::By(on) => on.iter().any(|on| on == name),
                Grouped::Without(ignored) => !ignored.iter().any(|ignored| ignored == name),
            };
            kept && !(unnamed && METADATA.contains(&name))
        });
        if matching.include.is_empty() {
            return kept;
        }
        kept.overlaid(matching.include.iter().map(|name| (name, one.get(name))))
    }
}

/// The labels by which two elements find each other.
fn signature(matching: &Matching, labels: &Labels) -> Labels {
    match &matching.labels {
        Grouped::By(on) => labels.filtered(|name| on.iter().any(|on| on == name)),
        Grouped::Without(ignored) => labels.filtered(|name| name != NAME && !ignored.iter().any(|i| i == name)),
    }
}

fn set(op: BinaryOp, matching: &Matching, mut left: Vec<Element>, mut right: Vec<Element>) -> Vec<Element> {
    let signatures = |vector: &[Element]| {
        let mut known = Places::default();
        vector.iter().for_each(|element| _ = known.place(signature(matching, &element.labels)));
        known
    };
    if op == BinaryOp::Or {
        if !left.is_empty() && !right.is_empty() {
            let known = signatures(&left);
            right.retain(|element| known.find(&signature(matching, &element.labels)).is_none());
        }
        left.append(&mut right);
    } else if !left.is_empty() {
        let known = signatures(&right);
        let both = op == BinaryOp::And;
        left.retain(|element| known.find(&signature(matching, &element.labels)).is_some() == both);
    }
    left
}

/// Whether a comparison holds; `None` if the operator is none.
fn compare(op: BinaryOp, left: f64, right: f64) -> Option<bool> {
    Some(match op {
        BinaryOp::Eq => left == right,
        BinaryOp::Ne => left != right,
        BinaryOp::Lt => left < right,
        BinaryOp::Le => left <= right,
        BinaryOp::Gt => left > right,
        BinaryOp::Ge => left >= right,
        _ => return None,
    })
}

fn arithmetic(op: BinaryOp, left: f64, right: f64) -> Result<f64, EvalError> {
    Ok(match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        other => return Err(EvalError::Bug(format!("{other:?} between numbers"))),
    })
}

fn many_to_many(matching: &Matching, swapped: bool, a: &Labels, b: &Labels) -> EvalError {
    let (mut first, mut second) = (braced(a), braced(b));
    // The same text whichever came first.
    if first > second {
        std::mem::swap(&mut first, &mut second);
    }
    let group = braced(&signature(matching, a));
    let side = if swapped { "left" } else { "right" };
    EvalError::Matching(format!(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: \
         [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
    ))
}

/// Labels with the name among them, as errors of Prometheus show them.
fn braced(labels: &Labels) -> String {
    let mut text = String::from("{");
    for (at, (name, value)) in labels.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(char::is_numeric);
        // Writing to a string does not fail.
        let _ = if plain { write!(text, "{comma}{name}={value:?}") } else { write!(text, "{comma}{name:?}={value:?}") };
    }
    text.push('}');
    text
}
