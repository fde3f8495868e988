//! The texts that are compiled in.

use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

use super::{cut, line};
use crate::notification::{Notification, Reason, Status};

/// Longer names and titles help nobody.
const LONGEST_NAME: usize = 80;
/// Of one label's or annotation's text, in characters.
const LONGEST_TEXT: usize = 1000;
/// Labels of one alert that are listed.
const MOST_LABELS: usize = 20;

/// What stands first: `[FIRING:2] HighCPU (web-01)`.
pub fn title(notification: &Notification) -> String {
    let firing = notification.firing().count() + notification.left_out;
    let head = match (notification.reason, notification.status()) {
        (Reason::Test, _) => "TEST".to_owned(),
        (Reason::Heartbeat, _) => "HEARTBEAT".to_owned(),
        (Reason::Failure, _) => "FAILURE".to_owned(),
        (Reason::Digest, _) => format!("DIGEST:{}", notification.alerts.len() + notification.left_out),
        (Reason::Summary, _) => format!("SUMMARY:{}", notification.alerts.len() + notification.left_out),
        (Reason::Escalation(step), Status::Firing) => format!("FIRING:{firing}, step {step}"),
        (Reason::Alerts, Status::Firing) => format!("FIRING:{firing}"),
        (Reason::Alerts | Reason::Escalation(_), Status::Resolved) => "RESOLVED".to_owned(),
    };
    let labels = notification.common_labels();
    let named = labels.get("alertname").or_else(|| notification.group_labels.get("alertname"));
    let name = match (named, notification.reason) {
        (Some(name), _) => name.to_owned(),
        (None, Reason::Heartbeat) => "alive".to_owned(),
        (None, _) if notification.alerts.is_empty() => "utilizer".to_owned(),
        (None, _) => names(&notification.alerts),
    };
    let instance = labels.get("instance").unwrap_or(&notification.host);
    let name = line(&name, LONGEST_NAME);
    match line(instance, LONGEST_NAME) {
        place if place.is_empty() => format!("[{head}] {name}"),
        place => format!("[{head}] {name} ({place})"),
    }
}

/// The names of alerts that have different ones.
fn names(alerts: &[Alert]) -> String {
    const MOST: usize = 3;
    let mut names: Vec<&str> = Vec::new();
    let mut more = 0;
    for alert in alerts {
        let name = alert.labels.get("alertname").unwrap_or("alert");
        if names.contains(&name) {
            continue;
        }
        if names.len() < MOST {
            names.push(name);
        } else {
            // Not all that differ are told apart: it would cost a list as long.
            more += 1;
        }
    }
    let names = names.iter().map(|name| cut(name, 25)).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{names}, …") } else { names }
}

/// Why this is sent, where it is not simply because something fires.
pub fn reason(notification: &Notification) -> Option<String> {
    Some(match notification.reason {
        Reason::Alerts => return None,
        Reason::Escalation(step) => format!("Nobody has acknowledged this yet: step {step} of the escalation."),
        Reason::Digest => {
            "There were more notifications in a minute than this receiver shall get: this one stands for \
                           all of them."
                .to_owned()
        }
        Reason::Summary => {
            "This receiver could not be reached for a while: this one stands for all that it missed.".to_owned()
        }
        Reason::Heartbeat => "All is well. Whoever misses this message knows that the host is silent.".to_owned(),
        Reason::Failure => "A notification could not be delivered to another receiver.".to_owned(),
        Reason::Test => "This is a test of the receiver: nobody has to do anything.".to_owned(),
    })
}

/// How bad, from 0 (nothing fires) to 4 (critical). An unknown severity is as bad as a warning.
pub fn urgency(notification: &Notification) -> u8 {
    let of = |alert: &Alert| match alert.labels.get("severity").unwrap_or_default().to_ascii_lowercase().as_str() {
        "critical" | "emergency" | "page" | "fatal" => 4,
        "error" | "high" | "major" => 3,
        "info" | "information" | "none" | "low" => 1,
        _ => 2,
    };
    match (notification.reason, notification.firing().map(of).max()) {
        (Reason::Heartbeat, _) => 0,
        (Reason::Test, _) => 1,
        (_, Some(urgency)) => urgency,
        (Reason::Failure, None) => 3,
        (_, None) => 0,
    }
}

/// The highest severity among the firing alerts, in the words that most services know.
pub fn severity(notification: &Notification) -> &'static str {
    match urgency(notification) {
        4 => "critical",
        3 => "error",
        2 => "warning",
        _ => "info",
    }
}

/// One alert in words. Nothing in it is escaped; all texts are bounded.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertText {
    /// Whether it fires.
    pub firing: bool,
    /// Its name.
    pub name: String,
    /// `severity`, which may be empty.
    pub severity: String,
    /// The `summary`, or what comes nearest to one; may be empty.
    pub summary: String,
    /// The `description`, where it says something else than the summary.
    pub description: String,
    /// The other labels.
    pub labels: Vec<(String, String)>,
    /// How many labels were left out.
    pub more_labels: usize,
    /// When it began to fire.
    pub since: Timestamp,
    /// When it was over.
    pub until: Option<Timestamp>,
    /// The value of its expression.
    pub value: f64,
    /// `runbook_url`, if it is a web address.
    pub runbook: Option<String>,
}

