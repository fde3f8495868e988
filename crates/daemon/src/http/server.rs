use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::web::{Current, Verdict};
use super::{Allow, Credentials, Peer, Request, Response, StatusCode, Web, header, text};
use crate::shutdown::Shutdown;

/// A connection over this number is closed at once: a scraper or two, a page and some pushers need a handful.
const MAX_CONNECTIONS: usize = 256;

/// Connections of peers that are not answered: they are told so, but must not take the places of those that are.
const MAX_REFUSED: usize = 16;

/// How long a connection may stay without a complete request head. Prometheus keeps its connection between two
/// scrapes, up to a minute apart.
const HEAD_TIME: Duration = Duration::from_secs(90);

/// How long a TLS handshake may take, and then how long it may take to the first request: whoever opens connections and
/// says nothing is soon rid of them.
const FIRST_TIME: Duration = Duration::from_secs(10);

/// How long running requests get when the daemon stops.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to one request.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}

/// A place where requests come in.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket and its path; the file goes when the listener does.
    Unix(UnixListener, PathBuf),
}

/// An address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It is no address.
    #[error("{address:?} is not an address and port such as 127.0.0.1:9100 or [::]:9100")]
    Address {
        /// What was given.
        address: String,
    },
    /// Somebody else has it.
    #[error("can't listen on {address}: the port is taken by another program")]
    Taken {
        /// The address.
        address: String,
    },
    /// Something else.
    #[error("can't listen on {address}: {source}")]
    Other {
        /// The address or path.
        address: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Listens on an address such as `[::]:9100`. Where the host has no IPv6, `[::]` means `0.0.0.0`.
pub async fn bind(address: &str) -> Result<Listener, BindError> {
    let parsed: SocketAddr = address.parse().map_err(|_| BindError::Address { address: address.to_owned() })?;
    let mut result = TcpListener::bind(parsed).await;
    let no_ipv6 = |e: &io::Error| {
        matches!(e.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) || e.raw_os_error() == Some(97)
    };
    if parsed.is_ipv6() && parsed.ip().is_unspecified() && result.as_ref().is_err_and(no_ipv6) {
        result = TcpListener::bind((Ipv4Addr::UNSPECIFIED, parsed.port())).await;
    }
    result.map(Listener::Tcp).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { address: address.to_owned() },
        _ => BindError::Other { address: address.to_owned(), source },
    })
}

/// Listens on a Unix socket, in place of a dead one that an earlier run left. Readable and writable by owner and
/// group.
pub async fn bind_unix(path: &Path) -> Result<Listener, BindError> {
    bind_unix_as(path, 0o660, None).await
}

/// As [`bind_unix`], with these permissions and, where one is given, this group.
pub async fn bind_unix_as(path: &Path, mode: u32, group: Option<u32>) -> Result<Listener, BindError> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    let address = path.display().to_string();
    let other = |source| BindError::Other { address: address.clone(), source };
    // A plain file refuses connections like a dead socket, and must not be removed for it.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    match UnixStream::connect(path).await {
        Ok(_) => return Err(BindError::Taken { address }),
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(other)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(other)?;
    // The group first: whoever may open it must be of the right one.
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group).map_err(other)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(other)?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

