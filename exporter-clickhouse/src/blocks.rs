//! Rows turned into the columns of one Native block.
//!
//! `DateTime64(3)` holds the years 1900 to 2299. A time outside is written as the nearest that it holds, and stands
//! as it was in `fields['original_time']` (of an alert: `annotations['original_time']`, `['original_active_at']`,
//! `['original_resolved_at']`): the line is kept, and nobody takes the edge for its real time.

use std::borrow::Cow;
use std::error::Error;

use clickhouse::native::Block;
use clickhouse::native::builder::BlockBuilder;
use clickhouse::native::encode::Encode;
use exporter::rows::{AlertRow, LogRow};
use serde_json::{Map, Value};

use crate::cells::{Millis, Seconds, TextMap};

/// A fault in this file's columns: the client refuses what no column can hold.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The block for `logs`; there must be at least one row.
pub(crate) fn logs(rows: &[&LogRow], ingested_at: Seconds) -> Result<Block> {
    let mut block = Columns::default();
    block.add("timestamp", rows.iter().map(|r| Millis::nearest(r.timestamp).0))?;
    block.add("level", rows.iter().map(|r| r.level))?;
    block.add("service_name", rows.iter().map(|r| r.service_name.as_str()))?;
    block.add("message", rows.iter().map(|r| r.message.as_str()))?;
    block.add("latency_ms", rows.iter().map(|r| r.latency_ms))?;
    block.add("host", rows.iter().map(|r| r.host.as_str()))?;
    block.add("logger", rows.iter().map(|r| r.logger.as_str()))?;
    block.add("environment", rows.iter().map(|r| r.environment.as_str()))?;
    block.add("category", rows.iter().map(|r| r.category.as_str()))?;
    block.add("trace_id", rows.iter().map(|r| r.trace_id.as_str()))?;
    block.add("request_id", rows.iter().map(|r| r.request_id.as_str()))?;
    block.add("fields", rows.iter().map(|r| fields(r)))?;
    block.add("event_id", rows.iter().map(|r| r.event_id.as_str()))?;
    block.add("level_original", rows.iter().map(|r| r.level_original.as_str()))?;
    block.add("ingested_at", rows.iter().map(|_| ingested_at))?;
    block.build()
}

/// The block for `alerts`; there must be at least one row.
pub(crate) fn alerts(rows: &[&AlertRow], ingested_at: Seconds) -> Result<Block> {
    let mut block = Columns::default();
    block.add("time", rows.iter().map(|r| Millis::nearest(r.time).0))?;
    block.add("host", rows.iter().map(|r| r.host.as_str()))?;
    block.add("alert_name", rows.iter().map(|r| r.alert_name.as_str()))?;
    block.add("state", rows.iter().map(|r| r.state))?;
    block.add("severity", rows.iter().map(|r| r.severity.as_str()))?;
    block.add("labels", rows.iter().map(|r| texts(&r.labels)))?;
    block.add("annotations", rows.iter().map(|r| annotations(r)))?;
    block.add("value", rows.iter().map(|r| r.value))?;
    block.add("active_at", rows.iter().map(|r| Millis::nearest(r.active_at).0))?;
    block.add("resolved_at", rows.iter().map(|r| r.resolved_at.map(|time| Millis::nearest(time).0)))?;
    block.add("fingerprint", rows.iter().map(|r| r.fingerprint.as_str()))?;
    block.add("event_id", rows.iter().map(|r| r.event_id.as_str()))?;
    block.add("ingested_at", rows.iter().map(|_| ingested_at))?;
    block.build()
}

#[derive(Default)]
struct Columns(BlockBuilder);

impl Columns {
    fn add<T: Encode>(&mut self, name: &'static str, values: impl Iterator<Item = T>) -> Result<()> {
        self.0.upsert_column(name)?.add_all(values)?;
        Ok(())
    }

    fn build(mut self) -> Result<Block> {
        Ok(self.0.build()?)
    }
}

fn fields(row: &LogRow) -> TextMap<'_> {
    let mut map = TextMap(row.fields.iter().map(|(k, v)| (Cow::from(k), Cow::from(v))).collect());
    if !Millis::nearest(row.timestamp).1 {
        map.note("original_time", row.timestamp);
    }
    map
}

fn annotations(row: &AlertRow) -> TextMap<'_> {
    let mut map = texts(&row.annotations);
    let times = [
        ("original_time", Some(row.time)),
        ("original_active_at", Some(row.active_at)),
        ("original_resolved_at", row.resolved_at),
    ];
    for (key, time) in times {
        if let Some(time) = time.filter(|time| !Millis::nearest(*time).1) {
            map.note(key, time);
        }
    }
    map
}

/// Strings as they are, everything else as JSON.
fn texts(map: &Map<String, Value>) -> TextMap<'_> {
    TextMap(map.iter().map(|(key, value)| (Cow::from(key), text(value))).collect())
}

fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}
