//! utilizer's agent: samples a host every interval, is scraped by Prometheus as node_exporter is, and pushes over MQTT.
//!
//! The way of the data: [`collectors`] fill families into a [`snapshot`]; the [`sampler`] does that once an interval and
//! at scrapes, and derives [`gauges`]; [`serve`] shows them; [`message`] puts them on the wire, the [`outbox`] numbers
//! and keeps them, the [`publisher`] sends them; [`probes`] ask services, and what they find joins the next snapshot; [`rules`] are evaluated over the same snapshots, and [`notify`] tells people of their alerts. The library is the whole agent, so that `utilizer up` can run it
//! in its own process; [`app`] is the entry.

pub mod app;
pub mod collectors;
pub mod config;
pub mod exposition;
pub mod gauges;
mod glob;
pub mod host;
pub mod inventory;
pub mod logs;
pub mod message;
pub mod notify;
pub mod outbox;
pub mod own_process;
pub mod pattern;
pub mod probes;
pub mod processes;
pub mod publisher;
pub mod push;
pub mod rules;
pub mod sample;
pub mod sampler;
pub mod scrape;
pub mod serve;
pub mod snapshot;
mod tokens;

/// The agent's version, as it stands in status, metrics and pages.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
