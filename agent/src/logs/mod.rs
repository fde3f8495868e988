//! Log inputs: lines of files and other sources on their way into the spool.
//!
//! One thread reads all of them in turns. Lines become records (`crates/logs`), records a batch, and a batch goes into the
//! spool together with the places up to which each stream was read. A place moves with the record of the lines before it or
//! not at all, so that after kill -9 no line is missing and none comes twice. When the spool takes nothing, nothing is read:
//! what waits is safe in its files.

mod batch;
mod feed;
mod files;
pub mod journal;
mod own;
mod runner;
mod source;
pub mod syslog;
mod told;

use std::sync::Arc;

use ::logs::{Plan, Plans};

pub use runner::{Handle, Parts, Running, spawn};
pub use told::Told;

/// What there is to say of an input before it is read: patterns that find nothing, files that can't be read.
pub fn hints(plan: &Plan) -> Vec<String> {
    match plan.source {
        ::logs::Source::Journal { .. } => journal::hints(plan),
        ::logs::Source::Files { .. } => files::hints(plan),
        _ => Vec::new(),
    }
}

/// The inputs that the thread reads.
pub fn inputs(plans: &Plans) -> Vec<Arc<Plan>> {
    plans.inputs.iter().chain(&plans.own).cloned().collect()
}
