//! What has to be known before a rule's answer can be trusted.

use crate::ast::{BinaryOp, Expr, Kind, Millis, Selector};
use crate::needs::LOOKBACK;

/// Which series an expression looks at, and for how long they must have been watched. Unlike [`needs`](crate::needs()), one
/// sample is enough where only the newest counts: but that a series is not there is only known when the time has
/// passed in which a sample of it would still count.
pub(super) fn looks(expr: &Expr) -> Vec<(Selector, Millis)> {
    let mut found = Vec::new();
    walk(expr, 0, false, &mut found);
    found
}

/// Whether one of the selectors in an expression is such.
pub(super) fn any(expr: &Expr, is: &dyn Fn(&Selector) -> bool) -> bool {
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) => false,
        Kind::Vector(selector) | Kind::Matrix(selector, _) => is(selector),
        Kind::Subquery(subquery) => any(&subquery.expr, is),
        Kind::Paren(inner) | Kind::Negated(inner) => any(inner, is),
        Kind::Binary(binary) => any(&binary.left, is) || any(&binary.right, is),
        Kind::Aggregate(aggregate) => {
            aggregate.param.as_ref().is_some_and(|param| any(param, is)) || any(&aggregate.expr, is)
        }
        Kind::Call(call) => call.args.iter().any(|arg| any(arg, is)),
    }
}

fn walk(expr: &Expr, ago: Millis, absence: bool, found: &mut Vec<(Selector, Millis)>) {
    let mut add = |selector: &Selector, back: Millis| {
        let back = ago.saturating_add(back).saturating_add(selector.offset).max(0);
        found.push((Selector { offset: 0, ..selector.clone() }, back));
    };
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) => {}
        Kind::Vector(selector) => add(selector, if absence { LOOKBACK } else { 0 }),
        Kind::Matrix(selector, range) => add(selector, *range),
        Kind::Subquery(subquery) => {
            let ago = ago.saturating_add(subquery.range).saturating_add(subquery.offset);
            walk(&subquery.expr, ago, absence, found);
        }
        Kind::Paren(inner) | Kind::Negated(inner) => walk(inner, ago, absence, found),
        Kind::Binary(binary) => {
            walk(&binary.left, ago, absence || binary.op == BinaryOp::Or, found);
            walk(&binary.right, ago, absence || binary.op == BinaryOp::Unless, found);
        }
        Kind::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|param| walk(param, ago, absence, found));
            walk(&aggregate.expr, ago, absence, found);
        }
        Kind::Call(call) => {
            let absence = absence || call.function == "absent";
            call.args.iter().for_each(|arg| walk(arg, ago, absence, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_known_later_than_a_presence() {
        let longest = |text: &str| looks(&crate::parse(text).unwrap()).iter().map(|(_, back)| *back / 60_000).max();
        assert_eq!(longest("up == 0"), Some(0));
        assert_eq!(longest("absent(up)"), Some(5));
        assert_eq!(longest("a unless b"), Some(5));
        assert_eq!(longest("a or vector(0)"), Some(5));
        assert_eq!(longest("rate(a[10m]) > 0 and b"), Some(10));
        assert_eq!(longest("max_over_time(rate(a[5m])[1h:] offset 10m)"), Some(75));
        assert_eq!(longest("1"), None);
    }
}
