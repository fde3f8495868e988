//! What the tier says about itself, for `/metrics`.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use wire::Kind;

use crate::dead::Reason;
use crate::rows::Batch;

/// One label.
type Label = [(&'static str, &'static str); 1];

/// The metrics of one running tier. Cloning shares them; there are none for the process as a whole.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    messages: Family<Label, Counter>,
    rows: Family<Label, Counter>,
    dead_letters: Family<Label, Counter>,
    /// Dead letters that found no room in their file.
    pub(crate) dead_letters_unkept: Counter,
    /// Batches committed.
    pub(crate) batches: Counter,
    /// Attempts to write that the store could not take, and failed attempts to open it.
    pub(crate) retries: Counter,
    /// Messages that came again while the first copy was still held or just committed.
    pub(crate) duplicates: Counter,
    /// How long a committed write took.
    pub(crate) write_seconds: Histogram,
    /// Rows received and not yet committed.
    pub(crate) rows_held: Gauge,
    /// Messages received and not yet acknowledged.
    pub(crate) messages_held: Gauge,
    /// 1 while connected to the broker.
    pub(crate) mqtt_connected: Gauge,
    /// 1 while the store takes what it is given.
    pub(crate) sink_ready: Gauge,
}

const TABLES: [&str; 4] = ["recap_system_metrics", "logs", "alerts", "hosts"];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero; every label that can come is there from the start, so that a rate over it is right.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("utilizer_exporter");
        let metrics = Self {
            registry: Arc::default(),
            messages: Family::default(),
            rows: Family::default(),
            dead_letters: Family::default(),
            dead_letters_unkept: Counter::default(),
            batches: Counter::default(),
            retries: Counter::default(),
            duplicates: Counter::default(),
            // 1 ms to 32 s.
            write_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            rows_held: Gauge::default(),
            messages_held: Gauge::default(),
            mqtt_connected: Gauge::default(),
            sink_ready: Gauge::default(),
        };
        for kind in Kind::ALL {
            drop(metrics.messages.get_or_create(&[("kind", kind.as_str())]));
        }
        drop(metrics.messages.get_or_create(&[("kind", "status")]));
        for table in TABLES {
            drop(metrics.rows.get_or_create(&[("table", table)]));
        }
        for reason in Reason::ALL {
            drop(metrics.dead_letters.get_or_create(&[("reason", reason.as_str())]));
        }
        registry.register("messages_received", "Messages received by kind", metrics.messages.clone());
        registry.register("rows_written", "Rows committed by table", metrics.rows.clone());
        registry.register("dead_letters", "Messages and rows that could not be taken", metrics.dead_letters.clone());
        registry.register(
            "dead_letters_unkept",
            "Dead letters that their file could not take: they are gone",
            metrics.dead_letters_unkept.clone(),
        );
        registry.register("batches_written", "Batches committed", metrics.batches.clone());
        registry.register("retries", "Attempts that the store could not take", metrics.retries.clone());
        registry.register("duplicates", "Messages that came again and were known", metrics.duplicates.clone());
        registry.register_with_unit(
            "write_duration",
            "Duration of committed writes",
            Unit::Seconds,
            metrics.write_seconds.clone(),
        );
        registry.register("rows_held", "Rows received and not yet committed", metrics.rows_held.clone());
        registry.register("messages_held", "Messages received and not yet acknowledged", metrics.messages_held.clone());
        registry.register("mqtt_connected", "Whether the broker is connected", metrics.mqtt_connected.clone());
        registry.register("sink_ready", "Whether the store takes writes", metrics.sink_ready.clone());
        Self { registry: Arc::new(registry), ..metrics }
    }

    /// OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Rows committed so far, of all tables.
    pub fn rows_written(&self) -> u64 {
        TABLES.map(|table| self.rows.get_or_create(&[("table", table)]).get()).into_iter().sum()
    }

    /// Dead letters so far.
    pub fn dead_letters(&self) -> u64 {
        Reason::ALL
            .map(|reason| self.dead_letters.get_or_create(&[("reason", reason.as_str())]).get())
            .into_iter()
            .sum()
    }

    pub(crate) fn message(&self, kind: &'static str) {
        self.messages.get_or_create(&[("kind", kind)]).inc();
    }

    pub(crate) fn dead_letter(&self, reason: Reason) {
        self.dead_letters.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// A batch was committed.
    pub(crate) fn written(&self, batch: &Batch) {
        self.batches.inc();
        for (table, rows) in [
            (TABLES[0], batch.metrics().count()),
            (TABLES[1], batch.logs().count()),
            (TABLES[2], batch.alerts().count()),
        ] {
            self.rows.get_or_create(&[("table", table)]).inc_by(rows as u64);
        }
    }

    /// A host's row was committed.
    pub(crate) fn host_written(&self) {
        self.rows.get_or_create(&[("table", TABLES[3])]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let text = Metrics::new().encode();
        for line in [
            "utilizer_exporter_messages_received_total{kind=\"metrics\"} 0",
            "utilizer_exporter_rows_written_total{table=\"recap_system_metrics\"} 0",
            "utilizer_exporter_dead_letters_total{reason=\"poison\"} 0",
            "utilizer_exporter_write_duration_seconds_count 0",
            "utilizer_exporter_mqtt_connected 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
