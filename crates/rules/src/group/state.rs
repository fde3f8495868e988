//! One rule, evaluated.

use std::collections::{BTreeMap, HashSet};

use super::alert::{Active, Alert, RESOLVED_KEPT, State};
use super::looks::looks;
use super::{Counts, Health, Round, RuleFault, Settings, Store};
use crate::ast::{Millis, Selector};
use crate::eval::{EvalError, Work, evaluate, evaluate_within};
use crate::file::{Action, Group, Rule};
use crate::sample::{NAME, STALE};
use crate::template::{Data, Template};
use crate::{Labels, Sample, Storage, Value};

const ALERT_NAME: &str = "alertname";

/// What an evaluation is about.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) group: &'a Group,
    pub(super) rule: &'a Rule,
    pub(super) at: Millis,
    /// Whether results may be missing only because samples could not be read.
    pub(super) doubt: bool,
}

impl Context<'_> {
    /// The time of the samples that are read and made.
    fn sampled_at(&self) -> Millis {
        self.at - self.group.query_offset
    }

    /// The limit, and whether there is one.
    fn limit(&self) -> usize {
        match self.group.limit {
            0 => self.settings.max_results,
            limit => limit.min(self.settings.max_results),
        }
    }

    fn fault(&self, message: String) -> RuleFault {
        RuleFault {
            file: self.group.file.clone(),
            group: self.group.name.clone(),
            rule: self.rule.name.clone(),
            message,
        }
    }

    fn query(&self, storage: &dyn Storage, text: &str, work: &Work) -> Result<Vec<(Labels, f64)>, String> {
        let expr = crate::parse(text).map_err(|error| error.to_string())?;
        let value = evaluate_within(&expr, storage, self.at, &self.settings.options, work);
        vector(value.map_err(|error| error.to_string())?)
    }
}

