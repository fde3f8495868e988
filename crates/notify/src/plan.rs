//! `[notify]`: who is told of what, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rules::labels::Matcher;
use serde::{Deserialize, Serialize};
use wire::{LabelSet, Timestamp};

use crate::inhibit::{Inhibit, InhibitSection};
use crate::matcher;
use crate::silence::{Origin, Silence};
use crate::times::{Times, TimesSection, Zones};

/// How deep routes may be nested.
const MOST_DEPTH: usize = 20;

/// Steps of one chain.
const MOST_STEPS: usize = 20;

/// `[notify.route]`, and each of `routes` below it. What a route leaves out, it has from the one above.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSection {
    /// Which receiver is told.
    pub receiver: Option<String>,
    /// Which alerts come here, as `severity="critical"`; all where absent.
    pub matchers: Vec<String>,
    /// Whether the routes after this one are looked at as well.
    #[serde(rename = "continue")]
    pub goes_on: bool,
    /// Alerts with the same values of these labels are told together; `["..."]` are all labels.
    pub group_by: Option<Vec<String>>,
    /// How long a new group waits for more alerts; 30s by default.
    #[serde(with = "optional_duration")]
    pub group_wait: Option<Duration>,
    /// Before news of a group are told; 5m by default.
    #[serde(with = "optional_duration")]
    pub group_interval: Option<Duration>,
    /// Before the same is told again; 4h by default.
    #[serde(with = "optional_duration")]
    pub repeat_interval: Option<Duration>,
    /// Instead of `group_wait` and `group_interval`: all that fired in this time is told at its end, also what is over by
    /// then.
    #[serde(with = "optional_duration")]
    pub batch: Option<Duration>,
    /// Names of times in which nothing is told.
    pub mute_time_intervals: Vec<String>,
    /// Names of times; nothing is told outside of them.
    pub active_time_intervals: Vec<String>,
    /// The chain of receivers that are told while nobody acknowledges.
    pub escalation: Option<String>,
    /// Looked at in order; the first that takes an alert has it, unless it says `continue`.
    pub routes: Vec<RouteSection>,
}

/// `[[notify.escalations]]`: a chain of receivers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EscalationSection {
    /// What routes call it.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<StepSection>,
}

/// A step of a chain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepSection {
    /// Who is told.
    pub receiver: String,
    /// How long after an alert was first told, if it still fires and nobody acknowledged it.
    #[serde(with = "config::duration")]
    pub after: Duration,
}

/// `[[notify.silences]]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SilenceSection {
    /// Which alerts are hidden.
    pub matchers: Vec<String>,
    /// From when, RFC 3339; at once where absent.
    pub starts_at: Option<String>,
    /// Until when, RFC 3339.
    pub ends_at: String,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// `[[notify.heartbeats]]`: a dead-man's switch, that is told again and again that this host lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatSection {
    /// Who is told.
    pub receiver: String,
    /// How often.
    #[serde(with = "config::duration")]
    pub every: Duration,
}

impl Default for HeartbeatSection {
    fn default() -> Self {
        Self { receiver: String::new(), every: Duration::from_secs(60) }
    }
}

/// The parts of `[notify]` that decide who is told.
#[derive(Debug, Clone, Copy)]
pub struct Sections<'a> {
    /// `[notify.route]`
    pub route: &'a RouteSection,
    /// `[[notify.inhibit]]`
    pub inhibit: &'a [InhibitSection],
    /// `[[notify.time_intervals]]`
    pub times: &'a [TimesSection],
    /// `[[notify.silences]]`
    pub silences: &'a [SilenceSection],
    /// `[[notify.escalations]]`
    pub escalations: &'a [EscalationSection],
    /// `[[notify.heartbeats]]`
    pub heartbeats: &'a [HeartbeatSection],
    /// `notify.report_to`
    pub report_to: Option<&'a str>,
}

/// A way to a service, as far as the decision goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `receiver/kind/number`, such as `ops/slack/0`.
    pub name: String,
    /// Whether it is told when alerts are over.
    pub send_resolved: bool,
}

/// What was checked.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The first is the root.
    pub(crate) routes: Vec<Route>,
    pub(crate) targets: BTreeMap<String, Vec<Target>>,
    pub(crate) inhibit: Vec<Inhibit>,
    pub(crate) silences: Vec<Silence>,
    pub(crate) heartbeats: Vec<HeartbeatSection>,
    pub(crate) report_to: Option<String>,
}

