//! What every utilizer daemon does alike: read its configuration, log, take signals, answer HTTP, stop.
//!
//! Nothing here knows what a daemon is for.

pub use config;

pub mod client;
pub mod http;
pub mod log;
pub mod mqtt;
pub mod shutdown;
pub mod signals;
