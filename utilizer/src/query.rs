//! `utilizer query`: PromQL over what a running agent has.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use clap::Args as ClapArgs;
use hyper::{Method, StatusCode};
use rules::Labels;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use wire::Timestamp;

use crate::agent::{AgentArgs, moment, percent};
use crate::command::CommandError;
use crate::terminal::{Colour, Paint, plain, plain_json};

/// What `utilizer query` is asked for.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The expression, in PromQL.
    #[arg(value_name = "EXPR")]
    expr: String,
    /// When: seconds since 1970, or a time like 2026-01-31T12:00:00Z [default: now].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    time: Option<Timestamp>,
    /// One JSON object a line, also on a terminal.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// The answer of Prometheus' HTTP API.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success {
        data: Data,
    },
    Error {
        #[serde(rename = "errorType")]
        kind: String,
        error: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Point),
    String(Point),
    Vector(Vec<Element>),
    Matrix(Vec<Range>),
}

/// Seconds since 1970, and the value as Go writes it.
#[derive(Debug, Deserialize)]
struct Point(f64, String);

#[derive(Debug, Deserialize)]
struct Element {
    metric: serde_json::Map<String, Json>,
    value: Point,
}

#[derive(Debug, Deserialize)]
struct Range {
    metric: serde_json::Map<String, Json>,
    values: Vec<Point>,
}

/// Asks once.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let mut below = format!("/api/v1/query?query={}", percent(&args.expr));
    if let Some(time) = args.time {
        let _ = write!(below, "&time={}", time.as_millis() as f64 / 1000.0);
    }
    let answer = args.agent.ask(Method::GET, &below, None).await?;
    let data = match serde_json::from_slice(&answer.body) {
        Ok(Answer::Success { data }) => data,
        Ok(Answer::Error { kind, error }) => return Err(CommandError::Failed(fault(&args.expr, &kind, &error))),
        Err(_) if answer.status == StatusCode::NOT_FOUND => {
            return Err(CommandError::Failed(
                "it answers no queries (404): is it an agent of this version?".to_owned(),
            ));
        }
        Err(_) => return Err(CommandError::Failed(answer.refusal())),
    };
    let mut stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let text = if args.json || !terminal {
        as_json(&data)
    } else {
        as_text(&data, Paint::new(terminal, |name| std::env::var(name).ok()))
    };
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))
}

/// What is wrong with an expression, with a mark under the place.
pub fn fault(expr: &str, kind: &str, error: &str) -> String {
    let whole = || format!("{}: {}", plain(kind), plain(error));
    let mut parts = error.splitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok()).filter(|number| *number > 0);
    let (Some(line), Some(column)) = (number(), number()) else { return whole() };
    let (Some(text), Some(message)) = (expr.lines().nth(line - 1), parts.next()) else { return whole() };
    // What is shown in other letters is as wide as it is shown.
    let before: String = text.chars().take(column - 1).collect();
    let indent = plain(&before).chars().count();
    format!("{}\n  {}\n  {:indent$}^", plain(message.trim()), plain(text), "")
}

fn labels(metric: &serde_json::Map<String, Json>) -> Labels {
    Labels::new(metric.iter().map(|(name, value)| (name, value.as_str().unwrap_or_default())))
}

fn time(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0).round() as i64)
}

/// For programs: an object for each sample.
fn as_json(data: &Data) -> String {
    let sample = |metric: Option<&serde_json::Map<String, Json>>, Point(at, value): &Point| {
        let value = value.parse().map_or_else(|_| json!(value), |value: f64| json!(wire::Value(value)));
        let mut line = json!({"time": time(*at), "value": value});
        if let (Some(metric), Some(line)) = (metric, line.as_object_mut()) {
            line.insert("metric".to_owned(), Json::from(metric.clone()));
        }
        plain_json(line.to_string()) + "\n"
    };
    match data {
        Data::Scalar(point) => sample(None, point),
        Data::String(Point(at, text)) => plain_json(json!({"time": time(*at), "value": text}).to_string()) + "\n",
        Data::Vector(elements) => elements.iter().map(|one| sample(Some(&one.metric), &one.value)).collect(),
        Data::Matrix(ranges) => {
            ranges.iter().flat_map(|one| one.values.iter().map(|point| sample(Some(&one.metric), point))).collect()
        }
    }
}

