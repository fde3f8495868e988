//! What the broker keeps of hosts and exporters, their retained statuses, and of alerts and silences.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use mqtt::{Client, Event, Events, Message};
use tokio::time::{Instant, timeout_at};
use wire::messages::{ActiveAlerts, AuditHeads, HostState, Silence, Status, TierState, TierStatus};
use wire::{CONTENT_TYPE, GroupName, HostName, MemberName, SilenceId, Topic, decode_state};

use crate::command::{BrokerArgs, CommandError, connect, is_final};
use crate::terminal::plain;

/// A broker sends what it keeps at once. When nothing came for this long, that was all.
const QUIET: Duration = Duration::from_millis(500);

/// The pause before something that found no room is said again.
const BREATH: Duration = Duration::from_millis(200);

/// Hosts and exporters by their last status.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Every host that ever had a status.
    pub hosts: BTreeMap<HostName, Status>,
    /// Every exporter.
    pub members: BTreeMap<(GroupName, MemberName), TierStatus>,
    /// What fires on each host.
    pub active: BTreeMap<HostName, ActiveAlerts>,
    /// How far the chains of each host's audit records go.
    pub audit: BTreeMap<HostName, AuditHeads>,
    /// Silences for all hosts.
    pub silences: BTreeMap<SilenceId, Silence>,
    /// Topics whose message can't be read, with the reason.
    pub unreadable: BTreeMap<String, String>,
}

impl Fleet {
    /// Takes a status; says whether it was one.
    pub fn note(&mut self, message: &Message) -> bool {
        let Message { topic, payload, .. } = message;
        let read = match topic.parse() {
            Ok(Topic::Status(host)) if payload.is_empty() => {
                self.hosts.remove(&host);
                Ok(())
            }
            Ok(Topic::Status(host)) => {
                decode_state("status", payload).map(|status| drop(self.hosts.insert(host, status)))
            }
            Ok(Topic::Tier(group, member)) if payload.is_empty() => {
                self.members.remove(&(group, member));
                Ok(())
            }
            Ok(Topic::Tier(group, member)) => {
                decode_state("tier status", payload).map(|status| drop(self.members.insert((group, member), status)))
            }
            Ok(Topic::ActiveAlerts(host)) if payload.is_empty() => {
                self.active.remove(&host);
                Ok(())
            }
            Ok(Topic::ActiveAlerts(host)) => {
                decode_state("active alerts", payload).map(|active| drop(self.active.insert(host, active)))
            }
            Ok(Topic::AuditHeads(host)) if payload.is_empty() => {
                self.audit.remove(&host);
                Ok(())
            }
            Ok(Topic::AuditHeads(host)) => {
                decode_state("audit", payload).map(|heads| drop(self.audit.insert(host, heads)))
            }
            Ok(Topic::Silence(id)) if payload.is_empty() => {
                self.silences.remove(&id);
                Ok(())
            }
            Ok(Topic::Silence(id)) => {
                decode_state("silence", payload).map(|silence| drop(self.silences.insert(id, silence)))
            }
            Ok(_) => return false,
            Err(error) => {
                self.unreadable.insert(topic.clone(), error.to_string());
                return true;
            }
        };
        match read {
            Ok(()) => drop(self.unreadable.remove(topic)),
            Err(error) => drop(self.unreadable.insert(topic.clone(), error.to_string())),
        }
        true
    }

    /// Says on stderr what can't be read, beside what can.
    pub fn tell_unreadable(&self) {
        for (topic, reason) in &self.unreadable {
            // Whoever closed stderr does not want to know.
            let _ = writeln!(
                std::io::stderr(),
                "utilizer: the message on {} can't be read: {}",
                plain(topic),
                plain(reason)
            );
        }
    }

    /// The hosts that wait for this group.
    pub fn waiting(&self, group: &GroupName) -> impl Iterator<Item = &Status> {
        self.hosts.values().filter(move |status| status.groups.contains(group))
    }

    /// The members of a group.
    pub fn members_of(&self, group: &GroupName) -> impl Iterator<Item = &TierStatus> {
        self.members.iter().filter(move |((of, _), _)| of == group).map(|(_, status)| status)
    }
}

/// Whether a host is connected.
pub fn is_online(status: &Status) -> bool {
    status.state == HostState::Online
}

/// Whether an exporter is connected.
pub fn is_up(status: &TierStatus) -> bool {
    status.state == TierState::Online
}

