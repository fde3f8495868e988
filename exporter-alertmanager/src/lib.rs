//! Feeds Alertmanagers from the broker: the alerts that hosts raise, and those about hosts that can't raise any.
//!
//! It has no store and no spool: all it knows it hears from what the broker retains, soon after it starts, and from what
//! comes then. It is no delivery group, so that no host waits for it, and may run twice: both tell the same labels, and
//! Alertmanager takes them for one.
//!
//! ```text
//! broker ─► run (decode) ─► fleet (hosts, alerts, judgement) ─► notify::feed ─► sender, one an Alertmanager
//! ```

mod file;
pub mod fleet;
mod metrics;
mod pages;
mod run;
mod sender;

pub use file::{Configuration, Settings};
pub use run::{RunError, run};
