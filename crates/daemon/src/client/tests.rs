use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;

/// Long enough that a busy machine does not reach it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A deadline that is meant to be reached.
const SOON: Duration = Duration::from_millis(300);

/// What a server does with each connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Reads the head, sends this, closes.
    Says(&'static str),
    /// Reads the head, sends this, and nothing more.
    Stalls(&'static str),
    /// Sends this without reading anything.
    Blurts(&'static str),
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Answers connections until the test ends, and tells what was asked.
async fn server(manner: Manner, tls: Option<TlsAcceptor>) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, tell) = (tls.clone(), tell.clone());
            tokio::spawn(async move {
                match tls {
                    None => answer(stream, manner, &tell).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, manner, &tell).await;
                        }
                    }
                }
            });
        }
    });
    (port, told)
}

async fn answer<S>(mut stream: S, manner: Manner, tell: &tokio::sync::mpsc::UnboundedSender<String>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let says = match manner {
        Manner::Blurts(says) => says,
        Manner::Says(says) | Manner::Stalls(says) => {
            let mut head = Vec::new();
            while !String::from_utf8_lossy(&head).contains("\r\n\r\n") {
                let mut piece = [0; 4096];
                match stream.read(&mut piece).await {
                    Ok(read) if read > 0 => head.extend_from_slice(&piece[..read]),
                    _ => return,
                }
            }
            let _ = tell.send(String::from_utf8(head).unwrap());
            says
        }
    };
    let _ = stream.write_all(says.as_bytes()).await;
    let _ = stream.flush().await;
    if matches!(manner, Manner::Stalls(_)) {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
    // What is still sent is read, since closing over it would take back the answer.
    let _ = tokio::time::timeout(SOON, async { while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} })
        .await;
}

fn url(port: u16) -> SecretUrl {
    format!("http://127.0.0.1:{port}/hook/hush?token=hush").parse().unwrap()
}

fn client() -> Client {
    Client::new(&TlsSettings::default()).unwrap()
}

async fn ask(url: &SecretUrl, deadline: Duration) -> Result<Response, SendError> {
    let answer = client().send(Target::Url(url), Request::get(), deadline, 64).await;
    if let Err(error) = &answer {
        let said = format!("{error} {error:?} {url} {url:?}");
        assert!(!said.contains("hush"), "a secret shows: {said}");
    }
    answer
}

#[tokio::test]
async fn an_answer_is_read_piece_by_piece() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let read = async |manner| {
        let (port, _told) = server(manner, None).await;
        let mut answer = client().open(Target::Url(&url(port)), Request::get(), PATIENCE).await?;
        let mut text = Vec::new();
        while let Some(piece) = answer.next(SOON).await? {
            text.extend_from_slice(&piece);
        }
        Ok::<_, SendError>((answer.status, String::from_utf8(text).unwrap()))
    };
    assert_eq!(read(Manner::Says(chunked)).await.unwrap(), (200, "abcde".to_owned()));
    assert_eq!(read(Manner::Says(OK)).await.unwrap(), (200, "hello".to_owned()));
    let cut = &chunked[..chunked.len() - 5];
    for (manner, part) in [
        (Manner::Says(cut), "unexpected EOF"),
        (Manner::Stalls(cut), "did not end"),
        (Manner::Blurts("nonsense\r\n\r\n"), "not HTTP"),
    ] {
        let error = read(manner).await.unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn a_request_arrives_whole_and_the_answer_comes_back() {
    let (port, mut told) = server(Manner::Says(OK), None).await;
    let request = Request::post("application/json", "{}").with(header::AUTHORIZATION, basic("me", "hush"));
    assert!(!format!("{request:?}").contains("bWU6"), "{request:?}");
    let answer = client().send(Target::Url(&url(port)), request, PATIENCE, 64).await.unwrap();
    assert!(answer.is_success() && !answer.is_cut && answer.body == "hello" && answer.fault().is_none(), "{answer:?}");
    let asked = told.recv().await.unwrap();
    assert!(asked.starts_with("POST /hook/hush?token=hush HTTP/1.1\r\n"), "{asked}");
    let version = env!("CARGO_PKG_VERSION");
    for part in [
        format!("host: 127.0.0.1:{port}\r\n"),
        "authorization: Basic bWU6aHVzaA==\r\n".to_owned(),
        "content-type: application/json\r\n".to_owned(),
        "content-length: 2\r\n".to_owned(),
        format!("user-agent: utilizer/{version}\r\n"),
    ] {
        assert!(asked.contains(&part), "{asked}");
    }
    assert!(bearer("a\nb").is_none() && bearer("a").is_some_and(|value| value == "Bearer a" && value.is_sensitive()));
}

#[tokio::test]
async fn a_unix_socket_is_asked_likewise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, Manner::Says(OK), &tell).await;
    });
    let uri = Uri::from_static("/run?x=1");
    let answer = client().send(Target::Unix(&path, &uri), Request::get(), PATIENCE, 64).await.unwrap();
    assert_eq!(answer.body, "hello");
    assert!(told.recv().await.unwrap().starts_with("GET /run?x=1 HTTP/1.1\r\n"));
    let nowhere = folder.path().join("none");
    let error = client().send(Target::Unix(&nowhere, &uri), Request::get(), PATIENCE, 64).await.unwrap_err();
    assert!(matches!(&error, SendError::Connect { why, .. } if why == "there is no such file"), "{error}");
}

