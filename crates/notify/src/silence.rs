//! Silences: what nobody is to be told of for a while, by whom and why.

use rules::labels::{MatchOp, Matcher};
use wire::messages::{self, MatchOperator};
use wire::{LabelSet, Timestamp, VERSION};

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
    /// Of one that was sent or kept. An error is a sentence.
    pub fn read(id: &str, silence: &messages::Silence, origin: Origin) -> Result<Self, String> {
        if silence.matchers.is_empty() {
            return Err("it has no matcher, and would hide everything".to_owned());
        }
        if silence.ends_at <= silence.starts_at {
            return Err("it ends before it begins".to_owned());
        }
        let matchers = silence.matchers.iter().map(|matcher| {
            let operator = match matcher.operator {
                MatchOperator::Equal => MatchOp::Equal,
                MatchOperator::NotEqual => MatchOp::NotEqual,
                MatchOperator::Regex => MatchOp::Regex,
                MatchOperator::NotRegex => MatchOp::NotRegex,
            };
            Matcher::new(&matcher.name, operator, &matcher.value).map_err(|error| error.to_string())
        });
        Ok(Self {
            id: id.to_owned(),
            matchers: matchers.collect::<Result<_, _>>()?,
            starts_at: silence.starts_at,
            ends_at: silence.ends_at,
            created_by: silence.author.clone(),
            comment: silence.comment.clone(),
            origin,
        })
    }

    /// As it is sent and kept.
    pub fn written(&self) -> messages::Silence {
        let matchers = self.matchers.iter().map(|matcher| messages::Matcher {
            name: matcher.name.clone(),
            operator: match matcher.op {
                MatchOp::Equal => MatchOperator::Equal,
                MatchOp::NotEqual => MatchOperator::NotEqual,
                MatchOp::Regex => MatchOperator::Regex,
                MatchOp::NotRegex => MatchOperator::NotRegex,
            },
            value: matcher.value.clone(),
        });
        messages::Silence {
            v: VERSION,
            matchers: matchers.collect(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            author: self.created_by.clone(),
            comment: self.comment.clone(),
        }
    }

    /// Whether it hides labels now.
    pub fn hides(&self, labels: &LabelSet, now: Timestamp) -> bool {
        self.is_active(now) && matcher::all_match(&self.matchers, labels)
    }

    /// The same, on a host: a label that an alert lacks is the host's, so that `host="web-01"` can be silenced.
    pub fn hides_on(&self, host: &LabelSet, labels: &LabelSet, now: Timestamp) -> bool {
        let value = |name: &str| labels.get(name).or_else(|| host.get(name)).unwrap_or_default();
        self.is_active(now) && self.matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)))
    }

    /// Whether its time is now.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}
