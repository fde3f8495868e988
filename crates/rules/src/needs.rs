//! How far back an expression looks: what has to be kept for it.

use std::collections::HashMap;

use crate::ast::{Expr, Kind, Millis, Selector};
use crate::labels::MatchOp;
use crate::sample::NAME;

/// How old the newest sample of a series may be where a selector has no range, in milliseconds: 5 minutes.
pub const LOOKBACK: Millis = 300_000;

/// Series that an expression reads, and how far back.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Which series; without an offset.
    pub selector: Selector,
    /// Samples of the last so many milliseconds are read.
    pub back: Millis,
}

impl Selector {
    /// The metric that it names, if it names one.
    pub fn metric(&self) -> Option<&str> {
        let named = |op, name: &str, value: &str| op == MatchOp::Equal && name == NAME && !value.is_empty();
        self.matchers.iter().find(|m| named(m.op, &m.name, &m.value)).map(|m| m.value.as_str())
    }
}

/// Which series rules look at, for whoever has many and shall pass on only those.
#[derive(Debug, Clone, Default)]
pub struct Interest {
    /// Selectors that name a metric, by its name.
    named: HashMap<String, Vec<Selector>>,
    others: Vec<Selector>,
}

impl Interest {
    /// What these needs select.
    pub fn new(needs: impl IntoIterator<Item = Need>) -> Self {
        let mut interest = Self::default();
        for Need { selector, .. } in needs {
            match selector.metric().map(str::to_owned) {
                Some(name) => interest.named.entry(name).or_default().push(selector),
                None => interest.others.push(selector),
            }
        }
        interest
    }

    /// Whether a series is among them; `value` gives the value of a label, that of the name too, and "" where there is none.
    pub fn selects<'v>(&self, value: impl Fn(&str) -> &'v str) -> bool {
        let named = self.named.get(value(NAME)).map_or(&[][..], Vec::as_slice);
        named.iter().chain(&self.others).any(|selector| selector.matchers.iter().all(|m| m.matches(value(&m.name))))
    }
}

/// What an expression reads, each selector once. Of what lies in the future (`offset -5m`) nothing is needed.
pub fn needs(expr: &Expr) -> Vec<Need> {
    let mut found = Vec::new();
    walk(expr, 0, &mut found);
    found
}

/// Adds what is read when the expression is evaluated so long ago.
fn walk(expr: &Expr, ago: Millis, found: &mut Vec<Need>) {
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) => {}
        Kind::Vector(selector) => add(selector, ago.saturating_add(LOOKBACK), found),
        Kind::Matrix(selector, range) => add(selector, ago.saturating_add(*range), found),
        Kind::Subquery(subquery) => {
            walk(&subquery.expr, ago.saturating_add(subquery.range).saturating_add(subquery.offset), found);
        }
        Kind::Paren(inner) | Kind::Negated(inner) => walk(inner, ago, found),
        Kind::Binary(binary) => {
            walk(&binary.left, ago, found);
            walk(&binary.right, ago, found);
        }
        Kind::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|param| walk(param, ago, found));
            walk(&aggregate.expr, ago, found);
        }
        Kind::Call(call) => call.args.iter().for_each(|arg| walk(arg, ago, found)),
    }
}

fn add(selector: &Selector, ago: Millis, found: &mut Vec<Need>) {
    let back = ago.saturating_add(selector.offset).max(0);
    match found.iter_mut().find(|need| need.selector.matchers == selector.matchers) {
        Some(need) => need.back = need.back.max(back),
        None => found.push(Need { selector: Selector { offset: 0, ..selector.clone() }, back }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;

    fn of(text: &str) -> Vec<(String, Millis)> {
        let needs = needs(&crate::parse(text).unwrap());
        needs.iter().map(|need| (need.selector.to_string(), need.back / MINUTE)).collect()
    }

    fn expect(text: &str, wanted: &[(&str, Millis)]) {
        let wanted: Vec<_> = wanted.iter().map(|(selector, back)| ((*selector).to_owned(), *back)).collect();
        assert_eq!(of(text), wanted, "{text}");
    }

    #[test]
    fn selectors_look_back_by_lookback_range_and_offset() {
        expect("1 + time()", &[]);
        expect("up", &[("up", 5)]);
        expect("up offset 1h", &[("up", 65)]);
        expect("rate(a[10m])", &[("a", 10)]);
        expect("-rate(a[10m] offset 5m) / (b)", &[("a", 15), ("b", 5)]);
        expect("topk(scalar(k), sum by (x) (a{b=\"c\"}))", &[("k", 5), ("a{b=\"c\"}", 5)]);
    }

    #[test]
    fn subqueries_add_up() {
        expect("max_over_time(rate(a[5m])[1h:1m])", &[("a", 65)]);
        expect("max_over_time(a[1h:] offset 1h)", &[("a", 125)]);
        expect("max_over_time(max_over_time(a[10m:1m])[1h:] offset 1h)", &[("a", 135)]);
    }

    #[test]
    fn each_selector_stands_once_with_its_longest_look() {
        expect("a > avg_over_time(a[1d]) and a", &[("a", 1440)]);
    }

    #[test]
    fn series_are_of_interest_that_some_selector_matches() {
        let text = "rate(a{x=\"1\"}[5m]) + on() {__name__=~\"b.*\", y!=\"\"}";
        let interest = Interest::new(needs(&crate::parse(text).unwrap()));
        let selects = |pairs: &[(&str, &str)]| {
            let labels = crate::Labels::new(pairs.iter().copied());
            interest.selects(|name| labels.get(name))
        };
        assert!(selects(&[("__name__", "a"), ("x", "1")]) && selects(&[("__name__", "bc"), ("y", "z")]));
        assert!(
            !selects(&[("__name__", "a"), ("x", "2")]) && !selects(&[("__name__", "b")]) && !selects(&[("x", "1")])
        );
    }

    #[test]
    fn the_future_is_not_needed() {
        expect("a offset -3m", &[("a", 2)]);
        expect("a offset -1h", &[("a", 0)]);
        expect("max_over_time(a[1h:] offset -30m)", &[("a", 35)]);
    }
}
