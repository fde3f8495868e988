//! The file: opening, migrating, writing. Blocking.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use delivery::Identity;
use delivery::ledger::MOST_SEQ;
use exporter::lines::{LogRows, Text};
use exporter::rows::{AlertRow, Batch, HostRow, JsonObject, MetricRow, Rows};
use exporter::sink::SinkError;
use rusqlite::{Connection, Error, TransactionBehavior, params};
use serde_json::{Map, Value};
use wire::messages::Loss;
use wire::{HostName, Timestamp};

use crate::error::sink_error;
use crate::ledger::Book;

/// In order; version 1 is the first. A file that was released is never edited: a change is a new file.
const MIGRATIONS: &[(&str, &str)] = &[
    ("first_tables", include_str!("../migrations/0001_first_tables.sql")),
    ("delivery_ledger", include_str!("../migrations/0002_delivery_ledger.sql")),
];

/// How long a call waits for another process that writes (the dashboard, a person with `sqlite3`).
const BUSY: Duration = Duration::from_secs(5);

/// Opens the file, making it and its folder where they are missing, and brings the schema up to date. Gives how many
/// versions were applied.
pub(crate) fn open(path: &Path) -> Result<(Connection, usize), SinkError> {
    let fail = |e| sink_error("opening", path, e);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|e| SinkError::Fatal {
            doing: format!("making the folder {} of [sqlite] path", folder.display()),
            source: Box::new(e),
        })?;
    }
    let mut connection = Connection::open(path).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    refuse_foreign(&connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    // A commit is confirmed to the host, which deletes its copy: it must be on the disk. NORMAL would lose the commits
    // since the last checkpoint in a power cut. It costs one fsync a batch, which is one a second at most.
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    let applied = migrate(&mut connection, path)?;
    Ok((connection, applied))
}

/// What tells a file from another one of its name; `None` where there is none.
pub(crate) fn file(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Nothing of another program's file may change, not even its journal mode: this comes first.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), SinkError> {
    let (tables, ours): (i64, i64) = connection
        .query_row(
            "SELECT count(*), coalesce(sum(name = 'utilizer_schema_migrations'), 0)
             FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .map_err(|e| sink_error("reading", path, e))?;
    if tables > 0 && ours == 0 {
        return Err(SinkError::Fatal {
            doing: format!("opening the SQLite file {}", path.display()),
            source: "it holds another program's tables; name a file of its own in [sqlite] path".into(),
        });
    }
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<usize, SinkError> {
    let fail = |e| sink_error("bringing up to date the schema of", path, e);
    let mut applied = 0;
    loop {
        // IMMEDIATE takes the write lock before the version is read: two programs take turns.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        transaction
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS utilizer_schema_migrations (
                    version INTEGER PRIMARY KEY,
                    name TEXT NOT NULL,
                    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
                )",
            )
            .map_err(fail)?;
        let version: i64 = transaction
            .query_row("SELECT coalesce(max(version), 0) FROM utilizer_schema_migrations", [], |row| row.get(0))
            .map_err(fail)?;
        let done = usize::try_from(version).unwrap_or(0);
        if done > MIGRATIONS.len() {
            return Err(SinkError::Fatal {
                doing: format!("bringing up to date the schema of the SQLite file {}", path.display()),
                source: format!(
                    "it has version {version}, and this program knows {} at most; install the newer one that made it",
                    MIGRATIONS.len()
                )
                .into(),
            });
        }
        let Some((name, sql)) = MIGRATIONS.get(done) else {
            return Ok(applied);
        };
        transaction.execute_batch(sql).map_err(fail)?;
        transaction
            .execute(
                "INSERT INTO utilizer_schema_migrations (version, name) VALUES (?1, ?2)",
                params![version + 1, name],
            )
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
        tracing::info!(version = version + 1, name, "migrated the SQLite file {}", path.display());
        applied += 1;
    }
}

/// Whether a transaction is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Rollback,
}

