//! Writes utilizer's logs and alerts into ClickHouse: the tables `logs` and `alerts`, and the view `otel_logs`.
//!
//! One insert per table and batch, as blocks of ClickHouse's Native format. The schema is made and migrated by
//! [`Sink::open`].
//!
//! # What a failure leaves
//!
//! ClickHouse has no transaction over two inserts. A batch with log lines and alerts is two, the lines first; more than
//! [`PIECE`] rows of a table are an insert each.
//!
//! | it fails | there is | the same batch again |
//! |---|---|---|
//! | before or in the first insert | nothing (an insert into one partition is all or nothing) | writes all |
//! | after an insert, before its answer | its rows | changes nothing there |
//! | between two | the rows of the first | changes nothing there, writes the second |
//! | while an insert still runs in the server | nothing yet | is refused until it has ended |
//!
//! "Changes nothing" is the work of `insert_deduplication_token`: the batch's token, with the table's name and the piece's
//! number. The server compares tokens within a partition alone, and partitions go by the day of `ingested_at`; all rows
//! of a batch say the same moment, [`Batch::written_at`], also when it is sent again after midnight. It remembers the last
//! 10,000 inserts of a table. "Is refused" is the work of `query_id`, which is the same as the token.
//!
//! The tier looks rows up before it sends a batch again ([`Sink::look_up`]), so that neither the window's length nor a
//! server that lost its memory of tokens decides. Only the loss of the tier's disk makes it at least once: rows that came
//! twice have the same `host` and `event_id`.
//!
//! # Statistics
//!
//! Counts by hour are a projection of `logs`, which stands in the same parts as the rows: no failure in the table above
//! leaves the one without the other, or counts a row twice.
//!
//! # Materialised views of others
//!
//! `deduplicate_blocks_in_dependent_materialized_views` is on, so that a repeated insert is recognized in a view's target
//! too, if that table has a `non_replicated_deduplication_window` (or is replicated). A view that fails fails the insert,
//! whose rows may stand in the table then: the look-up finds them, and the view lacks them.

mod blocks;
mod config;
mod failure;
mod native;
mod schema;

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::Client;
use clickhouse::error::Error;
use exporter::lines::{LogLine, Text};
use exporter::rows::{AlertRow, Batch, HostRow, Record, Rows};
use exporter::sink::{Ledger, Sink, SinkError, Written};
use futures_util::{StreamExt, TryStreamExt, stream};
use wire::{Kind, Timestamp};

pub use config::ClickHouseConfig;

use failure::{is_running, retry, schema_error, sink_error};

/// Answers to anything but an insert come within this time, or the server counts as away.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for an insert, which also waits for merges where parts pile up, and for a look-up.
const INSERT_PATIENCE: Duration = Duration::from_secs(120);

/// The most rows of one insert. Part of the delivery contract: were it changed, a batch that was half written before
/// could be cut otherwise after, under the same tokens.
pub const PIECE: usize = 50_000;

/// A look-up names the batch's hosts if there are no more.
const MOST_HOSTS: usize = 500;

/// The ClickHouse sink.
#[derive(Debug)]
pub struct ClickHouse {
    config: ClickHouseConfig,
    client: Option<Client>,
}

/// One insert.
struct Insert<'a> {
    table: &'static str,
    columns: &'static [&'static str],
    token: String,
    rows: Piece<'a>,
}

