//! What a replay found, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rules::ast::{Expr, Kind, Millis};
use rules::file::{Group, Rule};
use rules::group::RuleFault;
use rules::needs::LOOKBACK;
use rules::parse::duration;
use rules::testing::selectors;
use rules::{Labels, Rules};
use serde_json::{Map, json};
use wire::{Timestamp, Value};

use super::host::{Episode, Name, Outcome, Plan, Sum, usual};
use crate::terminal::{Paint, cell, plain, plain_json, table};

/// Series of alerts themselves.
const OF_ALERTS: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];

/// See the [module](self).
pub(super) struct Report<'a> {
    plan: &'a Plan,
    place: &'a str,
    hosts: usize,
    episodes: Vec<Episode>,
    sums: BTreeMap<Name, (BTreeSet<String>, Sum)>,
    faults: Vec<(String, RuleFault)>,
    found: Vec<bool>,
    gaps: BTreeMap<Millis, u64>,
    readings: u64,
    outages: u64,
    left_out: u64,
}

/// The names that rules record.
pub(super) fn made(rules: &Rules) -> BTreeSet<String> {
    let records = all(rules).filter(|(_, rule)| !rule.is_alert()).map(|(_, rule)| rule.name.clone());
    records.chain(OF_ALERTS.map(str::to_owned)).collect()
}

fn all(rules: &Rules) -> impl Iterator<Item = (&Group, &Rule)> {
    rules.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
}

/// A rule that can't be judged, and why.
struct Doubt<'a> {
    group: &'a Group,
    rule: &'a Rule,
    why: Vec<String>,
}

impl<'a> Report<'a> {
    /// Before any host.
    pub(super) fn new(plan: &'a Plan, place: &'a str, hosts: usize) -> Self {
        Self {
            plan,
            place,
            hosts,
            episodes: Vec::new(),
            sums: BTreeMap::new(),
            faults: Vec::new(),
            found: vec![false; plan.needs.len()],
            gaps: BTreeMap::new(),
            readings: 0,
            outages: 0,
            left_out: 0,
        }
    }

    /// How many episodes there are.
    pub(super) fn episodes(&self) -> usize {
        self.episodes.len()
    }

    /// Whether every rule could be evaluated.
    pub(super) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// Adds a host.
    pub(super) fn add(&mut self, host: &str, outcome: Outcome) {
        self.episodes.extend(outcome.episodes);
        for (name, sum) in outcome.sums {
            let (hosts, all) = self.sums.entry(name).or_default();
            hosts.insert(host.to_owned());
            all.times += sum.times;
            all.within += sum.within;
        }
        for fault in outcome.faults {
            if !self.faults.iter().any(|(_, known)| *known == fault) {
                self.faults.push((host.to_owned(), fault));
            }
        }
        self.found.iter_mut().zip(outcome.found).for_each(|(all, one)| *all |= one);
        for (seconds, count) in outcome.gaps {
            *self.gaps.entry(seconds).or_default() += count;
        }
        self.readings += outcome.readings;
        self.outages += outcome.outages;
        self.left_out += outcome.left_out;
    }

    /// Alerts that did not fire, and could have.
    fn quiet(&self, doubts: &[Doubt<'_>]) -> BTreeSet<&str> {
        let doubted = |rule: &Rule| doubts.iter().any(|doubt| std::ptr::eq(doubt.rule, rule));
        let alerts = all(&self.plan.rules).filter(|(_, rule)| rule.is_alert() && !doubted(rule));
        let fired = |rule: &Rule| {
            let labels = rule.labels();
            let severity = labels.iter().find(|(name, value)| *name == "severity" && !value.contains("{{"));
            self.sums.keys().any(|(name, of)| *name == rule.name && severity.is_none_or(|(_, value)| value == of))
        };
        alerts.filter(|(_, rule)| !fired(rule)).map(|(_, rule)| rule.name.as_str()).collect()
    }

    /// Rules whose series are not there, or not often enough.
    fn doubts(&self) -> Vec<Doubt<'a>> {
        let missing: BTreeSet<String> = self
            .plan
            .needs
            .iter()
            .zip(&self.found)
            .filter(|(need, found)| {
                let name = need.selector.matchers.iter().find(|matcher| matcher.name == rules::sample::NAME);
                // That no alert is there is no lack.
                !**found && !name.is_some_and(|name| OF_ALERTS.contains(&name.value.as_str()))
            })
            .map(|(need, _)| need.selector.to_string())
            .collect();
        let usual = usual(&self.gaps).unwrap_or(0);
        let mut doubts = Vec::new();
        for (group, rule) in all(&self.plan.rules) {
            let mut why = BTreeSet::new();
            for expr in std::iter::once(&rule.expr).chain(&rule.queries) {
                for selector in selectors(expr) {
                    let text = rules::ast::Selector { offset: 0, ..selector.clone() }.to_string();
                    if missing.contains(&text) {
                        why.insert(format!("no series {text}"));
                    }
                }
                for range in ranges(expr).into_iter().filter(|range| *range < 2 * usual) {
                    why.insert(format!("[{}] does not always hold two readings", duration::format(range)));
                }
            }
            if !why.is_empty() {
                doubts.push(Doubt { group, rule, why: why.into_iter().collect() });
            }
        }
        doubts
    }

