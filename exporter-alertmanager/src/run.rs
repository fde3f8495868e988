//! The running loop: messages into the fleet, once a second a judgement.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use daemon::http;
use daemon::shutdown::{self, Shutdown};
use mqtt::{Cause, Client, Event, Message};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use wire::messages::{ActiveAlerts, AlertTransition, Silence, Status};
use wire::{DecodeError, HostName, Kind, Timestamp, Topic, decode_body, decode_head, decode_state};

use crate::file::Settings;
use crate::fleet::{Fleet, Refusal};
use crate::metrics::Metrics;
use crate::pages::{Health, Pages};
use crate::sender::{Sender, Shared};

/// The largest packet that is taken: an agent makes records of up to 4 MiB.
const MOST_PACKET: u32 = (4 << 20) + (64 << 10);

/// Between two judgements.
const TICK: Duration = Duration::from_secs(1);

/// How often it is said what was refused.
const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(60);

/// What stopping may take: a last look at the queues, and the goodbye to the broker.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why it ended before it was asked to.
#[derive(Debug)]
pub enum RunError {
    /// The port for the pages.
    Serve(http::BindError),
    /// The broker's options.
    Broker(mqtt::OptionsError),
    /// The connection is gone for good.
    Disconnected(String),
    /// A task of ours ended.
    Bug(String),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serve(error) => write!(f, "{error}; [serve] listen decides where"),
            Self::Broker(error) => write!(f, "{error}"),
            Self::Disconnected(why) => f.write_str(why),
            Self::Bug(what) => write!(f, "BUG: {what}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Feeds the Alertmanagers until `shutdown` asks for the stop.
///
/// It keeps no state outside of what it is given, and takes no signals.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), RunError> {
    let metrics = Metrics::new(settings.places.iter().map(|place| place.name.clone()).collect());
    let health = Health::new(settings.places.len());
    let mut tasks = JoinSet::new();
    let (_stop_pages, pages_stop) = shutdown::channel();
    if let Some(listen) = &settings.listen {
        let listener = http::bind(listen).await.map_err(RunError::Serve)?;
        if let Some(address) = listener.local_addr() {
            tracing::info!("/metrics and /readyz are at http://{address}/");
        }
        let pages = Arc::new(Pages { health: health.clone(), metrics: metrics.clone() });
        tasks.spawn(http::serve(listener, settings.allow.clone(), pages, pages_stop));
    }
    let targets = settings.places.len();
    let shared = Shared::new(Fleet::new(settings.fleet.clone(), settings.feed.clone(), targets), targets);
    for (index, place) in settings.places.iter().enumerate() {
        let sender = Sender {
            index,
            place: place.clone(),
            client: settings.client.clone(),
            authorization: settings.authorization.clone(),
            timeout: settings.timeout,
            shared: shared.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
        };
        tasks.spawn(sender.run());
    }
    let listener = Listener {
        filters: filters(settings.heartbeats),
        settings,
        shared,
        metrics,
        health,
        subscribed: HashSet::new(),
        connected: false,
        refusals_said: None,
    };
    let result = listener.run(&mut tasks, shutdown).await;
    // Waited for, since a reload runs the next one at once and a task that is only told to end still has its port.
    tasks.shutdown().await;
    result
}

/// States come first, so that it is known which hosts were stopped before it is heard what fired there.
fn filters(heartbeats: bool) -> Vec<String> {
    let mut filters = vec![
        Topic::all_silences(),
        Topic::all_statuses(),
        Topic::all_active_alerts(),
        Topic::all_telemetry(Kind::Alerts),
    ];
    filters.extend(heartbeats.then(|| Topic::all_telemetry(Kind::Metrics)));
    filters
}

struct Listener {
    settings: Settings,
    filters: Vec<String>,
    shared: Shared,
    metrics: Metrics,
    health: Health,
    subscribed: HashSet<String>,
    connected: bool,
    refusals_said: Option<Instant>,
}

impl Listener {
    async fn run(mut self, tasks: &mut JoinSet<()>, shutdown: Shutdown) -> Result<(), RunError> {
        let options = mqtt::Options {
            max_incoming_packet: MOST_PACKET,
            // mosquitto drops what goes beyond some 1,000 retained ones at QoS 1. What gets lost is retained, or comes
            // again in a moment.
            at_most_once: self
                .filters
                .iter()
                .filter(|filter| **filter != Topic::all_telemetry(Kind::Alerts))
                .cloned()
                .collect(),
            receive_maximum: 256,
            ..self.settings.broker.clone()
        };
        let (client, mut events) = Client::start(options).map_err(RunError::Broker)?;
        let gone = |_| RunError::Bug("the MQTT client stopped at once".to_owned());
        client.subscribe(self.filters.clone()).await.map_err(gone)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                event = events.recv() => match event {
                    Some(event) => self.on(event, &client)?,
                    None => return Err(RunError::Bug("the MQTT client stopped by itself".to_owned())),
                },
                _ = tick.tick() => self.tick(),
                Some(ended) = tasks.join_next() => {
                    return Err(RunError::Bug(match ended {
                        Ok(()) => "a task ended by itself".to_owned(),
                        Err(error) => format!("a task failed: {error}"),
                    }));
                }
            }
        }
        // What is over or began just now is told yet; the client waits for nobody to read its events.
        let now = now();
        self.shared.lock().feed().tick(now);
        self.shared.ring();
        let drained = async { while events.recv().await.is_some() {} };
        let farewell = async { tokio::join!(client.disconnect(FAREWELL), drained) };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        Ok(())
    }

    fn tick(&mut self) {
        let refused = {
            let mut fleet = self.shared.lock();
            fleet.tick(now());
            self.metrics.show(&mut fleet);
            fleet.take_refused()
        };
        self.shared.ring();
        let is_due = self.refusals_said.is_none_or(|at| at.elapsed() >= REFUSALS_SAID_EVERY);
        for (refusal, (count, example)) in &refused {
            self.metrics.refused(*refusal, *count);
            if is_due {
                self.refusals_said = Some(Instant::now());
                tracing::warn!("not taken ({count} such a moment ago, /metrics counts them): {example}");
            }
        }
    }

    fn on(&mut self, event: Event, client: &Client) -> Result<(), RunError> {
        match event {
            Event::Received { message, ack } => {
                self.received(&message);
                client.ack(ack);
            }
            Event::Connected { .. } => {
                tracing::info!("connected to {}", self.settings.broker.broker);
                self.connected = true;
                self.metrics.connected.set(1);
                self.subscribed.clear();
                self.shared.lock().connected(now());
            }
            Event::Disconnected { reason, retry_in } => {
                self.connected = false;
                self.metrics.connected.set(0);
                self.shared.lock().disconnected();
                let sentence = reason.to_string();
                if retry_in.is_none() {
                    return Err(RunError::Disconnected(match reason.cause {
                        Cause::TakenOver => format!(
                            "{sentence}; two of these exporters call themselves {}: give one of them another [mqtt] member",
                            self.settings.member
                        ),
                        _ => sentence,
                    }));
                }
                if self.health.broker(Some(sentence.clone())) {
                    tracing::warn!("{sentence}; trying again for as long as it takes; alerts stay as they are");
                }
            }
            Event::Subscribed { filter } => {
                self.subscribed.insert(filter);
                if self.connected && self.filters.iter().all(|filter| self.subscribed.contains(filter)) {
                    self.health.broker(None);
                }
            }
            Event::SubscriptionRefused { filter, reason, .. } => {
                let sentence = format!(
                    "the broker refuses the subscription to {filter}: {reason}; its access rules must allow it"
                );
                if self.health.broker(Some(sentence.clone())) {
                    tracing::error!("{sentence}");
                }
            }
            Event::Acked { .. } | Event::Lost { .. } | Event::Refused { .. } => {}
        }
        Ok(())
    }

    fn received(&mut self, message: &Message) {
        let now = now();
        let mut fleet = self.shared.lock();
        let urgent = match take(&mut fleet, message, now) {
            Ok(topic) => {
                self.metrics.message(topic);
                topic == "alerts" || topic == "alerts/active"
            }
            Err(why) => {
                fleet.refuse(Refusal::Unreadable, || format!("a message on {}: {why}", shown(&message.topic)));
                false
            }
        };
        if urgent {
            fleet.feed().tick(now);
            drop(fleet);
            self.shared.ring();
        }
    }
}

