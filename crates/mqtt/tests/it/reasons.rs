//! What brokers say, by reason code, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mqtt::{Cause, Event, Limits, Message};
use test_servers::Mosquitto;

use super::script::{WELCOME, broker, connack, text};
use super::support::{Peer, long_pauses, message, options};

#[tokio::test]
async fn each_last_word_of_a_broker_has_its_cause_and_sentence() {
    let disconnect = |code: u8, properties: &[u8]| {
        [WELCOME, &[0xE0, properties.len() as u8 + 2, code, properties.len() as u8], properties].concat()
    };
    for (answer, cause, word) in [
        (disconnect(0x8B, &[]), Cause::ShuttingDown, "shutting down"),
        (disconnect(0x8D, &[]), Cause::Timeout, "keep-alive"),
        (disconnect(0x89, &[]), Cause::Busy, "no room"),
        (disconnect(0x97, &text(0x1F, "10 GB a month")), Cause::Busy, "10 GB a month"),
        (disconnect(0x9D, &text(0x1C, "b.example:1883")), Cause::Moved, "b.example:1883"),
        (disconnect(0x9E, &[]), Cause::Refused, "`[mqtt] shared = false`"),
        // A code that the specification does not have.
        (disconnect(0xEE, &[]), Cause::Refused, "0xEE"),
        (connack(false, 0x9F, &[]), Cause::Busy, "connection rate"),
        (connack(false, 0x9C, &text(0x1C, "c.example")), Cause::Moved, "c.example"),
        (connack(false, 0x88, &text(0x1F, "back at noon")), Cause::Busy, "back at noon"),
        (connack(false, 0x87, &text(0x1F, "no\nline")), Cause::Credentials, "no\\nline"),
        // How a broker of MQTT 3.1.1 refuses version 5.
        (vec![0x20, 0x02, 0x00, 0x01], Cause::Refused, "MQTT v5"),
    ] {
        let url = broker(move |_, mut wire| {
            let answer = answer.clone();
            async move { wire.connect(&answer).await }
        })
        .await;
        let mut client_options = options(&url, "client");
        client_options.pauses = long_pauses();
        let (reason, retry_in) = Peer::start(client_options).disconnected().await;
        assert_eq!(reason.cause, cause, "{reason}");
        assert!(reason.sentence.contains(word), "{reason}");
        assert!(retry_in.is_some());
    }
}

#[tokio::test]
async fn refusals_say_whether_to_try_again_and_disturb_nothing_else() {
    let codes = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x95, 0x97, 0x99, 0xEE];
    let url = broker(move |_, mut wire| async move {
        wire.connect(WELCOME).await;
        for code in codes {
            let Some(([high, low], _)) = wire.publish().await else { return };
            wire.send(&[0x40, 0x04, high, low, code, 0x00]).await;
        }
        wire.obey().await;
    })
    .await;
    let mut writer = Peer::connect(options(&url, "writer")).await;
    for (id, code) in codes.into_iter().enumerate() {
        writer.client.try_publish(id as u64, message("t", "x")).unwrap();
        match (code, writer.next().await) {
            (0x00, Some(Event::Acked { matched: true, .. })) | (0x10, Some(Event::Acked { matched: false, .. })) => {}
            (0x80.., Some(Event::Refused { code: told, retry, reason, .. })) => {
                assert_eq!((told, retry), (Some(code), !matches!(code, 0x90 | 0x95 | 0x99)), "{reason}");
            }
            (_, other) => panic!("0x{code:02X}: {other:?}"),
        }
    }
    writer.publish(99, message("t", "x")).await;
}

#[tokio::test]
async fn mosquittos_own_size_limit_ends_no_connection() {
    // With this setting mosquitto names no limit at the connection, and answers with 0x95, which PUBACK does not have.
    let broker = Mosquitto::start("message_size_limit 1000");
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    writer.client.try_publish(1, message("t", [b'x'; 2000])).unwrap();
    assert_eq!(writer.refused().await, (1, Some(0x95), false));
    writer.publish(2, message("t", "small")).await;
}

