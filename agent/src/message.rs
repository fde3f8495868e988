//! From a reading to the message that goes over MQTT.

use std::sync::Arc;

use wire::messages::{Family, FamilyType, Gauge, Metrics, Process, Sample};
use wire::{LabelSet, Value};

use crate::processes::ProcessUsage;
use crate::sampler::Reading;
use crate::snapshot::{self, Labels, MetricType};

/// The `metrics` message of one interval.
pub fn metrics(reading: &Reading, labels: &LabelSet, include: &[String]) -> Metrics {
    let gauges = reading
        .gauges
        .iter()
        .map(|gauge| Gauge {
            name: gauge.name.to_owned(),
            labels: label_set(&gauge.labels),
            value: Value(rounded(gauge.name, gauge.value)),
        })
        .collect();
    let processes = reading.processes.iter().flatten().map(process);
    let families = reading.snapshot.families.iter().filter(|family| included(&family.head.name, include)).map(family);
    Metrics {
        interval_seconds: reading.interval.as_secs_f64(),
        labels: labels.clone(),
        gauges,
        families: families.collect(),
        processes: processes.collect(),
    }
}

/// A process in the form of the wire.
fn process(usage: &ProcessUsage) -> Process {
    let details = &usage.details;
    let rate = |rate: Option<f64>| rate.map(|rate| Value(rounded("_bytes_per_second", rate)));
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    Process {
        pid: usage.pid,
        name: usage.name.clone(),
        cpu_percent: Value(rounded("cpu_percent", usage.cpu_percent)),
        memory_percent: usage.memory_percent.map(|percent| Value(rounded("memory_percent", percent))),
        resident_memory_bytes: usage.resident_memory_bytes as u64,
        threads: Some(usage.threads),
        state: Some(usage.state.to_string()),
        start_time_seconds: usage.start_time_seconds.map(Value),
        open_fds: details.open_fds,
        max_fds: details.max_fds,
        read_bytes_per_second: rate(details.read_bytes_per_second),
        write_bytes_per_second: rate(details.write_bytes_per_second),
        user: text(&details.user),
        unit: text(&details.unit),
        container: text(&details.container),
        command_line: text(&details.command_line),
    }
}

/// A family in the form of the wire.
pub fn family(family: snapshot::Family<'_>) -> Family {
    Family {
        name: format!("{}{}", family.head.name, family.head.suffix),
        kind: match family.head.kind {
            MetricType::Counter => FamilyType::Counter,
            MetricType::Gauge => FamilyType::Gauge,
            // The parts of histograms and summaries go as series of their own, as Prometheus stores them.
            MetricType::Untyped | MetricType::Histogram | MetricType::Summary => FamilyType::Unknown,
        },
        scraped: false,
        samples: family
            .samples
            .iter()
            .map(|s| Sample { labels: label_set(&s.labels), value: Value(s.value) })
            .collect(),
    }
}

/// Labels in the form of the wire.
pub fn label_set(labels: &Labels) -> LabelSet {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(crate) fn included(name: &str, include: &[String]) -> bool {
    include.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    })
}

/// Shares to a thousandth of a percent, rates to a tenth of a byte: more digits are noise, and half of the message.
fn rounded(name: &str, value: f64) -> f64 {
    let factor = if name.ends_with("_percent") {
        1000.0
    } else if name.ends_with("_per_second") {
        10.0
    } else {
        return value;
    };
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_chosen_by_name_or_prefix() {
        let include = ["node_load1".to_owned(), "node_network_*".to_owned()];
        assert!(included("node_load1", &include) && included("node_network_up", &include));
        assert!(!included("node_load15", &include) && !included("node_netstat_x", &include));
    }

    #[test]
    fn digits_beyond_sense_are_cut() {
        assert_eq!(rounded("cpu_percent", 12.345_678), 12.346);
        assert_eq!(rounded("disk_read_bytes_per_second", 1234.567), 1234.6);
        assert_eq!(rounded("memory_used_bytes", 1234.567), 1234.567);
    }
}
