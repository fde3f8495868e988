//! What a sink writes: one struct per table, already checked.
//!
//! Rows leave this crate only with values that every store accepts: text within the tables' lengths, finite
//! numbers. A sink may therefore write them as they are.

use delivery::Identity;
use delivery::ledger::MOST_SEQ;
use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};
use wire::{BootId, HostName, Kind, Timestamp};

use crate::lines::{LogLine, LogRows};

/// The text of a JSON object without U+0000, made once for all rows that have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonObject(Arc<str>);

impl JsonObject {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object.
    pub fn parse(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// From pairs of texts; no name may come twice.
    pub fn of_texts<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = Vec::with_capacity(128);
        let mut separator = b'{';
        for (name, value) in pairs {
            text.push(separator);
            // Writing a text into memory doesn't fail.
            let _ = serde_json::to_writer(&mut text, name);
            text.push(b':');
            let _ = serde_json::to_writer(&mut text, value);
            separator = b',';
        }
        text.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
        Self(String::from_utf8(text).unwrap_or_default().into())
    }
}

impl From<&Map<String, Value>> for JsonObject {
    fn from(map: &Map<String, Value>) -> Self {
        // A map of JSON values always has a text.
        Self(serde_json::to_string(map).unwrap_or_default().into())
    }
}

/// A row of `recap_system_metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// At most 100 characters; `host:<host>` for a host's own gauges, which share it.
    pub job_id: Arc<str>,
    /// At most 50 characters.
    pub stage: Cow<'static, str>,
    /// At most 100 characters.
    pub metric_name: String,
    /// Finite.
    pub metric_value: f64,
    /// `None` is SQL NULL.
    pub metadata: Option<JsonObject>,
    /// When it was measured.
    pub recorded_at: Timestamp,
}

/// A row of `logs` that stands alone; those of a record stand together in [`LogRows`].
#[derive(Debug, Clone, PartialEq)]
pub struct LogRow {
    /// When the line was written, by its own account.
    pub timestamp: Timestamp,
    /// `DEBUG`, `INFO`, `WARN`, `ERROR` or `FATAL`.
    pub level: &'static str,
    /// The level as the line had it, such as `CRITICAL`.
    pub level_original: String,
    /// The service that wrote the line; empty where unknown.
    pub service_name: String,
    /// The text of the line.
    pub message: String,
    /// Milliseconds, where the line carries a latency.
    pub latency_ms: Option<f64>,
    /// The host that sent it.
    pub host: String,
    /// The logger's name; empty where unknown.
    pub logger: String,
    /// For example `production`; empty where unknown.
    pub environment: String,
    /// Decides the retention; empty is the default category.
    pub category: String,
    /// Trace id; empty where unknown.
    pub trace_id: String,
    /// Request id; empty where unknown.
    pub request_id: String,
    /// Everything else the line carried, as text, sorted by key.
    pub fields: Vec<(String, String)>,
    /// The same for every delivery of the same line: `<boot>-<seq>-<index>`; random where the sender gave no `seq`.
    pub event_id: String,
}

/// A row of `alerts`: one transition of one alert.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRow {
    /// When the transition happened.
    pub time: Timestamp,
    /// The host whose agent evaluated the rule.
    pub host: String,
    /// The `alertname` label.
    pub alert_name: String,
    /// `firing` or `resolved`.
    pub state: &'static str,
    /// The `severity` label; empty where the rule sets none.
    pub severity: String,
    /// All labels.
    pub labels: Map<String, Value>,
    /// All annotations, templates rendered.
    pub annotations: Map<String, Value>,
    /// The expression's value at the transition; NaN and infinities are `None`.
    pub value: Option<f64>,
    /// When the expression first held.
    pub active_at: Timestamp,
    /// When the alert resolved.
    pub resolved_at: Option<Timestamp>,
    /// Stable over the life of the alert: a hash of its labels.
    pub fingerprint: String,
    /// As [`LogRow::event_id`].
    pub event_id: String,
}

