use super::*;
use crate::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Grouped, Matching, Selector, Subquery};
use crate::labels::{MatchOp, Matcher};
use crate::sample::STALE;

const MINUTE: Millis = 60_000;

/// Series of one sample a minute from 0 on.
struct Memory(Vec<Series>);

impl Storage for Memory {
    fn series(&self, selector: &Selector, after: Millis, until: Millis) -> Vec<Series> {
        let matching = self.0.iter().filter(|s| selector.matchers.iter().all(|m| m.matches(s.labels.get(&m.name))));
        let within = matching.map(|series| Series {
            labels: series.labels.clone(),
            samples: series.samples.iter().filter(|s| s.time > after && s.time <= until).copied().collect(),
        });
        within.filter(|series| !series.samples.is_empty()).collect()
    }
}

fn series(name: &str, host: &str, values: &[f64]) -> Series {
    let sample = |(at, value): (usize, &f64)| Sample { time: at as Millis * MINUTE, value: *value };
    Series { labels: labels(name, host), samples: values.iter().enumerate().map(sample).collect() }
}

fn labels(name: &str, host: &str) -> Labels {
    Labels::new([(NAME, name), ("host", host)])
}

fn node(kind: Kind) -> Expr {
    Expr { kind, span: 0..0 }
}

fn selector(name: &str) -> Selector {
    Selector { matchers: vec![Matcher::new(NAME, MatchOp::Regex, name).unwrap()], offset: 0 }
}

fn vector(name: &str) -> Expr {
    node(Kind::Vector(selector(name)))
}

fn matrix(name: &str, minutes: Millis) -> Expr {
    node(Kind::Matrix(selector(name), minutes * MINUTE))
}

fn call(function: &'static str, args: Vec<Expr>) -> Expr {
    node(Kind::Call(Call { function, args }))
}

fn binary(left: Expr, op: BinaryOp, right: Expr) -> Binary {
    Binary { op, left, right, bool: false, matching: Matching::default() }
}

fn at(storage: &Memory, minute: Millis, expr: &Expr) -> Result<Value, EvalError> {
    evaluate(expr, storage, minute * MINUTE, &Options::default())
}

fn one(name: &str, host: &str, value: f64) -> Value {
    Value::Vector(vec![(labels(name, host), value)])
}

#[test]
fn an_instant_selector_takes_the_newest_sample_that_is_no_end() {
    let storage = Memory(vec![series("up", "a", &[1.0, 2.0, STALE]), series("up", "b", &[3.0])]);
    assert_eq!(at(&storage, 1, &vector("up")).unwrap(), {
        Value::Vector(vec![(labels("up", "a"), 2.0), (labels("up", "b"), 3.0)])
    });
    assert_eq!(at(&storage, 2, &vector("up")).unwrap(), one("up", "b", 3.0));
    // A sample just as old as the lookback is too old.
    assert_eq!(at(&storage, 5, &vector("up")).unwrap(), Value::Vector(Vec::new()));
    let Value::Matrix(all) = at(&storage, 2, &matrix("up", 2)).unwrap() else { panic!() };
    assert_eq!(all, [Series { labels: labels("up", "a"), samples: vec![Sample { time: MINUTE, value: 2.0 }] }]);
    assert_eq!(at(&storage, 2, &call("timestamp", vec![vector("up")])).unwrap(), one("", "b", 0.0));
}

#[test]
fn a_counter_may_begin_again() {
    let storage = Memory(vec![series("c", "a", &[0.0, 60.0, 120.0, 30.0, 90.0])]);
    let of = |function, minutes| at(&storage, 4, &call(function, vec![matrix("c", minutes)])).unwrap();
    // Three samples, 60 apart, the range reaches a minute further.
    assert_eq!(of("increase", 3), one("", "a", 135.0));
    assert_eq!(of("rate", 3), one("", "a", 0.75));
    assert_eq!(of("resets", 5), one("", "a", 1.0));
    assert_eq!(of("rate", 1), Value::Vector(Vec::new()));
    assert_eq!(of("last_over_time", 1), one("c", "a", 90.0));
}

