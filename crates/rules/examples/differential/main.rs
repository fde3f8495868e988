//! Evaluates random expressions over random series, here and by a real Prometheus: `differential [--seed N] [--count N]
//! [--only N] [--print]`.
//!
//! Each expression follows from the seed and its number, so that `--only` finds one again; `--print` shows all. Samples
//! stand at odd milliseconds and evaluations at half seconds, so that none is on the edge of a range: there Prometheus 2
//! and 3 differ. Results have to be equal within a relative error of 1e-9.

#![allow(clippy::print_stdout, reason = "it tells what it found")]

mod expressions;
mod series;

use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value as Json;
use test_servers::Prometheus;
use utilizer_rules::ast::Millis;
use utilizer_rules::eval::Options;
use utilizer_rules::testing::{Memory, series::number};
use utilizer_rules::{Labels, Sample, Series, Value, evaluate, parse};

/// How equal.
const EPSILON: f64 = 1e-9;
/// So many mismatches are shown in full.
const SHOWN: usize = 20;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let (mut seed, mut count, mut only, mut print) = (1, 10_000, None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(format!("{word} wants a number"));
        match word.as_str() {
            "--seed" => seed = number()?,
            "--count" => count = number()?,
            "--only" => only = Some(number()?),
            "--print" => print = true,
            _ => return Err(format!("{word} is no switch: --seed N, --count N, --only N, --print")),
        }
    }
    let memory = series::random(seed);
    let samples: usize = memory.all().iter().map(|series| series.samples.len()).sum();
    println!("seed {seed}: {} series with {samples} samples, {count} expressions", memory.all().len());
    let prometheus = Prometheus::over(&series::open_metrics(&memory));

    let started = Instant::now();
    let (mut equal, mut errors, mut empty, mut wrong) = (0, 0, 0, 0);
    let numbers = only.map_or(0..count, |only| only..only + 1);
    for number in numbers {
        let (text, at) = expressions::random(seed, number);
        if print {
            println!("{number} at {}: {text}", seconds(at));
        }
        let ours = ours(&text, &memory, at);
        let theirs = theirs(&text, &prometheus, at)?;
        match compare(&ours, &theirs) {
            Ok(()) => {
                equal += 1;
                errors += usize::from(ours.is_err());
                empty += usize::from(matches!(&ours, Ok(Value::Vector(elements)) if elements.is_empty()));
            }
            Err(why) => {
                wrong += 1;
                if wrong <= SHOWN {
                    println!("seed {seed}, expression {number} at {}: {why}\n  {text}", seconds(at));
                    println!("  here:       {ours:?}\n  Prometheus: {theirs:?}");
                }
            }
        }
    }
    println!(
        "{equal} equal ({errors} of them errors on both sides, {empty} empty), {wrong} different, in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(wrong == 0)
}

fn seconds(at: Millis) -> String {
    format!("{}.{:03}", at / 1000, at % 1000)
}

fn ours(text: &str, memory: &Memory, at: Millis) -> Result<Value, String> {
    let expr = parse(text).map_err(|error| error.to_string())?;
    evaluate(&expr, memory, at, &Options::default()).map_err(|error| error.to_string())
}

fn theirs(text: &str, prometheus: &Prometheus, at: Millis) -> Result<Result<Value, String>, String> {
    let answer = prometheus.evaluate(text, Some(&seconds(at)));
    let json: Json = serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
    if let Some(error) = json["error"].as_str() {
        return Ok(Err(error.to_owned()));
    }
    let result = &json["data"]["result"];
    let value = match json["data"]["resultType"].as_str() {
        Some("scalar") => sample(result).map(|sample| Value::Scalar(sample.value)),
        Some("string") => result[1].as_str().map(|text| Value::Text(text.to_owned())),
        Some("vector") => {
            elements(result, |element| Some((labels(element), sample(&element["value"])?.value))).map(Value::Vector)
        }
        Some("matrix") => elements(result, |element| {
            Some(Series { labels: labels(element), samples: elements(&element["values"], sample)? })
        })
        .map(Value::Matrix),
        _ => None,
    };
    value.map(Ok).ok_or_else(|| format!("Prometheus' answer is unclear: {}", answer.body))
}

fn elements<T>(json: &Json, read: impl Fn(&Json) -> Option<T>) -> Option<Vec<T>> {
    json.as_array()?.iter().map(read).collect()
}

fn labels(element: &Json) -> Labels {
    let pairs = element["metric"].as_object().into_iter().flatten();
    Labels::new(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())))
}

fn sample(pair: &Json) -> Option<Sample> {
    let time = (pair[0].as_f64()? * 1000.0).round() as Millis;
    Some(Sample { time, value: number(pair[1].as_str()?)? })
}

fn compare(ours: &Result<Value, String>, theirs: &Result<Value, String>) -> Result<(), String> {
    match (ours, theirs) {
        (Err(_), Err(_)) => Ok(()),
        (Err(_), Ok(_)) => Err("an error here, a value there".to_owned()),
        (Ok(_), Err(_)) => Err("a value here, an error there".to_owned()),
        (Ok(Value::Scalar(a)), Ok(Value::Scalar(b))) => same(*a, *b),
        (Ok(Value::Text(a)), Ok(Value::Text(b))) if a == b => Ok(()),
        (Ok(Value::Vector(a)), Ok(Value::Vector(b))) => {
            let point = |elements: &[(Labels, f64)]| {
                let series =
                    elements.iter().map(|(labels, value)| (labels.clone(), vec![Sample { time: 0, value: *value }]));
                series.collect::<Vec<_>>()
            };
            compare_series(point(a), point(b))
        }
        (Ok(Value::Matrix(a)), Ok(Value::Matrix(b))) => {
            let pairs = |series: &[Series]| series.iter().map(|s| (s.labels.clone(), s.samples.clone())).collect();
            compare_series(pairs(a), pairs(b))
        }
        _ => Err("other types".to_owned()),
    }
}

fn compare_series(mut a: Vec<(Labels, Vec<Sample>)>, mut b: Vec<(Labels, Vec<Sample>)>) -> Result<(), String> {
    a.sort_by(|a, b| a.0.cmp(&b.0));
    b.sort_by(|a, b| a.0.cmp(&b.0));
    if a.len() != b.len() {
        return Err(format!("{} elements here, {} there", a.len(), b.len()));
    }
    for ((labels, samples), (other, others)) in a.iter().zip(&b) {
        if labels != other {
            return Err(format!("{labels} here, {other} there"));
        }
        if samples.len() != others.len() {
            return Err(format!("{labels}: {} samples here, {} there", samples.len(), others.len()));
        }
        for (sample, other) in samples.iter().zip(others) {
            if sample.time != other.time {
                return Err(format!("{labels}: a sample at {} here, at {} there", sample.time, other.time));
            }
            same(sample.value, other.value).map_err(|why| format!("{labels}: {why}"))?;
        }
    }
    Ok(())
}

fn same(a: f64, b: f64) -> Result<(), String> {
    let equal = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= EPSILON * a.abs().max(b.abs());
    if equal { Ok(()) } else { Err(format!("{a} here, {b} there")) }
}
