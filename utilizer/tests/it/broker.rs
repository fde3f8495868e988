//! The built-in broker, with our own client and with mosquitto's.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mqtt::{AckToken, Cause, Client, Event, Events, Message, Options};
use tempfile::TempDir;
use tokio::time::timeout;
use utilizer::broker::{Broker, BrokerError};

/// How long an event may take before a test fails. Far above what is usual, so that a busy machine never decides.
const PATIENCE: Duration = Duration::from_secs(60);

async fn broker(data: &TempDir) -> Broker {
    Broker::start("127.0.0.1:0".parse().unwrap(), data.path()).await.unwrap()
}

/// Starts the broker again where it was.
async fn again(address: SocketAddr, data: &Path) -> Broker {
    Broker::start(address, data).await.unwrap()
}

fn options(address: SocketAddr, client_id: &str) -> Options {
    let mut options = Options::new(format!("mqtt://{address}").parse().unwrap(), client_id);
    options.pauses.first = Duration::from_millis(20);
    options.pauses.most = Duration::from_millis(100);
    options
}

fn lasting(address: SocketAddr, client_id: &str) -> Options {
    Options { clean_start: false, session_expiry: Duration::from_secs(3600), ..options(address, client_id) }
}

fn message(topic: &str, payload: &str) -> Message {
    Message { topic: topic.to_owned(), payload: payload.as_bytes().to_vec().into(), ..Message::default() }
}

struct Peer {
    client: Client,
    events: Events,
}

impl Peer {
    async fn connect(options: Options) -> Self {
        let (client, events) = Client::start(options).unwrap();
        let mut peer = Self { client, events };
        peer.until(|event| matches!(event, Event::Connected { .. }).then_some(())).await;
        peer
    }

    async fn subscribe(options: Options, filter: &str) -> Self {
        let mut peer = Self::connect(options).await;
        peer.client.subscribe([filter]).await.unwrap();
        peer.until(|event| matches!(event, Event::Subscribed { .. }).then_some(())).await;
        peer
    }

    async fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    async fn received(&mut self) -> (Message, AckToken) {
        loop {
            if let Event::Received { message, ack } = timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap() {
                return (message, ack);
            }
        }
    }

    /// Takes and acknowledges the next message.
    async fn payload(&mut self) -> String {
        let (message, ack) = self.received().await;
        self.client.ack(ack);
        String::from_utf8(message.payload.to_vec()).unwrap()
    }

    async fn publish(&mut self, message: Message) {
        self.client.try_publish(1, message).unwrap();
        self.until(|event| matches!(event, Event::Acked { id: 1, .. }).then_some(())).await;
    }
}

fn mosquitto(program: &str, address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-V", "5", "-h", "127.0.0.1", "-p", &address.port().to_string(), "-q", "1"]).args(arguments);
    command
}

