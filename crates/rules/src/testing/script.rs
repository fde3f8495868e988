//! Prometheus' evaluation scripts (`promql/promqltest`), read: what is loaded, what is evaluated and what comes out.
//!
//! ```text
//! load 5m
//!   requests{path="/"} 0+10x10
//!
//! eval instant at 50m rate(requests[5m])
//!   {path="/"} 0.03333
//! ```
//!
//! A command ends at an empty line or a comment. Loads add up until `clear`.

use regex_lite::Regex;

use super::series::{self, Cursor, SeriesError};
use crate::Labels;
use crate::ast::Millis;

/// One command of a script.
#[derive(Debug)]
pub enum Command {
    /// Forget all series.
    Clear,
    /// Add series.
    Load(Load),
    /// Evaluate and compare.
    Eval(Box<Eval>),
}

/// Series to add: `load STEP`.
#[derive(Debug)]
pub struct Load {
    /// From one value to the next.
    pub step: Millis,
    /// Whether classic histograms are to be there as native ones too: `load_with_nhcb`.
    pub nhcb: bool,
    /// What is added.
    pub series: Vec<Line>,
}

/// A series, in a load or expected.
#[derive(Debug)]
pub struct Line {
    /// With the metric's name.
    pub labels: Labels,
    /// From time 0 on, or at each step of the evaluation. `None`: native histograms are among them.
    pub values: Option<Vec<Option<f64>>>,
}

/// An evaluation.
#[derive(Debug)]
pub struct Eval {
    /// Of the script, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// What is evaluated.
    pub expr: String,
    /// At which moments.
    pub when: When,
    /// What has to come out.
    pub expect: Expect,
}

/// At which moments an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At one.
    Instant(Millis),
    /// At several.
    Range(Steps),
}

/// Moments at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The first.
    pub start: Millis,
    /// None is later.
    pub end: Millis,
    /// From one to the next, more than 0.
    pub step: Millis,
}

/// What has to come out of an evaluation.
#[derive(Debug, Default)]
pub struct Expect {
    /// An error.
    pub fail: Option<Fail>,
    /// The elements in this order.
    pub ordered: bool,
    /// A text.
    pub text: Option<String>,
    /// A number without labels.
    pub scalar: Option<f64>,
    /// Samples at these moments.
    pub steps: Option<Steps>,
    /// Elements of a vector, or series.
    pub series: Vec<Line>,
}

/// Which error.
#[derive(Debug)]
pub enum Fail {
    /// Any.
    Any,
    /// One that says this.
    Message(String),
    /// One that this matches.
    Regex(Regex),
}

/// A line that is no command, or part of none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads a script.
pub fn parse(text: &str) -> Result<Vec<Command>, ScriptError> {
    let mut commands = Vec::new();
    let mut lines = text.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line.trim() }).zip(1..);
    while let Some((head, number)) = lines.next() {
        if head.is_empty() {
            continue;
        }
        let error = |message: String| ScriptError { line: number, message };
        let (word, rest) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
        let mut command = match word {
            "clear" => {
                commands.push(Command::Clear);
                continue;
            }
            "load" | "load_with_nhcb" => {
                let step = time(rest.trim()).filter(|step| *step > 0);
                let step = step.ok_or_else(|| error(format!("`{rest}` is no step such as 30s")))?;
                Command::Load(Load { step, nhcb: word != "load", series: Vec::new() })
            }
            "eval" | "eval_fail" | "eval_warn" | "eval_info" | "eval_ordered" => {
                let (when, expr) = moments(rest).ok_or_else(|| {
                    error(
                        "expected `eval instant at TIME EXPR` or `eval range from TIME to TIME step TIME EXPR`".into(),
                    )
                })?;
                let mut expect = Expect { ordered: word == "eval_ordered", ..Expect::default() };
                expect.fail = (word == "eval_fail").then_some(Fail::Any);
                Command::Eval(Box::new(Eval { line: number, text: head.into(), expr: expr.into(), when, expect }))
            }
            _ => return Err(error(format!("unknown command `{word}`"))),
        };
        for (line, number) in lines.by_ref().take_while(|(line, _)| !line.is_empty()) {
            let result = match &mut command {
                Command::Load(load) => read_line(line).map(|line| load.series.push(line)),
                Command::Eval(eval) => expectation(line, &mut eval.expect),
                Command::Clear => Ok(()),
            };
            result.map_err(|message| ScriptError { line: number, message })?;
        }
        commands.push(command);
    }
    Ok(commands)
}

fn read_line(line: &str) -> Result<Line, String> {
    let (labels, values) = match series::parse(line) {
        Ok(series) => (series.labels, Some(series.values)),
        Err(SeriesError::Native) => (series::split(line).map_err(|error| error.to_string())?.0, None),
        Err(error) => return Err(error.to_string()),
    };
    Ok(Line { labels, values })
}

