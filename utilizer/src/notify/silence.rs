//! `utilizer silence`: what nobody is to be told of for a while.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs, Subcommand};
use daemon::config::duration;
use hyper::Method;
use notify::matcher;
use notify::silence::{Origin, Silence};
use rules::labels::MatchOp;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use wire::messages::MatchOperator;
use wire::{LabelSet, SilenceId, Timestamp, Topic};

use super::{Output, author, now, print};
use crate::agent::{AgentArgs, moment, percent};
use crate::command::{BrokerArgs, CommandError, FleetArgs, leave};
use crate::fleet::{Watch, message};
use crate::terminal::{Cell, Colour, Paint, cell, plain, table};

/// What this user must be allowed to.
const RIGHT: &str = "write the fleet's silences (utilizer/v1/fleet/silences/+)";

/// What `utilizer silence` is asked for.
#[derive(Debug, Subcommand)]
pub enum SilenceCommand {
    /// Let nobody be told of some alerts for a while. Prints the silence's id.
    ///
    /// Alerts fire on, and their beginnings and ends are stored. With --mqtt every host that the matchers fit keeps quiet, and
    /// so does exporter-alertmanager about hosts that are gone; hosts that come later hear of it as well.
    #[command(after_long_help = "Examples:\n  \
        utilizer silence add alertname=DiskFull mountpoint=/srv --for 2h --comment 'new disks'\n  \
        utilizer silence add 'host=~\"web-0[1-4]\"' --until 2026-01-31T12:00:00Z --comment move --mqtt mqtt://broker.example")]
    Add(AddArgs),
    /// Show the silences.
    #[command(after_long_help = "Examples:\n  \
        utilizer silence list\n  \
        utilizer silence list --mqtt mqtt://broker.example | jq -r .id")]
    List(ListArgs),
    /// End silences now.
    #[command(after_long_help = "Examples:\n  \
        utilizer silence expire 9c1b4a1e-6f0b-4a53-9a55-0d3c7c1f9a11\n  \
        utilizer silence expire 5f1e2d3c4b5a6978 --mqtt mqtt://broker.example")]
    Expire(ExpireArgs),
}

/// What `utilizer silence add` is asked for.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("end").required(true).args(["lasts", "until"]))]
pub struct AddArgs {
    /// Conditions on labels, of which all must hold: NAME=VALUE, NAME!=VALUE, NAME=~REGEX, NAME!~REGEX.
    #[arg(value_name = "MATCHER", required = true)]
    matchers: Vec<String>,
    /// How long, such as 2h.
    #[arg(id = "lasts", long = "for", value_name = "DURATION", value_parser = duration::parse)]
    lasts: Option<Duration>,
    /// Until when: seconds since 1970, or a time like 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// From when [default: now].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    comment: String,
    /// Who [default: $USER].
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What `utilizer silence list` is asked for.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Those too that are over.
    #[arg(long)]
    expired: bool,
    /// One JSON object a line, also on a terminal.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What `utilizer silence expire` is asked for.
#[derive(Debug, ClapArgs)]
pub struct ExpireArgs {
    /// The silences' ids.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Runs a subcommand of `utilizer silence`.
pub async fn run(command: SilenceCommand) -> Result<(), CommandError> {
    match command {
        SilenceCommand::Add(args) => add(args).await,
        SilenceCommand::List(args) => list(args).await,
        SilenceCommand::Expire(args) => expire(args).await,
    }
}

async fn add(args: AddArgs) -> Result<(), CommandError> {
    let now = now();
    let usage = |why: &str| Err(CommandError::Usage(why.to_owned()));
    let starts_at = args.from.unwrap_or(now);
    let ends_at = match (args.lasts, args.until) {
        (Some(lasts), _) => starts_at.plus(lasts),
        (None, until) => until.unwrap_or(starts_at),
    };
    let matchers = matcher::parse_all(&args.matchers).map_err(CommandError::Usage)?;
    if matcher::all_match(&matchers, &LabelSet::default()) {
        return usage("these matchers fit alerts without any label, so nearly all; name one that needs a value");
    }
    if ends_at <= now || ends_at <= starts_at {
        return usage("it would be over before it begins: --until must lie in the future, and --for be more than 0s");
    }
    if args.comment.trim().is_empty() {
        return usage("say why with --comment; whoever finds the silence has nothing else");
    }
    // The author's name is asked for before anything is sent.
    let created_by = author(args.author)?;
    let silence = Silence {
        id: String::new(),
        matchers,
        starts_at,
        ends_at,
        created_by,
        comment: args.comment,
        origin: Origin::Fleet,
    };
    let Some(broker) = args.fleet.broker()? else {
        #[derive(Deserialize)]
        struct Made {
            #[serde(rename = "silenceID")]
            id: String,
        }
        let made: Made = args.agent.call(Method::POST, "/api/v2/silences", Some(&posted(&silence))).await?;
        return print(&format!("{}\n", plain(&made.id)));
    };
    let id = format!("{:016x}", RandomState::new().hash_one((std::process::id(), now.as_millis())));
    let id: SilenceId = id.parse().map_err(|error| CommandError::Failed(format!("BUG: {error}")))?;
    let mut watch = Watch::of(&broker, "silence", Vec::new(), args.agent.timeout).await?;
    let silence = message(&Topic::Silence(id.clone()), Some(wire::encode(&silence.written())), true);
    watch.say(vec![silence], RIGHT, args.agent.timeout).await?;
    leave(&watch.client, &mut watch.events).await;
    print(&format!("{id}\n"))
}

/// As Alertmanager's API takes it.
fn posted(silence: &Silence) -> Json {
    let matchers: Vec<Json> = silence
        .matchers
        .iter()
        .map(|matcher| {
            json!({
                "name": matcher.name,
                "value": matcher.value,
                "isRegex": matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex),
                "isEqual": matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
            })
        })
        .collect();
    json!({
        "matchers": matchers,
        "startsAt": silence.starts_at,
        "endsAt": silence.ends_at,
        "createdBy": silence.created_by,
        "comment": silence.comment,
    })
}

/// A silence as an agent shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    status: State,
    matchers: Vec<Condition>,
    ends_at: Timestamp,
    created_by: String,
    comment: String,
    #[serde(default)]
    origin: String,
}

