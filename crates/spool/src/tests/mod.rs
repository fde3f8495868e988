//! Crashes and full disks, by a shim under the file operations.

mod crash;
mod full;
pub(crate) mod shim;

/// A fixed multiplicative sequence instead of random numbers: every run tests the same histories.
pub(crate) struct Sequence(pub(crate) u64);

impl Sequence {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound.max(1)
    }
}
