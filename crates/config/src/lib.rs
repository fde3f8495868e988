//! Configuration: a TOML file, environment variables over it, defaults under it. And YAML, where others set the form.
//!
//! [`load`] reads into a type *as written* (`#[serde(default, deny_unknown_fields)]`) and names every fault at once,
//! with file and line or with the variable. The program then checks values against each other and the machine, and
//! reports further faults through [`Loaded::fault`], so that they too carry their place.

pub mod duration;
pub mod file;
mod load;
pub mod size;
mod tree;
pub mod yaml;

pub use load::{ConfigError, Fault, Loaded, Place, load, load_text, uncomment};
