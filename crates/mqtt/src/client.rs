//! The caller's two halves of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::acks::Acks;
use crate::driver::{Command, Driver};
use crate::link::Template;
use crate::{AckToken, Event, Message, Options, OptionsError};

/// Filters that one client may subscribe to or unsubscribe from; it bounds the events about them.
pub(crate) const MOST_FILTERS: usize = 64;

/// Hands work to the task that keeps the connection. Cheap to clone.
///
/// When the last one is dropped, or the [`Events`] are, the task stops by itself, with a DISCONNECT.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// Tells what happens. One consumer reads it.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
}

/// What both halves and the task see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) acks: Acks,
    /// Whether publishes are taken: a connection stands and nobody asked to stop.
    pub(crate) open: AtomicBool,
    /// Publishes whose outcome the consumer has not read yet. It bounds the publishes under way and the events of them.
    in_flight: AtomicUsize,
    most_in_flight: usize,
}

/// The task has stopped; the last [`Event::Disconnected`] said why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the MQTT client has stopped")]
pub struct Stopped;

/// A publish that was not taken, with the message, so that the caller can keep it.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// As many publishes as allowed have no outcome yet. Room comes with each outcome read from the [`Events`].
    #[error("as many publishes as `max_in_flight` allows are under way")]
    Full(Message),
    /// There is no connection now; [`Event::Connected`] tells when there is one.
    #[error("there is no connection to the broker now")]
    NotConnected(Message),
    /// The task has stopped and takes nothing any more.
    #[error("the MQTT client has stopped")]
    Stopped(Message),
}

impl PublishError {
    /// The message that was not taken.
    pub fn into_message(self) -> Message {
        let (Self::Full(message) | Self::NotConnected(message) | Self::Stopped(message)) = self;
        message
    }
}

impl Options {
    /// Whether a client can be started with these: ranges, certificates, key. Connects to nothing.
    pub fn check(&self) -> Result<(), OptionsError> {
        Template::new(self).map(drop)
    }
}

impl Client {
    /// Checks the options and starts the task, on the present tokio runtime. It connects by itself.
    pub fn start(options: Options) -> Result<(Self, Events), OptionsError> {
        Self::start_when(options, std::future::ready(()))
    }

    /// The same, but it connects only when `ready` returns: until then the broker knows nothing of this client.
    pub fn start_when(
        options: Options,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Self, Events), OptionsError> {
        let template = Template::new(&options)?;
        let most_in_flight = usize::from(options.max_in_flight);
        let shared = Arc::new(Shared {
            acks: Acks::default(),
            open: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            most_in_flight,
        });
        // Room for all that one connection can say while the consumer reads nothing: its beginning and end, the outcome
        // of every publish, an answer for each filter, and messages up to the receive maximum.
        let kept_free = most_in_flight + MOST_FILTERS + 8;
        let (events_sender, events) = mpsc::channel(kept_free + usize::from(options.receive_maximum));
        let (commands, commands_receiver) = mpsc::channel(most_in_flight + 8);
        let driver = Driver::new(options, template, shared.clone(), commands_receiver, events_sender, kept_free);
        tokio::spawn(async move {
            ready.await;
            driver.run().await;
        });
        Ok((Self { commands, shared: shared.clone() }, Events { events, shared }))
    }

    /// Publishes a message at QoS 1 without waiting. Once taken, exactly one of [`Event::Acked`], [`Event::Refused`] and
    /// [`Event::Lost`] follows with this `id`, which the caller chooses and the client only repeats.
    ///
    /// An error gives the message back.
    #[allow(clippy::result_large_err)]
    pub fn try_publish(&self, id: u64, message: Message) -> Result<(), PublishError> {
        if self.commands.is_closed() {
            return Err(PublishError::Stopped(message));
        }
        if !self.shared.open.load(Ordering::Acquire) {
            return Err(PublishError::NotConnected(message));
        }
        if !self.shared.take_slot() {
            return Err(PublishError::Full(message));
        }
        self.commands.try_send(Command::Publish { id, message }).map_err(|error| {
            self.shared.free_slot();
            match error {
                mpsc::error::TrySendError::Full(Command::Publish { message, .. }) => PublishError::Full(message),
                mpsc::error::TrySendError::Closed(Command::Publish { message, .. }) => PublishError::Stopped(message),
                _ => unreachable!("BUG: a channel gave back another command than it was given"),
            }
        })
    }

    /// Publishes without an outcome under way and not yet read from the [`Events`].
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Asks for the messages of these topic filters at QoS 1 (0: [`Options::receive_at_most_once`], [`Options::at_most_once`]), now if
    /// connected and at each connection from now on.
    /// Each filter gets its [`Event::Subscribed`] or [`Event::SubscriptionRefused`]; one that is already asked
    /// for stays as it is. At most 64 filters are taken, the rest is refused.
    pub async fn subscribe(&self, filters: impl IntoIterator<Item = impl Into<String>>) -> Result<(), Stopped> {
        let filters = filters.into_iter().map(Into::into).collect();
        self.commands.send(Command::Subscribe { filters }).await.map_err(|_| Stopped)
    }

    /// Wants no more messages of these topic filters, now if connected, and takes them out of a session that the broker
    /// kept, also where an earlier process asked for them. Messages that are on their way still come. There is no event.
    pub async fn unsubscribe(&self, filters: impl IntoIterator<Item = impl Into<String>>) -> Result<(), Stopped> {
        let filters = filters.into_iter().map(Into::into).collect();
        self.commands.send(Command::Unsubscribe { filters }).await.map_err(|_| Stopped)
    }

    /// Acknowledges a received message. Call it once the message is safe: the broker forgets it then.
    ///
    /// The PUBACK leaves when all earlier messages of the connection have theirs. A token of an earlier connection does
    /// nothing: the broker delivers that message again if it kept the session.
    pub fn ack(&self, token: AckToken) {
        self.shared.acks.give(token);
    }

    /// Stops: takes no more publishes, waits for the PUBACKs of those under way, sends the acknowledgements that were
    /// given and a DISCONNECT (0x00, so that no will is published), all within `within`. What then has no PUBACK is
    /// [`Event::Lost`]. The events end afterwards.
    ///
    /// Returns whether all of that was done; `false` also if there was no connection.
    pub async fn disconnect(&self, within: Duration) -> bool {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Stop { within, done: Some(done) }).await.is_err() {
            return false;
        }
        wait.await.unwrap_or(false)
    }
}

impl Events {
    /// The next event; `None` once the task has stopped and every event was read. May be dropped while it waits.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        if let Event::Acked { .. } | Event::Refused { .. } | Event::Lost { .. } = event {
            self.shared.free_slot();
        }
        Some(event)
    }
}

impl Shared {
    fn take_slot(&self) -> bool {
        let more = |taken| (taken < self.most_in_flight).then_some(taken + 1);
        self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn free_slot(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
