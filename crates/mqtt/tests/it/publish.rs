use mqtt::{Event, Message, PublishError};
use test_servers::Mosquitto;

use super::support::{Peer, message, options};

#[tokio::test]
async fn a_publish_is_acked_and_arrives_with_its_properties() {
    let broker = Mosquitto::start("");
    let mut reader = Peer::subscribe(options(&broker.url(), "reader"), "a/#").await;
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    let sent = Message {
        topic: "a/b".to_owned(),
        payload: b"{\"x\":1}".to_vec().into(),
        retain: false,
        content_type: Some("application/json".to_owned()),
        user_properties: vec![("host".to_owned(), "web-01".to_owned()), ("seq".to_owned(), "7".to_owned())],
    };
    writer.publish(u64::MAX, sent.clone()).await;
    let (received, ack) = reader.received().await;
    reader.client.ack(ack);
    assert_eq!(received, sent);
    assert_eq!(writer.client.in_flight(), 0);
}

#[tokio::test]
async fn a_retained_message_comes_with_the_subscription_and_says_so() {
    let broker = Mosquitto::start("");
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    writer.publish(1, Message { retain: true, ..message("state", "online") }).await;
    let mut reader = Peer::subscribe(options(&broker.url(), "reader"), "state").await;
    let (received, ack) = reader.received().await;
    reader.client.ack(ack);
    assert!(received.retain);
    writer.publish(2, Message { retain: true, ..message("state", "offline") }).await;
    let (received, _ack) = reader.received().await;
    assert!(!received.retain);
    assert_eq!(&received.payload[..], b"offline");
}

#[tokio::test]
async fn no_more_than_max_in_flight_are_taken() {
    let broker = Mosquitto::start("");
    let mut options = options(&broker.url(), "writer");
    options.max_in_flight = 4;
    let mut writer = Peer::connect(options).await;
    for id in 0..4 {
        writer.client.try_publish(id, message("t", "x")).unwrap();
    }
    // The outcomes wait unread, so that no room came back even if all are acked by now.
    let refused = writer.client.try_publish(4, message("t", "kept")).unwrap_err();
    assert!(matches!(refused, PublishError::Full(_)), "{refused}");
    assert_eq!(&refused.into_message().payload[..], b"kept");
    for expected in 0..4 {
        let id =
            writer.until("acked", |event| if let Event::Acked { id, .. } = event { Some(*id) } else { None }).await;
        assert_eq!(id, expected);
    }
    writer.publish(5, message("t", "x")).await;
}

#[tokio::test]
async fn many_publishes_are_acked_one_for_one() {
    let broker = Mosquitto::start("max_inflight_messages 3");
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    let (mut sent, mut acked) = (0_u64, Vec::new());
    while acked.len() < 1000 {
        while sent < 1000 && writer.client.try_publish(sent, message("t", sent.to_string())).is_ok() {
            sent += 1;
        }
        match writer.next().await {
            Some(Event::Acked { id, .. }) => acked.push(id),
            other => panic!("not an acknowledgement: {other:?}"),
        }
    }
    assert_eq!(acked, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused_and_disturbs_nothing_else() {
    let broker = Mosquitto::start("max_packet_size 1000");
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    writer.client.try_publish(1, message("t", [b'x'; 2000])).unwrap();
    writer.client.try_publish(2, message("t/#", "x")).unwrap();
    for expected in [(1, Some(0x95), false), (2, Some(0x90), false)] {
        assert_eq!(writer.refused().await, expected);
    }
    writer.publish(3, message("t", "small")).await;
}

#[tokio::test]
async fn a_publish_the_broker_forbids_is_refused_with_its_code() {
    let acl = tempfile("topic readwrite open/#\n");
    let broker = Mosquitto::start(&format!("acl_file {}\nallow_anonymous true", acl.display()));
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    writer.client.try_publish(1, message("closed", "x")).unwrap();
    assert_eq!(writer.refused().await, (1, Some(0x87), true));
    writer.publish(2, message("open/x", "x")).await;
    std::fs::remove_file(acl).unwrap();
}

fn tempfile(text: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("utilizer-mqtt-acl-{}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}
