//! A batch into its tables by binary COPY.

use std::pin::Pin;

use bytes::Bytes;
use exporter::rows::{AlertRow, MetricRow, Record, Rows as Table};
use futures_util::SinkExt;
use tokio_postgres::{Client, CopyInSink, Error, Statement};

use crate::binary::Rows;

pub(crate) const METRICS: &str = "COPY recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at) \
     FROM STDIN (FORMAT binary)";

pub(crate) const ALERTS: &str = "COPY alerts (time, host, alert_name, state, severity, labels, annotations, value, active_at, \
     resolved_at, fingerprint, event_id) FROM STDIN (FORMAT binary)";

/// A COPY under way.
struct Copy {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    rows: Rows,
}

impl Copy {
    async fn begin(client: &Client, statement: &Statement) -> Result<Self, Error> {
        Ok(Self { sink: Box::pin(client.copy_in(statement).await?), rows: Rows::new() })
    }

    /// Sends what is there, if it is much. The server reads while the next rows are written down.
    async fn send(&mut self) -> Result<(), Error> {
        match self.rows.piece() {
            Some(piece) => self.sink.send(piece).await,
            None => Ok(()),
        }
    }

    async fn end(mut self) -> Result<(), Error> {
        self.sink.send(self.rows.end()).await?;
        self.sink.as_mut().finish().await.map(drop)
    }
}

/// The rows of `recap_system_metrics` in the pieces that are sent; none without rows.
pub(crate) fn encode_metrics(records: &[&Record]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut rows = Rows::new();
    let mut any = false;
    for row in records.iter().flat_map(|record| record.metrics()) {
        any = true;
        metric(&mut rows, row);
        pieces.extend(rows.piece());
    }
    if any {
        pieces.push(rows.end());
    }
    pieces
}

/// Sends what [`encode_metrics`] made.
pub(crate) async fn encoded_metrics(client: &Client, statement: &Statement, pieces: Vec<Bytes>) -> Result<(), Error> {
    let mut sink = Box::pin(client.copy_in(statement).await?);
    for piece in pieces {
        sink.send(piece).await?;
    }
    sink.as_mut().finish().await.map(drop)
}

/// Writes the rows of `recap_system_metrics`.
pub(crate) async fn metrics(client: &Client, statement: &Statement, records: &[&Record]) -> Result<(), Error> {
    let rows = || records.iter().flat_map(|record| record.metrics());
    if rows().next().is_none() {
        return Ok(());
    }
    let mut copy = Copy::begin(client, statement).await?;
    for row in rows() {
        metric(&mut copy.rows, row);
        copy.send().await?;
    }
    copy.end().await
}

/// Writes the rows of `alerts`.
pub(crate) async fn alerts(client: &Client, statement: &Statement, records: &[&Record]) -> Result<(), Error> {
    let rows = || {
        records.iter().filter_map(|record| match &record.rows {
            Table::Alert(row) => Some(row),
            _ => None,
        })
    };
    if rows().next().is_none() {
        return Ok(());
    }
    let mut copy = Copy::begin(client, statement).await?;
    for row in rows() {
        alert(&mut copy.rows, row);
        copy.send().await?;
    }
    copy.end().await
}

fn metric(rows: &mut Rows, row: &MetricRow) {
    rows.row(6);
    rows.text(&row.job_id);
    rows.text(&row.stage);
    rows.text(&row.metric_name);
    rows.float(row.metric_value);
    match &row.metadata {
        Some(object) => rows.json(object.as_str()),
        None => rows.null(),
    }
    rows.time(row.recorded_at);
}

fn alert(rows: &mut Rows, row: &AlertRow) {
    rows.row(12);
    rows.time(row.time);
    rows.text(&row.host);
    rows.text(&row.alert_name);
    rows.text(row.state);
    rows.text(&row.severity);
    rows.object(&row.labels);
    rows.object(&row.annotations);
    match row.value {
        Some(value) => rows.float(value),
        None => rows.null(),
    }
    rows.time(row.active_at);
    match row.resolved_at {
        Some(time) => rows.time(time),
        None => rows.null(),
    }
    rows.text(&row.fingerprint);
    rows.text(&row.event_id);
}
