//! The task that keeps the connection.
//!
//! Each connection has an event loop of the library of its own and ends with it: nothing of one connection, neither a
//! publish nor an acknowledgement, can reach the next. The event loop's `poll` is never cancelled while the connection
//! is wanted, since it may stand in the middle of a packet; it is kept pinned while other things are waited for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rumqttc::{
    ConnAck, ConnectionError, EventLoop, ManualAck, Outgoing, Packet, PubAck, PubAckReason, PublishResult, QoS,
    StateError, SubscribeFilter,
};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error};

use crate::backoff::{Backoff, random};
use crate::client::Shared;
use crate::connection::{
    Answer, Connection, Done, End, Notice, Outcome, Past, Stop, outcome, subscribed, unsubscribed,
};
use crate::credentials::Renewal;
use crate::link::{MOST_ACKS, Template, fault_in, message, packet_size, publish_options};
use crate::rival::Rivals;
use crate::socket::Tap;
use crate::wishes::Wishes;
use crate::{AckToken, Cause, Disconnect, Event, Limits, Message, Options, reason};

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
    Unsubscribe { filters: Vec<String> },
    Stop { within: Duration, done: Done },
}

pub(crate) struct Driver {
    options: Options,
    template: Template,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Places among the events that received messages do not take, so that the others always find theirs.
    kept_free: usize,
    wishes: Wishes,
    connections: u64,
    rivals: Rivals,
    renewal: Renewal,
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
        Self {
            options,
            template,
            shared,
            commands,
            events,
            kept_free,
            wishes: Wishes::default(),
            connections: 0,
            rivals: Rivals::default(),
            renewal: Renewal::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(self.options.pauses);
        let (done, complete) = loop {
            if let Err(done) = self.renew().await {
                break (done, false);
            }
            let (end, past) = self.connection().await;
            let mut reason = match end {
                End::Stopped(done, complete) => break (done, complete),
                End::Broken(reason) => reason,
            };
            if let (Cause::Credentials | Cause::Tls, Some(fault)) = (reason.cause, self.renewal.fault()) {
                reason.sentence = format!("{}; and {fault}", reason.sentence);
            }
            debug!(%reason, "MQTT connection ended");
            if reason.cause == Cause::TakenOver {
                self.emit(Event::Disconnected { reason, retry_in: None });
                break (None, false);
            }
            let pause = self.next_pause(&mut backoff, reason.cause, &past);
            self.emit(Event::Disconnected { reason, retry_in: Some(pause) });
            if let Err(done) = self.rest(Instant::now() + pause).await {
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

    /// How long to wait after a connection that ended so.
    fn next_pause(&mut self, backoff: &mut Backoff, cause: Cause, past: &Past) -> Duration {
        let Options { pauses, keep_alive, session_expiry, .. } = &self.options;
        let unwelcome = matches!(cause, Cause::Busy | Cause::Moved);
        let usual = backoff.pause(past.stood.unwrap_or_default(), unwelcome, random());
        // What the broker does with a connection of ours whose end it did not see.
        let silence = past.limits.map_or(*keep_alive, |limits| limits.keep_alive).mul_f64(1.5);
        let expiry = past.limits.map_or(*session_expiry, |limits| limits.session_expiry);
        // mosquitto 2.0 refuses a publish and, over TLS, then closes the connection: that is no other client's doing.
        let stood = past.stood.filter(|_| !past.refused);
        let away = self.rivals.ended(cause, stood, pauses.most * 2, silence, expiry);
        let least = if cause == Cause::Rival { pauses.rival } else { away.unwrap_or_default() };
        // At random, so that two who suspect each other do not both stay away at once.
        usual.max(least.mul_f64(1.0 + random() / 4.0))
    }

    /// Reads password and certificates anew. `Err`: the caller wants to stop.
    async fn renew(&mut self) -> Result<(), Done> {
        let Some(source) = self.options.source.clone() else { return Ok(()) };
        let read = self.renewal.read(source, self.options.connect_timeout);
        let (reading, result) = self.serving(read).await?;
        self.renewal.keep(reading);
        if let Some((options, template)) = self.renewal.take_up(result, &self.options) {
            (self.options, self.template) = (options, template);
        }
        Ok(())
    }

    /// Waits for the next attempt and for the consumer to have read everything, so that the events of one connection
    /// after the other can't pile up. `Err`: the caller wants to stop.
    async fn rest(&mut self, until: Instant) -> Result<(), Done> {
        let events = self.events.clone();
        self.serving(async move {
            sleep_until(until).await;
            // An error means that nobody reads any more, which the next connection notices.
            let _ = events.reserve_many(events.max_capacity()).await;
        })
        .await
    }

    /// Answers the caller while there is no connection. `Err`, with whom to tell, if it wants to stop.
    async fn serving<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Done> {
        let mut wait = pin!(wait);
        loop {
            tokio::select! {
                value = &mut wait => return Ok(value),
                command = self.commands.recv() => match command {
                    None => return Err(None),
                    Some(Command::Stop { done, .. }) => return Err(done),
                    Some(Command::Publish { id, .. }) => self.emit(Event::Lost { id }),
                    Some(Command::Subscribe { filters }) => {
                        self.want(filters);
                    }
                    Some(Command::Unsubscribe { filters }) => {
                        self.unwant(&filters);
                    }
                },
            }
        }
    }

    /// Connects and stays until it ends.
    async fn connection(&mut self) -> (End, Past) {
        self.connections += 1;
        self.shared.acks.begin(self.connections);
        let (client, mut event_loop, tap) = self.template.build(self.rivals.checking());
        let mut connection = Connection::new(client, tap);
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
                Some(Ok(rumqttc::Event::Incoming(Packet::ConnAck(connack)))) => {
                    self.on_connected(&mut connection, &mut event_loop, &connack)
                }
                Some(Ok(event)) => self.on_event(&mut connection, event),
                Some(Err(_)) if connection.stop.is_some() => Some(connection.stopped(false)),
                Some(Err(error)) => Some(End::Broken(self.reason(&error, &connection.tap))),
            };
            if let Some(end) = step {
                break end;
            }
        };
        self.shared.open.store(false, Ordering::Release);
        let culprit = match &end {
            End::Broken(reason) => reason.code.and_then(|code| connection.culprit(code)),
            End::Stopped(..) => None,
        };
        let Connection { client, tap, publishes, since, limits, refused, rival, .. } = connection;
        // With both halves of the library's queue the last notices are answered or fall, so that none is waited for.
        drop(event_loop);
        drop(client);
        let refused = self.settle(publishes, culprit, &tap).await || refused;
        let end = match end {
            _ if rival => {
                tap.closed(CLOSING).await;
                End::Broken(reason::rival(&self.options.broker, &self.options.client_id))
            }
            End::Stopped(done, true) => End::Stopped(done, tap.closed(CLOSING).await),
            end => end,
        };
        (end, Past { stood: since.map(|since| since.elapsed()), limits, refused })
    }

    /// Tells the outcome of what was under way when the connection ended; says whether the broker refused some of it.
    async fn settle(
        &self,
        mut publishes: FuturesUnordered<Notice<(u64, Outcome)>>,
        mut culprit: Option<(u64, u8)>,
        tap: &Tap,
    ) -> bool {
        let mut any = culprit.is_some();
        while let Some((id, outcome)) = publishes.next().await {
            match culprit {
                Some((refused, code)) if refused == id && outcome.is_err() => {
                    culprit = None;
                    let reason = format!("{}, and ended the connection over it", reason::refusal(code, None));
                    self.emit(Event::Refused { id, code: Some(code), retry: false, reason });
                }
                _ => any |= self.on_outcome(id, outcome, tap),
            }
        }
        any
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
            let ask_again = connection.ask_again;
            // Whatever is asked from now on may wait as long.
            let silent = connection
                .patience
                .map(|patience| (connection.tap.silent_since().unwrap_or_else(Instant::now) + patience, patience));
            tokio::select! {
                // The network comes last, so that what it said before is told before it says more: a subscription
                // before its messages. The others are bounded and can't keep it from its turn.
                biased;
                Some((id, outcome)) = connection.publishes.next(), if !connection.publishes.is_empty() => {
                    connection.answered(id);
                    connection.refused |= self.on_outcome(id, outcome, &connection.tap);
                }
                Some((filters, answer)) = connection.subscriptions.next(), if !connection.subscriptions.is_empty() => {
                    self.on_subscribed(connection, filters, answer);
                }
                Some(filters) = connection.unsubscriptions.next(), if !connection.unsubscriptions.is_empty() => {
                    self.wishes.withdrawn(&filters);
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
                () = sleep_until(ask_again.unwrap_or_else(Instant::now)), if ask_again.is_some() => {
                    connection.ask_again = None;
                    let filters = self.wishes.ask_again();
                    self.subscribe(connection, filters);
                }
                // The library has a time limit of its own for pings, but none where it stands in the middle of a write.
                () = sleep_until(silent.map_or_else(Instant::now, |(until, _)| until)), if silent.is_some() => {
                    let over = |since: Instant| silent.is_some_and(|(_, patience)| since.elapsed() >= patience);
                    if connection.tap.silent_since().is_some_and(over) {
                        return Some(Err(StateError::AwaitPingResp.into()));
                    }
                }
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
                self.want(filters);
                if connection.since.is_some() {
                    let filters = self.wishes.ask();
                    self.subscribe(connection, filters);
                }
            }
            Some(Command::Unsubscribe { filters }) => {
                self.unwant(&filters);
                if connection.since.is_some() {
                    self.unsubscribe(connection);
                }
            }
            Some(Command::Publish { id, .. }) if connection.since.is_none() => self.emit(Event::Lost { id }),
            Some(Command::Publish { id, message }) => self.publish(connection, id, message),
        }
    }

    fn begin_stop(&mut self, connection: &mut Connection, within: Duration, done: Done) {
        self.shared.open.store(false, Ordering::Release);
        // What was taken before the wish to stop belongs to what is waited for.
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Publish { id, message } if connection.since.is_some() => self.publish(connection, id, message),
                Command::Publish { id, .. } => self.emit(Event::Lost { id }),
                Command::Subscribe { .. } | Command::Unsubscribe { .. } | Command::Stop { .. } => {}
            }
        }
        self.send_acks(connection);
        connection.stop = Some(Stop { deadline: Instant::now() + within, done, said: false, complete: false });
    }

    fn on_event(&mut self, connection: &mut Connection, event: rumqttc::Event) -> Option<End> {
        match event {
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

    fn on_connected(
        &mut self,
        connection: &mut Connection,
        event_loop: &mut EventLoop,
        connack: &ConnAck,
    ) -> Option<End> {
        // It has said that nothing was under way, and need not be asked to save anything.
        event_loop.options.clear_session_store();
        let properties = connack.properties.as_ref();
        if properties.and_then(|properties| properties.max_qos) == Some(0) {
            let fault = "it takes no publishes at QoS 1, without which nothing can be known to have arrived";
            return Some(End::Broken(reason::protocol(&self.options.broker, fault)));
        }
        // The library has taken over the broker's wish already.
        let keep_alive = event_loop.options.keep_alive();
        let has = |flag: Option<u8>| flag != Some(0);
        let expiry = properties.and_then(|properties| properties.session_expiry_interval);
        let limits = Limits {
            receive_maximum: properties.and_then(|properties| properties.receive_max).unwrap_or(u16::MAX),
            max_packet: properties.and_then(|properties| properties.max_packet_size),
            keep_alive,
            session_expiry: expiry
                .map_or(self.options.session_expiry, |seconds| Duration::from_secs(u64::from(seconds))),
            retain: has(properties.and_then(|properties| properties.retain_available)),
            shared: has(properties.and_then(|properties| properties.shared_subscription_available)),
            wildcards: has(properties.and_then(|properties| properties.wildcard_subscription_available)),
        };
        connection.limits = Some(limits);
        connection.since = Some(Instant::now());
        if !keep_alive.is_zero() {
            // Pings in half the time that was agreed leave as much again for the answer.
            let ping = (keep_alive.as_secs() / 2).max(1);
            event_loop.options.set_keep_alive(u16::try_from(ping).unwrap_or(u16::MAX));
            connection.patience = Some(keep_alive.mul_f64(1.5).saturating_sub(Duration::from_secs(ping)));
        }
        if self.rivals.connected(connack.session_present) {
            connection.rival = true;
            connection.stop =
                Some(Stop { deadline: Instant::now() + CLOSING, done: None, said: false, complete: false });
            return None;
        }
        self.wishes.begin();
        self.shared.open.store(true, Ordering::Release);
        self.emit(Event::Connected { session_present: connack.session_present, limits });
        self.unsubscribe(connection);
        let filters = self.wishes.ask();
        self.subscribe(connection, filters);
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
        let end = self.until_room(connection, message).await;
        connection.tap.excuse_silence();
        end
    }

    async fn until_room(&mut self, connection: &mut Connection, message: Event) -> Option<End> {
        let events = self.events.clone();
        let mut room = pin!(events.reserve_many(self.kept_free + 1));
        let patience = match connection.limits.map_or(self.options.keep_alive, |limits| limits.keep_alive) {
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
        if let Some((code, reason)) = fault_in(&message, connection.limits.as_ref()) {
            self.emit(Event::Refused { id, code, retry: false, reason });
            return;
        }
        let (options, size) = (publish_options(&message), packet_size(&message));
        match connection.client.try_publish_tracked(message.topic, message.payload, options) {
            Ok(notice) => {
                connection.publishes.push(Box::pin(outcome(id, notice)));
                connection.sent.push_back((id, size));
            }
            Err(fault) => {
                error!(%fault, "BUG: a publish within its bound was not taken by the MQTT library");
                self.emit(Event::Lost { id });
            }
        }
    }

    /// Says whether the broker refused it.
    fn on_outcome(&self, id: u64, outcome: Outcome, tap: &Tap) -> bool {
        let event = match outcome {
            Ok(PublishResult::Qos1(puback)) => match puback.reason {
                PubAckReason::Success => Event::Acked { id, matched: true },
                PubAckReason::NoMatchingSubscribers => Event::Acked { id, matched: false },
                reason => {
                    let code = tap.puback_code(puback.pkid).unwrap_or(reason as u8);
                    let said = puback.properties.and_then(|properties| properties.reason_string);
                    let retry = reason::may_pass_later(code);
                    Event::Refused { id, code: Some(code), retry, reason: reason::refusal(code, said.as_deref()) }
                }
            },
            Ok(_) | Err(_) => Event::Lost { id },
        };
        let refused = matches!(event, Event::Refused { .. });
        self.emit(event);
        refused
    }

    /// Remembers the filters that are wanted from now on.
    fn want(&mut self, filters: Vec<String>) {
        for filter in filters {
            if let Err(reason) = self.wishes.want(&filter) {
                self.emit(Event::SubscriptionRefused { filter, code: None, reason });
            }
        }
    }

    /// Remembers the filters that are not wanted any more.
    fn unwant(&mut self, filters: &[String]) {
        for filter in filters {
            if let Err(fault) = self.wishes.unwant(filter) {
                debug!("not unsubscribed: {fault}");
            }
        }
    }

    /// Asks the broker for these filters, but for those that it is known not to grant.
    fn subscribe(&self, connection: &mut Connection, mut filters: Vec<String>) {
        filters.retain(|filter| {
            let lacks = |code| {
                let reason = reason::subscription_refusal(code);
                self.emit(Event::SubscriptionRefused { filter: filter.clone(), code: Some(code), reason });
                false
            };
            match connection.limits {
                Some(Limits { shared: false, .. }) if filter.starts_with("$share/") => {
                    lacks(reason::NO_SHARED_SUBSCRIPTIONS)
                }
                Some(Limits { wildcards: false, .. }) if filter.contains(['+', '#']) => lacks(reason::NO_WILDCARDS),
                _ => true,
            }
        });
        if filters.is_empty() {
            return;
        }
        let Options { receive_at_most_once, at_most_once, .. } = &self.options;
        let qos = |filter: &String| match *receive_at_most_once || at_most_once.contains(filter) {
            true => QoS::AtMostOnce,
            false => QoS::AtLeastOnce,
        };
        let asked = filters.iter().map(|filter| SubscribeFilter::new(filter.as_str(), qos(filter)));
        match connection.client.try_subscribe_many_tracked(asked) {
            Ok(notice) => connection.subscriptions.push(Box::pin(subscribed(filters, notice))),
            Err(fault) => error!(%fault, "BUG: a checked subscription was not taken by the MQTT library"),
        }
    }

    fn on_subscribed(&mut self, connection: &mut Connection, filters: Vec<String>, answer: Answer) {
        // Without a SUBACK the connection is at its end; the filters stay wanted for the next.
        let Ok(suback) = answer else { return };
        for (filter, code) in filters.into_iter().zip(suback.return_codes) {
            let Some(code) = reason::suback(code) else {
                self.emit(Event::Subscribed { filter });
                continue;
            };
            if reason::may_be_granted_later(code) && self.wishes.refused(&filter) {
                connection.ask_again.get_or_insert_with(|| Instant::now() + self.options.pauses.refused);
            }
            let reason = reason::subscription_refusal(code);
            self.emit(Event::SubscriptionRefused { filter, code: Some(code), reason });
        }
    }

    /// Tells the broker which filters are not wanted.
    fn unsubscribe(&self, connection: &mut Connection) {
        let filters = self.wishes.unwanted();
        if filters.is_empty() {
            return;
        }
        match connection.client.try_unsubscribe_many_tracked(filters.clone()) {
            Ok(notice) => connection.unsubscriptions.push(Box::pin(unsubscribed(filters, notice))),
            Err(fault) => error!(%fault, "BUG: a checked filter was not taken by the MQTT library"),
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
