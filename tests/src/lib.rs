//! Tests over the repository as a whole: its real binaries against real servers, and its own rules.
//!
//! There is nothing to link here; see `tests/it.rs`.
