//! The operator's command, from outside.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with its line")]

mod it {
    mod broker;
    mod up;
}