impl Listener {
    /// The TCP address that is listened on; with port 0 in the configuration, the port that the system chose.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // Best effort: the next run clears a dead socket anyway.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Who may ask. The Unix socket is open to whoever may open its file, without TLS or passwords.
#[derive(Debug, Clone)]
pub struct Access {
    /// By address.
    pub allow: Arc<Allow>,
    /// By TLS, passwords, tokens, certificates; `None`: plain HTTP for all that `allow` permits.
    pub web: Option<Arc<Web>>,
}

impl From<Arc<Allow>> for Access {
    fn from(allow: Arc<Allow>) -> Self {
        Self { allow, web: None }
    }
}

/// Serves until the stop; then running requests get 2 s to end.
pub async fn serve<H: Handler>(listener: Listener, access: impl Into<Access>, handler: Arc<H>, shutdown: Shutdown) {
    let Access { allow, web } = access.into();
    let mut connections = JoinSet::new();
    let refused = Arc::new(Semaphore::new(MAX_REFUSED));
    let mut stop = pin!(shutdown.wait());
    loop {
        let accepted = async {
            match &listener {
                Listener::Tcp(l) => l.accept().await.map(|(s, a)| (Stream::Tcp(s), Peer::Ip(a.ip().to_canonical()))),
                Listener::Unix(l, _) => l.accept().await.map(|(s, _)| (Stream::Unix(s), Peer::Unix)),
            }
        };
        let (stream, peer) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: wait for some to come back instead of spinning.
                    warn!("can't accept an HTTP connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        // After the wait for this one, which may have been long.
        while connections.try_join_next().is_some() {}
        let place = if allow.permits(peer) { None } else { Some(refused.clone().try_acquire_owned()) };
        if connections.len() >= MAX_CONNECTIONS || matches!(place, Some(Err(_))) {
            debug!("closed an HTTP connection from {peer}: too many are open already");
            continue;
        }
        let (handler, shutdown, web) = (handler.clone(), shutdown.clone(), web.clone());
        connections.spawn(async move {
            let guard = Guard { peer, allowed: place.is_none(), web, certified: false, credentials: None };
            match stream {
                Stream::Tcp(stream) => tcp_connection(stream, guard, handler, shutdown).await,
                // The file system has decided.
                Stream::Unix(stream) => {
                    let credentials = stream.peer_cred().ok();
                    let credentials = credentials.map(|c| Credentials { uid: c.uid(), gid: c.gid(), pid: c.pid() });
                    connection(stream, Guard { web: None, credentials, ..guard }, handler, shutdown).await;
                }
            }
            drop(place);
        });
    }
    let drain = async { while connections.join_next().await.is_some() {} };
    // What has not ended by then is cut off with the JoinSet.
    let _ = tokio::time::timeout(DRAIN_TIME, drain).await;
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(UnixStream),
}

/// What is known of a peer before it asks.
struct Guard {
    peer: Peer,
    /// By its address.
    allowed: bool,
    web: Option<Arc<Web>>,
    /// By its certificate.
    certified: bool,
    /// Over the Unix socket.
    credentials: Option<Credentials>,
}

impl Guard {
    /// The answer to one request.
    async fn answer<H: Handler>(&self, handler: &H, request: hyper::Request<Incoming>) -> Response {
        if !self.allowed {
            let peer = self.peer;
            let message = format!("{peer} is not answered here; `[serve] allow` in the configuration decides who is");
            return text(StatusCode::FORBIDDEN, message);
        }
        let (parts, body) = request.into_parts();
        let mut request = Request {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers,
            peer: self.peer,
            authenticated: self.certified,
            credentials: self.credentials,
            body,
        };
        let Some(web) = &self.web else { return handler.handle(request).await };
        let current = web.current();
        let mut response = match web.verdict(&current, &request.headers).await {
            Verdict::Open => handler.handle(request).await,
            Verdict::Known => {
                request.authenticated = true;
                handler.handle(request).await
            }
            Verdict::Unknown => unauthorized(&current),
            Verdict::Busy => text(StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being looked at; try again"),
        };
        for (name, value) in &current.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

fn unauthorized(current: &Current) -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "Unauthorized");
    for challenge in current.challenges() {
        response.headers_mut().append(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(challenge));
    }
    response
}

/// The first byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

async fn tcp_connection<H: Handler>(stream: TcpStream, mut guard: Guard, handler: Arc<H>, shutdown: Shutdown) {
    let web = guard.web.clone();
    let secure = web.as_ref().map(|web| (web, web.current())).filter(|(_, current)| current.tls.is_some());
    let Some((web, current)) = secure else { return connection(stream, guard, handler, shutdown).await };
    if !guard.allowed {
        // Whoever is not answered gets no handshake, which costs more than all the rest.
        debug!("closed a connection from {}: `[serve] allow` does not name it", guard.peer);
        return;
    }
    let peer = guard.peer;
    let handshake = tokio::select! {
        () = shutdown.wait() => return,
        handshake = tokio::time::timeout(FIRST_TIME, handshake(stream, &current)) => handshake,
    };
    if let Ok(Ok(Some(stream))) = handshake {
        guard.certified = current.certified && stream.get_ref().1.peer_certificates().is_some();
        return connection(stream, guard, handler, shutdown).await;
    }
    web.count_failed_handshake();
    match handshake {
        Ok(Err(error)) => debug!("the TLS handshake with {peer} failed: {error}"),
        Ok(Ok(_)) => debug!("closed a connection from {peer}: it does not speak TLS"),
        Err(_) => debug!("closed a connection from {peer}: no TLS handshake within {} s", FIRST_TIME.as_secs()),
    }
}

/// `None` where the peer does not speak TLS. One that asks by plain HTTP is told.
async fn handshake(mut stream: TcpStream, current: &Current) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    match (first, &current.tls) {
        ([TLS_HANDSHAKE], Some(tls)) => TlsAcceptor::from(tls.clone()).accept(stream).await.map(Some),
        ([byte], _) if byte.is_ascii_uppercase() => {
            let told = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
                        content-length: 49\r\n\r\nThis port speaks TLS; ask it by https:// instead\n";
            stream.write_all(told.as_bytes()).await?;
            stream.shutdown().await?;
            // What has come is read, since closing over it would take back the answer; but no more than a request.
            let mut rest = [0; 4096];
            for _ in 0..16 {
                if stream.read(&mut rest).await? == 0 {
                    break;
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

async fn connection<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    guard: Guard,
    handler: Arc<H>,
    shutdown: Shutdown,
) {
    let peer = guard.peer;
    let asked = AtomicBool::new(false);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let (guard, handler) = (&guard, &handler);
        async move { Ok::<_, Infallible>(guard.answer(&**handler, request).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let mut first = pin!(tokio::time::sleep(FIRST_TIME));
    let result = loop {
        tokio::select! {
            result = serving.as_mut() => break result,
            () = shutdown.wait() => {
                serving.as_mut().graceful_shutdown();
                break serving.await;
            }
            () = first.as_mut(), if !first.is_elapsed() => {
                if !asked.load(Ordering::Relaxed) {
                    debug!("closed an HTTP connection from {peer}: no request came within {} s", FIRST_TIME.as_secs());
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        debug!("HTTP connection from {peer} ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown;

    struct Echo;

    impl Handler for Echo {
        async fn handle(&self, request: Request) -> Response {
            let line =
                format!("{} {} {:?} local={}", request.method, request.path, request.query, request.peer.is_local());
            if let Some(credentials) = request.credentials {
                return text(StatusCode::OK, format!("{credentials:?}"));
            }
            match request.body(8).await {
                Ok(body) => text(StatusCode::OK, format!("{line} {}", String::from_utf8_lossy(&body))),
                Err(response) => response,
            }
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that closes at once may reset the connection: then the answer is what came, mostly nothing.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn post(length: usize, body: &str) -> String {
        format!("POST /a?b=c HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    #[tokio::test]
    async fn requests_are_answered_bounded_and_drained() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = bind(&address.to_string()).await.unwrap_err().to_string();
        assert_eq!(taken, format!("can't listen on {address}: the port is taken by another program"));
        let (trigger, shutdown) = shutdown::channel();
        let allow = Arc::new(Allow::parse(&["127.0.0.1"]).unwrap());
        let server = tokio::spawn(serve(listener, allow, Arc::new(Echo), shutdown));

        let answer = ask(address, &post(3, "abc")).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("POST /a Some(\"b=c\") local=true abc"),
            "{answer}"
        );
        let answer = ask(address, &post(9, "")).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("more than 8 bytes"), "{answer}");
        let chunked = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n";
        assert!(ask(address, chunked).await.starts_with("HTTP/1.1 413"));

        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        trigger.stop();
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the port must be free after the stop");
    }

    #[tokio::test]
    async fn peers_outside_the_list_are_refused_with_the_key_to_change() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_trigger, shutdown) = shutdown::channel();
        let allow = Arc::new(Allow::parse(&["192.0.2.0/24"]).unwrap());
        tokio::spawn(serve(listener, allow, Arc::new(Echo), shutdown));
        let answer = ask(address, &post(0, "")).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("`[serve] allow`"), "{answer}");
    }

    #[tokio::test]
    async fn strangers_do_not_take_the_places_of_others() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_trigger, shutdown) = shutdown::channel();
        let allow = Arc::new(Allow::parse(&["192.0.2.0/24"]).unwrap());
        tokio::spawn(serve(listener, allow, Arc::new(Echo), shutdown));
        let mut silent = Vec::new();
        for _ in 0..MAX_REFUSED {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET").await.unwrap();
            silent.push(stream);
        }
        let mut surplus = TcpStream::connect(address).await.unwrap();
        assert_eq!(surplus.read(&mut [0]).await.unwrap_or(0), 0, "one too many is closed at once");
        silent.pop();
        // The place comes back as soon as the server has seen the other end go.
        while !ask(address, &post(0, "")).await.starts_with("HTTP/1.1 403") {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed() {
        let (near, mut far) = tokio::io::duplex(64);
        let (_trigger, shutdown) = shutdown::channel();
        far.write_all(b"GET / HT").await.unwrap();
        // Time stands still but for what is waited for: this ends because the connection does.
        let begun = tokio::time::Instant::now();
        let guard = Guard { peer: Peer::Unix, allowed: true, web: None, certified: false, credentials: None };
        connection(near, guard, Arc::new(Echo), shutdown).await;
        assert_eq!(begun.elapsed(), FIRST_TIME, "and not only when a head may take no longer");
    }

    #[tokio::test]
    async fn over_the_unix_socket_a_process_is_known() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.sock");
        let listener = bind_unix_as(&path, 0o600, None).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (_trigger, shutdown) = shutdown::channel();
        tokio::spawn(serve(listener, Arc::new(Allow::parse(&["loopback"]).unwrap()), Arc::new(Echo), shutdown));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(&format!("pid: Some({})", std::process::id())), "{answer}");
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = bind_unix(&path).await.unwrap();
        assert!(matches!(bind_unix(&path).await, Err(BindError::Taken { .. })));
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "somebody's").unwrap();
        assert!(bind_unix(&path).await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
        assert!(matches!(bind("127.0.0.1").await, Err(BindError::Address { .. })));
    }
}
