//! Prometheus' evaluation scripts, run: each evaluation compared with what the script expects.

use std::collections::HashMap;

use super::script::{self, Command, Eval, Expect, Fail, Line, Load, ScriptError, Steps, When};
use super::{Memory, almost_equal, selectors};
use crate::ast::{Expr, Millis};
use crate::eval::{self, Options};
use crate::parse::{self, ParseErrorKind};
use crate::sample::NAME;
use crate::{Labels, Sample, Series, Value};

/// How equal a result has to be; what Prometheus demands.
const EPSILON: f64 = 1e-6;
/// A script that asks for more steps is a mistake.
const MAX_STEPS: usize = 100_000;

/// What became of one evaluation of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of the script, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// How it went.
    pub verdict: Verdict,
}

/// How an evaluation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Otherwise: in what.
    Failed(String),
    /// It needs what is refused when an expression is loaded: which.
    Skipped(String),
}

/// Runs a script. Loaded series begin at time 0.
pub fn run(text: &str, options: &Options) -> Result<Vec<Outcome>, ScriptError> {
    let mut outcomes = Vec::new();
    let mut loaded = Loaded::default();
    for command in script::parse(text)? {
        match command {
            Command::Clear => loaded = Loaded::default(),
            Command::Load(load) => loaded.load(&load),
            Command::Eval(eval) => {
                let verdict = loaded.verdict(&eval, options);
                outcomes.push(Outcome { line: eval.line, text: eval.text, verdict });
            }
        }
    }
    Ok(outcomes)
}

/// What has been loaded since the last `clear`.
#[derive(Default)]
struct Loaded {
    floats: Memory,
    /// Series that hold native histograms: nothing can be said of what selects them.
    native: Vec<Labels>,
}

impl Loaded {
    fn load(&mut self, load: &Load) {
        for Line { labels, values } in &load.series {
            let Some(values) = values else {
                self.native.push(labels.clone());
                continue;
            };
            for (step, value) in (0..).zip(values) {
                if let Some(value) = *value {
                    self.floats.add(labels, Sample { time: load.step.saturating_mul(step), value });
                }
            }
            let name = labels.get(NAME);
            if let Some(base) = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix))
                && load.nhcb
            {
                self.native.push(labels.overlaid([(NAME, base), ("le", "")]));
            }
        }
    }

    fn verdict(&self, eval: &Eval, options: &Options) -> Verdict {
        let expr = match parse::parse(&eval.expr) {
            Ok(expr) => expr,
            Err(error) if error.kind == ParseErrorKind::Unsupported => return Verdict::Skipped(error.to_string()),
            Err(error) => return failed(&eval.expect, &error.to_string()),
        };
        let selected = selectors(&expr);
        let native = |labels: &Labels| selected.iter().any(|selector| super::memory::selects(selector, labels));
        if self.native.iter().any(native) || eval.expect.series.iter().any(|line| line.values.is_none()) {
            return Verdict::Skipped("native histograms".to_owned());
        }
        let result = match eval.when {
            When::Instant(at) => eval::evaluate(&expr, &self.floats, at, options).map_err(|error| error.to_string()),
            When::Range(steps) => range(&expr, &self.floats, steps, options).map(Value::Matrix),
        };
        let value = match result {
            Ok(value) => value,
            Err(error) => return failed(&eval.expect, &error),
        };
        if eval.expect.fail.is_some() {
            return Verdict::Failed(format!("an error is expected, and {} came out", said(&value)));
        }
        let steps = match eval.when {
            When::Range(steps) => Some(steps),
            When::Instant(_) => eval.expect.steps,
        };
        match compare(&value, &eval.expect, steps) {
            Ok(()) => Verdict::Passed,
            Err(why) => Verdict::Failed(why),
        }
    }
}

fn failed(expect: &Expect, error: &str) -> Verdict {
    match &expect.fail {
        None => Verdict::Failed(format!("it failed: {error}")),
        Some(Fail::Any) => Verdict::Passed,
        Some(Fail::Message(message)) if error.contains(message.as_str()) => Verdict::Passed,
        Some(Fail::Regex(regex)) if regex.is_match(error) => Verdict::Passed,
        Some(fail) => Verdict::Failed(format!("it failed as expected, but with: {error} (expected {fail:?})")),
    }
}