/// A route, with all that it has from those above it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// As Alertmanager writes it: `{}/{severity="critical"}`.
    pub(crate) key: String,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) goes_on: bool,
    pub(crate) receiver: String,
    pub(crate) group_by: GroupBy,
    pub(crate) wait: Duration,
    pub(crate) interval: Duration,
    pub(crate) repeat: Duration,
    pub(crate) batch: bool,
    pub(crate) muted: Vec<Times>,
    pub(crate) active: Vec<Times>,
    pub(crate) steps: Vec<StepSection>,
    pub(crate) children: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum GroupBy {
    All,
    Labels(BTreeSet<String>),
}

/// A key below `notify` and what is wrong with it.
pub type Fault = (String, String);

impl Plan {
    /// Checks everything against everything. `targets` has the ways of each receiver.
    pub fn new(
        sections: Sections<'_>,
        targets: BTreeMap<String, Vec<Target>>,
        zones: &Zones<'_>,
    ) -> Result<Self, Vec<Fault>> {
        let mut check =
            Check { targets: &targets, times: BTreeMap::new(), chains: BTreeMap::new(), faults: Vec::new() };
        for (at, section) in sections.times.iter().enumerate() {
            check.times(&format!("time_intervals[{at}]"), section, zones);
        }
        for (at, section) in sections.escalations.iter().enumerate() {
            check.chain(&format!("escalations[{at}]"), section);
        }
        let mut routes = Vec::new();
        if sections.route.receiver.is_some() || !sections.route.routes.is_empty() {
            check.routes(sections.route, &mut routes);
        } else if *sections.route != RouteSection::default() {
            check.fault("route.receiver", "names nobody; the first route needs a receiver");
        }
        let mut inhibit = Vec::new();
        for (at, section) in sections.inhibit.iter().enumerate() {
            match Inhibit::new(section) {
                Ok(rule) => inhibit.push(rule),
                Err((key, error)) => check.fault(&format!("inhibit[{at}].{key}"), error),
            }
        }
        let mut silences = Vec::new();
        for (at, section) in sections.silences.iter().enumerate() {
            silences.extend(check.silence(at, section));
        }
        for (at, heartbeat) in sections.heartbeats.iter().enumerate() {
            check.receiver(&format!("heartbeats[{at}].receiver"), &heartbeat.receiver);
            if heartbeat.every < Duration::from_secs(1) {
                check.fault(&format!("heartbeats[{at}].every"), "must be at least 1s");
            }
        }
        if let Some(receiver) = sections.report_to {
            check.receiver("report_to", receiver);
        }
        if !check.faults.is_empty() {
            return Err(check.faults);
        }
        Ok(Self {
            routes,
            targets,
            inhibit,
            silences,
            heartbeats: sections.heartbeats.to_vec(),
            report_to: sections.report_to.map(str::to_owned),
        })
    }

    /// Whether nobody is ever told anything.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.heartbeats.is_empty()
    }

    /// The ways of a receiver.
    pub fn targets(&self, receiver: &str) -> &[Target] {
        self.targets.get(receiver).map(Vec::as_slice).unwrap_or_default()
    }

    /// Who is told that a notification was refused for good: never the one that refused it.
    pub fn report_to(&self, refused_by: &str) -> Option<&str> {
        let root = self.routes.first().map(|route| route.receiver.as_str());
        [self.report_to.as_deref(), root].into_iter().flatten().find(|receiver| *receiver != refused_by)
    }

    /// The routes that an alert takes, as Alertmanager finds them.
    pub(crate) fn routes_of(&self, labels: &LabelSet) -> Vec<usize> {
        let mut found = Vec::new();
        if !self.routes.is_empty() {
            self.descend(0, labels, &mut found);
        }
        found
    }

    fn descend(&self, at: usize, labels: &LabelSet, found: &mut Vec<usize>) -> bool {
        let Some(route) = self.routes.get(at).filter(|route| matcher::all_match(&route.matchers, labels)) else {
            return false;
        };
        let before = found.len();
        for child in &route.children {
            let takes = self.descend(*child, labels, found);
            if takes && self.routes.get(*child).is_some_and(|child| !child.goes_on) {
                break;
            }
        }
        if found.len() == before {
            found.push(at);
        }
        true
    }

    /// The names of the receivers that an alert with these labels is told to.
    pub fn receivers_of(&self, labels: &LabelSet) -> Vec<&str> {
        let routes = self.routes_of(labels);
        routes.iter().filter_map(|at| self.routes.get(*at)).map(|route| route.receiver.as_str()).collect()
    }
}

