//! Real servers for tests: PostgreSQL and mosquitto on free loopback ports, in temporary folders.
//!
//! Each server is the child of a small shell that stops it and removes its folder as soon as the shell's standard
//! input closes. That happens when the handle is dropped, and just as well when the test binary panics, is killed,
//! or leaves the handle in a `static`: no server outlives its tests, and none is ever looked for by name.
//!
//! A server that is not installed makes the test fail with the command that installs it. Nothing is skipped.

mod mosquitto;
mod postgres;
mod supervised;

pub use mosquitto::Mosquitto;
pub use postgres::Postgres;
pub use supervised::{free_port, wait_for};
