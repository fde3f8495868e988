//! Where lines come from.

use std::time::Instant;

use super::feed::Feed;
use super::told::Counts;
use crate::outbox::Moves;

/// What a source wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to read now.
    Now,
    /// Nothing, before that moment.
    At(Instant),
}

/// An input's way to its lines. All of them are read by one thread, in turns.
pub(crate) trait Source: Send {
    /// Reads a share of what there is, until [`Feed::full`], and waits for nothing.
    fn read(&mut self, feed: &mut Feed<'_>) -> Next;

    /// Adds the places that moved since the last call: everything before them is in the batch now, or was left out on purpose.
    /// Returns whether they should be on the disk soon, if there is no record to go with them.
    fn moved(&mut self, time: i64, moves: &mut Moves) -> bool;

    /// Says what it has of files and faults.
    fn count(&self, counts: &mut Counts);
}
