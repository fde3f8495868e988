use super::*;
use crate::sample::STALE;
use crate::testing::{Memory, series};

const MINUTE: Millis = 60_000;

/// Series of one sample a minute from 0 on, one a line.
fn storage(lines: &str) -> Memory {
    let mut memory = Memory::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let series = series::parse(line.trim()).unwrap();
        for (value, minute) in series.values.into_iter().zip(0..) {
            let Some(value) = value else { continue };
            memory.add(&series.labels, Sample { time: minute * MINUTE, value });
        }
    }
    memory
}

fn options() -> Options {
    Options::default()
}

fn value(storage: &Memory, minute: Millis, expr: &str, options: &Options) -> Result<Value, EvalError> {
    evaluate(&crate::parse(expr).unwrap(), storage, minute * MINUTE, options)
}

/// The result as lines, or the error.
fn text(storage: &Memory, minute: Millis, expr: &str, options: &Options) -> String {
    match value(storage, minute, expr, options) {
        Ok(Value::Vector(vector)) => {
            vector.iter().map(|(labels, value)| format!("{labels} {value}")).collect::<Vec<_>>().join("\n")
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_instant_selector_takes_the_newest_sample_that_is_no_end() {
    let storage = storage("up{h=\"a\"} 1 2 stale\nup{h=\"b\"} 3");
    let at = |minute, expr| text(&storage, minute, expr, &options());
    assert_eq!(at(1, "up"), "up{h=\"a\"} 2\nup{h=\"b\"} 3");
    assert_eq!(at(2, "up"), "up{h=\"b\"} 3");
    // A sample just as old as the lookback is too old.
    assert_eq!(at(5, "up"), "");
    assert_eq!(at(3, "up offset 2m"), "up{h=\"a\"} 2\nup{h=\"b\"} 3");
    assert_eq!(at(2, "timestamp(up)"), "{h=\"b\"} 0");
    let range = Value::Matrix(vec![Series {
        labels: Labels::new([(NAME, "up"), ("h", "a")]),
        samples: vec![Sample { time: MINUTE, value: 2.0 }],
    }]);
    assert_eq!(value(&storage, 2, "up[2m]", &options()).unwrap(), range);
    assert!(is_stale(STALE));
}

#[test]
fn a_counter_may_begin_again() {
    let storage = storage("c 0 60 120 30 90");
    let at = |expr| text(&storage, 4, expr, &options());
    // Three samples, a minute apart; the range reaches a minute further.
    assert_eq!(at("increase(c[3m])"), "{} 135");
    assert_eq!(at("rate(c[3m])"), "{} 0.75");
    assert_eq!(at("resets(c[5m])"), "{} 1");
    assert_eq!(at("rate(c[1m])"), "");
    assert_eq!(at("last_over_time(c[1m])"), "c 90");
    assert_eq!(at("first_over_time(c[1m])"), "c 90");
    assert_eq!(at("first_over_time(c[3m])"), "c 120");
    // An end of the range that is more than 1.1 intervals away is not reached, only half an interval of it.
    let storage = self::storage("c _ _ 1000 1060 1120");
    let at = |expr| text(&storage, 4, expr, &options());
    assert_eq!(at("increase(c[185s])"), "{} 185");
    assert_eq!(at("increase(c[187s])"), "{} 150");
}

#[test]
fn steps_of_a_subquery_are_multiples_of_its_step() {
    let storage = storage("g 0+1x5");
    let at = |expr| text(&storage, 5, expr, &options());
    // From after 0 to 4 minutes: 90 and 180 s.
    assert_eq!(at("sum_over_time(g[4m:90s] offset 1m)"), "{} 4");
    assert_eq!(at("count_over_time(vector(1)[4m:])"), "{} 4");
    let steps = [(90, 1.0), (180, 3.0)].map(|(second, value)| Sample { time: second * 1000, value }).to_vec();
    let steps = Series { labels: Labels::new([(NAME, "g")]), samples: steps };
    assert_eq!(value(&storage, 5, "g[4m:90s] offset 1m", &options()).unwrap(), Value::Matrix(vec![steps]));
    assert_eq!(at("max_over_time(sum_over_time(g[4m:1m] offset 1m)[4m:1m] offset 1m)"), "{} 6");
    // Before 1970 too.
    assert_eq!(text(&storage, 0, "count_over_time(vector(1)[150s:1m] offset 30s)", &options()), "{} 2");
}

#[test]
fn a_range_function_takes_series_with_different_names_to_be_different_in_a_subquery() {
    let storage = storage("a 1 2 3 _ _ _ _\nb _ _ _ 1 2 3 4");
    let at = |expr| text(&storage, 6, expr, &options());
    assert_eq!(at("max_over_time(delta({__name__=~\"a|b\"}[3m])[6m:1m])"), EvalError::SameLabels.to_string());
    // As long as both have a value.
    assert_eq!(at("max_over_time(delta({__name__=~\"a|b\"}[3m])[3m:1m])"), "{} 3");
    assert_eq!(at("max_over_time(abs({__name__=~\"a|b\"} offset 1m)[1m:1m])"), EvalError::SameLabels.to_string());
}

/// A storage in which every search looks at 50 series.
struct Wide(Memory);

impl Storage for Wide {
    fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<Series> {
        self.0.series(selector, after, until, most)
    }

    fn examined(&self, _: &Selector) -> usize {
        50
    }
}

#[test]
fn a_search_that_finds_nothing_takes_its_time_too() {
    let bounded = Options { max_samples: 40, ..options() };
    let at = |text: &str| evaluate(&crate::parse(text).unwrap(), &Wide(storage("g 0x49")), MINUTE, &bounded);
    assert!(at("nothing").is_ok());
    for text in ["nothing + nothing", "rate(nothing[1m]) + rate(nothing[2m])", "sum_over_time((a + b)[2m:1m])"] {
        assert_eq!(at(text), Err(EvalError::TooMuchWork(80)), "{text}");
    }
    let (once, work) = (crate::parse("nothing").unwrap(), Work::new(&bounded));
    let again = || evaluate_within(&once, &Wide(Memory::new()), MINUTE, &bounded, &work).is_ok();
    assert_eq!([again(), again()], [true, false]);
}

#[test]
fn bounds_stop_what_is_too_much() {
    let storage = storage("g 0x49");
    let bounded = Options { max_samples: 40, ..options() };
    let at = |expr| value(&storage, 50, expr, &bounded);
    assert_eq!(at("rate(g[1h])"), Err(EvalError::TooManySamples(40)));
    assert_eq!(at("sum(g) + rate(g[10m])").map(|_| ()), Ok(()));
    assert_eq!(at("rate(nothing[100y:1ms] offset 200y)"), Err(EvalError::TooMuchWork(80)));
    assert_eq!(at("max_over_time(vector(1)[100y:1ms])"), Err(EvalError::TooMuchWork(80)));
    // A regular expression that takes its time, and a value that grows to some length.
    let long = (0..12).fold("g".to_owned(), |inner, _| format!("label_join({inner}, \"a\", \"xx\", \"a\", \"a\")"));
    let slow = format!("label_replace({long}, \"b\", \"\", \"a\", \"((x?){{99}}){{99}}y\")");
    assert_eq!(at(&slow), Err(EvalError::TooMuchWork(80)));
    // A label that doubles 40 times.
    let doubled = (0..40).fold("g".to_owned(), |inner, _| format!("label_join({inner}, \"a\", \"xx\", \"a\", \"a\")"));
    let error = value(&storage, 50, &doubled, &options()).unwrap_err();
    assert!(error.to_string().contains("65536 bytes"), "{error}");
}

#[test]
fn elements_find_each_other_or_say_why_not() {
    let storage = storage("a{h=\"1\"} 1\na{h=\"2\"} 2\nb{h=\"1\"} 10\nb{h=\"3\"} 30");
    let at = |expr| text(&storage, 0, expr, &options());
    assert_eq!(at("a + b"), "{h=\"1\"} 11");
    assert_eq!(at("a < b"), "a{h=\"1\"} 1");
    assert_eq!(at("a < bool b"), "{h=\"1\"} 1");
    assert_eq!(at("a unless b"), "a{h=\"2\"} 2");
    assert_eq!(at("a and b"), "a{h=\"1\"} 1");
    assert_eq!(at("a or b"), "a{h=\"1\"} 1\na{h=\"2\"} 2\nb{h=\"3\"} 30");
    assert_eq!(
        at("a + on () b"),
        "found duplicate series for the match group {} on the right hand-side of the operation: \
         [{__name__=\"b\", h=\"1\"}, {__name__=\"b\", h=\"3\"}];many-to-many matching not allowed: \
         matching labels must be unique on one side"
    );
    assert!(at("a + on () sum(b)").contains("many-to-one matching must be explicit"));
    assert_eq!(at("a * on () group_left sum(b)"), "{h=\"1\"} 40\n{h=\"2\"} 80");
    assert!(at("a * on () group_left (h) sum(b)").contains("grouping labels must ensure unique matches"));
}

#[test]
fn names_fall_away_where_values_change_or_at_the_end() {
    let storage = storage("a 1\nb 2");
    let at = |expr| text(&storage, 0, expr, &options());
    assert_eq!(at("abs(a)"), "{} 1");
    assert_eq!(at("abs({__name__=~\"a|b\"})"), EvalError::SameLabels.to_string());
    let later = Options { delayed_name_removal: true, ..options() };
    let at = |expr| text(&storage, 0, expr, &later);
    assert_eq!(at("abs(a)"), "{} 1");
    assert_eq!(at("abs({__name__=~\"a|b\"})"), EvalError::SameLabels.to_string());
    let was = "label_replace(abs({__name__=~\"a|b\"}), \"was\", \"$1\", \"__name__\", \"(.*)\")";
    assert_eq!(at(was), "{was=\"a\"} 1\n{was=\"b\"} 2");
}

#[test]
fn the_best_come_in_order_and_of_equal_ones_those_that_prometheus_keeps() {
    let storage = storage("a{h=\"1\"} 1\na{h=\"2\"} 1\na{h=\"3\"} 2\na{h=\"4\"} NaN\na{h=\"5\"} 3");
    let hosts = |expr| {
        let text = text(&storage, 0, expr, &options());
        text.lines().filter_map(|line| line.split('"').nth(1)).collect::<String>()
    };
    assert_eq!(hosts("topk(1, a)"), "5");
    assert_eq!(hosts("topk(9, a)"), "53124");
    assert_eq!(hosts("bottomk(2, a)"), "12");
    // The first one is the least of the heap, and gives way.
    assert_eq!(hosts("topk(2, a{h=~\"1|2|3\"})"), "32");
    assert_eq!(hosts("topk(0.9, a)") + &hosts("topk(-1, a)"), "");
    assert_eq!(text(&storage, 0, "topk(NaN, a)", &options()), "Parameter value is NaN");
}

#[test]
fn the_deepest_expression_needs_little_stack() {
    let nested = |levels, before: &str, after: &str| before.repeat(levels) + "a" + &after.repeat(levels);
    let deepest = |before, after| {
        let parses = |levels: &usize| crate::parse(&nested(*levels, before, after)).is_ok();
        let levels = (1..=200).rev().find(parses).unwrap();
        assert!((10..200).contains(&levels), "{levels} levels of {before}");
        nested(levels, before, after)
    };
    let expressions = [
        deepest("abs(", ")"),
        deepest("max_over_time((", ")[1m:1m])"),
        deepest("-(1 + ", ")"),
        deepest("sum by (h) (", ")"),
        deepest("label_replace(", ", \"x\", \"y\", \"h\", \"(.*)\")"),
    ];
    let evaluate = move || {
        let storage = storage("a 1 2 3");
        expressions.iter().for_each(|expr| assert!(value(&storage, 2, expr, &options()).is_ok(), "{expr}"));
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(evaluate).unwrap().join().unwrap();
}
