//! What is older than the configured retention goes, some thousand rows at a time, so that readers and the next batch do
//! not wait long. The file does not shrink: what was freed is used for what comes.
//!
//! Log lines say when they arrived. Of metrics and alerts the sender's clock decides, which may be of 1970 or 2099: they
//! count from arrival by their ids. Once a day a mark notes how far the ids of a table are; what has a smaller id than an
//! old enough mark had arrived by then.

use std::time::Duration;

use exporter::sink::Retained;
use rusqlite::{Connection, Error, OptionalExtension, params};
use wire::Timestamp;

/// Rows of one transaction.
const CHUNK: usize = 5_000;

/// Transactions for one table and call. What is left over waits for the next call.
const CHUNKS: usize = 40;

/// Between two marks: a day, with some room for the clock of who calls.
const MARK_EVERY: Duration = Duration::from_secs(84_600);

/// How long rows stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of `recap_system_metrics`.
    pub metrics: Duration,
    /// Of `logs`.
    pub logs: Duration,
    /// Of `alerts`.
    pub alerts: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self { metrics: days(90), logs: days(30), alerts: days(365) }
    }
}

pub(crate) fn retain(connection: &Connection, limits: Limits, now: Timestamp) -> Result<Retained, Error> {
    let mut rows = in_pieces(
        connection,
        &format!(
            "DELETE FROM logs WHERE rowid IN (SELECT rowid FROM logs WHERE ingested_at < ?1 ORDER BY ingested_at LIMIT {CHUNK})"
        ),
        now.minus(limits.logs).to_string(),
    )?;
    for (table, limit) in [("recap_system_metrics", limits.metrics), ("alerts", limits.alerts)] {
        mark(connection, table, now)?;
        let newest = "SELECT max(id) FROM retention_marks WHERE table_name = ?1 AND taken_at <= ?2";
        let then = now.minus(limit).to_string();
        let Some(id) = connection.query_row(newest, params![table, then], |row| row.get::<_, Option<i64>>(0))? else {
            continue;
        };
        let delete = format!(
            "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE id <= ?1 ORDER BY id LIMIT {CHUNK})"
        );
        rows += in_pieces(connection, &delete, id)?;
        connection.execute(
            "DELETE FROM retention_marks WHERE table_name = ?1 AND taken_at <= ?2 AND id < ?3",
            params![table, then, id],
        )?;
        // An empty table counts from 1 again, and old marks would cover what is new.
        connection.execute(
            &format!("DELETE FROM retention_marks WHERE table_name = ?1 AND NOT EXISTS (SELECT 1 FROM {table})"),
            [table],
        )?;
    }
    Ok(Retained { partitions: 0, rows })
}

/// Takes the day's mark, where there is a row and no mark yet.
fn mark(connection: &Connection, table: &str, now: Timestamp) -> Result<(), Error> {
    let newest = format!("SELECT max(id) FROM {table}");
    let Some(id) = connection.query_row(&newest, [], |row| row.get::<_, Option<i64>>(0))? else { return Ok(()) };
    // Someone emptied the table by hand.
    connection.execute("DELETE FROM retention_marks WHERE table_name = ?1 AND id > ?2", params![table, id])?;
    let recent = "SELECT 1 FROM retention_marks WHERE table_name = ?1 AND taken_at > ?2";
    let since = now.minus(MARK_EVERY).to_string();
    if connection.query_row(recent, params![table, since], |_| Ok(())).optional()?.is_none() {
        connection.execute(
            "INSERT OR REPLACE INTO retention_marks (table_name, taken_at, id) VALUES (?1, ?2, ?3)",
            params![table, now.to_string(), id],
        )?;
    }
    Ok(())
}

fn in_pieces(connection: &Connection, delete: &str, bound: impl rusqlite::ToSql) -> Result<u64, Error> {
    let mut delete = connection.prepare_cached(delete)?;
    let mut rows = 0;
    for _ in 0..CHUNKS {
        let deleted = delete.execute([&bound])?;
        rows += deleted as u64;
        if deleted < CHUNK {
            break;
        }
    }
    Ok(rows)
}
