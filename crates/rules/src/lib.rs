//! Prometheus rule files, evaluated over a short window of samples in memory.
//!
//! Time, samples and storage come in as parameters: no clock, no I/O, no async. What of PromQL is not covered is refused
//! by [`parse`](parse::parse) with its place and its name, never evaluated wrongly.
//!
//! The way of the data: [`Rules::load`] reads rule files, whose expressions [`parse`](parse::parse) makes an
//! [`ast::Expr`] of. What they need ([`Rules::needs`]) is kept in a [`window::Window`]. An [`Engine`](group::Engine) evaluates
//! each group when it is due: [`eval`] gives an expression's value at one moment over a [`Storage`], [`template`] the texts of
//! alerts.

pub mod ast;
mod display;
pub mod eval;
pub mod file;
pub mod functions;
pub mod group;
pub mod labels;
pub mod needs;
pub mod order;
pub mod parse;
pub mod pattern;
pub mod sample;
pub mod template;
pub mod testing;
pub mod window;

pub use eval::evaluate;
pub use file::Rules;
pub use labels::Labels;
pub use needs::{Interest, Need, needs};
pub use parse::{ParseError, parse};
pub use sample::{Sample, Series, Storage, Value};
