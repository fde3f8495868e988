//! Rules, evaluated on the host.
//!
//! A thread of its own keeps the samples that rules look at (`crates/rules`), fed with each interval's reading, and
//! evaluates each group when it is due. What recording rules make, and `ALERTS`, joins the next snapshot; transitions of
//! alerts go into the spool; the alerts that fire are a retained message. Without rules the thread sleeps.

mod answer;
mod files;
mod runner;
mod series;
mod states;
#[cfg(test)]
mod tests;
mod told;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use answer::{answer, fault};
pub use files::load;
pub use runner::{Describe, Firing, Handle, Parts, QueryError, Running, spawn};
pub use series::Shared;
pub use told::{Evaluation, Told};

/// `[rules]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesSection {
    /// Rule files, or patterns of them.
    pub files: Vec<String>,
    /// How often a group is evaluated that does not say so.
    #[serde(with = "daemon::config::duration")]
    pub interval: Duration,
    /// The label `job` of everything that this host measures, for rules.
    pub job: String,
    /// The label `instance`; the host's name where absent.
    pub instance: Option<String>,
    /// Whether alerts stay what they are while what their rules look at can't be read.
    pub keep_last_state_on_missing: bool,
    /// The most series that are kept.
    pub max_series: usize,
    /// The most that their samples may take.
    #[serde(with = "daemon::config::size")]
    pub max_bytes: u64,
    /// How far back a rule may look.
    #[serde(with = "daemon::config::duration")]
    pub max_history: Duration,
    /// Where people find this host, for templates.
    pub external_url: String,
}

impl Default for RulesSection {
    fn default() -> Self {
        Self {
            files: vec!["/etc/utilizer/rules.d/*.yml".to_owned()],
            interval: Duration::from_secs(10),
            job: "node".to_owned(),
            instance: None,
            keep_last_state_on_missing: false,
            max_series: 10_000,
            max_bytes: 64 << 20,
            max_history: Duration::from_secs(8 * 86_400),
            external_url: String::new(),
        }
    }
}

/// Rules as they were read, for whoever evaluates them: they are large, and there shall be one of them.
#[derive(Debug, Clone, Default)]
pub struct Fresh(Arc<Mutex<Option<rules::Rules>>>);

impl Fresh {
    /// Holds them until they are taken.
    pub fn new(rules: rules::Rules) -> Self {
        Self(Arc::new(Mutex::new(Some(rules))))
    }

    /// Takes them; none the second time.
    pub fn take(&self) -> rules::Rules {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// How many there are, until they are taken.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, rules::Rules::count)
    }
}
