//! Rules that change labels, or drop what has them: Prometheus' `relabel_configs` and `metric_relabel_configs`.

use regex_lite::Regex;
use rules::order;
use rules::pattern::{anchored, expand};
use serde::{Deserialize, Serialize};

use super::text::is_label_name;

/// The longest value that a replacement may make: they can double it again and again.
const VALUE_BYTES: usize = 64 << 10;

/// Matches everything, and is asked so often that it is not compiled.
const EVERYTHING: &str = "(.*)";

/// Labels in any order, each once, none of them empty.
pub type Pairs = Vec<(String, String)>;

/// A rule as written; Prometheus' keys and defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelabelSection {
    /// Labels whose values are put together.
    pub source_labels: Vec<String>,
    /// What stands between them.
    pub separator: String,
    /// What they have to match, from begin to end.
    pub regex: String,
    /// The label that is set.
    pub target_label: String,
    /// To what: `$1` and `${name}` stand for what the expression found.
    pub replacement: String,
    /// What is done.
    pub action: Action,
}

impl Default for RelabelSection {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            regex: EVERYTHING.to_owned(),
            target_label: String::new(),
            replacement: "$1".to_owned(),
            action: Action::Replace,
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sets a label where the sources match.
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops where the sources are not the same as the target label.
    KeepEqual,
    /// Drops where they are.
    DropEqual,
    /// Copies labels whose names match, under new names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets a label to the sources in small letters.
    Lowercase,
    /// In capital letters.
    Uppercase,
}

/// A rule as relied upon.
#[derive(Debug, Clone)]
pub struct Rule {
    section: RelabelSection,
    /// `None` for [`EVERYTHING`].
    regex: Option<Regex>,
}

impl RelabelSection {
    /// The rule, or what is wrong: a key and a sentence.
    pub fn checked(&self) -> Result<Rule, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let mut fault = |key, what: String| faults.push((key, what));
        let regex = (self.regex != EVERYTHING).then(|| anchored(&self.regex)).transpose().unwrap_or_else(|error| {
            fault("regex", format!("{:?} is no regular expression that can be used: {error}", self.regex));
            None
        });
        for name in self.source_labels.iter().filter(|name| !is_label_name(name)) {
            fault("source_labels", format!("{name:?} is no name of a label"));
        }
        let is_template = self.target_label.contains('$');
        match self.action {
            Action::Replace if is_template => {}
            Action::Replace | Action::KeepEqual | Action::DropEqual | Action::Lowercase | Action::Uppercase => {
                if !is_label_name(&self.target_label) {
                    let what = match self.target_label.as_str() {
                        "" => "is missing: this action needs a label".to_owned(),
                        name => format!("{name:?} is no name of a label"),
                    };
                    fault("target_label", what);
                }
            }
            Action::LabelMap | Action::LabelDrop | Action::LabelKeep => {
                if !self.source_labels.is_empty() || !self.target_label.is_empty() {
                    fault("action", "this action looks at names of labels: it has a regex, and no labels".to_owned());
                }
            }
            Action::Keep | Action::Drop => {}
        }
        if faults.is_empty() { Ok(Rule { section: self.clone(), regex }) } else { Err(faults) }
    }
}

impl Rule {
    fn matches(&self, value: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(value))
    }

    /// The template with what the expression found in the value; `None` where it does not match, or the result is too long.
    fn fill(&self, template: &str, value: &str) -> Option<String> {
        match &self.regex {
            Some(regex) => expand(template, regex, &regex.captures(value)?, VALUE_BYTES),
            None if template == "$1" || template == "$0" => Some(value.to_owned()),
            None if !template.contains('$') => Some(template.to_owned()),
            None => {
                let regex = anchored(EVERYTHING).ok()?;
                expand(template, &regex, &regex.captures(value)?, VALUE_BYTES)
            }
        }
    }

    /// Applies it; `false`: what has these labels is dropped.
    fn apply(&self, labels: &mut Pairs) -> bool {
        let RelabelSection { source_labels, separator, target_label, replacement, action, .. } = &self.section;
        let value = || {
            let values: Vec<&str> = source_labels.iter().map(|name| get(labels, name)).collect();
            values.join(separator)
        };
        match action {
            Action::Keep => return self.matches(&value()),
            Action::Drop => return !self.matches(&value()),
            Action::KeepEqual => return get(labels, target_label) == value(),
            Action::DropEqual => return get(labels, target_label) != value(),
            Action::Replace => {
                let value = value();
                if let Some(target) = self.fill(target_label, &value).filter(|target| is_label_name(target))
                    && let Some(new) = self.fill(replacement, &value)
                {
                    set(labels, &target, &new);
                }
            }
            Action::Lowercase => {
                let value = value().to_lowercase();
                set(labels, target_label, &value);
            }
            Action::Uppercase => {
                let value = value().to_uppercase();
                set(labels, target_label, &value);
            }
            Action::LabelMap => {
                let mut found: Pairs = labels.iter().filter(|(name, _)| self.matches(name)).cloned().collect();
                // As Prometheus: of two that get one name, the last by the alphabet wins.
                order::sort_by(&mut found, &|a, b| a.0.cmp(&b.0));
                for (name, value) in found {
                    if let Some(new) = self.fill(replacement, &name) {
                        set(labels, &new, &value);
                    }
                }
            }
            Action::LabelDrop => labels.retain(|(name, _)| !self.matches(name)),
            Action::LabelKeep => labels.retain(|(name, _)| self.matches(name)),
        }
        true
    }
}

