//! From the outbox to the broker.
//!
//! One task: it turns readings into records, hands records to the connection as far as it takes them, and books what
//! the broker and the groups of exporters say. It never waits for the network, so that the sampler and the push paths never
//! wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::notify::dispatch::Ack;
use bytes::Bytes;
use mqtt::{Cause, Client, Event, Events, Message, PublishError};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};
use wire::messages::{
    Acknowledge, ActiveAlerts, AuditHeads, Confirmation, Control, ControlAction, HostState, Inventory, LossReason,
    Silence, Status, TierStatus,
};
use wire::{BootId, CONTENT_TYPE, Kind, Timestamp, Topic, VERSION};

use crate::config::Config;
use crate::inventory;
use crate::message;
use crate::notify;
use crate::outbox::{Outbox, Outgoing, Post, PutError, Refused};
use crate::rules::Firing;
use crate::sampler::Reading;
use crate::scrape::Newest;

/// Time that a stop gives the broker to acknowledge what is under way: the whole stop has 5 s.
const DRAIN: Duration = Duration::from_millis(2500);

/// Time for the goodbye after that.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time for what is told only when the disk has it.
const WRITTEN: Duration = Duration::from_millis(800);

/// The rest is for what else the process does while it ends.
const _: () = assert!(WRITTEN.as_millis() + DRAIN.as_millis() + FAREWELL.as_millis() <= 4400);

/// The id of the status among publishes; records have theirs from the outbox, which counts from 1.
const STATUS_ID: u64 = u64::MAX;

/// The id of the alerts that fire, likewise a state.
const ALERTS_ID: u64 = u64::MAX - 1;

/// The ends of the chains of audit records, too; the last of the states.
const AUDIT_ID: u64 = u64::MAX - 2;

/// Records handed over before others get their turn.
const AT_ONCE: usize = 64;

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

/// What goes into each interval's record.
pub struct Measured {
    /// What the host measures.
    pub readings: watch::Receiver<Option<Arc<Reading>>>,
    /// What applications tell.
    pub scraped: Newest,
}

/// What of alerts goes over MQTT: those that fire, and what others say of them.
pub struct Alerts {
    /// To the broker.
    pub firing: Firing,
    /// From it.
    pub notify: notify::Handle,
}

/// Publishes until the stop.
pub struct Publisher {
    client: Client,
    events: Events,
    post: Post,
    readings: watch::Receiver<Option<Arc<Reading>>>,
    firing: Firing,
    notify: notify::Handle,
    scraped: Newest,
    config: watch::Receiver<Arc<Config>>,
    inventory: Inventory,
    link: watch::Sender<Link>,
    /// Publishes without an outcome: which record each is.
    under_way: BTreeMap<u64, (BootId, Kind, u64)>,
    /// The connection takes no more before one of those has its outcome.
    full: bool,
    /// The broker has yet to get a status that says how things are.
    status_due: bool,
    /// The same of the alerts that fire.
    alerts_due: bool,
    /// Why the last reading did not get into the spool.
    refused: Option<PutError>,
    /// Why the broker denied the last record, and the last state.
    denied: [Option<String>; 2],
}

impl Publisher {
    /// Over a connection that [`mqtt::Client::start`] made with [`last_will`] as its will.
    pub fn new(
        (client, events): (Client, Events),
        post: Post,
        Measured { readings, scraped }: Measured,
        Alerts { firing, notify }: Alerts,
        config: watch::Receiver<Arc<Config>>,
        inventory: Inventory,
        link: watch::Sender<Link>,
    ) -> Self {
        Self {
            client,
            events,
            post,
            readings,
            firing,
            notify,
            scraped,
            config,
            inventory,
            link,
            under_way: BTreeMap::new(),
            full: false,
            status_due: false,
            alerts_due: false,
            refused: None,
            denied: [None, None],
        }
    }

