//! The one task that calls the sink: tries again, isolates what the store refuses, gives up only on what is fatal.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use wire::Topic;

use crate::dead::{DeadLetter, DeadLetters, Reason};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::rows::{AlertRow, Batch, HostRow, JsonObject, LogRow, MetricRow, Record, Rows};
use crate::sink::{Sink, SinkError};

/// Pauses between attempts: from the first, doubling to the longest, each shortened by up to a half at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(30) }
    }
}

/// The same failure is logged when it begins and then this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// An idle store is asked this often whether it is still there: `/readyz` must not be the last to know.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) hosts: Vec<HostRow>,
    pub(crate) batch: Batch,
}

/// The store can't go on without a person. The text is the whole chain of causes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(String);

pub(crate) struct Writer<S> {
    pub(crate) sink: S,
    pub(crate) backoff: Backoff,
    pub(crate) dead: Arc<DeadLetters>,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
}

impl<S: Sink> Writer<S> {
    /// Opens the store, says so, then does what it is handed. `done` gets one answer for each.
    pub(crate) async fn run(
        mut self,
        opened: oneshot::Sender<()>,
        mut work: mpsc::Receiver<Work>,
        done: mpsc::Sender<()>,
    ) -> Result<(), Fatal> {
        self.open().await?;
        let _ = opened.send(());
        loop {
            match tokio::time::timeout(CHECK_EVERY, work.recv()).await {
                Ok(Some(work)) => {
                    for host in work.hosts {
                        self.host(host).await?;
                    }
                    if !work.batch.records.is_empty() {
                        self.batch(work.batch).await?;
                    }
                    if done.send(()).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => self.open().await?,
            }
        }
    }

    async fn open(&mut self) -> Result<(), Fatal> {
        let mut trouble = Trouble::new(self.backoff);
        loop {
            match self.sink.open().await {
                Ok(()) => return self.well(&trouble),
                Err(error) => self.wait(&mut trouble, error).await?,
            }
        }
    }

    async fn host(&mut self, host: HostRow) -> Result<(), Fatal> {
        let mut trouble = Trouble::new(self.backoff);
        loop {
            match self.sink.upsert_hosts(std::slice::from_ref(&host)).await {
                Ok(()) => {
                    self.metrics.host_written();
                    return self.well(&trouble);
                }
                Err(SinkError::Poison { doing, source }) => {
                    let row = json!({"host": host.host, "state": host.state, "version": host.version,
                                     "interval_seconds": host.interval_seconds, "inventory": host.inventory});
                    let topic = host.host.parse().map(|host| Topic::Status(host).to_string()).unwrap_or_default();
                    self.bury(topic, chain(&doing, source.as_ref()), row);
                    return self.well(&trouble);
                }
                Err(error) => self.wait_and_open(&mut trouble, error).await?,
            }
        }
    }

    /// Writes a batch, all of it but what the store refuses. A refused batch is cut in halves until what is refused
    /// stands alone: rows that are good are written, at the cost of some transactions more.
    async fn batch(&mut self, batch: Batch) -> Result<(), Fatal> {
        // A stack, so that the order of receipt is kept.
        let mut parts = vec![Batch {
            // Attempts of one batch go by one name, and so do not its halves.
            token: uuid::Uuid::new_v4().to_string(),
            written_at: SystemTime::now().into(),
            ..batch
        }];
        while let Some(part) = parts.pop() {
            if part.row_count() == 0 {
                continue;
            }
            let mut trouble = Trouble::new(self.backoff);
            loop {
                let began = Instant::now();
                match self.sink.write(&part).await {
                    Ok(_) => {
                        self.metrics.write_seconds.observe(began.elapsed().as_secs_f64());
                        self.metrics.written(&part);
                        self.well(&trouble)?;
                        break;
                    }
                    Err(SinkError::Poison { doing, source }) => {
                        self.well(&trouble)?;
                        match halves(part) {
                            Ok((first, second)) => parts.extend([second, first]),
                            Err(record) => {
                                let topic =
                                    Topic::Telemetry(record.origin.host.clone(), record.origin.kind).to_string();
                                self.bury(topic, chain(&doing, source.as_ref()), row_json(&record.rows));
                            }
                        }
                        break;
                    }
                    Err(error) => self.wait_and_open(&mut trouble, error).await?,
                }
            }
        }
        Ok(())
    }

    fn bury(&self, topic: String, detail: String, row: serde_json::Value) {
        let letter = DeadLetter { topic, reason: Reason::Poison, detail, payload: row.to_string().into_bytes() };
        self.dead.keep(&letter, SystemTime::now().into());
    }

    fn well(&self, trouble: &Trouble) -> Result<(), Fatal> {
        if trouble.failures > 0 {
            tracing::info!(attempts = trouble.failures + 1, "the store takes writes again");
        }
        self.metrics.sink_ready.set(1);
        self.health.sink(None);
        Ok(())
    }

    async fn wait_and_open(&mut self, trouble: &mut Trouble, error: SinkError) -> Result<(), Fatal> {
        self.wait(trouble, error).await?;
        while let Err(error) = self.sink.open().await {
            self.wait(trouble, error).await?;
        }
        Ok(())
    }

    /// Pauses before another attempt, unless no attempt can help.
    async fn wait(&mut self, trouble: &mut Trouble, error: SinkError) -> Result<(), Fatal> {
        let (retry, text) = match &error {
            SinkError::Retry { doing, source } => (true, chain(doing, source.as_ref())),
            SinkError::Poison { doing, source } | SinkError::Fatal { doing, source } => {
                (false, chain(doing, source.as_ref()))
            }
        };
        self.metrics.sink_ready.set(0);
        self.health.sink(Some(text.clone()));
        if !retry {
            return Err(Fatal(text));
        }
        self.metrics.retries.inc();
        let pause = trouble.pause();
        if trouble.is_news() {
            tracing::warn!(attempts = trouble.failures, "{text}; trying again for as long as it takes");
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// A run of failures.
struct Trouble {
    backoff: Backoff,
    failures: u32,
    logged: Option<Instant>,
}

impl Trouble {
    fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, logged: None }
    }

    fn pause(&mut self) -> Duration {
        let doubled = self.backoff.first.saturating_mul(1 << self.failures.min(16)).min(self.backoff.most);
        self.failures = self.failures.saturating_add(1);
        // Members that lost the same database must not come back in one instant. A random id's bits do for that.
        let random = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        doubled.mul_f64(1.0 - random / 2.0)
    }

    fn is_news(&mut self) -> bool {
        if self.logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return false;
        }
        self.logged = Some(Instant::now());
        true
    }
}

/// A sentence and its causes.
fn chain(doing: &str, source: &(dyn Error + 'static)) -> String {
    let mut text = doing.to_owned();
    let mut cause = Some(source);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Cuts a batch: between tables, then between records, then between the rows of one. The record of a single row comes
/// back.
///
/// A store that has no transaction over two tables may have written one of them when it refused the other. That
/// table's rows stay together and in their order, so that the store can recognize them.
fn halves(batch: Batch) -> Result<(Batch, Batch), Record> {
    let written_at = batch.written_at;
    let part = |records| Batch { token: uuid::Uuid::new_v4().to_string(), written_at, records };
    let mut records: Vec<Record> = batch.records.into_iter().filter(|record| record.row_count() > 0).collect();
    if let Some(table) = records.first().map(|record| std::mem::discriminant(&record.rows)) {
        let (first, second): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| std::mem::discriminant(&record.rows) == table);
        if !second.is_empty() {
            return Ok((part(first), part(second)));
        }
        records = first;
    }
    if records.len() > 1 {
        let second = records.split_off(records.len() / 2);
        return Ok((part(records), part(second)));
    }
    let Some(Record { origin, rows }) = records.pop() else {
        // Nothing is refused by nobody; two empty halves end the matter.
        return Ok((Batch::default(), Batch::default()));
    };
    let (first, second) = match rows {
        Rows::Metrics(mut first) if first.len() > 1 => {
            let second = first.split_off(first.len() / 2);
            (Rows::Metrics(first), Rows::Metrics(second))
        }
        Rows::Logs(mut first) if first.len() > 1 => {
            let second = first.split_off(first.len() / 2);
            (Rows::Logs(first), Rows::Logs(second))
        }
        rows => return Err(Record { origin, rows }),
    };
    let half = |rows| part(vec![Record { origin: origin.clone(), rows }]);
    Ok((half(first), half(second)))
}

/// The row as JSON, for the dead letters.
fn row_json(rows: &Rows) -> serde_json::Value {
    let metric = |row: &MetricRow| {
        json!({"job_id": &*row.job_id, "stage": row.stage, "metric_name": row.metric_name,
               "metric_value": row.metric_value, "metadata": row.metadata.as_ref().map(JsonObject::parse), "recorded_at": row.recorded_at})
    };
    let log = |row: &LogRow| {
        let fields: serde_json::Map<_, _> =
            row.fields.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        json!({"timestamp": row.timestamp, "level": row.level, "level_original": row.level_original,
               "service_name": row.service_name, "message": row.message, "latency_ms": row.latency_ms,
               "host": row.host, "logger": row.logger, "environment": row.environment, "category": row.category,
               "trace_id": row.trace_id, "request_id": row.request_id, "fields": fields, "event_id": row.event_id})
    };
    let alert = |row: &AlertRow| {
        json!({"time": row.time, "host": row.host, "alert_name": row.alert_name, "state": row.state,
               "severity": row.severity, "labels": row.labels, "annotations": row.annotations, "value": row.value,
               "active_at": row.active_at, "resolved_at": row.resolved_at, "fingerprint": row.fingerprint,
               "event_id": row.event_id})
    };
    match rows {
        Rows::Metrics(rows) => rows.iter().map(metric).collect(),
        Rows::Logs(rows) => rows.iter().map(log).collect(),
        Rows::Alert(row) => alert(row),
    }
}

#[cfg(test)]
mod tests {
    use wire::Timestamp;

    use super::*;
    use crate::rows::Origin;

    fn record(rows: Rows) -> Record {
        let kind = wire::Kind::Logs;
        #[allow(clippy::unwrap_used)]
        let host = "web-01".parse().unwrap();
        Record { origin: Origin { host, kind, boot: None, seq: None }, rows }
    }

    fn metrics(values: &[f64]) -> Record {
        let row = |value: &f64| MetricRow {
            job_id: "j".into(),
            stage: "s".into(),
            metric_name: "m".to_owned(),
            metric_value: *value,
            metadata: None,
            recorded_at: Timestamp::from_millis(0),
        };
        record(Rows::Metrics(values.iter().map(row).collect()))
    }

    fn alert() -> Record {
        let text = String::new;
        record(Rows::Alert(Box::new(AlertRow {
            time: Timestamp::from_millis(0),
            host: text(),
            alert_name: text(),
            state: "firing",
            severity: text(),
            labels: serde_json::Map::new(),
            annotations: serde_json::Map::new(),
            value: None,
            active_at: Timestamp::from_millis(0),
            resolved_at: None,
            fingerprint: text(),
            event_id: text(),
        })))
    }

    #[test]
    fn tables_are_parted_first_and_keep_their_rows_and_order() {
        let batch = |records| Batch { records, ..Batch::default() };
        let all = batch(vec![metrics(&[1.0]), alert(), metrics(&[2.0, 3.0]), metrics(&[]), alert()]);
        let Ok((first, second)) = halves(all) else { panic!("it has two tables") };
        assert_eq!(first.records, [metrics(&[1.0]), metrics(&[2.0, 3.0])]);
        assert_eq!(second.records, [alert(), alert()]);
        let Ok((first, second)) = halves(first) else { panic!("it has two records") };
        assert_eq!((first.records, &second.records[..]), (vec![metrics(&[1.0])], &[metrics(&[2.0, 3.0])][..]));
        let Ok((first, second)) = halves(second) else { panic!("it has two rows") };
        assert_eq!((first.records, second.records), (vec![metrics(&[2.0])], vec![metrics(&[3.0])]));
        assert_eq!(halves(batch(vec![alert()])), Err(alert()));
    }
}
