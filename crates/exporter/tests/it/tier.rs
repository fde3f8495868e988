//! Messages, states, pages, starting and stopping.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use utilizer_exporter as exporter;
use wire::Kind;

use crate::fixture::{Fixture, TOPIC, numbered, pipeline, wait};
use crate::memory::Mood;

#[tokio::test]
async fn what_can_be_read_is_written_and_the_rest_is_a_dead_letter() {
    let f = Fixture::new();
    let running = f.start().await;
    f.publish(TOPIC, "{ not JSON");
    f.publish("utilizer/v1/telemetry/web 01/pipeline", &pipeline(&[1.0]).to_string());
    f.publish("utilizer/v1/telemetry/web-02/pipeline", &pipeline(&[2.0]).to_string());
    f.publish(TOPIC, &pipeline(&[3.0]).to_string().replace("\"m\"", &format!("\"{}\"", "m".repeat(101))));
    f.publish(TOPIC, &pipeline(&[4.0, 5.0]).to_string().replace("5.0", "\"NaN\""));
    f.publish(TOPIC, &pipeline(&[6.0]).to_string());
    wait("the last row is written", || f.values().contains(&6.0)).await;
    assert_eq!(f.values(), [4.0, 6.0]);
    // A topic that can't be one is found when it comes, everything else when it is read.
    let (topics, letters): (Vec<_>, Vec<_>) =
        f.dead_letters().into_iter().partition(|letter| letter["reason"] == "topic");
    assert_eq!(topics.len(), 1);
    let letters: Vec<_> =
        letters.into_iter().map(|letter| (letter["reason"].clone(), letter["payload"].clone())).collect();
    assert_eq!(
        letters.iter().map(|(reason, _)| reason.as_str().unwrap()).collect::<Vec<_>>(),
        ["payload", "host", "row", "row"]
    );
    assert_eq!(letters[0].1, "{ not JSON");
    assert!(letters[3].1.as_str().unwrap().contains("\"NaN\""));
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
    wait("both are spooled", || f.metric("utilizer_exporter_spool_records") == 2.0).await;
    assert!(f.values().is_empty());
    f.memory.set(Mood::Well);
    wait("both are written", || f.values() == [1.0, 2.0]).await;
    assert!(f.metric("utilizer_exporter_retries_total") > 0.0);
    running.stop().await;
}

