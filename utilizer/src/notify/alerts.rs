//! `utilizer alerts`: what fires, on one host or on all.

use clap::Args as ClapArgs;
use hyper::Method;
use notify::matcher;
use notify::silence::{Origin, Silence};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use wire::messages::Alert;
use wire::{HostName, LabelSet, Timestamp, Topic};

use super::{Output, now};
use crate::agent::AgentArgs;
use crate::command::{BrokerArgs, CommandError, FleetArgs, leave};
use crate::fleet::{Fleet, Watch};
use crate::status::age;
use crate::terminal::{Cell, Colour, Paint, cell, plain, table};

/// Labels that stand in columns of their own, or are the same in all rows.
const SHOWN_ELSEWHERE: [&str; 4] = ["alertname", "severity", "host", "job"];

/// What `utilizer alerts` is asked for.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Only alerts whose labels fulfil all of these, such as severity=critical or 'instance=~"web-.*"'.
    #[arg(value_name = "MATCHER")]
    matchers: Vec<String>,
    /// One JSON object a line, also on a terminal.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// An alert as an agent shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    labels: LabelSet,
    #[serde(default)]
    annotations: LabelSet,
    starts_at: Timestamp,
    fingerprint: String,
    status: Status,
    #[serde(default)]
    receivers: Vec<Named>,
    acknowledged: Option<Ack>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    silenced_by: Vec<String>,
    #[serde(default)]
    inhibited_by: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Ack {
    by: String,
    #[serde(default)]
    false_alarm: bool,
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    host: Option<HostName>,
    fingerprint: String,
    labels: LabelSet,
    annotations: LabelSet,
    since: Timestamp,
    state: &'static str,
    who: String,
}

/// Looks once.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let matchers = matcher::parse_all(&args.matchers).map_err(CommandError::Usage)?;
    let takes = |labels: &LabelSet| matcher::all_match(&matchers, labels);
    let output = Output::new(args.json);
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    match args.fleet.broker()? {
        None => {
            let alerts: Vec<Json> = args.agent.call(Method::GET, "/api/v2/alerts", None).await?;
            for line in alerts {
                let shown = Shown::deserialize(&line);
                let shown = shown.map_err(|error| {
                    CommandError::Failed(format!(
                        "an alert that it answers can't be read: {}",
                        plain(&error.to_string())
                    ))
                })?;
                if takes(&shown.labels) {
                    lines.push(line);
                    rows.push(Row::of(shown));
                }
            }
        }
        Some(broker) => {
            let fleet = read(&broker, args.agent.timeout).await?;
            let now = now();
            for (host, active) in &fleet.active {
                for alert in &active.alerts {
                    let mut labels = alert.labels.clone();
                    labels.insert("host".to_owned(), host.to_string());
                    if !takes(&labels) {
                        continue;
                    }
                    let mut line = json!(alert);
                    if let Some(line) = line.as_object_mut() {
                        line.insert("host".to_owned(), json!(host));
                    }
                    lines.push(line);
                    rows.push(Row::of_fleet(host, alert, &labels, &fleet, now));
                }
            }
        }
    }
    output.show(&lines, |paint| as_text(rows, now(), paint))
}

/// What the broker keeps of alerts and silences.
async fn read(broker: &BrokerArgs, within: std::time::Duration) -> Result<Fleet, CommandError> {
    let filters = vec![Topic::all_active_alerts(), Topic::all_silences()];
    let mut watch = Watch::of(broker, "alerts", filters, within).await?;
    leave(&watch.client, &mut watch.events).await;
    watch.fleet.tell_unreadable();
    Ok(watch.fleet)
}

impl Row {
    fn of(shown: Shown) -> Self {
        let (state, who) = match &shown.acknowledged {
            Some(ack) if ack.false_alarm => ("false alarm", ack.by.clone()),
            Some(ack) => ("acknowledged", ack.by.clone()),
            None if !shown.status.silenced_by.is_empty() => ("silenced", shown.status.silenced_by.join(",")),
            None if !shown.status.inhibited_by.is_empty() => ("inhibited", String::new()),
            None => {
                let names: Vec<_> = shown.receivers.iter().map(|receiver| receiver.name.as_str()).collect();
                ("firing", names.join(","))
            }
        };
        Self {
            host: None,
            fingerprint: shown.fingerprint,
            labels: shown.labels,
            annotations: shown.annotations,
            since: shown.starts_at,
            state,
            who,
        }
    }

