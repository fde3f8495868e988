//! Random expressions.
//!
//! Two evaluators that are both right may differ in the last bit of a number. What makes more of that (a difference of
//! nearly equal numbers, a comparison, rounding, a tie in `topk`) is applied only to values that are exact.
//!
//! Left out too is where Prometheus 3, which is followed here, differs from 2: ranges of subqueries whose beginning is one
//! of their steps, filters between vectors of which several elements match, the name after `atan2`.

use utilizer_rules::ast::Millis;

use utilizer_rules::testing::Random;

use crate::series::{END, START, draw, pick};

/// What is known of an expression's values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Every evaluator gets the same bits.
    Exact,
    /// Not below 0.
    Positive,
    /// Anything.
    Wild,
    /// Infinite, not a number, very large: sums of them mean nothing.
    Odd,
}

use Class::{Exact, Odd, Positive, Wild};

type Text = (String, Class);

/// An expression, and when it is evaluated: at a half second.
pub(crate) fn random(seed: u64, number: u64) -> (String, Millis) {
    let mut make = Make(draw(seed, number));
    // From before the first samples until after the last ones have become too old.
    let span = (END - START) / 1000 + 480;
    let at = START / 1000 - 60 + make.0.below(span as u64) as Millis;
    let depth = make.0.below(5) as u32;
    let text = match make.0.below(25) {
        0 => make.scalar(depth).0,
        1 => make.range(depth, &METRICS[..10]).0,
        _ => make.vector(depth).0,
    };
    (text, at * 1000 + 500)
}

/// Names, and what their values are.
const METRICS: [(&str, Class); 13] = [
    ("seconds_total", Exact),
    ("requests_total", Exact),
    ("latency_seconds_bucket", Exact),
    ("load", Exact),
    ("drift", Exact),
    ("limit", Exact),
    ("up", Exact),
    ("seldom", Exact),
    ("info", Exact),
    ("noise", Wild),
    ("odd", Odd),
    ("nothing", Exact),
    ("{__name__=~\"load|limit\"}", Exact),
];

const COUNTERS: [(&str, Class); 3] =
    [("seconds_total", Exact), ("requests_total", Exact), ("latency_seconds_bucket", Exact)];

const NUMBERS: [&str; 14] = ["0", "1", "2", "3", "0.5", "10", "100", "1e3", "-1", "-2.5", "3.25", "0x1f", "40", "25"];

/// Prometheus 2 keeps the name there, 3 does not.
fn nameless(op: &str, text: String) -> String {
    if op == "atan2" { format!("(0 + {text})") } else { text }
}

struct Make(Random);

impl Make {
    fn number(&mut self) -> Text {
        (pick(&mut self.0, &NUMBERS).to_owned(), Exact)
    }