#[tokio::test]
async fn mosquitto_tells_when_nobody_subscribed() {
    let broker = Mosquitto::start("");
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    writer.client.try_publish(1, message("t", "x")).unwrap();
    assert!(matches!(writer.next().await, Some(Event::Acked { matched: false, .. })));
    let _reader = Peer::subscribe(options(&broker.url(), "reader"), "t").await;
    writer.client.try_publish(2, message("t", "x")).unwrap();
    assert!(matches!(writer.next().await, Some(Event::Acked { matched: true, .. })));
}

#[tokio::test]
async fn a_publish_over_which_the_broker_ends_the_connection_is_refused_and_the_others_are_lost() {
    let url = broker(|number, mut wire| async move {
        wire.connect(WELCOME).await;
        if number == 1 {
            for _ in 0..3 {
                wire.publish().await;
            }
            wire.send(&[0xE0, 0x01, 0x95]).await;
        } else {
            wire.obey().await;
        }
    })
    .await;
    let mut writer = Peer::connect(options(&url, "writer")).await;
    for (id, size) in [(1, 100), (2, 5000), (3, 200)] {
        writer.client.try_publish(id, message("t", vec![b'x'; size])).unwrap();
    }
    let (mut refused, mut lost) = (Vec::new(), Vec::new());
    while refused.len() + lost.len() < 3 {
        match writer.next().await {
            Some(Event::Refused { id, code: Some(0x95), retry: false, .. }) => refused.push(id),
            Some(Event::Lost { id }) => lost.push(id),
            other => panic!("neither refused nor lost: {other:?}"),
        }
    }
    lost.sort_unstable();
    assert_eq!((refused, lost), (vec![2], vec![1, 3]));
    writer.connected().await;
    writer.publish(4, message("t", "x")).await;
}

