//! The tier with a sink in memory, against a real mosquitto.

// A test that panics has said enough.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::shutdown::{self, Trigger};
use exporter::rows::{Batch, HostRow};
use exporter::sink::{Ledger, Sink, SinkError, Written};
use exporter::{Backoff, RunError, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::Mosquitto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use utilizer_exporter as exporter;
use wire::Kind;

/// What the store in memory does and holds.
#[derive(Debug, Default)]
struct Store {
    /// Values of `metric_value`, in the order of their commit.
    values: Vec<f64>,
    hosts: Vec<HostRow>,
    writes: usize,
    opens: usize,
    mood: Mood,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Well,
    /// Refuses batches with this value.
    Picky(f64),
    Down,
    Broken,
}

#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Store>>);

impl Memory {
    fn set(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    fn look<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.0.lock().unwrap())
    }

    fn values(&self) -> Vec<f64> {
        self.look(|store| store.values.clone())
    }

    fn mood(&self) -> Result<Mood, SinkError> {
        let doing = || "writing to memory".to_owned();
        match self.look(|store| store.mood) {
            Mood::Down => Err(SinkError::Retry { doing: doing(), source: "it is down".into() }),
            Mood::Broken => Err(SinkError::Fatal { doing: doing(), source: "it is broken".into() }),
            mood => Ok(mood),
        }
    }
}

impl Sink for Memory {
    const LEDGER: Ledger = Ledger::InStore;

    fn name(&self) -> &'static str {
        "memory"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Metrics, Kind::Pipeline]
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        self.0.lock().unwrap().opens += 1;
        self.mood().map(drop)
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        self.0.lock().unwrap().writes += 1;
        let mood = self.mood()?;
        let values: Vec<f64> = batch.metrics().map(|row| row.metric_value).collect();
        if let Mood::Picky(bad) = mood
            && values.contains(&bad)
        {
            return Err(SinkError::Poison { doing: "writing to memory".to_owned(), source: "a bad taste".into() });
        }
        self.0.lock().unwrap().values.extend(values);
        Ok(Written::default())
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        self.mood()?;
        self.0.lock().unwrap().hosts.extend_from_slice(hosts);
        Ok(())
    }
}

struct Fixture {
    broker: Mosquitto,
    memory: Memory,
    settings: Settings,
    folder: TempDir,
}

struct Running {
    trigger: Trigger,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    async fn stop(self) {
        self.trigger.stop();
        self.task.await.unwrap().unwrap();
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with("")
    }

    fn with(config: &str) -> Self {
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
        settings.backoff = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) };
        settings.broker.pauses.first = Duration::from_millis(20);
        settings.broker.pauses.most = Duration::from_millis(100);
        Self { broker, memory: Memory::default(), settings, folder }
    }

    /// Starts a tier and does not wait for it.
    fn spawn(&self) -> Running {
        let (trigger, shutdown) = shutdown::channel();
        let task = tokio::spawn(exporter::run(self.memory.clone(), self.settings.clone(), shutdown));
        Running { trigger, task }
    }

    /// Starts a tier; returns once it is subscribed.
    async fn start(&self) -> Running {
        let running = self.spawn();
        self.subscribed().await;
        running
    }

    /// The first pipeline value that arrives shows that the subscriptions stand; it is published until it does.
    async fn subscribed(&self) {
        let before = self.memory.values().len();
        let metrics = self.settings.metrics.clone();
        let received = || sum(&metrics.encode(), "utilizer_exporter_messages_received_total{kind=\"pipeline\"}");
        let (then, memory) = (received(), self.memory.clone());
        wait("the tier is subscribed", || {
            if received() > then {
                return true;
            }
            self.pipeline(-1.0);
            false
        })
        .await;
        wait("what was sent meanwhile is settled", || {
            let held = sum(&metrics.encode(), "utilizer_exporter_messages_held");
            held == 0.0 && memory.values().len() > before
        })
        .await;
    }

    fn publish(&self, topic: &str, payload: &str) {
        self.broker.publish(topic, payload, &[]);
    }

    fn pipeline(&self, value: f64) {
        self.publish("utilizer/v1/telemetry/web-01/pipeline", &pipeline(&[value]).to_string());
    }

    /// The values but those of `subscribed`.
    fn values(&self) -> Vec<f64> {
        self.memory.values().into_iter().filter(|value| *value >= 0.0).collect()
    }

    fn dead_letters(&self) -> Vec<Value> {
        let path: PathBuf = self.folder.path().join("dead-letters.ndjson");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn pipeline(values: &[f64]) -> Value {
    let records: Vec<_> = values
        .iter()
        .map(|value| json!({"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": value}))
        .collect();
    json!({"v": 1, "host": "web-01", "time": "2026-11-21T22:30:00Z", "records": records})
}

fn numbered(seq: u64, value: f64) -> String {
    let mut message = pipeline(&[value]);
    message["boot"] = "b1".into();
    message["seq"] = seq.into();
    message.to_string()
}

/// The value of the series that begins so.
fn sum(metrics: &str, series: &str) -> f64 {
    metrics.lines().filter_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok()).sum()
}

async fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 60 s: {what}");
}

#[tokio::test]
async fn what_can_be_read_is_written_and_the_rest_is_a_dead_letter() {
    let f = Fixture::new();
    let running = f.start().await;
    let topic = "utilizer/v1/telemetry/web-01/pipeline";
    f.publish(topic, "{ not JSON");
    f.publish("utilizer/v1/telemetry/web 01/pipeline", &pipeline(&[1.0]).to_string());
    f.publish("utilizer/v1/telemetry/web-02/pipeline", &pipeline(&[2.0]).to_string());
    f.publish(topic, &pipeline(&[3.0]).to_string().replace("\"m\"", &format!("\"{}\"", "m".repeat(101))));
    f.publish(topic, &pipeline(&[4.0, 5.0]).to_string().replace("5.0", "\"NaN\""));
    f.publish(topic, &pipeline(&[6.0]).to_string());
    wait("the last row is written", || f.values().contains(&6.0)).await;
    assert_eq!(f.values(), [4.0, 6.0]);
    let letters: Vec<_> =
        f.dead_letters().into_iter().map(|letter| (letter["reason"].clone(), letter["payload"].clone())).collect();
    assert_eq!(
        letters.iter().map(|(reason, _)| reason.as_str().unwrap()).collect::<Vec<_>>(),
        ["payload", "topic", "host", "row", "row"]
    );
    assert_eq!(letters[0].1, "{ not JSON");
    assert!(letters[4].1.as_str().unwrap().contains("\"NaN\""));
    assert_eq!(f.settings.metrics.dead_letters(), 5);
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_is_down_is_tried_until_it_is_back() {
    let f = Fixture::new();
    f.memory.set(Mood::Down);
    let running = f.spawn();
    wait("several attempts to open", || f.memory.look(|store| store.opens) > 3).await;
    f.memory.set(Mood::Well);
    f.subscribed().await;

    f.memory.set(Mood::Down);
    let writes = f.memory.look(|store| store.writes);
    f.pipeline(1.0);
    wait("an attempt to write", || f.memory.look(|store| store.writes) > writes).await;
    // Nothing stands still meanwhile: the connection is read.
    f.pipeline(2.0);
    let metrics = f.settings.metrics.clone();
    wait("both are held", || sum(&metrics.encode(), "utilizer_exporter_rows_held") == 2.0).await;
    assert!(f.values().is_empty());
    f.memory.set(Mood::Well);
    wait("both are written", || f.values() == [1.0, 2.0]).await;
    assert!(sum(&metrics.encode(), "utilizer_exporter_retries_total") > 0.0);
    running.stop().await;
}

#[tokio::test]
async fn a_row_that_the_store_refuses_is_isolated() {
    let f = Fixture::new();
    let running = f.start().await;
    f.memory.set(Mood::Picky(3.0));
    let values: Vec<f64> = (0..9).map(f64::from).collect();
    f.publish("utilizer/v1/telemetry/web-01/pipeline", &pipeline(&values).to_string());
    f.pipeline(9.0);
    wait("the good rows are written", || f.values().len() == 9).await;
    assert_eq!(f.values(), [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let letters = f.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"], "poison");
    assert_eq!(letters[0]["topic"], "utilizer/v1/telemetry/web-01/pipeline");
    assert!(letters[0]["detail"].as_str().unwrap().contains("a bad taste"));
    assert!(letters[0]["payload"].as_str().unwrap().contains("\"metric_value\":3.0"));
    running.stop().await;
}

#[tokio::test]
async fn a_message_is_acknowledged_after_its_commit_and_not_before() {
    let f = Fixture::new();
    let running = f.start().await;
    f.memory.set(Mood::Down);
    let writes = f.memory.look(|store| store.writes);
    f.publish("utilizer/v1/telemetry/web-01/pipeline", &numbered(1, 1.0));
    wait("an attempt to write", || f.memory.look(|store| store.writes) > writes).await;
    // As if it were killed: no flush, no goodbye.
    running.task.abort();
    let _ = running.task.await;
    f.memory.set(Mood::Well);
    let again = f.spawn();
    wait("the broker delivered it again", || f.values() == [1.0]).await;
    // What is acknowledged is not delivered again: another run gets only what is new.
    again.stop().await;
    let third = f.start().await;
    f.pipeline(2.0);
    wait("the new one", || f.values().len() > 1).await;
    assert_eq!(f.values(), [1.0, 2.0]);
    third.stop().await;
}

#[tokio::test]
async fn a_copy_of_a_held_record_makes_no_second_row() {
    let f = Fixture::new();
    let running = f.start().await;
    let topic = "utilizer/v1/telemetry/web-01/pipeline";
    f.memory.set(Mood::Down);
    f.publish(topic, &numbered(1, 1.0));
    f.publish(topic, &numbered(1, 1.0));
    let metrics = f.settings.metrics.clone();
    let duplicates = || sum(&metrics.encode(), "utilizer_exporter_duplicates_total");
    wait("the copy is known", || duplicates() == 1.0).await;
    f.memory.set(Mood::Well);
    wait("one row", || f.values() == [1.0]).await;
    f.publish(topic, &numbered(1, 1.0));
    wait("a late copy is known", || duplicates() == 2.0).await;
    f.publish(topic, &numbered(2, 2.0));
    wait("the next", || f.values() == [1.0, 2.0]).await;
    running.stop().await;
}

#[tokio::test]
async fn more_than_the_receive_maximum_flows_through() {
    let mut f = Fixture::new();
    f.settings.receive_maximum = 4;
    // Age alone would never write them: the broker's waiting does.
    f.settings.batch.max_age = Duration::from_secs(3600);
    let running = f.spawn();
    let metrics = f.settings.metrics.clone();
    wait("connected", || sum(&metrics.encode(), "utilizer_exporter_mqtt_connected") == 1.0).await;
    wait("four by four", || {
        f.pipeline(1.0);
        f.values().len() >= 12
    })
    .await;
    assert!(sum(&metrics.encode(), "utilizer_exporter_messages_held") < 5.0);
    running.stop().await;
    assert_eq!(sum(&metrics.encode(), "utilizer_exporter_rows_held"), 0.0);
}

/// One message may have 70,000 rows: a number of messages alone bounds no memory.
#[tokio::test]
async fn rows_bound_what_is_held() {
    let mut f = Fixture::new();
    f.settings.batch.max_rows = 1;
    let running = f.start().await;
    f.memory.set(Mood::Down);
    let sent = || f.broker.log().matches("Sending PUBLISH to utilizer-exporter-memory-member-1").count();
    let before = sent();
    let message = pipeline(&[5.0; 10]).to_string();
    for _ in 0..8 {
        f.publish("utilizer/v1/telemetry/web-01/pipeline", &message);
    }
    let held = || sum(&f.settings.metrics.encode(), "utilizer_exporter_rows_held");
    wait("the broker sent all", || sent() - before >= 8).await;
    wait("as much is held as may be", || held() >= 20.0).await;
    assert!(held() < 30.0, "{}", held());
    f.memory.set(Mood::Well);
    wait("the rest", || f.values().len() == 80).await;
    running.stop().await;
}

#[tokio::test]
async fn stopping_writes_what_is_held() {
    let mut f = Fixture::new();
    f.settings.batch.max_age = Duration::from_secs(3600);
    let running = f.spawn();
    let metrics = f.settings.metrics.clone();
    wait("held", || {
        f.pipeline(1.0);
        sum(&metrics.encode(), "utilizer_exporter_rows_held") > 0.0
    })
    .await;
    assert!(f.values().is_empty());
    running.stop().await;
    assert!(!f.values().is_empty());
}

#[tokio::test]
async fn stopping_ends_although_the_store_is_down() {
    let f = Fixture::new();
    let running = f.start().await;
    f.memory.set(Mood::Down);
    let writes = f.memory.look(|store| store.writes);
    f.publish("utilizer/v1/telemetry/web-01/pipeline", &numbered(1, 1.0));
    wait("an attempt to write", || f.memory.look(|store| store.writes) > writes).await;
    running.stop().await;
    f.memory.set(Mood::Well);
    let again = f.spawn();
    wait("the broker kept it", || f.values() == [1.0]).await;
    again.stop().await;
}

#[tokio::test]
async fn a_broken_store_ends_the_tier_with_its_sentence() {
    let f = Fixture::new();
    f.memory.set(Mood::Broken);
    let error = f.spawn().task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "writing to memory: it is broken");

    f.memory.set(Mood::Well);
    let running = f.start().await;
    f.memory.set(Mood::Broken);
    f.pipeline(1.0);
    let error = running.task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "writing to memory: it is broken");
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let f = Fixture::new();
    f.broker.stop();
    let running = f.spawn();
    let metrics = f.settings.metrics.clone();
    let connected = || sum(&metrics.encode(), "utilizer_exporter_mqtt_connected");
    wait("the store is open", || sum(&metrics.encode(), "utilizer_exporter_sink_ready") == 1.0).await;
    assert_eq!(connected(), 0.0);
    f.broker.again();
    f.subscribed().await;
    f.pipeline(1.0);
    wait("a row", || f.values() == [1.0]).await;

    f.broker.stop();
    wait("the connection is gone", || connected() == 0.0).await;
    f.broker.again();
    wait("connected again", || connected() == 1.0).await;
    f.subscribed().await;
    f.pipeline(2.0);
    wait("another row", || f.values() == [1.0, 2.0]).await;
    running.stop().await;
}

/// mosquitto 2.0.11 restores sessions from its disk without their shared subscriptions, and says that the session is
/// present all the same: who does not subscribe again at every connection hears nothing any more.
#[tokio::test]
async fn a_broker_that_forgets_shared_subscriptions_is_asked_again() {
    let f = Fixture::with("persistence true");
    let running = f.start().await;
    let metrics = f.settings.metrics.clone();
    let connected = || sum(&metrics.encode(), "utilizer_exporter_mqtt_connected");
    f.broker.stop();
    wait("the connection is gone", || connected() == 0.0).await;
    f.broker.again();
    wait("connected again", || connected() == 1.0).await;
    f.subscribed().await;
    running.stop().await;
}

#[tokio::test]
async fn hosts_are_upserted_and_the_tier_announces_itself() {
    let f = Fixture::new();
    let status = |state: &str| {
        json!({"v": 1, "host": "web-01", "state": state, "boot": "b1", "time": "2026-11-21T22:30:00Z", "version": "0.1.0"})
            .to_string()
    };
    // Retained, and there before the tier is.
    f.broker.publish("utilizer/v1/telemetry/web-01/status", &status("online"), &["-r"]);
    let running = f.start().await;
    wait("the host", || f.memory.look(|store| store.hosts.len()) == 1).await;
    f.broker.publish("utilizer/v1/telemetry/web-01/status", &status("offline"), &["-r"]);
    wait("its end", || f.memory.look(|store| store.hosts.last().map(|host| host.state)) == Some("offline")).await;

    let (client, mut events) =
        mqtt::Client::start(mqtt::Options::new(f.broker.url().parse().unwrap(), "looker")).unwrap();
    client.subscribe([wire::Topic::all_tier_statuses()]).await.unwrap();
    let mut next = async || loop {
        if let Some(mqtt::Event::Received { message, ack }) = events.recv().await {
            client.ack(ack);
            let status: wire::messages::TierStatus = wire::decode_state("tier", &message.payload).unwrap();
            return (message.topic, status);
        }
    };
    let (topic, status) = next().await;
    assert_eq!(topic, "utilizer/v1/tier/memory/member-1/status");
    assert_eq!(
        (status.sink.as_str(), status.state, status.durable),
        ("memory", wire::messages::TierState::Online, false)
    );
    assert_eq!(status.kinds, [Kind::Metrics, Kind::Pipeline]);
    running.stop().await;
    assert_eq!(next().await.1.state, wire::messages::TierState::Offline);
}

#[tokio::test]
async fn pages_tell_whether_it_works() {
    let mut f = Fixture::new();
    let port = test_servers::free_port();
    let allow = Arc::new(daemon::http::Allow::parse(&["loopback"]).unwrap());
    f.settings.serve = Some(exporter::settings::Serve { listen: format!("127.0.0.1:{port}"), allow });
    f.memory.set(Mood::Down);
    let running = f.spawn();
    let get = async |path: &str| -> String {
        let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return String::new() };
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let until = async |path: &str, part: &str| {
        for _ in 0..6000 {
            if get(path).await.contains(part) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} never says {part}: {}", get(path).await);
    };
    until("/readyz", "writing to memory: it is down").await;
    assert!(get("/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    f.memory.set(Mood::Well);
    until("/readyz", "HTTP/1.1 200").await;
    f.broker.kill();
    until("/readyz", "HTTP/1.1 503").await;
    assert!(get("/metrics").await.contains("utilizer_exporter_mqtt_connected 0"));
    assert!(get("/elsewhere").await.starts_with("HTTP/1.1 404"));
    running.stop().await;
}

/// An agent makes records of up to 4 MiB, and a broker drops without a word what its receiver calls too large.
#[tokio::test]
async fn the_largest_record_of_an_agent_is_taken() {
    let f = Fixture::new();
    let running = f.start().await;
    let (client, mut events) =
        mqtt::Client::start(mqtt::Options::new(f.broker.url().parse().unwrap(), "large")).unwrap();
    while !matches!(events.recv().await, Some(mqtt::Event::Connected { .. })) {}
    let mut message = pipeline(&[7.0]);
    message["records"][0]["metadata"] = json!({"text": "x".repeat((4 << 20) - 300)});
    let topic = "utilizer/v1/telemetry/web-01/pipeline".to_owned();
    let message = mqtt::Message { topic, payload: message.to_string().into(), ..mqtt::Message::default() };
    client.try_publish(1, message).unwrap();
    wait("the large record", || f.values() == [7.0]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_key() {
    let mut f = Fixture::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let allow = Arc::new(daemon::http::Allow::parse(&["loopback"]).unwrap());
    let listen = taken.local_addr().unwrap().to_string();
    f.settings.serve = Some(exporter::settings::Serve { listen: listen.clone(), allow });
    let error = f.spawn().task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains(&listen) && error.contains("[serve] listen"), "{error}");
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_named_with_its_key() {
    let mut f = Fixture::new();
    f.settings.dead_letters.path = "/dev/null/dead-letters.ndjson".into();
    let error = f.spawn().task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("/dev/null/dead-letters.ndjson") && error.contains("state_dir"), "{error}");
}