#[derive(Debug, Deserialize)]
struct State {
    state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    name: String,
    value: String,
    is_regex: bool,
    is_equal: bool,
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    id: String,
    state: String,
    until: Timestamp,
    origin: String,
    author: String,
    matchers: Vec<String>,
    comment: String,
}

async fn list(args: ListArgs) -> Result<(), CommandError> {
    let output = Output::new(args.json);
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    let wanted = |row: &Row| args.expired || row.state != "expired";
    match args.fleet.broker()? {
        None => {
            let silences: Vec<Json> = args.agent.call(Method::GET, "/api/v2/silences", None).await?;
            for line in silences {
                let row = Shown::deserialize(&line).map(Row::of).map_err(|error| {
                    CommandError::Failed(format!(
                        "a silence that it answers can't be read: {}",
                        plain(&error.to_string())
                    ))
                })?;
                if wanted(&row) {
                    lines.push(line);
                    rows.push(row);
                }
            }
        }
        Some(broker) => {
            let mut watch = fleet(&broker, args.agent.timeout).await?;
            leave(&watch.client, &mut watch.events).await;
            watch.fleet.tell_unreadable();
            let now = now();
            for (id, silence) in &watch.fleet.silences {
                let row = Row::of_fleet(id, silence, now);
                if wanted(&row) {
                    let mut line = json!(silence);
                    if let Some(line) = line.as_object_mut() {
                        line.insert("id".to_owned(), json!(id));
                        line.insert("state".to_owned(), json!(row.state));
                    }
                    lines.push(line);
                    rows.push(row);
                }
            }
        }
    }
    output.show(&lines, |paint| as_text(rows, paint))
}

async fn fleet(broker: &BrokerArgs, within: Duration) -> Result<Watch, CommandError> {
    Watch::of(broker, "silence", vec![Topic::all_silences()], within).await
}

async fn expire(args: ExpireArgs) -> Result<(), CommandError> {
    let Some(broker) = args.fleet.broker()? else {
        for id in &args.ids {
            let _: Json = args.agent.call(Method::DELETE, &format!("/api/v2/silence/{}", percent(id)), None).await?;
        }
        return Ok(());
    };
    let mut watch = fleet(&broker, args.agent.timeout).await?;
    let mut messages = Vec::new();
    for id in &args.ids {
        let id: SilenceId = id.parse().map_err(|error| CommandError::Usage(format!("{id:?}: {error}")))?;
        let topic = Topic::Silence(id.clone());
        if !watch.fleet.silences.contains_key(&id) && !watch.fleet.unreadable.contains_key(&topic.to_string()) {
            leave(&watch.client, &mut watch.events).await;
            return Err(CommandError::Failed(format!("the fleet has no silence {id}")));
        }
        messages.push(message(&topic, None, true));
    }
    watch.say(messages, RIGHT, args.agent.timeout).await?;
    leave(&watch.client, &mut watch.events).await;
    Ok(())
}