/// Instant evaluations one after the other, joined to series.
pub fn range(expr: &Expr, storage: &Memory, steps: Steps, options: &Options) -> Result<Vec<Series>, String> {
    let mut joined: Vec<Series> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut add = |labels: Labels, sample: Sample| {
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            joined.push(Series { labels, samples: Vec::new() });
            joined.len() - 1
        });
        if let Some(series) = joined.get_mut(place) {
            series.samples.push(sample);
        }
    };
    for time in moments(steps)? {
        match eval::evaluate(expr, storage, time, options).map_err(|error| error.to_string())? {
            Value::Scalar(value) => add(Labels::none(), Sample { time, value }),
            Value::Vector(elements) => {
                elements.into_iter().for_each(|(labels, value)| add(labels, Sample { time, value }));
            }
            Value::Text(_) | Value::Matrix(_) => return Err("a range of neither numbers nor vectors".to_owned()),
        }
    }
    Ok(joined)
}

fn moments(Steps { start, end, step }: Steps) -> Result<impl Iterator<Item = Millis>, String> {
    let count = end.saturating_sub(start).checked_div(step).unwrap_or(0).saturating_add(1).max(0);
    match usize::try_from(count) {
        Ok(count) if count <= MAX_STEPS => Ok((0..count as Millis).map(move |number| start + number * step)),
        _ => Err(format!("{count} steps are too many: {MAX_STEPS} at most")),
    }
}

fn compare(value: &Value, expect: &Expect, steps: Option<Steps>) -> Result<(), String> {
    match value {
        Value::Scalar(value) => match expect.scalar {
            Some(wanted) if almost_equal(wanted, *value, EPSILON) => Ok(()),
            Some(wanted) => Err(format!("{wanted} is expected, and {value} came out")),
            None => Err(format!("a vector is expected, and the number {value} came out")),
        },
        Value::Text(text) => match &expect.text {
            Some(wanted) if wanted == text => Ok(()),
            wanted => Err(format!("{wanted:?} is expected, and {text:?} came out")),
        },
        Value::Vector(_) | Value::Matrix(_) if expect.scalar.is_some() || expect.text.is_some() => {
            Err(format!("a number or a text is expected, and {} came out", said(value)))
        }
        Value::Vector(elements) => compare_vector(elements, expect),
        Value::Matrix(series) => {
            compare_series(series, &expect.series, steps.ok_or("series came out, and no steps are expected")?)
        }
    }
}

fn compare_vector(elements: &[(Labels, f64)], expect: &Expect) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut missing: Vec<(usize, &Line)> = expect.series.iter().enumerate().collect();
    for (place, (labels, value)) in elements.iter().enumerate() {
        let Some(at) = missing.iter().position(|(_, line)| line.labels == *labels) else {
            wrong.push(format!("{labels} {value} is not expected"));
            continue;
        };
        let (wanted_place, line) = missing.remove(at);
        match line.values.as_deref() {
            Some([Some(wanted)]) if almost_equal(*wanted, *value, EPSILON) => {}
            Some([Some(wanted)]) => wrong.push(format!("{labels} {wanted} is expected, and {value} came out")),
            _ => return Err(format!("{labels}: one value is to be expected at one moment")),
        }
        if expect.ordered && wanted_place != place {
            wrong.push(format!("{labels} is expected at place {}, and came at {}", wanted_place + 1, place + 1));
        }
    }
    wrong.extend(missing.iter().map(|(_, line)| format!("{} is missing", line.labels)));
    told(wrong)
}

fn compare_series(series: &[Series], expected: &[Line], steps: Steps) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut missing: Vec<&Line> = expected.iter().collect();
    for Series { labels, samples } in series {
        let Some(at) = missing.iter().position(|line| line.labels == *labels) else {
            wrong.push(format!("{labels} is not expected"));
            continue;
        };
        let values = missing.remove(at).values.as_deref().unwrap_or_default();
        let moments = (0..).map(|number: Millis| steps.start + number * steps.step);
        let wanted = values.iter().zip(moments).filter_map(|(value, time)| value.map(|value| Sample { time, value }));
        let wanted: Vec<Sample> = wanted.collect();
        let same = |a: &Sample, b: &Sample| a.time == b.time && almost_equal(a.value, b.value, EPSILON);
        if samples.len() != wanted.len() || !samples.iter().zip(&wanted).all(|(a, b)| same(a, b)) {
            wrong.push(format!("{labels} {} is expected, and {} came out", listed(&wanted), listed(samples)));
        }
    }
    wrong.extend(missing.iter().map(|line| format!("{} is missing", line.labels)));
    told(wrong)
}

