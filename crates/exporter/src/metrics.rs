//! What the tier says about itself, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use wire::Kind;
use wire::messages::LossReason;

use crate::dead::Reason;
use crate::rows::{Batch, Rows};

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
    /// Records that came again: known when they came, or when they were written.
    pub(crate) duplicates: Counter,
    /// Numbered messages that found no room in the spool and were left to their hosts.
    pub(crate) refused: Counter,
    /// Messages of other shards' hosts.
    pub(crate) foreign: Counter,
    /// Dead letters that were put back into the way.
    pub(crate) replayed: Counter,
    /// Records of the spool that can't be read any more.
    pub(crate) spool_damaged: Counter,
    /// Declared losses that were not taken, since their host declares too many.
    pub(crate) losses_refused: Counter,
    /// Records that hosts declared lost.
    lost: Family<Label, Counter>,
    confirmations: Family<Label, Counter>,
    /// How long a committed write took.
    pub(crate) write_seconds: Histogram,
    /// How long a sync of the spool took.
    pub(crate) sync_seconds: Histogram,
    /// Bytes of the spool's files.
    pub(crate) spool_bytes: Gauge,
    /// Records in the spool that are not written yet.
    pub(crate) spool_records: Gauge,
    /// How long the oldest of them has been there, in seconds.
    pub(crate) spool_age: Gauge<f64, AtomicU64>,
    /// Numbered records that are held for their hosts.
    pub(crate) held: Gauge,
    /// 1 while connected to the broker.
    pub(crate) mqtt_connected: Gauge,
    /// 1 while the store takes what it is given.
    pub(crate) sink_ready: Gauge,
}

const TABLES: [&str; 4] = ["recap_system_metrics", "logs", "alerts", "hosts"];

const LOSSES: [LossReason; 6] = [
    LossReason::Full,
    LossReason::Age,
    LossReason::Corrupt,
    LossReason::Stopped,
    LossReason::TooLarge,
    LossReason::Other,
];

fn loss_label(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Full => "full",
        LossReason::Age => "age",
        LossReason::Corrupt => "corrupt",
        LossReason::Stopped => "stopped",
        LossReason::TooLarge => "too_large",
        LossReason::Other => "other",
    }
}

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
            // 0.1 ms to 13 s.
            sync_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 18)),
            spool_bytes: Gauge::default(),
            spool_records: Gauge::default(),
            spool_age: Gauge::default(),
            held: Gauge::default(),
            refused: Counter::default(),
            foreign: Counter::default(),
            replayed: Counter::default(),
            spool_damaged: Counter::default(),
            losses_refused: Counter::default(),
            lost: Family::default(),
            confirmations: Family::default(),
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
        for reason in LOSSES {
            drop(metrics.lost.get_or_create(&[("reason", loss_label(reason))]));
        }
        for what in ["changes", "whole"] {
            drop(metrics.confirmations.get_or_create(&[("content", what)]));
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
        registry.register("duplicates", "Records that came again and were known", metrics.duplicates.clone());
        registry.register(
            "refused",
            "Numbered messages that found no room in the spool; their hosts send them again",
            metrics.refused.clone(),
        );
        registry.register("foreign", "Messages of hosts of other shards", metrics.foreign.clone());
        registry.register("replayed", "Dead letters put back into the way", metrics.replayed.clone());
        registry.register(
            "losses_refused",
            "Declared losses that were not booked, because their host declares more than a host can have",
            metrics.losses_refused.clone(),
        );
        registry.register(
            "lost",
            "Records that hosts declared lost, by the reason that they gave",
            metrics.lost.clone(),
        );
        registry.register(
            "confirmations",
            "Confirmations published to hosts: of what changed, or of all that is held and written",
            metrics.confirmations.clone(),
        );
        registry.register_with_unit(
            "write_duration",
            "Duration of committed writes",
            Unit::Seconds,
            metrics.write_seconds.clone(),
        );
        registry.register_with_unit(
            "spool_sync_duration",
            "Duration of syncs of the spool to its disk",
            Unit::Seconds,
            metrics.sync_seconds.clone(),
        );
        registry.register_with_unit("spool", "Size of the spool's files", Unit::Bytes, metrics.spool_bytes.clone());
        registry.register(
            "spool_records",
            "Records in the spool that are not written yet",
            metrics.spool_records.clone(),
        );
        registry.register_with_unit(
            "spool_oldest_age",
            "Age of the oldest record that is not written yet, since it was received: the lag of the store",
            Unit::Seconds,
            metrics.spool_age.clone(),
        );
        registry.register(
            "spool_damaged_records",
            "Records that can't be read from the spool any more; hosts that number theirs send them again",
            metrics.spool_damaged.clone(),
        );
        registry.register(
            "held_records",
            "Numbered records held for their hosts until they are written",
            metrics.held.clone(),
        );
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

    /// A batch was committed; the records at the places `known` had been before.
    pub(crate) fn written(&self, batch: &Batch, known: &[usize]) {
        self.batches.inc();
        self.duplicates.inc_by(known.len() as u64);
        let mut rows = [0u64; 3];
        let mut known = known.iter().peekable();
        for (place, record) in batch.records.iter().enumerate() {
            if known.next_if_eq(&&place).is_some() {
                continue;
            }
            let table = match &record.rows {
                Rows::Metrics(_) => 0,
                Rows::Logs(_) => 1,
                Rows::Alert(_) => 2,
            };
            rows[table] += record.row_count() as u64;
        }
        for (table, rows) in TABLES.iter().zip(rows) {
            self.rows.get_or_create(&[("table", table)]).inc_by(rows);
        }
    }

    /// Hosts' rows were committed.
    pub(crate) fn hosts_written(&self, hosts: usize) {
        self.rows.get_or_create(&[("table", TABLES[3])]).inc_by(hosts as u64);
    }

    /// A host declared records lost.
    pub(crate) fn lost(&self, reason: LossReason, records: u64) {
        let counter = self.lost.get_or_create(&[("reason", loss_label(reason))]);
        // Hosts say how many, and may say anything.
        counter.inc_by(records.min(u64::MAX - counter.get()));
    }

    /// A confirmation was published.
    pub(crate) fn confirmed(&self, whole: bool) {
        self.confirmations.get_or_create(&[("content", if whole { "whole" } else { "changes" })]).inc();
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
            "utilizer_exporter_lost_total{reason=\"too_large\"} 0",
            "utilizer_exporter_confirmations_total{content=\"whole\"} 0",
            "utilizer_exporter_spool_bytes 0",
            "utilizer_exporter_mqtt_connected 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_host_that_says_anything_does_not_turn_the_counter_back() {
        let metrics = Metrics::new();
        (0..3).for_each(|_| metrics.lost(LossReason::Full, u64::MAX / 2));
        let line = format!("utilizer_exporter_lost_total{{reason=\"full\"}} {}", u64::MAX);
        assert!(metrics.encode().lines().any(|found| found == line), "{}", metrics.encode());
    }
}
