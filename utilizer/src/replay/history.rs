//! What stores hold of hosts: the rows of `recap_system_metrics`, read in the order of time.

use std::path::PathBuf;
use std::pin::pin;

use futures_util::TryStreamExt;
use rules::ast::Millis;
use rusqlite::{Connection, OpenFlags};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};
use wire::Timestamp;

use crate::command::CommandError;

/// How job ids of hosts begin.
const HOST: &str = "host:";

/// A row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// When it was measured.
    pub(super) time: Millis,
    /// The part of the host that it is about.
    pub(super) stage: &'a str,
    /// The metric, by its name in rows.
    pub(super) name: &'a str,
    /// In the unit that the name ends with.
    pub(super) value: f64,
    /// A JSON object.
    pub(super) metadata: Option<&'a str>,
}

/// Which rows of a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The host's name.
    pub(super) host: &'a str,
    /// After this.
    pub(super) after: Millis,
    /// Up to this.
    pub(super) until: Millis,
    /// Of these metrics; of all without.
    pub(super) names: Option<&'a [String]>,
}

/// A store, open for reading.
pub(super) struct History {
    /// As people call it.
    pub(super) place: String,
    store: Store,
}

enum Store {
    Sqlite(Connection),
    Postgres(Client, JoinHandle<Result<(), tokio_postgres::Error>>),
}

impl History {
    /// Opens a file.
    pub(super) fn sqlite(path: PathBuf) -> Result<Self, CommandError> {
        let place = format!("the SQLite file {}", path.display());
        // SQLite's own words name no reason.
        if let Err(error) = std::fs::metadata(&path) {
            return Err(CommandError::Failed(format!(
                "can't read {place}: {error}; --sqlite FILE or --postgres URL says where the history is"
            )));
        }
        match Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
            Ok(database) => Ok(Self { place, store: Store::Sqlite(database) }),
            Err(error) => Err(failed(&place, &error)),
        }
    }

    /// Connects to a database, without TLS.
    pub(super) async fn postgres(url: &str, password: Option<String>) -> Result<Self, CommandError> {
        // The text may hold a password and is not repeated.
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| {
            CommandError::Usage(
                "--postgres: it is no URL of PostgreSQL; write postgres://USER@HOST:PORT/DATABASE".to_owned(),
            )
        })?;
        if let Some(password) = password.filter(|_| config.get_password().is_none()) {
            config.password(password);
        }
        config.application_name("utilizer");
        let place = format!("the PostgreSQL database {}", config.get_dbname().unwrap_or("of the user's name"));
        let (client, connection) = config.connect(NoTls).await.map_err(|error| failed(&place, &sentence(&error)))?;
        let connection = tokio::spawn(connection);
        Ok(Self { place, store: Store::Postgres(client, connection) })
    }

    /// The time of a host's newest row that is not after `now`. `None` without any.
    pub(super) async fn newest(&self, now: Millis) -> Result<Option<Millis>, CommandError> {
        match &self.store {
            Store::Sqlite(database) => {
                let text = database.query_row(
                    "SELECT recorded_at FROM recap_system_metrics WHERE recorded_at <= ?1 AND substr(job_id, 1, 5) = ?2 \
                     ORDER BY recorded_at DESC LIMIT 1",
                    (stamp(now), HOST),
                    |row| row.get::<_, String>(0),
                );
                match text {
                    Ok(text) => Ok(millis(&text)),
                    Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
                    Err(error) => Err(failed(&self.place, &error)),
                }
            }
            Store::Postgres(client, _) => {
                let query = "SELECT (extract(epoch FROM recorded_at) * 1000)::int8 FROM recap_system_metrics \
                             WHERE recorded_at <= to_timestamp($1) AND starts_with(job_id, $2) \
                             ORDER BY recorded_at DESC LIMIT 1";
                let row = client.query_opt(query, &[&seconds(now), &HOST]).await;
                let time = row.and_then(|row| row.map(|row| row.try_get(0)).transpose());
                time.map_err(|error| failed(&self.place, &sentence(&error)))
            }
        }
    }

    /// The hosts that have rows in a time, sorted.
    pub(super) async fn hosts(&self, after: Millis, until: Millis) -> Result<Vec<String>, CommandError> {
        let mut jobs: Vec<String> = match &self.store {
            Store::Sqlite(database) => {
                let read = || -> rusqlite::Result<Vec<String>> {
                    let mut query = database.prepare(
                        "SELECT DISTINCT job_id FROM recap_system_metrics WHERE recorded_at > ?1 AND recorded_at <= ?2 \
                         AND substr(job_id, 1, 5) = ?3",
                    )?;
                    query.query_map((stamp(after), stamp(until), HOST), |row| row.get(0))?.collect()
                };
                read().map_err(|error| failed(&self.place, &error))?
            }
            Store::Postgres(client, _) => {
                let query = "SELECT DISTINCT job_id FROM recap_system_metrics WHERE recorded_at > to_timestamp($1) \
                             AND recorded_at <= to_timestamp($2) AND starts_with(job_id, $3)";
                let rows = client.query(query, &[&seconds(after), &seconds(until), &HOST]).await;
                let jobs = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
                jobs.map_err(|error| failed(&self.place, &sentence(&error)))?
            }
        };
        jobs.sort();
        Ok(jobs.iter().filter_map(|job| job.strip_prefix(HOST)).map(str::to_owned).collect())
    }

    /// Gives every row that is wanted, the oldest first, without ever holding more than one.
    pub(super) async fn each(&self, wanted: Wanted<'_>, row: &mut dyn FnMut(Row<'_>)) -> Result<(), CommandError> {
        match &self.store {
            Store::Sqlite(database) => sqlite_rows(database, wanted, row).map_err(|error| failed(&self.place, &error)),
            Store::Postgres(client, _) => {
                let read = postgres_rows(client, wanted, row).await;
                read.map_err(|error| failed(&self.place, &sentence(&error)))
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        if let Store::Postgres(client, connection) = self.store {
            drop(client);
            // Its errors were those of the queries.
            let _ = connection.await;
        }
    }
}

fn sqlite_rows(database: &Connection, wanted: Wanted<'_>, each: &mut dyn FnMut(Row<'_>)) -> rusqlite::Result<()> {
    // The + keeps SQLite from going by the job: it would have to sort everything before the first row comes.
    let mut query = database.prepare(
        "SELECT recorded_at, stage, metric_name, metric_value, metadata FROM recap_system_metrics \
         WHERE +job_id = ?1 AND recorded_at > ?2 AND recorded_at <= ?3 \
         AND (?4 IS NULL OR metric_name IN (SELECT value FROM json_each(?4))) ORDER BY recorded_at, id",
    )?;
    let names = wanted.names.map(|names| serde_json::json!(names).to_string());
    let mut rows = query.query((format!("{HOST}{}", wanted.host), stamp(wanted.after), stamp(wanted.until), names))?;
    while let Some(row) = rows.next()? {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let Some(time) = millis(text(0)?) else { continue };
        let metadata = row.get_ref(4)?.as_str_or_null()?;
        each(Row { time, stage: text(1)?, name: text(2)?, value: row.get(3)?, metadata });
    }
    Ok(())
}

