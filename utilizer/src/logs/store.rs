//! Where the table `logs` is: a ClickHouse server, or the file of `utilizer up`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use daemon::config::duration;

use super::clickhouse::ClickHouse;
use super::filter::{Filter, Order};
use super::row::Row;
use super::sqlite::Sqlite;
use crate::command::CommandError;

/// The environment's password of ClickHouse.
const PASSWORD: &str = "UTILIZER_CLICKHOUSE_PASSWORD";

/// The store.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// ClickHouse's HTTP interface.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8123")]
    clickhouse: String,
    /// Its database.
    #[arg(long, value_name = "NAME", default_value = "utilizer")]
    database: String,
    /// Its user; the server's `default` if not given.
    #[arg(long = "user", value_name = "NAME")]
    user: Option<String>,
    /// A file whose first line is the user's password; or UTILIZER_CLICKHOUSE_PASSWORD.
    #[arg(long = "user-password-file", value_name = "FILE")]
    user_password_file: Option<PathBuf>,
    /// Authorities to trust with https, PEM; the system's if not given.
    #[arg(long = "clickhouse-ca-file", value_name = "FILE")]
    clickhouse_ca_file: Option<PathBuf>,
    /// Not ClickHouse, but the SQLite file of `utilizer up` or of the SQLite exporter.
    #[arg(long, value_name = "FILE", conflicts_with = "clickhouse")]
    sqlite: Option<PathBuf>,
    /// The longest time to wait for the store's answer, and for each further part of it.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    store_timeout: Duration,
}

/// An open store.
#[derive(Debug)]
pub enum Store {
    /// A server.
    ClickHouse(ClickHouse),
    /// A file.
    Sqlite(Sqlite),
}

impl StoreArgs {
    /// Opens it. A server is not asked before the first question.
    pub fn open(&self) -> Result<Store, CommandError> {
        if let Some(path) = &self.sqlite {
            return Sqlite::open(path).map(Store::Sqlite);
        }
        let password = match &self.user_password_file {
            None => std::env::var(PASSWORD).ok(),
            Some(file) => Some(first_line(file)?),
        };
        ClickHouse::new(
            &self.clickhouse,
            &self.database,
            self.user.as_deref(),
            password.as_deref(),
            self.clickhouse_ca_file.clone(),
            self.store_timeout,
        )
        .map(Store::ClickHouse)
    }
}

fn first_line(file: &std::path::Path) -> Result<String, CommandError> {
    let text = daemon::config::file::read_text(file).map_err(|error| {
        CommandError::Usage(format!("--user-password-file: can't read {}: {error}", file.display()))
    })?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => {
            Err(CommandError::Usage(format!("--user-password-file: the first line of {} is empty", file.display())))
        }
    }
}

impl Store {
    /// Gives the lines that are asked for, one at a time. `each` may end it by an error.
    pub async fn rows(
        &self,
        filter: &Filter,
        order: Order,
        limit: Option<u64>,
        each: &mut (dyn FnMut(Row) -> Result<(), CommandError> + Send),
    ) -> Result<(), CommandError> {
        match self {
            Self::ClickHouse(server) => server.rows(filter, order, limit, each).await,
            Self::Sqlite(file) => file.rows(filter, order, limit, each),
        }
    }

    /// The server, where something only works there.
    pub fn clickhouse(&self, what: &str) -> Result<&ClickHouse, CommandError> {
        match self {
            Self::ClickHouse(server) => Ok(server),
            Self::Sqlite(_) => Err(CommandError::Usage(format!("{what} is for ClickHouse only, not for --sqlite"))),
        }
    }
}
