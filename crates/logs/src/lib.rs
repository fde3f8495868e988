//! What lines of logs mean, what of them may leave the host, and what is counted of them.
//!
//! A [`Plan`] is an input as the configuration has it. A [`Stream`] takes the lines of one file or connection and makes
//! [records](wire::messages::LogRecord) of them; a [`Policy`] decides for all streams of an input which of those leave the
//! host, and counts. Values only: no I/O, no clock, no async. Time comes in as a parameter.

mod columns;
mod counts;
pub mod formats;
mod latency;
mod levels;
mod multiline;
mod origin;
mod pattern;
pub mod plan;
mod policy;
pub mod redact;
mod rules;
pub mod sections;
mod stream;
mod time;

pub use counts::{Counter, Counts};
pub use origin::Origin;
pub use plan::{Plan, Plans, Source};
pub use policy::Policy;
pub use redact::Redactor;
pub use sections::{LogsSection, RedactSection};
pub use stream::Stream;
