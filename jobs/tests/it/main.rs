//! `utilizer-jobs` through its front door: the real binary, its socket, signals, exit codes, and what a crash leaves.
#![allow(clippy::unwrap_used, reason = "a panic in a test is a failed test with its line")]

mod abuse;
mod commands;
mod configuration;
mod crash;
mod requests;
mod support;