impl Row {
    fn of(shown: Shown) -> Self {
        let matchers = shown.matchers.iter().map(|matcher| {
            let sign = match (matcher.is_regex, matcher.is_equal) {
                (false, true) => "=",
                (false, false) => "!=",
                (true, true) => "=~",
                (true, false) => "!~",
            };
            condition(&matcher.name, sign, &matcher.value)
        });
        Self {
            id: shown.id,
            state: shown.status.state,
            until: shown.ends_at,
            origin: shown.origin,
            author: shown.created_by,
            matchers: matchers.collect(),
            comment: shown.comment,
        }
    }

    fn of_fleet(id: &SilenceId, silence: &wire::messages::Silence, now: Timestamp) -> Self {
        let state = match (now < silence.starts_at, now < silence.ends_at) {
            (true, _) => "pending",
            (false, true) => "active",
            (false, false) => "expired",
        };
        let matchers = silence.matchers.iter().map(|matcher| {
            let sign = match matcher.operator {
                MatchOperator::Equal => "=",
                MatchOperator::NotEqual => "!=",
                MatchOperator::Regex => "=~",
                MatchOperator::NotRegex => "!~",
            };
            condition(&matcher.name, sign, &matcher.value)
        });
        Self {
            id: id.to_string(),
            state: state.to_owned(),
            until: silence.ends_at,
            origin: "fleet".to_owned(),
            author: silence.author.clone(),
            matchers: matchers.collect(),
            comment: silence.comment.clone(),
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let colour = (self.state != "active").then_some(Colour::Dim);
        vec![
            cell(plain(&self.id)),
            (plain(&self.state).into_owned(), colour),
            cell(self.until.to_string()),
            cell(plain(&self.origin)),
            cell(plain(&self.author)),
            cell(plain(&self.matchers.join(" "))),
            cell(plain(&self.comment)),
        ]
    }
}

fn condition(name: &str, sign: &str, value: &str) -> String {
    format!("{name}{sign}{value:?}")
}

/// Those that end first stand first.
fn as_text(mut rows: Vec<Row>, paint: Paint) -> String {
    if rows.is_empty() {
        return format!("{}\n", paint.on(Colour::Dim, "no silences"));
    }
    rows.sort_by_key(|row| row.until);
    let head = ["ID", "STATE", "UNTIL", "OF", "WHO", "MATCHERS", "COMMENT"];
    table(&head, rows.iter().map(Row::cells).collect(), paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_of_both_kinds_look_alike() {
        let shown: Shown = serde_json::from_value(json!({
            "id": "s-1", "status": {"state": "active"}, "endsAt": "2026-11-21T12:00:00Z", "createdBy": "ann",
            "comment": "disks\u{1b}", "origin": "host",
            "matchers": [{"name": "a", "value": "b", "isRegex": false, "isEqual": true},
                         {"name": "c", "value": "d.*", "isRegex": true, "isEqual": false}],
        }))
        .unwrap();
        let fleet: wire::messages::Silence = serde_json::from_value(json!({
            "v": 1, "matchers": [{"name": "host", "operator": "=~", "value": "web-.*"}], "author": "bob", "comment": "move",
            "starts_at": "2026-11-21T10:00:00Z", "ends_at": "2026-11-21T11:00:00Z",
        }))
        .unwrap();
        let id = "0123456789abcdef".parse().unwrap();
        let rows = vec![Row::of(shown), Row::of_fleet(&id, &fleet, "2026-11-21T11:00:00Z".parse().unwrap())];
        assert_eq!(
            as_text(rows, Paint(false)),
            "ID                STATE    UNTIL                     OF     WHO  MATCHERS        COMMENT\n\
             0123456789abcdef  expired  2026-11-21T11:00:00.000Z  fleet  bob  host=~\"web-.*\"  move\n\
             s-1               active   2026-11-21T12:00:00.000Z  host   ann  a=\"b\" c!~\"d.*\"  disks\\x1b\n"
        );
    }
}