    /// What a host's silences, inhibition and acknowledgements make of it, the host alone knows.
    fn of_fleet(host: &HostName, alert: &Alert, labels: &LabelSet, fleet: &Fleet, now: Timestamp) -> Self {
        let silence = fleet.silences.iter().find(|(id, silence)| {
            Silence::read(id.as_str(), silence, Origin::Fleet).is_ok_and(|silence| silence.hides(labels, now))
        });
        let (state, who) = match silence {
            Some((id, _)) => ("silenced", id.to_string()),
            None => ("firing", String::new()),
        };
        Self {
            host: Some(host.clone()),
            fingerprint: alert.fingerprint.clone(),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            since: alert.fired_at,
            state,
            who,
        }
    }

    fn cells(&self, with_host: bool, now: Timestamp) -> Vec<Cell> {
        let label = |name: &str| self.labels.get(name).unwrap_or_default();
        let severity = label("severity");
        let colour = match severity {
            "critical" | "page" => Some(Colour::Alarm),
            "warning" => Some(Colour::Yellow),
            _ => None,
        };
        let colour = if self.state == "firing" { colour } else { Some(Colour::Dim) };
        let summary = match self.annotations.get("summary").filter(|summary| !summary.is_empty()) {
            Some(summary) => summary.to_owned(),
            None => {
                let rest = self.labels.iter().filter(|(name, _)| !SHOWN_ELSEWHERE.contains(name));
                rest.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            }
        };
        let host = self.host.iter().filter(|_| with_host).map(|host| cell(host.as_str()));
        let rest = [
            cell(plain(&self.fingerprint)),
            (plain(label("alertname")).into_owned(), colour),
            (plain(severity).into_owned(), colour),
            cell(age(self.since, now)),
            cell(self.state),
            cell(plain(&self.who)),
            cell(plain(&summary)),
        ];
        host.chain(rest).collect()
    }
}

/// The worst first, then the oldest.
fn as_text(mut rows: Vec<Row>, now: Timestamp, paint: Paint) -> String {
    if rows.is_empty() {
        return format!("{}\n", paint.on(Colour::Dim, "no alert fires"));
    }
    let rank = |row: &Row| match row.labels.get("severity") {
        Some("critical" | "page") => 0,
        Some("warning") => 1,
        _ => 2,
    };
    rows.sort_by_key(|row| (row.state != "firing", rank(row), row.since));
    let with_host = rows.iter().any(|row| row.host.is_some());
    let head = ["HOST", "ID", "ALERT", "SEVERITY", "SINCE", "STATE", "WHO", "SUMMARY"];
    let head = if with_host { &head[..] } else { &head[1..] };
    table(head, rows.iter().map(|row| row.cells(with_host, now)).collect(), paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        Row::of(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn people_see_the_worst_first_and_nothing_steers_their_terminal() {
        let rows = vec![
            row(
                r#"{"labels": {"alertname": "Slow", "severity": "warning", "path": "/a"}, "startsAt": "2026-11-21T10:00:00Z",
                "fingerprint": "00000000000000a1", "status": {}, "receivers": [{"name": "ops"}, {"name": "db"}]}"#,
            ),
            row(r#"{"labels": {"alertname": "Seen", "severity": "critical"}, "startsAt": "2026-11-21T10:00:00Z",
                "fingerprint": "00000000000000a2", "status": {}, "acknowledged": {"by": "ann", "at": "2026-11-21T10:01:00Z"}}"#),
            row(
                r#"{"labels": {"alertname": "Full\u001b[31m", "severity": "critical"}, "startsAt": "2026-11-21T11:58:30Z",
                "annotations": {"summary": "/srv is\nfull"}, "fingerprint": "00000000000000a3", "status": {}}"#,
            ),
            row(
                r#"{"labels": {"alertname": "Off"}, "startsAt": "2026-11-21T10:00:00Z", "fingerprint": "00000000000000a4",
                "status": {"silencedBy": ["s-1"]}}"#,
            ),
        ];
        let text = as_text(rows, "2026-11-21T12:00:00Z".parse().unwrap(), Paint(false));
        assert_eq!(
            text,
            "ID                ALERT         SEVERITY  SINCE    STATE         WHO     SUMMARY\n\
             00000000000000a3  Full\\x1b[31m  critical  90s ago  firing                /srv is\\nfull\n\
             00000000000000a1  Slow          warning   2h ago   firing        ops,db  path=/a\n\
             00000000000000a2  Seen          critical  2h ago   acknowledged  ann\n\
             00000000000000a4  Off                     2h ago   silenced      s-1\n"
        );
        assert_eq!(as_text(Vec::new(), Timestamp::from_millis(0), Paint(false)), "no alert fires\n");
    }
}
