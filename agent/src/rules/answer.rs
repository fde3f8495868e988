//! The answer to a query, in the form of Prometheus' HTTP API.

use std::fmt::Write;

use rules::{Labels, Value};
use serde_json::{Value as Json, json};

/// The body of `/api/v1/query`. `at` are seconds since 1970. Written as it goes: as a tree of values it would take several
/// times as much.
pub fn answer(value: &Value, at: f64) -> String {
    let (kind, result) = match value {
        Value::Scalar(value) => ("scalar", sample(at, *value)),
        Value::Text(value) => ("string", format!("[{at},{}]", Json::from(value.as_str()))),
        Value::Vector(vector) => (
            "vector",
            list(vector, |out, (labels, value)| {
                let _ = write!(out, "{{\"metric\":{},\"value\":{}}}", metric(labels), sample(at, *value));
            }),
        ),
        Value::Matrix(series) => (
            "matrix",
            list(series, |out, series| {
                let _ = write!(out, "{{\"metric\":{},\"values\":", metric(&series.labels));
                out.push_str(&list(&series.samples, |out, one| {
                    out.push_str(&sample(one.time as f64 / 1000.0, one.value));
                }));
                out.push('}');
            }),
        ),
    };
    format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":{result}}}}}")
}

fn sample(at: f64, value: f64) -> String {
    format!("[{at},\"{}\"]", text(value))
}

fn list<T>(items: &[T], mut write: impl FnMut(&mut String, &T)) -> String {
    let mut out = "[".to_owned();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(&mut out, item);
    }
    out.push(']');
    out
}

/// The body where there is no answer.
pub fn fault(kind: &str, why: &str) -> Json {
    json!({"status": "error", "errorType": kind, "error": why})
}

fn metric(labels: &Labels) -> Json {
    labels.iter().map(|(name, value)| (name.to_owned(), Json::from(value))).collect()
}

/// As Go writes it.
pub(super) fn text(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rules::Sample;

    use super::*;

    #[test]
    fn answers_have_prometheus_form() {
        let parsed = |value: &Value, at| -> Json { serde_json::from_str(&answer(value, at)).unwrap() };
        let labels = Labels::new([("a", "b\"\n\u{1}")]);
        let vector = Value::Vector(vec![(labels.clone(), f64::INFINITY), (Labels::none(), f64::NAN)]);
        assert_eq!(
            answer(&vector, 1.5),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b\"\n\u0001"},"value":[1.5,"+Inf"]},{"metric":{},"value":[1.5,"NaN"]}]}}"#
        );
        assert_eq!(parsed(&Value::Scalar(2.0), 1.0)["data"]["result"], json!([1, "2"]));
        assert_eq!(parsed(&Value::Text("\"".to_owned()), 1.0)["data"]["result"], json!([1, "\""]));
        let samples = vec![Sample { time: 1500, value: 1.0 }, Sample { time: 2000, value: -0.5 }];
        let matrix = Value::Matrix(vec![rules::Series { labels, samples }]);
        assert_eq!(parsed(&matrix, 1.0)["data"]["result"][0]["values"], json!([[1.5, "1"], [2, "-0.5"]]));
        assert_eq!(parsed(&Value::Matrix(Vec::new()), 1.0)["data"]["result"], json!([]));
    }
}
