//! Runs the collectors of a pass into one [`Families`] and keeps them from harming each other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::snapshot::{Families, Labels, Section};

/// How a collector's last run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has not run yet.
    Waiting,
    /// It found something.
    Data,
    /// This machine does not have what it reads.
    Nothing,
    /// It failed; the text says why.
    Failed(String),
}

/// A collector's last run, for the landing page.
#[derive(Debug, Clone)]
pub struct Status {
    /// The collector.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// How long it took.
    pub duration: Duration,
}

/// What is remembered of each collector between passes.
struct Health {
    status: Status,
    labels: Labels,
    /// How long the collector took as the pass began.
    beginning: Duration,
}

impl Health {
    fn new(name: &'static str) -> Self {
        let labels = Labels::new([("collector", name)]);
        let status = Status { name, state: State::Waiting, duration: Duration::ZERO };
        Self { status, labels, beginning: Duration::ZERO }
    }

    /// Takes note of a run, and says it in the log where it differs from the one before: once per change of state, so
    /// that a broken source does not fill the log.
    fn note(&mut self, result: Result<Outcome, String>, duration: Duration) {
        let name = self.status.name;
        let state = match result {
            Ok(Outcome::Data) => State::Data,
            Ok(Outcome::Nothing) => State::Nothing,
            Err(error) => State::Failed(error),
        };
        match (&self.status.state, &state) {
            (State::Failed(_), State::Failed(_)) => {}
            (_, State::Failed(error)) => warn!(collector = name, error, "collector fails; its families are missing"),
            (State::Failed(_), _) => info!(collector = name, "collector works again"),
            (State::Waiting | State::Data, State::Nothing) => debug!(collector = name, "nothing here to collect"),
            _ => {}
        }
        self.status.state = state;
        self.status.duration = duration;
    }
}

/// Collectors that node_exporter counts as successful where they find nothing: they look for files by patterns.
const EMPTY_IS_SUCCESS: &[&str] = &["bcache", "btrfs", "drm", "edac", "xfs"];

/// The collectors of an agent, with what became of each.
pub struct Registry {
    collectors: Vec<(Box<dyn Collector>, Health)>,
}

impl Registry {
    /// Of these collectors, in this order.
    pub fn new(collectors: Vec<Box<dyn Collector>>) -> Self {
        let with_health = |collector: Box<dyn Collector>| {
            let health = Health::new(collector.name());
            (collector, health)
        };
        Self { collectors: collectors.into_iter().map(with_health).collect() }
    }

    /// Lets collectors that ask others begin, and waits until they have answers, at the latest `until`.
    pub fn settle(&mut self, until: Instant) {
        for (collector, _) in &mut self.collectors {
            // What panics here does so again in the pass, which tells it.
            let _ = catch_unwind(AssertUnwindSafe(|| collector.begin(Pass::Interval)));
        }
        for (collector, _) in &mut self.collectors {
            let _ = catch_unwind(AssertUnwindSafe(|| collector.settle(until)));
        }
    }