/// Applies rules one after the other; `false`: what has these labels is dropped.
pub fn relabel(rules: &[Rule], labels: &mut Pairs) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// The value of a label; "" where there is none.
pub fn get<'a>(labels: &'a Pairs, name: &str) -> &'a str {
    labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}

/// Sets a label; an empty value removes it.
pub fn set(labels: &mut Pairs, name: &str, value: &str) {
    match labels.iter_mut().find(|(known, _)| known == name) {
        _ if value.is_empty() => labels.retain(|(known, _)| known != name),
        Some(pair) => value.clone_into(&mut pair.1),
        None => labels.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels after rules, in TOML, as `name=value` in the order of the alphabet; `None` where they drop.
    fn applied(rules: &str, labels: &[(&str, &str)]) -> Option<String> {
        #[derive(Deserialize)]
        struct Rules {
            r: Vec<RelabelSection>,
        }
        let rules: Rules = toml::from_str(&format!("r = [{rules}]")).unwrap();
        let rules: Vec<Rule> = rules.r.iter().map(|rule| rule.checked().unwrap()).collect();
        let mut labels: Pairs = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        relabel(&rules, &mut labels).then(|| {
            labels.sort();
            labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn each_action_does_what_prometheus_does() {
        let labels = &[("__name__", "http_total"), ("a", "foo"), ("b", "Bar"), ("c", "baz")];
        let rest = "__name__=http_total a=foo b=Bar c=baz";
        for (rule, expected) in [
            (
                "{source_labels=['a'], regex='f(.*)', target_label='d', replacement='x${1}y'}",
                "a=foo b=Bar c=baz d=xooy",
            ),
            ("{source_labels=['a','b'], target_label='d'}", "a=foo b=Bar c=baz d=foo;Bar"),
            (
                "{source_labels=['a','none'], separator='', target_label='d', replacement='<$1$0>'}",
                "a=foo b=Bar c=baz d=<foofoo>",
            ),
            // Anchored at both ends.
            ("{source_labels=['a'], regex='oo', target_label='d', replacement='x'}", "a=foo b=Bar c=baz"),
            (
                "{source_labels=['a'], regex='f(o+)', target_label='${1}_x', replacement='y'}",
                "a=foo b=Bar c=baz oo_x=y",
            ),
            ("{source_labels=['b'], regex='(B)ar', target_label='${1}-', replacement='y'}", "a=foo b=Bar c=baz"),
            ("{target_label='a', replacement=''}", "b=Bar c=baz"),
            ("{target_label='d', replacement='fixed'}", "a=foo b=Bar c=baz d=fixed"),
            ("{action='keep', source_labels=['a'], regex='foo|x'}", "a=foo b=Bar c=baz"),
            ("{action='drop', source_labels=['a'], regex='fo'}", "a=foo b=Bar c=baz"),
            ("{action='lowercase', source_labels=['b'], target_label='b'}", "a=foo b=bar c=baz"),
            ("{action='uppercase', source_labels=['a','c'], target_label='d'}", "a=foo b=Bar c=baz d=FOO;BAZ"),
            ("{action='labelmap', regex='([ab])', replacement='new_$1'}", "a=foo b=Bar c=baz new_a=foo new_b=Bar"),
            ("{action='labelmap', regex='[ab]', replacement='both'}", "a=foo b=Bar both=Bar c=baz"),
            ("{action='labeldrop', regex='a|c'}", "b=Bar"),
            ("{action='labelkeep', regex='__name__|c'}", "c=baz"),
            ("{action='dropequal', source_labels=['a'], target_label='c'}", "a=foo b=Bar c=baz"),
            ("{action='keepequal', source_labels=['a'], target_label='a'}", "a=foo b=Bar c=baz"),
        ] {
            let expected = format!("__name__=http_total {expected}");
            assert_eq!(applied(rule, labels).as_deref(), Some(expected.as_str()), "{rule}");
        }
        for rule in [
            "{action='keep', source_labels=['a'], regex='fo'}",
            "{action='drop', source_labels=['none'], regex=''}",
            "{action='drop', source_labels=['__name__'], regex='http_.*'}",
            "{action='keepequal', source_labels=['a'], target_label='c'}",
            "{action='dropequal', source_labels=['a'], target_label='a'}",
        ] {
            assert_eq!(applied(rule, labels), None, "{rule}");
        }
        let two = "{target_label='d', replacement='1'}, {action='drop', source_labels=['d'], regex='1'}";
        assert_eq!((applied(two, labels), applied("", labels).as_deref()), (None, Some(rest)));
    }

    #[test]
    fn what_can_not_work_is_refused() {
        for (rule, key, part) in [
            ("regex = '('\ntarget_label = 'a'", "regex", "no regular expression"),
            ("", "target_label", "is missing"),
            ("target_label = 'a-b'", "target_label", "no name of a label"),
            ("action = 'lowercase'\ntarget_label = '$1'", "target_label", "no name of a label"),
            ("action = 'labeldrop'\nsource_labels = ['a']", "action", "names of labels"),
            ("action = 'keep'\nsource_labels = ['1']", "source_labels", "no name of a label"),
        ] {
            let section: RelabelSection = toml::from_str(rule).unwrap();
            let faults = section.checked().unwrap_err();
            assert!(faults[0].0 == key && faults[0].1.contains(part), "{rule}: {faults:?}");
        }
        assert!(toml::from_str::<RelabelSection>("action = 'hashmod'").is_err());
    }
}
