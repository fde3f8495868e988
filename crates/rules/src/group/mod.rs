//! Evaluates rules, and keeps the states of their alerts.
//!
//! An [`Engine`] is driven from outside:
//!
//! ```text
//! loop {
//!     sleep until engine.next(now)
//!     while let Some(due) = engine.due(now) {       // one group
//!         let round = engine.evaluate(&due, &mut store);
//!         announce round.transitions; log round.faults
//!     }
//!     write engine.saved() to disk: when a round changed anything, at the end, and else once a minute
//! }
//! ```
//!
//! It follows Prometheus (`rules/group.go`, `rules/alerting.go`), and goes further in this: all states survive a restart
//! ([`Engine::saved`], [`Engine::restore`]). The time of an outage does not count for `for` and `keep_firing_for`; nothing is
//! announced twice; what went away meanwhile is resolved; and while the store does not reach back far enough to tell
//! ([`Settings::settle`]), nothing is resolved, and nothing new fires.
//!
//! A clock that jumps counts as an outage too: if it is set back, the next evaluation is made as if the one before had been
//! an interval ago; and so it is after a pause of more than five minutes beyond the interval.

mod alert;
mod looks;
mod saved;
mod state;

use std::collections::{BTreeSet, HashMap};

use crate::ast::{Expr, Millis, Selector};
use crate::eval::Options;
use crate::file::{Group, Rule, Rules};
use crate::sample::NAME;
use crate::testing::Memory;
use crate::window::Window;
use crate::{Labels, Sample, Storage};

pub use alert::{Alert, State, fingerprint};
pub use saved::{Saved, VERSION};
use saved::{SavedAlert, SavedRule};
use state::RuleState;

/// A pause that is longer than the interval by this much is an outage.
const PAUSE: Millis = 5 * 60_000;

/// Where rules read samples, and where those that they make go, so that rules evaluated later see them.
pub trait Store: Storage {
    /// Adds a sample that a rule made; [`STALE`](crate::sample::STALE) where the series ended. Series that no rule
    /// selects need not be kept.
    fn add(&mut self, labels: &Labels, sample: Sample);

    /// Since when all that this selector matches is there. `None` if nothing is yet.
    fn covered_since(&self, selector: &Selector) -> Option<Millis>;

    /// Whether series that this selector matches may be missing only because they could not be read. Alerts of rules that look
    /// at them, also by way of what other rules record, then stay what they are where their result is missing. Never, as in
    /// Prometheus, unless a store says so.
    fn doubtful(&self, _selector: &Selector) -> bool {
        false
    }
}

impl Store for Window {
    fn add(&mut self, labels: &Labels, sample: Sample) {
        Window::add(self, labels, sample);
    }

    fn covered_since(&self, selector: &Selector) -> Option<Millis> {
        Window::covered_since(self, selector)
    }
}

impl Store for Memory {
    fn add(&mut self, labels: &Labels, sample: Sample) {
        Memory::add(self, labels, sample);
    }

    fn covered_since(&self, _: &Selector) -> Option<Millis> {
        Some(Millis::MIN)
    }
}

/// How rules are evaluated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often a group is evaluated that does not say so.
    pub interval: Millis,
    /// What all alerts get when they are sent; here only for templates.
    pub external_labels: Labels,
    /// Where people find this instance; for templates.
    pub external_url: String,
    /// How expressions are evaluated.
    pub options: Options,
    /// At most for so long after a start do rules wait until the store reaches back as far as they look: until then nothing is
    /// resolved that fired before, and nothing new fires. 0, as in promtool: not at all.
    pub settle: Millis,
    /// How many series or alerts a rule may make, whatever its group says.
    pub max_results: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: 60_000,
            external_labels: Labels::none(),
            external_url: String::new(),
            options: Options::default(),
            settle: 0,
            max_results: 10_000,
        }
    }
}

/// A group that has to be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its number among the groups.
    pub group: usize,
    /// At this time: the last one that its schedule names, not the present.
    pub at: Millis,
    /// How many intervals were left out since the last one.
    pub missed: u64,
}

