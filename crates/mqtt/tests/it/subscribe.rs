use std::time::Duration;

use mqtt::{Event, Message, Options};
use test_servers::Mosquitto;

use super::support::{Peer, message, options};

fn lasting(url: &str) -> Options {
    let mut options = options(url, "lasting");
    options.clean_start = false;
    options.session_expiry = Duration::from_secs(3600);
    options
}

#[tokio::test]
async fn what_was_not_acknowledged_is_delivered_again_to_the_next_process() {
    let broker = Mosquitto::start("");
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    let mut reader = Peer::subscribe(lasting(&broker.url()), "t").await;
    for payload in ["a", "b", "c"] {
        writer.publish(0, message("t", payload)).await;
    }
    let (first, ack) = reader.payload().await;
    assert_eq!(first, "a");
    reader.client.ack(ack);
    let (second, _kept) = reader.payload().await;
    assert_eq!(second, "b");
    assert!(reader.client.disconnect(Duration::from_secs(30)).await);

    // The new client knows nothing of the session, and yet may publish and subscribe on it at once.
    let mut reader = Peer::start(lasting(&broker.url()));
    assert!(reader.connected().await);
    let mut payloads = Vec::new();
    while payloads.len() < 2 {
        let (payload, ack) = reader.payload().await;
        reader.client.ack(ack);
        payloads.push(payload);
    }
    assert_eq!(payloads, ["b", "c"]);
    reader.publish(1, message("elsewhere", "x")).await;
    reader.client.subscribe(["u"]).await.unwrap();
    reader
        .until("subscribed", |event| matches!(event, Event::Subscribed { filter } if filter == "u").then_some(()))
        .await;
    assert!(reader.client.disconnect(Duration::from_secs(30)).await);

    let mut reader = Peer::connect(lasting(&broker.url())).await;
    writer.publish(9, message("t", "d")).await;
    assert_eq!(reader.payload().await.0, "d");
}

#[tokio::test]
async fn acknowledgements_in_any_order_free_the_window_in_order() {
    let broker = Mosquitto::start("");
    let mut reader_options = lasting(&broker.url());
    reader_options.receive_maximum = 3;
    let mut reader = Peer::subscribe(reader_options, "t").await;
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    for id in 0..10 {
        writer.publish(id, message("t", id.to_string())).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 9 {
        let mut acks = Vec::new();
        for _ in 0..3 {
            let (payload, ack) = reader.payload().await;
            seen.push(payload);
            acks.push(ack);
        }
        for ack in acks.into_iter().rev() {
            reader.client.ack(ack);
        }
    }
    seen.push(reader.payload().await.0);
    assert_eq!(seen, (0..10).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_filter_has_its_own_answer() {
    let broker = Mosquitto::start("");
    let mut reader = Peer::connect(options(&broker.url(), "reader")).await;
    reader.client.subscribe(["good/+", "bad#", "$share/group/shared/#"]).await.unwrap();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    while good.len() + bad.len() < 3 {
        match reader.next().await {
            Some(Event::Subscribed { filter }) => good.push(filter),
            Some(Event::SubscriptionRefused { filter, .. }) => bad.push(filter),
            other => panic!("not an answer: {other:?}"),
        }
    }
    good.sort();
    assert_eq!(good, ["$share/group/shared/#", "good/+"]);
    assert_eq!(bad, ["bad#"]);
}

#[tokio::test]
async fn subscriptions_made_before_the_connection_are_sent_with_it() {
    let broker = Mosquitto::start("");
    let mut reader = Peer::start(options(&broker.url(), "reader"));
    reader.client.subscribe(["early"]).await.unwrap();
    reader.until("subscribed", |event| matches!(event, Event::Subscribed { .. }).then_some(())).await;
    broker.publish("early", "bird", &[]);
    assert_eq!(reader.payload().await.0, "bird");
}

#[tokio::test]
async fn messages_at_qos_0_come_without_the_need_of_an_acknowledgement() {
    let broker = Mosquitto::start("");
    let mut reader = Peer::subscribe(options(&broker.url(), "reader"), "t").await;
    broker.publish("t", "zero", &["-q", "0"]);
    let (payload, ack) = reader.payload().await;
    assert_eq!(payload, "zero");
    reader.client.ack(ack);
    broker.publish("t", "one", &[]);
    assert_eq!(reader.payload().await.0, "one");
}

#[tokio::test]
async fn a_consumer_that_pauses_loses_nothing() {
    let broker = Mosquitto::start("max_queued_messages 0");
    let mut reader_options = options(&broker.url(), "reader");
    reader_options.receive_maximum = 3;
    let mut reader = Peer::subscribe(reader_options, "t").await;
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    // At QoS 0 nothing but the room among the events and the sockets' buffers bounds what comes.
    for _ in 0..20 {
        broker.publish("t", "zero", &["-q", "0", "--repeat", "20"]);
    }
    for id in 0..200 {
        writer.publish(id, message("t", id.to_string())).await;
    }
    let (mut zeros, mut ones) = (0, Vec::new());
    while ones.len() < 200 {
        let (payload, ack) = reader.payload().await;
        reader.client.ack(ack);
        if payload == "zero" { zeros += 1 } else { ones.push(payload) }
    }
    assert_eq!(zeros, 400);
    assert_eq!(ones, (0..200).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn retained_messages_beyond_what_a_broker_keeps_waiting_come_at_qos_0() {
    let broker = Mosquitto::start("max_queued_messages 5\nmax_inflight_messages 5");
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    for id in 0..60 {
        writer.publish(id, Message { retain: true, ..message(&format!("state/{id}"), "x") }).await;
    }
    let mut reader_options = options(&broker.url(), "reader");
    reader_options.receive_at_most_once = true;
    let mut reader = Peer::subscribe(reader_options, "state/+").await;
    for _ in 0..60 {
        assert_eq!(reader.payload().await.0, "x");
    }
}
