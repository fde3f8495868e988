//! What services are called with, held to what they document.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with its line")]

mod cases;
mod support;
