//! One row of `logs`, and the forms in which it is written.

use std::fmt::Write as _;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::Timestamp;
use wire::messages::Level;

/// One row of `logs`, its columns in the order in which they are asked for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct Row {
    #[serde(deserialize_with = "millis")]
    pub timestamp: Timestamp,
    pub level: String,
    pub level_original: String,
    pub service_name: String,
    pub message: String,
    /// Its bits as a decimal number, so that none is lost; nothing for NULL.
    #[serde(deserialize_with = "bits")]
    pub latency_ms: Option<f64>,
    pub host: String,
    pub logger: String,
    pub environment: String,
    pub category: String,
    pub trace_id: String,
    pub request_id: String,
    pub field_names: Vec<String>,
    pub field_values: Vec<String>,
    pub event_id: String,
    #[serde(deserialize_with = "seconds")]
    pub ingested_at: Timestamp,
}

/// What ClickHouse is asked for: the columns of [`Row`].
pub(super) const COLUMNS: &str = "toUnixTimestamp64Milli(timestamp), level, level_original, service_name, message, \
    if(isNull(latency_ms), '', toString(reinterpretAsUInt64(assumeNotNull(latency_ms)))), host, logger, environment, \
    category, trace_id, request_id, mapKeys(fields), mapValues(fields), event_id, toUnixTimestamp(ingested_at)";

/// 64-bit numbers come with quotes or without, as the server is set.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Bare(i64),
    Quoted(String),
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    match Number::deserialize(from)? {
        Number::Bare(number) => Ok(number),
        Number::Quoted(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

fn millis<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    number(from).map(Timestamp::from_millis)
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    number(from).map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)))
}

fn bits<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(|bits| Some(f64::from_bits(bits))).map_err(serde::de::Error::custom)
}

impl Row {
    /// Its fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.field_names.iter().map(String::as_str).zip(self.field_values.iter().map(String::as_str))
    }

    /// One of them.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields().find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// Its level as one of ours.
    pub fn level(&self) -> Level {
        Level::from_word(&self.level).unwrap_or(Level::Info)
    }

    /// The texts in which a text is looked for.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        [
            &self.message,
            &self.service_name,
            &self.logger,
            &self.environment,
            &self.category,
            &self.trace_id,
            &self.request_id,
        ]
        .into_iter()
        .chain(&self.field_values)
        .map(String::as_str)
    }

    /// As a JSON object, with the names of log records in messages, and what the store adds.
    pub fn as_json(&self) -> String {
        // Texts and numbers always encode.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As a line of CSV (RFC 4180), without its end.
    pub fn as_csv(&self) -> String {
        let mut line = String::new();
        let latency = self.latency_ms.map(|ms| ms.to_string()).unwrap_or_default();
        let fields = serde_json::to_string(&Fields(self)).unwrap_or_default();
        let (timestamp, ingested_at) = (self.timestamp.to_string(), self.ingested_at.to_string());
        let cells = [
            &timestamp,
            &self.level,
            &self.level_original,
            &self.host,
            &self.service_name,
            &self.message,
            &latency,
            &self.logger,
            &self.environment,
            &self.category,
            &self.trace_id,
            &self.request_id,
            &fields,
            &self.event_id,
            &ingested_at,
        ];
        for (number, cell) in cells.into_iter().enumerate() {
            if number > 0 {
                line.push(',');
            }
            if cell.contains(['"', ',', '\n', '\r']) {
                let _ = write!(line, "\"{}\"", cell.replace('"', "\"\""));
            } else {
                line.push_str(cell);
            }
        }
        line
    }
}

/// The first line of a CSV file.
pub(super) const CSV_HEAD: &str = "timestamp,level,level_original,host,service_name,message,latency_ms,logger,\
    environment,category,trace_id,request_id,fields,event_id,ingested_at";

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        map.serialize_entry("host", &self.host)?;
        map.serialize_entry("level", &self.level)?;
        let mut text = |name, text: &str| if text.is_empty() { Ok(()) } else { map.serialize_entry(name, text) };
        if self.level_original != self.level {
            text("level_original", &self.level_original)?;
        }
        text("service_name", &self.service_name)?;
        map.serialize_entry("message", &self.message)?;
        if let Some(latency) = self.latency_ms {
            map.serialize_entry("latency_ms", &latency)?;
        }
        let mut text = |name, text: &str| if text.is_empty() { Ok(()) } else { map.serialize_entry(name, text) };
        text("logger", &self.logger)?;
        text("environment", &self.environment)?;
        text("category", &self.category)?;
        text("trace_id", &self.trace_id)?;
        text("request_id", &self.request_id)?;
        if !self.field_names.is_empty() {
            map.serialize_entry("fields", &Fields(self))?;
        }
        map.serialize_entry("event_id", &self.event_id)?;
        map.serialize_entry("ingested_at", &self.ingested_at)?;
        map.end()
    }
}

struct Fields<'a>(&'a Row);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.fields())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn row(message: &str) -> Row {
        Row {
            timestamp: Timestamp::from_millis(1_790_000_000_123),
            level: "WARN".to_owned(),
            level_original: "WARNING".to_owned(),
            service_name: "checkout".to_owned(),
            message: message.to_owned(),
            latency_ms: Some(12.5),
            host: "web-01".to_owned(),
            logger: String::new(),
            environment: String::new(),
            category: String::new(),
            trace_id: String::new(),
            request_id: String::new(),
            field_names: vec!["user".to_owned()],
            field_values: vec!["7".to_owned()],
            event_id: "b1-1-0".to_owned(),
            ingested_at: Timestamp::from_millis(1_790_000_001_000),
        }
    }

    #[test]
    fn what_clickhouse_answers_is_read_with_and_without_quotes() {
        let bits = 12.5_f64.to_bits();
        for (millis, seconds) in [("1790000000123", "1790000001"), ("\"1790000000123\"", "\"1790000001\"")] {
            let line = format!(
                r#"[{millis},"WARN","WARNING","checkout","a\nb","{bits}","web-01","","","","","",["user"],["7"],"b1-1-0",{seconds}]"#
            );
            assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row("a\nb"));
        }
    }

    #[test]
    fn rows_are_written_for_programs() {
        let text = row("a").as_json();
        assert_eq!(
            text,
            r#"{"timestamp":"2026-09-21T14:13:20.123Z","host":"web-01","level":"WARN","level_original":"WARNING","service_name":"checkout","message":"a","latency_ms":12.5,"fields":{"user":"7"},"event_id":"b1-1-0","ingested_at":"2026-09-21T14:13:21.000Z"}"#
        );
        let line = row("a \"b\",\nc").as_csv();
        assert_eq!(
            line,
            "2026-09-21T14:13:20.123Z,WARN,WARNING,web-01,checkout,\"a \"\"b\"\",\nc\",12.5,,,,,,\"{\"\"user\"\":\"\"7\"\"}\",\
             b1-1-0,2026-09-21T14:13:21.000Z"
        );
        assert_eq!(CSV_HEAD.split(',').count(), 15);
    }
}
