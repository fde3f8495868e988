//! The agent through its front door: the real binary, a real broker, HTTP, signals, exit codes.

mod abuse;
mod alerts;
mod delivery;
mod denied;
mod formats;
mod gpu;
mod hung;
mod notify;
mod outage;
mod pages;
mod peers;
mod probes;
mod publishing;
mod push;
mod rules;
mod sample;
mod scrape;
mod signals;
mod startup;
pub(crate) mod support;
mod web;
