//! The one interface between the tier and a store.

use std::error::Error;
use std::future::Future;

use wire::Kind;

use crate::rows::{Batch, HostRow};

/// A store that takes batches. A new sink is a new crate with one implementation of this and a `main`.
///
/// The tier calls one method at a time and retries, bisects or stops by the [`SinkError`] it gets; a sink holds no
/// queue and no retry loop of its own.
pub trait Sink: Send + 'static {
    /// Its name in the tier's status, in metrics and logs: `postgres`, `clickhouse`, `sqlite`.
    fn name(&self) -> &'static str;

    /// The durable kinds it has a table for.
    fn kinds(&self) -> &'static [Kind];

    /// Connects and brings the schema up to date. Called until it succeeds, and again after [`SinkError::Retry`]
    /// from any other method (the connection may be gone); does nothing where the connection is healthy.
    fn open(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Writes the whole batch or nothing of it. When this returns `Ok`, the rows are committed.
    fn write(&mut self, batch: &Batch) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Inserts or updates one host's state. Sinks without a `hosts` table accept and ignore it.
    fn upsert_host(&mut self, host: &HostRow) -> impl Future<Output = Result<(), SinkError>> + Send;
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
