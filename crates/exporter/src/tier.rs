//! The running loop: receive, hold, hand to the writer, acknowledge.
//!
//! Two tasks, so that a store that is down never stops the reading of the connection: the loop here, which never waits
//! for the store, and the writer, which does nothing else. A message is acknowledged when its rows are committed; the
//! broker's receive maximum therefore bounds what is in memory, and what this process loses by dying is delivered again.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use daemon::http;
use daemon::shutdown::{self, Shutdown};
use mqtt::{AckToken, Cause, Client, Event, Events, Message};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use wire::messages::{TierState, TierStatus};
use wire::{Kind, Topic};

use crate::dead::DeadLetters;
use crate::health::{Health, Pages};
use crate::hold::Hold;
use crate::intake;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::sink::Sink;
use crate::writer::{Fatal, Work, Writer};

/// How often the own status is published again. Agents that missed it learn of the group in this time.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(300);

/// How long the broker keeps our session: a restart finds its messages, a member that is gone frees them for others.
const SESSION: Duration = Duration::from_secs(60);

/// The largest packet that is taken. An agent makes records of up to 4 MiB, and around them there are topic and
/// properties. What is larger, the broker drops without a word to anyone.
const MOST_PACKET: u32 = (4 << 20) + (64 << 10);

/// How many times a full batch may be held. Messages alone are no bound: one may have 70,000 rows.
const MOST_BATCHES: usize = 20;

