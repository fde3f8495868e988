//! `utilizer-jobs`: runs the commands that its own configuration names, and nothing else.
//!
//! Whoever may open its Unix socket asks for a job by name and hands in JSON. What is run, as whom, how often and for how
//! long stands in this daemon's configuration, out of reach of those who ask: an agent that is taken over can ask for what
//! was allowed, and no more.
//!
//! Each command is noted before it starts, in the audit and in the state file, both synced: a request that comes twice under
//! one id never runs twice, also over a crash.

mod accounts;
mod admission;
mod argv;
mod audit;
mod clock;
mod command;
pub mod config;
mod desk;
mod journal;
mod limits;
mod metrics;
mod output;
mod pages;
mod remembered;
mod result;
mod service;

pub use service::{Reload, Service, ServiceError};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
