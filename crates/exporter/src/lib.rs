//! The exporter tier's core: subscribe, map to rows, batch, write, acknowledge.
//!
//! ```text
//! broker ─► tier (intake, map) ─► hold ─► writer ─► Sink ─► the store
//!    ▲            │ can't be read    │        │ refused
//!    └── acks ────┼── after commit ──┘        │
//!                 └──────► dead letters ◄─────┘
//! ```
//!
//! A store is a crate of its own that implements [`sink::Sink`] over [`rows`], and a `main` that hands it to [`cli`].
//! Nothing here knows a database. [`run`] is the whole tier as a future, for use inside another program.

pub mod cli;
pub mod config;
pub mod dead;
mod health;
mod hold;
pub mod intake;
pub mod jobs;
pub mod map;
pub mod metrics;
pub mod rows;
pub mod settings;
pub mod sink;
mod tier;
mod writer;

pub use settings::Settings;
pub use tier::{RunError, run};
pub use writer::{Backoff, Fatal};
