//! Prometheus' rule files.
//!
//! Strict, as Prometheus is: what is not known is refused. Every fault of every file is found at once, with file, line and
//! column, those within an expression or a template too. Messages are Prometheus' own where it has one (`model/rulefmt`).

mod place;
mod written;

use std::collections::BTreeMap;
use std::fmt;

use crate::ast::{Expr, Millis};
use crate::needs::{Need, needs};
use crate::template::Template;

/// The shortest interval of a group.
pub const MIN_INTERVAL: Millis = 100;
/// How many rules all files together may hold.
pub const MAX_RULES: usize = 10_000;
/// How long a file may be, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// The rules of all files.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// In the order of the files.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated one after the other.
#[derive(Debug, Clone)]
pub struct Group {
    /// The file that it stands in.
    pub file: String,
    /// Its name, which no other group of the file has.
    pub name: String,
    /// How often it is evaluated, if it says so.
    pub interval: Option<Millis>,
    /// Its expressions are evaluated as if it were so long ago.
    pub query_offset: Millis,
    /// How many alerts or series a rule may make; 0 is any number.
    pub limit: usize,
    /// In the order of the file.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Of the alert, or of the metric that is recorded.
    pub name: String,
    /// What is evaluated.
    pub expr: Expr,
    /// What comes of it.
    pub action: Action,
    /// Where it stands in its file: line and column, from 1.
    pub place: (usize, usize),
    /// Expressions that its templates query, as far as they can be known before.
    pub queries: Vec<Expr>,
}

/// What a rule makes.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Series under a new name.
    Record {
        /// Set on each of them; an empty value removes the label. Sorted.
        labels: Vec<(String, String)>,
    },
    /// Alerts.
    Alert {
        /// How long the expression has to hold before one fires.
        hold: Millis,
        /// How long it fires on when the expression holds no more.
        keep_firing: Millis,
        /// Set on each of them. Sorted.
        labels: Vec<(String, Template)>,
        /// What they say to people. Sorted.
        annotations: Vec<(String, Template)>,
    },
}

impl Rule {
    /// Whether it makes alerts.
    pub fn is_alert(&self) -> bool {
        matches!(self.action, Action::Alert { .. })
    }

    /// Its labels as they are written, with those of its group.
    pub fn labels(&self) -> Vec<(&str, &str)> {
        match &self.action {
            Action::Record { labels } => labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
            Action::Alert { labels, .. } => labels.iter().map(|(n, v)| (n.as_str(), v.text())).collect(),
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which file.
    pub file: String,
    /// From 1; 0 where it is about the whole file.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What, and what to do.
    pub message: String,
    /// What of PromQL is not evaluated here, as [`REFUSED`](crate::functions::REFUSED) names it.
    pub construct: Option<&'static str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

impl std::error::Error for Fault {}

impl Rules {
    /// Reads files: each its path, which is only a name here, and its text. All faults of all of them, or all rules.
    pub fn load<P: AsRef<str>, T: AsRef<str>>(files: &[(P, T)]) -> Result<Self, Vec<Fault>> {
        let (mut rules, mut faults) = (Self::default(), Vec::new());
        for (file, text) in files {
            match written::read(file.as_ref(), text.as_ref()) {
                Ok(groups) => rules.groups.extend(groups),
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() && rules.count() > MAX_RULES {
            let file = files.last().map_or("", |(file, _)| file.as_ref()).to_owned();
            let message = format!("there are {} rules; {MAX_RULES} are the most", rules.count());
            faults.push(Fault { file, line: 0, column: 0, message, construct: None });
        }
        if faults.is_empty() { Ok(rules) } else { Err(faults) }
    }

    /// How many rules there are.
    pub fn count(&self) -> usize {
        self.groups.iter().map(|group| group.rules.len()).sum()
    }

    /// What samples have to be kept for all rules: each selector once, with the longest look back.
    pub fn needs(&self) -> Vec<Need> {
        let mut all: BTreeMap<String, Need> = BTreeMap::new();
        for group in &self.groups {
            for expr in group.rules.iter().flat_map(|rule| std::iter::once(&rule.expr).chain(&rule.queries)) {
                for mut need in needs(expr) {
                    need.back = need.back.saturating_add(group.query_offset);
                    let known = all.entry(need.selector.to_string()).or_insert_with(|| need.clone());
                    known.back = known.back.max(need.back);
                }
            }
        }
        all.into_values().collect()
    }
}

#[cfg(test)]
mod tests;
