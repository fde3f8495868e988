//! Two clients under one id, at a mosquitto that does not tell them of each other.

use std::time::Duration;

use mqtt::{Cause, Event, Options};
use test_servers::Mosquitto;

use super::script::{WELCOME, broker, connack};
use super::support::{Peer, message, options};

fn twin(url: &str) -> Options {
    let mut twin = options(url, "twin");
    twin.keep_alive = Duration::from_secs(2);
    twin.session_expiry = Duration::from_secs(1);
    // Short enough for a test, and long enough for a connection to be closed within twice of it by another.
    twin.pauses.most = Duration::from_secs(2);
    twin.pauses.rival = Duration::from_secs(3600);
    twin
}

#[tokio::test]
async fn two_clients_of_one_id_do_not_fight_for_ever() {
    let broker = Mosquitto::start("");
    // Neither knows of the other, and each takes its turns at random: one of them has to find out, and both may.
    let mut twins = [Peer::start(twin(&broker.url())), Peer::start(twin(&broker.url()))];
    let [first, second] = &mut twins;
    let gave_way = tokio::select! {
        reason = left_to_the_other(first) => (reason, 0),
        reason = left_to_the_other(second) => (reason, 1),
    };
    let ((sentence, pause), index) = gave_way;
    assert!(sentence.contains("\"twin\"") && sentence.contains("own name"), "{sentence}");
    assert!(pause.is_some_and(|pause| pause >= Duration::from_secs(3600)), "{pause:?}");
    // The other one has the connection now, and keeps it.
    let mut events = twins.into_iter();
    let mut other = events.nth(1 - index).unwrap();
    let mut connected = false;
    loop {
        match tokio::time::timeout(Duration::from_secs(2), other.events.recv()).await {
            Err(_) if connected => break,
            Err(_) => {}
            Ok(Some(Event::Connected { .. })) => connected = true,
            Ok(Some(Event::Disconnected { reason, .. })) => {
                assert_eq!(reason.cause, Cause::Closed, "both gave way: {reason}");
                connected = false;
            }
            Ok(event) => panic!("{event:?}"),
        }
    }
    other.publish(1, message("t", "x")).await;
}

/// Reads events until this client gives way.
async fn left_to_the_other(peer: &mut Peer) -> (String, Option<Duration>) {
    loop {
        let (reason, retry_in) = peer.disconnected().await;
        match reason.cause {
            Cause::Rival => return (reason.sentence, retry_in),
            Cause::Closed => {}
            cause => panic!("{cause:?}: {reason}"),
        }
    }
}

#[tokio::test]
async fn a_broker_that_closes_each_connection_is_no_rival() {
    // Closes the first six connections without a word, as one does that crashes over something; then behaves.
    let url = broker(|number, mut wire| async move {
        if number < 6 {
            wire.connect(WELCOME).await;
        } else {
            wire.connect(&connack(false, 0, &[])).await;
            wire.obey().await;
        }
    })
    .await;
    let mut client_options = twin(&url);
    client_options.keep_alive = Duration::ZERO;
    client_options.session_expiry = Duration::from_millis(1);
    let mut client = Peer::start(client_options);
    let mut ends = 0;
    loop {
        match client.next().await {
            Some(Event::Disconnected { reason, .. }) => {
                assert_eq!(reason.cause, Cause::Closed, "{reason}");
                ends += 1;
            }
            Some(Event::Connected { .. }) if ends == 5 => break,
            Some(Event::Connected { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    client.publish(1, message("t", "x")).await;
}