/// What came of one evaluation of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Round {
    /// Alerts that began to fire or were resolved.
    pub transitions: Vec<Alert>,
    /// What failed, where it is another fault than in the round before.
    pub faults: Vec<RuleFault>,
    /// Something changed that a restart should know.
    pub changed: bool,
}

/// What is wrong with a rule when it is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFault {
    /// The rule's file.
    pub file: String,
    /// Its group.
    pub group: String,
    /// Its name.
    pub rule: String,
    /// What, and what came of it.
    pub message: String,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Those that failed.
    pub failures: u64,
    /// Templates that could not be rendered.
    pub template_failures: u64,
    /// Intervals of groups that were left out.
    pub missed: u64,
    /// Alerts that began to fire.
    pub fired: u64,
    /// Alerts that were resolved.
    pub resolved: u64,
    /// Samples that recording rules made.
    pub recorded: u64,
}

/// How a rule does.
#[derive(Debug, Clone, Copy)]
pub struct Health<'a> {
    /// Its group.
    pub group: &'a Group,
    /// The rule.
    pub rule: &'a Rule,
    /// Why its last evaluation failed, if it did.
    pub error: Option<&'a str>,
    /// When it was last evaluated.
    pub at: Option<Millis>,
    /// How many series it made.
    pub series: usize,
}

/// A group and when it is evaluated.
#[derive(Debug)]
struct GroupState {
    group: Group,
    interval: Millis,
    /// The next evaluation; none is known before the first look at the clock.
    next: Option<Millis>,
    last: Option<Millis>,
    /// Intervals that were left out.
    missed: u64,
    rules: Vec<RuleState>,
}

/// All rules with the states of their alerts. See the [module](self).
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    groups: Vec<GroupState>,
    counts: Counts,
    /// What rules record from series that may be missing only because they could not be read.
    doubted: BTreeSet<String>,
}

/// What tells a rule from others over a reload: kind, name and labels.
type Key = (bool, String, Vec<(String, String)>);

fn key(rule: &Rule) -> Key {
    let labels = rule.labels().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    (rule.is_alert(), rule.name.clone(), labels.collect())
}

/// A state that looks for the rule it belongs to.
struct Stray {
    file: String,
    group: String,
    /// When it was last evaluated.
    last: Option<Millis>,
    /// What its rule was, if that is known.
    expr: Option<Expr>,
    state: RuleState,
}

/// States without a rule. They go to one of the same file and group first, and else to any other.
#[derive(Default)]
struct Strays(HashMap<Key, Vec<Stray>>);

impl Strays {
    fn settle(&mut self, groups: &mut [GroupState]) {
        for same in [true, false] {
            for state in groups.iter_mut() {
                for (rule, home) in state.group.rules.iter().zip(&mut state.rules) {
                    let Some(waiting) = self.0.get_mut(&key(rule)).filter(|_| !home.is_taken()) else { continue };
                    let fits =
                        |stray: &Stray| !same || (stray.file == state.group.file && stray.group == state.group.name);
                    if let Some(at) = waiting.iter().position(fits) {
                        let stray = waiting.remove(at);
                        home.take_over(stray.state, stray.expr.as_ref() == Some(&rule.expr));
                        state.last = state.last.max(stray.last);
                    }
                }
            }
        }
    }
}

impl GroupState {
    fn new(group: Group, settings: &Settings) -> Self {
        let interval = group.interval.unwrap_or(settings.interval).max(1);
        let rules = group.rules.iter().map(RuleState::new).collect();
        Self { group, interval, next: None, last: None, missed: 0, rules }
    }

    /// The last time not after `now` at which the group's schedule has it evaluated. Groups of one interval are spread over
    /// it, each always at the same place.
    fn slot(&self, now: Millis) -> Millis {
        let hash = alert::fnv([self.group.file.as_str(), self.group.name.as_str()].into_iter());
        let offset = Millis::try_from(hash % self.interval.unsigned_abs()).unwrap_or(0);
        now - (now - offset).rem_euclid(self.interval)
    }
}

