use std::sync::Arc;

use utilizer_logs::{LogsSection, Origin, Plan, Plans, Policy, RedactSection, Stream};
use wire::Timestamp;
use wire::messages::LogRecord;

mod golden;
mod otlp;
mod plans;
mod policy;
mod redaction;
mod streams;

/// When everything here happens.
pub(crate) fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// An input as it stands in a file; what says nothing of its source has files.
pub(crate) fn plan_of(text: &str) -> Arc<Plan> {
    plan_with(text, &RedactSection::default()).unwrap()
}

pub(crate) fn plan_with(text: &str, redact: &RedactSection) -> Result<Arc<Plan>, String> {
    let mut section: LogsSection = toml::from_str(text).map_err(|error| error.to_string())?;
    if section.journal.is_none() && section.syslog.is_none() && !section.push && section.files.is_empty() {
        section.files = vec!["/var/log/app.log".to_owned()];
    }
    let zones = |name: &str| (name == "local").then_some(jiff::tz::TimeZone::UTC);
    let plans = Plans::new(&[section], redact, &zones).map_err(|faults| {
        faults.into_iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>().join("\n")
    })?;
    Ok(plans.inputs.into_iter().next().unwrap_or(plans.push))
}

/// A small generator of numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// The records of whole lines.
pub(crate) fn records(plan: &Arc<Plan>, lines: &[&str]) -> Vec<LogRecord> {
    let (mut stream, mut policy) = (Stream::new(plan, Origin::default()), Policy::new(plan));
    let (mut out, mut end) = (Vec::new(), 0);
    for line in lines {
        end += line.len() as u64 + 1;
        stream.line(&mut policy, line.as_bytes(), end, 0, now(), &mut out);
    }
    stream.flush(&mut policy, now(), &mut out);
    assert_eq!(stream.done(), end);
    out
}
