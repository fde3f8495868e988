//! A fleet manager in small: hears everything that a broker carries.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use mqtt::{Client, Event, Message, Options};
use serde_json::Value;
use test_servers::{Mosquitto, wait_for};
use tokio::sync::oneshot;

const METRICS: &str = "utilizer/v1/telemetry/h/metrics";

/// A subscriber to all topics, on a thread of its own.
pub(crate) struct Watch {
    heard: Arc<Mutex<Vec<Message>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Subscribed when this returns. Its session outlives connections: what the broker takes while this is away comes
    /// later, if the broker keeps its state.
    pub(crate) fn start(broker: &Mosquitto) -> Self {
        Self::with(Options::new(broker.url().parse().unwrap(), "watch"))
    }

    /// The same with options, as for a broker that asks for a password.
    pub(crate) fn with(mut options: Options) -> Self {
        options.clean_start = false;
        options.session_expiry = Duration::from_secs(3600);
        options.max_incoming_packet = 16 << 20;
        options.pauses.first = Duration::from_millis(20);
        options.pauses.most = Duration::from_millis(100);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (stop, mut stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let into = heard.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, mut events) = Client::start(options).unwrap();
                client.subscribe(["utilizer/v1/#"]).await.unwrap();
                loop {
                    let event = tokio::select! {
                        _ = &mut stopped => return,
                        event = events.recv() => event,
                    };
                    match event {
                        Some(Event::Received { message, ack }) => {
                            into.lock().unwrap().push(message);
                            client.ack(ack);
                        }
                        Some(Event::Subscribed { .. }) => {
                            let _ = ready.send(());
                        }
                        Some(_) => {}
                        None => return,
                    }
                }
            });
        });
        let subscribed = is_ready.recv_timeout(Duration::from_secs(60));
        subscribed.unwrap_or_else(|_| panic!("the test's own client could not subscribe"));
        Self { heard, stop: Some(stop), thread: Some(thread) }
    }

    /// All messages so far, in their order.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.heard.lock().unwrap().clone()
    }

    /// The payloads of one topic of the host `h` so far, such as `metrics`.
    pub(crate) fn payloads(&self, kind: &str) -> Vec<Value> {
        let topic = format!("utilizer/v1/telemetry/h/{kind}");
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|message| message.topic == topic).map(json).collect()
    }

    /// Waits until the payloads of one topic show what the test waits for.
    pub(crate) fn wait<T>(&self, kind: &str, what: &str, wanted: impl Fn(&[Value]) -> Option<T>) -> T {
        wait_for(what, || wanted(&self.payloads(kind)))
    }

    /// Waits for so many metrics messages, and returns the last.
    pub(crate) fn metrics(&self, count: usize) -> Message {
        wait_for(&format!("{count} metrics messages"), || {
            self.heard.lock().unwrap().iter().filter(|message| message.topic == METRICS).nth(count - 1).cloned()
        })
    }

    /// Waits for a status of this state behind the first `skip` messages of the topic.
    pub(crate) fn status(&self, state: &str, skip: usize) -> Value {
        self.wait("status", state, |all| all.iter().skip(skip).find(|status| status["state"] == state).cloned())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn json(message: &Message) -> Value {
    serde_json::from_slice(&message.payload)
        .unwrap_or_else(|e| panic!("{} carries no JSON: {e}: {:?}", message.topic, message.payload))
}