/// What stopping may take for writing what is held, and then for the last words to the broker: 5 s together.
const FLUSH_TIME: Duration = Duration::from_millis(3500);
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Why a tier ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store needs a person.
    #[error("{0}")]
    Sink(#[from] Fatal),
    /// Dead letters have no place.
    #[error("can't write the dead letters to {path}: {source}; state_dir must name a folder that this user may write")]
    DeadLetters {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The port for `/metrics` and health.
    #[error("{0}; [serve] listen decides where")]
    Serve(#[from] http::BindError),
    /// The broker's options.
    #[error("{0}")]
    Broker(#[from] mqtt::OptionsError),
    /// The connection is gone for good.
    #[error("{0}")]
    Disconnected(String),
    /// A task of ours ended.
    #[error("BUG: {0}")]
    Bug(String),
}

/// Runs a tier until `shutdown` asks for the stop: then what is held is written and acknowledged, within 5 s. What is
/// left then stays with the broker.
///
/// It keeps no state outside of what it is given, and takes no signals, so that several may run in one process.
pub async fn run<S: Sink>(sink: S, settings: Settings, shutdown: Shutdown) -> Result<(), RunError> {
    let metrics = settings.metrics.clone();
    let limits = &settings.dead_letters;
    let dead = DeadLetters::open(limits.path.clone(), limits.max_bytes, metrics.clone())
        .map_err(|source| RunError::DeadLetters { path: limits.path.clone(), source })?;
    let dead = Arc::new(dead);
    let health = Health::new();

    let mut pages = JoinSet::new();
    let (_stop_pages, pages_stop) = shutdown::channel();
    if let Some(serve) = &settings.serve {
        let listener = http::bind(&serve.listen).await?;
        let title = format!("utilizer-exporter-{} {}", sink.name(), env!("CARGO_PKG_VERSION"));
        let handler = Arc::new(Pages { health: health.clone(), metrics: metrics.clone(), title });
        if let Some(address) = listener.local_addr() {
            tracing::info!("/metrics and /readyz are at http://{address}/");
        }
        pages.spawn(http::serve(listener, serve.allow.clone(), handler, pages_stop));
    }

    let result = tend(sink, settings, dead, health, shutdown).await;
    // Waited for, since a reload runs the next tier at once and a task that is only told to end still has its port.
    pages.shutdown().await;
    result
}

/// The part of [`run`] that needs no pages.
async fn tend<S: Sink>(
    sink: S,
    settings: Settings,
    dead: Arc<DeadLetters>,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let metrics = settings.metrics.clone();
    let (sink_name, kinds) = (sink.name(), sink.kinds());
    let (work, work_receiver) = mpsc::channel(1);
    let (done_sender, done) = mpsc::channel(1);
    let (opened_sender, opened) = oneshot::channel();
    // Dropped at the end of this function, whatever the way out of it: the writer ends with it.
    let mut writers = JoinSet::new();
    let writer = Writer {
        sink,
        backoff: settings.backoff,
        dead: dead.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
    };
    writers.spawn(writer.run(opened_sender, work_receiver, done_sender));

    // Nothing is asked of the broker before the store is open: until then the other members of the group can do more
    // with the messages.
    tokio::select! {
        _ = opened => {}
        ended = writers.join_next() => return Err(writer_ended(ended)),
        () = shutdown.wait() => return Ok(()),
    }

    let tier = Tier {
        hold: Hold::new(usize::from(settings.receive_maximum), settings.batch.max_rows.saturating_mul(MOST_BATCHES)),
        identity: Identity { sink: sink_name, kinds, settings },
        dead,
        health,
        metrics,
        work,
        done,
        writers,
        subscribed: HashSet::new(),
        connected: false,
        publishes: 0,
    };
    tier.run(shutdown).await
}

/// Who this member is.
struct Identity {
    sink: &'static str,
    kinds: &'static [Kind],
    settings: Settings,
}

impl Identity {
    fn options(&self) -> mqtt::Options {
        let Settings { broker, group, member, receive_maximum, .. } = &self.settings;
        mqtt::Options {
            client_id: format!("utilizer-exporter-{group}-{member}"),
            clean_start: false,
            session_expiry: SESSION,
            receive_maximum: *receive_maximum,
            max_incoming_packet: MOST_PACKET,
            will: Some(self.status(TierState::Offline)),
            ..broker.clone()
        }
    }

    fn filters(&self) -> Vec<String> {
        let mut filters: Vec<_> =
            self.kinds.iter().map(|kind| Topic::shared_telemetry(&self.settings.group, *kind)).collect();
        // Every member sees every status: writing it twice is writing it once.
        filters.push(Topic::all_statuses());
        filters
    }

    fn status(&self, state: TierState) -> Message {
        let Settings { group, member, .. } = &self.settings;
        let status = TierStatus {
            v: wire::VERSION,
            group: group.clone(),
            member: member.clone(),
            state,
            time: SystemTime::now().into(),
            sink: self.sink.to_owned(),
            kinds: self.kinds.to_vec(),
            // Nothing is confirmed to agents yet: they must not wait for it.
            durable: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Message {
            topic: Topic::Tier(group.clone(), member.clone()).to_string(),
            payload: wire::encode(&status).into(),
            retain: true,
            content_type: Some(wire::CONTENT_TYPE.to_owned()),
            user_properties: Vec::new(),
        }
    }
}

struct Tier {
    identity: Identity,
    hold: Hold,
    dead: Arc<DeadLetters>,
    health: Health,
    metrics: Metrics,
    work: mpsc::Sender<Work>,
    done: mpsc::Receiver<()>,
    writers: JoinSet<Result<(), Fatal>>,
    subscribed: HashSet<String>,
    connected: bool,
    publishes: u64,
}

impl Tier {
    async fn run(mut self, shutdown: Shutdown) -> Result<(), RunError> {
        let (client, mut events) = Client::start(self.identity.options())?;
        let gone = |_| RunError::Bug("the MQTT client stopped at once".to_owned());
        client.subscribe(self.identity.filters()).await.map_err(gone)?;
        let mut announce = tokio::time::interval(ANNOUNCE_EVERY);
        loop {
            self.flush(false);
            self.show();
            // Without room nothing is read until some of it is written; the client then waits for us.
            let room = self.hold.has_room();
            let due = self.due();
            tokio::select! {
                () = shutdown.wait() => break,
                event = events.recv(), if room => match event {
                    Some(event) => self.on(event, &client)?,
                    None => return Err(RunError::Bug("the MQTT client stopped by itself".to_owned())),
                },
                done = self.done.recv() => match done {
                    Some(()) => self.committed(&client),
                    None => return Err(writer_ended(self.writers.join_next().await)),
                },
                () = tokio::time::sleep_until(due.into()), if self.hold.since().is_some() && !self.hold.is_writing() => {}
                _ = announce.tick() => self.announce(&client, TierState::Online),
            }
        }
        self.stop(&client, &mut events).await
    }

    /// Writes and acknowledges what is held, says goodbye.
    async fn stop(mut self, client: &Client, events: &mut Events) -> Result<(), RunError> {
        let flush = async {
            while !self.hold.is_empty() {
                self.flush(true);
                match self.done.recv().await {
                    Some(()) => self.committed(client),
                    None => return Err(writer_ended(self.writers.join_next().await)),
                }
            }
            Ok(())
        };
        let flushed = tokio::time::timeout(FLUSH_TIME, flush).await;
        if flushed.is_err() {
            tracing::warn!(
                messages = self.hold.messages(),
                "stopping before these messages were written; they stay with the broker"
            );
        }
        self.announce(client, TierState::Offline);
        // The client waits for nobody to read its events, but it ends them only when they are read.
        let farewell = async {
            let drained = async { while events.recv().await.is_some() {} };
            tokio::join!(client.disconnect(FAREWELL_TIME), drained)
        };
        let _ = tokio::time::timeout(FAREWELL_TIME, farewell).await;
        flushed.unwrap_or(Ok(()))
    }

    /// When what waits is old enough to be written.
    fn due(&self) -> Instant {
        self.hold.since().unwrap_or_else(Instant::now) + self.identity.settings.batch.max_age
    }

    /// Hands the writer a batch, if it is free and one is due: by rows, by age, because the broker waits for
    /// acknowledgements, or because we stop.
    fn flush(&mut self, stopping: bool) {
        if self.hold.is_writing() || self.hold.since().is_none() {
            return;
        }
        let max_rows = self.identity.settings.batch.max_rows;
        let due =
            stopping || self.hold.pending_rows() >= max_rows || self.hold.is_full() || self.due() <= Instant::now();
        if due {
            // There is room for one, and only one is under way. A writer that is gone shows in `done`.
            let _ = self.work.try_send(self.hold.next(max_rows));
        }
    }

    fn committed(&mut self, client: &Client) {
        for token in self.hold.committed() {
            client.ack(token);
        }
    }

    fn show(&self) {
        self.metrics.rows_held.set(i64::try_from(self.hold.rows()).unwrap_or(i64::MAX));
        self.metrics.messages_held.set(i64::try_from(self.hold.messages()).unwrap_or(i64::MAX));
    }

    fn announce(&mut self, client: &Client, state: TierState) {
        if self.connected {
            self.publishes += 1;
            // One that does not get through is repeated within minutes, and at the next connection.
            if let Err(error) = client.try_publish(self.publishes, self.identity.status(state)) {
                tracing::debug!("the own status was not published: {error}");
            }
        }
    }

    fn on(&mut self, event: Event, client: &Client) -> Result<(), RunError> {
        match event {
            Event::Received { message, ack } => self.received(message, ack, client),
            Event::Connected { session_present, .. } => {
                tracing::info!(session_present, "connected to {}", self.identity.settings.broker.broker);
                self.connected = true;
                self.metrics.mqtt_connected.set(1);
                self.subscribed.clear();
                self.ready_when_subscribed();
                self.announce(client, TierState::Online);
            }
            Event::Disconnected { reason, retry_in } => {
                let sentence = reason.to_string();
                self.metrics.mqtt_connected.set(0);
                let known = !self.connected && self.health.broker_fault().as_deref() == Some(&sentence);
                self.connected = false;
                if retry_in.is_none() {
                    return Err(RunError::Disconnected(match reason.cause {
                        Cause::TakenOver => format!(
                            "{sentence}; two exporters of the group {} call themselves {}: give one of them another \
                             [mqtt] member",
                            self.identity.settings.group, self.identity.settings.member
                        ),
                        _ => sentence,
                    }));
                }
                if !known {
                    tracing::warn!("{sentence}; trying again for as long as it takes");
                }
                self.health.broker(Some(sentence));
            }
            Event::Subscribed { filter } => {
                self.subscribed.insert(filter);
                self.ready_when_subscribed();
            }
            Event::SubscriptionRefused { filter, reason, .. } => {
                let sentence = format!(
                    "the broker refuses the subscription to {filter}: {reason}; its access rules must allow it"
                );
                tracing::error!("{sentence}");
                self.health.broker(Some(sentence));
            }
            Event::Refused { reason, .. } => tracing::warn!("the broker refuses this exporter's own status: {reason}"),
            Event::Acked { .. } | Event::Lost { .. } => {}
        }
        Ok(())
    }

    fn ready_when_subscribed(&self) {
        if self.connected && self.identity.filters().iter().all(|filter| self.subscribed.contains(filter)) {
            self.health.broker(None);
        }
    }

    fn received(&mut self, message: Message, ack: AckToken, client: &Client) {
        let now = SystemTime::now().into();
        let rules = &self.identity.settings.rules;
        self.metrics.message(kind_label(&message.topic));
        let taken = intake::take(&message, rules, now);
        for letter in &taken.dead {
            self.dead.keep(letter, now);
        }
        let acknowledge = match (taken.record, taken.host) {
            (Some(record), _) if record.row_count() > 0 => {
                self.hold.record(record, ack, Instant::now()).map(|(token, known)| {
                    if known {
                        self.metrics.duplicates.inc();
                    }
                    token
                })
            }
            (_, Some(host)) => self.hold.host(host, ack, Instant::now()),
            // Nothing to write: a dead letter, or an interval that makes no rows.
            _ => Some(ack),
        };
        if let Some(token) = acknowledge {
            client.ack(token);
        }
    }
}

fn kind_label(topic: &str) -> &'static str {
    let last = topic.rsplit('/').next().unwrap_or_default();
    match last.parse::<Kind>() {
        Ok(kind) => kind.as_str(),
        Err(_) if last == "status" => "status",
        Err(_) => "other",
    }
}

fn writer_ended(ended: Option<Result<Result<(), Fatal>, tokio::task::JoinError>>) -> RunError {
    match ended {
        Some(Ok(Err(fatal))) => RunError::Sink(fatal),
        Some(Err(error)) => RunError::Bug(format!("the writer's task failed: {error}")),
        Some(Ok(Ok(()))) | None => RunError::Bug("the writer's task ended by itself".to_owned()),
    }
}
