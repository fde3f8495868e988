//! `utilizer ack`: somebody takes care of an alert.

use clap::Args as ClapArgs;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use wire::messages::{Acknowledge, Alert};
use wire::{HostName, Topic, VERSION};

use super::{Output, author, now};
use crate::agent::AgentArgs;
use crate::command::{CommandError, FleetArgs, leave};
use crate::fleet::{Watch, is_online, message};
use crate::terminal::{Colour, Paint, plain};

/// What `utilizer ack` is asked for.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The alert: its name, or its id as `utilizer alerts` shows it.
    #[arg(value_name = "ALERT")]
    alert: String,
    /// What there is to say about it.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    /// There is nothing to take care of; reports count it as a false alarm.
    #[arg(long)]
    false_alarm: bool,
    /// Who [default: $USER].
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// The host on which it fires, with --mqtt.
    #[arg(long, value_name = "HOST", requires = "mqtt")]
    host: Option<HostName>,
    /// One JSON object a line, also on a terminal.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, Deserialize)]
struct Answer {
    acknowledged: Vec<Json>,
}

/// Says it once.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let output = Output::new(args.json);
    let author = author(args.author)?;
    let alerts = match args.fleet.broker()? {
        None => {
            let body = json!({
                "alert": args.alert,
                "author": author,
                "comment": args.comment,
                "false_alarm": args.false_alarm,
            });
            let answer: Answer = args.agent.call(Method::POST, "/api/v1/ack", Some(&body)).await?;
            answer.acknowledged
        }
        Some(broker) => {
            let host = args.host.ok_or_else(|| {
                CommandError::Usage("say with --host where it fires; `utilizer alerts --mqtt URL` shows it".to_owned())
            })?;
            let filters = vec![Topic::ActiveAlerts(host.clone()).to_string(), Topic::Status(host.clone()).to_string()];
            let within = args.agent.timeout;
            let mut watch = Watch::of(&broker, "ack", filters, within).await?;
            let active = watch.fleet.active.get(&host).map(|active| active.alerts.clone()).unwrap_or_default();
            let meant = |alert: &Alert| {
                alert.fingerprint == args.alert || alert.labels.get("alertname") == Some(args.alert.as_str())
            };
            let alerts: Vec<Alert> = active.into_iter().filter(meant).collect();
            let fault = match watch.fleet.hosts.get(&host) {
                None => Some(format!("the broker knows no host {host}")),
                Some(status) if !is_online(status) => Some(format!("{host} is offline, and would not hear of it")),
                Some(_) if alerts.is_empty() => {
                    Some(format!("no alert {:?} fires on {host}; its name or its id is needed", plain(&args.alert)))
                }
                Some(_) => None,
            };
            if let Some(fault) = fault {
                leave(&watch.client, &mut watch.events).await;
                return Err(CommandError::Failed(fault));
            }
            let say = |alert: &Alert| {
                let ack = Acknowledge {
                    v: VERSION,
                    fingerprint: alert.fingerprint.clone(),
                    author: author.clone(),
                    comment: args.comment.clone(),
                    false_alarm: args.false_alarm,
                    time: now(),
                };
                message(&Topic::Acknowledge(host.clone()), Some(wire::encode(&ack)), false)
            };
            let right = format!("write commands to {host} (utilizer/v1/command/{host}/ack)");
            watch.say(alerts.iter().map(say).collect(), &right, within).await?;
            leave(&watch.client, &mut watch.events).await;
            alerts.iter().map(|alert| json!(alert)).collect()
        }
    };
    output.show(&alerts, |paint| alerts.iter().map(|alert| line(alert, args.false_alarm, &author, paint)).collect())
}

fn line(alert: &Json, false_alarm: bool, author: &str, paint: Paint) -> String {
    let name = alert["labels"]["alertname"].as_str().unwrap_or_default();
    let rest = alert["labels"].as_object().into_iter().flatten().filter(|(label, _)| *label != "alertname");
    let rest: Vec<_> = rest.map(|(name, value)| format!("{name}={:?}", value.as_str().unwrap_or_default())).collect();
    let what = if false_alarm { "a false alarm, says" } else { "taken care of by" };
    format!("{}{{{}}}: {what} {}\n", paint.on(Colour::Blue, plain(name)), plain(&rest.join(", ")), plain(author))
}
