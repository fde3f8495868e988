//! The crate through its front door.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with its line")]

mod cases;