#[tokio::test]
async fn what_the_broker_allows_is_told_and_kept_to() {
    // Receive maximum 2, largest packet 100, keep-alive 7 s, session expiry 3 s; nothing retained, shared or wild.
    let properties = [0x21, 0, 2, 0x27, 0, 0, 0, 100, 0x13, 0, 7, 0x11, 0, 0, 0, 3, 0x25, 0, 0x2A, 0, 0x28, 0];
    let subscriptions = Arc::new(AtomicUsize::new(0));
    let seen = subscriptions.clone();
    let url = broker(move |_, mut wire| {
        let seen = seen.clone();
        async move {
            wire.connect(&connack(false, 0, &properties)).await;
            let mut open = Vec::new();
            while let Some((first, body)) = wire.packet().await {
                match first >> 4 {
                    3 => open.push([body[3], body[4]]),
                    8 => {
                        seen.fetch_add(1, Ordering::SeqCst);
                        wire.send(&[0x90, 0x04, body[0], body[1], 0x00, 0x01]).await;
                    }
                    _ => {}
                }
                assert!(open.len() <= 2, "the receive maximum was exceeded");
                if open.len() == 2 {
                    for [high, low] in open.drain(..) {
                        wire.send(&[0x40, 0x02, high, low]).await;
                    }
                }
            }
        }
    })
    .await;
    let mut writer = Peer::start(options(&url, "writer"));
    let told = writer
        .until("connected", |event| match event {
            Event::Connected { limits, .. } => Some(*limits),
            _ => None,
        })
        .await;
    let seconds = Duration::from_secs;
    let expected = Limits {
        receive_maximum: 2,
        max_packet: Some(100),
        keep_alive: seconds(7),
        session_expiry: seconds(3),
        retain: false,
        shared: false,
        wildcards: false,
    };
    assert_eq!(told, expected);

    writer.client.try_publish(1, message("t", [b'x'; 100])).unwrap();
    assert_eq!(writer.refused().await, (1, Some(0x95), false));
    writer.client.try_publish(2, Message { retain: true, ..message("t", "x") }).unwrap();
    assert_eq!(writer.refused().await, (2, Some(0x9A), false));
    for id in 10..20 {
        writer.client.try_publish(id, message("t", "x")).unwrap();
    }
    for expected in 10..20 {
        assert!(matches!(writer.next().await, Some(Event::Acked { id, .. }) if id == expected));
    }

    writer.client.subscribe(["$share/g/t", "t/+", "t"]).await.unwrap();
    let (mut granted, mut refused) = (Vec::new(), Vec::new());
    while granted.len() + refused.len() < 3 {
        match writer.next().await {
            Some(Event::Subscribed { filter }) => granted.push(filter),
            Some(Event::SubscriptionRefused { code, reason, .. }) => refused.push((code, reason)),
            other => panic!("no answer: {other:?}"),
        }
    }
    refused.sort();
    assert_eq!((granted, refused[0].0, refused[1].0), (vec!["t".to_owned()], Some(0x9E), Some(0xA2)));
    assert!(refused[0].1.contains("`[mqtt] shared = false`"), "{refused:?}");
    assert_eq!(subscriptions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_subscription_is_asked_for_again_where_time_may_help() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let url = broker(move |_, mut wire| {
        let count = count.clone();
        async move {
            wire.connect(WELCOME).await;
            // Packet identifier, property length, then the filter with its length.
            while let Some((first, body)) = wire.packet().await {
                if first >> 4 != 8 {
                    continue;
                }
                let code = match (&body[5..], count.fetch_add(1, Ordering::SeqCst)) {
                    ([b'b', ..], _) => 0x8F,
                    (_, 3..) => 0x01,
                    _ => 0x97,
                };
                wire.send(&[0x90, 0x04, body[0], body[1], 0x00, code]).await;
            }
        }
    })
    .await;
    let mut reader_options = options(&url, "reader");
    reader_options.pauses.refused = Duration::from_millis(20);
    let mut reader = Peer::connect(reader_options).await;
    reader.client.subscribe(["bad"]).await.unwrap();
    reader.client.subscribe(["good"]).await.unwrap();
    let mut codes = Vec::new();
    loop {
        match reader.next().await {
            Some(Event::SubscriptionRefused { code, .. }) => codes.push(code),
            Some(Event::Subscribed { filter }) => break assert_eq!(filter, "good"),
            other => panic!("no answer: {other:?}"),
        }
    }
    assert_eq!(codes, [Some(0x8F), Some(0x97), Some(0x97)]);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn an_unwanted_subscription_of_an_earlier_process_is_taken_out_of_its_session() {
    let broker = Mosquitto::start("");
    let mut lasting = options(&broker.url(), "reader");
    lasting.clean_start = false;
    lasting.session_expiry = Duration::from_secs(3600);
    let reader = Peer::subscribe(lasting.clone(), "old").await;
    assert!(reader.client.disconnect(Duration::from_secs(30)).await);

    let mut reader = Peer::start(lasting);
    reader.client.unsubscribe(["old"]).await.unwrap();
    reader.client.subscribe(["new"]).await.unwrap();
    assert!(reader.connected().await);
    reader.until("subscribed", |event| matches!(event, Event::Subscribed { .. }).then_some(())).await;
    broker.publish("old", "stale", &[]);
    broker.publish("new", "fresh", &[]);
    let (payload, ack) = reader.payload().await;
    assert_eq!(payload, "fresh");
    reader.client.ack(ack);
    // And of this one, while connected.
    reader.client.unsubscribe(["new"]).await.unwrap();
    reader.client.subscribe(["last"]).await.unwrap();
    reader.until("subscribed", |event| matches!(event, Event::Subscribed { .. }).then_some(())).await;
    broker.publish("new", "stale", &[]);
    broker.publish("last", "fresh", &[]);
    assert_eq!(reader.payload().await.0, "fresh");
}