impl Engine {
    /// With no alerts yet.
    pub fn new(rules: Rules, settings: Settings) -> Self {
        let groups = rules.groups.into_iter().map(|group| GroupState::new(group, &settings)).collect();
        Self { settings, groups, counts: Counts::default(), doubted: BTreeSet::new() }
    }

    /// Takes over other external labels: templates show them from the next evaluation on.
    pub fn set_external_labels(&mut self, labels: Labels) {
        self.settings.external_labels = labels;
    }

    /// When something has to be evaluated next. `None` without rules.
    pub fn next(&mut self, now: Millis) -> Option<Millis> {
        self.schedule(now);
        self.groups.iter().filter_map(|group| group.next).min()
    }

    /// A group that has to be evaluated now, the one that waits longest first.
    pub fn due(&mut self, now: Millis) -> Option<Due> {
        self.schedule(now);
        let waiting = self.groups.iter().enumerate().filter_map(|(at, group)| Some((group.next?, at)));
        let (next, at) = waiting.min().filter(|(next, _)| *next <= now)?;
        let group = self.groups.get_mut(at)?;
        let slot = group.slot(now).max(next);
        let missed = (slot - next).unsigned_abs() / group.interval.unsigned_abs();
        group.next = Some(slot + group.interval);
        group.missed += missed;
        self.counts.missed += missed;
        Some(Due { group: at, at: slot, missed })
    }

    /// A group that is new, or whose clock was set back, waits for the next time of its schedule.
    fn schedule(&mut self, now: Millis) {
        for group in &mut self.groups {
            if group.next.is_none_or(|next| next - now > group.interval) {
                group.next = Some(group.slot(now) + group.interval);
            }
        }
    }

    /// Evaluates a group.
    pub fn evaluate(&mut self, due: &Due, store: &mut dyn Store) -> Round {
        let mut round = Round::default();
        let Some(state) = self.groups.get_mut(due.group) else { return round };
        let pause = state.last.map_or(0, |last| due.at - last);
        let restored = state.rules.iter().any(RuleState::is_restored);
        if pause < 0 || (pause > state.interval && (restored || pause > state.interval + PAUSE)) {
            state.rules.iter_mut().for_each(|rule| rule.shift(pause - state.interval));
        }
        state.last = Some(due.at);
        for (rule, rule_state) in state.group.rules.iter().zip(&mut state.rules) {
            let doubted = |selector: &Selector| {
                let names = |name: &String| selector.matchers.iter().all(|m| m.name != NAME || m.matches(name));
                store.doubtful(selector) || self.doubted.iter().any(names)
            };
            let doubt = looks::any(&rule.expr, &doubted);
            if !rule.is_alert() {
                match doubt {
                    true => _ = self.doubted.insert(rule.name.clone()),
                    false => _ = self.doubted.remove(&rule.name),
                }
            }
            let context = state::Context { settings: &self.settings, group: &state.group, rule, at: due.at, doubt };
            rule_state.evaluate(&context, store, &mut self.counts, &mut round);
        }
        round
    }

    /// Takes over rules that were read anew. Where kind, name and labels are the same, the state stays, even where the rule
    /// moved into another file. Alerts that fire and whose rule is gone are resolved: they come back. Its series end.
    pub fn reload(&mut self, rules: Rules, now: Millis, store: &mut dyn Store) -> Vec<Alert> {
        // Those that are still there say so again.
        self.doubted.clear();
        let fresh = rules.groups.into_iter().map(|group| GroupState::new(group, &self.settings)).collect();
        let old = std::mem::replace(&mut self.groups, fresh);
        let mut strays = Strays::default();
        for state in old {
            let Group { file, name, rules, .. } = state.group;
            let same = |new: &&mut GroupState| new.group.file == file && new.group.name == name;
            if let Some(new) = self.groups.iter_mut().find(same) {
                new.missed = state.missed;
                new.last = state.last;
                if new.interval == state.interval {
                    new.next = state.next;
                }
            }
            for (rule, rule_state) in rules.into_iter().zip(state.rules) {
                let (key, file, group) = (key(&rule), file.clone(), name.clone());
                let stray = Stray { file, group, last: state.last, expr: Some(rule.expr), state: rule_state };
                strays.0.entry(key).or_default().push(stray);
            }
        }
        strays.settle(&mut self.groups);
        self.bury(strays, now, &mut |labels, sample| store.add(labels, sample))
    }

