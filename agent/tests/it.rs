//! The agent's integration tests: one binary, so that the suite links once. A folder is a module here.
#![allow(clippy::unwrap_used, reason = "a panic in a test is a failed test with its line")]

mod binary;
mod golden;
mod peer;
mod scale;
mod shipped;
