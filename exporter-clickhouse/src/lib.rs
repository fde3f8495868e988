//! Writes utilizer's logs and alerts into ClickHouse: the tables `logs` and `alerts`, and the view `otel_logs`.
//!
//! One HTTP client, one insert per table and batch, as a block of ClickHouse's Native format. The schema is made and
//! migrated by [`Sink::open`].
//!
//! # What a failure leaves
//!
//! ClickHouse has no transaction over two inserts. A batch with log lines and alerts is two: the lines first.
//!
//! | it fails | there is | a retry of the same batch |
//! |---|---|---|
//! | before or in the first insert | nothing (an insert of one block into one partition is all or nothing) | writes both |
//! | after an insert, before its answer | its rows | changes nothing there |
//! | between the two | the lines | changes nothing in `logs`, writes the alerts |
//!
//! "Changes nothing" is the work of `insert_deduplication_token`: it is made from the event ids of the rows, so that
//! the same rows carry the same token, whoever sends them. The server compares tokens within one partition alone, and
//! partitions go by the day of `ingested_at`; so the sink asks the server for the time once per batch and says it in
//! the insert, and a retry after midnight says the same. An exporter that is restarted between the two attempts asks
//! anew: rows that were written before midnight and are sent again after it are there twice. So are rows that come
//! again in other company, since they carry another token: redelivered after a crash. Until the tier's ledger settles that, delivery is at least once,
//! with `event_id` to tell.

mod blocks;
mod cells;
mod config;
mod failure;
mod schema;

use std::time::Duration;

use clickhouse::Client;
use clickhouse::native::Block;
use exporter::rows::{Batch, HostRow};
use exporter::sink::{Ledger, Sink, SinkError, Written};
use uuid::Uuid;
use wire::Kind;

pub use config::ClickHouseConfig;

use cells::Seconds;
use failure::{fatal, schema_error, sink_error};

/// Answers to anything but an insert come within this time, or the server counts as away.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for an insert, which also waits for merges where parts pile up.
const INSERT_PATIENCE: Duration = Duration::from_secs(120);

/// Makes tokens ours among all the UUIDs of version 5.
const TOKENS: Uuid = Uuid::from_u128(0x8f21_6c0a_5d3e_4b7f_9a64_2e0d_71c8_b35a);

/// The ClickHouse sink.
#[derive(Debug)]
pub struct ClickHouse {
    config: ClickHouseConfig,
    client: Option<Client>,
    logs: Table,
    alerts: Table,
}

/// A table, and the last insert into it.
#[derive(Debug)]
struct Table {
    name: &'static str,
    last: Option<(Uuid, Seconds)>,
}

impl ClickHouse {
    /// Connects to nothing yet; faults of the configuration show when it is opened.
    pub fn new(config: ClickHouseConfig) -> Self {
        let table = |name| Table { name, last: None };
        Self { config, client: None, logs: table("logs"), alerts: table("alerts") }
    }

    /// Brings the schema up to date; gives how many versions were applied.
    pub async fn migrate(&mut self) -> Result<usize, SinkError> {
        let client = self.config.client()?;
        let migrating = schema::migrate(&client, &self.config);
        let applied = tokio::time::timeout(PATIENCE, migrating).await.map_err(|_| SinkError::Retry {
            doing: format!("opening the database {} at {}", self.config.database, self.config.place()),
            source: silence().into(),
        })??;
        self.client = Some(client.with_database(&self.config.database));
        Ok(applied)
    }
}

impl Sink for ClickHouse {
    const LEDGER: Ledger = Ledger::Beside;