/// A vector or a scalar, as elements.
fn vector(value: Value) -> Result<Vec<(Labels, f64)>, String> {
    match value {
        Value::Vector(elements) => Ok(elements),
        Value::Scalar(value) => Ok(vec![(Labels::none(), value)]),
        Value::Text(_) | Value::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// What is known of a rule.
#[derive(Debug)]
pub(super) struct RuleState {
    alerts: BTreeMap<Labels, Active>,
    /// What it made in its last good evaluation: so that is seen what ended.
    series: Vec<(Labels, f64)>,
    sampled_at: Millis,
    error: Option<String>,
    /// The last template that failed.
    template_error: Option<String>,
    /// When it was first and last evaluated.
    first: Option<Millis>,
    last: Option<Millis>,
    /// What it looks at; none once it was all there.
    looks: Vec<(Selector, Millis)>,
    /// What it has was before it: nothing may take its place.
    taken: bool,
}

impl RuleState {
    pub(super) fn new(rule: &Rule) -> Self {
        Self { looks: looks(&rule.expr), ..Self::restored(std::iter::empty()) }
    }

    /// Of a run before.
    pub(super) fn restored(alerts: impl Iterator<Item = Active>) -> Self {
        Self {
            alerts: alerts.map(|active| (active.alert.labels.clone(), active)).collect(),
            series: Vec::new(),
            sampled_at: 0,
            error: None,
            template_error: None,
            first: None,
            last: None,
            looks: Vec::new(),
            taken: false,
        }
    }

    /// Whether it has been taken over or evaluated.
    pub(super) fn is_taken(&self) -> bool {
        self.taken
    }

    pub(super) fn is_restored(&self) -> bool {
        self.alerts.values().any(|active| active.restored)
    }

    /// Takes over what another has. Where the expression is another, what has to be watched before it is trusted is asked
    /// anew.
    pub(super) fn take_over(&mut self, other: Self, same: bool) {
        let looks = std::mem::take(&mut self.looks);
        let (first, looks) = if same { (other.first, other.looks) } else { (None, looks) };
        *self = Self { first, looks, taken: true, ..other };
    }

    /// So much time counts as none.
    pub(super) fn shift(&mut self, by: Millis) {
        self.alerts.values_mut().for_each(|active| active.shift(by));
    }

    pub(super) fn alerts(&self) -> impl Iterator<Item = &Active> {
        self.alerts.values()
    }

    pub(super) fn series(&self) -> impl Iterator<Item = (&Labels, Sample)> {
        let good = self.error.is_none();
        let series = self.series.iter().filter(move |_| good);
        series.map(|(labels, value)| (labels, Sample { time: self.sampled_at, value: *value }))
    }

    pub(super) fn health<'a>(&'a self, group: &'a Group, rule: &'a Rule) -> Health<'a> {
        Health { group, rule, error: self.error.as_deref(), at: self.last, series: self.series().count() }
    }

    /// The rule is gone. Alerts that it leaves behind, resolved.
    pub(super) fn bury(self, now: Millis, add: &mut dyn FnMut(&Labels, Sample)) -> Vec<Alert> {
        let time = now.max(self.sampled_at + 1);
        self.series.iter().for_each(|(labels, _)| add(labels, Sample { time, value: STALE }));
        let mut resolved = Vec::new();
        for mut active in self.alerts.into_values().filter(|active| active.alert.state == State::Firing) {
            active.resolve(now);
            resolved.push(active.alert);
        }
        resolved
    }

    pub(super) fn evaluate(
        &mut self,
        context: &Context<'_>,
        store: &mut dyn Store,
        counts: &mut Counts,
        round: &mut Round,
    ) {
        self.taken = true;
        self.first.get_or_insert(context.at);
        self.last = Some(context.at);
        counts.evaluations += 1;
        let storage: &dyn Storage = store;
        let value = evaluate(&context.rule.expr, storage, context.sampled_at(), &context.settings.options);
        let made =
            value.map_err(|error| error.to_string()).and_then(vector).and_then(|elements| match &context.rule.action {
                Action::Record { labels } => record(context, labels, elements),
                Action::Alert { hold, keep_firing, labels, annotations } => {
                    let results = self.results(context, store, labels, annotations, elements, counts, round)?;
                    let settled = self.settled(context, store);
                    self.advance(context, results, *hold, *keep_firing, settled, counts, round)
                }
            });
        match made {
            Ok(series) => {
                if !context.rule.is_alert() {
                    counts.recorded += series.len() as u64;
                }
                self.replace(series, context.sampled_at(), store);
                self.error = None;
            }
            Err(error) => {
                counts.failures += 1;
                if self.error.as_ref() != Some(&error) {
                    round.faults.push(context.fault(error.clone()));
                }
                self.error = Some(error);
            }
        }
    }

    /// Gives the store what was made, and ends what was made before and is not any more.
    fn replace(&mut self, series: Vec<(Labels, f64)>, time: Millis, store: &mut dyn Store) {
        for (labels, value) in &series {
            store.add(labels, Sample { time, value: *value });
        }
        if !self.series.is_empty() {
            let there: HashSet<&Labels> = series.iter().map(|(labels, _)| labels).collect();
            for (labels, _) in self.series.iter().filter(|(labels, _)| !there.contains(labels)) {
                store.add(labels, Sample { time, value: STALE });
            }
        }
        (self.series, self.sampled_at) = (series, time);
    }

    /// Whether what the rule looks at was watched for long enough, or it was waited for long enough.
    fn settled(&mut self, context: &Context<'_>, store: &dyn Store) -> bool {
        let waited = context.at - self.first.unwrap_or(context.at);
        if waited >= context.settings.settle {
            self.looks.clear();
        }
        let at = context.sampled_at();
        let there = |(selector, back): &(Selector, Millis)| {
            store.covered_since(selector).is_some_and(|since| since <= at.saturating_sub(*back))
        };
        // Once is for ever: it is not asked again.
        self.looks.retain(|look| !there(look));
        self.looks.is_empty()
    }

    /// The alerts that the elements stand for, each with its annotations and value.
    #[expect(clippy::too_many_arguments, reason = "each is another thing; they are used together here only")]
    fn results(
        &mut self,
        context: &Context<'_>,
        store: &dyn Storage,
        labels: &[(String, Template)],
        annotations: &[(String, Template)],
        elements: Vec<(Labels, f64)>,
        counts: &mut Counts,
        round: &mut Round,
    ) -> Result<BTreeMap<Labels, (Labels, f64)>, String> {
        // Templates of so many would take too long. Fewer are counted with those that fire on, below.
        if elements.len() > context.limit() {
            let count = elements.len();
            return Err(self.exceeded(context, count, counts, round));
        }
        // All templates of a rule have what one expression has.
        let work = Work::new(&context.settings.options);
        let query = |text: &str| context.query(store, text, &work);
        let mut failed = None;
        let mut expand = |templates: &[(String, Template)], sample_labels: &Labels, value: f64| {
            let data = Data {
                labels: sample_labels,
                value,
                external_labels: &context.settings.external_labels,
                external_url: &context.settings.external_url,
                at: context.at,
                work: &work,
            };
            let expand = |(name, template): &(String, Template)| {
                let text = template.expand(&data, &query).unwrap_or_else(|text| {
                    counts.template_failures += 1;
                    failed = Some(format!("{name}: {text}"));
                    text
                });
                (name.clone(), text)
            };
            let texts: Vec<(String, String)> = templates.iter().map(expand).collect();
            // What templates say then is no failure of theirs.
            if store.given_up() { Err(EvalError::GivenUp.to_string()) } else { Ok(texts) }
        };
        // The labels of all come first: annotations that take too much must not change what alerts there are.
        let mut samples = BTreeMap::new();
        for (sample_labels, value) in elements {
            let mut labels = expand(labels, &sample_labels, value)?;
            labels.push((ALERT_NAME.to_owned(), context.rule.name.clone()));
            let labels = sample_labels.nameless().overlaid(labels);
            if samples.insert(labels, (sample_labels, value)).is_some() {
                return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
            }
        }
        let mut results = BTreeMap::new();
        for (labels, (sample_labels, value)) in samples {
            results.insert(labels, (Labels::new(expand(annotations, &sample_labels, value)?), value));
        }
        if let Some(message) = failed.as_ref().filter(|_| self.template_error != failed) {
            round.faults.push(context.fault(message.clone()));
        }
        self.template_error = failed;
        Ok(results)
    }

    /// Too many alerts: the rule has none any more.
    fn exceeded(&mut self, context: &Context<'_>, count: usize, counts: &mut Counts, round: &mut Round) -> String {
        round.changed |= !self.alerts.is_empty();
        for mut active in std::mem::take(&mut self.alerts).into_values() {
            // What began only now was not announced.
            if active.alert.state == State::Firing && active.alert.fired_at != Some(context.at) {
                active.resolve(context.at);
                counts.resolved += 1;
                round.transitions.push(active.alert);
            }
        }
        format!("exceeded limit of {} with {count} alerts", context.limit())
    }

    /// Takes every alert a step on. The series that stand for them.
    #[expect(clippy::too_many_arguments, reason = "each is another thing; they are used together here only")]
    fn advance(
        &mut self,
        context: &Context<'_>,
        results: BTreeMap<Labels, (Labels, f64)>,
        hold: Millis,
        keep_firing: Millis,
        settled: bool,
        counts: &mut Counts,
        round: &mut Round,
    ) -> Result<Vec<(Labels, f64)>, String> {
        let at = context.at;
        for (labels, (annotations, value)) in &results {
            match self.alerts.get_mut(labels).filter(|active| active.alert.state != State::Resolved) {
                Some(active) => {
                    (active.alert.annotations, active.alert.value) = (annotations.clone(), *value);
                    active.missing_since = None;
                }
                None => {
                    let active = Active::new(labels.clone(), annotations.clone(), *value, at);
                    self.alerts.insert(labels.clone(), active);
                    round.changed = true;
                }
            }
        }
        let (mut series, mut transitions, mut active_count) = (Vec::new(), Vec::new(), 0);
        self.alerts.retain(|labels, active| {
            if results.contains_key(labels) {
                let may_fire = settled || active.restored;
                if active.alert.state == State::Pending && at - active.since >= hold && may_fire {
                    active.fire(at);
                    transitions.push(active.alert.clone());
                }
                active.restored &= !settled;
            } else if active.alert.state != State::Resolved && (context.doubt || (active.restored && !settled)) {
                // It is not known whether it is really gone.
            } else {
                active.restored = false;
                match active.alert.state {
                    State::Pending => {
                        round.changed = true;
                        return false;
                    }
                    State::Resolved => {
                        let ago = active.alert.resolved_at.map_or(0, |resolved| (at - resolved).abs());
                        return ago <= RESOLVED_KEPT;
                    }
                    State::Firing => {
                        if keep_firing > 0 && active.missing_since.is_none() {
                            active.missing_since = Some(at);
                            round.changed = true;
                        }
                        if active.missing_since.is_none_or(|since| at - since >= keep_firing) {
                            active.resolve(at);
                            transitions.push(active.alert.clone());
                            return true;
                        }
                    }
                }
            }
            active_count += 1;
            series.extend(alert_series(active));
            true
        });
        if self.alerts.len() > 2 * context.limit() {
            // Labels that change all the time leave one behind each time.
            self.alerts.retain(|_, active| active.alert.state != State::Resolved);
        }
        if active_count > context.limit() {
            // Those that were resolved just now are so in any case.
            transitions.retain(|alert| alert.state == State::Resolved);
            counts.resolved += transitions.len() as u64;
            round.transitions.append(&mut transitions);
            return Err(self.exceeded(context, active_count, counts, round));
        }
        let fired = transitions.iter().filter(|alert| alert.state == State::Firing).count();
        counts.fired += fired as u64;
        counts.resolved += (transitions.len() - fired) as u64;
        round.changed |= !transitions.is_empty();
        round.transitions.append(&mut transitions);
        Ok(series)
    }
}