#[tokio::test]
async fn a_row_that_the_store_refuses_is_isolated() {
    let f = Fixture::new();
    let running = f.start().await;
    f.memory.set(Mood::Picky(3.0));
    let values: Vec<f64> = (0..9).map(f64::from).collect();
    f.publish(TOPIC, &pipeline(&values).to_string());
    f.pipeline(9.0);
    wait("the good rows are written", || f.values().len() == 9).await;
    assert_eq!(f.values(), [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let letters = f.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"], "poison");
    assert_eq!(letters[0]["topic"], TOPIC);
    assert!(letters[0]["detail"].as_str().unwrap().contains("a bad taste"));
    assert!(letters[0]["payload"].as_str().unwrap().contains("\"metric_value\":3.0"));
    running.stop().await;
}

#[tokio::test]
async fn stopping_writes_what_is_held() {
    let mut f = Fixture::new();
    f.settings.batch.max_age = Duration::from_secs(3600);
    let running = f.spawn();
    wait("held", || {
        f.pipeline(1.0);
        f.metric("utilizer_exporter_spool_records") > 0.0
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
    f.publish(TOPIC, &numbered(1, 1.0));
    wait("an attempt to write", || f.memory.look(|store| store.writes) > writes).await;
    running.stop().await;
    f.memory.set(Mood::Well);
    let again = f.spawn();
    wait("the spool kept it", || f.values() == [1.0]).await;
    again.stop().await;
}

#[tokio::test]
async fn a_broken_store_ends_the_tier_with_its_sentence() {
    let f = Fixture::new();
    f.memory.set(Mood::Broken);
    let error = f.spawn().task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "writing to memory: it is broken");
    // Hosts would wait for its group for ever.
    f.publish("utilizer/v1/tier/last/last/status", "the broker has seen all");
    assert!(!f.broker.log().contains("utilizer-exporter-memory"), "it was never announced: {}", f.broker.log());

    f.memory.set(Mood::Well);
    let running = f.start().await;
    f.memory.set(Mood::Broken);
    f.pipeline(1.0);
    let error = running.task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "writing to memory: it is broken");
}

/// It looked like one that is away at first.
#[tokio::test]
async fn what_was_announced_for_a_store_that_never_was_one_is_taken_back() {
    let f = Fixture::new();
    f.memory.set(Mood::Down);
    let running = f.spawn();
    let (client, mut events) =
        mqtt::Client::start(mqtt::Options::new(f.broker.url().parse().unwrap(), "looker")).unwrap();
    client.subscribe([wire::Topic::all_tier_statuses()]).await.unwrap();
    // The same may be said again.
    let mut next = async |but: &str| loop {
        if let Some(mqtt::Event::Received { message, ack }) = events.recv().await {
            client.ack(ack);
            let said = String::from_utf8(message.payload.to_vec()).unwrap();
            if !said.contains(&format!("{but:?}")) {
                return said;
            }
        }
    };
    assert!(next("offline").await.contains("online"));
    f.memory.set(Mood::Broken);
    assert!(running.task.await.unwrap().is_err());
    assert_eq!(next("online").await, "");

    f.memory.set(Mood::Well);
    let running = f.start().await;
    assert!(next("offline").await.contains("online"));
    f.memory.set(Mood::Broken);
    f.pipeline(1.0);
    assert!(running.task.await.unwrap().is_err());
    assert!(next("online").await.contains("offline"), "hosts wait for a group that has written");
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let f = Fixture::new();
    f.broker.stop();
    let running = f.spawn();
    let connected = || f.metric("utilizer_exporter_mqtt_connected");
    wait("the store is open", || f.metric("utilizer_exporter_sink_ready") == 1.0).await;
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
    let connected = || f.metric("utilizer_exporter_mqtt_connected");
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
        ("memory", wire::messages::TierState::Online, true)
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
    let topic = TOPIC.to_owned();
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

/// At QoS 1 mosquitto keeps 1,000 messages waiting for a client beside the 20 under way, and drops the rest unseen.
#[tokio::test]
async fn of_many_retained_host_states_none_is_lost() {
    let f = Fixture::new();
    let options = mqtt::Options { max_in_flight: 100, ..mqtt::Options::new(f.broker.url().parse().unwrap(), "hosts") };
    let (client, mut events) = mqtt::Client::start(options).unwrap();
    while !matches!(events.recv().await, Some(mqtt::Event::Connected { .. })) {}
    let (hosts, mut sent, mut acked) = (1500, 0, 0);
    while acked < hosts {
        while sent < hosts {
            let status = json!({"v": 1, "host": format!("h{sent}"), "state": "online", "boot": "b1",
                                "time": "2026-11-21T22:30:00Z", "version": "0"});
            let topic = format!("utilizer/v1/telemetry/h{sent}/status");
            let payload = status.to_string().into();
            let message = mqtt::Message { topic, payload, retain: true, ..mqtt::Message::default() };
            if client.try_publish(sent, message).is_err() {
                break;
            }
            sent += 1;
        }
        acked += u64::from(matches!(events.recv().await, Some(mqtt::Event::Acked { .. })));
    }
    let running = f.start().await;
    let written = |store: &crate::memory::Store| {
        store.hosts.iter().map(|row| row.host.clone()).collect::<std::collections::BTreeSet<_>>().len()
    };
    wait("all states are written", || f.memory.look(written) == 1500).await;
    running.stop().await;
}
