//! The delivery protocol without any I/O: time, messages and disk states come in as values.
//!
//! - [`Sender`]: an agent's side. Which record goes to the broker next, what is freed, what is declared lost.
//! - [`Receiver`]: an exporter's side. What it has of which host, and when it says so.
//! - [`ledger`]: what a group has in its store.
//! - [`fixed`]: batches for stores without transactions.
//! - [`shard`]: which hosts are whose.
//!
//! Nothing here knows a file, a socket or a clock, so that the tests of this crate can put the same machines that the
//! programs run into a simulated fleet, with crashes at every point. The rules and what made them stand in
//! `docs/decisions/0008-delivery-protocol.md`.

pub mod fixed;
mod kinds;
pub mod ledger;
mod random;
pub mod receiver;
pub mod sender;
pub mod shard;

use wire::{BootId, HostName, Kind};

pub use kinds::KindSet;
pub use receiver::Receiver;
pub use sender::Sender;
pub use shard::Shard;

/// What tells a record from every other one, and two copies of it as copies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The host that made it.
    pub host: HostName,
    /// The agent's run.
    pub boot: BootId,
    /// The kind, each of which is numbered on its own.
    pub kind: Kind,
    /// Its number, from 1.
    pub seq: u64,
}

/// A moment: milliseconds of a clock that never goes back, since whatever the caller chose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Later than everything.
    pub const NEVER: Millis = Millis(u64::MAX);

    /// This moment and so many milliseconds.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since an earlier moment; 0 if it is none.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
