//! One host's history, through the rules as its agent would have had them.

use std::collections::{BTreeMap, BTreeSet};

use rules::ast::Millis;
use rules::group::{Alert, Engine, RuleFault, Settings, State};
use rules::window::{Limits, Source, TooLong, Window};
use rules::{Labels, Need, Rules};

use super::series::{Pair, Reading};

/// Readings that are further apart than this, and than twice what is usual, have an outage of the agent between them:
/// rules count it as one from here on too.
const OUTAGE: Millis = 5 * 60_000;

/// How long the agent's rules wait at most for the samples that they look back on.
const SETTLE: Millis = 3_600_000;

/// Any rule may look back as far as the history goes.
const ALL: Millis = 10 * 365 * 86_400_000;

/// Faults that are told.
const MOST_FAULTS: usize = 100;

/// What an alert is called, and how severe its rule says it is.
pub(super) type Name = (String, String);

/// How often an alert fired on a host, and how long altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Times.
    pub(super) times: u64,
    /// Within the time that is asked about.
    pub(super) within: Millis,
}

/// What is the same for all hosts.
#[derive(Debug)]
pub(super) struct Plan {
    /// What is evaluated.
    pub(super) rules: Rules,
    /// What they look at.
    pub(super) needs: Vec<Need>,
    /// What they record: rows of the same name are not taken for series of the host.
    pub(super) recorded: BTreeSet<String>,
    /// How often a group is evaluated that does not say so.
    pub(super) interval: Millis,
    /// The label `job`.
    pub(super) job: String,
    /// What is asked about begins here; from the beginning of the history up to here everything warms up.
    pub(super) from: Millis,
    /// And ends here.
    pub(super) until: Millis,
}

/// A time in which an alert fired.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Episode {
    /// The host.
    pub(super) host: String,
    /// All labels, with the host's external ones.
    pub(super) labels: Labels,
    /// When the expression began to hold.
    pub(super) active_at: Millis,
    /// When it began to fire.
    pub(super) from: Millis,
    /// When it was over; none if it fires at the end.
    pub(super) to: Option<Millis>,
    /// When it was over, or what is known of the host ends.
    pub(super) until: Millis,
    /// How long it fired within the time that is asked about.
    pub(super) within: Millis,
    /// The expression's value when it began to fire.
    pub(super) value: f64,
}

/// What came of a host's history.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// In the order in which they began, as many as there was room for.
    pub(super) episodes: Vec<Episode>,
    /// All of them.
    pub(super) sums: BTreeMap<Name, Sum>,
    /// What failed, each once.
    pub(super) faults: Vec<RuleFault>,
    /// For each need whether there was a series.
    pub(super) found: Vec<bool>,
    /// How many readings had how many seconds to the one before.
    pub(super) gaps: BTreeMap<Millis, u64>,
    /// How many readings there were.
    pub(super) readings: u64,
    /// How often there was a longer pause.
    pub(super) outages: u64,
    /// Samples there was no room for.
    pub(super) left_out: u64,
}

/// A host whose history is being read.
pub(super) struct Host<'a> {
    plan: &'a Plan,
    name: &'a str,
    window: Window,
    source: Source,
    engine: Option<Engine>,
    external: Vec<Pair>,
    reading: Reading,
    /// The time of the reading that comes in, and of the one before.
    time: Option<Millis>,
    last: Option<Millis>,
    open: Vec<Episode>,
    /// Episodes that are kept.
    room: usize,
    outcome: Outcome,
}

impl Plan {
    /// Where reading begins: early enough that all is known at the beginning of what is asked about.
    pub(super) fn begin(&self) -> Millis {
        let back = self.needs.iter().map(|need| need.back).max().unwrap_or(0);
        let rules = self.rules.groups.iter().flat_map(|group| &group.rules);
        let held = rules.map(|rule| match &rule.action {
            rules::file::Action::Alert { hold, keep_firing, .. } => hold.saturating_add(*keep_firing),
            rules::file::Action::Record { .. } => 0,
        });
        self.from.saturating_sub(back).saturating_sub(held.max().unwrap_or(0)).saturating_sub(OUTAGE)
    }
}

impl<'a> Host<'a> {
    /// Before its first row. So many episodes are kept.
    pub(super) fn new(plan: &'a Plan, name: &'a str, room: usize) -> Result<Self, TooLong> {
        let limits = Limits { max_age: ALL, ..Limits::default() };
        let mut window = Window::new(plan.needs.iter().cloned(), limits)?;
        let source = window.source([("job", plan.job.as_str()), ("instance", name)]);
        let outcome = Outcome { found: vec![false; plan.needs.len()], ..Outcome::default() };
        Ok(Self {
            plan,
            name,
            window,
            source,
            engine: None,
            external: Vec::new(),
            reading: Reading::default(),
            time: None,
            last: None,
            open: Vec::new(),
            room,
            outcome,
        })
    }

    /// Takes a row, of the time of the one before or later.
    pub(super) fn add(&mut self, row: super::history::Row<'_>) {
        if self.time.is_some_and(|time| time != row.time) {
            self.take_reading();
        }
        if !self.plan.recorded.contains(row.name) && self.reading.add(self.name, row) {
            self.time = Some(row.time);
        }
    }