impl AlertText {
    /// Of an alert.
    pub fn of(alert: &Alert) -> Self {
        let annotation = |names: &[&str]| {
            let found =
                names.iter().find_map(|name| alert.annotations.get(name).filter(|text| !text.trim().is_empty()));
            found.map(|text| cut(text.trim(), LONGEST_TEXT)).unwrap_or_default()
        };
        let label = |name| line(alert.labels.get(name).unwrap_or_default(), LONGEST_NAME);
        let summary = annotation(&["summary", "message", "description"]);
        let description = Some(annotation(&["description"])).filter(|text| *text != summary).unwrap_or_default();
        let others = |set: &LabelSet| -> Vec<(String, String)> {
            let other =
                set.iter().filter(|(name, value)| !["alertname", "severity"].contains(name) && !value.is_empty());
            other.take(MOST_LABELS).map(|(name, value)| (cut(name, LONGEST_NAME), line(value, 200))).collect()
        };
        let labels = others(&alert.labels);
        let of_it = ["alertname", "severity"].iter().filter(|name| alert.labels.get(name).is_some()).count();
        Self {
            firing: alert.resolved_at.is_none(),
            name: Some(label("alertname")).filter(|name| !name.is_empty()).unwrap_or_else(|| "alert".to_owned()),
            severity: label("severity"),
            summary,
            description,
            more_labels: alert.labels.iter().len().saturating_sub(of_it + labels.len()),
            labels,
            since: alert.fired_at,
            until: alert.resolved_at,
            value: alert.value.0,
            runbook: ["runbook_url", "runbook"]
                .iter()
                .find_map(|name| alert.annotations.get(name))
                .and_then(web_address),
        }
    }

    /// `firing` or `resolved`.
    pub fn status(&self) -> &'static str {
        if self.firing { Status::Firing.as_str() } else { Status::Resolved.as_str() }
    }

    /// `since … · value …`
    pub fn when(&self) -> String {
        let since = format!("since {}", moment(self.since));
        match self.until {
            None => format!("{since} · value {}", number(self.value)),
            Some(until) => format!("{since} until {}", moment(until)),
        }
    }

    /// `instance=web-01 · job=node`
    pub fn pairs(&self) -> String {
        let mut pairs: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if self.more_labels > 0 {
            pairs.push(format!("… and {} more labels", self.more_labels));
        }
        pairs.join(" · ")
    }
}

/// The alerts in words.
pub fn alerts(notification: &Notification) -> impl Iterator<Item = AlertText> {
    notification.alerts.iter().map(AlertText::of)
}

/// A link only if it leads to a web page: no label shall make a browser do something else.
fn web_address(text: &str) -> Option<String> {
    const LONGEST: usize = 1000;
    if text.len() > 2 * LONGEST {
        return None;
    }
    let text = text.trim();
    let web = text.starts_with("https://") || text.starts_with("http://");
    let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"<>\"'`|\\()[]{}^".contains(c));
    (web && plain && text.len() <= LONGEST).then(|| text.to_owned())
}

/// `2026-11-22 11:20:05 UTC`
fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {} UTC", rest.get(..8).unwrap_or(rest))
}

/// A number with about four digits.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 {
        return match value {
            f64::INFINITY => "+Inf".to_owned(),
            f64::NEG_INFINITY => "-Inf".to_owned(),
            value => format!("{value}"),
        };
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.3e}");
    }
    let before = size.log10().floor() as i32;
    let behind = usize::try_from(3 - before).unwrap_or(0);
    let text = format!("{value:.behind$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// All of it as plain text of at most so many bytes, with how many alerts are left out at the end.
pub fn body(notification: &Notification, most: usize) -> String {
    const TAIL: usize = 80;
    let mut out = String::new();
    if let Some(reason) = reason(notification) {
        out = cut(&reason, most) + "\n\n";
    }
    let mut listed = 0;
    for alert in alerts(notification) {
        let mut text = format!("{} {}", alert.status().to_uppercase(), alert.name);
        if !alert.severity.is_empty() {
            text += &format!(" ({})", alert.severity);
        }
        for line in [&alert.summary, &alert.description, &alert.when(), &alert.pairs()] {
            if !line.is_empty() {
                text += &format!("\n  {}", line.replace('\n', "\n  "));
            }
        }
        if let Some(runbook) = &alert.runbook {
            text += &format!("\n  runbook: {runbook}");
        }
        if out.len() + text.len() + 2 + TAIL > most {
            break;
        }
        out += &text;
        out += "\n\n";
        listed += 1;
    }
    if let Some(more) = more(notification, listed) {
        out += &more;
        out.push('\n');
    }
    super::cut_bytes(out.trim_end(), most)
}

/// `… and 7 more alerts` than were listed.
pub(crate) fn more(notification: &Notification, listed: usize) -> Option<String> {
    match notification.alerts.len().saturating_sub(listed) + notification.left_out {
        0 => None,
        1 => Some("… and 1 more alert".to_owned()),
        more => Some(format!("… and {more} more alerts")),
    }
}
