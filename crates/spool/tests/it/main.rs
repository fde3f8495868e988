//! The log through its front door.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod backlog;
mod damage;
mod model;
mod side_files;

/// A fixed multiplicative sequence instead of random numbers: every run tests the same histories.
struct Sequence(u64);

impl Sequence {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound.max(1)
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }
}

/// In memory where there is such a place: nothing here ends the machine.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
