//! Passwords and certificates that change while a client runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mqtt::{Cause, Credentials, Disconnect, Options, Secret, Source, Tls};
use test_servers::Mosquitto;

use super::support::{Peer, message, options};
use super::tls::Authority;

/// A folder of one test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("utilizer-mqtt-renewal-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn set_password(file: &Path, password: &str) {
    let mut command = Command::new("mosquitto_passwd");
    command.arg("-b");
    if !file.exists() {
        command.arg("-c");
    }
    assert!(command.arg(file).args(["user", password]).status().unwrap().success());
}

/// As a daemon reads it.
fn password_from(file: PathBuf) -> Source {
    Source::new(move || {
        let text = fs::read_to_string(&file).map_err(|error| format!("can't read the password file: {error}"))?;
        Ok(Credentials { password: Some(Secret::new(text)), tls: Tls::default() })
    })
}

/// Reads until a connection fails for this cause.
async fn failed(peer: &mut Peer, cause: Cause) -> Disconnect {
    loop {
        let (reason, _) = peer.disconnected().await;
        if reason.cause == cause {
            return reason;
        }
        assert_eq!(reason.cause, Cause::Closed, "{reason}");
    }
}

#[tokio::test]
async fn a_changed_password_is_taken_up_at_the_next_connection_and_not_before() {
    let folder = Folder::make("password");
    let (ours, theirs) = (folder.file("ours"), folder.file("theirs"));
    set_password(&theirs, "first");
    fs::write(&ours, "first").unwrap();
    let broker = Mosquitto::start(&format!("allow_anonymous false\npassword_file {}", theirs.display()));
    let mut user = options(&broker.url(), "user");
    user.username = Some("user".to_owned());
    user.source = Some(password_from(ours.clone()));
    // A password of the options is only the first one.
    user.password = Some(Secret::new("never used"));
    let mut writer = Peer::connect(user).await;

    // What is wrong now disturbs no connection that stands.
    fs::write(&ours, "second").unwrap();
    writer.publish(1, message("t", "x")).await;
    // mosquitto closes the connections whose passwords do not hold any more.
    set_password(&theirs, "second");
    broker.reload();
    writer.disconnected().await;
    writer.connected().await;
    writer.publish(2, message("t", "x")).await;

    // The broker's side changed first: refused until the file follows.
    set_password(&theirs, "third");
    broker.reload();
    failed(&mut writer, Cause::Credentials).await;
    fs::remove_file(&ours).unwrap();
    let reason = loop {
        let reason = failed(&mut writer, Cause::Credentials).await;
        if reason.sentence.contains("can't be renewed") {
            break reason;
        }
    };
    assert!(reason.sentence.contains("can't read the password file"), "{reason}");
    fs::write(&ours, "third").unwrap();
    writer.connected().await;
    writer.publish(3, message("t", "x")).await;
    assert!(!format!("{writer:?}").contains("third"));
}

#[tokio::test]
async fn a_source_that_hangs_holds_up_neither_the_connection_nor_a_stop() {
    let broker = Mosquitto::start("");
    let mut hanging = options(&broker.url(), "hanging");
    hanging.connect_timeout = Duration::from_millis(200);
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    hanging.source = Some(Source::new(move || {
        // For longer than any test; ended by the sender's drop.
        let _ = receiver.lock().unwrap().recv_timeout(Duration::from_secs(3600));
        Err("the reading was ended".to_owned())
    }));
    let mut writer = Peer::connect(hanging).await;
    writer.publish(1, message("t", "x")).await;
    broker.kill();
    writer.disconnected().await;
    assert!(!writer.client.disconnect(Duration::from_secs(3600)).await);
    drop(_sender);
}

/// As a daemon reads them.
fn certificates_from(authority: &Authority) -> Source {
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| authority.file(name));
    Source::new(move || {
        let read = |file: &Path| fs::read(file).map_err(|error| format!("can't read {}: {error}", file.display()));
        let tls = Tls { ca: Some(read(&ca)?), identity: Some((read(&cert)?, read(&key)?)), ..Tls::default() };
        Ok(Credentials { password: None, tls })
    })
}

#[tokio::test]
async fn a_renewed_client_certificate_is_taken_up_by_itself() {
    let authority = Authority::make("renewed");
    authority.sign("client", -1);
    let (broker, port) = authority.broker("require_certificate true\nuse_identity_as_username true");
    let mut client: Options = authority.options("127.0.0.1", port);
    client.pauses.first = Duration::from_millis(20);
    client.pauses.most = Duration::from_millis(200);
    client.source = Some(certificates_from(&authority));
    let mut writer = Peer::start(client);
    let reason = failed(&mut writer, Cause::Tls).await;
    assert!(reason.sentence.contains("`cert_file` has to be renewed"), "{reason}");

    // Half of a renewal: the key does not fit. The old one stays, and the sentence says why.
    authority.sign("client", 2);
    let key = authority.read("client.key");
    fs::write(authority.file("client.key"), authority.read("server.key")).unwrap();
    loop {
        let reason = failed(&mut writer, Cause::Tls).await;
        if reason.sentence.contains("can't be renewed") {
            assert!(reason.sentence.contains("do not go together"), "{reason}");
            break;
        }
    }
    fs::write(authority.file("client.key"), key).unwrap();
    writer.connected().await;
    writer.publish(1, message("t", "x")).await;

    // A new authority on both sides, and the broker started anew over it.
    let other = Authority::make("successor");
    for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
        fs::write(authority.file(name), other.read(name)).unwrap();
    }
    writer.publish(2, message("t", "x")).await;
    broker.kill();
    broker.again();
    writer.connected().await;
    writer.publish(3, message("t", "x")).await;
}

#[tokio::test]
async fn an_expired_certificate_of_the_broker_is_named_as_one() {
    let authority = Authority::make("expired");
    authority.sign("server", -1);
    let (_broker, port) = authority.broker("");
    let (reason, _) = Peer::start(authority.options("127.0.0.1", port)).disconnected().await;
    assert_eq!(reason.cause, Cause::Tls, "{reason}");
    assert!(reason.sentence.contains("the broker's certificate has to be renewed"), "{reason}");
}
