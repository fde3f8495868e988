//! What is under way on one connection.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use rumqttc::{
    AsyncClient, PublishNotice, PublishNoticeError, PublishResult, SubAck, SubscribeNotice, SubscribeNoticeError,
    UnsubscribeNotice,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;

use crate::socket::Tap;
use crate::{Disconnect, Event, Limits, reason};

/// How long a DISCONNECT may take to be written once the time to stop is over.
const LAST_WORD: Duration = Duration::from_millis(250);

/// Whom to tell that the client has stopped.
pub(crate) type Done = Option<oneshot::Sender<bool>>;

/// A wish to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) deadline: Instant,
    pub(crate) done: Done,
    /// Whether the library was told to disconnect.
    pub(crate) said: bool,
    /// Whether all that was under way was answered by then.
    pub(crate) complete: bool,
}

/// How a connection ended.
pub(crate) enum End {
    /// By the caller's wish; `true`: with everything answered and a DISCONNECT written.
    Stopped(Done, bool),
    /// By a fault.
    Broken(Disconnect),
}

/// What a connection was that has ended.
pub(crate) struct Past {
    /// How long it stood; `None` if it did not come about.
    pub(crate) stood: Option<Duration>,
    pub(crate) limits: Option<Limits>,
    /// Whether the broker refused a publish on it.
    pub(crate) refused: bool,
}

/// What is under way on one connection.
pub(crate) struct Connection {
    pub(crate) client: AsyncClient,
    pub(crate) tap: Tap,
    pub(crate) publishes: FuturesUnordered<Notice<(u64, Outcome)>>,
    /// Identities and sizes of the publishes under way, in the order of their sending.
    pub(crate) sent: VecDeque<(u64, usize)>,
    pub(crate) subscriptions: FuturesUnordered<Notice<(Vec<String>, Answer)>>,
    pub(crate) unsubscriptions: FuturesUnordered<Notice<Vec<String>>>,
    /// When to ask again for what was refused.
    pub(crate) ask_again: Option<Instant>,
    /// Since the CONNACK; `None` before.
    pub(crate) since: Option<Instant>,
    pub(crate) limits: Option<Limits>,
    /// How long the broker may owe an answer.
    pub(crate) patience: Option<Duration>,
    /// Whether the broker refused a publish.
    pub(crate) refused: bool,
    /// Whether the session turned out to be in the hands of another client: all that is left is to leave.
    pub(crate) rival: bool,
    /// Acknowledgements handed to the library and not yet written.
    pub(crate) acks_under_way: usize,
    /// A message for which there was no room among the events. Nothing more is read from the network before there is.
    pub(crate) held: Option<Event>,
    pub(crate) stop: Option<Stop>,
}

pub(crate) type Notice<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type Outcome = Result<PublishResult, PublishNoticeError>;
pub(crate) type Answer = Result<SubAck, SubscribeNoticeError>;

impl Connection {
    pub(crate) fn new(client: AsyncClient, tap: Tap) -> Self {
        Self {
            client,
            tap,
            publishes: FuturesUnordered::new(),
            sent: VecDeque::new(),
            subscriptions: FuturesUnordered::new(),
            unsubscriptions: FuturesUnordered::new(),
            ask_again: None,
            since: None,
            limits: None,
            patience: None,
            refused: false,
            rival: false,
            acks_under_way: 0,
            held: None,
            stop: None,
        }
    }

    pub(crate) fn answered(&mut self, id: u64) {
        if let Some(index) = self.sent.iter().position(|(sent, _)| *sent == id) {
            self.sent.remove(index);
        }
    }

    /// The publish over which the broker ended the connection with this code, where it is one that ends connections over
    /// a publish. Without this it would be lost, sent again, and end the next connection.
    pub(crate) fn culprit(&self, code: u8) -> Option<(u64, u8)> {
        let (id, _) = match code {
            // Where one was too large, the largest was.
            reason::PACKET_TOO_LARGE => self.sent.iter().max_by_key(|(_, size)| *size)?,
            // The broker takes them in order, and has answered those before.
            reason::TOPIC_NAME_INVALID | 0x99 | reason::RETAIN_NOT_SUPPORTED => self.sent.front()?,
            _ => return None,
        };
        Some((*id, code))
    }

    /// Says goodbye as soon as nothing is under way any more.
    pub(crate) fn stop_when_answered(&mut self) {
        let answered = self.publishes.is_empty() && self.acks_under_way == 0;
        if answered && self.stop.as_ref().is_some_and(|stop| !stop.said) {
            self.say_disconnect(true);
        }
    }

    pub(crate) fn say_disconnect(&mut self, complete: bool) {
        let Some(stop) = &mut self.stop else { return };
        stop.said = true;
        stop.complete = complete;
        stop.deadline = stop.deadline.max(Instant::now() + LAST_WORD);
        if let Err(fault) = self.client.try_disconnect_now() {
            error!(%fault, "BUG: the MQTT library did not take a disconnect");
        }
    }

    pub(crate) fn stopped(&mut self, written: bool) -> End {
        let stop = self.stop.take();
        let complete = stop.as_ref().is_some_and(|stop| stop.complete) && written;
        End::Stopped(stop.and_then(|stop| stop.done), complete)
    }
}

pub(crate) async fn outcome(id: u64, notice: PublishNotice) -> (u64, Outcome) {
    (id, notice.wait_async().await)
}

pub(crate) async fn subscribed(filters: Vec<String>, notice: SubscribeNotice) -> (Vec<String>, Answer) {
    (filters, notice.wait_async().await)
}

/// `Ok` also where the broker says that it had no such subscription; a notice that falls belongs to the connection's end.
pub(crate) async fn unsubscribed(filters: Vec<String>, notice: UnsubscribeNotice) -> Vec<String> {
    match notice.wait_async().await {
        Ok(_) => filters,
        Err(_) => Vec::new(),
    }
}