/// A connection that hears what the broker keeps.
pub struct Watch {
    /// For what else is to be said.
    pub client: Client,
    /// What is heard goes into the fleet by [`hear`](Self::hear).
    pub events: Events,
    /// What was heard.
    pub fleet: Fleet,
}

impl Watch {
    /// Connects and reads every status, within `within` at most.
    pub async fn start(broker: &BrokerArgs, role: &str, within: Duration) -> Result<Self, CommandError> {
        Self::of(broker, role, vec![Topic::all_tier_statuses(), Topic::all_statuses()], within).await
    }

    /// Connects and reads what the broker keeps on some topics, within `within` at most.
    pub async fn of(
        broker: &BrokerArgs,
        role: &str,
        filters: Vec<String>,
        within: Duration,
    ) -> Result<Self, CommandError> {
        let mut options = broker.options(role)?;
        // A broker keeps only so many messages of QoS 1 waiting, and a fleet has more hosts than that.
        options.receive_at_most_once = true;
        options.receive_maximum = 8192;
        options.max_in_flight = 64;
        let (client, events) = connect(options).await?;
        let wanted = filters.len();
        if client.subscribe(filters).await.is_err() {
            return Err(CommandError::Failed("BUG: the MQTT client stopped by itself".to_owned()));
        }
        let mut watch = Self { client, events, fleet: Fleet::default() };
        let limit = Instant::now() + within;
        let (mut quiet, mut answers) = (if wanted == 0 { Instant::now() } else { limit }, 0);
        while let Ok(event) = timeout_at(quiet.min(limit), watch.events.recv()).await {
            answers += usize::from(matches!(event, Some(Event::Subscribed { .. })));
            watch.hear(event)?;
            if answers == wanted {
                quiet = Instant::now() + QUIET;
            }
        }
        if answers < wanted {
            return Err(CommandError::Failed(format!("the broker did not answer within {within:?}")));
        }
        Ok(watch)
    }

    /// Takes an event of the connection; gives back what is none of the fleet's.
    pub fn hear(&mut self, event: Option<Event>) -> Result<Option<Event>, CommandError> {
        match event {
            Some(Event::Received { message, ack }) => {
                self.client.ack(ack);
                self.fleet.note(&message);
                Ok(None)
            }
            Some(Event::SubscriptionRefused { filter, reason, .. }) => Err(CommandError::Failed(format!(
                "{reason}, for {filter}; the broker's access rules must let this user read it"
            ))),
            Some(Event::Disconnected { reason, retry_in }) if retry_in.is_none() || is_final(reason.cause) => {
                Err(CommandError::Failed(reason.sentence))
            }
            Some(event) => Ok(Some(event)),
            None => Err(CommandError::Failed("BUG: the MQTT client ended by itself".to_owned())),
        }
    }

    /// Publishes messages, and waits until the broker has them. `right`: what this user must be allowed to do.
    pub async fn say(&mut self, messages: Vec<Message>, right: &str, within: Duration) -> Result<(), CommandError> {
        let limit = Instant::now() + within;
        let (mut queue, mut open) = (messages, 0_usize);
        while !queue.is_empty() || open > 0 {
            while let Some(message) = queue.pop() {
                if let Err(error) = self.client.try_publish(0, message) {
                    queue.push(error.into_message());
                    break;
                }
                open += 1;
            }
            // A connection that has no room now has some a little later.
            let next = (Instant::now() + BREATH).min(limit);
            match timeout_at(next, self.events.recv()).await {
                Err(_) if Instant::now() >= limit => {
                    return Err(CommandError::Failed(format!("the broker did not take it within {within:?}")));
                }
                Err(_) => {}
                Ok(event) => match self.hear(event)? {
                    Some(Event::Acked { .. }) => open = open.saturating_sub(1),
                    Some(Event::Refused { reason, .. }) => {
                        return Err(CommandError::Failed(format!("{reason}; this user must be allowed to {right}")));
                    }
                    Some(Event::Lost { .. }) => {
                        let why = "the connection ended before the broker had it; calling it again does no harm";
                        return Err(CommandError::Failed(why.to_owned()));
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

/// A message of this content; without one, what is retained there goes.
pub fn message(topic: &Topic, content: Option<Vec<u8>>, retain: bool) -> Message {
    Message {
        topic: topic.to_string(),
        content_type: content.is_some().then(|| CONTENT_TYPE.to_owned()),
        payload: content.map(Bytes::from).unwrap_or_default(),
        retain,
        user_properties: Vec::new(),
    }
}
