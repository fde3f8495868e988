//! Topics: built and parsed here and nowhere else.

use std::fmt;
use std::str::FromStr;

use crate::{GroupName, HostName, Kind, MemberName, NameError, SilenceId};

/// Everything below this belongs to this version of the protocol.
const ROOT: &str = "utilizer/v1/";

/// A topic of the protocol. `Display` writes it, `FromStr` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `telemetry/<host>/status`, retained: [`crate::messages::Status`].
    Status(HostName),
    /// `telemetry/<host>/alerts/active`, retained: [`crate::messages::ActiveAlerts`].
    ActiveAlerts(HostName),
    /// `telemetry/<host>/audit`, retained: [`crate::messages::AuditHeads`].
    AuditHeads(HostName),
    /// `telemetry/<host>/<kind>`: a durable [`crate::Record`].
    Telemetry(HostName, Kind),
    /// `command/<host>/confirmed/<group>/<member>`: [`crate::messages::Confirmation`].
    Confirmed(HostName, GroupName, MemberName),
    /// `command/<host>/jobs`: [`crate::messages::RunJob`].
    RunJob(HostName),
    /// `command/<host>/ack`: [`crate::messages::Acknowledge`].
    Acknowledge(HostName),
    /// `command/<host>/control`: [`crate::messages::Control`].
    Control(HostName),
    /// `fleet/silences/<id>`, retained: [`crate::messages::Silence`].
    Silence(SilenceId),
    /// `tier/<group>/<member>/status`, retained: [`crate::messages::TierStatus`].
    Tier(GroupName, MemberName),
}

/// A topic is none of the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No topic of this shape exists.
    #[error("the topic {0:?} is not one of utilizer's")]
    Unknown(String),
    /// The shape is right, a name in it is not.
    #[error("the topic {topic:?} can't be taken: {source}")]
    Name {
        /// The topic.
        topic: String,
        /// What is wrong with the name.
        source: NameError,
    },
}

impl Topic {
    /// Filter for one durable kind of all hosts, shared among the members of a group: each record goes to one of them.
    pub fn shared_telemetry(group: &GroupName, kind: Kind) -> String {
        format!("$share/{group}/{ROOT}telemetry/+/{kind}")
    }

    /// Filter for the status of all hosts.
    pub fn all_statuses() -> String {
        format!("{ROOT}telemetry/+/status")
    }

    /// Filter for the status of all exporters.
    pub fn all_tier_statuses() -> String {
        format!("{ROOT}tier/+/+/status")
    }

    /// Filter for the alerts that fire on all hosts.
    pub fn all_active_alerts() -> String {
        format!("{ROOT}telemetry/+/alerts/active")
    }

    /// Filter for how far the chains of audit records of all hosts go.
    pub fn all_audit_heads() -> String {
        format!("{ROOT}telemetry/+/audit")
    }

    /// Filter for one durable kind of all hosts, without a group: every subscriber gets each record.
    pub fn all_telemetry(kind: Kind) -> String {
        format!("{ROOT}telemetry/+/{kind}")
    }

    /// Filter for the silences of the fleet.
    pub fn all_silences() -> String {
        format!("{ROOT}fleet/silences/+")
    }

    /// Filter for what the exporters of all groups confirm to one host.
    pub fn confirmations(host: &HostName) -> String {
        format!("{ROOT}command/{host}/confirmed/+/+")
    }

    /// Filter for everything that is said to one host.
    pub fn all_commands_of(host: &HostName) -> String {
        format!("{ROOT}command/{host}/#")
    }

    /// Filter for everything that is said to all hosts. No host may read it; tools that stand for many hosts do.
    pub fn all_commands() -> String {
        format!("{ROOT}command/#")
    }