/// `ALERTS` and `ALERTS_FOR_STATE` of an alert.
fn alert_series(active: &Active) -> [(Labels, f64); 2] {
    let labels = &active.alert.labels;
    let state = active.alert.state.as_str();
    let since = active.since.div_euclid(1000) as f64;
    [(labels.overlaid([(NAME, "ALERTS"), ("alertstate", state)]), 1.0), (labels.with(NAME, "ALERTS_FOR_STATE"), since)]
}

/// The elements under the rule's name and labels.
fn record(
    context: &Context<'_>,
    labels: &[(String, String)],
    elements: Vec<(Labels, f64)>,
) -> Result<Vec<(Labels, f64)>, String> {
    if elements.len() > context.limit() {
        return Err(format!("exceeded limit of {} with {} series", context.limit(), elements.len()));
    }
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all: Vec<(&str, &str)> = std::iter::once((NAME, context.rule.name.as_str())).chain(labels).collect();
    let made = elements.into_iter().map(|(labels, value)| (labels.overlaid(all.iter().copied()), value));
    let series: Vec<(Labels, f64)> = made.collect();
    let distinct: HashSet<&Labels> = series.iter().map(|(labels, _)| labels).collect();
    if distinct.len() < series.len() {
        return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
    }
    Ok(series)
}
