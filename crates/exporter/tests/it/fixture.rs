//! A broker, a store in memory and a tier between them.

use std::path::PathBuf;
use std::time::Duration;

use daemon::shutdown::{self, Trigger};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::Mosquitto;
use tokio::task::JoinHandle;
use utilizer_exporter::sink::Sink;
use utilizer_exporter::{Backoff, RunError, Settings};

use crate::memory::Memory;

pub(crate) const TOPIC: &str = "utilizer/v1/telemetry/web-01/pipeline";

pub(crate) struct Fixture {
    pub(crate) broker: Mosquitto,
    pub(crate) memory: Memory,
    pub(crate) settings: Settings,
    pub(crate) folder: TempDir,
}

pub(crate) struct Running {
    trigger: Trigger,
    pub(crate) task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.trigger.stop();
        self.task.await.unwrap().unwrap();
    }

    /// As if it were killed: no flush, no goodbye.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    pub(crate) fn with(config: &str) -> Self {
        let broker = Mosquitto::start(config);
        let folder = TempDir::new().unwrap();
        let mut settings = Settings::new(
            broker.url().parse().unwrap(),
            "memory".parse().unwrap(),
            "member-1".parse().unwrap(),
            folder.path(),
        );
        settings.rules.every = Duration::ZERO;
        settings.batch.max_age = Duration::from_millis(20);
        settings.confirm_every = Duration::from_millis(100);
        settings.backoff = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) };
        settings.broker.pauses.first = Duration::from_millis(20);
        settings.broker.pauses.most = Duration::from_millis(100);
        Self { broker, memory: Memory::default(), settings, folder }
    }

    /// Starts a tier and does not wait for it.
    pub(crate) fn spawn(&self) -> Running {
        self.spawn_with(self.memory.clone())
    }

    pub(crate) fn spawn_with(&self, sink: impl Sink) -> Running {
        let (trigger, shutdown) = shutdown::channel();
        let task = tokio::spawn(utilizer_exporter::run(sink, self.settings.clone(), shutdown));
        Running { trigger, task }
    }

    /// Starts a tier; returns once it is subscribed.
    pub(crate) async fn start(&self) -> Running {
        let running = self.spawn();
        self.subscribed().await;
        running
    }

    /// The first pipeline value that arrives shows that the subscriptions stand; it is published until it does.
    pub(crate) async fn subscribed(&self) {
        let received = || self.metric("utilizer_exporter_messages_received_total{kind=\"pipeline\"}");
        let then = received();
        wait("the tier is subscribed", || {
            if received() > then {
                return true;
            }
            self.pipeline(-1.0);
            false
        })
        .await;
        // Everything before it is settled when this one is.
        let marks = || self.memory.values().into_iter().filter(|value| *value == -2.0).count();
        let before = marks();
        self.pipeline(-2.0);
        wait("what was sent meanwhile is settled", || marks() > before).await;
    }

    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        self.broker.publish(topic, payload, &[]);
    }

    pub(crate) fn pipeline(&self, value: f64) {
        self.publish(TOPIC, &pipeline(&[value]).to_string());
    }

    /// Publishes numbered records with these numbers for values, quickly.
    pub(crate) async fn publish_numbered(&self, numbers: std::ops::RangeInclusive<u64>) {
        let mut options = mqtt::Options::new(self.broker.url().parse().unwrap(), "publisher");
        options.max_in_flight = 256;
        let (client, mut events) = mqtt::Client::start(options).unwrap();
        let mut open = false;
        let mut left = numbers.clone().count();
        let mut next = numbers;
        let mut waiting = next.next();
        while left > 0 {
            while open && let Some(seq) = waiting {
                let payload = numbered(seq, seq as f64).into();
                let message = mqtt::Message { topic: TOPIC.to_owned(), payload, ..mqtt::Message::default() };
                match client.try_publish(seq, message) {
                    Ok(()) => waiting = next.next(),
                    Err(_) => break,
                }
            }
            match events.recv().await.unwrap() {
                mqtt::Event::Connected { .. } => open = true,
                mqtt::Event::Acked { .. } => left -= 1,
                mqtt::Event::Refused { reason, .. } => panic!("{reason}"),
                mqtt::Event::Lost { .. } => panic!("a publish was lost"),
                _ => {}
            }
        }
    }

    /// The values but those of `subscribed`.
    pub(crate) fn values(&self) -> Vec<f64> {
        self.memory.values().into_iter().filter(|value| *value >= 0.0).collect()
    }

    /// The value of a series, or the sum of those that begin so.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.settings.metrics.encode();
        text.lines().filter_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok()).sum()
    }

    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        let path: PathBuf = self.folder.path().join("dead-letters.ndjson");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn pipeline(values: &[f64]) -> Value {
    let records: Vec<_> = values
        .iter()
        .map(|value| json!({"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": value}))
        .collect();
    json!({"v": 1, "host": "web-01", "time": "2026-11-21T22:30:00Z", "records": records})
}

pub(crate) fn numbered(seq: u64, value: f64) -> String {
    let mut message = pipeline(&[value]);
    message["boot"] = "b1".into();
    message["seq"] = seq.into();
    message.to_string()
}

pub(crate) async fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 60 s: {what}");
}
