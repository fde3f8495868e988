//! A batch into its tables by binary COPY.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exporter::rows::{AlertRow, Batch, MetricRow};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, Error, Transaction};
use wire::Timestamp;

const METRICS: &str = "COPY recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at) \
                       FROM STDIN (FORMAT binary)";
const METRIC_TYPES: [Type; 6] =
    [Type::VARCHAR, Type::VARCHAR, Type::VARCHAR, Type::FLOAT8, Type::JSONB, Type::TIMESTAMPTZ];

const ALERTS: &str = "COPY alerts (time, host, alert_name, state, severity, labels, annotations, value, active_at, \
                      resolved_at, fingerprint, event_id) FROM STDIN (FORMAT binary)";
const ALERT_TYPES: [Type; 12] = [
    Type::TIMESTAMPTZ,
    Type::VARCHAR,
    Type::TEXT,
    Type::VARCHAR,
    Type::TEXT,
    Type::JSONB,
    Type::JSONB,
    Type::FLOAT8,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::TEXT,
];

/// Writes all tables' rows in one transaction.
pub(crate) async fn write(client: &mut Client, batch: &Batch) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    metrics(&transaction, batch.metrics()).await?;
    alerts(&transaction, batch.alerts()).await?;
    transaction.commit().await
}

async fn metrics(transaction: &Transaction<'_>, rows: impl Iterator<Item = &MetricRow>) -> Result<(), Error> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let copy = transaction.copy_in(METRICS).await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(copy, &METRIC_TYPES));
    for row in rows {
        let values: [&(dyn ToSql + Sync); 6] = [
            &&*row.job_id,
            &&*row.stage,
            &row.metric_name,
            &row.metric_value,
            &row.metadata.as_ref().map(|object| Json(object.parse())),
            &system_time(row.recorded_at),
        ];
        writer.as_mut().write(&values).await?;
    }
    writer.as_mut().finish().await.map(drop)
}

async fn alerts(transaction: &Transaction<'_>, rows: impl Iterator<Item = &AlertRow>) -> Result<(), Error> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let copy = transaction.copy_in(ALERTS).await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(copy, &ALERT_TYPES));
    for row in rows {
        let values: [&(dyn ToSql + Sync); 12] = [
            &system_time(row.time),
            &row.host,
            &row.alert_name,
            &row.state,
            &row.severity,
            &Json(&row.labels),
            &Json(&row.annotations),
            &row.value,
            &system_time(row.active_at),
            &row.resolved_at.map(system_time),
            &row.fingerprint,
            &row.event_id,
        ];
        writer.as_mut().write(&values).await?;
    }
    writer.as_mut().finish().await.map(drop)
}

/// Exact: both count milliseconds from the same epoch, and rows keep to the years 1 to 9999.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let distance = Duration::from_millis(time.as_millis().unsigned_abs());
    if time.as_millis() < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