#[test]
fn steps_of_a_subquery_are_multiples_of_its_step() {
    let storage = Memory(vec![series("g", "a", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]);
    let subquery = |expr, step| Subquery { expr, range: 4 * MINUTE, step: Some(step), offset: MINUTE };
    let steps = |expr, step| node(Kind::Subquery(Box::new(subquery(expr, step))));
    // From after 0 to 4 minutes: 90, 180 s.
    let expr = call("sum_over_time", vec![steps(vector("g"), 90_000)]);
    assert_eq!(at(&storage, 5, &expr).unwrap(), one("", "a", 1.0 + 3.0));
    let expr = call("count_over_time", vec![steps(node(Kind::Number(1.0)), MINUTE)]);
    assert_eq!(at(&storage, 5, &expr).unwrap(), Value::Vector(vec![(Labels::none(), 4.0)]));
    // One within another.
    let expr = call("max_over_time", vec![steps(call("sum_over_time", vec![steps(vector("g"), MINUTE)]), MINUTE)]);
    assert_eq!(at(&storage, 5, &expr).unwrap(), one("", "a", 0.0 + 1.0 + 2.0 + 3.0));
}

#[test]
fn bounds_stop_what_is_too_much() {
    let storage = Memory(vec![series("g", "a", &[0.0; 50])]);
    let options = Options { max_samples: 40, ..Options::default() };
    let evaluate = |expr| evaluate(&expr, &storage, 50 * MINUTE, &options);
    assert_eq!(evaluate(call("rate", vec![matrix("g", 60)])), Err(EvalError::TooManySamples(40)));
    let endless = Subquery { expr: vector("nothing"), range: Millis::MAX, step: Some(1), offset: Millis::MAX };
    let endless = call("rate", vec![node(Kind::Subquery(Box::new(endless)))]);
    assert_eq!(evaluate(endless), Err(EvalError::TooMuchWork(160)));
    // A label that doubles 40 times.
    let text = |text: &str| node(Kind::Text(text.to_owned()));
    let twice = |inner| call("label_join", vec![inner, text("host"), text(""), text("host"), text("host")]);
    let doubled = (0..40).fold(vector("g"), |inner, _| twice(inner));
    assert!(matches!(at(&storage, 50, &doubled), Err(EvalError::Argument(text)) if text.contains("65536")));
}

#[test]
fn elements_find_each_other_or_say_why_not() {
    let storage = Memory(vec![
        series("a", "1", &[1.0]),
        series("a", "2", &[2.0]),
        series("b", "1", &[10.0]),
        series("b", "3", &[30.0]),
    ]);
    let eval = |binary: Binary| at(&storage, 0, &node(Kind::Binary(Box::new(binary))));
    assert_eq!(eval(binary(vector("a"), BinaryOp::Add, vector("b"))).unwrap(), one("", "1", 11.0));
    assert_eq!(eval(binary(vector("a"), BinaryOp::Lt, vector("b"))).unwrap(), one("a", "1", 1.0));
    assert_eq!(eval(binary(vector("a"), BinaryOp::Unless, vector("b"))).unwrap(), one("a", "2", 2.0));
    let on = |left, op, right, cardinality| {
        let labels = Grouped::By(Vec::new());
        Binary { matching: Matching { labels, cardinality, include: Vec::new() }, ..binary(left, op, right) }
    };
    let duplicate = eval(on(vector("a"), BinaryOp::Add, vector("b"), Cardinality::OneToOne)).unwrap_err();
    assert_eq!(
        duplicate.to_string(),
        "found duplicate series for the match group {} on the right hand-side of the operation: \
         [{__name__=\"b\", host=\"1\"}, {__name__=\"b\", host=\"3\"}];many-to-many matching not allowed: \
         matching labels must be unique on one side"
    );
    let sum = || {
        let (param, grouping) = (None, Grouped::By(Vec::new()));
        node(Kind::Aggregate(Box::new(Aggregate { op: AggregateOp::Sum, param, expr: vector("b"), grouping })))
    };
    let many = eval(on(vector("a"), BinaryOp::Add, sum(), Cardinality::OneToOne)).unwrap_err();
    assert!(many.to_string().contains("group_left"), "{many}");
    let grouped = eval(on(vector("a"), BinaryOp::Mul, sum(), Cardinality::ManyToOne)).unwrap();
    assert_eq!(grouped, Value::Vector(vec![(labels("", "1"), 40.0), (labels("", "2"), 80.0)]));
}

#[test]
fn names_fall_away_where_values_change() {
    let storage = Memory(vec![series("a", "1", &[1.0]), series("b", "1", &[2.0])]);
    assert_eq!(at(&storage, 0, &call("abs", vec![vector("a")])).unwrap(), one("", "1", 1.0));
    assert_eq!(at(&storage, 0, &call("abs", vec![vector("a|b")])), Err(EvalError::SameLabels));
    let options = Options { delayed_name_removal: true, ..Options::default() };
    let late = |expr: &Expr| evaluate(expr, &storage, 0, &options);
    assert_eq!(late(&call("abs", vec![vector("a|b")])), Err(EvalError::SameLabels));
    let text = |text: &str| node(Kind::Text(text.to_owned()));
    let args = vec![call("abs", vec![vector("a|b")]), text("was"), text("$1"), text(NAME), text("(.*)")];
    let Value::Vector(both) = late(&call("label_replace", args)).unwrap() else { panic!() };
    assert_eq!(both[1], (Labels::new([("host", "1"), ("was", "b")]), 2.0));
}
