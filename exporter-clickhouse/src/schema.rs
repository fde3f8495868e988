//! The schema and its versions.
//!
//! A migration is one numbered file with one statement, which does nothing where its object exists already. It is
//! recorded in `utilizer_schema_migrations` after it ran, so a crash in between, or two exporters that start at once,
//! only run it twice. A file that was released is never changed; a change is a new file.

use clickhouse::Client;
use clickhouse::error::Error;
use exporter::sink::SinkError;

use crate::ClickHouseConfig;
use crate::failure::{fatal, schema_error};

/// How the comment of each object begins that a migration makes.
const MARK: &str = "utilizer: ";

struct Migration {
    version: u32,
    /// The object that it makes or changes.
    name: &'static str,
    sql: &'static str,
}

/// In order; versions count from 1.
const MIGRATIONS: [Migration; 8] = [
    Migration { version: 1, name: "logs", sql: include_str!("../migrations/0001_logs.sql") },
    Migration { version: 2, name: "alerts", sql: include_str!("../migrations/0002_alerts.sql") },
    Migration { version: 3, name: "otel_logs", sql: include_str!("../migrations/0003_otel_logs.sql") },
    Migration { version: 4, name: "logs", sql: include_str!("../migrations/0004_logs_by_arrival.sql") },
    Migration { version: 5, name: "alerts", sql: include_str!("../migrations/0005_alerts_by_arrival.sql") },
    Migration { version: 6, name: "logs", sql: include_str!("../migrations/0006_logs_by_hour.sql") },
    Migration { version: 7, name: "logs_hourly", sql: include_str!("../migrations/0007_logs_hourly.sql") },
    Migration { version: 8, name: "logs", sql: include_str!("../migrations/0008_words_in_any_case.sql") },
];

const RECORDS: &str = "CREATE TABLE IF NOT EXISTS utilizer_schema_migrations
(
    version UInt32,
    name String,
    applied_at DateTime DEFAULT now()
)
ENGINE = MergeTree
ORDER BY version";

/// Brings the database up to date and gives how many migrations ran. Where nothing is missing it only reads.
pub(crate) async fn migrate(client: &Client, config: &ClickHouseConfig) -> Result<usize, SinkError> {
    let place = config.place();
    let database = &config.database;
    // CREATE DATABASE wants a right that the exporter does not need where the database is there.
    let doing = || format!("looking for the database {database} at {place}");
    if !exists(client, "databases", database).await.map_err(|e| schema_error(doing(), &e))? {
        let doing = format!("creating the database {database} at {place}");
        let sql = format!("CREATE DATABASE IF NOT EXISTS `{database}`");
        client.query_raw(&sql).execute().await.map_err(|e| schema_error(doing, &e))?;
    }

    let client = client.clone().with_database(database);
    let client = &client;
    let doing = || format!("reading the schema's version in {database} at {place}");
    let recorded = recorded(client, database).await.map_err(|e| schema_error(doing(), &e))?;
    let newest = MIGRATIONS[MIGRATIONS.len() - 1].version;
    if let Some(foreign) = recorded.iter().find(|version| **version > newest) {
        let refusal = format!(
            "it has version {foreign}, this program knows up to {newest}: it was made by a newer \
             utilizer-exporter-clickhouse; install that one"
        );
        return Err(fatal(doing(), refusal));
    }
    let missing = || MIGRATIONS.iter().filter(|m| !recorded.contains(&m.version));
    for Migration { name, .. } in missing() {
        if is_foreign(client, database, name).await.map_err(|e| schema_error(doing(), &e))? {
            let refusal = format!("it has a `{name}` that utilizer did not make; take another [clickhouse] database");
            return Err(fatal(doing(), refusal));
        }
    }
    let mut applied = 0;
    for migration in missing() {
        let Migration { version, name, .. } = migration;
        let doing = format!("applying migration {version} ({name}) to {database} at {place}");
        apply(client, migration).await.map_err(|e| schema_error(doing, &e))?;
        tracing::info!("applied migration {version} ({name}) to the database {database}");
        applied += 1;
    }
    // Whole parts only, so that retention rewrites nothing; lines of several lives in one part need it to.
    let whole_parts = config.category_ttl.is_empty();
    for (table, ttl, whole_parts) in
        [("logs", config.log_ttl_expression(), whole_parts), ("alerts", config.alert_ttl_expression(), true)]
    {
        let doing = || format!("setting the TTL of {database}.{table} at {place}");
        keep_ttl(client, database, table, &ttl, whole_parts).await.map_err(|e| schema_error(doing(), &e))?;
    }
    Ok(applied)
}