enum Piece<'a> {
    Logs(Vec<LogLine<'a>>),
    Alerts(Vec<&'a AlertRow>),
}

impl ClickHouse {
    /// Connects to nothing yet; faults of the configuration show when it is opened.
    pub fn new(config: ClickHouseConfig) -> Self {
        Self { config, client: None }
    }

    /// Brings the schema up to date; gives how many versions were applied.
    pub async fn migrate(&mut self) -> Result<usize, SinkError> {
        let client = self.config.client()?;
        let doing = format!("opening the database {} at {}", self.config.database, self.config.place());
        let applied = bounded(PATIENCE, &doing, schema::migrate(&client, &self.config)).await?;
        self.client = Some(client.with_database(&self.config.database));
        Ok(applied)
    }

    fn client(&self, doing: &str) -> Result<&Client, SinkError> {
        let doing = || format!("{doing} ClickHouse at {}", self.config.place());
        self.client.as_ref().ok_or_else(|| retry(doing(), "it is not open yet"))
    }

    /// `block`: what [`Piece::block`] gives, where that was made ahead.
    async fn insert(
        &self,
        client: &Client,
        insert: &Insert<'_>,
        ingested_at: u32,
        block: Option<Bytes>,
    ) -> Result<(), SinkError> {
        let Insert { table, token, rows, .. } = insert;
        let (place, database) = (self.config.place(), &self.config.database);
        let doing = || format!("writing {} rows into {database}.{table} at {place}", rows.len());
        let mut request = client
            .insert_formatted_with(insert.statement())
            .with_timeouts(Some(PATIENCE), Some(INSERT_PATIENCE))
            // While a first attempt still runs, the server refuses a second of the same id.
            .with_setting("query_id", token)
            .with_setting("insert_deduplication_token", token)
            // Said aloud, since a user's profile may have switched them: an acknowledged insert is in the table, the
            // token counts, in materialised views on the table too, and a running insert is not ended for its like.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("replace_running_query", "0");
        let sending = async {
            request.send(block.unwrap_or_else(|| rows.block())).await?;
            request.send(blocks::ingested(rows.len(), ingested_at)).await?;
            request.end().await
        };
        sending.await.map_err(|e: Error| sink_error(doing(), &e))
    }

    /// Which of these rows are in a table: host and event id.
    async fn stored(
        &self,
        client: &Client,
        insert: &Insert<'_>,
        ingested_at: u32,
    ) -> Result<HashSet<(String, String)>, SinkError> {
        let Insert { table, rows, .. } = insert;
        let (time, first, last) = rows.span();
        let hosts = rows.hosts();
        let among = if hosts.len() <= MOST_HOSTS { " AND host IN ?" } else { "" };
        let sql = format!(
            "SELECT host, event_id FROM {table} WHERE ingested_at = toDateTime(?) \
             AND {time} BETWEEN fromUnixTimestamp64Milli(?) AND fromUnixTimestamp64Milli(?){among}"
        );
        let mut query = client.query(&sql).bind(ingested_at).bind(first).bind(last);
        if !among.is_empty() {
            query = query.bind(hosts.into_iter().collect::<Vec<_>>());
        }
        let doing = format!("looking for rows in {}.{table} at {}", self.config.database, self.config.place());
        let rows = async { query.fetch_all::<(String, String)>().await.map_err(|e| schema_error(&doing, &e)) };
        Ok(bounded(INSERT_PATIENCE, &doing, rows).await?.into_iter().collect())
    }

    /// An insert that was given up here may still run there, and its rows appear after they were looked for. A query of
    /// the same id is refused as long as it does.
    async fn wait_for_nothing(&self, client: &Client, insert: &Insert<'_>) -> Result<(), SinkError> {
        let doing = format!("asking {} whether an insert has ended", self.config.place());
        let asking = async {
            let query = client.query("SELECT 1").with_setting("query_id", &insert.token);
            match query.with_setting("replace_running_query", "0").fetch_one::<u8>().await {
                Ok(_) => Ok(()),
                Err(error) if is_running(&error) => {
                    Err(retry(doing.clone(), format!("the insert {} still runs", insert.token)))
                }
                Err(error) => Err(schema_error(&doing, &error)),
            }
        };
        bounded(PATIENCE, &doing, asking).await
    }
}

/// What [`Sink::write`] sends for a batch: the statement and the body of each insert, for measurements.
pub fn encoded(batch: &Batch) -> Vec<(String, Vec<Bytes>)> {
    let ingested_at = seconds(batch.written_at);
    let blocks = |insert: &Insert<'_>| vec![insert.rows.block(), blocks::ingested(insert.rows.len(), ingested_at)];
    inserts(batch).iter().map(|insert| (insert.statement(), blocks(insert))).collect()
}

impl Insert<'_> {
    /// Columns are named, since the server skips what it does not know in a Native block: a foreign table of the same
    /// name would swallow them without a word.
    fn statement(&self) -> String {
        format!("INSERT INTO {} ({}) FORMAT Native", self.table, self.columns.join(", "))
    }
}