#[tokio::test]
async fn slow_servers_are_left_at_the_deadline() {
    for (manner, stage) in [
        (Manner::Stalls(""), Stage::Answer),
        (Manner::Stalls("HTTP/1.1 200 OK\r\nx: "), Stage::Answer),
        (Manner::Stalls("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"), Stage::Body),
    ] {
        let (port, _told) = server(manner, None).await;
        let error = ask(&url(port), SOON).await.unwrap_err();
        assert!(matches!(error, SendError::Timeout { stage: at, .. } if at == stage), "{error}");
        assert!(error.may_have_arrived());
    }
    // A refusal is known by its head, whatever becomes of its body.
    let (port, _told) = server(Manner::Stalls("HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nab"), None).await;
    let answer = ask(&url(port), SOON).await.unwrap();
    assert_eq!((answer.status, &*answer.body, answer.is_cut), (500, &b"ab"[..], true));
}

#[tokio::test]
async fn a_connection_that_hangs_ends_at_the_deadline() {
    // Nobody accepts, and the queue of one is full.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SOON, tokio::net::TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let error = ask(&url(address.port()), SOON).await.unwrap_err();
    assert!(matches!(error, SendError::Timeout { stage: Stage::Connect, .. }), "{error}");
    assert!(!error.may_have_arrived());
    let (port, _told) = server(Manner::Stalls(""), None).await;
    let silent: SecretUrl = format!("https://127.0.0.1:{port}/hush").parse().unwrap();
    let folder = Authority::new();
    let error = folder.client("ca.pem", None).send(Target::Url(&silent), Request::get(), SOON, 64).await.unwrap_err();
    assert!(matches!(error, SendError::Timeout { stage: Stage::Tls, .. }), "{error}");
}

