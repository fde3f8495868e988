use std::collections::BTreeSet;
use std::time::Duration;

use mqtt::{Cause, Event, PublishError, Secret};
use test_servers::{Mosquitto, free_port};

use super::support::{Peer, lasting_broker, long_pauses, message, options};

#[tokio::test]
async fn a_broker_that_comes_up_later_is_found() {
    let port = free_port();
    let mut writer = Peer::start(options(&format!("mqtt://127.0.0.1:{port}"), "writer"));
    let (reason, retry_in) = writer.disconnected().await;
    assert_eq!((reason.cause, reason.code), (Cause::Unreachable, None), "{reason}");
    assert!(reason.sentence.contains(&format!("127.0.0.1:{port}")), "{reason}");
    assert!(retry_in.is_some());
    let refused = writer.client.try_publish(1, message("t", "x")).unwrap_err();
    assert!(matches!(refused, PublishError::NotConnected(_)), "{refused}");

    // The port is taken by nobody but the broker that is started for it now.
    let _broker = Mosquitto::start(&format!("listener {port} 127.0.0.1"));
    writer.connected().await;
    writer.publish(2, message("t", "x")).await;
}

#[tokio::test]
async fn every_publish_over_a_broker_killed_in_between_is_acked_or_lost() {
    let broker = lasting_broker();
    let mut writer = Peer::connect(options(&broker.url(), "writer")).await;
    let (mut outstanding, mut acked, mut lost) = (BTreeSet::new(), 0, 0);
    let (mut id, mut kills) = (0_u64, 0);
    while kills < 3 || !outstanding.is_empty() {
        while kills < 3 && writer.client.try_publish(id, message("t", id.to_string())).is_ok() {
            outstanding.insert(id);
            id += 1;
        }
        if kills < 3 && acked > 200 * (kills + 1) {
            broker.kill();
            kills += 1;
            broker.again();
        }
        match writer.next().await {
            Some(Event::Acked { id, .. }) => {
                assert!(outstanding.remove(&id), "{id} had its outcome already");
                acked += 1;
            }
            Some(Event::Lost { id }) => {
                assert!(outstanding.remove(&id), "{id} had its outcome already");
                lost += 1;
            }
            Some(Event::Connected { .. } | Event::Disconnected { .. }) => {}
            other => panic!("neither acked nor lost: {other:?}"),
        }
    }
    assert!(lost > 0, "no kill hit a publish under way, so that this test showed nothing");
    assert_eq!(writer.client.in_flight(), 0);
}

#[tokio::test]
async fn acknowledgements_of_an_earlier_connection_are_dropped_and_the_messages_come_again() {
    let broker = lasting_broker();
    let mut reader_options = options(&broker.url(), "reader");
    reader_options.clean_start = false;
    reader_options.session_expiry = Duration::from_secs(3600);
    let mut reader = Peer::subscribe(reader_options, "t").await;
    broker.publish("t", "one", &[]);
    let (payload, stale) = reader.payload().await;
    assert_eq!(payload, "one");
    // In order, so that the broker writes the session to its disk.
    broker.stop();
    broker.again();
    assert!(reader.connected().await);
    let (payload, fresh) = reader.payload().await;
    assert_eq!(payload, "one");
    reader.client.ack(stale);
    reader.client.ack(fresh);
    broker.publish("t", "two", &[]);
    let (payload, ack) = reader.payload().await;
    assert_eq!(payload, "two");
    reader.client.ack(ack);
    assert!(reader.client.disconnect(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn subscriptions_are_renewed_where_the_session_is_gone() {
    let broker = Mosquitto::start("");
    let mut reader = Peer::subscribe(options(&broker.url(), "reader"), "t").await;
    broker.kill();
    broker.again();
    assert!(!reader.connected().await);
    reader.until("subscribed", |event| matches!(event, Event::Subscribed { .. }).then_some(())).await;
    broker.publish("t", "after", &[]);
    assert_eq!(reader.payload().await.0, "after");
}

#[tokio::test]
async fn a_session_taken_over_is_told_or_hinted_at() {
    let broker = Mosquitto::start("");
    let mut twin = options(&broker.url(), "twin");
    twin.pauses = long_pauses();
    let mut first = Peer::connect(twin.clone()).await;
    let _second = Peer::connect(twin).await;
    let (reason, retry_in) = first.disconnected().await;
    // mosquitto before 2.0.15 closes without a word.
    match reason.cause {
        Cause::TakenOver => assert_eq!((reason.code, retry_in), (Some(0x8E), None)),
        cause => assert_eq!(cause, Cause::Closed),
    }
    assert!(reason.sentence.contains("\"twin\""), "{reason}");
}

#[tokio::test]
async fn a_wrong_password_is_told_as_one_and_shown_nowhere() {
    let passwords = std::env::temp_dir().join(format!("utilizer-mqtt-passwords-{}", std::process::id()));
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c", &passwords.to_string_lossy(), "user", "right-horse"])
        .status()
        .unwrap();
    assert!(made.success());
    let broker = Mosquitto::start(&format!("allow_anonymous false\npassword_file {}", passwords.display()));
    let mut wrong = options(&broker.url(), "writer");
    wrong.username = Some("user".to_owned());
    wrong.password = Some(Secret::new("wrong-horse"));
    wrong.pauses = long_pauses();
    let mut writer = Peer::start(wrong.clone());
    let (reason, retry_in) = writer.disconnected().await;
    assert_eq!(reason.cause, Cause::Credentials, "{reason}");
    assert!(matches!(reason.code, Some(0x86 | 0x87)), "{reason}");
    assert!(retry_in.is_some());
    let shown = format!("{wrong:?} {reason:?} {reason} {:?} {:?}", writer.client, writer.events);
    assert!(!shown.contains("horse"), "{shown}");

    let mut right = wrong;
    right.password = Some(Secret::new("right-horse"));
    Peer::connect(right).await.publish(1, message("t", "x")).await;
    std::fs::remove_file(passwords).unwrap();
}
