//! What applications on this host may hand in over HTTP: log lines and pipeline metrics.
//!
//! A body is one JSON object, an array of them, or one a line (NDJSON). It is taken whole or not at all: a client that
//! gets an error knows that nothing of it was taken, and finds in the answer what was wrong with which record.

mod json;
pub mod logs;
pub mod pipeline;

pub use json::{BodyFault, records};