impl Route {
    /// Whether nothing is told now.
    pub(crate) fn is_muted(&self, now: Timestamp) -> bool {
        let within = |times: &[Times]| times.iter().any(|times| times.contain(now));
        within(&self.muted) || (!self.active.is_empty() && !within(&self.active))
    }

    /// The labels that alerts are grouped by, sorted.
    pub(crate) fn group_labels(&self, labels: &LabelSet) -> LabelSet {
        let mut group: Vec<_> = match &self.group_by {
            GroupBy::All => labels.iter().collect(),
            GroupBy::Labels(names) => labels.iter().filter(|(name, _)| names.contains(*name)).collect(),
        };
        group.sort_unstable();
        group.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

struct Check<'a> {
    targets: &'a BTreeMap<String, Vec<Target>>,
    times: BTreeMap<String, Times>,
    chains: BTreeMap<String, Vec<StepSection>>,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.push((key.to_owned(), message.into()));
    }

    fn receiver(&mut self, key: &str, name: &str) {
        if !self.targets.contains_key(name) {
            let known: Vec<_> = self.targets.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            self.fault(key, format!("there is no receiver {name:?}; there are: {known}"));
        }
    }

    fn times(&mut self, key: &str, section: &TimesSection, zones: &Zones<'_>) {
        if section.name.is_empty() {
            self.fault(&format!("{key}.name"), "is missing");
        }
        match Times::new(section, zones) {
            Ok(times) => {
                if self.times.insert(section.name.clone(), times).is_some() {
                    self.fault(&format!("{key}.name"), format!("there are two time intervals {:?}", section.name));
                }
            }
            Err((inner, error)) => self.fault(&format!("{key}.{inner}"), error),
        }
    }

    fn chain(&mut self, key: &str, section: &EscalationSection) {
        if section.name.is_empty() {
            self.fault(&format!("{key}.name"), "is missing");
        }
        if !(1..=MOST_STEPS).contains(&section.steps.len()) {
            self.fault(&format!("{key}.steps"), format!("there must be 1 to {MOST_STEPS} steps"));
        }
        let mut last = Duration::ZERO;
        for (at, step) in section.steps.iter().enumerate() {
            self.receiver(&format!("{key}.steps[{at}].receiver"), &step.receiver);
            if step.after < last || step.after.is_zero() {
                let message = "must be longer than 0s, and no shorter than that of the step before; each counts from the \
                               first notification of an alert";
                self.fault(&format!("{key}.steps[{at}].after"), message);
            }
            last = step.after;
        }
        if self.chains.insert(section.name.clone(), section.steps.clone()).is_some() {
            self.fault(&format!("{key}.name"), format!("there are two escalations {:?}", section.name));
        }
    }

    fn silence(&mut self, at: usize, section: &SilenceSection) -> Option<Silence> {
        let before = self.faults.len();
        let key = |name: &str| format!("silences[{at}].{name}");
        let matchers = matcher::parse_all(&section.matchers).unwrap_or_else(|error| {
            self.fault(&key("matchers"), error);
            Vec::new()
        });
        if section.matchers.is_empty() {
            self.fault(&key("matchers"), "at least one matcher is needed");
        }
        let mut time = |name: &str, text: &str| {
            text.parse::<Timestamp>().map_err(|error| self.fault(&key(name), error.to_string())).ok()
        };
        let ends_at = time("ends_at", &section.ends_at);
        let starts_at = match &section.starts_at {
            Some(text) => time("starts_at", text),
            None => Some(Timestamp::from_millis(i64::MIN)),
        };
        if section.created_by.is_empty() {
            self.fault(&key("created_by"), "is missing: who made it?");
        }
        if section.comment.is_empty() {
            self.fault(&key("comment"), "is missing: why is it there?");
        }
        let silence = Silence {
            id: format!("file-{at}"),
            matchers,
            starts_at: starts_at?,
            ends_at: ends_at?,
            created_by: section.created_by.clone(),
            comment: section.comment.clone(),
            origin: Origin::File,
        };
        if silence.ends_at <= silence.starts_at {
            self.fault(&key("ends_at"), "must be after starts_at");
        }
        (self.faults.len() == before).then_some(silence)
    }

