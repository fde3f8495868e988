//! The exporter between a real broker and real Alertmanagers.

// A test that panics has said enough.
#![allow(clippy::unwrap_used)]

mod it {
    mod alerts;
    mod attack;
    mod cluster;
    mod command;
    mod support;
}
