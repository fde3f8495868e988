//! What is asked of the machines and of the simulated fleet.

mod directed;
mod fleet;
mod memory;
mod mutants;
