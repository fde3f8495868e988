//! Writes utilizer's telemetry into one SQLite file: the tables of the PostgreSQL exporter, and `logs`.
//!
//! The embedded default of `utilizer up`, and good for one host or a few. SQLite has one writer at a time; readers
//! such as a dashboard go on beside it (write-ahead log). A batch is one transaction, in which the ledger is kept too, so
//! that a record which comes twice makes its rows once.

mod error;
mod file;
mod ledger;
mod retention;
mod store;

use std::path::PathBuf;
use std::time::SystemTime;

use delivery::Identity;
use delivery::ledger::{Entry, Key};
use exporter::rows::{Batch, HostRow};
use exporter::sink::{Ledger, Retained, Sink, SinkError, Written};
use rusqlite::Connection;
use wire::messages::Loss;
use wire::{BootId, HostName, Kind, Timestamp};

pub use file::{Configuration, RetentionSection, SqliteSection};
pub use retention::Limits;

use store::End;

/// What [`Sqlite`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteConfig {
    /// The file. It and its folder are made where they are missing.
    pub path: PathBuf,
    /// How long rows stay.
    pub retention: Limits,
}

impl SqliteConfig {
    /// For a file, with the default retention.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), retention: Limits::default() }
    }
}

/// The SQLite sink.
#[derive(Debug)]
pub struct Sqlite {
    config: SqliteConfig,
    opened: Option<Opened>,
}

/// A file that is open.
#[derive(Debug)]
struct Opened {
    connection: Connection,
    /// Tells it from another one of its name.
    file: Option<(u64, u64)>,
}

impl Sqlite {
    /// Opens nothing yet.
    pub fn new(config: SqliteConfig) -> Self {
        Self { config, opened: None }
    }

    /// Opens the file and brings its schema up to date; gives how many versions were applied.
    pub async fn migrate(&mut self) -> Result<usize, SinkError> {
        let path = self.config.path.clone();
        let (opened, applied) = blocking(move || {
            let (connection, applied) = store::open(&path)?;
            Ok((Opened { connection, file: store::file(&path) }, applied))
        })
        .await??;
        self.opened = Some(opened);
        Ok(applied)
    }

    /// Runs a call on the connection away from the runtime's threads. A call that is cut off keeps the connection,
    /// finishes or rolls back on its own, and closes it.
    ///
    /// A file that was removed can be written for as long as it is open, and nobody finds what it gets: what was done last
    /// does not count then.
    async fn call<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        call: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, SinkError> {
        let Some(mut opened) = self.opened.take() else {
            return Err(SinkError::Retry {
                doing: format!("{doing} the SQLite file {}", self.config.path.display()),
                source: "it is not open".into(),
            });
        };
        let path = self.config.path.clone();
        let (opened, result, is_there) = blocking(move || {
            let result = call(&mut opened.connection);
            let is_there = store::file(&path) == opened.file;
            (opened, result, is_there)
        })
        .await?;
        self.opened = Some(opened);
        if !is_there {
            return Err(SinkError::Fatal {
                doing: format!("{doing} the SQLite file {}", self.config.path.display()),
                source:
                    "it was removed, or replaced, while the exporter ran, which ends now: what it still has in its \
                         spool goes into the file that is there at the next start, or into a new one"
                        .into(),
            });
        }
        result.map_err(|e| error::sink_error(doing, &self.config.path, e))
    }
}

async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, SinkError> {
    tokio::task::spawn_blocking(call).await.map_err(|e| SinkError::Retry {
        doing: "running SQLite on a thread of its own".to_owned(),
        source: Box::new(e),
    })
}

impl Sink for Sqlite {
    const LEDGER: Ledger = Ledger::InStore;

    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Metrics, Kind::Logs, Kind::Alerts, Kind::Pipeline]
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        if self.opened.is_some() {
            return self.call("looking for", |_| Ok(())).await;
        }
        self.migrate().await.map(drop)
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        // The thread may outlive this call, so that it needs rows of its own.
        let batch = batch.clone();
        let write = move |connection: &mut Connection| store::write(connection, &batch, now(), End::Commit);
        Ok(Written { known: self.call("writing to", write).await? })
    }

    async fn rehearse(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let batch = batch.clone();
        let write = move |connection: &mut Connection| store::write(connection, &batch, now(), End::Rollback);
        self.call("trying rows in", write).await.map(drop)
    }

    async fn entries(&mut self, hosts: &[HostName]) -> Result<Vec<(Key, Entry)>, SinkError> {
        let hosts = hosts.to_vec();
        self.call("reading the ledger of", move |connection| ledger::entries(connection, &hosts)).await
    }

    async fn book(&mut self, committed: &[Identity], lost: &[(HostName, Loss)]) -> Result<(), SinkError> {
        let (committed, lost) = (committed.to_vec(), lost.to_vec());
        self.call("writing the ledger of", move |connection| store::book(connection, &committed, &lost, now())).await
    }

    async fn forget(&mut self, untouched_since: Timestamp, named: &[(HostName, BootId)]) -> Result<u64, SinkError> {
        let named = named.to_vec();
        let forget = move |connection: &mut Connection| ledger::forget(connection, untouched_since, &named);
        self.call("cleaning the ledger of", forget).await
    }

    async fn retain(&mut self, now: Timestamp) -> Result<Retained, SinkError> {
        let limits = self.config.retention;
        let retain = move |connection: &mut Connection| retention::retain(connection, limits, now);
        self.call("deleting what is too old from", retain).await
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        let hosts = hosts.to_vec();
        self.call("writing the states of hosts to", move |connection| store::upsert_hosts(connection, &hosts)).await
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