impl Piece<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Logs(rows) => rows.len(),
            Self::Alerts(rows) => rows.len(),
        }
    }

    /// The block but for its last column, which [`blocks::ingested`] gives. One for the whole insert: the server would put
    /// several together again.
    fn block(&self) -> Bytes {
        match self {
            Self::Logs(rows) => blocks::logs(rows),
            Self::Alerts(rows) => blocks::alerts(rows),
        }
    }

    /// The column that the table is sorted by, and the first and last time in it.
    fn span(&self) -> (&'static str, i64, i64) {
        let (column, times): (_, Vec<i64>) = match self {
            Self::Logs(rows) => ("timestamp", rows.iter().map(|row| blocks::nearest(row.timestamp())).collect()),
            Self::Alerts(rows) => ("time", rows.iter().map(|row| blocks::nearest(row.time)).collect()),
        };
        let first = times.iter().copied().min().unwrap_or_default();
        (column, first, times.into_iter().max().unwrap_or_default())
    }

    fn hosts(&self) -> HashSet<&str> {
        match self {
            Self::Logs(rows) => rows.iter().map(|row| row.text(Text::Host)).collect(),
            Self::Alerts(rows) => rows.iter().map(|row| row.host.as_str()).collect(),
        }
    }
}

/// What a batch is written by, in this order: the same for the same batch, whatever the configuration says.
fn inserts(batch: &Batch) -> Vec<Insert<'_>> {
    let logs: Vec<_> = batch.logs().collect();
    let alerts: Vec<_> = batch.alerts().collect();
    let token = |table, number| match number {
        0 => format!("{}-{table}", batch.token),
        _ => format!("{}-{table}-{number}", batch.token),
    };
    let logs = logs.chunks(PIECE).enumerate().map(|(number, rows)| Insert {
        table: "logs",
        columns: &blocks::LOGS,
        token: token("logs", number),
        rows: Piece::Logs(rows.to_vec()),
    });
    let alerts = alerts.chunks(PIECE).enumerate().map(|(number, rows)| Insert {
        table: "alerts",
        columns: &blocks::ALERTS,
        token: token("alerts", number),
        rows: Piece::Alerts(rows.to_vec()),
    });
    logs.chain(alerts).collect()
}

