//! The task that keeps the connection.
//!
//! Each connection has an event loop of the library of its own and ends with it: nothing of one connection, neither a
//! publish nor an acknowledgement, can reach the next. The event loop's `poll` is never cancelled while the connection
//! is wanted, since it may stand in the middle of a packet; it is kept pinned while other things are waited for.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rumqttc::{
    AsyncClient, ConnAck, ConnectionError, ManualAck, Outgoing, Packet, PubAck, PublishNotice, PublishNoticeError,
    PublishResult, QoS, SubAck, SubscribeFilter, SubscribeNotice, SubscribeNoticeError, ValidatedTopicFilter,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error};

use crate::backoff::{Backoff, random};
use crate::client::{MOST_FILTERS, Shared};
use crate::link::{MOST_ACKS, Template, fault_in, message, publish_options};
use crate::socket::Tap;
use crate::{AckToken, Cause, Disconnect, Event, Message, Options, reason};

/// How long a DISCONNECT may take to be written once the time to stop is over.
const LAST_WORD: Duration = Duration::from_millis(250);
/// How long the broker may take to close after our DISCONNECT.
const CLOSING: Duration = Duration::from_secs(1);
/// How long the consumer may leave no room for messages where no keep-alive time says it.
const UNSILENCED_PATIENCE: Duration = Duration::from_secs(60);
/// The time to stop if the caller dropped its halves instead of asking.
const UNASKED_STOP: Duration = Duration::from_secs(1);

/// What the caller's half asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Publish { id: u64, message: Message },
    Subscribe { filters: Vec<String> },
    Stop { within: Duration, done: Option<oneshot::Sender<bool>> },
}

/// A wish to stop.
#[derive(Debug)]
struct Stop {
    deadline: Instant,
    done: Option<oneshot::Sender<bool>>,
    /// Whether the library was told to disconnect.
    said: bool,
    /// Whether all that was under way was answered by then.
    complete: bool,
}

/// How a connection ended.
enum End {
    /// By the caller's wish; `true`: with everything answered and a DISCONNECT written.
    Stopped(Option<oneshot::Sender<bool>>, bool),
    /// By a fault.
    Broken(Disconnect),
}

/// What is under way on one connection.
struct Connection {
    client: AsyncClient,
    publishes: FuturesUnordered<Notice<(u64, Outcome)>>,
    subscriptions: FuturesUnordered<Notice<(Vec<String>, Answer)>>,
    /// Since the CONNACK; `None` before.
    since: Option<Instant>,
    largest_packet: Option<u32>,
    /// Acknowledgements handed to the library and not yet written.
    acks_under_way: usize,
    /// A message for which there was no room among the events. Nothing more is read from the network before there is.
    held: Option<Event>,
    stop: Option<Stop>,
}

type Notice<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Outcome = Result<PublishResult, PublishNoticeError>;
type Answer = Result<SubAck, SubscribeNoticeError>;

pub(crate) struct Driver {
    options: Options,
    template: Template,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Places among the events that received messages do not take, so that the others always find theirs.
    kept_free: usize,
    /// The filters asked for, and whether the broker's session is known to hold them.
    filters: HashMap<String, bool>,
    connections: u64,
}

