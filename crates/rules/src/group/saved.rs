//! The states of alerts as they stand on disk between two runs.

use serde::{Deserialize, Serialize};

use super::alert::{Active, Alert, State};
use crate::Labels;
use crate::ast::Millis;

/// The version of [`Saved`] that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// All states that a restart must not lose. Small: only rules with alerts that are pending or firing stand in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// [`VERSION`].
    pub v: u32,
    pub(super) rules: Vec<SavedRule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedRule {
    pub(super) file: String,
    pub(super) group: String,
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    /// When it was last evaluated.
    pub(super) at: Millis,
    pub(super) alerts: Vec<SavedAlert>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedAlert {
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    /// A text: NaN and infinity are no numbers in JSON.
    value: String,
    active_at: Millis,
    since: Millis,
    /// It fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fired_at: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing_since: Option<Millis>,
}

impl Saved {
    /// Whether nothing is pending and nothing fires.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

pub(super) fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl SavedAlert {
    /// `None` for one that is over.
    pub(super) fn of(active: &Active) -> Option<Self> {
        let alert = &active.alert;
        (alert.state != State::Resolved).then(|| Self {
            labels: pairs(&alert.labels),
            annotations: pairs(&alert.annotations),
            value: alert.value.to_string(),
            active_at: alert.active_at,
            since: active.since,
            fired_at: alert.fired_at,
            missing_since: active.missing_since,
        })
    }

    pub(super) fn active(&self) -> Active {
        let alert = Alert {
            state: if self.fired_at.is_some() { State::Firing } else { State::Pending },
            labels: Labels::new(self.labels.iter().map(|(name, value)| (name, value))),
            annotations: Labels::new(self.annotations.iter().map(|(name, value)| (name, value))),
            value: self.value.parse().unwrap_or(f64::NAN),
            active_at: self.active_at,
            fired_at: self.fired_at,
            resolved_at: None,
        };
        Active { alert, since: self.since, missing_since: self.missing_since, restored: true }
    }
}
