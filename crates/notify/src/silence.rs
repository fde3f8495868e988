//! Silences: what nobody is to be told of for a while, by whom and why.

use rules::labels::Matcher;
use wire::{LabelSet, Timestamp};

use crate::matcher;

/// A silence, its conditions checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Silence {
    /// Its name.
    pub id: String,
    /// What it hides: alerts that fulfil all of them.
    pub matchers: Vec<Matcher>,
    /// From when.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a silence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration.
    File,
    /// This host.
    Host,
    /// The fleet.
    Fleet,
}

impl Silence {
    /// Whether it hides labels now.
    pub fn hides(&self, labels: &LabelSet, now: Timestamp) -> bool {
        self.is_active(now) && matcher::all_match(&self.matchers, labels)
    }

    /// Whether its time is now.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}