async fn postgres_rows(
    client: &Client,
    wanted: Wanted<'_>,
    each: &mut dyn FnMut(Row<'_>),
) -> Result<(), tokio_postgres::Error> {
    let query = "SELECT (extract(epoch FROM recorded_at) * 1000)::int8, stage, metric_name, metric_value, metadata::text \
                 FROM recap_system_metrics WHERE job_id = $1 AND recorded_at > to_timestamp($2) \
                 AND recorded_at <= to_timestamp($3) AND ($4::text[] IS NULL OR metric_name = ANY($4)) \
                 ORDER BY recorded_at, id";
    let (job, after, until) = (format!("{HOST}{}", wanted.host), seconds(wanted.after), seconds(wanted.until));
    let parameters: [&(dyn ToSql + Sync); 4] = [&job, &after, &until, &wanted.names];
    let mut rows = pin!(client.query_raw(query, parameters).await?);
    while let Some(row) = rows.try_next().await? {
        let metadata: Option<&str> = row.try_get(4)?;
        let (time, stage, name, value) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        each(Row { time, stage, name, value, metadata });
    }
    Ok(())
}

/// As SQLite has times: text that sorts as it counts.
fn stamp(time: Millis) -> String {
    Timestamp::from_millis(time).to_string()
}

fn millis(text: &str) -> Option<Millis> {
    text.parse().ok().map(Timestamp::as_millis)
}

fn seconds(time: Millis) -> f64 {
    time as f64 / 1000.0
}

/// The library's own text of a refusal is "db error".
fn sentence(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

fn failed(place: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Failed(format!("can't read history from {place}: {error}"))
}
