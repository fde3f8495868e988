//! The schema's versions.

use exporter::sink::SinkError;
use tokio_postgres::Client;

use crate::config::Place;
use crate::error::{fatal, schema_error};

/// In order; version 1 is the first. A file that was released is never edited: a change is a new file.
const MIGRATIONS: &[(&str, &str)] = &[
    ("first_tables", include_str!("../migrations/0001_first_tables.sql")),
    ("delivery_ledger", include_str!("../migrations/0002_delivery_ledger.sql")),
];

/// The ledger's multiranges came with it.
const OLDEST_SERVER: i32 = 140_000;

/// What the migrations make.
const TABLES: [&str; 6] =
    ["recap_system_metrics", "admin_jobs", "alerts", "hosts", "delivery_ledger", "retention_marks"];

/// Members that start at the same time take turns with this advisory lock of the database: "utilizer" in ASCII.
pub(crate) const LOCK: i64 = 0x7574_696c_697a_6572;

/// Brings the schema up to date and gives how many versions were applied.
pub(crate) async fn migrate(client: &mut Client, place: &Place) -> Result<usize, SinkError> {
    let doing = || format!("bringing the schema of postgres at {place} up to date");
    let server = client
        .query_one("SELECT current_setting('server_version_num')::int, current_setting('server_version')", &[])
        .await
        .and_then(|row| Ok((row.try_get::<_, i32>(0)?, row.try_get::<_, String>(1)?)))
        .map_err(|e| schema_error(doing(), e))?;
    if server.0 < OLDEST_SERVER {
        let refusal = format!(
            "the server is PostgreSQL {}, and the ledger of what was delivered needs 14 or newer (multiranges); \
             upgrade it, or point [postgres] url at a newer one",
            server.1
        );
        return Err(fatal(doing(), refusal));
    }
    let mut applied = 0;
    loop {
        let transaction = client.transaction().await.map_err(|e| schema_error(doing(), e))?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await
            .map_err(|e| schema_error(doing(), e))?;
        // Looked up first: CREATE TABLE IF NOT EXISTS needs the right to create even where the table exists, and a
        // role that only writes should do once an owner ran `migrate`.
        let known = transaction
            .query_one("SELECT to_regclass('utilizer_schema_migrations') IS NOT NULL", &[])
            .await
            .and_then(|row| row.try_get::<_, bool>(0))
            .map_err(|e| schema_error(doing(), e))?;
        let version = if known {
            transaction
                .query_one("SELECT coalesce(max(version), 0) FROM utilizer_schema_migrations", &[])
                .await
                .and_then(|row| row.try_get::<_, i32>(0))
                .map_err(|e| schema_error(doing(), e))?
        } else {
            for table in TABLES {
                let foreign = transaction
                    .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])
                    .await
                    .and_then(|row| row.try_get::<_, bool>(0))
                    .map_err(|e| schema_error(doing(), e))?;
                if foreign {
                    return Err(fatal(
                        doing(),
                        format!(
                            "there is a table {table} that utilizer did not make; point [postgres] url at another \
                             database, or rename it (ALTER TABLE {table} RENAME TO {table}_before), start again, and \
                             copy its rows over with INSERT … SELECT"
                        ),
                    ));
                }
            }
            transaction
                .batch_execute(
                    "CREATE TABLE utilizer_schema_migrations (
                        version INTEGER PRIMARY KEY,
                        name TEXT NOT NULL,
                        applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
                    )",
                )
                .await
                .map_err(|e| schema_error(doing(), e))?;
            0
        };
        let done = usize::try_from(version).unwrap_or(0);
        if done > MIGRATIONS.len() {
            return Err(fatal(
                doing(),
                format!(
                    "it has version {version}, and this exporter knows {} at most; install the newer exporter that \
                     made it",
                    MIGRATIONS.len()
                ),
            ));
        }
        let Some((name, sql)) = MIGRATIONS.get(done) else {
            return Ok(applied);
        };
        transaction.batch_execute(sql).await.map_err(|e| schema_error(format!("{} ({name})", doing()), e))?;
        transaction
            .execute("INSERT INTO utilizer_schema_migrations (version, name) VALUES ($1, $2)", &[&(version + 1), name])
            .await
            .map_err(|e| schema_error(doing(), e))?;
        transaction.commit().await.map_err(|e| schema_error(doing(), e))?;
        tracing::info!(version = version + 1, name, "migrated postgres at {place}");
        applied += 1;
    }
}
