//! One connection: its session's settings, its statements, and what is done in one transaction.

use bytes::Bytes;
use exporter::rows::{HostRow, Record};
use tokio_postgres::{Client, Error, Statement};

use crate::copy;
use crate::hosts;
use crate::ledger::{self, Bookings, Ledger};

/// Said to the server for each session.
///
/// The timeouts are each a little less than the patience with the server or as much: a call that was given up here
/// must not go on waiting there, one backend more with each attempt, and a transaction whose member lost its machine
/// must not keep its locks until TCP notices.
///
/// `synchronous_commit` is switched on where the server, the database or the role has it off: then a commit is
/// answered before it is on disk, and a crash of the server would lose records that their hosts have deleted. The
/// other values wait for the server's own disk at least, and stay as they are.
const SESSION: &str = "SET statement_timeout = '50s';
     SET lock_timeout = '30s';
     SET idle_in_transaction_session_timeout = '60s';
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// The ledger locks rows and then looks what was committed meanwhile: each statement must see the newest.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Whether a transaction is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Rollback,
}

/// A connection with prepared statements.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    statements: Option<Statements>,
}

#[derive(Debug)]
struct Statements {
    ledger: Ledger,
    metrics: Statement,
    alerts: Statement,
    hosts: Statement,
}

impl Connection {
    /// Says the session's settings.
    pub(crate) async fn new(client: Client) -> Result<Self, Error> {
        client.batch_execute(SESSION).await?;
        Ok(Self { client, statements: None })
    }

    /// Prepared at the first use: before the schema is up to date there is nothing to prepare for.
    async fn prepare(&mut self) -> Result<(&Client, &Statements), Error> {
        let client = &self.client;
        let statements = match self.statements.take() {
            Some(statements) => statements,
            None => {
                let (ledger, metrics, alerts, hosts) = tokio::try_join!(
                    Ledger::prepare(client),
                    client.prepare(copy::METRICS),
                    client.prepare(copy::ALERTS),
                    client.prepare(hosts::UPSERT),
                )?;
                Statements { ledger, metrics, alerts, hosts }
            }
        };
        Ok((client, self.statements.insert(statements)))
    }

    /// Writes the records that are new and books all, in one transaction. Gives the places of those that are not.
    /// `encoded`: what [`copy::encode_metrics`] made of them.
    pub(crate) async fn write(
        &mut self,
        records: &[&Record],
        encoded: Option<Vec<Bytes>>,
        end: End,
    ) -> Result<Vec<usize>, Error> {
        let (bookings, twice) = Bookings::of(records);
        let (client, statements) = self.prepare().await?;
        let mut known = begin(client, &statements.ledger, &bookings).await?;
        known.extend(twice);
        known.sort_unstable();
        let is_new = |place: &usize| known.binary_search(place).is_err();
        let new: Vec<&Record>;
        let new = if known.is_empty() {
            records
        } else {
            new = records.iter().enumerate().filter(|(place, _)| is_new(place)).map(|(_, record)| *record).collect();
            &new
        };
        let copied = async {
            match encoded.filter(|_| known.is_empty()) {
                Some(pieces) => copy::encoded_metrics(client, &statements.metrics, pieces).await?,
                None => copy::metrics(client, &statements.metrics, new).await?,
            }
            copy::alerts(client, &statements.alerts, new).await
        };
        finish(client, copied.await, end).await?;
        Ok(known)
    }

    /// Books what has no rows.
    pub(crate) async fn book(&mut self, bookings: &Bookings<'_>) -> Result<(), Error> {
        if bookings.is_empty() {
            return Ok(());
        }
        let (client, statements) = self.prepare().await?;
        let begun = begin(client, &statements.ledger, bookings).await.map(drop);
        finish(client, begun, End::Commit).await
    }

    pub(crate) async fn upsert_hosts(&mut self, rows: &[HostRow]) -> Result<(), Error> {
        let (client, statements) = self.prepare().await?;
        hosts::upsert(client, &statements.hosts, rows).await
    }
}

/// Begins a transaction that has its rows of the ledger; gives the places of the records that were booked before.
async fn begin(client: &Client, ledger: &Ledger, bookings: &Bookings<'_>) -> Result<Vec<usize>, Error> {
    if bookings.is_empty() {
        client.batch_execute(BEGIN).await?;
        return Ok(Vec::new());
    }
    loop {
        match tokio::try_join!(biased; client.batch_execute(BEGIN), ledger.take(client, bookings)) {
            Ok(((), Some(known))) => return Ok(known),
            Ok(((), None)) => {
                client.batch_execute("ROLLBACK").await?;
                ledger::make(client, bookings).await?;
            }
            Err(error) => return finish(client, Err(error), End::Rollback).await.map(|()| Vec::new()),
        }
    }
}

/// Ends a transaction. After an error the connection is as before, or broken.
async fn finish(client: &Client, work: Result<(), Error>, end: End) -> Result<(), Error> {
    match work {
        Ok(()) => client.batch_execute(if end == End::Commit { "COMMIT" } else { "ROLLBACK" }).await,
        Err(error) => {
            // Where this fails too, the connection is gone and the next call finds it so.
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}
