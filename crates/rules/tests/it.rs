//! The rule files that are shipped.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with its line")]

mod it {
    mod shipped;
}
