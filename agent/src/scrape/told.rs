//! What scraping tells of itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::snapshot::{Families, Labels};

/// Counts that all targets share.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// By job and result.
    scrapes: BTreeMap<(String, &'static str), u64>,
    /// Intervals in which a target was not scraped, because the agent had too much to do.
    missed: u64,
    /// Scrapes that the rules had no room for.
    untaken: u64,
    /// CPU time of the thread.
    cpu_seconds: f64,
    /// By the number of the target.
    targets: BTreeMap<u64, State>,
    /// Target files that can't be read, and targets in files that can't be scraped.
    file_faults: usize,
}

/// A target, as people see it.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) job: String,
    pub(super) instance: String,
    /// `None`: not scraped yet.
    pub(super) up: Option<bool>,
    /// Why it is down.
    pub(super) fault: String,
    pub(super) took: Duration,
    pub(super) samples: usize,
}

impl Tally {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn scraped(&self, target: u64, state: State, result: &'static str, cpu_seconds: f64) {
        let mut inner = self.lock();
        *inner.scrapes.entry((state.job.clone(), result)).or_default() += 1;
        inner.cpu_seconds = cpu_seconds;
        // One that was removed meanwhile is not there.
        if let Some(known) = inner.targets.get_mut(&target) {
            *known = state;
        }
    }

    pub(super) fn missed(&self, count: u64) {
        self.lock().missed += count;
    }

    pub(super) fn untaken(&self) {
        self.lock().untaken += 1;
    }

    pub(super) fn add(&self, target: u64, job: &str, instance: &str) {
        let state = State { job: job.to_owned(), instance: instance.to_owned(), ..State::default() };
        self.lock().targets.insert(target, state);
    }

    pub(super) fn remove(&self, target: u64) {
        self.lock().targets.remove(&target);
    }

    /// Gives the number before.
    pub(super) fn file_faults(&self, count: usize) -> usize {
        std::mem::replace(&mut self.lock().file_faults, count)
    }

    /// As metrics of the agent.
    pub(super) fn describe(&self, left_out: u64, out: &mut Families) {
        let inner = self.lock();
        out.counter("utilizer_agent_scrapes_total", "Scrapes of targets, by job and what came of them.");
        for ((job, result), count) in &inner.scrapes {
            out.push(&Labels::new([("job", job), ("result", result)]), *count as f64);
        }
        out.gauge("utilizer_agent_scrape_targets", "Targets that are scraped, by job and health.");
        let mut targets: BTreeMap<(&str, &'static str), usize> = BTreeMap::new();
        for state in inner.targets.values() {
            *targets.entry((&state.job, health(state))).or_default() += 1;
        }
        for ((job, health), count) in targets {
            out.push(&Labels::new([("health", health), ("job", job)]), count as f64);
        }
        let counters = [
            (
                "utilizer_agent_scrape_missed_total",
                "Intervals in which a target was not scraped, because the one before took too long or too many were under way.",
                inner.missed as f64,
            ),
            (
                "utilizer_agent_scrape_untaken_total",
                "Scrapes that rules did not see, because their evaluation took too long.",
                inner.untaken as f64,
            ),
            (
                "utilizer_agent_scrape_unpublished_total",
                "Scraped samples that publish.include names and a record had no room for (publish.max_scraped).",
                left_out as f64,
            ),
            ("utilizer_agent_scrape_cpu_seconds_total", "CPU time of the thread that scrapes.", inner.cpu_seconds),
        ];
        for (name, help, value) in counters {
            out.counter(name, help);
            out.value(value);
        }
        out.gauge("utilizer_agent_scrape_file_faults", "Target files, and targets in them, that can't be used.");
        out.value(inner.file_faults as f64);
    }

    /// In the form of Prometheus' `/api/v1/targets`, as far as it goes.
    pub(super) fn json(&self) -> serde_json::Value {
        let inner = self.lock();
        let targets = inner.targets.values().map(|state| {
            serde_json::json!({
                "scrapePool": state.job,
                "labels": {"job": state.job, "instance": state.instance},
                "health": health(state),
                "lastError": state.fault,
                "lastScrapeDuration": state.took.as_secs_f64(),
            })
        });
        serde_json::json!({"status": "success", "data": {"activeTargets": targets.collect::<Vec<_>>()}})
    }

    /// As a part of the landing page; nothing where nothing is scraped.
    pub(super) fn html(&self, most: usize, escape: impl Fn(&str) -> String) -> String {
        let inner = self.lock();
        let mut page = String::new();
        if inner.targets.is_empty() {
            return page;
        }
        page.push_str("<h2>Targets</h2><table><tr><th>Job<th>Instance<th>State<th>Samples<th>Duration");
        let mut targets: Vec<&State> = inner.targets.values().collect();
        // Those that are down first.
        ::rules::order::sort_by(&mut targets, &|a, b| {
            (a.up != Some(false), &a.job, &a.instance).cmp(&(b.up != Some(false), &b.job, &b.instance))
        });
        for state in targets.iter().take(most) {
            let (class, fault) = match state.up {
                Some(false) => ("failed", format!(": {}", escape(&state.fault))),
                _ => ("", String::new()),
            };
            // Writing to a String can't fail.
            let _ = write!(
                page,
                "<tr><td>{}<td>{}<td class=\"{class}\">{}{fault}<td>{}<td>{:.1} ms",
                escape(&state.job),
                escape(&state.instance),
                health(state),
                state.samples,
                state.took.as_secs_f64() * 1000.0
            );
        }
        page.push_str("</table>");
        if targets.len() > most {
            let _ = write!(page, "<p>and {} more</p>", targets.len() - most);
        }
        page
    }
}

fn health(state: &State) -> &'static str {
    match state.up {
        None => "unknown",
        Some(true) => "up",
        Some(false) => "down",
    }
}