/// Writes the rows of records that are new and books all, in one transaction. Gives the places of those that are not.
pub(crate) fn write(connection: &mut Connection, batch: &Batch, now: Timestamp, end: End) -> Result<Vec<usize>, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut book, mut known) = (Book::default(), Vec::new());
    for (place, record) in batch.records.iter().enumerate() {
        if let Some(identity) = record.origin.identity()
            && !book.commit(&transaction, &identity)?
        {
            known.push(place);
            continue;
        }
        match &record.rows {
            Rows::Metrics(rows) => metrics(&transaction, rows)?,
            Rows::Logs(rows) => logs(&transaction, rows)?,
            Rows::Alert(row) => alert(&transaction, row)?,
        }
    }
    book.write(&transaction, now)?;
    match end {
        End::Commit => transaction.commit()?,
        End::Rollback => transaction.rollback()?,
    }
    Ok(known)
}

/// Books records without rows, and losses.
pub(crate) fn book(
    connection: &mut Connection,
    committed: &[Identity],
    lost: &[(HostName, Loss)],
    now: Timestamp,
) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut book = Book::default();
    for identity in committed {
        book.commit(&transaction, &Identity { seq: identity.seq.min(MOST_SEQ), ..identity.clone() })?;
    }
    for (host, loss) in lost {
        book.lose(&transaction, host, loss)?;
    }
    book.write(&transaction, now)?;
    transaction.commit()
}

fn metrics(connection: &Connection, rows: &[MetricRow]) -> Result<(), Error> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for row in rows {
        insert.execute(params![
            &*row.job_id,
            &*row.stage,
            row.metric_name,
            row.metric_value,
            row.metadata.as_ref().map(JsonObject::as_str),
            time(row.recorded_at)
        ])?;
    }
    Ok(())
}

fn logs(connection: &Connection, rows: &LogRows) -> Result<(), Error> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO logs (timestamp, level, level_original, service_name, message, latency_ms, host, logger,
                           environment, category, trace_id, request_id, fields, event_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    for row in rows.iter() {
        let fields = row.fields().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
        insert.execute(params![
            time(row.timestamp()),
            row.level(),
            row.text(Text::LevelOriginal),
            row.text(Text::ServiceName),
            row.text(Text::Message),
            row.latency_ms(),
            row.text(Text::Host),
            row.text(Text::Logger),
            row.text(Text::Environment),
            row.text(Text::Category),
            row.text(Text::TraceId),
            row.text(Text::RequestId),
            json(&fields),
            row.text(Text::EventId)
        ])?;
    }
    Ok(())
}

fn alert(connection: &Connection, row: &AlertRow) -> Result<(), Error> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO alerts (time, host, alert_name, state, severity, labels, annotations, value, active_at,
                             resolved_at, fingerprint, event_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    insert
        .execute(params![
            time(row.time),
            row.host,
            row.alert_name,
            row.state,
            row.severity,
            json(&row.labels),
            json(&row.annotations),
            row.value,
            time(row.active_at),
            row.resolved_at.map(time),
            row.fingerprint,
            row.event_id
        ])
        .map(drop)
}

/// A last will knows neither interval nor inventory: what the birth said stays.
pub(crate) fn upsert_hosts(connection: &mut Connection, hosts: &[HostRow]) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO hosts (host, state, version, boot, interval_seconds, inventory, seen_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (host) DO UPDATE SET
             state = excluded.state, version = excluded.version, boot = excluded.boot,
             interval_seconds = coalesce(excluded.interval_seconds, interval_seconds),
             inventory = coalesce(excluded.inventory, inventory),
             seen_at = CASE WHEN ?8 THEN max(seen_at, excluded.seen_at) ELSE excluded.seen_at END",
    )?;
    for host in hosts {
        upsert.execute(params![
            host.host,
            host.state,
            host.version,
            host.boot.as_str(),
            host.interval_seconds,
            host.inventory.as_ref().map(json),
            time(host.seen_at),
            host.retained
        ])?;
    }
    drop(upsert);
    transaction.commit()
}

fn json(map: &Map<String, Value>) -> String {
    // A map of JSON values always has a text.
    serde_json::to_string(map).unwrap_or_default()
}

fn time(time: Timestamp) -> String {
    time.to_string()
}
