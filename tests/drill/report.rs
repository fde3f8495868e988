//! What came out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Outcome;
use crate::load::{Answer, Load, Push};
use crate::plan::Step;
use crate::process::Death;
use crate::verify::{self, Finding, Metrics};
use crate::world::World;

/// The outcome of a drill.
#[derive(Debug)]
pub(crate) struct Report {
    seed: u64,
    span: Duration,
    persistence: bool,
    faults: BTreeMap<(&'static str, String), u32>,
    findings: BTreeMap<(String, Push), Finding>,
    metrics: Metrics,
    holes_in_logs: u64,
    declared: BTreeMap<String, u64>,
    unanswered: usize,
    refused: usize,
    deaths: Vec<Death>,
    /// What the simulation says of its own records.
    sim: Option<Result<String, String>>,
    drained: Option<Duration>,
}

impl Report {
    /// Asks the stores.
    pub(crate) fn new(
        world: &mut World,
        loads: &[Load],
        steps: &[Step],
        seed: u64,
        span: Duration,
        drained: Option<Duration>,
    ) -> Outcome<Self> {
        let mut faults = BTreeMap::new();
        for step in steps {
            *faults.entry((step.fault.name(), step.target.to_string())).or_default() += 1;
        }
        let answers: Vec<Answer> =
            loads.iter().flat_map(|load| load.account().into_iter().map(|pushed| pushed.answer)).collect();
        Ok(Self {
            seed,
            span,
            persistence: world.settings.persistence,
            faults,
            findings: verify::findings(world, loads)?,
            metrics: verify::metrics(world)?,
            holes_in_logs: verify::holes_in_logs(world)?,
            declared: verify::declared(world)?,
            unanswered: answers.iter().filter(|answer| **answer == Answer::Unknown).count(),
            refused: answers.iter().filter(|answer| matches!(answer, Answer::Refused(_))).count(),
            deaths: world.deaths(),
            sim: world.verify_sim()?,
            drained,
        })
    }

    /// Whether nothing was lost or doubled, and everything arrived in time.
    pub(crate) fn is_clean(&self) -> bool {
        let metrics = &self.metrics;
        self.findings.values().all(Finding::is_clean)
            && self.drained.is_some()
            // A simulation ends where it finds no broker at its start, servers where their last process is not gone yet.
            && !self.deaths.iter().any(|death| ["agent-", "exporter-"].iter().any(|of| death.process.starts_with(of)))
            && !matches!(self.sim, Some(Err(_)))
            && metrics.holes == 0
            && self.holes_in_logs == 0
            && metrics.rows == metrics.committed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u32 = self.faults.values().sum();
        writeln!(
            f,
            "seed {}: {faults} faults in {} s, broker's persistence {}",
            self.seed,
            self.span.as_secs(),
            if self.persistence { "on" } else { "off" }
        )?;
        for ((fault, target), count) in &self.faults {
            writeln!(f, "  {count:4} {fault} {target}")?;
        }
        let (mut accepted, mut stored, mut declared, mut lost, mut double, mut wrong) = (0, 0, 0, 0, 0, 0);
        for ((host, kind), finding) in &self.findings {
            accepted += finding.accepted;
            stored += finding.stored;
            declared += finding.declared;
            lost += finding.lost.len();
            double += finding.double.len();
            wrong += finding.refused_but_stored.len() + finding.unknown.len();
            for (what, numbers) in [
                ("lost", &finding.lost),
                ("double", &finding.double),
                ("refused and stored", &finding.refused_but_stored),
                ("never pushed", &finding.unknown),
            ] {
                if !numbers.is_empty() {
                    writeln!(f, "  {host} {kind:?}: {} {what}:{}", numbers.len(), verify::some(numbers))?;
                }
            }
        }
        writeln!(
            f,
            "records: {accepted} accepted, {stored} stored, {declared} declared lost, {lost} lost, {double} double, {wrong} stored and not accepted; \
             pushes: {} unanswered, {} refused",
            self.unanswered, self.refused
        )?;
        let metrics = &self.metrics;
        writeln!(
            f,
            "metrics of {} runs: {} committed, {} rows; numbers without a record: {} in PostgreSQL, {} of logs",
            metrics.boots, metrics.committed, metrics.rows, metrics.holes, self.holes_in_logs
        )?;
        writeln!(f, "messages declared lost in PostgreSQL's ledger: {:?}", self.declared)?;
        let mut deaths: BTreeMap<(&str, &str), (u32, &str)> = BTreeMap::new();
        for death in &self.deaths {
            let entry = deaths.entry((&death.process, &death.status)).or_default();
            *entry = (entry.0 + 1, &death.last_line);
        }
        for ((process, status), (times, last)) in deaths {
            writeln!(f, "ended by itself: {process} ({status}), {times} times, last saying: {last}")?;
        }
        match &self.sim {
            Some(Ok(said)) => writeln!(f, "sim: {}", said.trim())?,
            Some(Err(said)) => writeln!(f, "sim, NOT content: {said}")?,
            None => {}
        }
        match self.drained {
            Some(drained) => write!(f, "everything had arrived {:.1} s after the last fault", drained.as_secs_f64()),
            None => f.write_str("NOT everything arrived in time"),
        }
    }
}
