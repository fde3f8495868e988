//! `POST /v1/logs`: log lines as JSON, in the formats that applications already write.
//!
//! Well-known keys become columns, wherever loggers commonly put them: at the top or inside `context`. Everything else
//! becomes a field, nested keys joined by dots, so that nothing of a line is lost.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use wire::Timestamp;
use wire::messages::{Level, LogRecord, Logs};

use super::{BodyFault, records};

/// Names under which loggers write the same thing; the first that a line has counts. Names inside `context` are the
/// last resort: what a line says of itself stands above.
const TIMESTAMP: &[&str] = &["timestamp", "@timestamp", "time", "ts", "context.timestamp"];
const LEVEL: &[&str] = &["level", "severity", "log.level", "levelname"];
const SERVICE: &[&str] = &["service_name", "service", "service.name", "app", "context.service", "context.functionName"];
const MESSAGE: &[&str] = &["message", "msg", "body"];
const LATENCY_MS: &[&str] = &["latency_ms", "duration_ms", "context.latency_ms", "context.duration_ms"];
const LOGGER: &[&str] = &["logger", "logger_name", "name", "context.logger"];
const ENVIRONMENT: &[&str] = &["environment", "env", "deployment.environment", "context.environment"];
const CATEGORY: &[&str] = &["category", "context.category"];
const TRACE_ID: &[&str] = &["trace_id", "traceId", "trace.id", "context.trace_id", "context.traceId"];
const REQUEST_ID: &[&str] = &["request_id", "requestId", "context.request_id", "context.requestId"];

/// Nested deeper than this, the rest of a value is kept as JSON text.
const MAX_DEPTH: usize = 8;

/// An object below a longer key than this is kept as JSON text too. Each key in it would repeat the one above, and with a
/// long one a body of a mebibyte would become gigabytes.
const MAX_PREFIX: usize = 128;

/// The records of a body. `now` is the time of lines that carry none.
pub fn parse(body: &[u8], now: Timestamp) -> Result<Logs, BodyFault> {
    Ok(Logs { records: records(body, |object| convert(object, now))? })
}

fn convert(object: Map<String, Value>, now: Timestamp) -> Result<LogRecord, String> {
    let mut fields = BTreeMap::new();
    for (key, value) in object {
        flatten(key, value, 0, &mut fields);
    }

    let message = match take(&mut fields, MESSAGE) {
        Some(Value::String(text)) => text,
        Some(other) => text_of(&other),
        None => return Err("message is missing".to_owned()),
    };
    let timestamp = match take(&mut fields, TIMESTAMP) {
        None => now,
        Some(value) => time_of(&value).ok_or_else(|| {
            format!(
                "timestamp {} is neither an RFC 3339 time nor a number of seconds or milliseconds since 1970",
                text_of(&value)
            )
        })?,
    };
    let word = take(&mut fields, LEVEL).map(|value| text_of(&value)).unwrap_or_default();
    // A word that no logger uses must not lose the line: it is kept, at INFO.
    let level = Level::from_word(&word).unwrap_or(Level::Info);
    let level_original = (!word.is_empty() && word != level.as_str()).then_some(word);
    let latency_ms = match take(&mut fields, LATENCY_MS) {
        None => None,
        Some(value) => match number_of(&value) {
            Some(number) => Some(number),
            None => return Err(format!("latency_ms {} is not a number", text_of(&value))),
        },
    };
    let mut text = |names| take(&mut fields, names).map(|value| text_of(&value)).unwrap_or_default();
    let mut record = LogRecord {
        timestamp,
        level,
        level_original,
        service_name: text(SERVICE),
        message,
        latency_ms,
        logger: text(LOGGER),
        environment: text(ENVIRONMENT),
        category: text(CATEGORY),
        trace_id: text(TRACE_ID),
        request_id: text(REQUEST_ID),
        fields: BTreeMap::new(),
    };
    record.fields.extend(fields.into_iter().map(|(key, value)| (key, text_of(&value))));
    Ok(record)
}

/// Objects become dotted keys; everything else is a value.
fn flatten(key: String, value: Value, depth: usize, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) if depth < MAX_DEPTH && key.len() <= MAX_PREFIX && !object.is_empty() => {
            for (inner, value) in object {
                flatten(format!("{key}.{inner}"), value, depth + 1, fields);
            }
        }
        Value::Null => {}
        value => {
            fields.insert(key, value);
        }
    }
}

