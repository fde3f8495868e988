//! `POST /v1/pipeline`: metrics that a job reports about itself.

use serde_json::{Map, Value};
use wire::Timestamp;
use wire::messages::{Pipeline, PipelineRecord};

use super::{BodyFault, records};

/// The record of a body. `now` is the time of records that name none.
pub fn parse(body: &[u8], now: Timestamp) -> Result<Pipeline, BodyFault> {
    let records = records(body, |object| convert(object, now))?;
    Ok(Pipeline { records })
}

/// The fields of a row; anything else is most likely misspelt, and a number that lands nowhere is lost silently.
const FIELDS: [&str; 6] = ["job_id", "stage", "metric_name", "metric_value", "metadata", "recorded_at"];

fn convert(object: Map<String, Value>, now: Timestamp) -> Result<PipelineRecord, String> {
    if let Some(unknown) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(format!(
            "unknown field {unknown:?}; there are {}; put anything else into metadata",
            FIELDS.join(", ")
        ));
    }
    let mut record: PipelineRecord = serde_json::from_value(Value::Object(object)).map_err(|e| e.to_string())?;
    record.check().map_err(|e| e.to_string())?;
    record.recorded_at.get_or_insert(now);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Pipeline, String> {
        super::parse(body.as_bytes(), Timestamp::from_millis(0)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_row_is_taken_with_its_time_or_now() {
        let body = r#"{"job_id":"j1","stage":"clustering","metric_name":"clusters_created","metric_value":12,"metadata":{"a":[1]}}
                      {"job_id":"j1","stage":"s","metric_name":"m","metric_value":-0.5,"recorded_at":"2026-01-02T03:04:05+01:00"}"#;
        let records = parse(body).unwrap().records;
        assert_eq!(records[0].recorded_at.unwrap().as_millis(), 0);
        assert_eq!(records[1].recorded_at.unwrap().to_string(), "2026-01-02T02:04:05.000Z");
        assert_eq!(records[0].metric_value.0, 12.0);
    }

    #[test]
    fn what_no_table_holds_is_refused_with_the_reason() {
        let row = |field: &str, value: &str| {
            let mut object: Map<String, Value> =
                serde_json::from_str(r#"{"job_id":"j","stage":"s","metric_name":"m","metric_value":1}"#).unwrap();
            object.insert(field.to_owned(), serde_json::from_str(value).unwrap());
            parse(&Value::Object(object).to_string()).unwrap_err()
        };
        assert_eq!(
            row("job_id", &format!("{:?}", "x".repeat(101))),
            "record 1: job_id has 101 characters; its column holds 100"
        );
        assert_eq!(
            row("stage", &format!("{:?}", "x".repeat(51))),
            "record 1: stage has 51 characters; its column holds 50"
        );
        assert_eq!(row("metric_name", "\"\""), "record 1: metric_name is empty");
        assert_eq!(row("metric_value", "\"NaN\""), "record 1: metric_value is NaN; only finite numbers can be stored");
        assert!(row("metric_value", "\"1\"").contains("expected a number"));
        assert!(row("recorded_at", "\"yesterday\"").contains("is not an RFC 3339 time"));
        assert!(row("metric_valeu", "1").contains("unknown field \"metric_valeu\""));
        assert!(row("metadata", "7").contains("record 1: invalid type"));
        assert!(parse(r#"{"stage":"s"}"#).unwrap_err().contains("missing field `job_id`"));
    }
}