fn expectation(line: &str, expect: &mut Expect) -> Result<(), String> {
    if let Some(number) = series::number(line) {
        expect.scalar = Some(number);
        return Ok(());
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if let "expected_fail_message" | "expected_fail_regexp" = word {
        expect.fail = Some(fail(word == "expected_fail_regexp", rest)?);
        return Ok(());
    }
    if word != "expect" {
        expect.series.push(read_line(line)?);
        return Ok(());
    }
    let (what, rest) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    let rest = rest.trim();
    match what {
        "ordered" => expect.ordered = true,
        // We give no annotations.
        "warn" | "info" | "no_warn" | "no_info" => {}
        "fail" => {
            expect.fail = Some(match (rest.strip_prefix("msg:"), rest.strip_prefix("regex:")) {
                (Some(message), _) => fail(false, message)?,
                (_, Some(pattern)) => fail(true, pattern)?,
                _ => Fail::Any,
            });
        }
        "string" => {
            let text = Cursor { text: rest, at: 0 }.quoted().map_err(|error| error.to_string())?;
            expect.text = Some(text);
        }
        "range" => {
            let steps =
                rest.strip_prefix("vector").and_then(|rest| range(rest.trim())).filter(|(_, rest)| rest.is_empty());
            let (steps, _) = steps.ok_or("expected `expect range vector from TIME to TIME step TIME`")?;
            expect.steps = Some(steps);
        }
        _ => return Err(format!("`expect {what}` is unknown")),
    }
    Ok(())
}

fn fail(regex: bool, text: &str) -> Result<Fail, String> {
    match regex {
        true => Regex::new(text.trim()).map(Fail::Regex).map_err(|error| error.to_string()),
        false => Ok(Fail::Message(text.trim().to_owned())),
    }
}

/// `instant at TIME EXPR`, `range from TIME to TIME step TIME EXPR`.
fn moments(text: &str) -> Option<(When, &str)> {
    match word(text) {
        ("instant", rest) => match word(rest) {
            ("at", rest) => word_time(rest).map(|(at, expr)| (When::Instant(at), expr)),
            _ => Some((When::Instant(0), rest)),
        },
        ("range", rest) => range(rest).map(|(steps, expr)| (When::Range(steps), expr)),
        _ => None,
    }
    .filter(|(_, expr)| !expr.is_empty())
}

/// `from TIME to TIME step TIME`, and what stands behind it.
fn range(text: &str) -> Option<(Steps, &str)> {
    let keyword = |text, wanted| Some(word(text)).filter(|(word, _)| *word == wanted).map(|(_, rest)| rest);
    let (start, rest) = word_time(keyword(text, "from")?)?;
    let (end, rest) = word_time(keyword(rest, "to")?)?;
    let (step, rest) = word_time(keyword(rest, "step")?)?;
    (step > 0).then_some((Steps { start, end, step }, rest))
}

fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.trim_start().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    (word, rest.trim())
}

fn word_time(text: &str) -> Option<(Millis, &str)> {
    let (word, rest) = word(text);
    time(word).map(|time| (time, rest))
}

/// `1h30m`, `10s53ms`, `-5m`, or a number of seconds.
pub fn time(text: &str) -> Option<Millis> {
    if let Ok(seconds) = text.parse::<f64>() {
        let millis = (seconds * 1000.0).round();
        return (millis.abs() < 9e15).then_some(millis as Millis);
    }
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut millis: Millis = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, unit) = rest.split_at(digits);
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        millis = count.parse::<Millis>().ok()?.checked_mul(unit)?.checked_add(millis)?;
        rest = after;
    }
    (!text.is_empty()).then_some(if negative { -millis } else { millis })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read() {
        let script = "# comment\nload 5m\n\ta{b=\"1\"} 0+1x2\n\tc {{count:1}}\n\n\neval instant at 1h30m sum by (b) (a)\n  \
                      expect no_warn\n  expect ordered\n  {b=\"1\"} 2\n\nclear\n\neval_fail range from 0 to 10s step 500ms a\n";
        let commands = parse(script).unwrap();
        assert_eq!(commands.len(), 4, "{commands:?}");
        assert!(matches!(&commands[0], Command::Load(load) if load.step == 300_000 && load.series.len() == 2));
        let Command::Eval(eval) = &commands[1] else { panic!("{commands:?}") };
        assert_eq!((eval.expr.as_str(), eval.line, eval.when), ("sum by (b) (a)", 7, When::Instant(5_400_000)));
        assert!(eval.expect.ordered && eval.expect.series[0].values == Some(vec![Some(2.0)]));
    }

    #[test]
    fn expectations_are_read() {
        let read = |line: &str| {
            let mut expect = Expect::default();
            expectation(line, &mut expect).map(|()| expect)
        };
        assert!(matches!(read("expect fail").unwrap().fail, Some(Fail::Any)));
        assert!(matches!(read("expect fail msg: a b").unwrap().fail, Some(Fail::Message(text)) if text == "a b"));
        assert!(matches!(read("expect fail regex:a.*").unwrap().fail, Some(Fail::Regex(_))));
        assert_eq!(read("expect string `a`").unwrap().text.as_deref(), Some("a"));
        assert_eq!(read("+Inf").unwrap().scalar, Some(f64::INFINITY));
        let steps = read("expect range vector from 10s to 1m step 10").unwrap().steps;
        assert_eq!(steps, Some(Steps { start: 10_000, end: 60_000, step: 10_000 }));
        assert!(read("expect what").is_err() && read("a{").is_err() && read("expect range from 1").is_err());
    }

    #[test]
    fn times_are_durations_or_seconds() {
        assert_eq!(
            (time("10s53ms"), time("-1m"), time("1.5"), time("0")),
            (Some(10_053), Some(-60_000), Some(1500), Some(0))
        );
        assert_eq!(
            (time(""), time("5"), time("5q"), time("m"), time("99999999999999999999y")),
            (None, Some(5000), None, None, None)
        );
    }

    #[test]
    fn a_line_that_is_no_command_is_named() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(message("\nfoo 1"), "line 2: unknown command `foo`");
        assert_eq!(message("load x"), "line 1: `x` is no step such as 30s");
        assert!(message("eval instant at 5m").starts_with("line 1: expected `eval instant"));
        assert!(message("load 5m\n  a 1 x").starts_with("line 2: character 5"));
    }
}