impl Driver {
    pub(crate) fn new(
        options: Options,
        template: Template,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        kept_free: usize,
    ) -> Self {
        Self { options, template, shared, commands, events, kept_free, filters: HashMap::new(), connections: 0 }
    }

    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(self.options.pauses);
        let (done, complete) = loop {
            let (end, lasted) = self.connection().await;
            let reason = match end {
                End::Stopped(done, complete) => break (done, complete),
                End::Broken(reason) => reason,
            };
            debug!(%reason, "MQTT connection ended");
            if reason.cause == Cause::TakenOver {
                self.emit(Event::Disconnected { reason, retry_in: None });
                break (None, false);
            }
            let pause = backoff.pause(lasted, random());
            self.emit(Event::Disconnected { reason, retry_in: Some(pause) });
            if let Some(done) = self.pause(Instant::now() + pause).await {
                break (done, false);
            }
        };
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            if let Command::Publish { id, .. } = command {
                self.emit(Event::Lost { id });
            }
        }
        if let Some(done) = done {
            // Whoever asked may have stopped waiting.
            let _ = done.send(complete);
        }
    }

    /// Waits for the next attempt and for the consumer to have read everything, so that the events of one connection
    /// after the other can't pile up. Returns early, with whom to tell, if the caller wants to stop.
    async fn pause(&mut self, until: Instant) -> Option<Option<oneshot::Sender<bool>>> {
        let events = self.events.clone();
        let mut wait = pin!(async move {
            sleep_until(until).await;
            // An error means that nobody reads any more, which the next connection notices.
            let _ = events.reserve_many(events.max_capacity()).await;
        });
        loop {
            tokio::select! {
                () = &mut wait => return None,
                command = self.commands.recv() => match command {
                    None => return Some(None),
                    Some(Command::Stop { done, .. }) => return Some(done),
                    Some(Command::Publish { id, .. }) => self.emit(Event::Lost { id }),
                    Some(Command::Subscribe { filters }) => {
                        self.want(filters);
                    }
                },
            }
        }
    }

    /// Connects and stays until it ends. Returns also how long the connection stood.
    async fn connection(&mut self) -> (End, Duration) {
        self.connections += 1;
        self.shared.acks.begin(self.connections);
        let (client, mut event_loop, tap) = self.template.build();
        let mut connection = Connection {
            client,
            publishes: FuturesUnordered::new(),
            subscriptions: FuturesUnordered::new(),
            since: None,
            largest_packet: None,
            acks_under_way: 0,
            held: None,
            stop: None,
        };
        let end = loop {
            if let Some(message) = connection.held.take()
                && let Some(end) = self.wait_for_room(&mut connection, message).await
            {
                break end;
            }
            let polled = {
                let mut poll = pin!(event_loop.poll());
                self.until_polled(&mut connection, poll.as_mut()).await
            };
            let step = match polled {
                None => Some(connection.stopped(false)),
                Some(Ok(event)) => {
                    if let rumqttc::Event::Incoming(Packet::ConnAck(_)) = event {
                        // It has said that nothing was under way, and need not be asked to save anything.
                        event_loop.options.clear_session_store();
                    }
                    self.on_event(&mut connection, event)
                }
                Some(Err(_)) if connection.stop.is_some() => Some(connection.stopped(false)),
                Some(Err(error)) => Some(End::Broken(self.reason(&error, &tap))),
            };
            if let Some(end) = step {
                break end;
            }
        };
        self.shared.open.store(false, Ordering::Release);
        let Connection { client, mut publishes, since, .. } = connection;
        // With both halves of the library's queue the last notices are answered or fall, so that none is waited for.
        drop(event_loop);
        drop(client);
        while let Some((id, outcome)) = publishes.next().await {
            self.on_outcome(id, outcome);
        }
        let end = match end {
            End::Stopped(done, true) => End::Stopped(done, tap.closed(CLOSING).await),
            end => end,
        };
        (end, since.map(|since| since.elapsed()).unwrap_or_default())
    }

    /// Serves everything else until the event loop has something; `None`: the time to stop is over.
    async fn until_polled(
        &mut self,
        connection: &mut Connection,
        mut poll: Pin<&mut impl Future<Output = Result<rumqttc::Event, ConnectionError>>>,
    ) -> Option<Result<rumqttc::Event, ConnectionError>> {
        loop {
            if connection.since.is_none() && connection.stop.is_some() {
                return None;
            }
            connection.stop_when_answered();
            let deadline = connection.stop.as_ref().map(|stop| stop.deadline);
            tokio::select! {
                // The network comes last, so that what it said before is told before it says more: a subscription
                // before its messages. The others are bounded and can't keep it from its turn.
                biased;
                Some((id, outcome)) = connection.publishes.next(), if !connection.publishes.is_empty() => {
                    self.on_outcome(id, outcome);
                }
                Some((filters, answer)) = connection.subscriptions.next(), if !connection.subscriptions.is_empty() => {
                    self.on_subscribed(filters, answer);
                }
                () = self.shared.acks.ready(), if connection.since.is_some() => self.send_acks(connection),
                command = self.commands.recv(), if connection.stop.is_none() => self.on_command(connection, command),
                () = self.events.closed(), if connection.stop.is_none() => self.begin_stop(connection, UNASKED_STOP, None),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    if connection.stop.as_ref().is_some_and(|stop| stop.said) {
                        return None;
                    }
                    connection.say_disconnect(false);
                }
                polled = &mut poll => return Some(polled),
            }
        }
    }

    fn reason(&self, error: &ConnectionError, tap: &Tap) -> Disconnect {
        reason::disconnect(&self.options.broker, &self.options.client_id, error, tap)
    }

    fn on_command(&mut self, connection: &mut Connection, command: Option<Command>) {
        match command {
            None => self.begin_stop(connection, UNASKED_STOP, None),
            Some(Command::Stop { within, done }) => self.begin_stop(connection, within, done),
            Some(Command::Subscribe { filters }) => {
                let new = self.want(filters);
                if connection.since.is_some() {
                    self.subscribe(connection, new);
                }
            }
            Some(Command::Publish { id, .. }) if connection.since.is_none() => self.emit(Event::Lost { id }),
            Some(Command::Publish { id, message }) => self.publish(connection, id, message),
        }
    }

    fn begin_stop(&mut self, connection: &mut Connection, within: Duration, done: Option<oneshot::Sender<bool>>) {
        self.shared.open.store(false, Ordering::Release);
        // What was taken before the wish to stop belongs to what is waited for.
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Publish { id, message } if connection.since.is_some() => self.publish(connection, id, message),
                Command::Publish { id, .. } => self.emit(Event::Lost { id }),
                Command::Subscribe { .. } | Command::Stop { .. } => {}
            }
        }
        self.send_acks(connection);
        connection.stop = Some(Stop { deadline: Instant::now() + within, done, said: false, complete: false });
    }

    fn on_event(&mut self, connection: &mut Connection, event: rumqttc::Event) -> Option<End> {
        match event {
            rumqttc::Event::Incoming(Packet::ConnAck(connack)) => return self.on_connected(connection, &connack),
            rumqttc::Event::Incoming(Packet::Publish(publish)) => return self.on_received(connection, publish),
            rumqttc::Event::Outgoing(Outgoing::PubAck(_)) => {
                connection.acks_under_way = connection.acks_under_way.saturating_sub(1);
                self.send_acks(connection);
            }
            rumqttc::Event::Outgoing(Outgoing::Disconnect) if connection.stop.is_some() => {
                return Some(connection.stopped(true));
            }
            _ => {}
        }
        None
    }

    fn on_connected(&mut self, connection: &mut Connection, connack: &ConnAck) -> Option<End> {
        let properties = connack.properties.as_ref();
        if properties.and_then(|properties| properties.max_qos) == Some(0) {
            let fault = "it takes no publishes at QoS 1, without which nothing can be known to have arrived";
            return Some(End::Broken(reason::protocol(&self.options.broker, fault)));
        }
        connection.largest_packet = properties.and_then(|properties| properties.max_packet_size);
        connection.since = Some(Instant::now());
        // Also with a session: mosquitto 2.0 restores one from disk without its shared subscriptions, and says that it
        // is there. Asking again for what stands costs a packet and changes nothing.
        self.filters.values_mut().for_each(|held| *held = false);
        let missing = self.filters.iter().filter(|(_, held)| !**held).map(|(filter, _)| filter.clone()).collect();
        self.shared.open.store(true, Ordering::Release);
        self.emit(Event::Connected { session_present: connack.session_present });
        self.subscribe(connection, missing);
        None
    }

    fn on_received(&mut self, connection: &mut Connection, publish: rumqttc::Publish) -> Option<End> {
        let ack = if publish.qos == QoS::AtMostOnce {
            AckToken::NONE
        } else {
            match self.shared.acks.received(publish.pkid) {
                Some(ack) => ack,
                None => {
                    let fault = "it sent more unacknowledged messages than there are packet identifiers";
                    return Some(End::Broken(reason::protocol(&self.options.broker, fault)));
                }
            }
        };
        let event = Event::Received { message: message(publish), ack };
        // The receive maximum bounds what comes, but not at QoS 0, and mosquitto (seen with 2.0.11) exceeds it.
        if self.events.capacity() > self.kept_free {
            self.emit(event);
        } else if connection.stop.is_none() {
            connection.held = Some(event);
        }
        None
    }

    /// Waits until the consumer has made room for a message, at most for the keep-alive time: if it reads nothing for
    /// so long, the broker ends the connection anyway. While it waits the network stands still and the broker with it.
    async fn wait_for_room(&mut self, connection: &mut Connection, message: Event) -> Option<End> {
        let events = self.events.clone();
        let mut room = pin!(events.reserve_many(self.kept_free + 1));
        let patience = match self.options.keep_alive {
            Duration::ZERO => UNSILENCED_PATIENCE,
            keep_alive => keep_alive,
        };
        let limit = Instant::now() + patience;
        loop {
            tokio::select! {
                reserved = &mut room => {
                    drop(reserved);
                    self.emit(message);
                    return None;
                }
                () = sleep_until(limit) => return Some(End::Broken(reason::overrun(&self.options.broker, patience))),
                command = self.commands.recv() => self.on_command(connection, command),
                () = self.shared.acks.ready() => self.send_acks(connection),
            }
            if connection.stop.is_some() {
                // Without its PUBACK the message comes again, if the session is kept.
                return None;
            }
        }
    }

    fn send_acks(&self, connection: &mut Connection) {
        while connection.acks_under_way < MOST_ACKS {
            let Some(packet) = self.shared.acks.next_ready() else { return };
            match connection.client.try_manual_ack(ManualAck::PubAck(PubAck::new(packet, None))) {
                Ok(()) => connection.acks_under_way += 1,
                Err(fault) => error!(%fault, "BUG: an acknowledgement found no room in the MQTT library's queue"),
            }
        }
    }

    fn publish(&mut self, connection: &mut Connection, id: u64, message: Message) {
        if let Some(reason) = fault_in(&message, connection.largest_packet) {
            self.emit(Event::Refused { id, code: None, reason });
            return;
        }
        let options = publish_options(&message);
        match connection.client.try_publish_tracked(message.topic, message.payload, options) {
            Ok(notice) => connection.publishes.push(Box::pin(outcome(id, notice))),
            Err(fault) => {
                error!(%fault, "BUG: a publish within its bound was not taken by the MQTT library");
                self.emit(Event::Lost { id });
            }
        }
    }

    fn on_outcome(&mut self, id: u64, outcome: Outcome) {
        let event = match outcome {
            Ok(PublishResult::Qos1(puback)) => match reason::puback(puback.reason) {
                Ok(()) => Event::Acked { id },
                Err((code, mut reason)) => {
                    if let Some(said) = puback.properties.and_then(|properties| properties.reason_string) {
                        reason = format!("{reason}, saying {said:?}");
                    }
                    Event::Refused { id, code: Some(code), reason }
                }
            },
            Err(PublishNoticeError::RetainNotSupported) => {
                Event::Refused { id, code: Some(0x9A), reason: "the broker keeps no retained messages".to_owned() }
            }
            Ok(_) | Err(_) => Event::Lost { id },
        };
        self.emit(event);
    }

    /// Remembers the filters; returns those that are new.
    fn want(&mut self, filters: Vec<String>) -> Vec<String> {
        let mut new = Vec::new();
        for filter in filters {
            if self.filters.contains_key(&filter) {
                continue;
            }
            let fault = if ValidatedTopicFilter::new(filter.as_str()).is_err() || filter.contains('\0') {
                format!("{filter:?} is not a topic filter")
            } else if self.filters.len() >= MOST_FILTERS {
                format!("a client may subscribe to at most {MOST_FILTERS} filters")
            } else {
                self.filters.insert(filter.clone(), false);
                new.push(filter);
                continue;
            };
            self.emit(Event::SubscriptionRefused { filter, code: None, reason: fault });
        }
        new
    }

    fn subscribe(&mut self, connection: &mut Connection, filters: Vec<String>) {
        if filters.is_empty() {
            return;
        }
        let qos = if self.options.receive_at_most_once { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let asked = filters.iter().map(|filter| SubscribeFilter::new(filter.as_str(), qos));
        match connection.client.try_subscribe_many_tracked(asked) {
            Ok(notice) => connection.subscriptions.push(Box::pin(subscribed(filters, notice))),
            Err(fault) => error!(%fault, "BUG: a checked subscription was not taken by the MQTT library"),
        }
    }

    fn on_subscribed(&mut self, filters: Vec<String>, answer: Answer) {
        // Without a SUBACK the connection is at its end; the filters stay wanted for the next.
        let Ok(suback) = answer else { return };
        for (filter, code) in filters.into_iter().zip(suback.return_codes) {
            match reason::suback(code) {
                Ok(()) => {
                    self.filters.insert(filter.clone(), true);
                    self.emit(Event::Subscribed { filter });
                }
                Err((code, reason)) => self.emit(Event::SubscriptionRefused { filter, code: Some(code), reason }),
            }
        }
    }

    fn emit(&self, event: Event) {
        match self.events.try_send(event) {
            // Nobody reads any more: the task is about to notice.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(event)) => error!(?event, "BUG: the MQTT events have outgrown their bound"),
        }
    }
}

impl Connection {
    /// Says goodbye as soon as nothing is under way any more.
    fn stop_when_answered(&mut self) {
        let answered = self.publishes.is_empty() && self.acks_under_way == 0;
        if answered && self.stop.as_ref().is_some_and(|stop| !stop.said) {
            self.say_disconnect(true);
        }
    }

    fn say_disconnect(&mut self, complete: bool) {
        let Some(stop) = &mut self.stop else { return };
        stop.said = true;
        stop.complete = complete;
        stop.deadline = stop.deadline.max(Instant::now() + LAST_WORD);
        if let Err(fault) = self.client.try_disconnect_now() {
            error!(%fault, "BUG: the MQTT library did not take a disconnect");
        }
    }

    fn stopped(&mut self, written: bool) -> End {
        let stop = self.stop.take();
        let complete = stop.as_ref().is_some_and(|stop| stop.complete) && written;
        End::Stopped(stop.and_then(|stop| stop.done), complete)
    }
}

async fn outcome(id: u64, notice: PublishNotice) -> (u64, Outcome) {
    (id, notice.wait_async().await)
}

async fn subscribed(filters: Vec<String>, notice: SubscribeNotice) -> (Vec<String>, Answer) {
    (filters, notice.wait_async().await)
}
