//! Brokers that are there and say nothing.

use std::time::{Duration, Instant};

use mqtt::{Cause, Event, PublishError};

use super::script::{WELCOME, broker, connack};
use super::support::{Peer, message, options};

/// What a busy machine may add to a limit before a test calls it missed.
const SLACK: Duration = Duration::from_secs(20);

async fn until_timeout(peer: &mut Peer) -> Duration {
    let begun = Instant::now();
    let (reason, _) = peer.disconnected().await;
    assert_eq!(reason.cause, Cause::Timeout, "{reason}");
    begun.elapsed()
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_while_nothing_is_sent() {
    let url = broker(|_, mut wire| async move {
        wire.connect(WELCOME).await;
        // Takes everything, answers nothing.
        while wire.packet().await.is_some() {}
    })
    .await;
    let mut client_options = options(&url, "client");
    client_options.keep_alive = Duration::from_secs(2);
    let mut client = Peer::connect(client_options).await;
    assert!(until_timeout(&mut client).await < SLACK);
}

#[tokio::test]
async fn a_broker_that_takes_no_more_bytes_is_noticed_though_the_library_is_in_the_middle_of_a_write() {
    // The broker demands the keep-alive time of 2 s, since the client's own would be waited for too long.
    let url = broker(|_, mut wire| async move {
        wire.connect(&connack(false, 0, &[0x13, 0, 2])).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut client_options = options(&url, "client");
    client_options.keep_alive = Duration::from_secs(3600);
    let mut client = Peer::connect(client_options).await;
    let mut id = 0;
    let full = loop {
        id += 1;
        match client.client.try_publish(id, message("t", vec![0; 1 << 20])) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, PublishError::Full(_)), "{full}");
    assert!(until_timeout(&mut client).await < SLACK);
}

#[tokio::test]
async fn a_broker_that_answers_is_not_given_up_however_seldom_it_has_something_to_say() {
    let url = broker(|_, mut wire| async move {
        wire.connect(&connack(false, 0, &[0x13, 0, 1])).await;
        wire.obey().await;
    })
    .await;
    let mut client = Peer::connect(options(&url, "client")).await;
    // Three keep-alive times and more, with nothing but pings on the wire.
    let quiet = tokio::time::timeout(Duration::from_secs(4), client.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    client.publish(1, message("t", "x")).await;
}

#[tokio::test]
async fn a_broker_without_a_connack_is_left_after_the_time_for_an_attempt() {
    let url = broker(|_, mut wire| async move { while wire.packet().await.is_some() {} }).await;
    let mut client_options = options(&url, "client");
    client_options.connect_timeout = Duration::from_millis(200);
    let mut client = Peer::start(client_options);
    for _ in 0..3 {
        until_timeout(&mut client).await;
    }
    assert!(!client.client.disconnect(Duration::from_secs(3600)).await);
    while let Some(event) = client.next().await {
        assert!(matches!(event, Event::Disconnected { .. }), "{event:?}");
    }
}
