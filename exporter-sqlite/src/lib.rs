//! Writes utilizer's telemetry into one SQLite file: the tables of the PostgreSQL exporter, and `logs`.
//!
//! The embedded default of `utilizer up`, and good for one host or a few. SQLite has one writer at a time; readers
//! such as a dashboard go on beside it (write-ahead log).

mod error;
mod file;
mod store;

use std::path::PathBuf;

use exporter::rows::{Batch, HostRow};
use exporter::sink::{Ledger, Sink, SinkError, Written};
use rusqlite::Connection;
use wire::Kind;

pub use file::{Configuration, SqliteSection};

/// What [`Sqlite`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteConfig {
    /// The file. It and its folder are made where they are missing.
    pub path: PathBuf,
}

/// The SQLite sink.
#[derive(Debug)]
pub struct Sqlite {
    config: SqliteConfig,
    connection: Option<Connection>,
}

impl Sqlite {
    /// Opens nothing yet.
    pub fn new(config: SqliteConfig) -> Self {
        Self { config, connection: None }
    }

    /// Opens the file and brings its schema up to date; gives how many versions were applied.
    pub async fn migrate(&mut self) -> Result<usize, SinkError> {
        let path = self.config.path.clone();
        let (connection, applied) = blocking(move || store::open(&path)).await??;
        self.connection = Some(connection);
        Ok(applied)
    }

    /// Runs a call on the connection away from the runtime's threads. A call that is cut off keeps the connection,
    /// finishes or rolls back on its own, and closes it.
    async fn call(
        &mut self,
        doing: &'static str,
        call: impl FnOnce(&mut Connection) -> Result<(), rusqlite::Error> + Send + 'static,
    ) -> Result<(), SinkError> {
        let Some(mut connection) = self.connection.take() else {
            return Err(SinkError::Retry {
                doing: format!("{doing} the SQLite file {}", self.config.path.display()),
                source: "it is not open".into(),
            });
        };
        let (connection, result) = blocking(move || {
            let result = call(&mut connection);
            (connection, result)
        })
        .await?;
        self.connection = Some(connection);
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
        if self.connection.is_some() {
            return Ok(());
        }
        self.migrate().await.map(drop)
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        // The thread may outlive this call, so that it needs rows of its own.
        let batch = batch.clone();
        self.call("writing to", move |connection| store::write(connection, &batch)).await?;
        Ok(Written::default())
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        let hosts = hosts.to_vec();
        self.call("writing the states of hosts to", move |connection| store::upsert_hosts(connection, &hosts)).await
    }
}