fn mosquitto_pub(address: SocketAddr, arguments: &[&str]) {
    let output = mosquitto("mosquitto_pub", address, arguments).output();
    let output = output.expect("mosquitto_pub runs; install it with: apt-get install mosquitto-clients");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `mosquitto_sub` until it has its messages and gives what it printed.
async fn mosquitto_sub(address: SocketAddr, arguments: &'static [&'static str]) -> String {
    let output = tokio::task::spawn_blocking(move || mosquitto("mosquitto_sub", address, arguments).output());
    String::from_utf8(timeout(PATIENCE, output).await.unwrap().unwrap().unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_and_mosquittos_understand_it_and_each_other() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let address = broker.local_addr();
    let mut reader = Peer::subscribe(options(address, "reader"), "a/#").await;
    mosquitto_pub(address, &["-t", "a/b", "-m", "hello", "-D", "publish", "user-property", "host", "web-01"]);
    let (received, ack) = reader.received().await;
    reader.client.ack(ack);
    assert_eq!((received.topic.as_str(), &received.payload[..]), ("a/b", &b"hello"[..]));
    assert!(received.user_properties.contains(&("host".to_owned(), "web-01".to_owned())), "{received:?}");

    let mut writer = Peer::connect(options(address, "writer")).await;
    let sent = Message {
        retain: true,
        content_type: Some("application/json".to_owned()),
        user_properties: vec![("seq".to_owned(), "7".to_owned())],
        ..message("state/x", "{\"x\":1}")
    };
    writer.publish(sent).await;
    let printed = mosquitto_sub(address, &["-t", "state/#", "-C", "1", "-F", "%t %r %p %C %P"]).await;
    assert!(printed.starts_with("state/x 1 {\"x\":1} application/json"), "{printed}");
    assert!(printed.contains("seq:7"), "{printed}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_outlast_a_restart_and_can_be_cleared() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let address = broker.local_addr();
    let mut writer = Peer::connect(options(address, "writer")).await;
    for (topic, payload) in [("utilizer/v1/telemetry/web-01/status", "online"), ("state/%2F", "ü"), ("state/gone", "x")]
    {
        writer.publish(Message { retain: true, ..message(topic, payload) }).await;
    }
    writer.publish(Message { retain: true, ..message("state/gone", "") }).await;
    broker.stop().await;

    let broker = again(address, data.path()).await;
    let mut reader = Peer::subscribe(options(address, "reader"), "#").await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (message, ack) = reader.received().await;
        reader.client.ack(ack);
        assert!(message.retain);
        seen.push((message.topic, String::from_utf8(message.payload.to_vec()).unwrap()));
    }
    seen.sort();
    let expected = [("state/%2F", "ü"), ("utilizer/v1/telemetry/web-01/status", "online")];
    assert_eq!(seen, expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())));
    mosquitto_pub(address, &["-t", "end", "-m", "end"]);
    assert_eq!(reader.payload().await, "end");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_what_waits_for_it_outlast_a_restart() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let address = broker.local_addr();
    let reader = Peer::subscribe(lasting(address, "reader"), "$share/group/t/+").await;
    assert!(reader.client.disconnect(PATIENCE).await);
    let mut writer = Peer::connect(options(address, "writer")).await;
    for payload in ["1", "2", "3"] {
        writer.publish(message("t/x", payload)).await;
    }
    broker.stop().await;

    let broker = again(address, data.path()).await;
    let mut reader = Peer::connect(lasting(address, "reader")).await;
    for expected in ["1", "2", "3"] {
        assert_eq!(reader.payload().await, expected);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let address = broker.local_addr();
    let mut reader = Peer::subscribe(lasting(address, "reader"), "t").await;
    mosquitto_pub(address, &["-t", "t", "-m", "one"]);
    let (first, _unacknowledged) = reader.received().await;
    assert_eq!(&first.payload[..], b"one");
    assert!(reader.client.disconnect(PATIENCE).await);
    let mut reader = Peer::connect(lasting(address, "reader")).await;
    assert_eq!(reader.payload().await, "one");
    mosquitto_pub(address, &["-t", "t", "-m", "two"]);
    assert_eq!(reader.payload().await, "two");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_reaches_one_member_of_a_group() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let address = broker.local_addr();
    let mut members = [
        Peer::subscribe(options(address, "member-1"), "$share/g/t/+").await,
        Peer::subscribe(options(address, "member-2"), "$share/g/t/+").await,
    ];
    let mut plain = Peer::subscribe(options(address, "plain"), "t/+").await;
    let mut writer = Peer::connect(options(address, "writer")).await;
    let mut sent = Vec::new();
    for number in 0..100 {
        writer.publish(message("t/x", &number.to_string())).await;
        sent.push(number.to_string());
    }
    let mut shared = Vec::new();
    let [one, two] = &mut members;
    while shared.len() < 100 {
        tokio::select! {
            payload = one.payload() => shared.push(payload),
            payload = two.payload() => shared.push(payload),
        }
    }
    shared.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(shared, sent);
    for expected in &sent {
        assert_eq!(&plain.payload().await, expected);
    }
    broker.stop().await;
}