    /// For people.
    pub(super) fn as_text(&self) -> String {
        let mut text = String::new();
        let usual = usual(&self.gaps);
        let every = usual.map_or_else(String::new, |usual| format!(", mostly one each {}", duration::format(usual)));
        let hosts = if self.hosts == 1 { "1 host".to_owned() } else { format!("{} hosts", self.hosts) };
        let _ = writeln!(
            text,
            "{} to {}, {hosts} of {}: {} readings{every}",
            short(self.plan.from),
            short(self.plan.until),
            plain(self.place),
            self.readings,
        );
        if self.outages > 0 {
            let pauses = if self.outages == 1 { "1 pause".to_owned() } else { format!("{} pauses", self.outages) };
            let _ = writeln!(text, "There are {pauses} of more than 5m, which count as outages of the agents.");
        }
        if usual.is_some_and(|usual| usual > LOOKBACK) {
            text += "Readings are further apart than rules look back (5m): between them everything is gone.\n";
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "For {} samples there was no room: rules select too much.", self.left_out);
        }
        text.push('\n');
        if !self.episodes.is_empty() {
            let head = ["ALERT", "HOST", "FIRES FROM", "TO", "FOR", "VALUE", "LABELS"];
            text += &table(&head, self.episodes.iter().map(|episode| self.row(episode)).collect(), Paint(false));
            let all: u64 = self.sums.values().map(|(_, sum)| sum.times).sum();
            let told = self.episodes.len() as u64;
            if all > told {
                let _ = writeln!(text, "and {} more", all - told);
            }
            text.push('\n');
        }
        if !self.sums.is_empty() {
            let head = ["ALERT", "SEVERITY", "HOSTS", "TIMES", "FIRING FOR"];
            let rows = self.sums.iter().map(|((name, severity), (hosts, sum))| {
                let (hosts, times) = (hosts.len().to_string(), sum.times.to_string());
                let firing = seconds(sum.within);
                vec![cell(plain(name)), cell(plain(severity)), cell(hosts), cell(times), cell(firing)]
            });
            text += &table(&head, rows.collect(), Paint(false));
        }
        let doubts = self.doubts();
        let quiet: Vec<_> = self.quiet(&doubts).into_iter().map(plain).collect();
        if !quiet.is_empty() {
            let _ = writeln!(text, "did not fire: {}", quiet.join(", "));
        }
        for (host, RuleFault { file, group, rule, message }) in &self.faults {
            let _ = writeln!(
                text,
                "{}: rule {} of group {} fails on {}: {}",
                plain(file),
                plain(rule),
                plain(group),
                plain(host),
                plain(message)
            );
        }
        if !doubts.is_empty() {
            text += "\nOf these rules nothing can be said for sure, the history does not have what they look at (agents\n\
                     publish gauges and, under [publish] include, families):\n";
        }
        for Doubt { group, rule, why } in doubts {
            let (line, column) = rule.place;
            let (file, name) = (plain(&group.file), plain(&rule.name));
            let _ = writeln!(text, "  {file}:{line}:{column}: {name}: {}", plain(&why.join("; ")));
        }
        text
    }

    fn row(&self, episode: &Episode) -> Vec<crate::terminal::Cell> {
        let Episode { host, labels, from, to, until, value, .. } = episode;
        let own = labels.filtered(|name| name != "alertname");
        // What the other columns and all alerts of the host say.
        let own = if own.get("instance") == host { own.with("instance", "") } else { own };
        let own = if own.get("job") == self.plan.job { own.with("job", "") } else { own };
        vec![
            cell(plain(labels.get("alertname"))),
            cell(plain(host)),
            cell(short(*from)),
            cell(to.map_or_else(|| "fires on".to_owned(), short)),
            cell(seconds(until - from)),
            cell(value.to_string()),
            cell(plain(&own.to_string())),
        ]
    }

    /// For programs.
    pub(super) fn as_json(&self) -> String {
        let time = |time: Millis| Timestamp::from_millis(time).to_string();
        let mut lines = vec![json!({
            "kind": "history",
            "from": time(self.plan.from),
            "until": time(self.plan.until),
            "hosts": self.hosts,
            "readings": self.readings,
            "seconds_between": usual(&self.gaps).map(|usual| usual / 1000),
            "outages": self.outages,
            "left_out": self.left_out,
        })];
        for Episode { host, labels, active_at, from, to, within, value, .. } in &self.episodes {
            lines.push(json!({
                "kind": "alert",
                "host": host,
                "labels": map(labels),
                "active_at": time(*active_at),
                "from": time(*from),
                "to": to.map(time),
                "seconds": *within as f64 / 1000.0,
                "value": Value(*value),
            }));
        }
        for ((name, severity), (hosts, sum)) in &self.sums {
            let seconds = sum.within as f64 / 1000.0;
            lines.push(json!({
                "kind": "sum", "alert": name, "severity": severity, "hosts": hosts.len(), "times": sum.times, "seconds": seconds,
            }));
        }
        let doubts = self.doubts();
        for name in self.quiet(&doubts) {
            lines.push(json!({"kind": "quiet", "alert": name}));
        }
        for (host, RuleFault { file, group, rule, message }) in &self.faults {
            lines.push(json!({
                "kind": "fault", "host": host, "file": file, "group": group, "rule": rule, "message": message,
            }));
        }
        for Doubt { group, rule, why } in doubts {
            let (line, column) = rule.place;
            lines.push(json!({
                "kind": "doubt", "file": group.file, "line": line, "column": column, "rule": rule.name, "why": why,
            }));
        }
        lines.into_iter().map(|line| plain_json(line.to_string()) + "\n").collect()
    }
}

fn map(labels: &Labels) -> Map<String, serde_json::Value> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// To the second.
fn short(time: Millis) -> String {
    let text = Timestamp::from_millis(time).to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn seconds(duration: Millis) -> String {
    duration::format((duration + 500) / 1000 * 1000)
}

/// The ranges of all range selectors.
fn ranges(expr: &Expr) -> Vec<Millis> {
    let mut found = Vec::new();
    expr.walk(&mut |expr| {
        if let Kind::Matrix(_, range) = &expr.kind {
            found.push(*range);
        }
    });
    found
}
