//! From the outbox to the broker.
//!
//! One task: it turns readings into records, hands records to the connection as far as it takes them, and books what
//! the broker says. It never waits for the network, so that the sampler and the push paths never wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mqtt::{Cause, Client, Event, Events, Message, PublishError};
use tokio::sync::{Notify, watch};
use tracing::{debug, error, info, warn};
use wire::messages::{HostState, Inventory, LossReason, Status};
use wire::{Body, CONTENT_TYPE, Kind, Timestamp, Topic, VERSION};

use crate::config::Config;
use crate::inventory;
use crate::message;
use crate::outbox::{Outbox, Outgoing, PutError};
use crate::sampler::Reading;

/// Time that a stop gives the broker to acknowledge what is under way: the whole stop has 5 s.
const DRAIN: Duration = Duration::from_millis(2500);

/// Time for the goodbye after that.
const FAREWELL: Duration = Duration::from_secs(1);

/// The rest is for what else the process does while it ends.
const _: () = assert!(DRAIN.as_millis() + FAREWELL.as_millis() <= 4000);

/// The id of the status among publishes; records have theirs from kind and number.
const STATUS_ID: u64 = u64::MAX;

/// The outbox as everyone sees it: put into from anywhere, emptied by the publisher.
#[derive(Clone)]
pub struct Post {
    outbox: Arc<Mutex<Outbox>>,
    wake: Arc<Notify>,
}

impl Post {
    /// Shares an outbox.
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox: Arc::new(Mutex::new(outbox)), wake: Arc::new(Notify::new()) }
    }

    /// Numbers and queues a record; see [`Outbox::put`].
    pub fn put<B: Body>(&self, time: Timestamp, body: B) -> Result<u64, PutError> {
        let seq = self.lock().put(time, body)?;
        self.wake.notify_one();
        Ok(seq)
    }

    /// The outbox itself, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Outbox> {
        // No holder leaves it half changed on a panic: every method ends its change before anything can fail.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection as others see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether there is a connection.
    pub connected: bool,
    /// Why there is none.
    pub problem: Option<String>,
    /// Connections so far.
    pub connections: u64,
}

/// The broker gave this host's session to another client: two hosts have one name.
#[derive(Debug, thiserror::Error)]
#[error(
    "another agent connected to the broker under this host's name, {host:?}: give each host its own `host` in the configuration ({reason})"
)]
pub struct TakenOver {
    host: String,
    reason: String,
}

/// Publishes until the stop.
pub struct Publisher {
    client: Client,
    events: Events,
    post: Post,
    readings: watch::Receiver<Option<Arc<Reading>>>,
    config: watch::Receiver<Arc<Config>>,
    inventory: Inventory,
    link: watch::Sender<Link>,
    published_losses: u64,
    /// The broker has yet to get a status that says how things are.
    status_due: bool,
    /// Why the last reading found no room in the outbox.
    refused: Option<PutError>,
    /// Why the broker denied the last record, and the last status.
    denied: [Option<String>; 2],
}

impl Publisher {
    /// Over a connection that [`mqtt::Client::start`] made with [`last_will`] as its will.
    pub fn new(
        (client, events): (Client, Events),
        post: Post,
        readings: watch::Receiver<Option<Arc<Reading>>>,
        config: watch::Receiver<Arc<Config>>,
        inventory: Inventory,
        link: watch::Sender<Link>,
    ) -> Self {
        Self {
            client,
            events,
            post,
            readings,
            config,
            inventory,
            link,
            published_losses: 0,
            status_due: false,
            refused: None,
            denied: [None, None],
        }
    }