#[tokio::test]
async fn what_nobody_answers_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = ask(&url(free), PATIENCE).await.unwrap_err();
    let said = format!("can't connect to http://127.0.0.1:{free}: nobody listens there (connection refused)");
    assert_eq!(error.to_string(), said);
    let nowhere: SecretUrl = "http://no-such-host.invalid/hush".parse().unwrap();
    let error = ask(&nowhere, PATIENCE).await.unwrap_err();
    assert!(matches!(error, SendError::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let (port, _told) = server(Manner::Says(OK), None).await;
    let url: SecretUrl = format!("http://localhost:{port}/").parse().unwrap();
    assert_eq!(ask(&url, PATIENCE).await.unwrap().body, "hello");
    let refused = format!("[::1]:{port}").parse().unwrap();
    let good = format!("127.0.0.1:{port}").parse().unwrap();
    let until = Instant::now() + PATIENCE;
    assert!(stream::connect(&url, &[refused, good], until).await.unwrap().is_some());
    assert!(stream::connect(&url, &[refused], until).await.is_err());
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    for (manner, part) in [
        (Manner::Says("SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
        (Manner::Blurts("\u{1}\u{2}garbage\r\n\r\n"), ""),
        (Manner::Says(""), "before its answer was whole"),
        (Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nab"), ""),
        (Manner::Says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), ""),
    ] {
        let (port, _told) = server(manner, None).await;
        let error = ask(&url(port), PATIENCE).await.unwrap_err();
        assert!(matches!(&error, SendError::Protocol { why, .. } if why.contains(part)), "{error}");
    }
}

#[tokio::test]
async fn answers_are_bounded() {
    let big: &str = Box::leak(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1 << 20)).into_boxed_str());
    let (port, _told) = server(Manner::Says(big), None).await;
    let answer = ask(&url(port), PATIENCE).await.unwrap();
    assert_eq!((answer.body.len(), answer.is_cut), (64, true));
    let exact: &str = Box::leak(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(64)).into_boxed_str());
    let (port, _told) = server(Manner::Says(exact), None).await;
    let answer = ask(&url(port), PATIENCE).await.unwrap();
    assert_eq!((answer.body.len(), answer.is_cut), (64, false));
    let head: &str = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)).into_boxed_str());
    let (port, _told) = server(Manner::Says(head), None).await;
    assert!(matches!(ask(&url(port), PATIENCE).await.unwrap_err(), SendError::Protocol { .. }));
}

#[tokio::test]
async fn redirects_are_told_and_not_followed() {
    let to = "HTTP/1.1 302 Found\r\nlocation: https://other.example/hush\r\ncontent-length: 0\r\n\r\n";
    let (port, _told) = server(Manner::Says(to), None).await;
    let fault = ask(&url(port), PATIENCE).await.unwrap().fault().unwrap();
    assert!(fault.starts_with("it answers 302 (Found) and sends on to https://other.example:443,"), "{fault}");
    assert!(!fault.contains("hush"));
}

/// An authority of this test's own, a server's certificate `server` for 127.0.0.1, a client's `client`, and `old`, which
/// was valid yesterday.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for name in ["ca", "other"] {
            authority.openssl(&format!("req -x509 {key} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"));
        }
        std::fs::write(authority.path("names"), "subjectAltName=IP:127.0.0.1").unwrap();
        std::fs::write(authority.path("named"), "subjectAltName=DNS:else.example").unwrap();
        for (who, names, days) in
            [("server", "names", "2"), ("client", "names", "2"), ("old", "names", "-1"), ("else", "named", "2")]
        {
            authority.openssl(&format!("req {key} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
            authority.openssl(&format!(
                "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {who}.pem -days {days} -extfile {names}"
            ));
        }
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").current_dir(self.0.path()).args(arguments.split(' ')).output();
        let output =
            output.unwrap_or_else(|e| panic!("can't run openssl ({e}); install it with: apt-get install openssl"));
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `asks`: a client must show a certificate of the authority.
    fn acceptor(&self, who: &str, asks: bool) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(self.path(&format!("{who}.pem"))).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{who}.key"))).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if asks {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain.collect(), key).unwrap()))
    }

    fn client(&self, ca: &str, identity: Option<&str>) -> Client {
        let file = |end: &str| identity.map(|who| self.path(&format!("{who}.{end}")));
        Client::new(&TlsSettings {
            ca_file: Some(self.path(ca)),
            cert_file: file("pem"),
            key_file: file("key"),
            ..TlsSettings::default()
        })
        .unwrap()
    }
}

