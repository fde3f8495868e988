//! What rules tell the rest of the agent.

use std::time::Duration;

use rules::group::{Counts, State};
use rules::window::Usage;
use wire::messages::Alert;

use crate::snapshot::{Families, Labels};

/// As of the last evaluation.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The alerts that fire, by fingerprint.
    pub firing: Vec<Alert>,
    /// How many are pending.
    pub pending: usize,
    /// Rules that are loaded, and their groups.
    pub rules: usize,
    /// See [`Told::rules`].
    pub groups: usize,
    /// Rules whose last evaluation failed.
    pub failing: usize,
    /// What was counted.
    pub counts: Counts,
    /// What the window holds.
    pub usage: Usage,
    /// Samples that did not get into the window.
    pub left_out: u64,
    /// What evaluating costs.
    pub evaluation: Evaluation,
    /// Transitions that did not get into the spool.
    pub lost: u64,
    /// Whether the rules on disk are those in force.
    pub reloaded: bool,
}

/// Time spent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evaluation {
    /// All of it.
    pub total: Duration,
    /// Of the last group.
    pub last: Duration,
}

impl Told {
    /// As metrics of the agent.
    pub fn describe(&self, out: &mut Families) {
        let value = |out: &mut Families, value: f64| out.value(value);
        out.gauge("utilizer_agent_rules", "Rules that are loaded.");
        value(out, self.rules as f64);
        out.gauge("utilizer_agent_rule_groups", "Groups of rules that are loaded.");
        value(out, self.groups as f64);
        out.gauge(
            "utilizer_agent_rules_last_reload_successful",
            "0 while the rule files, as they are on disk, can't be used and the ones before stay in force.",
        );
        value(out, f64::from(self.reloaded));
        out.counter("utilizer_agent_rule_evaluations_total", "Evaluations of rules.");
        value(out, self.counts.evaluations as f64);
        out.counter("utilizer_agent_rule_evaluation_failures_total", "Evaluations of rules that failed.");
        value(out, self.counts.failures as f64);
        out.counter("utilizer_agent_rule_template_failures_total", "Templates of alerts that could not be rendered.");
        value(out, self.counts.template_failures as f64);
        out.counter("utilizer_agent_rule_missed_evaluations_total", "Evaluations of groups that were left out.");
        value(out, self.counts.missed as f64);
        out.gauge("utilizer_agent_rules_failing", "Rules whose last evaluation failed.");
        value(out, self.failing as f64);
        out.counter("utilizer_agent_rule_evaluation_seconds_total", "Time that evaluations took.");
        value(out, self.evaluation.total.as_secs_f64());
        out.gauge("utilizer_agent_rule_group_last_duration_seconds", "How long the last evaluation of a group took.");
        value(out, self.evaluation.last.as_secs_f64());
        out.gauge("utilizer_agent_alerts", "Alerts by state.");
        for (state, count) in [(State::Pending, self.pending), (State::Firing, self.firing.len())] {
            out.push(&Labels::new([("alertstate", state.as_str())]), count as f64);
        }
        out.counter("utilizer_agent_alerts_fired_total", "Alerts that began to fire.");
        value(out, self.counts.fired as f64);
        out.counter("utilizer_agent_alerts_resolved_total", "Alerts that were resolved.");
        value(out, self.counts.resolved as f64);
        out.counter(
            "utilizer_agent_alerts_lost_total",
            "Beginnings and ends of alerts that found no room in the spool. The retained alerts/active has them all the same.",
        );
        value(out, self.lost as f64);
        out.gauge("utilizer_agent_rule_window_series", "Series that are kept for rules.");
        value(out, self.usage.series as f64);
        out.gauge("utilizer_agent_rule_window_samples", "Samples that are kept for rules.");
        value(out, self.usage.samples as f64);
        out.gauge("utilizer_agent_rule_window_bytes", "Memory that they take.");
        value(out, (self.usage.sample_bytes + self.usage.other_bytes) as f64);
        out.counter("utilizer_agent_rule_window_left_out_total", "Samples that found no room among them.");
        value(out, self.left_out as f64);
    }
}
