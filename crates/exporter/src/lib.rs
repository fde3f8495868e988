//! The exporter tier's core: subscribe, spool, map to rows, write, confirm.
//!
//! ```text
//! broker ─► tier ─► spool ─► reader (map to rows) ─► writer ─► Sink ─► the store
//!    ▲       │ │      │ fsync    │ can't be read       │ refused
//!    ├─ acks ┼─┼──────┘          └──► dead letters ◄───┤
//!    └───────┘ └─ confirmations ◄──── desk, ledger ◄───┘ committed
//! ```
//!
//! A store is a crate of its own that implements [`sink::Sink`] over [`rows`], and a `main` that hands it to [`cli`].
//! Nothing here knows a database. [`run`] is the whole tier as a future, for use inside another program.

mod beside;
pub mod cli;
pub mod config;
pub mod dead;
mod desk;
pub mod frame;
mod health;
mod import;
pub mod intake;
pub mod jobs;
pub mod lines;
pub mod map;
pub mod metrics;
mod reader;
mod refused;
pub mod rows;
pub mod settings;
pub mod sink;
mod spooler;
mod tier;
mod writer;

pub use settings::Settings;
pub use tier::{RunError, run};
pub use writer::{Backoff, Fatal};