    fn name(&self) -> &'static str {
        "clickhouse"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Logs, Kind::Alerts]
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        // A few reads where all is well: cheap enough to need no memory of what was found the last time.
        self.migrate().await.map(drop)
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        let place = self.config.place();
        let Some(client) = &self.client else {
            return Err(SinkError::Retry {
                doing: format!("writing to ClickHouse at {place}"),
                source: "it is not open yet".into(),
            });
        };
        let rows: Vec<_> = batch.logs().collect();
        if !rows.is_empty() {
            let doing = format!("writing {} rows into {}.logs at {place}", rows.len(), self.config.database);
            let token = token("logs", rows.iter().map(|row| &*row.event_id));
            let ingested_at = self.logs.ingested_at(client, token, &doing).await?;
            let block = blocks::logs(&rows, ingested_at).map_err(|e| fatal(format!("BUG: {doing}"), e))?;
            self.logs.insert(client, &block, token).await.map_err(|e| sink_error(doing, &e))?;
        }
        let rows: Vec<_> = batch.alerts().collect();
        if !rows.is_empty() {
            let doing = format!("writing {} rows into {}.alerts at {place}", rows.len(), self.config.database);
            let token = token("alerts", rows.iter().map(|row| &*row.event_id));
            let ingested_at = self.alerts.ingested_at(client, token, &doing).await?;
            let block = blocks::alerts(&rows, ingested_at).map_err(|e| fatal(format!("BUG: {doing}"), e))?;
            self.alerts.insert(client, &block, token).await.map_err(|e| sink_error(doing, &e))?;
        }
        Ok(Written::default())
    }

    async fn upsert_hosts(&mut self, _: &[HostRow]) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Table {
    /// The server's time at the first attempt to insert what `token` stands for. The server's and not ours, because
    /// its clock is the one that retention goes by.
    async fn ingested_at(&mut self, client: &Client, token: Uuid, doing: &str) -> Result<Seconds, SinkError> {
        if let Some((last, time)) = self.last
            && last == token
        {
            return Ok(time);
        }
        let asking = client.query("SELECT toUnixTimestamp(now())").fetch_one::<u32>();
        let time = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => Seconds(answer.map_err(|e| schema_error(doing, &e))?),
            Err(_) => return Err(SinkError::Retry { doing: doing.to_owned(), source: silence().into() }),
        };
        self.last = Some((token, time));
        Ok(time)
    }

    async fn insert(&self, client: &Client, block: &Block, token: Uuid) -> Result<(), clickhouse::error::Error> {
        // Columns are named, since the server skips what it does not know in a Native block: a foreign table of the
        // same name would swallow them without a word.
        let columns: Vec<_> = block.columns().iter().map(|column| column.name()).collect();
        let mut insert = client
            .insert_native_unescaped(&format!("{} ({})", self.name, columns.join(", ")))
            .with_timeouts(Some(PATIENCE), Some(INSERT_PATIENCE))
            // While a first attempt still runs, the server refuses a second of the same id.
            .with_setting("query_id", token.to_string())
            .with_setting("insert_deduplication_token", token.to_string())
            // Said aloud, since a user's profile may have switched them: an acknowledged insert is in the table, the
            // token counts, in materialised views on the table too.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        insert.write(block).await?;
        insert.end().await
    }
}

/// The same for the same rows in the same order, in every process and version.
fn token<'a>(table: &str, event_ids: impl Iterator<Item = &'a str>) -> Uuid {
    let mut text = table.to_owned();
    for id in event_ids {
        text.push('\n');
        text.push_str(id);
    }
    Uuid::new_v5(&TOKENS, text.as_bytes())
}

fn silence() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_for_table_rows_and_order() {
        let of = |table, ids: &[&'static str]| token(table, ids.iter().copied());
        assert_eq!(of("logs", &["a-1-0", "a-1-1"]), of("logs", &["a-1-0", "a-1-1"]));
        assert_ne!(of("logs", &["a-1-0", "a-1-1"]), of("alerts", &["a-1-0", "a-1-1"]));
        assert_ne!(of("logs", &["a-1-0", "a-1-1"]), of("logs", &["a-1-1", "a-1-0"]));
        assert_ne!(of("logs", &["a-1-0", "a-1-1"]), of("logs", &["a-1-0"]));
        // Retries reach across versions of this program: what it gives is part of the delivery contract.
        assert_eq!(of("logs", &["a-1-0"]).to_string(), "2f1e322e-2e70-56ec-ac21-e325a67e987c");
    }

    #[tokio::test]
    async fn a_retry_says_the_time_of_the_first_attempt() {
        let (first, second) = (token("logs", ["a-1-0"].into_iter()), token("logs", ["a-2-0"].into_iter()));
        let mut table = Table { name: "logs", last: Some((first, Seconds(5))) };
        let nowhere = Client::default().with_url("http://127.0.0.1:1");
        assert_eq!(table.ingested_at(&nowhere, first, "retrying").await.ok(), Some(Seconds(5)));
        assert!(matches!(table.ingested_at(&nowhere, second, "asking").await, Err(SinkError::Retry { .. })));
    }
}
