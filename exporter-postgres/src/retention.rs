//! What is older than the configured retention goes.
//!
//! Day partitions are dropped by their day. In the default partition a row's time may be anything, 1970 and 2099, and
//! of alerts the host's clock decides: there retention counts from arrival. Once a day a mark notes how far the ids of
//! a table are; what has a smaller id than an old enough mark had arrived by then.

use std::time::Duration;

use exporter::sink::{Retained, SinkError};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};
use wire::Timestamp;

use crate::config::Place;
use crate::error::schema_error;
use crate::migrate::LOCK;
use crate::partitions;
use crate::time::system_time;

/// Rows that one statement deletes: some tenths of a second.
const CHUNK: i64 = 10_000;

/// Statements for one table and call. What is left over waits for the next call.
const CHUNKS: usize = 20;

/// How long rows stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) metrics: Duration,
    pub(crate) alerts: Duration,
}

/// Table, and where its ids come from.
const MARKED: [(&str, &str); 2] = [("recap_system_metrics_default", "recap_system_metrics"), ("alerts", "alerts")];

pub(crate) async fn retain(
    client: &mut Client,
    place: &Place,
    limits: Limits,
    now: Timestamp,
) -> Result<Retained, SinkError> {
    let doing = || format!("deleting what is too old from postgres at {place}");
    let mut retained = Retained::default();
    for name in partitions::ended(client, now.minus(limits.metrics)).await.map_err(|e| schema_error(doing(), e))? {
        if drop_partition(client, place, &name).await? {
            retained.partitions += 1;
        }
    }
    for ((table, sequence), limit) in MARKED.into_iter().zip([limits.metrics, limits.alerts]) {
        retained.rows +=
            arrived_before(client, table, sequence, now, limit).await.map_err(|e| schema_error(doing(), e))?;
    }
    Ok(retained)
}

/// `false` where others hold the table for long: the next call tries again.
async fn drop_partition(client: &mut Client, place: &Place, name: &str) -> Result<bool, SinkError> {
    let doing = || format!("dropping the partition {name} of postgres at {place}");
    let transaction = client.transaction().await.map_err(|e| schema_error(doing(), e))?;
    let sql =
        format!("SET LOCAL lock_timeout = '5s'; SELECT pg_advisory_xact_lock({LOCK}); DROP TABLE IF EXISTS {name};");
    match transaction.batch_execute(&sql).await {
        Ok(()) => {
            transaction.commit().await.map_err(|e| schema_error(doing(), e))?;
            Ok(true)
        }
        Err(error) if is_busy(&error) => {
            tracing::warn!("the partition {name} of postgres at {place} is in use and is dropped later");
            Ok(false)
        }
        Err(error) => Err(schema_error(doing(), error)),
    }
}

fn is_busy(error: &Error) -> bool {
    let codes = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Takes today's mark, and deletes what an old enough one covers.
async fn arrived_before(
    client: &Client,
    table: &str,
    sequence: &str,
    now: Timestamp,
    limit: Duration,
) -> Result<u64, Error> {
    let (now, then) = (system_time(now), system_time(now.minus(limit)));
    // The sequence is ahead of the table, never behind. A day's first mark stays: later rows are not yet so old.
    let mark = format!(
        "INSERT INTO retention_marks (table_name, taken_at, id)
         SELECT $1, $2, last.id
         FROM (SELECT pg_sequence_last_value(pg_get_serial_sequence('{sequence}', 'id')::regclass) AS id) AS last
         WHERE last.id IS NOT NULL
             AND NOT EXISTS (SELECT FROM retention_marks
                             WHERE table_name = $1 AND taken_at > $2 - interval '23 hours 30 minutes')"
    );
    let (text, instant) = (Type::TEXT, Type::TIMESTAMPTZ);
    let mark = client.prepare_typed(&mark, &[text, instant]).await?;
    client.execute(&mark, &[&table, &now]).await?;
    let newest = "SELECT max(id) FROM retention_marks WHERE table_name = $1 AND taken_at <= $2";
    let Some(id) = client.query_one(newest, &[&table, &then]).await?.try_get::<_, Option<i64>>(0)? else {
        return Ok(0);
    };
    let mut rows = 0;
    let delete = format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM {table} WHERE id <= $1 ORDER BY id LIMIT {CHUNK} FOR UPDATE SKIP LOCKED))"
    );
    for _ in 0..CHUNKS {
        let deleted = client.execute(&delete, &[&id]).await?;
        rows += deleted;
        if deleted < CHUNK.unsigned_abs() {
            // All that the mark covers is gone, and with it the older marks' work.
            client
                .execute(
                    "DELETE FROM retention_marks WHERE table_name = $1 AND taken_at <= $2 AND id < $3",
                    &[&table, &then, &id],
                )
                .await?;
            break;
        }
    }
    Ok(rows)
}
