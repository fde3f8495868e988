use std::time::Duration;

use mqtt::{Event, Message, Options};
use test_servers::{Mosquitto, free_port};

use super::support::{Peer, long_pauses, message, options};

const BOUND: Duration = Duration::from_secs(30);

fn with_will(broker: &Mosquitto) -> Options {
    let mut options = options(&broker.url(), "mortal");
    options.will = Some(Message {
        retain: true,
        content_type: Some("application/json".to_owned()),
        user_properties: vec![("boot".to_owned(), "7".to_owned())],
        ..message("status/mortal", "offline")
    });
    options
}

#[test]
fn the_will_is_published_after_an_abrupt_end() {
    let broker = Mosquitto::start("");
    let watching = tokio::runtime::Runtime::new().unwrap();
    let mut watcher = watching.block_on(Peer::subscribe(options(&broker.url(), "watcher"), "status/#"));
    // A runtime that is dropped drops the client's task, and with it the socket, in the middle of everything.
    let dying = tokio::runtime::Runtime::new().unwrap();
    let mortal = dying.block_on(Peer::connect(with_will(&broker)));
    dying.shutdown_background();
    let (will, _ack) = watching.block_on(watcher.received());
    assert_eq!((will.topic.as_str(), &will.payload[..]), ("status/mortal", &b"offline"[..]));
    assert_eq!(will.content_type.as_deref(), Some("application/json"));
    assert_eq!(will.user_properties, [("boot".to_owned(), "7".to_owned())]);
    drop(mortal);
}

#[tokio::test]
async fn a_clean_stop_waits_for_the_acknowledgements_and_publishes_no_will() {
    let broker = Mosquitto::start("");
    let mut watcher = Peer::subscribe(options(&broker.url(), "watcher"), "status/#").await;
    let mut mortal = Peer::connect(with_will(&broker)).await;
    for id in 0..10 {
        mortal.client.try_publish(id, message("status/mortal", id.to_string())).unwrap();
    }
    assert!(mortal.client.disconnect(BOUND).await);
    for expected in 0..10 {
        assert!(matches!(mortal.next().await, Some(Event::Acked { id, .. }) if id == expected));
    }
    assert!(mortal.next().await.is_none());
    broker.publish("status/last", "done", &[]);
    let mut payloads = Vec::new();
    while payloads.last().is_none_or(|last| last != "done") {
        let (payload, ack) = watcher.payload().await;
        watcher.client.ack(ack);
        payloads.push(payload);
    }
    let expected = (0..10).map(|id| id.to_string()).chain(["done".to_owned()]).collect::<Vec<_>>();
    assert_eq!(payloads, expected);
}

#[tokio::test]
async fn dropping_the_client_stops_it_as_cleanly() {
    let broker = Mosquitto::start("");
    let mut watcher = Peer::subscribe(options(&broker.url(), "watcher"), "status/#").await;
    let Peer { client, mut events } = Peer::connect(with_will(&broker)).await;
    client.try_publish(1, message("status/mortal", "last words")).unwrap();
    drop(client);
    assert!(matches!(events.recv().await, Some(Event::Acked { id: 1, .. })));
    assert!(events.recv().await.is_none());
    broker.publish("status/last", "done", &[]);
    assert_eq!(watcher.payload().await.0, "last words");
    assert_eq!(watcher.payload().await.0, "done");
}

#[tokio::test]
async fn acknowledgements_given_before_the_stop_reach_the_broker() {
    let broker = Mosquitto::start("");
    let mut lasting = options(&broker.url(), "reader");
    lasting.clean_start = false;
    lasting.session_expiry = Duration::from_secs(3600);
    let mut reader = Peer::subscribe(lasting.clone(), "t").await;
    for payload in ["a", "b", "c"] {
        broker.publish("t", payload, &[]);
    }
    for _ in 0..3 {
        let (_, ack) = reader.payload().await;
        reader.client.ack(ack);
    }
    assert!(reader.client.disconnect(BOUND).await);
    let mut reader = Peer::connect(lasting).await;
    broker.publish("t", "d", &[]);
    assert_eq!(reader.payload().await.0, "d", "{}", broker.log());
}

#[tokio::test]
async fn a_stop_without_a_connection_is_at_once() {
    let mut options = options(&format!("mqtt://127.0.0.1:{}", free_port()), "writer");
    options.pauses = long_pauses();
    let mut writer = Peer::start(options);
    writer.disconnected().await;
    // With a bound that no test would sit out.
    assert!(!writer.client.disconnect(Duration::from_secs(3600)).await);
    assert!(writer.next().await.is_none());
}

#[tokio::test]
async fn a_broker_that_does_not_answer_can_not_hold_up_a_stop() {
    let broker = Mosquitto::start("");
    let silent = super::outside::Silent::before(&broker).await;
    let mut writer = Peer::connect(options(&silent.url(), "writer")).await;
    silent.swallow();
    writer.client.try_publish(1, message("t", "x")).unwrap();
    assert!(!writer.client.disconnect(Duration::from_millis(50)).await);
    assert!(matches!(writer.next().await, Some(Event::Lost { id: 1 })));
    assert!(writer.next().await.is_none());
}
