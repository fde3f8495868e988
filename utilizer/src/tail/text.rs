//! Lines for people: `time host LEVEL service message`, in columns that widen as wider values come.

use std::fmt::Write;

use wire::messages::{
    AlertState, AlertTransition, HostState, JobStatus, JobTransition, Level, LogRecord, Metrics, PipelineRecord, Status,
};
use wire::{LabelSet, Timestamp};

use super::entry::Entry;
use crate::terminal::{Colour, Paint, human_bytes, plain};

/// A host's column takes at most this.
const WIDEST_HOST: usize = 32;
/// A service's column takes at most this.
const WIDEST_SERVICE: usize = 24;

/// Writes lines.
#[derive(Debug)]
pub struct Text {
    paint: Paint,
    host: usize,
    tag: usize,
    service: usize,
    /// The latest day of an entry so far. Others are written with their day.
    day: String,
}

impl Text {
    /// `only_logs`: the column of the level needs no room for names of kinds.
    pub fn new(paint: Paint, only_logs: bool) -> Self {
        Self { paint, host: 0, tag: if only_logs { 5 } else { 8 }, service: 0, day: String::new() }
    }

    /// The line of an entry, without its end.
    pub fn line(&mut self, entry: &Entry) -> String {
        match entry {
            Entry::Log(head, _, record) => {
                let LogRecord { timestamp, level, service_name, message, .. } = &**record;
                self.row(*timestamp, head.host.as_str(), *level, service_name, message)
            }
            Entry::Metrics(head, body) => {
                self.columns(head.time, head.host.as_str(), "metrics", Some(Colour::Dim), &metrics(body))
            }
            Entry::Alert(head, transition) => {
                let colour = match transition.state {
                    AlertState::Firing => Colour::Red,
                    AlertState::Resolved => Colour::Green,
                    AlertState::Acknowledged => Colour::Yellow,
                };
                self.columns(head.time, head.host.as_str(), "alert", Some(colour), &alert(transition))
            }
            Entry::Pipeline(head, _, record) => {
                let time = record.recorded_at.unwrap_or(head.time);
                self.columns(time, head.host.as_str(), "pipeline", Some(Colour::Dim), &pipeline(record))
            }
            Entry::Job(head, transition) => {
                let colour = match transition.status {
                    JobStatus::Failed => Colour::Red,
                    JobStatus::Completed => Colour::Green,
                    JobStatus::Pending | JobStatus::Running => Colour::Dim,
                };
                self.columns(head.time, head.host.as_str(), "job", Some(colour), &job(transition))
            }
            Entry::Status(status) => {
                let (tag, colour) = match status.state {
                    HostState::Online => ("online", Colour::Green),
                    HostState::Offline => ("offline", Colour::Red),
                };
                self.columns(status.time, status.host.as_str(), tag, Some(colour), &state(status))
            }
            Entry::Gap { host, of, from, to, time, .. } => {
                let text = match to - from {
                    0 => format!("{of} record {from} did not come (yet)"),
                    more => format!("{} {of} records, {from} to {to}, did not come (yet)", more + 1),
                };
                self.columns(*time, host.as_str(), "gap", Some(Colour::Yellow), &text)
            }
            Entry::Unreadable { topic, reason } => {
                let text = format!("unreadable: {}: {}", plain(topic), plain(reason));
                self.paint.on(Colour::Yellow, text)
            }
        }
    }

    /// A log line, without its end.
    pub fn row(&mut self, time: Timestamp, host: &str, level: Level, service: &str, message: &str) -> String {
        let text = self.log(service, message);
        self.columns(time, &plain(host), level.as_str(), level_colour(level), &text)
    }

    fn columns(&mut self, time: Timestamp, host: &str, tag: &str, colour: Option<Colour>, text: &str) -> String {
        let time = time.to_string();
        let (day, clock) = time.trim_end_matches('Z').split_once('T').unwrap_or((&time, ""));
        if *day > *self.day {
            self.day = day.to_owned();
        }
        let time = if day == self.day { clock.to_owned() } else { format!("{day} {clock}") };
        self.host = self.host.max(host.chars().count().min(WIDEST_HOST));
        let tag = format!("{tag:<width$}", width = self.tag);
        let tag = colour.map_or_else(|| tag.clone(), |colour| self.paint.on(colour, &tag));
        let (time, host) = (self.paint.on(Colour::Dim, time), format!("{host:<width$}", width = self.host));
        format!("{time} {} {tag} {text}", self.paint.on(Colour::Blue, host)).trim_end().to_owned()
    }

    fn log(&mut self, service: &str, message: &str) -> String {
        let service = plain(service);
        self.service = self.service.max(service.chars().count().min(WIDEST_SERVICE));
        let message = plain(message);
        if self.service == 0 { message.into_owned() } else { format!("{service:<w$} {message}", w = self.service) }
    }
}

