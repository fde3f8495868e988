//! A file as it is written, and what has to be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config::{ConfigError, Loaded, Place};
use serde::Deserialize;

use super::place::locate;
use super::{Action, Fault, Group, MAX_BYTES, MIN_INTERVAL, Rule};
use crate::ast::{Expr, Kind, Millis};
use crate::sample::NAME;
use crate::template::Template;

/// At most so many faults of one file are told.
const MAX_FAULTS: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenFile {
    groups: Vec<WrittenGroup>,
}

/// Numbers too are texts here: so the YAML reader need not guess.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenGroup {
    name: String,
    interval: Option<String>,
    query_offset: Option<String>,
    limit: Option<String>,
    labels: BTreeMap<String, String>,
    rules: Vec<WrittenRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenRule {
    record: String,
    alert: String,
    expr: String,
    r#for: Option<String>,
    keep_firing_for: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

pub(super) fn read(file: &str, text: &str) -> Result<Vec<Group>, Vec<Fault>> {
    let whole = |message: String| vec![Fault { file: file.to_owned(), line: 0, column: 0, message, construct: None }];
    if text.len() > MAX_BYTES {
        return Err(whole(format!("the file is longer than {MAX_BYTES} bytes: split it")));
    }
    let loaded: Loaded<WrittenFile> = match config::yaml::load_texts(Path::new(file), text) {
        Ok(loaded) => loaded,
        Err(ConfigError::Faults { faults, .. }) => {
            let fault = |fault: config::Fault| {
                let (line, column) = numbers(Some(&fault.place));
                Fault { file: file.to_owned(), line, column, message: fault.message, construct: None }
            };
            return Err(faults.into_iter().map(fault).collect());
        }
        Err(error) => return Err(whole(error.to_string())),
    };
    let mut reader = Reader { file, text, loaded: &loaded, faults: Vec::new() };
    let mut names = BTreeSet::new();
    let mut groups = Vec::new();
    for (at, group) in loaded.value.groups.iter().enumerate() {
        let path = format!("groups[{at}]");
        if group.name.is_empty() {
            reader.fault(&path, "Groupname must not be empty".to_owned());
        } else if !names.insert(&group.name) {
            let message = format!("groupname: {:?} is repeated in the same file", group.name);
            reader.fault(&format!("{path}.name"), message);
        }
        groups.push(reader.group(group, &path));
    }
    if reader.faults.is_empty() { Ok(groups) } else { Err(reader.faults) }
}

fn numbers(place: Option<&Place>) -> (usize, usize) {
    match place {
        Some(Place::Line(line, column)) => (*line, *column),
        _ => (0, 0),
    }
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    loaded: &'a Loaded<WrittenFile>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn place(&self, path: &str) -> (usize, usize) {
        numbers(self.loaded.place(path))
    }

    fn fault(&mut self, path: &str, message: String) {
        self.fault_at(self.place(path), message, None);
    }

    fn fault_at(&mut self, (line, column): (usize, usize), message: String, construct: Option<&'static str>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { file: self.file.to_owned(), line, column, message, construct });
        }
    }

    /// The place of a byte of a value.
    fn within(&self, path: &str, value: &str, offset: usize) -> (usize, usize) {
        let start = self.place(path);
        locate(self.text, start, value, offset)
    }

    fn duration(&mut self, path: &str, key: &str, context: &str, value: Option<&String>) -> Option<Millis> {
        let value = value?;
        if value == "0" {
            return Some(0);
        }
        match config::duration::parse(value) {
            Ok(duration) => Some(Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)),
            Err(message) => {
                self.fault(&format!("{path}.{key}"), format!("{context}{key}: {message}"));
                None
            }
        }
    }

    fn group(&mut self, group: &WrittenGroup, path: &str) -> Group {
        let context = format!("group {:?}, ", group.name);
        let interval = self.duration(path, "interval", &context, group.interval.as_ref());
        if let Some(interval) = interval.filter(|interval| *interval < MIN_INTERVAL) {
            let message = format!("{context}interval: {interval}ms is too short; {MIN_INTERVAL}ms is the least");
            self.fault(&format!("{path}.interval"), message);
        }
        let query_offset = self.duration(path, "query_offset", &context, group.query_offset.as_ref()).unwrap_or(0);
        let limit = group.limit.as_ref().map_or(Ok(0), |limit| limit.parse::<i64>());
        if limit.is_err() {
            self.fault(&format!("{path}.limit"), format!("{context}limit: expected a whole number"));
        }
        self.labels(&format!("{path}.labels"), &context, &group.labels);
        let mut rules = Vec::with_capacity(group.rules.len());
        for (at, rule) in group.rules.iter().enumerate() {
            let path = format!("{path}.rules[{at}]");
            let name = if rule.record.is_empty() { &rule.alert } else { &rule.record };
            let context = format!("{context}rule {}, {name:?}: ", at + 1);
            rules.extend(self.rule(rule, &group.labels, &path, &context));
        }
        Group {
            file: self.file.to_owned(),
            name: group.name.clone(),
            interval,
            query_offset,
            limit: limit.ok().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
            rules,
        }
    }

    fn labels(&mut self, path: &str, context: &str, labels: &BTreeMap<String, String>) {
        for name in labels.keys().filter(|name| !is_label(name) || *name == NAME) {
            let why = if name == NAME { "the name of a metric is no label here" } else { "letters, digits and _ only" };
            self.fault(&format!("{path}.{name}"), format!("{context}invalid label name: {name}; {why}"));
        }
    }

    fn rule(
        &mut self,
        rule: &WrittenRule,
        group_labels: &BTreeMap<String, String>,
        path: &str,
        context: &str,
    ) -> Option<Rule> {
        let before = self.faults.len();
        let records = !rule.record.is_empty();
        let key = |key: &str| format!("{path}.{key}");
        match (records, rule.alert.is_empty()) {
            (true, false) => {
                self.fault(path, format!("{context}only one of 'record' and 'alert' must be set"));
            }
            (false, true) => self.fault(path, format!("{context}one of 'record' or 'alert' must be set")),
            _ => {}
        }
        let hold = self.duration(path, "for", context, rule.r#for.as_ref());
        let keep_firing = self.duration(path, "keep_firing_for", context, rule.keep_firing_for.as_ref());
        let expr = self.expr(&rule.expr, path, context);
        self.labels(&key("labels"), context, &rule.labels);
        let mut queries = Vec::new();
        // The rule's labels stand over those of its group.
        let mut labels: BTreeMap<&str, (&str, String)> = BTreeMap::new();
        let of_group = path.split_once(".rules[").map_or(path, |(group, _)| group);
        for (from, base) in [(group_labels, of_group), (&rule.labels, path)] {
            labels.extend(from.iter().map(|(n, v)| (n.as_str(), (v.as_str(), format!("{base}.labels.{n}")))));
        }
        let action = if records {
            for (name, given) in [
                ("for", rule.r#for.is_some()),
                ("keep_firing_for", rule.keep_firing_for.is_some()),
                ("annotations", !rule.annotations.is_empty()),
            ] {
                if given {
                    self.fault(&key(name), format!("{context}invalid field '{name}' in recording rule"));
                }
            }
            if !is_metric(&rule.record) {
                let why = if rule.record.contains(['{', '}']) {
                    "braces belong into expr"
                } else {
                    "letters, digits, _ and : only"
                };
                let message = format!("{context}invalid recording rule name: {}; {why}", rule.record);
                self.fault(&key("record"), message);
            }
            let labels = labels.into_iter().map(|(name, (value, _))| (name.to_owned(), value.to_owned())).collect();
            Action::Record { labels }
        } else {
            let mut templates = |reader: &mut Self, what: &str, name: &str, value: &str, path: &str| {
                let template = reader.template(value, path, &format!("{context}{what} {name:?}: "))?;
                let texts = template.queries().iter();
                queries.extend(texts.filter_map(|text| queried(text)));
                Some((name.to_owned(), template))
            };
            let labels = labels
                .into_iter()
                .filter_map(|(name, (value, path))| templates(self, "label", name, value, &path))
                .collect();
            let mut annotations = Vec::new();
            for (name, value) in &rule.annotations {
                let path = format!("{path}.annotations.{name}");
                if !is_label(name) {
                    self.fault(&path, format!("{context}invalid annotation name: {name}; letters, digits and _ only"));
                }
                annotations.extend(templates(self, "annotation", name, value, &path));
            }
            Action::Alert { hold: hold.unwrap_or(0), keep_firing: keep_firing.unwrap_or(0), labels, annotations }
        };
        if self.faults.len() > before {
            return None;
        }
        let name = if records { rule.record.clone() } else { rule.alert.clone() };
        Some(Rule { name, expr: expr?, action, place: self.place(path), queries })
    }

    fn expr(&mut self, text: &str, path: &str, context: &str) -> Option<Expr> {
        if text.is_empty() {
            self.fault(path, format!("{context}field 'expr' must be set in rule"));
            return None;
        }
        let path = format!("{path}.expr");
        match crate::parse(text) {
            Ok(expr) => {
                if matches!(expr.kind, Kind::Text(_) | Kind::Matrix(..) | Kind::Subquery(_)) {
                    self.fault(&path, format!("{context}the expression's result is neither a vector nor a scalar"));
                    return None;
                }
                Some(expr)
            }
            Err(error) => {
                let place = self.within(&path, text, error.span.start);
                let message = format!("{context}could not parse expression: {}", error.message);
                self.fault_at(place, message, error.construct);
                None
            }
        }
    }

    fn template(&mut self, text: &str, path: &str, context: &str) -> Option<Template> {
        match Template::parse(text) {
            Ok(template) => Some(template),
            Err(fault) => {
                let place = self.within(path, text, fault.at);
                self.fault_at(place, format!("{context}{}", fault.message), None);
                None
            }
        }
    }
}

/// A text of a template that may be queried. One that is only a format selects by the names in it: what its verbs become
/// is not known.
fn queried(text: &str) -> Option<Expr> {
    if !text.contains('%') {
        return crate::parse(text).ok();
    }
    let filled = text.replace("%q", "\"1\"").replace("%s", "1").replace("%v", "1").replace("%d", "1");
    let mut expr = crate::parse(&filled).ok()?;
    named_only(&mut expr);
    Some(expr)
}

fn named_only(expr: &mut Expr) {
    match &mut expr.kind {
        Kind::Number(_) | Kind::Text(_) => {}
        Kind::Vector(selector) | Kind::Matrix(selector, _) => selector.matchers.retain(|matcher| matcher.name == NAME),
        Kind::Subquery(subquery) => named_only(&mut subquery.expr),
        Kind::Paren(inner) | Kind::Negated(inner) => named_only(inner),
        Kind::Binary(binary) => {
            named_only(&mut binary.left);
            named_only(&mut binary.right);
        }
        Kind::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(named_only);
            named_only(&mut aggregate.expr);
        }
        Kind::Call(call) => call.args.iter_mut().for_each(named_only),
    }
}

fn is_label(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && is_word(name, "_")
}

fn is_metric(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && is_word(name, "_:")
}

fn is_word(name: &str, signs: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}
