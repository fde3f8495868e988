//! Real servers for tests: PostgreSQL, Redis, nginx, mosquitto, Prometheus, Alertmanager, node_exporter, a mail server and
//! the ClickHouse engine on free loopback
//! ports, in temporary folders; and our own programs, run as a user runs them.
//!
//! Each server is the child of a small shell that stops it and removes its folder as soon as the shell's standard
//! input closes. That happens when the handle is dropped, and just as well when the test binary panics, is killed,
//! or leaves the handle in a `static`: no server outlives its tests, and none is ever looked for by name.
//!
//! A server that is not installed makes the test fail with the command that installs it. Nothing is skipped.

mod alertmanager;
mod clickhouse;
pub mod http;
mod mosquitto;
mod nginx;
mod node_exporter;
mod postgres;
mod program;
mod prometheus;
mod redis;
mod smtp;
mod supervised;
mod tail;

pub use alertmanager::Alertmanager;
pub use clickhouse::{ClickHouse, python, workspace};
pub use mosquitto::Mosquitto;
pub use nginx::Nginx;
pub use node_exporter::NodeExporter;
pub use postgres::{Postgres, Session};
pub use program::{Program, built};
pub use prometheus::{Prometheus, promtool};
pub use redis::Redis;
pub use smtp::Smtp;
pub use supervised::{free_port, wait_for};
