//! `utilizer status`: hosts and exporters as their retained statuses tell; or, with `--agent`, all that one agent knows of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args as ClapArgs;
use daemon::config::duration;
use serde_json::json;
use wire::messages::{Loss, LossReason, Status, TierStatus};
use wire::{GroupName, Kind, Timestamp, Topic};

use crate::agent::AgentArgs;
use crate::command::{BrokerArgs, CommandError, leave};
use crate::fleet::{Fleet, Watch, is_online, is_up};
use crate::glob;
use crate::health;
use crate::terminal::{Cell, Colour, Paint, cell, plain, plain_json, table};

/// Problems that are told one by one.
const MOST_TOLD: usize = 20;

/// What `utilizer status` is asked for.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Hosts by name, or by patterns with * and ?; all hosts if none is given.
    #[arg(value_name = "HOST|PATTERN")]
    hosts: Vec<String>,
    /// One JSON object, with the statuses as they are published.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if something is wrong: a host that was lost, declared losses, a group without an exporter, a critical
    /// alert. With an agent that is always so.
    #[arg(long)]
    check: bool,
    /// Ask an agent, http://HOST:PORT: services, databases, cache, broker, tier, monitoring, files and alerts, by what it
    /// probes, scrapes and evaluates.
    #[arg(long, value_name = "URL", conflicts_with_all = ["hosts", "url"])]
    agent: Option<String>,
    /// The same over the agent's Unix socket (`serve.unix`).
    #[arg(long, value_name = "PATH", conflicts_with_all = ["hosts", "url", "agent"])]
    unix: Option<PathBuf>,
    /// The longest time to wait for the broker's answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Looks once.
pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    if args.agent.is_some() || args.unix.is_some() {
        return of_agent(args).await;
    }
    let filters = vec![Topic::all_tier_statuses(), Topic::all_statuses(), Topic::all_active_alerts()];
    let mut watch = Watch::of(&args.broker, "status", filters, args.timeout).await?;
    leave(&watch.client, &mut watch.events).await;
    let mut fleet = watch.fleet;
    fleet
        .hosts
        .retain(|host, _| args.hosts.is_empty() || args.hosts.iter().any(|pattern| glob::fits(pattern, host.as_str())));
    fleet.active.retain(|host, _| fleet.hosts.contains_key(host));
    let problems = problems(&fleet);
    let mut stdout = std::io::stdout();
    let text = if args.json {
        plain_json(as_json(&fleet, &problems)) + "\n"
    } else {
        let paint = Paint::new(stdout.is_terminal(), |name| std::env::var(name).ok());
        as_text(&fleet, &problems, Timestamp::from(SystemTime::now()), paint)
    };
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))?;
    Ok(if args.check && !problems.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Looks at what one agent knows of.
async fn of_agent(args: Args) -> Result<ExitCode, CommandError> {
    let url = args.agent.as_deref().unwrap_or("http://127.0.0.1:9100");
    let agent = AgentArgs::at(url, args.unix, args.timeout)?;
    let health = health::ask(&agent).await?;
    let mut stdout = std::io::stdout();
    let text = if args.json {
        plain_json(json!(health).to_string()) + "\n"
    } else {
        let paint = Paint::new(stdout.is_terminal(), |name| std::env::var(name).ok());
        health::as_text(&health, Timestamp::from(SystemTime::now()), paint)
    };
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))?;
    Ok(if health.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong, in sentences.
pub fn problems(fleet: &Fleet) -> Vec<String> {
    let mut problems = Vec::new();
    let mut waited: BTreeMap<&GroupName, usize> = BTreeMap::new();
    for status in fleet.hosts.values() {
        let host = &status.host;
        if !is_online(status) && !status.stopped {
            problems.push(format!("{host} is offline, and its agent was not stopped"));
        }
        if !status.dropped.is_empty() {
            problems.push(format!("{host} declares lost: {}", losses(&status.dropped)));
        }
        for group in &status.groups {
            *waited.entry(group).or_default() += 1;
        }
    }
    for (group, hosts) in waited {
        if !fleet.members_of(group).any(is_up) {
            let hosts = if hosts == 1 { "1 host waits".to_owned() } else { format!("{hosts} hosts wait") };
            problems.push(format!(
                "{hosts} for the group {group}, of which no exporter is online; \
                 if it is gone for good: utilizer group retire {group}"
            ));
        }
    }
    for status in fleet.members.values().filter(|status| !is_up(status)) {
        problems.push(format!("the exporter {} of the group {} is offline", status.member, status.group));
    }
    for (host, active) in &fleet.active {
        for alert in active.alerts.iter().filter(|alert| alert.labels.get("severity") == Some("critical")) {
            let label = |name: &str| plain(alert.labels.get(name).unwrap_or_default()).into_owned();
            let summary = plain(alert.annotations.get("summary").unwrap_or_default());
            let summary = if summary.is_empty() { String::new() } else { format!(": {summary}") };
            problems.push(format!("{host}: the critical alert {} fires{summary}", label("alertname")));
        }
    }
    for (topic, reason) in &fleet.unreadable {
        problems.push(format!("the message on {} can't be read: {}", plain(topic), plain(reason)));
    }
    problems
}

/// For programs.
pub fn as_json(fleet: &Fleet, problems: &[String]) -> String {
    let hosts: Vec<&Status> = fleet.hosts.values().collect();
    let exporters: Vec<&TierStatus> = fleet.members.values().collect();
    json!({"hosts": hosts, "exporters": exporters, "problems": problems}).to_string()
}

/// For people. `now` gives the ages.
pub fn as_text(fleet: &Fleet, problems: &[String], now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    let online = fleet.hosts.values().filter(|status| is_online(status)).count();
    let _ = writeln!(text, "hosts: {online} online, {} offline", fleet.hosts.len() - online);
    if !fleet.hosts.is_empty() {
        let head = ["HOST", "STATE", "STATUS OF", "VERSION", "EVERY", "WAITS FOR", "UNCONFIRMED FROM", "DECLARED LOST"];
        text += &table(&head, fleet.hosts.values().map(|status| host_row(status, now)).collect(), paint);
    }
    let up = fleet.members.values().filter(|status| is_up(status)).count();
    let _ = writeln!(text, "\nexporters: {up} online, {} offline", fleet.members.len() - up);
    if !fleet.members.is_empty() {
        let head = ["GROUP", "MEMBER", "STATE", "STATUS OF", "STORE", "KINDS", "DURABLE", "VERSION"];
        text += &table(&head, fleet.members.values().map(|status| member_row(status, now)).collect(), paint);
    }
    let firing: usize = fleet.active.values().map(|active| active.alerts.len()).sum();
    if firing > 0 {
        let hosts = fleet.active.values().filter(|active| !active.alerts.is_empty()).count();
        let _ = writeln!(text, "\nalerts: {firing} firing on {hosts} hosts; `utilizer alerts --mqtt …` lists them");
    }
    if !problems.is_empty() {
        text.push('\n');
    }
    for problem in problems.iter().take(MOST_TOLD) {
        let _ = writeln!(text, "{} {problem}", paint.on(Colour::Red, "!"));
    }
    if problems.len() > MOST_TOLD {
        let _ = writeln!(text, "{} and {} more", paint.on(Colour::Red, "!"), problems.len() - MOST_TOLD);
    }
    text
}

fn host_row(status: &Status, now: Timestamp) -> Vec<Cell> {
    let state = match (is_online(status), status.stopped) {
        (true, _) => ("online", Colour::Green),
        (false, true) => ("stopped", Colour::Dim),
        (false, false) => ("offline", Colour::Red),
    };
    let groups: Vec<_> = status.groups.iter().map(|group| group.as_str()).collect();
    let interval = status.interval_seconds.map_or_else(String::new, |seconds| format!("{seconds}s"));
    let lost = losses(&status.dropped);
    let colour = (!lost.is_empty()).then_some(Colour::Yellow);
    vec![
        cell(status.host.as_str()),
        (state.0.to_owned(), Some(state.1)),
        cell(age(status.time, now)),
        cell(plain(&status.version)),
        cell(interval),
        cell(groups.join(",")),
        cell(unconfirmed(status)),
        (lost, colour),
    ]
}

fn member_row(status: &TierStatus, now: Timestamp) -> Vec<Cell> {
    let state = if is_up(status) { ("online", Colour::Green) } else { ("offline", Colour::Red) };
    let kinds: Vec<_> = status.kinds.iter().map(|kind| kind.as_str()).collect();
    vec![
        cell(status.group.as_str()),
        cell(status.member.as_str()),
        (state.0.to_owned(), Some(state.1)),
        cell(age(status.time, now)),
        cell(plain(&status.sink)),
        cell(kinds.join(",")),
        cell(if status.durable { "yes" } else { "no" }),
        cell(plain(&status.version)),
    ]
}

/// The lowest number of each kind that some group has not confirmed: of the present run, and how many earlier runs have such.
fn unconfirmed(status: &Status) -> String {
    let mut parts = Vec::new();
    if let Some(kinds) = status.lowest_unconfirmed.get(&status.boot) {
        parts.extend(kinds.iter().map(|(kind, seq)| format!("{kind} {seq}")));
    }
    match status.lowest_unconfirmed.keys().filter(|boot| **boot != status.boot).count() {
        0 => {}
        1 => parts.push("an earlier run".to_owned()),
        runs => parts.push(format!("{runs} earlier runs")),
    }
    parts.join(", ")
}

/// How many records of each kind are declared lost, and why.
fn losses(dropped: &[Loss]) -> String {
    let mut sums: BTreeMap<(Kind, &str), u64> = BTreeMap::new();
    for loss in dropped {
        let reason = match loss.reason {
            LossReason::Full => "full",
            LossReason::Age => "too old",
            LossReason::Corrupt => "unreadable",
            LossReason::Stopped => "stopped",
            LossReason::TooLarge => "too large",
            LossReason::Other => "other",
        };
        let sum = sums.entry((loss.kind, reason)).or_default();
        *sum = sum.saturating_add((loss.to - loss.from).saturating_add(1));
    }
    let parts: Vec<_> = sums.into_iter().map(|((kind, reason), sum)| format!("{sum} {kind} ({reason})")).collect();
    parts.join(", ")
}

/// How long ago, in the largest unit that fits.
pub fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_millis() - time.as_millis()) / 1000;
    match seconds {
        i64::MIN..-5 => "in the future".to_owned(),
        -5..1 => "now".to_owned(),
        1..120 => format!("{seconds}s ago"),
        120..7200 => format!("{}m ago", seconds / 60),
        7200..172_800 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}