/// A row of `hosts`, from a host's retained `status`. Upserted by host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    /// The host's name.
    pub host: String,
    /// `online` or `offline`.
    pub state: &'static str,
    /// The agent's version.
    pub version: String,
    /// The agent run.
    pub boot: BootId,
    /// Sampling interval in seconds; `None` in a last will.
    pub interval_seconds: Option<f64>,
    /// OS, CPU model, cores, memory, GPUs as the host published them; `None` in a last will.
    pub inventory: Option<Map<String, Value>>,
    /// When the host last gave a sign of itself: now, for a state that comes as it is published. Of a retained one
    /// only its own account is known, the time that it was written.
    pub seen_at: Timestamp,
    /// Whether the broker told it from its store, as it tells all states to whoever subscribes. Such a one never moves
    /// a later `seen_at` of the table back.
    pub retained: bool,
}

/// Where a record came from. `boot` and `seq` are absent when a program publishes without them.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The host named by the topic.
    pub host: HostName,
    /// The durable kind named by the topic.
    pub kind: Kind,
    /// The sender's run.
    pub boot: Option<BootId>,
    /// The record's number within host, boot and kind.
    pub seq: Option<u64>,
}

impl Origin {
    /// The number, if it is one that ledgers hold.
    pub fn numbered(&self) -> Option<u64> {
        self.seq.filter(|seq| (1..=MOST_SEQ).contains(seq))
    }

    /// What tells copies of the record; `None` if it is not numbered: then nothing can tell.
    pub fn identity(&self) -> Option<Identity> {
        let (boot, seq) = (self.boot.as_ref()?, self.numbered()?);
        Some(Identity { host: self.host.clone(), boot: boot.clone(), kind: self.kind, seq })
    }
}

/// What one record puts into which table.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Into `recap_system_metrics`; from `metrics` and `pipeline`.
    Metrics(Vec<MetricRow>),
    /// Into `logs`.
    Logs(LogRows),
    /// Into `alerts`.
    Alert(Box<AlertRow>),
}

/// One received record with its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its identity.
    pub origin: Origin,
    /// Its rows; may be empty (a metrics message between two `[rows] every` marks).
    pub rows: Rows,
}

/// Records that a sink writes in one transaction (or one insert per table), in order of receipt.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Names a fixed batch among all batches ever: the same for the same records in the same order, another for any
    /// other. Letters, digits and `-`. Only [`Ledger::Beside`](crate::sink::Ledger::Beside) looks at it.
    pub token: String,
    /// When the batch was fixed: the same at each attempt, and what ClickHouse has as `ingested_at`.
    pub written_at: Timestamp,
    /// In order of receipt.
    pub records: Vec<Record>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { token: String::new(), written_at: Timestamp::from_millis(0), records: Vec::new() }
    }
}

impl Batch {
    /// Rows for `recap_system_metrics`.
    pub fn metrics(&self) -> impl Iterator<Item = &MetricRow> {
        self.records.iter().flat_map(Record::metrics)
    }

    /// Rows for `logs`.
    pub fn logs(&self) -> impl Iterator<Item = LogLine<'_>> {
        self.records.iter().flat_map(Record::logs)
    }

    /// Rows for `alerts`.
    pub fn alerts(&self) -> impl Iterator<Item = &AlertRow> {
        self.records.iter().filter_map(|r| match &r.rows {
            Rows::Alert(row) => Some(row.as_ref()),
            _ => None,
        })
    }

    /// How many rows it holds for all tables together.
    pub fn row_count(&self) -> usize {
        self.records.iter().map(Record::row_count).sum()
    }
}

impl Record {
    /// Its rows for `logs`.
    pub fn logs(&self) -> impl Iterator<Item = LogLine<'_>> {
        let rows = match &self.rows {
            Rows::Logs(rows) => Some(rows),
            _ => None,
        };
        rows.into_iter().flat_map(LogRows::iter)
    }

    /// Its rows for `recap_system_metrics`.
    pub fn metrics(&self) -> &[MetricRow] {
        match &self.rows {
            Rows::Metrics(rows) => rows,
            _ => &[],
        }
    }

    /// How many rows it holds.
    pub fn row_count(&self) -> usize {
        match &self.rows {
            Rows::Metrics(rows) => rows.len(),
            Rows::Logs(rows) => rows.len(),
            Rows::Alert(_) => 1,
        }
    }
}
