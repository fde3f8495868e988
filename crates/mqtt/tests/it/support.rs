//! What every test here needs.

use std::time::Duration;

use mqtt::{AckToken, Client, Disconnect, Event, Events, Message, Options, Pauses};
use test_servers::Mosquitto;
use tokio::time::timeout;

/// How long an event may take before a test fails. Far above what is usual, so that a busy machine never decides.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options for a broker of a test: as the defaults, but with short pauses.
pub(super) fn options(url: &str, client_id: &str) -> Options {
    let mut options = Options::new(url.parse().unwrap(), client_id);
    options.pauses.first = Duration::from_millis(20);
    options.pauses.most = Duration::from_millis(200);
    options
}

/// Pauses that no test sits out.
pub(super) fn long_pauses() -> Pauses {
    Pauses { first: Duration::from_secs(3600), most: Duration::from_secs(3600), ..Pauses::default() }
}

pub(super) fn message(topic: &str, payload: impl AsRef<[u8]>) -> Message {
    Message { topic: topic.to_owned(), payload: payload.as_ref().to_vec().into(), ..Message::default() }
}

/// A client and its events, read one after the other.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) client: Client,
    pub(super) events: Events,
}

impl Peer {
    pub(super) fn start(options: Options) -> Self {
        let (client, events) = Client::start(options).unwrap();
        Self { client, events }
    }

    /// Started and connected.
    pub(super) async fn connect(options: Options) -> Self {
        let mut peer = Self::start(options);
        peer.connected().await;
        peer
    }

    /// Connected and subscribed.
    pub(super) async fn subscribe(options: Options, filter: &str) -> Self {
        let mut peer = Self::connect(options).await;
        peer.client.subscribe([filter]).await.unwrap();
        peer.until("subscribed", |event| matches!(event, Event::Subscribed { .. }).then_some(())).await;
        peer
    }

    pub(super) async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.events.recv()).await.expect("an event or the end of events")
    }

    /// Reads events until one is what the test waits for.
    pub(super) async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        while let Some(event) = self.next().await {
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
        panic!("{what}: the events ended");
    }

    /// Reads until connected; says whether the session was there.
    pub(super) async fn connected(&mut self) -> bool {
        self.until("connected", |event| match event {
            Event::Connected { session_present, .. } => Some(*session_present),
            _ => None,
        })
        .await
    }

    pub(super) async fn disconnected(&mut self) -> (Disconnect, Option<Duration>) {
        self.until("disconnected", |event| match event {
            Event::Disconnected { reason, retry_in } => Some((reason.clone(), *retry_in)),
            _ => None,
        })
        .await
    }

    pub(super) async fn received(&mut self) -> (Message, AckToken) {
        loop {
            match self.next().await.expect("a message before the events end") {
                Event::Received { message, ack } => return (message, ack),
                event => eprintln!("before the message: {event:?}"),
            }
        }
    }

    pub(super) async fn payload(&mut self) -> (String, AckToken) {
        let (message, ack) = self.received().await;
        (String::from_utf8_lossy(&message.payload).into_owned(), ack)
    }

    /// Identity, code and whether to try again of the refusal that must come next.
    pub(super) async fn refused(&mut self) -> (u64, Option<u8>, bool) {
        match self.next().await {
            Some(Event::Refused { id, code, retry, .. }) => (id, code, retry),
            other => panic!("not a refusal: {other:?}"),
        }
    }

    /// Publishes and waits for the PUBACK.
    pub(super) async fn publish(&mut self, id: u64, message: Message) {
        self.client.try_publish(id, message).unwrap();
        let acked = self.until("an outcome", |event| match event {
            Event::Acked { id, .. } => Some(Some(*id)),
            Event::Refused { .. } | Event::Lost { .. } => Some(None),
            _ => None,
        });
        assert_eq!(acked.await, Some(id));
    }
}

/// A broker that keeps sessions and retained messages over a restart.
pub(super) fn lasting_broker() -> Mosquitto {
    Mosquitto::start("persistence true\nautosave_interval 1\nautosave_on_changes true")
}