fn level_colour(level: Level) -> Option<Colour> {
    match level {
        Level::Debug => Some(Colour::Dim),
        Level::Info => None,
        Level::Warn => Some(Colour::Yellow),
        Level::Error => Some(Colour::Red),
        Level::Fatal => Some(Colour::Alarm),
    }
}

/// The main gauges of an interval. What the host does not have is not there.
fn metrics(body: &Metrics) -> String {
    let all = |name: &'static str| {
        body.gauges
            .iter()
            .filter(move |g| g.name == name)
            .map(|g| (g.value.0, &g.labels))
            .filter(|(v, _)| v.is_finite())
    };
    let fullest = |name| all(name).max_by(|a, b| a.0.total_cmp(&b.0));
    let mut parts: Vec<String> = Vec::new();
    for (name, word) in [("cpu_percent", "cpu"), ("memory_percent", "memory"), ("swap_percent", "swap")] {
        parts.extend(all(name).next().map(|(value, _)| format!("{word} {value:.1}%")));
    }
    parts.extend(all("load1").next().map(|(value, _)| format!("load {value:.2}")));
    parts.extend(fullest("disk_percent").map(|(value, labels)| {
        format!("disk {value:.1}% {}", plain(labels.get("mountpoint").unwrap_or_default())).trim_end().to_owned()
    }));
    let rate = |name| Some(human_bytes(all(name).map(|(value, _)| value).sum())).filter(|_| all(name).next().is_some());
    for (name, before, after) in [
        ("disk_read_bytes_per_second", "read ", ""),
        ("disk_write_bytes_per_second", "written ", ""),
        ("network_receive_bytes_per_second", "network ", " in"),
        ("network_transmit_bytes_per_second", "", " out"),
    ] {
        parts.extend(rate(name).map(|rate| format!("{before}{rate}/s{after}")));
    }
    parts.extend(fullest("gpu_load").map(|(value, _)| format!("gpu {value:.0}%")));
    parts.extend(
        body.processes.first().map(|process| format!("top {} ({:.0}%)", plain(&process.name), process.cpu_percent.0)),
    );
    parts.join("  ")
}

fn alert(transition: &AlertTransition) -> String {
    let alert = &transition.alert;
    let state = match transition.state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
        AlertState::Acknowledged => "acknowledged",
    };
    let label = |name| plain(alert.labels.get(name).unwrap_or_default());
    let mut text = format!("{state} {} {}", label("severity"), label("alertname"));
    let others = alert.labels.iter().filter(|(name, _)| !matches!(*name, "severity" | "alertname"));
    let others: LabelSet = others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    text += &labels(&others);
    let _ = write!(text, " {}", alert.value.0);
    if let Some(summary) = alert.annotations.get("summary").or_else(|| alert.annotations.get("description")) {
        let _ = write!(text, ": {}", plain(summary));
    }
    text
}

fn labels(labels: &LabelSet) -> String {
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{}=\"{}\"", plain(name), plain(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn pipeline(record: &PipelineRecord) -> String {
    let PipelineRecord { job_id, stage, metric_name, metric_value, metadata, .. } = record;
    let metadata = metadata.as_ref().map_or_else(String::new, object);
    format!("{} {} {} {}{metadata}", plain(job_id), plain(stage), plain(metric_name), metric_value.0)
}

fn object(map: &serde_json::Map<String, serde_json::Value>) -> String {
    let text = serde_json::to_string(map).unwrap_or_default();
    format!(" {}", plain(&text))
}

fn job(transition: &JobTransition) -> String {
    let state = match transition.status {
        JobStatus::Pending => "pending",
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed => "failed",
    };
    let result = transition.result.as_ref().map_or_else(String::new, object);
    let error = transition.error_message.as_ref().map_or_else(String::new, |error| format!(": {}", plain(error)));
    format!("{} {state}{result}{error}", transition.job)
}

fn state(status: &Status) -> String {
    match status.state {
        HostState::Offline if status.stopped => "its agent was stopped".to_owned(),
        HostState::Offline => "its agent lost the broker, or died".to_owned(),
        HostState::Online => {
            let mut text = format!("version {}", plain(&status.version));
            if let Some(seconds) = status.interval_seconds {
                let _ = write!(text, ", every {seconds} s");
            }
            if !status.groups.is_empty() {
                let groups: Vec<_> = status.groups.iter().map(|group| group.as_str()).collect();
                let _ = write!(text, ", waits for {}", groups.join(" and "));
            }
            match status.dropped.iter().map(|loss| loss.to - loss.from + 1).sum::<u64>() {
                0 => {}
                1 => text.push_str(", 1 record declared lost"),
                lost => drop(write!(text, ", {lost} records declared lost")),
            }
            text
        }
    }
}