    /// Takes over the states of a run before. What fired then and has no rule any more is resolved: it comes back.
    pub fn restore(&mut self, saved: &Saved, now: Millis) -> Result<Vec<Alert>, String> {
        if saved.v != VERSION {
            return Err(format!("the states of alerts have version {}, only {VERSION} can be read", saved.v));
        }
        let mut strays = Strays::default();
        for rule in &saved.rules {
            let key = (true, rule.name.clone(), rule.labels.clone());
            let state = RuleState::restored(rule.alerts.iter().map(SavedAlert::active));
            let (file, group) = (rule.file.clone(), rule.group.clone());
            strays.0.entry(key).or_default().push(Stray { file, group, last: Some(rule.at), expr: None, state });
        }
        strays.settle(&mut self.groups);
        Ok(self.bury(strays, now, &mut |_, _| {}))
    }

    /// Ends what found no rule.
    fn bury(&mut self, strays: Strays, now: Millis, add: &mut dyn FnMut(&Labels, Sample)) -> Vec<Alert> {
        let mut resolved = Vec::new();
        for stray in strays.0.into_values().flatten() {
            resolved.extend(stray.state.bury(now, add));
        }
        resolved.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.counts.resolved += resolved.len() as u64;
        resolved
    }

    /// What a restart must not lose.
    pub fn saved(&self) -> Saved {
        let mut rules = Vec::new();
        for state in &self.groups {
            for (rule, rule_state) in state.group.rules.iter().zip(&state.rules) {
                let alerts: Vec<SavedAlert> = rule_state.alerts().filter_map(SavedAlert::of).collect();
                if alerts.is_empty() {
                    continue;
                }
                let (_, name, labels) = key(rule);
                let (file, group) = (state.group.file.clone(), state.group.name.clone());
                rules.push(SavedRule { file, group, name, labels, at: state.last.unwrap_or_default(), alerts });
            }
        }
        Saved { v: VERSION, rules }
    }

    /// All alerts: those pending, those that fire, and those that were resolved in the last 15 minutes.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.groups.iter().flat_map(|group| &group.rules).flat_map(RuleState::alerts).map(|active| &active.alert)
    }

    /// What recording rules made in their last evaluation, with its time. Nothing of those that failed.
    pub fn recorded(&self) -> impl Iterator<Item = (&Labels, Sample)> {
        self.series(false)
    }

    /// `ALERTS` and `ALERTS_FOR_STATE`, as of the last evaluation of each rule.
    pub fn alert_series(&self) -> impl Iterator<Item = (&Labels, Sample)> {
        self.series(true)
    }

    fn series(&self, alerts: bool) -> impl Iterator<Item = (&Labels, Sample)> {
        self.groups.iter().flat_map(move |state| {
            let rules = state.group.rules.iter().zip(&state.rules);
            rules.filter(move |(rule, _)| rule.is_alert() == alerts).flat_map(|(_, rule)| rule.series())
        })
    }

    /// Every rule, in order.
    pub fn health(&self) -> impl Iterator<Item = Health<'_>> {
        self.groups.iter().flat_map(|state| {
            let rules = state.group.rules.iter().zip(&state.rules);
            rules.map(|(rule, rule_state)| rule_state.health(&state.group, rule))
        })
    }

    /// The groups, in order: each with its interval, when it was last evaluated and how many intervals it left out.
    pub fn groups(&self) -> impl Iterator<Item = (&Group, Millis, Option<Millis>, u64)> {
        self.groups.iter().map(|state| (&state.group, state.interval, state.last, state.missed))
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests;
