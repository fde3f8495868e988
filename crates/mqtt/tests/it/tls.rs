use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mqtt::{Cause, Options, Tls};
use test_servers::{Mosquitto, free_port};

use super::support::{Peer, long_pauses, message, options};

/// Keys and certificates in a folder of their own: an authority, a server for 127.0.0.1 and a client.
pub(super) struct Authority(PathBuf);

impl Authority {
    pub(super) fn make(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("utilizer-mqtt-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
        fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n").unwrap();
        let authority = Self(dir);
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        authority.openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN={name}"));
        for who in ["server", "client"] {
            authority.openssl(&format!("req {key} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
            authority.sign(who, 2);
        }
        authority
    }

    /// Makes `who.pem` anew, for so many days from now; with -1 it expired yesterday.
    pub(super) fn sign(&self, who: &str, days: i32) {
        self.openssl(&format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {who}.pem -days {days} -extfile {who}.ext"
        ));
    }

    pub(super) fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").current_dir(&self.0).args(arguments.split(' ')).output();
        let output = output.expect("openssl runs; install it with: apt-get install openssl");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    /// A broker with a TLS listener of this authority; returns its port.
    pub(super) fn broker(&self, more: &str) -> (Mosquitto, u16) {
        let port = free_port();
        let show = |path: &Path| path.display().to_string();
        let broker = Mosquitto::start(&format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n{more}",
            show(&self.file("ca.pem")),
            show(&self.file("server.pem")),
            show(&self.file("server.key")),
        ));
        (broker, port)
    }

    pub(super) fn options(&self, host: &str, port: u16) -> Options {
        let mut options = options(&format!("mqtts://{host}:{port}"), "tls");
        options.tls = Tls { ca: Some(self.read("ca.pem")), ..Tls::default() };
        options.pauses = long_pauses();
        options
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn tls_with_an_own_authority() {
    let authority = Authority::make("own");
    let (_broker, port) = authority.broker("");
    Peer::connect(authority.options("127.0.0.1", port)).await.publish(1, message("t", "x")).await;
}

#[tokio::test]
async fn a_certificate_of_a_stranger_or_for_another_name_is_refused() {
    let (authority, stranger) = (Authority::make("known"), Authority::make("stranger"));
    let (_broker, port) = authority.broker("");
    let mut wrong_authority = authority.options("127.0.0.1", port);
    wrong_authority.tls = stranger.options("127.0.0.1", port).tls;
    for (options, remedy) in [(wrong_authority, "`ca_file`"), (authority.options("localhost", port), "`url`")] {
        let (reason, _) = Peer::start(options).disconnected().await;
        assert_eq!(reason.cause, Cause::Tls, "{reason}");
        assert!(reason.sentence.contains(remedy), "{reason}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let authority = Authority::make("mutual");
    let (_broker, port) = authority.broker("require_certificate true\nuse_identity_as_username true");
    let without = authority.options("127.0.0.1", port);
    let (reason, _) = Peer::start(without.clone()).disconnected().await;
    assert!(matches!(reason.cause, Cause::Tls | Cause::Closed), "{reason:?}");
    let mut with = without;
    with.tls.identity = Some((authority.read("client.pem"), authority.read("client.key")));
    Peer::connect(with).await.publish(1, message("t", "x")).await;
}

#[tokio::test]
async fn a_plain_client_at_a_tls_port_is_told_something() {
    let authority = Authority::make("plain");
    let (_broker, port) = authority.broker("");
    let mut options = options(&format!("mqtt://127.0.0.1:{port}"), "plain");
    options.pauses = long_pauses();
    let (reason, _) = Peer::start(options).disconnected().await;
    assert!(matches!(reason.cause, Cause::Protocol | Cause::Closed), "{reason:?}");
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_found_at_the_start() {
    let authority = Authority::make("pairs");
    let mut options = authority.options("127.0.0.1", 1);
    options.tls.identity = Some((authority.read("client.pem"), authority.read("server.key")));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async { mqtt::Client::start(options).unwrap_err() }).to_string();
    assert!(error.contains("`key_file`") && error.contains("`cert_file`"), "{error}");
}
