//! `utilizer group retire`: hosts stop waiting for exporters that are gone for good.
//!
//! A host keeps every record until each group that it has ever seen has it in its store; that no exporter of a group is
//! there says nothing, since it may be back tomorrow. So somebody has to say that it will not be.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::{Args as ClapArgs, Subcommand};
use daemon::config::duration;
use daemon::signals::{Signal, Signals};
use mqtt::{Event, Message};
use tokio::time::{Instant, sleep_until};
use wire::messages::{Control, ControlAction};
use wire::{CONTENT_TYPE, GroupName, HostName, Timestamp, Topic, VERSION};

use crate::command::{BrokerArgs, CommandError, leave};
use crate::fleet::{Watch, is_online, is_up};

/// What `utilizer group` is asked for.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Let hosts no longer wait for a group of exporters that is gone for good.
    ///
    /// Clears what the broker keeps of the group, and tells every host that is online, again and again, until none waits
    /// for it any more. Records that only this group had yet to store are then gone from the hosts. Hosts that are offline
    /// still wait for it when they come back: call it again then.
    #[command(after_long_help = "Examples:\n  \
        utilizer group retire clickhouse-old\n  \
        utilizer group retire clickhouse-old --timeout 10m --mqtt mqtts://broker.example --username admin --password-file pw")]
    Retire(RetireArgs),
}

/// What `utilizer group retire` is asked for.
#[derive(Debug, ClapArgs)]
pub struct RetireArgs {
    /// The group, as the exporters' `[mqtt] group` names it.
    group: GroupName,
    /// Also while an exporter of the group is online. It makes itself known again, and hosts then wait for it anew.
    #[arg(long)]
    force: bool,
    /// How long to repeat it.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// The pause between two commands to the same host.
const EVERY: Duration = Duration::from_secs(2);

/// The pause before something that found no room is said again.
const BREATH: Duration = Duration::from_millis(200);

/// The longest time to wait for the broker's first answer.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Who asks, in the command.
const AUTHOR: &str = "utilizer group retire";

/// Runs a subcommand of `utilizer group`.
pub async fn run(command: GroupCommand) -> Result<(), CommandError> {
    let GroupCommand::Retire(args) = command;
    let mut signals = Signals::install().map_err(|e| CommandError::Failed(format!("can't take signals: {e}")))?;
    tokio::select! {
        result = retire(args) => result,
        () = async { while signals.next().await != Signal::Stop {} } => {
            Err(CommandError::Failed("stopped before every host had answered; calling it again does no harm".to_owned()))
        }
    }
}

async fn retire(args: RetireArgs) -> Result<(), CommandError> {
    let RetireArgs { group, force, timeout, broker } = args;
    let mut watch = Watch::start(&broker, "retire", FIRST_LOOK).await?;
    let members: Vec<_> = watch.fleet.members_of(&group).cloned().collect();
    if let Some(member) = members.iter().find(|status| is_up(status))
        && !force
    {
        return Err(CommandError::Failed(format!(
            "the exporter {} of the group {group} is online; stop it first (or --force)",
            member.member
        )));
    }
    if members.is_empty() && watch.fleet.waiting(&group).next().is_none() {
        return Err(CommandError::Failed(format!(
            "no exporter and no host knows the group {group}; `utilizer status` lists those that are known"
        )));
    }
    let mut queue: Vec<Message> = Vec::new();
    for member in &members {
        // An empty retained message takes the last one away.
        let topic = Topic::Tier(member.group.clone(), member.member.clone()).to_string();
        queue.push(Message { topic, retain: true, ..Message::default() });
    }
    say(format_args!("retained statuses of the group {group} that are cleared: {}", members.len()))?;

    let (limit, mut next) = (Instant::now() + timeout, Instant::now());
    let mut told: BTreeSet<HostName> = BTreeSet::new();
    let mut reported = usize::MAX;
    loop {
        while let Some(message) = queue.pop() {
            if let Err(error) = watch.client.try_publish(0, message) {
                queue.push(error.into_message());
                break;
            }
        }
        let waiting: Vec<_> = watch.fleet.waiting(&group).filter(|status| is_online(status)).collect();
        let done = waiting.is_empty() && queue.is_empty() && watch.client.in_flight() == 0;
        if done || Instant::now() >= limit {
            break;
        }
        if Instant::now() >= next && queue.is_empty() {
            next = Instant::now() + EVERY;
            if waiting.len() != reported {
                reported = waiting.len();
                say(format_args!("hosts that are online, wait for it and are told: {reported}"))?;
            }
            told.extend(waiting.iter().map(|status| status.host.clone()));
            queue = waiting.iter().map(|status| command(&status.host, &group)).collect();
            continue;
        }
        tokio::select! {
            event = watch.events.recv() => {
                if let Some(Event::Refused { reason, .. }) = watch.hear(event)? {
                    return Err(CommandError::Failed(format!("{reason}; this user must be allowed to write commands")));
                }
            }
            // With something still to be said, it waits for room on the connection, or for the connection itself.
            () = sleep_until(next.max(Instant::now() + BREATH).min(limit)) => {}
        }
    }
    let (online, offline): (Vec<_>, Vec<_>) = watch.fleet.waiting(&group).cloned().partition(is_online);
    leave(&watch.client, &mut watch.events).await;
    if !online.is_empty() {
        let names: Vec<_> = online.iter().map(|status| status.host.to_string()).collect();
        return Err(CommandError::Failed(format!(
            "after {} these hosts still wait for the group {group}: {}; are they allowed to read their commands?",
            duration::format(timeout),
            some(&names)
        )));
    }
    say(format_args!("hosts that no longer wait for the group {group}: {}", told.len()))?;
    if !offline.is_empty() {
        let names: Vec<_> = offline.iter().map(|status| status.host.to_string()).collect();
        say(format_args!(
            "these hosts are offline and will still wait for it; call this again when they are back: {}",
            some(&names)
        ))?;
    }
    Ok(())
}

fn command(host: &HostName, group: &GroupName) -> Message {
    let control = Control {
        v: VERSION,
        action: ControlAction::RetireGroup,
        author: AUTHOR.to_owned(),
        time: Timestamp::from(SystemTime::now()),
        until: None,
        group: Some(group.clone()),
    };
    Message {
        topic: Topic::Control(host.clone()).to_string(),
        payload: Bytes::from(wire::encode(&control)),
        retain: false,
        content_type: Some(CONTENT_TYPE.to_owned()),
        user_properties: Vec::new(),
    }
}

/// The first names of a list.
fn some(names: &[String]) -> String {
    const MOST: usize = 20;
    match names.get(..MOST) {
        Some(first) if names.len() > MOST => format!("{} and {} more", first.join(", "), names.len() - MOST),
        _ => names.join(", "),
    }
}

fn say(text: std::fmt::Arguments<'_>) -> Result<(), CommandError> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| CommandError::output(&error))
}