/// A `DateTime`.
fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_millis().div_euclid(1000)).unwrap_or_default()
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
        let client = self.client("writing to")?;
        let inserts = inserts(batch);
        let writing = inserts.iter().map(|insert| self.insert(client, insert, seconds(batch.written_at), None));
        // Without this the futures' lifetimes are too general for the compiler.
        let writing: Vec<_> = writing.collect();
        stream::iter(writing).buffered(self.config.connections.max(1)).try_collect::<Vec<()>>().await?;
        Ok(Written::default())
    }

    fn encode(records: &[&Record]) -> Vec<Bytes> {
        let logs: Vec<LogLine<'_>> = records.iter().flat_map(|record| record.logs()).collect();
        // Alerts are few.
        let whole = !logs.is_empty() && logs.len() <= PIECE;
        if whole && records.iter().all(|record| matches!(record.rows, Rows::Logs(_))) {
            vec![blocks::logs(&logs)]
        } else {
            Vec::new()
        }
    }

    async fn write_encoded(&mut self, batch: &Batch, encoded: Vec<Bytes>) -> Result<Written, SinkError> {
        let client = self.client("writing to")?;
        match (inserts(batch).as_slice(), <[Bytes; 1]>::try_from(encoded)) {
            ([insert], Ok([block])) => {
                self.insert(client, insert, seconds(batch.written_at), Some(block)).await?;
                Ok(Written::default())
            }
            _ => self.write(batch).await,
        }
    }

    async fn upsert_hosts(&mut self, _: &[HostRow]) -> Result<(), SinkError> {
        Ok(())
    }

    async fn look_up(&mut self, batch: &Batch) -> Result<Vec<bool>, SinkError> {
        let client = self.client("looking for rows in")?;
        let inserts = inserts(batch);
        for insert in &inserts {
            self.wait_for_nothing(client, insert).await?;
        }
        let (mut logs, mut alerts) = (HashSet::new(), HashSet::new());
        for insert in &inserts {
            let found = self.stored(client, insert, seconds(batch.written_at)).await?;
            match insert.rows {
                Piece::Logs(_) => logs.extend(found),
                Piece::Alerts(_) => alerts.extend(found),
            }
        }
        let is_in = |stored: &HashSet<(String, String)>, host: &str, id: &str| {
            // Tuples of texts can't be asked for by reference.
            stored.contains(&(host.to_owned(), id.to_owned()))
        };
        let is_there = |rows: &Rows| match rows {
            Rows::Logs(rows) => rows.iter().all(|row| is_in(&logs, row.text(Text::Host), row.text(Text::EventId))),
            Rows::Alert(row) => is_in(&alerts, &row.host, &row.event_id),
            Rows::Metrics(_) => true,
        };
        Ok(batch.records.iter().map(|record| is_there(&record.rows)).collect())
    }
}

/// A call that is given up when the server is silent.
async fn bounded<T>(
    patience: Duration,
    doing: &str,
    call: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    let silence = || format!("no answer within {} s", patience.as_secs());
    tokio::time::timeout(patience, call).await.unwrap_or_else(|_| Err(retry(doing, silence())))
}

#[cfg(test)]
mod tests {
    use exporter::rows::{LogRow, Origin, Record};

    use super::*;

    fn batch(lines: usize) -> Batch {
        let line = LogRow {
            timestamp: Timestamp::from_millis(0),
            level: "INFO",
            level_original: String::new(),
            service_name: String::new(),
            message: String::new(),
            latency_ms: None,
            host: String::new(),
            logger: String::new(),
            environment: String::new(),
            category: String::new(),
            trace_id: String::new(),
            request_id: String::new(),
            fields: Vec::new(),
            event_id: String::new(),
        };
        #[allow(clippy::unwrap_used)]
        let origin = Origin { host: "web-01".parse().unwrap(), kind: Kind::Logs, boot: None, seq: None };
        let record = Record { origin, rows: Rows::Logs(vec![line; lines].into()) };
        Batch { token: "t".to_owned(), records: vec![record], ..Batch::default() }
    }

    /// Retries reach across versions of this program: what it gives is part of the delivery contract.
    #[test]
    fn a_batch_is_always_cut_alike() {
        let cut = |lines| -> Vec<(String, usize)> {
            inserts(&batch(lines)).into_iter().map(|insert| (insert.token, insert.rows.len())).collect()
        };
        assert_eq!(cut(0), []);
        assert_eq!(cut(50_000), [("t-logs".to_owned(), 50_000)]);
        assert_eq!(cut(50_001), [("t-logs".to_owned(), 50_000), ("t-logs-1".to_owned(), 1)]);
    }

    #[test]
    fn what_is_made_ahead_is_what_is_sent() {
        let batch = batch(100);
        let records: Vec<&Record> = batch.records.iter().collect();
        assert_eq!(ClickHouse::encode(&records), [inserts(&batch)[0].rows.block()]);
        assert!(ClickHouse::encode(&[]).is_empty());
        assert!(ClickHouse::encode(&[records[0]; 501]).is_empty(), "more than one insert");
    }
}