/// Gives a message to the fleet, and says what it was.
fn take(fleet: &mut Fleet, message: &Message, now: Timestamp) -> Result<&'static str, String> {
    let (payload, retained) = (&message.payload, message.retain);
    let text = |error: DecodeError| error.to_string();
    match message.topic.parse::<Topic>().map_err(|error| error.to_string())? {
        Topic::Status(host) => {
            if payload.is_empty() {
                fleet.forget(&host, now);
            } else {
                let status: Status = decode_state("status", payload).map_err(text)?;
                of(&host, &status.host)?;
                fleet.status(&status, retained, now);
            }
            Ok("status")
        }
        Topic::ActiveAlerts(host) => {
            if payload.is_empty() {
                fleet.clear_active(&host, now);
            } else {
                let active: ActiveAlerts = decode_state("active alerts", payload).map_err(text)?;
                of(&host, &active.host)?;
                fleet.active(&active, retained, now);
            }
            Ok("alerts/active")
        }
        Topic::Telemetry(host, Kind::Alerts) => {
            let head = decode_head(payload).map_err(text)?;
            of(&host, &head.host)?;
            let transition: AlertTransition = decode_body(payload).map_err(text)?;
            fleet.transition(&head, &transition, now);
            fleet.beat(&head, now);
            Ok("alerts")
        }
        Topic::Telemetry(host, Kind::Metrics) => {
            let head = decode_head(payload).map_err(text)?;
            of(&host, &head.host)?;
            fleet.beat(&head, now);
            Ok("metrics")
        }
        Topic::Silence(id) => {
            let silence = match payload.is_empty() {
                true => None,
                false => Some(decode_state::<Silence>("silence", payload).map_err(text)?),
            };
            fleet.silence(&id.to_string(), silence);
            Ok("silences")
        }
        _ => Err("nothing was asked for there".to_owned()),
    }
}

/// The topic's host is the one for which the broker vouches.
fn of(topic: &HostName, payload: &HostName) -> Result<(), String> {
    if topic == payload { Ok(()) } else { Err(format!("it names another host, {payload}")) }
}

fn shown(topic: &str) -> String {
    topic.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