#[test]
fn the_will_is_published_and_retained_after_an_abrupt_end() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let data = TempDir::new().unwrap();
    let broker = runtime.block_on(broker(&data));
    let address = broker.local_addr();
    let mut watcher = runtime.block_on(Peer::subscribe(options(address, "watcher"), "status/#"));
    let mut mortal = options(address, "mortal");
    mortal.will = Some(Message { retain: true, ..message("status/mortal", "offline") });
    let dying = tokio::runtime::Runtime::new().unwrap();
    let mortal = dying.block_on(Peer::connect(mortal));
    dying.shutdown_background();
    assert_eq!(runtime.block_on(watcher.payload()), "offline");
    drop(mortal);
    let printed = runtime.block_on(mosquitto_sub(address, &["-t", "status/mortal", "-C", "1", "-F", "%r %p"]));
    assert_eq!(printed, "1 offline\n");
    runtime.block_on(broker.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_it_tells_the_clients_and_publishes_their_wills() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let address = broker.local_addr();
    let mut mortal = options(address, "mortal");
    mortal.will = Some(Message { retain: true, ..message("status/mortal", "offline") });
    let mut mortal = Peer::connect(mortal).await;
    broker.stop().await;
    let code = mortal.until(|event| match event {
        Event::Disconnected { reason, .. } => Some(reason.code),
        _ => None,
    });
    assert_eq!(code.await, Some(0x8B));
    let broker = again(address, data.path()).await;
    let printed = mosquitto_sub(address, &["-t", "status/mortal", "-C", "1", "-F", "%p"]).await;
    assert_eq!(printed, "offline\n");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_taken_over_is_said() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let mut first = Peer::connect(options(broker.local_addr(), "twin")).await;
    let _second = Peer::connect(options(broker.local_addr(), "twin")).await;
    let cause = first.until(|event| match event {
        Event::Disconnected { reason, retry_in: None } => Some(reason.cause),
        _ => None,
    });
    assert_eq!(cause.await, Cause::TakenOver);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_message_is_refused_and_no_more() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let mut writer = Peer::connect(options(broker.local_addr(), "writer")).await;
    writer.client.try_publish(7, message("t", &"x".repeat(5 << 20))).unwrap();
    let code = writer.until(|event| match event {
        Event::Refused { id: 7, code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(code.await, Some(0x95));
    let large = Message { retain: true, ..message("state", &"x".repeat(1 << 20)) };
    writer.client.try_publish(8, large).unwrap();
    let code = writer.until(|event| match event {
        Event::Refused { id: 8, code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(code.await, Some(0x97));
    writer.publish(message("t", "small")).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_an_open_address_and_used_state_are_named() {
    let data = TempDir::new().unwrap();
    let first = broker(&data).await;
    let address = first.local_addr();
    let other = TempDir::new().unwrap();
    match Broker::start(address, other.path()).await {
        Err(error @ BrokerError::Listen { .. }) => assert!(error.to_string().contains(&address.to_string()), "{error}"),
        _ => panic!("a taken port is no error"),
    }
    match Broker::start("127.0.0.1:0".parse().unwrap(), data.path()).await {
        Err(error @ BrokerError::State { .. }) => {
            assert!(error.to_string().contains(&data.path().display().to_string()), "{error}");
        }
        _ => panic!("state in use is no error"),
    }
    match Broker::start("0.0.0.0:0".parse().unwrap(), other.path()).await {
        Err(error @ BrokerError::Exposed(_)) => assert!(error.to_string().contains("loopback"), "{error}"),
        _ => panic!("an open address is no error"),
    }
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_sleeps_does_not_hold_up_the_others() {
    let data = TempDir::new().unwrap();
    let broker = broker(&data).await;
    let address = broker.local_addr();
    // Subscribed, and then neither reading nor acknowledging.
    let sleeper = sleeping_subscriber(address);
    let mut reader = Peer::subscribe(options(address, "reader"), "t").await;
    let mut writer = Peer::connect(options(address, "writer")).await;
    for number in 0..1_000 {
        writer.publish(message("t", &number.to_string())).await;
        assert_eq!(reader.payload().await, number.to_string());
    }
    drop(sleeper);
    broker.stop().await;
}

/// A `mosquitto_sub` that is stopped by a signal once it has subscribed; it is killed in the end.
fn sleeping_subscriber(address: SocketAddr) -> Sleeper {
    let mut child =
        mosquitto("mosquitto_sub", address, &["-t", "t", "-t", "ready", "-i", "sleeper", "-c", "-x", "600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Retained, so that it comes as soon as the subscription stands.
    mosquitto_pub(address, &["-t", "ready", "-m", "now", "-r"]);
    assert_eq!(lines.next().unwrap().unwrap(), "now");
    let stopped = Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    Sleeper(child)
}

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
