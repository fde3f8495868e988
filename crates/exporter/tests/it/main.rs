//! The tier with sinks in memory, against a real mosquitto.

// A test that panics has said enough.
#![allow(clippy::unwrap_used)]

mod delivery;
mod fixture;
mod memory;
mod tier;
