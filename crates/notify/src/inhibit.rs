//! Inhibition: while one alert fires, others are not worth telling.

use std::collections::BTreeMap;

use rules::labels::Matcher;
use serde::{Deserialize, Serialize};
use wire::messages::Alert;

use crate::matcher::{all_match, parse_all};

/// `[[notify.inhibit]]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InhibitSection {
    /// The alerts that hide others while they fire.
    pub source_matchers: Vec<String>,
    /// The alerts that are hidden.
    pub target_matchers: Vec<String>,
    /// Labels that both must have with the same values.
    pub equal: Vec<String>,
}

/// A rule as relied upon.
#[derive(Debug, Clone)]
pub struct Inhibit {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
}

/// What fires that hides others, rule by rule: for the values of `equal`, whether one of the sources is not itself a target.
#[derive(Debug)]
pub struct Sources<'a>(Vec<(&'a Inhibit, BTreeMap<Vec<&'a str>, bool>)>);

impl Inhibit {
    /// Checks what was written; an error names the key.
    pub fn new(section: &InhibitSection) -> Result<Self, (&'static str, String)> {
        let matchers = |key: &'static str, texts: &[String]| match parse_all(texts) {
            // Alertmanager takes none for "all"; then one alert hides everything, which nobody wants to write.
            Ok(matchers) if matchers.is_empty() => Err((key, "at least one matcher is needed".to_owned())),
            Ok(matchers) => Ok(matchers),
            Err(error) => Err((key, error)),
        };
        Ok(Self {
            source: matchers("source_matchers", &section.source_matchers)?,
            target: matchers("target_matchers", &section.target_matchers)?,
            equal: section.equal.clone(),
        })
    }

    fn values<'a>(&self, alert: &'a Alert) -> Vec<&'a str> {
        self.equal.iter().map(|name| alert.labels.get(name).unwrap_or_default()).collect()
    }
}

impl<'a> Sources<'a> {
    /// Looks through the alerts that fire.
    pub fn of(rules: &'a [Inhibit], firing: impl Iterator<Item = &'a Alert> + Clone) -> Self {
        let sources = rules.iter().map(|rule| {
            let mut found = BTreeMap::new();
            for alert in firing.clone().filter(|alert| all_match(&rule.source, &alert.labels)) {
                let pure = !all_match(&rule.target, &alert.labels);
                *found.entry(rule.values(alert)).or_insert(false) |= pure;
            }
            (rule, found)
        });
        Self(sources.collect())
    }

    /// Whether an alert is hidden. One that is source and target of a rule is hidden by those only that are not.
    pub fn hide(&self, alert: &Alert) -> bool {
        self.0.iter().any(|(rule, found)| {
            !found.is_empty()
                && all_match(&rule.target, &alert.labels)
                && match found.get(&rule.values(alert)) {
                    Some(pure) => *pure || !all_match(&rule.source, &alert.labels),
                    None => false,
                }
        })
    }
}
