//! An append-only log of numbered records in one folder, and small files beside it.
//!
//! One [`Log`] appends, syncs and trims; any number of [`Reader`]s read what it has appended, on other threads if need be. What
//! stands on disk, what must hold, and what each crash leaves: `docs/spool-format.md`.
//!
//! The log knows no record's meaning, has no bound of its own and no thread. Its owner decides when to sync, when to
//! [drop](Log::drop_oldest) the oldest segment, and what to declare before.

mod cursor;
mod disk;
mod error;
mod format;
mod inspect;
mod log;
mod open;
mod reader;
mod reserve;
mod scan;
mod shared;
pub mod state;
#[cfg(test)]
mod tests;

pub use error::{AppendError, OpenError, ReadError};
pub use format::LARGEST_RECORD;
pub use inspect::{LogReport, Report, inspect};
pub use log::{Log, Options, SegmentInfo, Syncer, Trim};
pub use open::{BadSegment, Recovered};
pub use reader::{Entry, Reader};
pub use reserve::Reserve;
