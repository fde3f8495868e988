//! Writes utilizer's telemetry into PostgreSQL: `recap_system_metrics`, `alerts` and `hosts`.
//!
//! A batch is one transaction: the ledger's rows are locked, the rows of records that are new go by binary COPY, and
//! all records are booked. With several connections the records are shared out by host, each connection with a
//! transaction of its own: a record is in one of them, and a batch that comes again after a failure finds in the ledger
//! what was committed. The schema is made and migrated by [`Sink::open`], day partitions are made on demand.

mod binary;
mod config;
mod connection;
mod copy;
mod error;
mod file;
mod hosts;
mod ledger;
mod migrate;
mod partitions;
mod retention;
mod time;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use delivery::Identity;
use delivery::ledger::{Entry, Key};
use exporter::rows::{Batch, HostRow, Record};
use exporter::sink::{Ledger, Retained, Sink, SinkError, Written};
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::NoTls;
use tokio_postgres::tls::TlsStream;
use wire::messages::Loss;
use wire::{BootId, HostName, Kind, Timestamp};

pub use config::{PostgresConfig, TlsFiles};
pub use file::{Configuration, PostgresSection, RetentionSection};

use config::Place;
use connection::{Connection, End};
use error::{schema_error, sink_error, worst};
use ledger::Bookings;
use partitions::Partitions;
use retention::Limits;

/// A server that answers nothing for so long is taken as gone, and its connection is given up. A full batch takes
/// well under a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for an hourly retention job, whose statements are many.
const RETENTION_PATIENCE: Duration = Duration::from_secs(300);

/// A part of a batch for a connection of its own has at least so many rows: with fewer, the transaction costs more than
/// is won.
const PART: usize = 500;

/// Drives a connection to its end; whatever went wrong reaches the next call of its client.
fn watched<S, T>(connection: tokio_postgres::Connection<S, T>) -> Pin<Box<dyn Future<Output = ()> + Send>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsStream + Unpin + Send + 'static,
{
    Box::pin(async move {
        if let Err(e) = connection.await {
            tracing::debug!("the connection to postgres ended: {e}");
        }
    })
}

/// The PostgreSQL sink.
#[derive(Debug)]
pub struct Postgres {
    config: PostgresConfig,
    place: Place,
    connections: Vec<Connection>,
    partitions: Partitions,
}

impl Postgres {
    /// Connects to nothing yet.
    pub fn new(config: PostgresConfig) -> Self {
        Self { config, place: Place::default(), connections: Vec::new(), partitions: Partitions::default() }
    }

    /// Connects and brings the schema up to date; gives how many versions were applied.
    pub async fn migrate(&mut self) -> Result<usize, SinkError> {
        self.connections.clear();
        let mut connection = self.connect().await?;
        let (place, retention) = (self.place.clone(), self.config.retention);
        let mut partitions = Partitions::default();
        let applied = self
            .bounded(PATIENCE, "opening", async {
                let applied = migrate::migrate(&mut connection.client, &place).await?;
                partitions.ensure(&mut connection.client, &place, std::iter::empty(), now(), retention).await?;
                Ok(applied)
            })
            .await?;
        self.partitions = partitions;
        self.connections.push(connection);
        Ok(applied)
    }

    async fn connect(&mut self) -> Result<Connection, SinkError> {
        let (config, place) = self.config.resolve()?;
        let tls = self.config.tls(&config)?;
        self.place = place;
        let place = &self.place;
        let doing = "connecting to";
        // The client's own bound ends with the TCP connection, which a kernel accepts for a server that is stopped.
        let patience = config.get_connect_timeout().copied().unwrap_or(PATIENCE);
        let patience = patience.saturating_mul(u32::try_from(config.get_hosts().len()).unwrap_or(1).max(1));
        let (client, connection) = self
            .bounded(patience, doing, async {
                let connected = match tls {
                    None => config.connect(NoTls).await.map(|(client, connection)| (client, watched(connection))),
                    Some(tls) => config.connect(tls).await.map(|(client, connection)| (client, watched(connection))),
                };
                connected.map_err(|e| schema_error(format!("{doing} postgres at {place}"), e))
            })
            .await?;
        // It ends with the client, or when the server goes away.
        tokio::spawn(connection);
        self.bounded(PATIENCE, "opening", async {
            let setting = format!("setting the timeouts of postgres at {place}");
            Connection::new(client).await.map_err(|e| schema_error(setting, e))
        })
        .await
    }