/// For people. Labels that all series have in common stand above them.
fn as_text(data: &Data, paint: Paint) -> String {
    let (metrics, values): (Vec<Labels>, Vec<Vec<String>>) = match data {
        Data::Scalar(Point(_, value)) | Data::String(Point(_, value)) => return format!("{}\n", plain(value)),
        Data::Vector(elements) => {
            elements.iter().map(|one| (labels(&one.metric), vec![plain(&one.value.1).into_owned()])).unzip()
        }
        Data::Matrix(ranges) => {
            let shown = |Point(at, value): &Point| format!("{}  {}", time(*at), plain(value));
            ranges.iter().map(|one| (labels(&one.metric), one.values.iter().map(shown).collect())).unzip()
        }
    };
    let Some(first) = metrics.first() else { return format!("{}\n", paint.on(Colour::Dim, "no series")) };
    let all_have = |pair: &(&str, &str)| metrics.iter().all(|labels| labels.get(pair.0) == pair.1);
    let named = |name: &str| name != rules::sample::NAME;
    let shared = first.iter().filter(|pair| metrics.len() > 1 && named(pair.0) && all_have(pair));
    let shared = Labels::new(shared);
    let mut text = String::new();
    if !shared.is_empty() {
        let _ = writeln!(text, "{}", paint.on(Colour::Dim, format_args!("all with {}", plain(&shared.to_string()))));
    }
    let own: Vec<String> = metrics
        .iter()
        .map(|labels| plain(&labels.filtered(|name| shared.get(name).is_empty()).to_string()).into_owned())
        .collect();
    let width = own.iter().map(|labels| labels.chars().count()).max().unwrap_or(0);
    for (labels, values) in own.iter().zip(values) {
        for (value, labels) in values.iter().zip(std::iter::once(labels.as_str()).chain(std::iter::repeat(""))) {
            let _ = writeln!(text, "{}  {value}", paint.on(Colour::Blue, format_args!("{labels:<width$}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(kind: &str, result: Json) -> Data {
        serde_json::from_value(json!({"resultType": kind, "result": result})).unwrap()
    }

    #[test]
    fn the_place_of_a_fault_is_marked() {
        let text = fault("sum(\n  up{a=\"ä\"} @ 5)", "bad_data", "2:12: parse error: \"@\" is not evaluated here");
        assert_eq!(text, "parse error: \"@\" is not evaluated here\n    up{a=\"ä\"} @ 5)\n             ^");
        assert_eq!(fault("up", "execution", "many-to-many: no"), "execution: many-to-many: no");
        assert_eq!(fault("up", "bad_data", "9:9: x"), "bad_data: 9:9: x");
    }

    #[test]
    fn what_series_have_in_common_stands_above_them() {
        let vector = data(
            "vector",
            json!([
                {"metric": {"__name__": "node_disk", "job": "node", "device": "sda"}, "value": [1.5, "12"]},
                {"metric": {"__name__": "node_disk", "job": "node", "device": "nvme0n1"}, "value": [1.5, "+Inf"]},
            ]),
        );
        assert_eq!(
            as_text(&vector, Paint(false)),
            "all with {job=\"node\"}\nnode_disk{device=\"sda\"}      12\nnode_disk{device=\"nvme0n1\"}  +Inf\n"
        );
        let one = data("vector", json!([{"metric": {"job": "node\u{1b}"}, "value": [1.5, "12"]}]));
        assert_eq!(as_text(&one, Paint(false)), "{job=\"node\\x1b\"}  12\n");
        assert_eq!(as_text(&data("vector", json!([])), Paint(false)), "no series\n");
        assert_eq!(as_text(&data("scalar", json!([1.5, "2"])), Paint(false)), "2\n");
        let matrix = data("matrix", json!([{"metric": {"a": "b"}, "values": [[1.0, "2"], [2.0, "3"]]}]));
        assert_eq!(
            as_text(&matrix, Paint(false)),
            "{a=\"b\"}  1970-01-01T00:00:01.000Z  2\n         1970-01-01T00:00:02.000Z  3\n"
        );
    }

    #[test]
    fn programs_get_an_object_for_each_sample() {
        let vector = data("vector", json!([{"metric": {"a": "b"}, "value": [1.5, "+Inf"]}]));
        let line = "{\"metric\":{\"a\":\"b\"},\"time\":\"1970-01-01T00:00:01.500Z\",\"value\":\"+Inf\"}\n";
        assert_eq!(as_json(&vector), line);
        let scalar = as_json(&data("scalar", json!([1.5, "2"])));
        assert_eq!(scalar, "{\"time\":\"1970-01-01T00:00:01.500Z\",\"value\":2.0}\n");
        let text = as_json(&data("string", json!([1.5, "2"])));
        assert_eq!(text, "{\"time\":\"1970-01-01T00:00:01.500Z\",\"value\":\"2\"}\n");
    }
}
