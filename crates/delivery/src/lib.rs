//! The delivery protocol without any I/O: time, messages and disk states come in as values.

pub mod ledger;

use wire::{BootId, HostName, Kind};

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