    /// The connections, taken out for one call. A call that is cut off keeps them, and they close: what state they
    /// were in can't be known.
    fn take(&mut self, doing: &str) -> Result<Vec<Connection>, SinkError> {
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain(|connection| !connection.client.is_closed());
        if connections.is_empty() {
            return Err(SinkError::Retry {
                doing: format!("{doing} postgres at {}", self.place),
                source: "the connection is closed".into(),
            });
        }
        Ok(connections)
    }

    /// Does one thing on the first connection, which is given up after a failure that may have left it broken.
    async fn on_first<T>(
        &mut self,
        patience: Duration,
        doing: &str,
        call: impl AsyncFnOnce(&mut Connection, &mut Partitions, &Place) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let mut connections = self.take(doing)?;
        let mut partitions = std::mem::take(&mut self.partitions);
        let place = self.place.clone();
        let first = &mut connections[0];
        let result = self.bounded(patience, doing, call(first, &mut partitions, &place)).await;
        self.partitions = partitions;
        if matches!(result, Err(SinkError::Retry { .. })) {
            connections.remove(0);
        }
        self.connections = connections;
        result
    }

    async fn bounded<T>(
        &self,
        patience: Duration,
        doing: &str,
        call: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        tokio::time::timeout(patience, call).await.unwrap_or_else(|_| {
            Err(SinkError::Retry {
                doing: format!("{doing} postgres at {}", self.place),
                source: format!("no answer within {} s", patience.as_secs()).into(),
            })
        })
    }

    /// Sees to the partitions that a batch needs.
    async fn make_room(&mut self, doing: &str, batch: &Batch) -> Result<(), SinkError> {
        let retention = self.config.retention;
        self.on_first(PATIENCE, doing, async |connection, partitions, place| {
            let times = batch.metrics().map(|row| row.recorded_at);
            partitions.ensure(&mut connection.client, place, times, now(), retention).await
        })
        .await
    }

    async fn send(&mut self, batch: &Batch, encoded: Option<Vec<Bytes>>) -> Result<Written, SinkError> {
        let doing = "writing to";
        self.make_room(doing, batch).await?;
        let mut connections = self.take(doing)?;
        let parts = parts(&batch.records, connections.len());
        let working: Vec<_> = connections.drain(..parts.len().min(connections.len())).collect();
        let place = self.place.clone();
        let idle = connections;
        // It is of all records together.
        let mut encoded = encoded.filter(|_| parts.len() == 1);
        let work = working.into_iter().zip(&parts).map(|(connection, places)| (connection, places, encoded.take()));
        let writing = join_all(work.map(async |(mut connection, places, encoded)| {
            let records: Vec<&Record> = places.iter().filter_map(|place| batch.records.get(*place)).collect();
            let result = connection.write(&records, encoded, End::Commit).await;
            let result = result.map_err(|e| sink_error(format!("{doing} postgres at {place}"), e));
            let keep = !matches!(result, Err(SinkError::Retry { .. }));
            (keep.then_some(connection), result)
        }));
        let done = self.bounded(PATIENCE, doing, async { Ok(writing.await) }).await;
        self.connections = idle;
        let (mut known, mut failure) = (Vec::new(), None);
        for ((connection, result), places) in done?.into_iter().zip(&parts) {
            self.connections.extend(connection);
            match result {
                Ok(found) => known.extend(found.iter().filter_map(|place| places.get(*place)).copied()),
                Err(error) => {
                    failure = Some(match failure {
                        Some(other) => worst(other, error),
                        None => error,
                    });
                }
            }
        }
        known.sort_unstable();
        failure.map_or(Ok(Written { known }), Err)
    }
}

