//! The answer to a query, in the form of Prometheus' HTTP API.

use rules::{Labels, Value};
use serde_json::{Map, Value as Json, json};

/// The body of `/api/v1/query`. `at` are seconds since 1970.
pub fn answer(value: &Value, at: f64) -> Json {
    let number = |value: f64| json!([at, text(value)]);
    let (kind, result) = match value {
        Value::Scalar(value) => ("scalar", number(*value)),
        Value::Text(value) => ("string", json!([at, value])),
        Value::Vector(vector) => {
            let one = |(labels, value): &(Labels, f64)| json!({"metric": metric(labels), "value": number(*value)});
            ("vector", vector.iter().map(one).collect())
        }
        Value::Matrix(series) => {
            let one = |series: &rules::Series| {
                let values: Vec<Json> = series
                    .samples
                    .iter()
                    .map(|sample| json!([sample.time as f64 / 1000.0, text(sample.value)]))
                    .collect();
                json!({"metric": metric(&series.labels), "values": values})
            };
            ("matrix", series.iter().map(one).collect())
        }
    };
    json!({"status": "success", "data": {"resultType": kind, "result": result}})
}

/// The body where there is no answer.
pub fn fault(kind: &str, why: &str) -> Json {
    json!({"status": "error", "errorType": kind, "error": why})
}

fn metric(labels: &Labels) -> Map<String, Json> {
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
    use super::*;

    #[test]
    fn answers_have_prometheus_form() {
        let vector = Value::Vector(vec![(Labels::new([("a", "b")]), f64::INFINITY)]);
        assert_eq!(
            answer(&vector, 1.5).to_string(),
            r#"{"data":{"result":[{"metric":{"a":"b"},"value":[1.5,"+Inf"]}],"resultType":"vector"},"status":"success"}"#
        );
        assert_eq!(answer(&Value::Scalar(2.0), 1.0)["data"]["result"], json!([1.0, "2"]));
    }
}
