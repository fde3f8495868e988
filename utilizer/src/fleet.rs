//! What the broker keeps of hosts and exporters: their retained statuses.

use std::collections::BTreeMap;
use std::time::Duration;

use mqtt::{Client, Event, Events, Message};
use tokio::time::{Instant, timeout_at};
use wire::messages::{HostState, Status, TierState, TierStatus};
use wire::{GroupName, HostName, MemberName, Topic, decode_state};

use crate::command::{BrokerArgs, CommandError, connect, is_final};

/// A broker sends what it keeps at once. When nothing came for this long, that was all.
const QUIET: Duration = Duration::from_millis(500);

/// Hosts and exporters by their last status.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Every host that ever had a status.
    pub hosts: BTreeMap<HostName, Status>,
    /// Every exporter.
    pub members: BTreeMap<(GroupName, MemberName), TierStatus>,
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

/// A connection that hears every status.
pub struct Watch {
    /// For what else is to be said.
    pub client: Client,
    /// Statuses go into the fleet by [`hear`](Self::hear).
    pub events: Events,
    /// What was heard.
    pub fleet: Fleet,
}

impl Watch {
    /// Connects and reads what the broker keeps, within `within` at most.
    pub async fn start(broker: &BrokerArgs, role: &str, within: Duration) -> Result<Self, CommandError> {
        let mut options = broker.options(role)?;
        // A broker keeps only so many messages of QoS 1 waiting, and a fleet has more hosts than that.
        options.receive_at_most_once = true;
        options.receive_maximum = 8192;
        options.max_in_flight = 64;
        let (client, events) = connect(options).await?;
        let filters = [Topic::all_tier_statuses(), Topic::all_statuses()];
        if client.subscribe(filters).await.is_err() {
            return Err(CommandError::Failed("BUG: the MQTT client stopped by itself".to_owned()));
        }
        let mut watch = Self { client, events, fleet: Fleet::default() };
        let limit = Instant::now() + within;
        let (mut quiet, mut answers) = (limit, 0);
        while let Ok(event) = timeout_at(quiet.min(limit), watch.events.recv()).await {
            answers += usize::from(matches!(event, Some(Event::Subscribed { .. })));
            watch.hear(event)?;
            if answers == 2 {
                quiet = Instant::now() + QUIET;
            }
        }
        if answers < 2 {
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
}