/// Places of records, shared out by host over at most `most` parts of about the same number of rows.
fn parts(records: &[Record], most: usize) -> Vec<Vec<usize>> {
    let rows: usize = records.iter().map(Record::row_count).sum();
    let count = most.min(rows / PART).max(1);
    if count == 1 {
        return vec![(0..records.len()).collect()];
    }
    let mut parts = vec![(0, Vec::new()); count];
    let mut of_host: HashMap<&HostName, usize> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        let part = *of_host.entry(&record.origin.host).or_insert_with(|| {
            let least = parts.iter().enumerate().min_by_key(|(_, (rows, _))| *rows);
            least.map_or(0, |(part, _)| part)
        });
        parts[part].0 += record.row_count() + 1;
        parts[part].1.push(place);
    }
    parts.into_iter().map(|(_, places)| places).filter(|places| !places.is_empty()).collect()
}

impl Sink for Postgres {
    const LEDGER: Ledger = Ledger::InStore;

    fn name(&self) -> &'static str {
        "postgres"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Metrics, Kind::Alerts, Kind::Pipeline]
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        self.connections.retain(|connection| !connection.client.is_closed());
        if self.connections.is_empty() {
            self.migrate().await?;
        } else {
            let retention = self.config.retention;
            self.on_first(PATIENCE, "checking", async |connection, partitions, place| {
                let doing = || format!("checking postgres at {place}");
                connection.client.check_connection().await.map_err(|e| schema_error(doing(), e))?;
                partitions.ensure(&mut connection.client, place, std::iter::empty(), now(), retention).await
            })
            .await?;
        }
        while self.connections.len() < self.config.connections {
            let connection = self.connect().await?;
            self.connections.push(connection);
        }
        Ok(())
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        self.send(batch, None).await
    }

    fn encode(records: &[&Record]) -> Vec<Bytes> {
        copy::encode_metrics(records)
    }

    async fn write_encoded(&mut self, batch: &Batch, encoded: Vec<Bytes>) -> Result<Written, SinkError> {
        self.send(batch, Some(encoded)).await
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        let doing = "writing the states of hosts to";
        self.on_first(PATIENCE, doing, async |connection, _, place| {
            connection.upsert_hosts(hosts).await.map_err(|e| sink_error(format!("{doing} postgres at {place}"), e))
        })
        .await
    }

    async fn retain(&mut self, now: Timestamp) -> Result<Retained, SinkError> {
        let limits = Limits { metrics: self.config.retention, alerts: self.config.alerts_retention };
        self.on_first(RETENTION_PATIENCE, "deleting what is too old from", async |connection, _, place| {
            retention::retain(&mut connection.client, place, limits, now).await
        })
        .await
    }

    async fn rehearse(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let doing = "trying rows in";
        self.make_room(doing, batch).await?;
        self.on_first(PATIENCE, doing, async |connection, _, place| {
            let records: Vec<&Record> = batch.records.iter().collect();
            let result = connection.write(&records, None, End::Rollback).await;
            result.map(drop).map_err(|e| sink_error(format!("{doing} postgres at {place}"), e))
        })
        .await
    }

    async fn entries(&mut self, hosts: &[HostName]) -> Result<Vec<(Key, Entry)>, SinkError> {
        let doing = "reading the ledger of";
        self.on_first(PATIENCE, doing, async |connection, _, place| {
            let entries = ledger::entries(&connection.client, hosts).await;
            entries.map_err(|e| schema_error(format!("{doing} postgres at {place}"), e))
        })
        .await
    }

    async fn book(&mut self, committed: &[Identity], lost: &[(HostName, Loss)]) -> Result<(), SinkError> {
        let doing = "writing the ledger of";
        let bookings = Bookings::book(committed, lost);
        self.on_first(PATIENCE, doing, async |connection, _, place| {
            connection.book(&bookings).await.map_err(|e| schema_error(format!("{doing} postgres at {place}"), e))
        })
        .await
    }

    async fn forget(&mut self, untouched_since: Timestamp, named: &[(HostName, BootId)]) -> Result<u64, SinkError> {
        let doing = "cleaning the ledger of";
        self.on_first(PATIENCE, doing, async |connection, _, place| {
            let forgotten = ledger::forget(&connection.client, untouched_since, named).await;
            forgotten.map_err(|e| schema_error(format!("{doing} postgres at {place}"), e))
        })
        .await
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