#[tokio::test]
async fn certificates_are_verified() {
    let authority = Authority::new();
    let ask = async |who: &str, asks: bool, client: Client| {
        let (port, _told) = server(Manner::Says(OK), Some(authority.acceptor(who, asks))).await;
        let url: SecretUrl = format!("https://127.0.0.1:{port}/hush").parse().unwrap();
        client.send(Target::Url(&url), Request::get(), PATIENCE, 64).await.map_err(|error| {
            assert!(!error.to_string().contains("hush"), "{error}");
            error
        })
    };
    assert_eq!(ask("server", false, authority.client("ca.pem", None)).await.unwrap().body, "hello");
    assert_eq!(ask("server", true, authority.client("ca.pem", Some("client"))).await.unwrap().body, "hello");
    for (who, ca, part) in [
        ("server", "other.pem", "`ca_file` must hold the authority"),
        ("else", "ca.pem", "must name the host"),
        ("old", "ca.pem", "has to be renewed"),
    ] {
        let error = ask(who, false, authority.client(ca, None)).await.unwrap_err();
        assert!(matches!(&error, SendError::Tls { why, .. } if why.contains(part)), "{who} {ca}: {error}");
    }
    // The system knows nothing of this authority.
    if let Err(error) = ask("server", false, client()).await {
        assert!(matches!(error, SendError::Tls { .. }), "{error}");
    } else {
        panic!("a certificate of an unknown authority was taken");
    }
    let anybody = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
    for who in ["server", "else", "old"] {
        let answer = ask(who, false, Client::new(&anybody).unwrap()).await.unwrap();
        assert_eq!(answer.body, "hello", "whoever it is");
    }
    // The server's refusal comes after the handshake in TLS 1.3.
    assert!(ask("server", true, authority.client("ca.pem", None)).await.is_err());
    let settings = TlsSettings {
        ca_file: Some(authority.path("ca.pem")),
        server_name: Some("else.example".to_owned()),
        ..TlsSettings::default()
    };
    assert_eq!(ask("else", false, Client::new(&settings).unwrap()).await.unwrap().body, "hello");
}

#[tokio::test]
async fn renewed_files_are_taken_up() {
    let authority = Authority::new();
    std::fs::copy(authority.path("other.pem"), authority.path("trusted.pem")).unwrap();
    let client = authority.client("trusted.pem", None);
    let (port, _told) = server(Manner::Says(OK), Some(authority.acceptor("server", false))).await;
    let url: SecretUrl = format!("https://127.0.0.1:{port}/").parse().unwrap();
    assert!(client.send(Target::Url(&url), Request::get(), PATIENCE, 64).await.is_err());
    std::fs::copy(authority.path("ca.pem"), authority.path("trusted.pem")).unwrap();
    assert!(client.send(Target::Url(&url), Request::get(), PATIENCE, 64).await.is_ok());
    std::fs::write(authority.path("trusted.pem"), "half").unwrap();
    assert!(client.send(Target::Url(&url), Request::get(), PATIENCE, 64).await.is_ok(), "the old ones stay in use");
}

#[test]
fn faulty_files_are_named_by_their_keys() {
    let authority = Authority::new();
    let path = |name: &str| Some(authority.path(name));
    let none = TlsSettings::default();
    for (settings, key, part) in [
        (TlsSettings { ca_file: path("nothing.pem"), ..none.clone() }, "ca_file", "can't read"),
        (TlsSettings { cert_file: path("client.pem"), ..none.clone() }, "cert_file", "go together"),
        (
            TlsSettings {
                cert_file: path("client.pem"),
                key_file: path("server.key"),
                ca_file: path("ca.pem"),
                ..none.clone()
            },
            "tls",
            "do not go together",
        ),
        (TlsSettings { ca_file: path("ca.key"), ..none.clone() }, "tls", "no certificate"),
        (TlsSettings { server_name: Some("a b".to_owned()), ..none.clone() }, "server_name", "no host name"),
    ] {
        let faults = Client::new(&settings).unwrap_err();
        assert!(faults[0].0 == key && faults[0].1.contains(part), "{faults:?}");
    }
    let empty = Some(PathBuf::new());
    assert!(Client::new(&TlsSettings { ca_file: empty.clone(), cert_file: empty, ..none }).is_ok());
}
