//! One binary for every test over the repository as a whole; each subject is a module.

#![allow(clippy::unwrap_used)]

mod e2e;
mod rules;