    /// Runs until `stop` returns; then says goodbye and gives the broker 2.5 s to acknowledge what is under way.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), TakenOver> {
        let mut stop = std::pin::pin!(stop);
        let post = self.post.clone();
        let host = post.lock().host().clone();
        let filters = [
            Topic::all_tier_statuses(),
            Topic::confirmations(&host),
            Topic::all_silences(),
            Topic::Acknowledge(host.clone()).to_string(),
            Topic::Control(host).to_string(),
        ];
        if self.client.subscribe(filters).await.is_err() {
            error!("BUG: the MQTT client ended before it began");
        }
        loop {
            let due = self.due();
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
                Ok(()) = self.firing.changed() => self.alerts_due = true,
                // The status names interval and labels.
                Ok(()) = self.config.changed() => self.status_due = true,
                () = post.news() => {}
                () = at(due) => {}
            }
            self.pump();
            post.ring();
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
        let mut body = message::metrics(&reading, &config.labels, &config.include);
        body.families.extend(self.scraped.families(config.max_scraped));
        let refused = self.post.put(reading.snapshot.time, body).err();
        // Once per change: a spool can stay full for as long as the exporters are away.
        let sort = |error: &Option<PutError>| error.as_ref().map(std::mem::discriminant);
        if sort(&refused) != sort(&self.refused) {
            match &refused {
                Some(PutError::Large(..)) => warn!(
                    "readings are dropped: {}; let `publish.include` choose less",
                    refused.as_ref().map(ToString::to_string).unwrap_or_default()
                ),
                Some(error) => warn!("readings are dropped: {error}"),
                None => info!("the spool takes readings again"),
            }
        }
        self.refused = refused;
    }

    /// When there is something to do if nothing happens before.
    fn due(&self) -> Option<Instant> {
        if self.full || !self.link.borrow().connected { None } else { self.post.lock().wake_at() }
    }

    /// Hands over as much as the connection takes.
    fn pump(&mut self) {
        if self.full || !self.link.borrow().connected {
            return;
        }
        if self.status_due || self.post.lock().status_due() {
            self.publish_status();
        }
        if self.alerts_due {
            self.publish_alerts();
        }
        self.publish_audit_heads();
        for _ in 0..AT_ONCE {
            if self.full {
                return;
            }
            let mut outbox = self.post.lock();
            let Some(outgoing) = outbox.take() else { return };
            let (id, record) = (outgoing.id, (outgoing.boot.clone(), outgoing.kind, outgoing.seq));
            match self.client.try_publish(id, record_message(&outbox, outgoing)) {
                Ok(()) => drop(self.under_way.insert(id, record)),
                Err(error) => {
                    outbox.lost(id);
                    // Without a connection, the end of it is the next event.
                    self.full = matches!(error, PublishError::Full(_)) && !self.under_way.is_empty();
                    return;
                }
            }
        }
    }

    fn book(&mut self, event: Event) -> Result<(), TakenOver> {
        if let Event::Acked { .. } | Event::Lost { .. } | Event::Refused { .. } | Event::Disconnected { .. } = event {
            self.full = false;
        }
        match event {
            Event::Connected { .. } => {
                info!("connected to the broker");
                self.link.send_modify(|link| {
                    *link = Link { connected: true, problem: None, connections: link.connections + 1 };
                });
                (self.status_due, self.alerts_due) = (true, true);
                self.post.lock().audit_heads_untold();
                self.post.lock().connected();
                self.notify.listens(false);
            }
            Event::Disconnected { reason, retry_in } => {
                self.post.lock().disconnected();
                self.notify.listens(false);
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
                let record = self.under_way.remove(&id);
                self.post.lock().acknowledged(id, record.as_ref().map(|(_, kind, _)| *kind));
                if self.denied[usize::from(id >= AUDIT_ID)].take().is_some() {
                    info!("the broker takes this host's {} again", if id >= AUDIT_ID { "status" } else { "records" });
                }
            }
            Event::Lost { id } => {
                // The status is published anew at the next connection; a record is due again.
                self.under_way.remove(&id);
                self.post.lock().lost(id);
            }
            Event::Refused { id, code, retry, reason } => self.book_refusal(id, code, retry, reason),
            Event::Received { message, ack } => {
                self.hear(&message);
                self.client.ack(ack);
            }
            Event::Subscribed { filter } => {
                if filter == Topic::all_tier_statuses() {
                    self.post.lock().subscribed();
                } else if filter == Topic::all_silences() {
                    self.notify.listens(true);
                }
            }
            Event::SubscriptionRefused { filter, reason, .. } => warn!(
                "the broker refuses this host the subscription to {filter}: {reason}; without it nothing tells the agent what the exporters have, and records stay in the spool: `utilizer broker acl` prints the rules that a broker needs"
            ),
        }
        Ok(())
    }

    fn book_refusal(&mut self, id: u64, code: Option<u8>, retry: bool, reason: String) {
        // Once per change: a missing access rule refuses every interval's records.
        let before = self.denied[usize::from(id >= AUDIT_ID)].replace(reason.clone());
        let news = before.as_deref() != Some(reason.as_str());
        let Some((boot, kind, seq)) = self.under_way.remove(&id) else {
            if id >= AUDIT_ID && news {
                error!("the broker refuses this host's status: {reason}; check the broker's access rules");
            }
            return;
        };
        if retry {
            // It is due again after `retry_after`, as one that nobody answered: the broker may take it then.
            if news {
                warn!(
                    "the broker refuses {kind} record {seq}: {reason}; records stay in the spool and are tried again"
                );
            }
            return;
        }
        let why = if code.is_none() || code == Some(0x95) { LossReason::TooLarge } else { LossReason::Other };
        let refused = self.post.lock().refused(&boot, kind, seq, why);
        let fate = match refused {
            Refused::Halved => {
                debug!("{kind} record {seq} is too large for the broker: it goes in two halves");
                return;
            }
            Refused::Declared => "such records are declared lost in the host's status",
            Refused::Waits => {
                "such records wait in the spool until the exporters have booked the losses that are declared already"
            }
        };
        if news {
            warn!("the broker refuses {kind} record {seq}: {reason}; {fate}");
        }
    }

    /// What exporters and operators say.
    fn hear(&self, message: &Message) {
        // The end of a retained state.
        if message.payload.is_empty() {
            if let Ok(Topic::Silence(id)) = message.topic.parse() {
                self.notify.fleet(id.to_string(), None);
            }
            return;
        }
        let heard = match message.topic.parse() {
            Ok(Topic::Tier(group, member)) => {
                wire::decode_state::<TierStatus>("tier status", &message.payload).map(|status| {
                    if (&status.group, &status.member) == (&group, &member) {
                        self.post.lock().tier_status(&status);
                    }
                })
            }
            Ok(Topic::Confirmed(_, group, member)) => wire::decode_state::<Confirmation>("confirmed", &message.payload)
                .map(|said| self.post.lock().confirmed(&group, &member, &said)),
            Ok(Topic::Silence(id)) => wire::decode_state::<Silence>("silence", &message.payload)
                .map(|silence| self.notify.fleet(id.to_string(), Some(silence))),
            Ok(Topic::Acknowledge(_)) => {
                wire::decode_state::<Acknowledge>("acknowledgement", &message.payload).map(|said| {
                    let Acknowledge { fingerprint, author, comment, false_alarm, time, .. } = said;
                    self.notify.acknowledged(fingerprint, Ack { by: author, comment, false_alarm, at: time });
                })
            }
            Ok(Topic::Control(_)) => wire::decode_state::<Control>("control", &message.payload).map(|control| {
                if let (ControlAction::RetireGroup, Some(group)) = (control.action, &control.group) {
                    // The command is repeated until this host's status has the group no longer.
                    let waited = self.post.lock().groups().any(|(name, _)| name == group);
                    self.post.lock().retire(group, control.time);
                    if waited {
                        info!("{} retires the group {group}: no record waits for it any more", control.author);
                    }
                }
            }),
            _ => Ok(()),
        };
        if let Err(error) = heard {
            debug!("{}: {error}", message.topic);
        }
    }

    fn publish_status(&mut self) {
        let message = status_message(&self.status());
        match self.client.try_publish(STATUS_ID, message) {
            Ok(()) => {
                self.status_due = false;
                self.post.lock().status_sent();
            }
            Err(_) => debug!("the status goes out when there is room for it"),
        }
    }

    /// The alerts that fire, for whoever asks the broker.
    fn publish_alerts(&mut self) {
        // The thread that evaluates says in a moment what fired before a restart.
        let Some(alerts) = self.firing.borrow_and_update().clone() else { return };
        let alerts = alerts.to_vec();
        let message = {
            let outbox = self.post.lock();
            let (host, boot) = (outbox.host().clone(), outbox.boot().clone());
            let topic = Topic::ActiveAlerts(host.clone()).to_string();
            let active = ActiveAlerts { v: VERSION, host, boot, time: Timestamp::from(SystemTime::now()), alerts };
            retained(topic, wire::encode(&active))
        };
        match self.client.try_publish(ALERTS_ID, message) {
            Ok(()) => self.alerts_due = false,
            Err(_) => debug!("the alerts that fire go out when there is room for them"),
        }
    }

    /// How far the chains of audit records go.
    fn publish_audit_heads(&mut self) {
        let mut outbox = self.post.lock();
        let Some(heads) = outbox.take_audit_heads() else { return };
        let host = outbox.host().clone();
        let topic = Topic::AuditHeads(host.clone()).to_string();
        let said = AuditHeads { v: VERSION, host, time: Timestamp::from(SystemTime::now()), heads };
        if self.client.try_publish(AUDIT_ID, retained(topic, wire::encode(&said))).is_err() {
            outbox.audit_heads_untold();
            debug!("the ends of the audit records' chains go out when there is room for them");
        }
    }

    fn status(&self) -> Status {
        let config = self.config.borrow().clone();
        Status { inventory: Some(self.inventory.clone()), ..bare_status(&self.post.lock(), &config, HostState::Online) }
    }

    async fn stop(mut self) {
        // The keeper writes down how far the audit records go; then that can be told.
        let written = async {
            while self.post.lock().has_unwritten_audit_heads() {
                self.post.ring();
                self.post.news().await;
            }
        };
        let _ = tokio::time::timeout(WRITTEN, written).await;
        // What was made last gets its chance. The rest stays in the spool.
        self.pump();
        let drained = tokio::time::timeout(DRAIN, async {
            while self.link.borrow().connected && !self.under_way.is_empty() {
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
        let config = self.config.borrow().clone();
        let offline = Status { stopped: true, ..bare_status(&self.post.lock(), &config, HostState::Offline) };
        if self.client.try_publish(STATUS_ID, status_message(&offline)).is_ok() {
            // Events must be read while the connection drains, or it could not book what it hears.
            let disconnected = self.client.disconnect(FAREWELL);
            let mut disconnected = std::pin::pin!(disconnected);
            loop {
                tokio::select! {
                    _ = &mut disconnected => break,
                    event = self.events.recv() => match event {
                        Some(Event::Acked { id, .. }) => {
                            let record = self.under_way.remove(&id);
                            self.post.lock().acknowledged(id, record.map(|(_, kind, _)| kind));
                        }
                        Some(_) => {}
                        None => break,
                    },
                }
            }
        }
        let left = self.post.lock().len();
        if left > 0 {
            info!("{left} records stay in the spool for the next start");
        }
    }
}

/// Returns at that moment, or never.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn record_message(outbox: &Outbox, outgoing: Outgoing) -> Message {
    let Outgoing { boot, kind, seq, payload, .. } = outgoing;
    Message {
        topic: Topic::Telemetry(outbox.host().clone(), kind).to_string(),
        payload,
        retain: false,
        content_type: Some(CONTENT_TYPE.to_owned()),
        user_properties: wire::user_properties(outbox.host(), Some(&boot), kind, Some(seq)),
    }
}

fn bare_status(outbox: &Outbox, config: &Config, state: HostState) -> Status {
    let delivery::sender::Waiting { groups, lowest_unconfirmed, dropped } = outbox.status();
    Status {
        v: VERSION,
        host: outbox.host().clone(),
        state,
        boot: outbox.boot().clone(),
        time: Timestamp::from(SystemTime::now()),
        version: crate::VERSION.to_owned(),
        stopped: false,
        interval_seconds: Some(config.interval.as_secs_f64()),
        // Whoever hears only that the host is gone has to know whose it is.
        labels: config.labels.clone(),
        inventory: None,
        groups,
        lowest_unconfirmed,
        dropped,
    }
}

fn status_message(status: &Status) -> Message {
    retained(Topic::Status(status.host.clone()).to_string(), wire::encode(status))
}

fn retained(topic: String, payload: Vec<u8>) -> Message {
    Message {
        topic,
        payload: Bytes::from(payload),
        retain: true,
        content_type: Some(CONTENT_TYPE.to_owned()),
        user_properties: Vec::new(),
    }
}

/// What the broker publishes when the agent vanishes.
pub fn last_will(post: &Post, config: &Config) -> Message {
    status_message(&bare_status(&post.lock(), config, HostState::Offline))
}