    /// Filter for everything.
    pub fn everything() -> String {
        format!("{ROOT}#")
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ROOT)?;
        match self {
            Topic::Status(host) => write!(f, "telemetry/{host}/status"),
            Topic::ActiveAlerts(host) => write!(f, "telemetry/{host}/alerts/active"),
            Topic::AuditHeads(host) => write!(f, "telemetry/{host}/audit"),
            Topic::Telemetry(host, kind) => write!(f, "telemetry/{host}/{kind}"),
            Topic::Confirmed(host, group, member) => write!(f, "command/{host}/confirmed/{group}/{member}"),
            Topic::RunJob(host) => write!(f, "command/{host}/jobs"),
            Topic::Acknowledge(host) => write!(f, "command/{host}/ack"),
            Topic::Control(host) => write!(f, "command/{host}/control"),
            Topic::Silence(id) => write!(f, "fleet/silences/{id}"),
            Topic::Tier(group, member) => write!(f, "tier/{group}/{member}/status"),
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(topic: &str) -> Result<Self, TopicError> {
        let unknown = || TopicError::Unknown(topic.chars().take(200).collect());
        let name = |source| TopicError::Name { topic: topic.chars().take(200).collect(), source };
        let rest = topic.strip_prefix(ROOT).ok_or_else(unknown)?;
        let levels: Vec<&str> = rest.split('/').collect();
        match levels[..] {
            ["telemetry", host, "status"] => Ok(Topic::Status(host.parse().map_err(name)?)),
            ["telemetry", host, "audit"] => Ok(Topic::AuditHeads(host.parse().map_err(name)?)),
            ["telemetry", host, "alerts", "active"] => Ok(Topic::ActiveAlerts(host.parse().map_err(name)?)),
            ["telemetry", host, kind] => {
                let kind = kind.parse().map_err(|_| unknown())?;
                Ok(Topic::Telemetry(host.parse().map_err(name)?, kind))
            }
            ["command", host, "confirmed", group, member] => Ok(Topic::Confirmed(
                host.parse().map_err(name)?,
                group.parse().map_err(name)?,
                member.parse().map_err(name)?,
            )),
            ["command", host, "jobs"] => Ok(Topic::RunJob(host.parse().map_err(name)?)),
            ["command", host, "ack"] => Ok(Topic::Acknowledge(host.parse().map_err(name)?)),
            ["command", host, "control"] => Ok(Topic::Control(host.parse().map_err(name)?)),
            ["fleet", "silences", id] => Ok(Topic::Silence(id.parse().map_err(name)?)),
            ["tier", group, member, "status"] => {
                Ok(Topic::Tier(group.parse().map_err(name)?, member.parse().map_err(name)?))
            }
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back() {
        let host: HostName = "web-01.example".parse().unwrap();
        let group: GroupName = "postgres".parse().unwrap();
        let member: MemberName = "db-1".parse().unwrap();
        let mut topics = vec![
            Topic::Status(host.clone()),
            Topic::ActiveAlerts(host.clone()),
            Topic::AuditHeads(host.clone()),
            Topic::Confirmed(host.clone(), group.clone(), member.clone()),
            Topic::RunJob(host.clone()),
            Topic::Acknowledge(host.clone()),
            Topic::Control(host.clone()),
            Topic::Silence("maintenance-7".parse().unwrap()),
            Topic::Tier(group, member),
        ];
        topics.extend(Kind::ALL.map(|kind| Topic::Telemetry(host.clone(), kind)));
        for topic in topics {
            assert_eq!(topic.to_string().parse(), Ok(topic));
        }
    }

    #[test]
    fn foreign_topics_say_what_is_wrong() {
        for (topic, part) in [
            ("utilizer/v2/telemetry/a/metrics", "is not one of utilizer's"),
            ("utilizer/v1/telemetry/a/unheard-of", "is not one of utilizer's"),
            ("utilizer/v1/telemetry//metrics", "the host name is empty"),
            ("utilizer/v1/telemetry/a b/metrics", "has the character ' '"),
            ("utilizer/v1/telemetry/höst/logs", "has the character 'ö'"),
            ("utilizer/v1/telemetry/a/b/c/d", "is not one of utilizer's"),
        ] {
            let error = topic.parse::<Topic>().unwrap_err().to_string();
            assert!(error.contains(part), "{topic}: {error}");
        }
        let long = format!("utilizer/v1/telemetry/{}/metrics", "x".repeat(91));
        assert!(long.parse::<Topic>().unwrap_err().to_string().contains("at most 90"));
    }
}
