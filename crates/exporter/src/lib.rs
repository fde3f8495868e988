//! The exporter tier's core.
pub mod rows;
pub mod sink;