fn take(fields: &mut BTreeMap<String, Value>, names: &[&str]) -> Option<Value> {
    names.iter().find_map(|name| fields.remove(*name))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// RFC 3339, or a number: seconds since 1970 below 10^11 (the year 5138), milliseconds from there on.
fn time_of(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => {
            let number = number.as_f64()?;
            let millis = if number.abs() < 1e11 { number * 1000.0 } else { number };
            Some(Timestamp::from_millis(millis as i64))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<LogRecord, String> {
        parse(line.as_bytes(), Timestamp::from_millis(0)).map(|logs| logs.records[0].clone()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_flat_line_fills_the_columns_and_keeps_the_rest() {
        let record = one(
            r#"{"@timestamp":"2026-03-01T10:00:00.250+09:00","service":"scorer","level":"CRITICAL","logger":"scorer.core",
                "message":"model is gone","latency_ms":12.5,"environment":"staging","trace_id":"t","request_id":"r",
                "accuracy":0.5,"tags":["a"],"none":null}"#,
        )
        .unwrap();
        assert_eq!(record.timestamp.to_string(), "2026-03-01T01:00:00.250Z");
        assert_eq!((record.level, record.level_original.as_deref()), (Level::Fatal, Some("CRITICAL")));
        assert_eq!((record.service_name.as_str(), record.logger.as_str()), ("scorer", "scorer.core"));
        assert_eq!((record.message.as_str(), record.latency_ms), ("model is gone", Some(12.5)));
        assert_eq!(
            (record.environment.as_str(), record.trace_id.as_str(), record.request_id.as_str()),
            ("staging", "t", "r")
        );
        let fields: Vec<_> = record.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(fields, [("accuracy", "0.5"), ("tags", r#"["a"]"#)]);
    }

    #[test]
    fn a_nested_context_is_read_as_well() {
        let record = one(
            r#"{"level":"warning","msg":"slow","data":{"method":"POST"},
                "context":{"requestId":"u-1","userId":"7","functionName":"suggest","timestamp":"2026-03-01T10:00:00Z","duration_ms":"88"}}"#,
        )
        .unwrap();
        assert_eq!(record.timestamp.to_string(), "2026-03-01T10:00:00.000Z");
        assert_eq!((record.level, record.level_original.as_deref()), (Level::Warn, Some("warning")));
        assert_eq!(
            (record.service_name.as_str(), record.request_id.as_str(), record.latency_ms),
            ("suggest", "u-1", Some(88.0))
        );
        let fields: Vec<_> = record.fields.keys().map(String::as_str).collect();
        assert_eq!(fields, ["context.userId", "data.method"]);
    }

    #[test]
    fn odd_lines_are_kept_and_wrong_ones_named() {
        let record = one(r#"{"message":{"a":1},"level":30,"ts":1790000000}"#);
        assert_eq!(record.unwrap_err(), "record 1: message is missing", "an object is no message");
        let record = one(r#"{"message":5,"level":"LOUD","ts":1790000000.5}"#).unwrap();
        assert_eq!(
            (record.message.as_str(), record.level, record.level_original.as_deref()),
            ("5", Level::Info, Some("LOUD"))
        );
        assert_eq!(record.timestamp.as_millis(), 1_790_000_000_500);
        assert_eq!(one(r#"{"message":"m","time":1790000000123}"#).unwrap().timestamp.as_millis(), 1_790_000_000_123);
        assert_eq!(one(r#"{"message":"m"}"#).unwrap().timestamp.as_millis(), 0);
        assert!(one(r#"{"message":"m","timestamp":"soon"}"#).unwrap_err().contains("timestamp soon is neither"));
        assert!(one(r#"{"message":"m","latency_ms":"fast"}"#).unwrap_err().contains("latency_ms fast is not a number"));
        let deep = format!(r#"{{"message":"m","x":{}1{}}}"#, r#"{"y":"#.repeat(50), "}".repeat(50));
        assert_eq!(one(&deep).unwrap().fields.len(), 1);
    }

    #[test]
    fn a_long_key_is_not_repeated_for_all_that_is_below_it() {
        let inner: Vec<_> = (0..1000).map(|i| format!("\"{i}\":1")).collect();
        let line = |key: usize| format!(r#"{{"message":"m","{}":{{{}}}}}"#, "k".repeat(key), inner.join(","));
        assert_eq!(one(&line(MAX_PREFIX)).unwrap().fields.len(), 1000);
        let record = one(&line(10_000)).unwrap();
        let (key, text) = record.fields.first_key_value().unwrap();
        assert_eq!((record.fields.len(), key.len()), (1, 10_000));
        assert!(text.starts_with('{') && text.contains(r#""999":1"#), "nothing of it is lost");
    }

    /// The users' own lines, where they lie beside the repository.
    #[test]
    fn the_users_lines_are_understood() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/log-lines.ndjson");
        let Ok(lines) = std::fs::read(path) else { return };
        let logs = parse(&lines, Timestamp::from_millis(0)).unwrap();
        assert_eq!(logs.records.len(), 3);
        for record in &logs.records {
            assert!(
                record.timestamp.as_millis() > 0 && !record.service_name.is_empty() && !record.request_id.is_empty()
            );
        }
        assert_eq!(logs.records[2].trace_id, "trace_789");
    }
}
