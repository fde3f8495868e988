//! Asks other servers: a client of HTTP/1.1 with and without TLS, one request a connection.
//!
//! Every request has one deadline for all of it, and what is read of an answer is bounded. Redirects are told, not
//! followed, and the environment's proxies are not asked. What it says of a failure names the server and nothing else of
//! the URL, since the rest may be a secret.

mod error;
mod stream;
#[cfg(test)]
mod tests;
mod url;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
pub use hyper::header::{HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, Uri, Version, header};
use hyper_util::rt::TokioIo;
use tls::{Tls, TlsError};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::ClientConfig;

use crate::config;
pub use error::{SendError, Stage};
pub use stream::{Io, Stream};
pub use url::{SecretUrl, UrlError};

/// The longest head of an answer that is taken, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;

/// What a client says that it is.
const USER_AGENT: &str = concat!("utilizer/", env!("CARGO_PKG_VERSION"));

/// Whom a client trusts, and as whom it comes. An empty path is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// `ca_file`: the authorities to trust, PEM; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// `cert_file`: our certificate and its chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// `key_file`: its private key, PEM.
    pub key_file: Option<PathBuf>,
    /// `server_name`: the name that must stand in the server's certificate; that of the URL where absent.
    pub server_name: Option<String>,
    /// `insecure_skip_verify`: takes any certificate, of whomever.
    pub insecure_skip_verify: bool,
}

/// A key of the settings and what is wrong with it.
pub type KeyFault = (&'static str, String);

/// Sends requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: TlsSettings,
    /// Made at the first use of TLS and again when a file has changed.
    made: Mutex<Option<Made>>,
}

#[derive(Debug, Clone)]
struct Made {
    configuration: Arc<ClientConfig>,
    stamps: [Stamp; 3],
}

/// What tells that a file was replaced: when it was changed, and its length.
type Stamp = Option<(SystemTime, u64)>;

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A server, and what of it is asked for.
    Url(&'a SecretUrl),
    /// A Unix socket, and what is asked for there: a path with its query.
    Unix(&'a Path, &'a Uri),
}

impl Target<'_> {
    /// As messages name it.
    fn place(&self) -> String {
        match self {
            Self::Url(url) => url.place(),
            Self::Unix(path, _) => path.display().to_string(),
        }
    }
}

/// A request. Host, length and user agent are added.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Further headers.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Bytes,
}

