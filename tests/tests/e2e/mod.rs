//! The whole way, over the programs as they are installed: agent → mosquitto → exporters → PostgreSQL, ClickHouse, SQLite.
//!
//! What is looked at comes from elsewhere than what is looked for: numbers from `/proc` and from sysinfo, messages from
//! mosquitto's own clients, rows from `psql` and from the engine's HTTP interface.

mod access;
mod agreement;
mod alerts;
mod audit;
mod boards;
mod crashes;
mod delivery;
mod drill;
mod groups;
mod hosts;
mod oracle;
mod pushes;
mod refusals;
mod simulation;
mod site;
mod sql;
