//! Where a label set stands in a list. The only map of label sets here, so that it is compiled once.

use std::collections::HashMap;

use crate::Labels;

/// Label sets, numbered from 0 in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Labels, usize>);

impl Places {
    /// A label set's number, and whether it is new.
    #[inline(never)]
    pub(super) fn place(&mut self, labels: Labels) -> (usize, bool) {
        let next = self.0.len();
        let place = *self.0.entry(labels).or_insert(next);
        (place, place == next)
    }

    /// The number of one that came.
    #[inline(never)]
    pub(super) fn find(&self, labels: &Labels) -> Option<usize> {
        self.0.get(labels).copied()
    }
}