async fn exists(client: &Client, what: &str, name: &str) -> Result<bool, Error> {
    let sql = format!("SELECT count() FROM system.{what} WHERE name = ?");
    Ok(client.query(&sql).bind(name).fetch_one::<u64>().await? > 0)
}

async fn recorded(client: &Client, database: &str) -> Result<Vec<u32>, Error> {
    let sql = "SELECT count() FROM system.tables WHERE database = ? AND name = 'utilizer_schema_migrations'";
    if client.query(sql).bind(database).fetch_one::<u64>().await? == 0 {
        client.query_raw(RECORDS).execute().await?;
    }
    client.query("SELECT DISTINCT version FROM utilizer_schema_migrations").fetch_all().await
}

/// Whether something of that name is there without our mark, its comment. `IF NOT EXISTS` would take it for ours.
async fn is_foreign(client: &Client, database: &str, name: &str) -> Result<bool, Error> {
    let sql = "SELECT count() FROM system.tables WHERE database = ? AND name = ? AND NOT startsWith(comment, ?)";
    Ok(client.query(sql).bind(database).bind(name).bind(MARK).fetch_one::<u64>().await? > 0)
}

async fn apply(client: &Client, migration: &Migration) -> Result<(), Error> {
    client.query_raw(migration.sql).execute().await?;
    client
        .query("INSERT INTO utilizer_schema_migrations (version, name) VALUES (?, ?)")
        .bind(migration.version)
        .bind(migration.name)
        .execute()
        .await
}

/// Makes a table's TTL that of the configuration. A TTL that someone set by hand does not survive a start.
async fn keep_ttl(client: &Client, database: &str, table: &str, ttl: &str, whole_parts: bool) -> Result<(), Error> {
    let sql = "SELECT engine_full FROM system.tables WHERE database = ? AND name = ?";
    let Some(engine) = client.query(sql).bind(database).bind(table).fetch_optional::<String>().await? else {
        return Ok(());
    };
    let whole_parts = format!("ttl_only_drop_parts = {}", u8::from(whole_parts));
    if !engine.contains(&whole_parts) {
        client.query_raw(&format!("ALTER TABLE {table} MODIFY SETTING {whole_parts}")).execute().await?;
    }
    if !engine.contains(&format!(" TTL {ttl} SETTINGS ")) {
        client.query_raw(&format!("ALTER TABLE {table} MODIFY TTL {ttl}")).execute().await?;
        tracing::info!("the TTL of {table} is now {ttl}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_gaps() {
        for (version, migration) in (1..).zip(&MIGRATIONS) {
            assert_eq!(migration.version, version, "{}", migration.name);
        }
    }

    #[test]
    fn a_file_is_one_statement_that_may_run_twice() {
        for Migration { name, sql, .. } in &MIGRATIONS {
            // The HTTP interface takes one statement a request.
            assert!(!sql.lines().any(|line| !line.trim_start().starts_with("--") && line.contains(';')), "{name}");
            assert!(sql.contains(" IF NOT EXISTS ") || sql.contains(" OR REPLACE "), "{name}");
            assert!(sql.contains(&format!("COMMENT '{MARK}")) || sql.contains("ALTER TABLE"), "{name}");
        }
    }
}