fn told(wrong: Vec<String>) -> Result<(), String> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// `1@60s 2@120s`.
fn listed(samples: &[Sample]) -> String {
    let listed: Vec<_> =
        samples.iter().map(|sample| format!("{}@{}s", sample.value, sample.time as f64 / 1000.0)).collect();
    if listed.is_empty() { "nothing".to_owned() } else { listed.join(" ") }
}

fn said(value: &Value) -> String {
    match value {
        Value::Scalar(value) => value.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Vector(elements) => {
            let elements: Vec<_> = elements.iter().map(|(labels, value)| format!("{labels} {value}")).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Matrix(series) => {
            let series: Vec<_> = series.iter().map(|s| format!("{} {}", s.labels, listed(&s.samples))).collect();
            format!("[{}]", series.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(script: &str) -> Vec<Verdict> {
        let options = Options { delayed_name_removal: true, ..Options::default() };
        run(script, &options).unwrap().into_iter().map(|outcome| outcome.verdict).collect()
    }

    fn verdict(eval: &str) -> Verdict {
        let load = "load 1m\n  a{b=\"1\"} 1+1x5\n  a{b=\"2\"} 10 _ stale\n  h {{count:1}}\n\n";
        let mut verdicts = verdicts(&format!("{load}{eval}"));
        assert_eq!(verdicts.len(), 1);
        verdicts.remove(0)
    }

    fn why(eval: &str) -> String {
        match verdict(eval) {
            Verdict::Failed(why) => why,
            verdict => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn what_is_expected_passes() {
        for eval in [
            "eval instant at 1m a\n  a{b=\"2\"} 10\n  a{b=\"1\"} 2",
            "eval instant at 3m a\n  a{b=\"1\"} 4",
            "eval instant at 1m sum(a)\n  {} 12",
            "eval instant at 1m 1 + 1\n  2",
            "eval instant at 1m \"x\"\n  expect string `x`",
            "eval instant at 1m nothing",
            "eval range from 0 to 3m step 1m a\n  a{b=\"1\"} 1 2 3 4\n  a{b=\"2\"} 10 10 _ _",
            "eval instant at 1m a[1m]\n  expect range vector from 1m to 1m step 1m\n  a{b=\"1\"} 2",
            "eval instant at 1m sort_desc(a)\n  expect ordered\n  a{b=\"2\"} 10\n  a{b=\"1\"} 2",
            "eval_fail instant at 1m sum(",
            "eval instant at 1m a + on () a\n  expect fail regex:many-to-many",
        ] {
            assert_eq!(verdict(eval), Verdict::Passed, "{eval}");
        }
    }

    #[test]
    fn what_is_not_fails_and_says_in_what() {
        assert_eq!(why("eval instant at 1m a{b=\"1\"}\n  a{b=\"1\"} 3"), r#"a{b="1"} 3 is expected, and 2 came out"#);
        assert_eq!(why("eval instant at 1m a{b=\"1\"}\n  a 2"), r#"a{b="1"} 2 is not expected; a is missing"#);
        assert_eq!(why("eval instant at 1m 1\n  2"), "2 is expected, and 1 came out");
        assert!(why("eval_fail instant at 1m 1").ends_with("and 1 came out"));
        assert!(why("eval instant at 1m sort(a)\n  expect ordered\n  a{b=\"2\"} 10\n  a{b=\"1\"} 2").contains("place"));
        let range = "eval range from 0 to 1m step 1m a{b=\"1\"}\n  a{b=\"1\"} 1 3";
        assert_eq!(why(range), r#"a{b="1"} 1@0s 3@60s is expected, and 1@0s 2@60s came out"#);
    }

    #[test]
    fn what_needs_native_histograms_is_skipped() {
        let skipped = Verdict::Skipped("native histograms".to_owned());
        assert_eq!(verdict("eval instant at 1m h\n  h 1"), skipped);
        assert_eq!(verdict("eval instant at 1m {__name__=~\".+\"}"), skipped);
        let load = "load_with_nhcb 1m\n  h_bucket{le=\"1\"} 1\n\n";
        let of_both =
            verdicts(&format!("{load}eval instant at 0 h\n\neval instant at 0 h_bucket\n  h_bucket{{le=\"1\"}} 1"));
        assert_eq!(of_both, [skipped, Verdict::Passed]);
    }
}