    /// Runs until `stop` returns; then says goodbye and gives the broker 2.5 s to acknowledge what waits.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), TakenOver> {
        let mut stop = std::pin::pin!(stop);
        let post = self.post.clone();
        loop {
            tokio::select! {
                () = &mut stop => break,
                event = self.events.recv() => match event {
                    Some(event) => self.book(event)?,
                    None => {
                        error!("BUG: the MQTT client ended by itself");
                        break;
                    }
                },
                // Who else ends is the app's business: an error here means that the sampler is gone.
                Ok(()) = self.readings.changed() => self.take_reading(),
                // The status names interval and labels.
                Ok(()) = self.config.changed() => self.status_due = true,
                () = post.wake.notified() => {}
            }
            self.pump();
        }
        self.stop().await;
        Ok(())
    }

    fn take_reading(&mut self) {
        let Some(reading) = self.readings.borrow_and_update().clone() else { return };
        self.status_due |= inventory::add_gpus(&mut self.inventory.gpus, &reading.gauges);
        if reading.first {
            return;
        }
        let config = self.config.borrow().clone();
        let body = message::metrics(&reading, &config.labels, &config.include);
        let refused = self.post.put(reading.snapshot.time, body).err();
        // Once per change: a queue can stay full for as long as the broker is away.
        match (refused, self.refused) {
            (Some(PutError::Full), Some(PutError::Full))
            | (Some(PutError::Large(_)), Some(PutError::Large(_)))
            | (None, None) => {}
            (Some(PutError::Full), _) => {
                warn!("the queue to the broker is full: readings are dropped, and the host's status names them")
            }
            (Some(error @ PutError::Large(_)), _) => warn!(
                "readings are dropped, and the host's status names them: {error}; let `publish.include` choose less"
            ),
            (None, Some(_)) => info!("the queue to the broker has room for readings again"),
        }
        self.refused = refused;
        self.status_due |= self.post.lock().losses().1 != self.published_losses;
    }

    /// Hands over as much as the connection takes.
    fn pump(&mut self) {
        if !self.link.borrow().connected {
            return;
        }
        if self.status_due {
            self.publish_status();
        }
        let mut outbox = self.post.lock();
        while let Some(outgoing) = outbox.take() {
            let (kind, seq) = (outgoing.kind, outgoing.seq);
            match self.client.try_publish(id(kind, seq), record_message(&outbox, outgoing)) {
                Ok(()) => {}
                Err(PublishError::Full(_) | PublishError::NotConnected(_) | PublishError::Stopped(_)) => {
                    outbox.lost(kind, seq);
                    break;
                }
            }
        }
    }

    fn book(&mut self, event: Event) -> Result<(), TakenOver> {
        match event {
            Event::Connected { .. } => {
                info!("connected to the broker");
                self.link.send_modify(|link| {
                    *link = Link { connected: true, problem: None, connections: link.connections + 1 };
                });
                self.status_due = true;
            }
            Event::Disconnected { reason, retry_in } => {
                if reason.cause == Cause::TakenOver {
                    let host = self.post.lock().host().to_string();
                    return Err(TakenOver { host, reason: reason.sentence });
                }
                // Once per change: a broker that is away for a day is one line, not a thousand.
                let before = self.link.borrow().clone();
                if before.connected || before.problem.as_deref() != Some(reason.sentence.as_str()) {
                    let again = retry_in.map_or_else(String::new, |pause| {
                        format!("; trying again in {:.1} s and so on", pause.as_secs_f64())
                    });
                    warn!("no connection to the broker: {reason}{again}");
                }
                self.link.send_modify(|link| {
                    link.connected = false;
                    link.problem = Some(reason.sentence.clone());
                });
            }
            Event::Acked { id, .. } => {
                let record = record_of(id);
                if let Some((kind, seq)) = record {
                    self.post.lock().acknowledged(kind, seq);
                }
                if self.denied[usize::from(record.is_none())].take().is_some() {
                    info!("the broker takes this host's {} again", if record.is_some() { "records" } else { "status" });
                }
            }
            Event::Lost { id } => {
                // The status is published anew at the next connection; a record waits for it.
                if let Some((kind, seq)) = record_of(id) {
                    self.post.lock().lost(kind, seq);
                }
            }
            Event::Refused { id, code, reason, .. } => {
                let record = record_of(id);
                // Once per change: a missing access rule refuses every interval's records.
                let before = self.denied[usize::from(record.is_none())].replace(reason.clone());
                let news = before.as_deref() != Some(reason.as_str());
                match record {
                    Some((kind, seq)) => {
                        if news {
                            warn!(
                                "the broker refuses {kind} record {seq}: {reason}; refused records are given up, and counted \
                                 in utilizer_records_dropped_total"
                            );
                        }
                        let why =
                            if code.is_none() || code == Some(0x95) { LossReason::TooLarge } else { LossReason::Other };
                        self.post.lock().refused(kind, seq, why);
                    }
                    None if news => {
                        error!("the broker refuses this host's status: {reason}; check the broker's access rules");
                    }
                    None => {}
                }
            }
            Event::Received { ack, .. } => self.client.ack(ack),
            Event::Subscribed { .. } | Event::SubscriptionRefused { .. } => {}
        }
        Ok(())
    }

    fn publish_status(&mut self) {
        let (status, version) = self.status();
        let message = status_message(&status);
        match self.client.try_publish(STATUS_ID, message) {
            Ok(()) => (self.published_losses, self.status_due) = (version, false),
            Err(_) => debug!("the status goes out when there is room for it"),
        }
    }

    fn status(&self) -> (Status, u64) {
        let config = self.config.borrow().clone();
        let outbox = self.post.lock();
        let (losses, version) = outbox.losses();
        let status = Status {
            interval_seconds: Some(config.interval.as_secs_f64()),
            labels: config.labels.clone(),
            inventory: Some(self.inventory.clone()),
            dropped: losses.to_vec(),
            ..bare_status(&outbox, HostState::Online)
        };
        (status, version)
    }

    async fn stop(mut self) {
        let waiting = self.post.lock().len();
        if waiting > 0 {
            info!("{waiting} records wait for the broker; it has {:.1} s", DRAIN.as_secs_f64());
        }
        // What is not under way yet gets its chance as acknowledgements make room for it.
        let drained = tokio::time::timeout(DRAIN, async {
            while self.link.borrow().connected && !self.post.lock().is_empty() {
                self.pump();
                match self.events.recv().await {
                    Some(event) => {
                        if self.book(event).is_err() {
                            return;
                        }
                    }
                    None => return,
                }
            }
        })
        .await;
        if drained.is_err() {
            debug!("the broker did not acknowledge everything in time");
        }
        let offline = Status { stopped: true, ..bare_status(&self.post.lock(), HostState::Offline) };
        if self.client.try_publish(STATUS_ID, status_message(&offline)).is_ok() {
            // Events must be read while the connection drains, or it could not book what it hears.
            let disconnected = self.client.disconnect(FAREWELL);
            let mut disconnected = std::pin::pin!(disconnected);
            loop {
                tokio::select! {
                    _ = &mut disconnected => break,
                    event = self.events.recv() => match event {
                        Some(Event::Acked { id, .. }) => if let Some((kind, seq)) = record_of(id) {
                            self.post.lock().acknowledged(kind, seq);
                        },
                        Some(_) => {}
                        None => break,
                    },
                }
            }
        }
        let left = self.post.lock().len();
        if left > 0 {
            warn!("{left} records were not acknowledged by the broker and are lost with this run");
        }
    }
}

