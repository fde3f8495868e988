//! What is asked for.

use std::str::FromStr;

use wire::messages::{Level, LogRecord};
use wire::{HostName, Kind, Topic};

use super::entry::Entry;
use crate::command::CommandError;
use crate::glob;

/// Topic filters that one client may ask for, without that of the statuses.
const MOST_FILTERS: usize = 63;

/// A kind of message, as `--kind` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A durable kind.
    Records(Kind),
    /// The hosts' states, each time that they are published.
    Status,
}

impl FromStr for What {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.parse() {
            Ok(kind) => Ok(Self::Records(kind)),
            Err(_) if word == "status" => Ok(Self::Status),
            Err(_) => Err("choose from metrics, logs, alerts, pipeline, jobs, status".to_owned()),
        }
    }
}

/// Which entries are shown.
#[derive(Debug, Clone)]
pub struct Selection {
    hosts: Vec<String>,
    kinds: Vec<Kind>,
    status: bool,
    level: Option<Level>,
    services: Vec<String>,
    grep: Option<String>,
}

impl Selection {
    /// From the words of the command line. Level and service are those of logs: without kinds they ask for logs.
    pub fn new(
        hosts: Vec<String>,
        what: &[What],
        level: Option<Level>,
        services: Vec<String>,
        grep: Option<String>,
    ) -> Result<Self, CommandError> {
        if let Some((name, error)) = hosts
            .iter()
            .filter(|name| !glob::is_pattern(name))
            .find_map(|name| name.parse::<HostName>().err().map(|error| (name, error)))
        {
            return Err(CommandError::Usage(format!("{name:?} is no host and no pattern: {error}")));
        }
        let mut kinds: Vec<Kind> = what
            .iter()
            .filter_map(|what| match what {
                What::Records(kind) => Some(*kind),
                What::Status => None,
            })
            .collect();
        kinds.sort();
        kinds.dedup();
        if what.is_empty() {
            let logs_only = level.is_some() || !services.is_empty();
            kinds = if logs_only { vec![Kind::Logs] } else { Kind::ALL.to_vec() };
        }
        Ok(Self { hosts, kinds, status: what.contains(&What::Status), level, services, grep })
    }

    /// Whether each published status is asked for, and not only hosts that come and go.
    pub fn every_status(&self) -> bool {
        self.status
    }

    /// Whether nothing but log lines, and hosts that come and go, can be among the entries.
    pub fn only_logs(&self) -> bool {
        self.kinds == [Kind::Logs]
    }

    /// The topic filters to subscribe to. Named hosts are asked for by name as far as a client may have filters.
    pub fn filters(&self) -> Vec<String> {
        let named: Option<Vec<HostName>> = self.hosts.iter().map(|name| name.parse().ok()).collect();
        let mut named = named.unwrap_or_default();
        named.sort();
        named.dedup();
        if named.is_empty() || named.len() * (self.kinds.len() + 1) > MOST_FILTERS {
            let kinds = self.kinds.iter().map(|kind| Topic::all_telemetry(*kind));
            return kinds.chain([Topic::all_statuses()]).collect();
        }
        let topics = named.into_iter().flat_map(|host| {
            let kinds = self.kinds.iter().map(|kind| Topic::Telemetry(host.clone(), *kind)).collect::<Vec<_>>();
            kinds.into_iter().chain([Topic::Status(host)])
        });
        topics.map(|topic| topic.to_string()).collect()
    }

    /// Whether an entry is asked for, whatever its text is.
    pub fn takes(&self, entry: &Entry) -> bool {
        let host = entry.host().is_none_or(|host| {
            self.hosts.is_empty() || self.hosts.iter().any(|pattern| glob::fits(pattern, host.as_str()))
        });
        host && match entry {
            Entry::Log(_, _, record) => {
                self.level.is_none_or(|level| record.level >= level)
                    && (self.services.is_empty()
                        || self.services.iter().any(|pattern| glob::fits(pattern, &record.service_name)))
            }
            _ => true,
        }
    }

    /// Whether an entry's text is asked for: `line` is how it is shown. A log record counts with all that it carries. Gaps
    /// and hosts that come and go are always shown, since without them silence could mean anything.
    pub fn takes_text(&self, entry: &Entry, line: &str) -> bool {
        let Some(text) = &self.grep else { return true };
        match entry {
            Entry::Log(_, _, record) => log_holds(record, text),
            Entry::Gap { .. } | Entry::Unreadable { .. } => true,
            Entry::Status(_) if !self.status => true,
            _ => line.contains(text.as_str()),
        }
    }
}

fn log_holds(record: &LogRecord, text: &str) -> bool {
    let LogRecord { message, service_name, logger, environment, category, trace_id, request_id, fields, .. } = record;
    [message, service_name, logger, environment, category, trace_id, request_id]
        .into_iter()
        .chain(fields.values())
        .any(|field| field.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(hosts: &[&str], what: &[What], level: Option<Level>) -> Selection {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Selection::new(hosts, what, level, Vec::new(), None).unwrap()
    }

    #[test]
    fn named_hosts_are_asked_for_by_name_and_the_rest_by_kind() {
        let logs = [What::Records(Kind::Logs)];
        assert_eq!(
            selection(&["web-01"], &logs, None).filters(),
            ["utilizer/v1/telemetry/web-01/logs", "utilizer/v1/telemetry/web-01/status"]
        );
        let fleet = ["utilizer/v1/telemetry/+/logs", "utilizer/v1/telemetry/+/status"];
        assert_eq!(selection(&["web-*", "db-01"], &logs, None).filters(), fleet);
        assert_eq!(selection(&[], &[], Some(Level::Warn)).filters(), fleet);
        let many: Vec<String> = (0..40).map(|i| format!("h{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(selection(&many, &logs, None).filters(), fleet);
        assert_eq!(selection(&[], &[], None).filters().len(), 6);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let error = Selection::new(vec!["a b".into()], &[], None, Vec::new(), None).unwrap_err();
        assert!(matches!(error, CommandError::Usage(text) if text.contains("\"a b\" is no host")));
    }
}