impl Request {
    /// Asks for something.
    pub fn get() -> Self {
        Self { method: Method::GET, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Sends something of this type, such as `application/json`.
    pub fn post(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { method: Method::POST, headers, body: body.into() }
    }

    /// With a header more, in place of one of the same name.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// An answer, of whatever status.
#[derive(Debug, Clone)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it says, or the beginning of it.
    pub body: Bytes,
    /// There was more of it than is taken, or it did not come whole.
    pub is_cut: bool,
}

impl Response {
    /// Whether it says that all is well.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The server to which it redirects, as `scheme://host:port`; it is not followed. A path alone is its own server's.
    pub fn redirects_to(&self) -> Option<String> {
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let to = self.headers.get(header::LOCATION)?.to_str().ok()?;
        if to.starts_with('/') && !to.starts_with("//") {
            return Some("another path of the same server".to_owned());
        }
        Some(to.parse::<SecretUrl>().map_or_else(|_| "a place that can't be read".to_owned(), |url| url.place()))
    }

    /// What a status that is no success means, as a sentence's end such as `it answers 404 (Not Found)`. Nothing of the
    /// body, which may repeat a secret.
    pub fn fault(&self) -> Option<String> {
        if self.is_success() {
            return None;
        }
        let reason = hyper::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let redirect = self
            .redirects_to()
            .map(|to| format!(" and sends on to {to}, which is not followed: write the new URL into the configuration"))
            .unwrap_or_default();
        Some(format!("it answers {}{reason}{redirect}", self.status))
    }
}

/// What drives a connection.
type Driving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer, of whatever status, whose body is still to come.
pub struct Streaming {
    /// Such as 200.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    place: String,
    body: Incoming,
    /// `None` once it has ended.
    connection: Option<Driving>,
}

impl Streaming {
    /// The next piece of the body, if there is one within `patience`; `None` at its end.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, SendError> {
        let place = &self.place;
        let until = Instant::now() + patience;
        loop {
            let frame = timeout_at(until, driven(&mut self.connection, self.body.frame())).await;
            let late = |_| SendError::Timeout { place: place.clone(), stage: Stage::Body, after: patience };
            let fault = |error| SendError::Protocol { place: place.clone(), why: told(&error), sent: true };
            let Some(frame) = frame.map_err(late)? else { return Ok(None) };
            // What is no data are trailers.
            if let Ok(data) = frame.map_err(fault)?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// Drives a connection while something is waited for that needs it.
async fn driven<T>(connection: &mut Option<Driving>, wanted: impl Future<Output = T>) -> T {
    let mut wanted = pin!(wanted);
    if let Some(driving) = connection {
        tokio::select! {
            biased;
            result = &mut wanted => return result,
            () = driving => {}
        }
        // What it has read before it ended is still there.
        *connection = None;
    }
    wanted.await
}

/// `Authorization` of a user and password.
pub fn basic(user: &str, password: &str) -> HeaderValue {
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
    // Base64 has no character that a header can't have.
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// `Authorization` by a token; `None` if it has characters that no header can have, such as a line's end.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Client {
    /// A client, or every fault of its files. Without files, nothing is read before the first use of TLS.
    pub fn new(settings: &TlsSettings) -> Result<Self, Vec<KeyFault>> {
        let present = |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
        let settings = TlsSettings {
            ca_file: present(&settings.ca_file),
            cert_file: present(&settings.cert_file),
            key_file: present(&settings.key_file),
            server_name: settings.server_name.clone().filter(|name| !name.is_empty()),
            insecure_skip_verify: settings.insecure_skip_verify,
        };
        let mut faults = Vec::new();
        if settings.cert_file.is_some() != settings.key_file.is_some() {
            faults.push(("cert_file", "cert_file and key_file go together; one of them is missing".to_owned()));
        }
        if let Some(name) = &settings.server_name
            && stream::server_name(name).is_none()
        {
            faults.push(("server_name", format!("{name:?} is no host name")));
        }
        let read = settings.read().map_err(|list| faults.extend(list)).ok();
        if let Some(tls) = read.filter(|tls| faults.is_empty() && *tls != Tls::default()) {
            // Only looked at.
            if let Err(error) = tls.configuration() {
                faults.push(("tls", error.to_string()));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self(Arc::new(Inner { settings, made: Mutex::new(None) })))
    }

    /// Sends a request and reads the answer, of whatever status, within the deadline. At most `most` bytes of the
    /// answer's body are kept.
    pub async fn send(
        &self,
        target: Target<'_>,
        request: Request,
        deadline: Duration,
        most: usize,
    ) -> Result<Response, SendError> {
        let until = Instant::now() + deadline;
        let place = target.place();
        let (stream, request) = self.connected(target, request, &place, (until, deadline)).await?;
        Ok(exchange(stream, &place, request, (until, deadline), most).await?.response)
    }

    /// Sends a request and gives the answer as soon as its head has come, within the deadline. Its body is read piece by
    /// piece, however long it is.
    pub async fn open(&self, target: Target<'_>, request: Request, deadline: Duration) -> Result<Streaming, SendError> {
        let until = Instant::now() + deadline;
        let place = target.place();
        let (stream, request) = self.connected(target, request, &place, (until, deadline)).await?;
        let fault = |error: hyper::Error| SendError::Protocol { place: place.clone(), why: told(&error), sent: true };
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(stream)).await.map_err(fault)?;
        let mut connection: Option<Driving> = Some(Box::pin(async { drop(connection.await) }));
        let head = timeout_at(until, driven(&mut connection, sender.send_request(request)));
        let late = |_| SendError::Timeout { place: place.clone(), stage: Stage::Answer, after: deadline };
        let (head, body) = head.await.map_err(late)?.map_err(fault)?.into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        Ok(Streaming { status, headers, place, body, connection })
    }

    /// A connection, and the request as it goes over it.
    async fn connected(
        &self,
        target: Target<'_>,
        request: Request,
        place: &str,
        (until, deadline): (Instant, Duration),
    ) -> Result<(Stream, hyper::Request<Full<Bytes>>), SendError> {
        let late = |stage| SendError::Timeout { place: place.to_owned(), stage, after: deadline };
        let (stream, uri, host) = match target {
            Target::Unix(path, uri) => {
                let stream = timeout_at(until, stream::unix(path)).await.map_err(|_| late(Stage::Connect))??;
                (stream, uri.clone(), "localhost".to_owned())
            }
            Target::Url(url) => {
                let addresses = timeout_at(until, stream::resolve(url)).await.map_err(|_| late(Stage::Resolve))??;
                let stream = stream::connect(url, &addresses, until).await?.ok_or_else(|| late(Stage::Connect))?;
                let stream = if url.is_tls() {
                    let name = self.0.settings.server_name.as_deref().unwrap_or(url.host());
                    let secure = async {
                        let configuration = self.configuration(url).await?;
                        stream::secure(url, stream, name, configuration).await
                    };
                    timeout_at(until, secure).await.map_err(|_| late(Stage::Tls))??
                } else {
                    Box::new(stream) as Stream
                };
                (stream, url.path(), url.authority())
            }
        };
        Ok((stream, made(request, uri, &host, place)?))
    }

    /// As the files are now; while they can't be used, as they were.
    async fn configuration(&self, url: &SecretUrl) -> Result<Arc<ClientConfig>, SendError> {
        let inner = self.0.clone();
        // A file may lie on a disk that hangs; the deadline is not for it to wait out on this thread.
        let made = tokio::task::spawn_blocking(move || inner.made()).await;
        let why = match made {
            Ok(Ok(configuration)) => return Ok(configuration),
            Ok(Err(why)) => why,
            Err(panic) => format!("BUG: reading certificates failed: {panic}"),
        };
        Err(SendError::Tls { place: url.place(), why })
    }
}

impl Inner {
    fn made(&self) -> Result<Arc<ClientConfig>, String> {
        let stamps = self.settings.stamps();
        let before = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(made) = before.as_ref().filter(|made| made.stamps == stamps) {
            return Ok(made.configuration.clone());
        }
        let fresh = self.settings.read().map_err(|faults| {
            faults.into_iter().map(|(key, fault)| format!("{key}: {fault}")).collect::<Vec<_>>().join("; ")
        });
        let fresh = fresh.and_then(|tls| tls.configuration().map_err(|error: TlsError| error.to_string()));
        match (fresh, before) {
            (Ok(mut configuration), _) => {
                configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
                let configuration = Arc::new(configuration);
                let made = Made { configuration: configuration.clone(), stamps };
                *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
                Ok(configuration)
            }
            // It may be half written; the next request looks again.
            (Err(_), Some(made)) => Ok(made.configuration),
            (Err(why), None) => Err(why),
        }
    }
}

impl TlsSettings {
    fn read(&self) -> Result<Tls, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let mut read = |key, file: &Option<PathBuf>| {
            let file = file.as_deref()?;
            let fault = |error| (key, format!("can't read {}: {error}", file.display()));
            config::file::read(file).map_err(|error| faults.push(fault(error))).ok()
        };
        let ca = read("ca_file", &self.ca_file);
        let cert = read("cert_file", &self.cert_file);
        let key = read("key_file", &self.key_file);
        let tls = Tls { ca, identity: cert.zip(key), unverified: self.insecure_skip_verify };
        if faults.is_empty() { Ok(tls) } else { Err(faults) }
    }

    fn stamps(&self) -> [Stamp; 3] {
        [&self.ca_file, &self.cert_file, &self.key_file].map(|file| {
            let there = std::fs::metadata(file.as_deref()?).ok()?;
            Some((there.modified().ok()?, there.len()))
        })
    }
}

/// An answer, and what is to be told of its way here.
#[derive(Debug, Clone)]
pub struct Exchanged {
    /// The answer.
    pub response: Response,
    /// `HTTP/1.1` or `HTTP/1.0`, as the server says.
    pub version: hyper::Version,
    /// When its head had come.
    pub head_at: Instant,
}

/// Sends a request over a connection that somebody else made, and reads the answer as [`Client::send`] does. `until` is the
/// end of the `deadline` that stands in errors.
pub async fn exchange_over(
    stream: Stream,
    url: &SecretUrl,
    request: Request,
    (until, deadline): (Instant, Duration),
    most: usize,
) -> Result<Exchanged, SendError> {
    let place = url.place();
    let request = made(request, url.path(), &url.authority(), &place)?;
    exchange(stream, &place, request, (until, deadline), most).await
}

fn made(request: Request, uri: Uri, host: &str, place: &str) -> Result<hyper::Request<Full<Bytes>>, SendError> {
    let Request { method, headers, body } = request;
    let mut made = hyper::Request::new(Full::new(body));
    *made.method_mut() = method;
    *made.uri_mut() = uri;
    *made.headers_mut() = headers;
    let host = HeaderValue::try_from(host).map_err(|_| SendError::Protocol {
        place: place.to_owned(),
        why: "its name can't stand in a request".to_owned(),
        sent: false,
    })?;
    let headers = made.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    Ok(made)
}

async fn exchange(
    stream: Stream,
    place: &str,
    request: hyper::Request<Full<Bytes>>,
    (until, deadline): (Instant, Duration),
    most: usize,
) -> Result<Exchanged, SendError> {
    let late = |stage| SendError::Timeout { place: place.to_owned(), stage, after: deadline };
    let fault = |error: hyper::Error| SendError::Protocol { place: place.to_owned(), why: told(&error), sent: true };
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(stream)).await.map_err(fault)?;
    let mut connection = pin!(connection);
    let head = timeout_at(until, beside(&mut connection, sender.send_request(request)));
    let (head, body) = head.await.map_err(|_| late(Stage::Answer))?.map_err(fault)?.into_parts();
    let (version, head_at) = (head.version, Instant::now());
    let mut response =
        Response { status: head.status.as_u16(), headers: head.headers, body: Bytes::new(), is_cut: false };
    let mut kept = BytesMut::new();
    let read = beside(&mut connection, read(body, &mut kept, most));
    match timeout_at(until, read).await {
        Ok(Ok(is_cut)) => response.is_cut = is_cut,
        // The status has come, and says all there is to know; a body that breaks off changes nothing of what was done.
        Ok(Err(_)) if !response.is_success() => response.is_cut = true,
        Ok(Err(error)) => return Err(fault(error)),
        Err(_) if !response.is_success() => response.is_cut = true,
        Err(_) => return Err(late(Stage::Body)),
    }
    response.body = kept.freeze();
    Ok(Exchanged { response, version, head_at })
}

/// Drives the connection while something is waited for that needs it.
async fn beside<C: Future + Unpin, T>(connection: &mut C, wanted: impl Future<Output = T>) -> T {
    let mut wanted = pin!(wanted);
    tokio::select! {
        biased;
        result = &mut wanted => return result,
        _ = connection => {}
    }
    // What it has read before it ended is still there.
    wanted.await
}

/// Whether there was more than `most`.
async fn read(mut body: Incoming, kept: &mut BytesMut, most: usize) -> Result<bool, hyper::Error> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = most - kept.len();
        kept.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return Ok(true);
        }
    }
    Ok(false)
}

/// hyper's words; it knows nothing of URLs.
fn told(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "it closed the connection before its answer was whole".to_owned();
    }
    if error.is_parse() {
        return format!("what it answers is not HTTP ({error})");
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
