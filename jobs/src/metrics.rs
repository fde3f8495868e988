//! What the daemon says about itself, for `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::result::Outcome;

type Labels<const N: usize> = [(&'static str, String); N];

/// Why a request was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Asker,
    UnknownJob,
    Request,
    Params,
    Running,
    Rate,
    Concurrency,
    Ids,
    Stopping,
    Audit,
}

impl Refusal {
    const ALL: [Refusal; 10] = [
        Refusal::Asker,
        Refusal::UnknownJob,
        Refusal::Request,
        Refusal::Params,
        Refusal::Running,
        Refusal::Rate,
        Refusal::Concurrency,
        Refusal::Ids,
        Refusal::Stopping,
        Refusal::Audit,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Refusal::Asker => "asker",
            Refusal::UnknownJob => "unknown_job",
            Refusal::Request => "request",
            Refusal::Params => "params",
            Refusal::Running => "running",
            Refusal::Rate => "rate",
            Refusal::Concurrency => "concurrency",
            Refusal::Ids => "ids",
            Refusal::Stopping => "stopping",
            Refusal::Audit => "audit",
        }
    }
}

/// The metrics of one daemon. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    runs: Family<Labels<2>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    output_dropped: Family<Labels<1>, Counter>,
    refused: Family<Labels<1>, Counter>,
    /// Requests whose id had run before, answered with that run's result.
    pub(crate) repeated: Counter,
    running: Gauge,
    /// 1 unless the last reload was refused.
    pub(crate) reloaded: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // 10 ms to 11 minutes.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.01, 4.0, 9));
        let mut metrics = Self {
            registry: Arc::default(),
            runs: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            output_dropped: Family::default(),
            refused: Family::default(),
            repeated: Counter::default(),
            running: Gauge::default(),
            reloaded: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("utilizer_jobs");
        registry.register("runs", "Commands that ended, by how", metrics.runs.clone());
        registry.register_with_unit("run", "How long commands took", Unit::Seconds, metrics.seconds.clone());
        registry.register_with_unit(
            "output_dropped",
            "Output that was not kept",
            Unit::Bytes,
            metrics.output_dropped.clone(),
        );
        registry.register("requests_refused", "Requests that were not run, by the reason", metrics.refused.clone());
        registry.register(
            "requests_repeated",
            "Requests answered with the result of the run that had their id",
            metrics.repeated.clone(),
        );
        registry.register("running", "Commands that run now", metrics.running.clone());
        registry.register(
            "config_last_reload_successful",
            "1 unless the last reload was refused",
            metrics.reloaded.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics.reloaded.set(1);
        for refusal in Refusal::ALL {
            let _ = metrics.refused.get_or_create(&[("reason", refusal.label().to_owned())]);
        }
        metrics
    }

    /// Has the series of a job from the start, so that the first run is an increase.
    pub(crate) fn know(&self, job: &str) {
        let outcomes = Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Exited).map(Outcome::label);
        for outcome in ["succeeded", "failed"].into_iter().chain(outcomes) {
            let _ = self.runs.get_or_create(&[("job", job.to_owned()), ("outcome", outcome.to_owned())]);
        }
        let _ = self.output_dropped.get_or_create(&[("job", job.to_owned())]);
    }

    pub(crate) fn ran(&self, job: &str, outcome: Outcome, exit_code: Option<i32>, time: Duration, dropped: u64) {
        let label = match (outcome, exit_code) {
            (Outcome::Exited, Some(0)) => "succeeded",
            (Outcome::Exited, _) => "failed",
            (other, _) => other.label(),
        };
        self.runs.get_or_create(&[("job", job.to_owned()), ("outcome", label.to_owned())]).inc();
        self.seconds.get_or_create(&[("job", job.to_owned())]).observe(time.as_secs_f64());
        self.output_dropped.get_or_create(&[("job", job.to_owned())]).inc_by(dropped);
    }

    pub(crate) fn refused(&self, why: Refusal) {
        self.refused.get_or_create(&[("reason", why.label().to_owned())]).inc();
    }

    pub(crate) fn running(&self, running: usize) {
        self.running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    /// The page.
    pub(crate) fn encode(&self) -> String {
        let mut page = String::new();
        // Writing into a text can't fail.
        let _ = encode(&mut page, &self.registry);
        page
    }
}