fn id(kind: Kind, seq: u64) -> u64 {
    (kind as u64) << 56 | seq
}

fn record_of(id: u64) -> Option<(Kind, u64)> {
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u64 == id >> 56)?;
    Some((kind, id & ((1 << 56) - 1)))
}

fn record_message(outbox: &Outbox, outgoing: Outgoing) -> Message {
    let Outgoing { kind, seq, payload } = outgoing;
    Message {
        topic: Topic::Telemetry(outbox.host().clone(), kind).to_string(),
        payload,
        retain: false,
        content_type: Some(CONTENT_TYPE.to_owned()),
        user_properties: wire::user_properties(outbox.host(), Some(outbox.boot()), kind, Some(seq)),
    }
}

fn bare_status(outbox: &Outbox, state: HostState) -> Status {
    Status {
        v: VERSION,
        host: outbox.host().clone(),
        state,
        boot: outbox.boot().clone(),
        time: Timestamp::from(SystemTime::now()),
        version: crate::VERSION.to_owned(),
        stopped: false,
        interval_seconds: None,
        labels: Default::default(),
        inventory: None,
        groups: Vec::new(),
        lowest_unconfirmed: Default::default(),
        dropped: Vec::new(),
    }
}

fn status_message(status: &Status) -> Message {
    Message {
        topic: Topic::Status(status.host.clone()).to_string(),
        payload: Bytes::from(wire::encode(status)),
        retain: true,
        content_type: Some(CONTENT_TYPE.to_owned()),
        user_properties: Vec::new(),
    }
}

/// What the broker publishes when the agent vanishes.
pub fn last_will(post: &Post) -> Message {
    status_message(&bare_status(&post.lock(), HostState::Offline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_ids_lead_back_to_their_records() {
        for kind in Kind::ALL {
            assert_eq!(record_of(id(kind, 7)), Some((kind, 7)));
        }
        assert_eq!(record_of(STATUS_ID), None);
    }
}
