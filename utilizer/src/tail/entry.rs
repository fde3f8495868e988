//! From messages to what is shown of them.

use std::collections::HashMap;

use mqtt::Message;
use wire::messages::{
    AlertTransition, HostState, JobTransition, LogRecord, Logs, Metrics, Pipeline, PipelineRecord, Status,
};
use wire::{BootId, Head, HostName, Kind, Timestamp, Topic, decode_body, decode_head, decode_state};

use super::seen::{Seen, Sight};

/// Hosts whose last status is remembered.
const MOST_HOSTS: usize = 50_000;

/// One thing to show.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A log record and its place in its batch, from 0.
    Log(Head, usize, Box<LogRecord>),
    /// The utilization of one interval.
    Metrics(Head, Metrics),
    /// A transition of an alert.
    Alert(Head, AlertTransition),
    /// A metric of a job and its place in its message, from 0.
    Pipeline(Head, usize, PipelineRecord),
    /// A transition of an admin job.
    Job(Head, JobTransition),
    /// A host's state.
    Status(Box<Status>),
    /// Records that did not come, or not yet.
    Gap {
        /// Of which host.
        host: HostName,
        /// Of which run.
        boot: BootId,
        /// Of which kind.
        of: Kind,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// When the record after them was made.
        time: Timestamp,
    },
    /// A message that can't be read.
    Unreadable {
        /// Its topic.
        topic: String,
        /// Why.
        reason: String,
    },
}

impl Entry {
    /// The host it is of; `None` if even that can't be read.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Log(head, ..) | Self::Metrics(head, _) | Self::Alert(head, _) | Self::Pipeline(head, ..) => {
                Some(&head.host)
            }
            Self::Job(head, _) => Some(&head.host),
            Self::Status(status) => Some(&status.host),
            Self::Gap { host, .. } => Some(host),
            Self::Unreadable { .. } => None,
        }
    }
}

/// Reads messages, knowing those that came before.
#[derive(Debug)]
pub struct Reader {
    seen: Seen,
    states: HashMap<HostName, (HostState, bool, BootId)>,
    every_status: bool,
}

impl Reader {
    /// `every_status`: a status is an entry each time it is published, and not only when the host comes or goes.
    pub fn new(since: Timestamp, every_status: bool) -> Self {
        Self { seen: Seen::new(since), states: HashMap::new(), every_status }
    }

    /// What a message has to show: nothing if it is a repetition, or none of telemetry's.
    pub fn read(&mut self, message: &Message) -> Vec<Entry> {
        let unreadable = |reason: String| vec![Entry::Unreadable { topic: message.topic.clone(), reason }];
        match message.topic.parse() {
            // An empty payload removes a retained message.
            Ok(_) if message.payload.is_empty() => Vec::new(),
            Ok(Topic::Telemetry(host, kind)) => {
                self.record(&host, kind, &message.payload).unwrap_or_else(|error| unreadable(error.to_string()))
            }
            Ok(Topic::Status(host)) => match decode_state::<Status>("status", &message.payload) {
                Ok(status) if status.host == host => self.status(status),
                Ok(status) => unreadable(format!("the message names another host, {}", status.host)),
                Err(error) => unreadable(error.to_string()),
            },
            Ok(_) => Vec::new(),
            Err(error) => unreadable(error.to_string()),
        }
    }

    fn record(
        &mut self,
        host: &HostName,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Vec<Entry>, Box<dyn std::error::Error>> {
        let head = decode_head(payload)?;
        if head.host != *host {
            return Err(format!("the message names another host, {}", head.host).into());
        }
        let mut entries = Vec::new();
        if let (Some(boot), Some(seq)) = (&head.boot, head.seq) {
            match self.seen.note(host, boot, kind, seq, head.time) {
                Sight::Again => return Ok(entries),
                Sight::New => {}
                Sight::After(from, to) => {
                    let (host, boot) = (host.clone(), boot.clone());
                    entries.push(Entry::Gap { host, boot, of: kind, from, to, time: head.time });
                }
            }
        }
        match kind {
            Kind::Metrics => entries.push(Entry::Metrics(head, decode_body(payload)?)),
            Kind::Logs => {
                let records = decode_body::<Logs>(payload)?.records.into_iter().enumerate();
                entries.extend(records.map(|(index, record)| Entry::Log(head.clone(), index, Box::new(record))));
            }
            Kind::Alerts => entries.push(Entry::Alert(head, decode_body(payload)?)),
            Kind::Pipeline => {
                let records = decode_body::<Pipeline>(payload)?.records.into_iter().enumerate();
                entries.extend(records.map(|(index, record)| Entry::Pipeline(head.clone(), index, record)));
            }
            Kind::Jobs => entries.push(Entry::Job(head, decode_body(payload)?)),
        }
        Ok(entries)
    }

    fn status(&mut self, status: Status) -> Vec<Entry> {
        let state = (status.state, status.stopped, status.boot.clone());
        if self.states.len() >= MOST_HOSTS && !self.states.contains_key(&status.host) {
            // Forgotten, a state is shown once more than it need be.
            self.states.clear();
        }
        let before = self.states.insert(status.host.clone(), state.clone());
        let first_and_well = before.is_none() && status.state == HostState::Online;
        let changed = before.as_ref() != Some(&state) && !first_and_well;
        if self.every_status || changed { vec![Entry::Status(Box::new(status))] } else { Vec::new() }
    }
}
