//! Rows and batches for tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use exporter::rows::{AlertRow, Batch, LogRow, Origin, Record, Rows};
use serde_json::json;
use wire::{Kind, Timestamp};

pub fn at(text: &str) -> Timestamp {
    text.parse().expect("a time in a test is RFC 3339")
}

pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A line with nothing unusual in it.
pub fn line(event_id: &str) -> LogRow {
    LogRow {
        timestamp: now(),
        level: "INFO",
        level_original: "info".into(),
        service_name: "checkout".into(),
        message: format!("served {event_id}"),
        latency_ms: None,
        host: "web-01".into(),
        logger: String::new(),
        environment: String::new(),
        category: String::new(),
        trace_id: String::new(),
        request_id: String::new(),
        fields: Vec::new(),
        event_id: event_id.into(),
    }
}

pub fn alert(event_id: &str) -> AlertRow {
    let object = |value: serde_json::Value| value.as_object().cloned().unwrap_or_default();
    AlertRow {
        time: at("2026-11-21T10:00:00.500Z"),
        host: "web-01".into(),
        alert_name: "HighCpu".into(),
        state: "firing",
        severity: "critical".into(),
        labels: object(json!({"alertname": "HighCpu", "core": 3})),
        annotations: object(json!({"summary": "CPU hot: 91 % 🔥"})),
        value: Some(91.25),
        active_at: at("2026-11-21T09:55:00.000Z"),
        resolved_at: None,
        fingerprint: "00ff00ff00ff00ff".into(),
        event_id: event_id.into(),
    }
}

fn record(kind: Kind, rows: Rows) -> Record {
    let host = "web-01".parse().expect("a host's name");
    Record { origin: Origin { host, kind, boot: None, seq: None }, rows }
}

/// One record of lines, and one for each alert, under a token of its own.
pub fn batch(lines: Vec<LogRow>, alerts: Vec<AlertRow>) -> Batch {
    let mut records = vec![record(Kind::Logs, Rows::Logs(lines.into()))];
    records.extend(alerts.into_iter().map(|alert| record(Kind::Alerts, Rows::Alert(Box::new(alert)))));
    static BATCHES: AtomicU64 = AtomicU64::new(0);
    let token = format!("{}-{}", std::process::id(), BATCHES.fetch_add(1, Ordering::Relaxed));
    Batch { token, written_at: now(), records }
}

pub fn lines(rows: impl IntoIterator<Item = LogRow>) -> Batch {
    batch(rows.into_iter().collect(), Vec::new())
}