    fn routes(&mut self, root: &RouteSection, routes: &mut Vec<Route>) {
        for (key, wrong) in [
            ("matchers", !root.matchers.is_empty()),
            ("continue", root.goes_on),
            ("mute_time_intervals", !root.mute_time_intervals.is_empty()),
            ("active_time_intervals", !root.active_time_intervals.is_empty()),
        ] {
            if wrong {
                self.fault(&format!("route.{key}"), "must not stand in the first route, which all alerts take");
            }
        }
        if root.receiver.is_none() {
            self.fault("route.receiver", "names nobody; the first route needs a receiver");
        }
        let defaults = Route {
            key: String::new(),
            matchers: Vec::new(),
            goes_on: false,
            receiver: String::new(),
            group_by: GroupBy::Labels(BTreeSet::new()),
            wait: Duration::from_secs(30),
            interval: Duration::from_secs(300),
            repeat: Duration::from_secs(4 * 3600),
            batch: false,
            muted: Vec::new(),
            active: Vec::new(),
            steps: Vec::new(),
            children: Vec::new(),
        };
        self.route("route", root, &defaults, routes, 0);
    }

    fn route(
        &mut self,
        key: &str,
        section: &RouteSection,
        above: &Route,
        routes: &mut Vec<Route>,
        depth: usize,
    ) -> usize {
        let mut route = above.clone();
        route.children = Vec::new();
        route.goes_on = section.goes_on;
        route.matchers = matcher::parse_all(&section.matchers).unwrap_or_else(|error| {
            self.fault(&format!("{key}.matchers"), error);
            Vec::new()
        });
        let mut texts: Vec<_> = route.matchers.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        let own = format!("{{{}}}", texts.join(","));
        route.key = if above.key.is_empty() { own } else { format!("{}/{own}", above.key) };
        // Routes with the same matchers beside each other, for two receivers, have groups of their own.
        let (same, mut number) = (route.key.clone(), 1);
        while routes.iter().any(|other| other.key == route.key) {
            number += 1;
            route.key = format!("{same}#{number}");
        }
        if let Some(receiver) = &section.receiver {
            self.receiver(&format!("{key}.receiver"), receiver);
            route.receiver.clone_from(receiver);
        }
        if let Some(names) = &section.group_by {
            route.group_by = match names.iter().any(|name| name == "...") {
                true if names.len() > 1 => {
                    self.fault(&format!("{key}.group_by"), "\"...\" are all labels, and stands alone");
                    GroupBy::All
                }
                true => GroupBy::All,
                false => GroupBy::Labels(names.iter().cloned().collect()),
            };
        }
        if let Some(batch) = section.batch {
            (route.batch, route.wait, route.interval) = (true, batch, batch);
            if section.group_wait.is_some() || section.group_interval.is_some() {
                self.fault(&format!("{key}.batch"), "stands instead of group_wait and group_interval");
            }
        } else if section.group_wait.is_some() || section.group_interval.is_some() {
            route.batch = false;
        }
        route.wait = section.group_wait.unwrap_or(route.wait);
        route.interval = section.group_interval.unwrap_or(route.interval);
        route.repeat = section.repeat_interval.unwrap_or(route.repeat);
        for (name, time) in [("group_interval", section.group_interval), ("batch", section.batch)] {
            if time.is_some_and(|time| time < Duration::from_secs(1)) {
                self.fault(&format!("{key}.{name}"), "must be at least 1s");
            }
        }
        if section.repeat_interval.is_some_and(|time| time.is_zero()) {
            self.fault(&format!("{key}.repeat_interval"), "must be longer than 0s");
        }
        for (name, names) in [
            ("mute_time_intervals", &section.mute_time_intervals),
            ("active_time_intervals", &section.active_time_intervals),
        ] {
            let mut found = Vec::new();
            for wanted in names {
                match self.times.get(wanted) {
                    Some(times) => found.push(times.clone()),
                    None => self.fault(&format!("{key}.{name}"), format!("there is no time interval {wanted:?}")),
                }
            }
            // As in Alertmanager: a route has them not from the one above.
            if name == "mute_time_intervals" { route.muted = found } else { route.active = found }
        }
        if let Some(name) = &section.escalation {
            match self.chains.get(name) {
                Some(steps) => route.steps.clone_from(steps),
                None => self.fault(&format!("{key}.escalation"), format!("there is no escalation {name:?}")),
            }
        }
        let at = routes.len();
        routes.push(route.clone());
        if depth >= MOST_DEPTH && !section.routes.is_empty() {
            self.fault(&format!("{key}.routes"), format!("routes are nested deeper than {MOST_DEPTH} levels"));
            return at;
        }
        for (number, child) in section.routes.iter().enumerate() {
            let child = self.route(&format!("{key}.routes[{number}]"), child, &route, routes, depth + 1);
            if let Some(route) = routes.get_mut(at) {
                route.children.push(child);
            }
        }
        at
    }
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => config::duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "config::duration")] Duration);
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}
