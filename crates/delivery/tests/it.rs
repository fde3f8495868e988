//! The protocol in a simulated fleet.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

extern crate utilizer_delivery as delivery;

mod cases;
mod sim;
