//! Rows turned into the columns of one Native block.
//!
//! `DateTime64(3)` holds the years 1900 to 2299. A time outside is written as the nearest that it holds, and stands
//! as it was in `fields['original_time']` (of an alert: `annotations['original_time']`, `['original_active_at']`,
//! `['original_resolved_at']`): the line is kept, and nobody takes the edge for its real time.

use std::borrow::Cow;

use bytes::Bytes;
use exporter::lines::{LogLine, Text};
use exporter::rows::AlertRow;
use serde_json::{Map, Value};
use wire::Timestamp;

use crate::native::Block;

/// What `DateTime64(3)` can hold: 1900-01-01 to the end of 2299, in milliseconds.
const RANGE: (i64, i64) = (-2_208_988_800_000, 10_413_791_999_999);

type Pair<'a> = (&'a str, Cow<'a, str>);

/// A table's columns, in the order of its blocks.
pub(crate) const LOGS: [&str; 15] = [
    "timestamp",
    "level",
    "service_name",
    "message",
    "latency_ms",
    "host",
    "logger",
    "environment",
    "category",
    "trace_id",
    "request_id",
    "fields",
    "event_id",
    "level_original",
    "ingested_at",
];

/// Likewise.
pub(crate) const ALERTS: [&str; 13] = [
    "time",
    "host",
    "alert_name",
    "state",
    "severity",
    "labels",
    "annotations",
    "value",
    "active_at",
    "resolved_at",
    "fingerprint",
    "event_id",
    "ingested_at",
];

/// The nearest moment that the column can hold.
pub(crate) fn nearest(time: Timestamp) -> i64 {
    time.as_millis().clamp(RANGE.0, RANGE.1)
}

fn is_held(time: Timestamp) -> bool {
    nearest(time) == time.as_millis()
}

/// The last column of a table's block, which alone says when the batch was fixed: seconds since the epoch.
pub(crate) fn ingested(rows: usize, at: u32) -> Bytes {
    let mut column = Block::column_alone(rows, 32 + 4 * rows);
    column.second("ingested_at", at);
    column.end()
}

/// The block for `logs` but for its last column, [`ingested`].
pub(crate) fn logs(rows: &[LogLine<'_>]) -> Bytes {
    // 190 bytes a line in a message of ours come to about 200 here, with all columns.
    let size = rows.iter().map(|row| row.text(Text::Message).len() + 64 * row.fields().count() + 192).sum();
    let mut block = Block::new(LOGS.len(), rows.len(), size);
    let rows = rows.iter().copied();
    let texts = |column| rows.clone().map(move |r: LogLine<'_>| r.text(column));
    block.millis("timestamp", rows.clone().map(|r| nearest(r.timestamp())));
    block.words("level", rows.clone().map(|r| r.level()));
    block.words("service_name", texts(Text::ServiceName));
    block.texts("message", texts(Text::Message));
    block.nullable_floats("latency_ms", rows.clone().map(|r| r.latency_ms()));
    block.words("host", texts(Text::Host));
    block.words("logger", texts(Text::Logger));
    block.words("environment", texts(Text::Environment));
    block.words("category", texts(Text::Category));
    block.texts("trace_id", texts(Text::TraceId));
    block.texts("request_id", texts(Text::RequestId));
    block.maps("fields", rows.clone().map(fields));
    block.texts("event_id", texts(Text::EventId));
    block.words("level_original", texts(Text::LevelOriginal));
    block.end()
}

/// The block for `alerts` but for its last column, [`ingested`].
pub(crate) fn alerts(rows: &[&AlertRow]) -> Bytes {
    let mut block = Block::new(ALERTS.len(), rows.len(), 512 * rows.len());
    let rows = rows.iter().copied();
    block.millis("time", rows.clone().map(|r| nearest(r.time)));
    block.words("host", rows.clone().map(|r| r.host.as_str()));
    block.words("alert_name", rows.clone().map(|r| r.alert_name.as_str()));
    block.words("state", rows.clone().map(|r| r.state));
    block.words("severity", rows.clone().map(|r| r.severity.as_str()));
    block.maps("labels", rows.clone().map(|r| texts(&r.labels)));
    block.maps("annotations", rows.clone().map(annotations));
    block.nullable_floats("value", rows.clone().map(|r| r.value));
    block.millis("active_at", rows.clone().map(|r| nearest(r.active_at)));
    block.nullable_millis("resolved_at", rows.clone().map(|r| r.resolved_at.map(nearest)));
    block.texts("fingerprint", rows.clone().map(|r| r.fingerprint.as_str()));
    block.texts("event_id", rows.map(|r| r.event_id.as_str()));
    block.end()
}

fn fields(row: LogLine<'_>) -> impl Iterator<Item = Pair<'_>> {
    let is_theirs = |key| row.fields().any(|(name, _)| name == key);
    let fields = row.fields().map(|(key, value)| (key, value.into()));
    fields.chain(note("original_time", Some(row.timestamp()), is_theirs))
}

fn annotations(row: &AlertRow) -> impl Iterator<Item = Pair<'_>> {
    let times = [
        ("original_time", Some(row.time)),
        ("original_active_at", Some(row.active_at)),
        ("original_resolved_at", row.resolved_at),
    ];
    let is_theirs = |key: &str| row.annotations.contains_key(key);
    texts(&row.annotations).chain(times.into_iter().filter_map(move |(key, time)| note(key, time, is_theirs)))
}

/// Notes a time that its column can't hold. A key of that name that the sender set stays as it is.
fn note(key: &'static str, time: Option<Timestamp>, is_theirs: impl Fn(&'static str) -> bool) -> Option<Pair<'static>> {
    let time = time.filter(|time| !is_held(*time) && !is_theirs(key))?;
    Some((key, time.to_string().into()))
}

/// Strings as they are, everything else as JSON.
fn texts(map: &Map<String, Value>) -> impl Iterator<Item = Pair<'_>> {
    map.iter().map(|(key, value)| (key.as_str(), text(value)))
}

fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn times_outside_the_column_go_to_its_edge_and_say_so() {
        for (time, held, exact) in [
            ("1900-01-01T00:00:00.000Z", RANGE.0, true),
            ("1899-12-31T23:59:59.999Z", RANGE.0, false),
            ("2299-12-31T23:59:59.999Z", RANGE.1, true),
            ("2300-01-01T00:00:00.000Z", RANGE.1, false),
            ("1970-01-01T00:00:00.001Z", 1, true),
        ] {
            assert_eq!((nearest(at(time)), is_held(at(time))), (held, exact), "{time}");
        }
    }

    #[test]
    fn a_note_never_replaces_the_senders_own_value() {
        let far = Some(at("1066-10-14T09:00:00.000Z"));
        assert_eq!(note("original_time", far, |_| true), None);
        assert_eq!(note("original_time", Some(at("2026-11-21T00:00:00Z")), |_| false), None);
        let noted = note("original_time", far, |_| false);
        assert_eq!(noted, Some(("original_time", "1066-10-14T09:00:00.000Z".into())));
    }
}
