//! What is asked of the machines and of the simulated fleet.

mod directed;
mod fleet;
mod machines;
mod memory;
mod mutants;