    /// Runs every collector and appends its families to `out`, then the families about the collectors themselves.
    pub fn run(&mut self, pass: Pass, out: &mut Families) {
        for (collector, health) in &mut self.collectors {
            let begun = Instant::now();
            // A panic is told by `collect`, which is most likely to meet the same fault.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| collector.begin(pass))) {
                debug!(collector = health.status.name, panic = panic_text(&*panic), "panic as the pass began");
            }
            health.beginning = begun.elapsed();
        }
        for last in [false, true] {
            for (collector, health) in self.collectors.iter_mut().filter(|(one, _)| one.runs_last() == last) {
                out.section(Section::Of(health.status.name));
                let mark = out.mark();
                let begun = Instant::now();
                let result = guarded(|| collector.collect(out));
                if !matches!(result, Ok(Outcome::Data)) {
                    out.truncate(mark);
                }
                health.note(result, health.beginning + begun.elapsed());
            }
        }
        self.describe(out);
    }

    /// How each collector's last run ended.
    pub fn status(&self) -> impl Iterator<Item = &Status> {
        self.health().map(|health| &health.status)
    }

    fn health(&self) -> impl Iterator<Item = &Health> {
        self.collectors.iter().map(|(_, health)| health)
    }

    /// The families about the collectors: ours, and node_exporter's for the rules that users have.
    fn describe(&self, out: &mut Families) {
        // node_exporter counts most collectors that find nothing as unsuccessful; for ours they have not failed.
        let has_data = |status: &Status| {
            let empty = status.state == State::Nothing && EMPTY_IS_SUCCESS.contains(&status.name);
            f64::from(empty || status.state == State::Data)
        };
        let has_not_failed = |state: &State| f64::from(!matches!(state, State::Failed(_)));

        out.section(Section::Collectors);
        out.gauge("node_scrape_collector_duration_seconds", "node_exporter: Duration of a collector scrape.");
        push_each(out, self.health(), |status| status.duration.as_secs_f64());
        out.gauge("node_scrape_collector_success", "node_exporter: Whether a collector succeeded.");
        push_each(out, self.health(), |status| has_data(status));
        out.section(Section::Own);
        out.gauge("utilizer_collector_duration_seconds", "How long the collector's last run took.");
        push_each(out, self.health(), |status| status.duration.as_secs_f64());
        out.gauge(
            "utilizer_collector_success",
            "1 if the collector's last run did not fail; having nothing to read on this machine is no failure.",
        );
        push_each(out, self.health(), |status| has_not_failed(&status.state));
    }
}

/// A sample for each that has run.
fn push_each<'a>(out: &mut Families, all: impl Iterator<Item = &'a Health>, value: impl Fn(&Status) -> f64) {
    for health in all.filter(|health| health.status.state != State::Waiting) {
        out.push(&health.labels, value(&health.status));
    }
}

/// Runs something of a collector's; a panic or an error comes back as a sentence.
fn guarded<T>(run: impl FnOnce() -> Result<T, CollectError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("BUG: the collector panicked: {}", panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::TextError;

    /// Does what the list says, one entry a pass.
    struct Scripted(Vec<&'static str>);

    impl Collector for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
            out.gauge("half", "Written before it goes wrong.");
            out.value(1.0);
            match self.0.remove(0) {
                "data" => Ok(Outcome::Data),
                "nothing" => Ok(Outcome::Nothing),
                "panic" => panic!("at the disco"),
                what => Err(CollectError::Malformed {
                    path: "/x".into(),
                    source: TextError::expected("sense", what.as_bytes()),
                }),
            }
        }
    }

    struct Steady;

    impl Collector for Steady {
        fn name(&self) -> &'static str {
            "steady"
        }

        fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
            out.gauge("steady", "Always there.");
            out.value(7.0);
            Ok(Outcome::Data)
        }
    }

    fn success(out: &Families, family: &str) -> Vec<f64> {
        out.samples(family).iter().map(|sample| sample.value).collect()
    }

    #[test]
    fn one_collectors_failure_touches_nothing_else() {
        let script = vec!["data", "garbage", "panic", "nothing", "data"];
        let mut registry = Registry::new(vec![Box::new(Scripted(script.clone())), Box::new(Steady)]);
        for step in script {
            let mut out = Families::default();
            registry.run(Pass::Interval, &mut out);
            assert_eq!(out.single("steady"), Some(7.0), "{step}");
            assert_eq!(out.single("half").is_some(), step == "data", "{step}");
            let failed = ["garbage", "panic"].contains(&step);
            assert_eq!(success(&out, "utilizer_collector_success"), [f64::from(!failed), 1.0], "{step}");
            assert_eq!(success(&out, "node_scrape_collector_success"), [f64::from(step == "data"), 1.0], "{step}");
            assert_eq!(out.samples("utilizer_collector_duration_seconds").len(), 2);
            let state = registry.status().next().unwrap().state.clone();
            match step {
                "garbage" => assert_eq!(
                    state,
                    State::Failed(r#"/x does not read as expected: expected sense, found "garbage""#.into())
                ),
                "panic" => assert_eq!(state, State::Failed("BUG: the collector panicked: at the disco".into())),
                _ => assert!(!matches!(state, State::Failed(_))),
            }
        }
    }
}