    /// The end of the history.
    pub(super) fn end(mut self) -> Outcome {
        self.take_reading();
        let end = self.last.map_or(self.plan.until, |last| self.alive_until(last, self.plan.until));
        self.evaluate_until(end);
        for episode in std::mem::take(&mut self.open) {
            self.close(episode, end);
        }
        let counts = self.window.counts();
        self.outcome.left_out = counts.left_out + counts.labels_too_long + counts.forgotten_early;
        self.outcome.episodes.sort_by_key(|episode| episode.from);
        self.outcome
    }

    /// Until when the agent ran, if the next that is known of it is so late.
    fn alive_until(&self, last: Millis, next: Millis) -> Millis {
        let usual = usual(&self.outcome.gaps).unwrap_or(0);
        if next - last > OUTAGE.max(2 * usual) { last + usual } else { next }
    }

    fn take_reading(&mut self) {
        let Some(time) = self.time.take() else { return };
        let mut reading = std::mem::take(&mut self.reading);
        if let Some(external) = reading.external.take() {
            self.external = external;
        }
        reading.finish(&self.external);
        match self.last {
            None => self.start(time),
            Some(last) => {
                let until = self.alive_until(last, time);
                self.evaluate_until(until.min(time - 1));
                if until < time {
                    self.outcome.outages += 1;
                    // Nobody was there to evaluate.
                    while self.engine.as_mut().and_then(|engine| engine.due(time - 1)).is_some() {}
                } else {
                    let seconds = (time - last + 500) / 1000;
                    *self.outcome.gaps.entry(seconds.min(86_400)).or_default() += 1;
                }
            }
        }
        self.last = Some(time);
        self.outcome.readings += 1;
        self.feed(&reading, time);
    }

    fn start(&mut self, time: Millis) {
        let plan = self.plan;
        let settings = Settings {
            interval: plan.interval,
            external_labels: Labels::new(self.external.iter().map(|(name, value)| (name, value))),
            settle: SETTLE,
            ..Settings::default()
        };
        let mut engine = Engine::new(plan.rules.clone(), settings);
        // Its schedule begins here.
        engine.next(time);
        self.engine = Some(engine);
    }

    fn feed(&mut self, reading: &Reading, time: Millis) {
        // Times grow, so none is refused.
        let Ok(mut round) = self.window.round(self.source, time) else { return };
        if round.family("up") {
            round.sample(std::iter::empty(), 1.0);
        }
        for family in reading.samples.chunk_by(|a, b| a.name == b.name) {
            if family.first().is_some_and(|first| round.family(&first.name)) {
                for sample in family {
                    let labels = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    round.sample(labels, sample.value);
                }
            }
        }
        if round.end().new > 0 {
            self.look();
        }
    }

    /// Notes which needs have series by now.
    fn look(&mut self) {
        for (need, found) in self.plan.needs.iter().zip(&mut self.outcome.found) {
            *found = *found || self.window.matched(&need.selector) > 0;
        }
    }

    /// Evaluates what is due up to a time, each group at its own times.
    fn evaluate_until(&mut self, until: Millis) {
        let Some(mut engine) = self.engine.take() else { return };
        let mut now = self.last.unwrap_or(until);
        while let Some(next) = engine.next(now).filter(|next| *next <= until) {
            now = next;
            while let Some(due) = engine.due(now) {
                let round = engine.evaluate(&due, &mut self.window);
                for alert in round.transitions {
                    self.note(&alert);
                }
                for fault in round.faults {
                    if self.outcome.faults.len() < MOST_FAULTS && !self.outcome.faults.contains(&fault) {
                        self.outcome.faults.push(fault);
                    }
                }
            }
        }
        // Series that rules made may be what others look at.
        self.look();
        self.engine = Some(engine);
    }

    fn note(&mut self, alert: &Alert) {
        let missing = self.external.iter().filter(|(name, _)| alert.labels.get(name).is_empty());
        let labels = alert.labels.overlaid(missing.map(|(name, value)| (name.as_str(), value.as_str())));
        match (alert.state, alert.fired_at) {
            (State::Firing, Some(from)) => self.open.push(Episode {
                host: self.name.to_owned(),
                labels,
                active_at: alert.active_at,
                from,
                to: None,
                until: from,
                within: 0,
                value: alert.value,
            }),
            (State::Resolved, Some(from)) => {
                if let Some(at) = self.open.iter().position(|open| open.from == from && open.labels == labels) {
                    let mut episode = self.open.remove(at);
                    episode.to = alert.resolved_at;
                    self.close(episode, alert.resolved_at.unwrap_or(from));
                }
            }
            _ => {}
        }
    }

    /// Keeps what is of the time that is asked about.
    fn close(&mut self, mut episode: Episode, end: Millis) {
        if end < self.plan.from {
            return;
        }
        episode.until = end;
        episode.within = end - episode.from.max(self.plan.from);
        let label = |name| episode.labels.get(name).to_owned();
        let sum = self.outcome.sums.entry((label("alertname"), label("severity"))).or_default();
        sum.times += 1;
        sum.within += episode.within;
        if self.outcome.episodes.len() < self.room {
            self.outcome.episodes.push(episode);
        }
    }
}

/// The gap that half of the readings have at most, in milliseconds. `None` before there are two.
pub(super) fn usual(gaps: &BTreeMap<Millis, u64>) -> Option<Millis> {
    let half = gaps.values().sum::<u64>().div_ceil(2);
    let mut sum = 0;
    gaps.iter().find_map(|(seconds, count)| {
        sum += count;
        (sum >= half).then_some(seconds * 1000)
    })
}
