//! The one interface between the tier and a store.

use std::error::Error;
use std::future::{Future, ready};

use delivery::Identity;
use delivery::ledger::{Entry, Key};
use wire::messages::Loss;
use wire::{BootId, HostName, Kind, Timestamp};

use bytes::Bytes;

use crate::rows::{Batch, HostRow, Record};

/// Where it is written down which records a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// In the store, in the transaction that writes the rows: any number of members may write.
    InStore,
    /// On the tier's disk: the store has no transaction over rows and ledger, so that one member writes the records of
    /// a host, in batches whose boundaries are on its disk before they are sent.
    Beside,
}

/// A store that takes batches. A new sink is a new crate with one implementation of this and a `main`.
///
/// The tier calls one method at a time and retries, bisects or stops by the [`SinkError`] it gets; a sink holds no
/// queue and no retry loop of its own. What it does on several connections at once is its own matter.
pub trait Sink: Send + 'static {
    /// Where its ledger is. Methods of the other way are never called.
    const LEDGER: Ledger;

    /// Its name in the tier's status, in metrics and logs: `postgres`, `clickhouse`, `sqlite`.
    fn name(&self) -> &'static str;

    /// The durable kinds it has a table for.
    fn kinds(&self) -> &'static [Kind];

    /// Connects and brings the schema up to date. Called until it succeeds, and again after [`SinkError::Retry`]
    /// from any other method (the connection may be gone); does nothing where the connection is healthy.
    fn open(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Writes a batch. When this returns `Ok`, its rows are committed, and will survive a crash of the store.
    ///
    /// - [`Ledger::InStore`]: the rows of records that the ledger does not name as committed are written, and every
    ///   record with an identity is booked, in one transaction (or in one for each connection: what a failure leaves
    ///   half done is known by the ledger, and the same batch may come again). Records without an identity are always
    ///   written. A record is booked as a whole: a part of its rows must never be handed over as the record.
    /// - [`Ledger::Beside`]: all rows are written under [`Batch::token`]. A batch that the store has seen under its
    ///   token counts as written; one that it still writes is [`SinkError::Retry`]. After any error some of the rows may
    ///   be there: [`look_up`](Self::look_up) comes before anything else is sent, halves of a refused batch included.
    fn write(&mut self, batch: &Batch) -> impl Future<Output = Result<Written, SinkError>> + Send;

    /// Turns rows into what is sent for them, as far as that depends on nothing else: on the thread that reads the spool,
    /// while the batch before is being written. Of a sink that keeps its ledger beside, the records are of one kind.
    /// Empty: the sink does all of it in [`write`](Self::write).
    fn encode(records: &[&Record]) -> Vec<Bytes> {
        let _ = records;
        Vec::new()
    }

    /// [`write`](Self::write) with what [`encode`](Self::encode) made of exactly these records.
    fn write_encoded(
        &mut self,
        batch: &Batch,
        encoded: Vec<Bytes>,
    ) -> impl Future<Output = Result<Written, SinkError>> + Send {
        let _ = encoded;
        self.write(batch)
    }

    /// Inserts or updates the states of hosts, none of them twice in a call. Sinks without a `hosts` table accept and
    /// ignore them.
    fn upsert_hosts(&mut self, hosts: &[HostRow]) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Deletes what is older than the configured retention. Safe to call at any time, and by several members at once;
    /// meant for once an hour. Each call is bounded: what is left over is deleted by the next one.
    fn retain(&mut self, now: Timestamp) -> impl Future<Output = Result<Retained, SinkError>> + Send {
        let _ = now;
        ready(Ok(Retained::default()))
    }

    /// [`Ledger::InStore`]: does all that [`write`](Self::write) does, and takes it back. `Ok` if the store would take
    /// these rows. The tier finds the rows of a refused record by it, since a record can't be booked in parts.
    fn rehearse(&mut self, batch: &Batch) -> impl Future<Output = Result<(), SinkError>> + Send {
        let _ = batch;
        ready(Ok(()))
    }

    /// [`Ledger::InStore`]: the ledger's entries of these hosts.
    fn entries(&mut self, hosts: &[HostName]) -> impl Future<Output = Result<Vec<(Key, Entry)>, SinkError>> + Send {
        let _ = hosts;
        ready(Ok(Vec::new()))
    }

    /// [`Ledger::InStore`]: books records that have no rows here (dead letters) as committed, and declared losses as
    /// lost, where they are not committed.
    fn book(
        &mut self,
        committed: &[Identity],
        lost: &[(HostName, Loss)],
    ) -> impl Future<Output = Result<(), SinkError>> + Send {
        let _ = (committed, lost);
        ready(Ok(()))
    }

    /// [`Ledger::InStore`]: removes the entries that no call touched since `untouched_since` and whose run is gone by
    /// `delivery::ledger::gone`: `named` has the runs of each host whose status is known, and of other hosts nothing is
    /// removed. Gives how many.
    fn forget(
        &mut self,
        untouched_since: Timestamp,
        named: &[(HostName, BootId)],
    ) -> impl Future<Output = Result<u64, SinkError>> + Send {
        let _ = (untouched_since, named);
        ready(Ok(0))
    }

    /// [`Ledger::Beside`]: for each record of a batch that may have been sent before, whether all its rows are in the
    /// store; `true` for a record without rows. Token and [`Batch::written_at`] must be those of the attempt, which may
    /// still run: then this is [`SinkError::Retry`]. A record of which some rows are missing may have others there.
    fn look_up(&mut self, batch: &Batch) -> impl Future<Output = Result<Vec<bool>, SinkError>> + Send {
        ready(Ok(vec![false; batch.records.len()]))
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Places in [`Batch::records`], in order, of the records that the store had already: none of their rows were
    /// written.
    pub known: Vec<usize>,
}

/// What a retention job took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Whole partitions.
    pub partitions: u64,
    /// Single rows.
    pub rows: u64,
}

/// What the tier shall do about a failure. `source` is the store's own error, printed with its whole chain.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The store is away or busy: the same call may succeed later.
    #[error("{doing}")]
    Retry {
        /// What was being done, as the beginning of a sentence: `connecting to postgres at 127.0.0.1:5432`.
        doing: String,
        /// The store's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store refuses these rows and always will. The tier bisects the batch and dead-letters what is refused alone.
    #[error("{doing}")]
    Poison {
        /// As in `Retry`.
        doing: String,
        /// The store's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nothing can succeed before a person acts: wrong password, missing database, foreign schema.
    #[error("{doing}")]
    Fatal {
        /// As in `Retry`.
        doing: String,
        /// The store's error.
        source: Box<dyn Error + Send + Sync>,
    },
}
