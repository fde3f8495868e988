//! Writes utilizer's telemetry into PostgreSQL: `recap_system_metrics`, `alerts` and `hosts`.
//!
//! One connection, because the tier calls one method at a time. A batch is one transaction of binary COPYs. The
//! schema is made and migrated by [`Sink::open`], day partitions are made on demand.

mod config;
mod copy;
mod error;
mod file;
mod migrate;
mod partitions;

use std::future::Future;
use std::time::{Duration, SystemTime};

use exporter::rows::{Batch, HostRow};
use exporter::sink::{Ledger, Sink, SinkError, Written};
use tokio_postgres::types::Json;
use tokio_postgres::{Client, NoTls};
use wire::{Kind, Timestamp};

pub use config::PostgresConfig;
pub use file::{Configuration, PostgresSection};

use config::Place;
use error::{schema_error, sink_error};
use partitions::Partitions;

/// A server that answers nothing for so long is taken as gone, and its connection is given up. A full batch takes
/// well under a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Said to the server for each session, each a little less than `PATIENCE` or as much: a call that was given up here
/// must not go on waiting there, one backend more with each attempt, and a transaction whose member lost its machine
/// must not keep its locks until TCP notices.
const SESSION: &str = "SET statement_timeout = '50s';
     SET lock_timeout = '30s';
     SET idle_in_transaction_session_timeout = '60s'";

/// The PostgreSQL sink.
#[derive(Debug)]
pub struct Postgres {
    config: PostgresConfig,
    place: Place,
    client: Option<Client>,
    partitions: Partitions,
}

impl Postgres {
    /// Connects to nothing yet.
    pub fn new(config: PostgresConfig) -> Self {
        Self { config, place: Place::default(), client: None, partitions: Partitions::default() }
    }

    /// Connects and brings the schema up to date; gives how many versions were applied.
    pub async fn migrate(&mut self) -> Result<usize, SinkError> {
        self.connect().await
    }

    async fn connect(&mut self) -> Result<usize, SinkError> {
        let (config, place) = self.config.resolve()?;
        self.place = place;
        self.client = None;
        let place = &self.place;
        let doing = "connecting to";
        // The client's own bound ends with the TCP connection, which a kernel accepts for a server that is stopped.
        let patience = config.get_connect_timeout().copied().unwrap_or(PATIENCE);
        let patience = patience.saturating_mul(u32::try_from(config.get_hosts().len()).unwrap_or(1).max(1));
        let (mut client, connection) = self
            .bounded(patience, doing, async {
                config.connect(NoTls).await.map_err(|e| schema_error(format!("{doing} postgres at {place}"), e))
            })
            .await?;
        // It ends with the client, or when the server goes away; whatever went wrong then reaches the next call.
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("the connection to postgres ended: {e}");
            }
        });
        let mut partitions = Partitions::default();
        let applied = self
            .bounded(PATIENCE, "opening", async {
                let setting = format!("setting the timeouts of postgres at {place}");
                client.batch_execute(SESSION).await.map_err(|e| schema_error(setting, e))?;
                let applied = migrate::migrate(&mut client, place).await?;
                partitions.ensure(&mut client, place, std::iter::empty(), now(), self.config.retention).await?;
                Ok(applied)
            })
            .await?;
        self.partitions = partitions;
        self.client = Some(client);
        Ok(applied)
    }

    /// The connection, taken out for one call. A call that is cut off keeps it, and it closes: what state it was
    /// in can't be known.
    fn take(&mut self, doing: &str) -> Result<Client, SinkError> {
        self.client.take().filter(|client| !client.is_closed()).ok_or_else(|| SinkError::Retry {
            doing: format!("{doing} postgres at {}", self.place),
            source: "the connection is closed".into(),
        })
    }

    /// Puts the connection back after a call, unless the call's failure may have left it broken.
    fn give_back(&mut self, client: Client, result: &Result<(), SinkError>) {
        if !matches!(result, Err(SinkError::Retry { .. })) {
            self.client = Some(client);
        }
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
        let Ok(mut client) = self.take("checking") else {
            return self.connect().await.map(drop);
        };
        let mut partitions = std::mem::take(&mut self.partitions);
        let place = self.place.clone();
        let doing = "checking";
        let result = self
            .bounded(PATIENCE, doing, async {
                client.check_connection().await.map_err(|e| schema_error(format!("{doing} postgres at {place}"), e))?;
                partitions.ensure(&mut client, &place, std::iter::empty(), now(), self.config.retention).await
            })
            .await;
        self.partitions = partitions;
        self.give_back(client, &result);
        result
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        let doing = "writing to";
        let mut client = self.take(doing)?;
        let mut partitions = std::mem::take(&mut self.partitions);
        let place = self.place.clone();
        let result = self
            .bounded(PATIENCE, doing, async {
                let times = batch.metrics().map(|row| row.recorded_at);
                partitions.ensure(&mut client, &place, times, now(), self.config.retention).await?;
                copy::write(&mut client, batch).await.map_err(|e| sink_error(format!("{doing} postgres at {place}"), e))
            })
            .await;
        self.partitions = partitions;
        self.give_back(client, &result);
        result.map(|()| Written::default())
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        let doing = "writing the states of hosts to";
        let client = self.take(doing)?;
        let result = self
            .bounded(PATIENCE, doing, async {
                for host in hosts {
                    let failed = |e| sink_error(format!("{doing} postgres at {}", self.place), e);
                    upsert(&client, host).await.map_err(failed)?;
                }
                Ok(())
            })
            .await;
        self.give_back(client, &result);
        result
    }
}

/// A last will knows neither interval nor inventory: what the birth said stays.
async fn upsert(client: &Client, host: &HostRow) -> Result<(), tokio_postgres::Error> {
    client
        .execute(
            "INSERT INTO hosts (host, state, version, boot, interval_seconds, inventory, seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (host) DO UPDATE SET
                 state = excluded.state, version = excluded.version, boot = excluded.boot,
                 interval_seconds = coalesce(excluded.interval_seconds, hosts.interval_seconds),
                 inventory = coalesce(excluded.inventory, hosts.inventory),
                 seen_at = CASE WHEN $8 THEN greatest(hosts.seen_at, excluded.seen_at) ELSE excluded.seen_at END",
            &[
                &host.host,
                &host.state,
                &host.version,
                &host.boot.as_str(),
                &host.interval_seconds,
                &host.inventory.as_ref().map(Json),
                &copy::system_time(host.seen_at),
                &host.retained,
            ],
        )
        .await
        .map(drop)
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
