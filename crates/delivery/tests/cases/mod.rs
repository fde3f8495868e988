//! What is asked of the simulated fleet.

mod fleet;
