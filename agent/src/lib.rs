//!
pub mod collectors;
pub mod exposition;
pub mod gauges;
pub mod host;
pub mod processes;
pub mod snapshot;
