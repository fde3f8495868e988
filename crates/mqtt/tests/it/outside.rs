//! Peers that are not what they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mqtt::{Cause, Event, PublishError};
use test_servers::Mosquitto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Peer, message, options};

/// Stands before a broker and, when told, swallows what it says.
pub(super) struct Silent {
    port: u16,
    swallow: Arc<AtomicBool>,
}

impl Silent {
    pub(super) async fn before(broker: &Mosquitto) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let swallow = Arc::new(AtomicBool::new(false));
        let (quiet, target) = (swallow.clone(), broker.port());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
                let quiet = quiet.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 4096];
                    while let Ok(length @ 1..) = far_in.read(&mut buffer).await {
                        if !quiet.load(Ordering::SeqCst) && near_out.write_all(&buffer[..length]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { port, swallow }
    }

    pub(super) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub(super) fn swallow(&self) {
        self.swallow.store(true, Ordering::SeqCst);
    }
}

/// Answers each connection's first bytes with these, says no more, and closes when the other side does.
async fn answering(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            while let Ok(1..) = stream.read(&mut buffer).await {}
        }
    });
    url
}

#[tokio::test]
async fn a_peer_that_speaks_no_mqtt_is_a_fault_and_no_more() {
    for bytes in
        [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), vec![0xFF; 64], vec![0x20, 0xFF, 0xFF, 0xFF, 0xFF], vec![]]
    {
        let url = answering(bytes.clone()).await;
        let mut client = Peer::start(options(&url, "client"));
        let (reason, retry_in) = client.disconnected().await;
        assert!(matches!(reason.cause, Cause::Protocol | Cause::Closed), "{bytes:02X?}: {reason:?}");
        assert!(retry_in.is_some());
    }
}

#[tokio::test]
async fn a_broker_for_older_versions_only_is_named_as_one() {
    // CONNACK with reason 0x84, unsupported protocol version.
    let url = answering(vec![0x20, 0x03, 0x00, 0x84, 0x00]).await;
    let (reason, _) = Peer::start(options(&url, "client")).disconnected().await;
    assert_eq!((reason.cause, reason.code), (Cause::Refused, Some(0x84)));
    assert!(reason.sentence.contains("MQTT v5"), "{reason}");
}

#[tokio::test]
async fn a_broker_without_qos_1_is_refused() {
    // CONNACK, success, with Maximum QoS (0x24) 0.
    let url = answering(vec![0x20, 0x05, 0x00, 0x00, 0x02, 0x24, 0x00]).await;
    let (reason, _) = Peer::start(options(&url, "client")).disconnected().await;
    assert_eq!(reason.cause, Cause::Protocol);
    assert!(reason.sentence.contains("QoS 1"), "{reason}");
}

#[tokio::test]
async fn a_broker_that_says_goodbye_in_a_word_is_understood() {
    // CONNACK and DISCONNECT 0x8E, with its empty property list left out, as brokers do.
    let url = answering(vec![0x20, 0x03, 0x00, 0x00, 0x00, 0xE0, 0x01, 0x8E]).await;
    let mut twin = Peer::start(options(&url, "twin"));
    let (reason, retry_in) = twin.disconnected().await;
    assert_eq!((reason.cause, reason.code, retry_in), (Cause::TakenOver, Some(0x8E), None), "{reason}");
    assert!(reason.sentence.contains("\"twin\""), "{reason}");
    assert!(twin.next().await.is_none());
    let refused = twin.client.try_publish(1, message("t", "x")).unwrap_err();
    assert!(matches!(refused, PublishError::Stopped(_)), "{refused}");
    assert!(!twin.client.disconnect(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn a_silent_broker_is_left_after_the_keep_alive() {
    let broker = Mosquitto::start("");
    let silent = Silent::before(&broker).await;
    let mut options = options(&silent.url(), "client");
    options.keep_alive = Duration::from_secs(1);
    let mut client = Peer::connect(options).await;
    silent.swallow();
    client.client.try_publish(1, message("t", "x")).unwrap();
    client.until("lost", |event| matches!(event, Event::Lost { id: 1 }).then_some(())).await;
    let (reason, _) = client.disconnected().await;
    assert_eq!(reason.cause, Cause::Timeout, "{reason}");
}