    fn duration(&mut self, from: &[&'static str]) -> String {
        pick(&mut self.0, from).to_owned()
    }

    fn selector(&mut self, metrics: &[(&'static str, Class)]) -> Text {
        let (name, class) = metrics[self.0.below(metrics.len() as u64) as usize];
        let mut matchers = Vec::new();
        while self.0.one_in(3) && matchers.len() < 3 {
            matchers.push(pick(
                &mut self.0,
                &[
                    r#"host="a""#,
                    r#"host!="a""#,
                    r#"host=~"a|b""#,
                    r#"host!~"c""#,
                    r#"mode="idle""#,
                    r#"mode=~"i.*""#,
                    r#"mode!="user""#,
                    r#"mode!~".+le""#,
                    r#"path=~"/.""#,
                    r#"code="200""#,
                    r#"none="""#,
                    r#"le!="+Inf""#,
                    r#"host=~"""#,
                    r#"host=~".*""#,
                ],
            ));
        }
        let text = match (name.strip_suffix('}'), matchers.is_empty()) {
            (_, true) => name.to_owned(),
            (Some(open), false) => format!("{open},{}}}", matchers.join(",")),
            (None, false) => format!("{name}{{{}}}", matchers.join(", ")),
        };
        (text, class)
    }

    fn offset(&mut self) -> String {
        match self.0.below(8) {
            0 => format!(" offset {}", self.duration(&["30s", "5m", "1h", "7m13s"])),
            1 => format!(" offset -{}", self.duration(&["15s", "2m", "20m"])),
            _ => String::new(),
        }
    }

    fn range(&mut self, depth: u32, metrics: &[(&'static str, Class)]) -> Text {
        if depth > 1 && self.0.one_in(3) {
            let (mut inner, mut class) = self.vector(depth - 1);
            // A constant has a value even at a step after the end, in Prometheus 2.
            if !METRICS.iter().any(|(name, _)| inner.contains(name)) {
                (inner, class) = self.selector(metrics);
            }
            let range = self.duration(&["1m250ms", "2m250ms", "5m250ms", "11m250ms", "30m250ms"]);
            let step = self.duration(&["", "10s", "30s", "45s", "1m", "3m"]);
            // Steps are whole seconds, and so are the moments at which an inner subquery is evaluated.
            return (format!("({inner})[{range}:{step}]{}", self.offset()), class);
        }
        let (selector, class) = self.selector(metrics);
        let range = self.duration(&["20s", "30s", "1m", "2m", "5m", "10m", "47m", "1h30m"]);
        (format!("{selector}[{range}]{}", self.offset()), class)
    }

    fn scalar(&mut self, depth: u32) -> Text {
        if depth == 0 {
            return self.number();
        }
        match self.0.below(7) {
            0 => ("time()".into(), Exact),
            1 => ("pi()".into(), Positive),
            2 | 3 => {
                let (vector, class) = self.vector(depth - 1);
                (format!("scalar({vector})"), class)
            }
            4 => {
                let ((left, a), (right, b)) = (self.scalar(depth - 1), self.scalar(depth - 1));
                if a == Exact && b == Exact {
                    let op =
                        pick(&mut self.0, &["+", "-", "*", "/", "%", "^", "== bool", "> bool", "<= bool", "atan2"]);
                    return (format!("({left} {op} {right})"), if ["+", "-"].contains(&op) { Exact } else { Wild });
                }
                (format!("({left} * {right})"), Wild)
            }
            _ => self.number(),
        }
    }

    fn vector(&mut self, depth: u32) -> Text {
        if depth == 0 {
            let (selector, class) = self.selector(&METRICS);
            return (format!("{selector}{}", self.offset()), class);
        }
        match self.0.below(20) {
            0..5 => self.over_time(depth),
            5..9 => self.aggregation(depth),
            9..11 => self.with_scalar(depth),
            11..14 => self.of_two(depth),
            14 => self.set(depth),
            15..19 => self.function(depth),
            _ => self.histogram_quantile(),
        }
    }

    fn over_time(&mut self, depth: u32) -> Text {
        match self.0.below(4) {
            0 => {
                let function = pick(&mut self.0, &["rate", "increase", "irate"]);
                let (selector, _) = self.selector(&COUNTERS);
                let range = self.duration(&["30s", "1m", "2m", "5m", "20m", "1h"]);
                return (format!("{function}({selector}[{range}]{})", self.offset()), Positive);
            }
            1 => {
                let (range, class) = self.range(depth, &METRICS[..10]);
                if class != Exact {
                    return (format!("last_over_time({range})"), class);
                }
                let function = pick(&mut self.0, &["delta", "idelta", "deriv", "predict_linear"]);
                let by = if function == "predict_linear" { ", 3600" } else { "" };
                return (format!("{function}({range}{by})"), Wild);
            }
            _ => {}
        }
        let (range, class) = self.range(depth, &METRICS);
        let safe = [
            "max_over_time",
            "min_over_time",
            "last_over_time",
            "count_over_time",
            "present_over_time",
            "absent_over_time",
        ];
        let counting = ["changes", "resets"];
        let smooth = ["avg_over_time", "sum_over_time"];
        let exact = ["stddev_over_time", "stdvar_over_time"];
        let function = match (class, self.0.below(3)) {
            (Exact, 0) => pick(&mut self.0, &[counting[0], counting[1], exact[0], exact[1]]),
            (Exact | Positive, 1) => pick(&mut self.0, &smooth),
            (Exact | Positive | Wild, 2) => {
                let part = pick(&mut self.0, &["0", "0.25", "0.5", "0.9", "0.99", "1", "-0.5", "1.5"]);
                let odd = part.starts_with('-') || part == "1.5";
                return (format!("quantile_over_time({part}, {range})"), if odd { Odd } else { Wild });
            }
            _ => pick(&mut self.0, &safe),
        };
        let class = match function {
            "count_over_time" | "present_over_time" | "absent_over_time" | "changes" | "resets" => Exact,
            "avg_over_time" | "stddev_over_time" | "stdvar_over_time" => Wild,
            _ => class,
        };
        (format!("{function}({range})"), class)
    }

    fn grouping(&mut self) -> &'static str {
        pick(
            &mut self.0,
            &[
                "",
                " by (host)",
                " by (host)",
                " by (host, mode)",
                " without (mode)",
                " by (le)",
                " without (host, code)",
                " by (none)",
            ],
        )
    }

    fn aggregation(&mut self, depth: u32) -> Text {
        let grouping = self.grouping();
        if self.0.one_in(8) {
            // Ties would be broken by chance.
            let op = pick(&mut self.0, &["topk", "bottomk"]);
            let count = pick(&mut self.0, &["1", "2", "5", "0"]);
            let inner = pick(&mut self.0, &["noise", "max_over_time(noise[2m])", "noise * 2"]);
            return (format!("{op}{grouping} ({count}, {inner})"), Wild);
        }
        let (inner, class) = self.vector(depth - 1);
        let op = match (class, self.0.below(3)) {
            (Exact, 0) => {
                let op = pick(&mut self.0, &["stddev", "stdvar", "count_values"]);
                if op == "count_values" {
                    return (format!("count_values{grouping} (\"v\", {inner})"), Exact);
                }
                // Prometheus 2 forgets a first value that is not a number; the spread of large ones depends on their order.
                return (format!("{op}{grouping} (abs({inner}) < 1e6)"), Wild);
            }
            (Exact | Positive, 1) => pick(&mut self.0, &["sum", "avg"]),
            (Exact | Positive | Wild, 2) => {
                let part = pick(&mut self.0, &["0", "0.25", "0.5", "0.9", "1"]);
                return (format!("quantile{grouping} ({part}, {inner})"), Wild);
            }
            _ => pick(&mut self.0, &["max", "min", "count", "group"]),
        };
        let class = match op {
            "count" | "group" => Exact,
            "avg" if class == Positive => Positive,
            "avg" => Wild,
            _ => class,
        };
        (format!("{op}{grouping} ({inner})"), class)
    }

    /// An operator between two values of these classes, and the class of what comes out.
    fn operator(&mut self, left: Class, right: Class) -> (&'static str, Class) {
        match (left, right) {
            (Exact, Exact) => match self.0.below(4) {
                0 => (pick(&mut self.0, &["+", "-"]), Exact),
                1 => (pick(&mut self.0, &["%", "^", "atan2", "/", "*"]), Odd),
                2 => (pick(&mut self.0, &["==", "!=", ">", "<", ">=", "<="]), Exact),
                _ => (pick(&mut self.0, &["== bool", "!= bool", "> bool", "< bool", ">= bool", "<= bool"]), Exact),
            },
            (Positive, Positive) => (pick(&mut self.0, &["+", "*"]), Positive),
            (Odd, _) | (_, Odd) => (pick(&mut self.0, &["*", "/"]), Odd),
            _ => (pick(&mut self.0, &["*", "/"]), Odd),
        }
    }

    fn with_scalar(&mut self, depth: u32) -> Text {
        let (vector, a) = self.vector(depth - 1);
        let (scalar, b) = self.scalar(depth - 1);
        let (op, class) = self.operator(a, b);
        let text = match self.0.one_in(3) {
            true => format!("({scalar} {op} {vector})"),
            false => format!("({vector} {op} {scalar})"),
        };
        (nameless(op, text), class)
    }

    fn of_two(&mut self, depth: u32) -> Text {
        let (left, a) = self.vector(depth - 1);
        let (right, b) = self.vector(depth - 1);
        let (op, class) = self.operator(a, b);
        let filter = ["==", "!=", ">", "<", ">=", "<="].contains(&op);
        let form = if filter { 2 } else { self.0.below(7) };
        let text = match form {
            0 => format!("({left} {op} {right})"),
            1 => format!("({left} {op} on (host) {right})"),
            2 => format!("(max by (host) ({left}) {op} min by (host) ({right}))"),
            3 => format!("({left} {op} on (host) group_left () max by (host) ({right}))"),
            4 => format!("(max by (host) ({left}) {op} on (host) group_right () {right})"),
            5 => format!("({left} {op} ignoring (mode) group_left () max without (mode) ({right}))"),
            _ => return (format!("({left} * on (host) group_left (version) info)"), Odd),
        };
        (nameless(op, text), class)
    }

    fn set(&mut self, depth: u32) -> Text {
        let ((left, a), (right, b)) = (self.vector(depth - 1), self.vector(depth - 1));
        let op = pick(&mut self.0, &["and", "or", "unless"]);
        let matching = pick(&mut self.0, &["", " on (host)", " ignoring (mode)", " on ()"]);
        (format!("({left} {op}{matching} {right})"), if a == b || op != "or" { a } else { Odd })
    }

    fn function(&mut self, depth: u32) -> Text {
        let (inner, class) = self.vector(depth - 1);
        let label = self.0.below(13);
        if class == Exact && self.0.one_in(2) {
            return match self.0.below(8) {
                0 => (format!("ceil({inner} / 4)"), Exact),
                1 => (format!("floor({inner} / 8)"), Exact),
                2 => (format!("round({inner})"), Exact),
                3 => (format!("round({inner}, 0.5)"), Exact),
                4 => (format!("sgn({inner})"), Exact),
                5 => (format!("{}({inner})", pick(&mut self.0, &["ln", "log2", "log10", "sqrt"])), Odd),
                6 => (
                    format!("{}({inner})", pick(&mut self.0, &["sin", "cos", "atan", "tanh", "asinh", "deg", "rad"])),
                    Wild,
                ),
                _ => {
                    let of = pick(
                        &mut self.0,
                        &[
                            "minute",
                            "hour",
                            "day_of_week",
                            "day_of_month",
                            "day_of_year",
                            "month",
                            "year",
                            "days_in_month",
                        ],
                    );
                    (format!("{of}((abs({inner}) < 1e9) * 1000)"), Exact)
                }
            };
        }
        match label {
            0 => (format!("abs({inner})"), if class == Wild { Positive } else { class }),
            1 => (format!("-({inner})"), if class == Positive { Wild } else { class }),
            2 => (format!("clamp_min({inner}, 1)"), class),
            3 => (format!("clamp_max({inner}, 50)"), class),
            4 => (format!("clamp({inner}, 1, 20)"), class),
            5 => (format!("sort({inner})"), class),
            6 => (format!("sort_desc({inner})"), class),
            7 => (format!(r#"label_replace({inner}, "to", "$1-x", "host", "(.)")"#), class),
            8 => (format!(r#"label_replace({inner}, "mode", "${{one}}", "path", "/(?P<one>.*)")"#), class),
            9 => (format!(r#"label_join({inner}, "both", "/", "host", "mode")"#), class),
            10 => (format!("absent({inner})"), Exact),
            11 => (format!("timestamp({inner})"), Wild),
            _ => {
                let (scalar, class) = self.scalar(depth - 1);
                (format!("vector({scalar})"), class)
            }
        }
    }

    fn histogram_quantile(&mut self) -> Text {
        let part = pick(&mut self.0, &["0.1", "0.5", "0.9", "0.99", "1"]);
        let range = self.duration(&["1m", "5m", "20m"]);
        let inner = match self.0.below(3) {
            0 => format!("rate(latency_seconds_bucket[{range}])"),
            1 => format!("sum by (le) (rate(latency_seconds_bucket[{range}]))"),
            _ => self.selector(&[("latency_seconds_bucket", Exact)]).0,
        };
        (format!("histogram_quantile({part}, {inner})"), Odd)
    }
}
