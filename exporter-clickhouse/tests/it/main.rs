//! The sink against the ClickHouse engine.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test's modules are not public, and it may stop at a surprise"
)]

mod command;
mod delivery;
mod failures;
mod queries;
mod rows;
mod schema;
mod server;
mod writing;

use exporter::sink::{Sink, SinkError};
use utilizer_exporter_clickhouse::{ClickHouse, ClickHouseConfig};

use crate::server::Server;

/// The configuration for a database of the test's own.
fn config(server: &Server, database: &str) -> ClickHouseConfig {
    ClickHouseConfig { database: database.into(), ..ClickHouseConfig::new(server.url()) }
}

/// A sink on an empty, migrated database.
async fn open(server: &Server, database: &str) -> ClickHouse {
    let mut sink = ClickHouse::new(config(server, database));
    sink.open().await.unwrap();
    sink
}

/// The text of an error with its causes, after checking what it asks for.
#[track_caller]
fn expect<T: std::fmt::Debug>(result: Result<T, SinkError>, asked: &str) -> String {
    match (result, asked) {
        (Err(SinkError::Retry { doing, source }), "retry")
        | (Err(SinkError::Poison { doing, source }), "poison")
        | (Err(SinkError::Fatal { doing, source }), "fatal") => format!("{doing}: {source}"),
        (other, _) => panic!("expected {asked}, got {other:?}"),
    }
}
