//! A small HTTP/1.1 server on hyper, for metrics, health and pushes.
//!
//! Bounded in connections, header time, body size and body time, so that no peer can hold a daemon's memory. Who may
//! ask at all is decided per connection by [`Allow`], and after that by [`Web`] where it is configured.

mod allow;
mod gzip;
mod negotiate;
mod query;
mod server;
mod web;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

pub use allow::{Allow, AllowError};
pub use gzip::{Gzip, gunzip, gzipped};
pub use hyper::{Method, StatusCode, header};
pub use negotiate::{MediaRange, accepts_gzip, media_ranges};
pub use query::pairs;
pub use server::{Access, BindError, Handler, Listener, bind, bind_unix, bind_unix_as, serve};
pub use web::{Web, WebCounts};

/// What handlers answer with.
pub type Response = hyper::Response<Full<Bytes>>;

/// `Content-Type` of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// A body that has not arrived after this time is given up.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address; an IPv4 peer of an IPv6 socket has its IPv4 address here.
    Ip(IpAddr),
    /// Over the Unix socket; the file system decides who may.
    Unix,
}

impl Peer {
    /// Whether the peer runs on this host.
    pub fn is_local(self) -> bool {
        match self {
            Peer::Ip(address) => address.is_loopback(),
            Peer::Unix => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.write_str("the Unix socket"),
        }
    }
}

/// The process at the other end of a Unix socket, as the kernel knew it when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Its user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its process id, on systems that tell it.
    pub pid: Option<i32>,
}

/// A request as a handler sees it.
#[derive(Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path, without the query.
    pub path: String,
    /// Query, without the question mark.
    pub query: Option<String>,
    /// Headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub peer: Peer,
    /// Whether the peer has proved, by a password, a token or a certificate, that it is one of those who may ask.
    pub authenticated: bool,
    /// Which process asks, where it came over the Unix socket.
    pub credentials: Option<Credentials>,
    body: Incoming,
}

impl Request {
    /// The whole body, up to `limit` bytes: else the response to give (413 over the limit, 408 over the time, 400 for
    /// a body that breaks off).
    pub async fn body(self, limit: usize) -> Result<Bytes, Response> {
        let too_large =
            || text(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {limit} bytes; send it in parts"));
        // A declared length is refused before a byte of it is read.
        let declared = self.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        match tokio::time::timeout(BODY_TIME, Limited::new(self.body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(text(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
            Err(_) => Err(text(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
            )),
        }
    }
}

/// A response of plain text; a line feed is put at its end.
pub fn text(status: StatusCode, body: impl Into<String>) -> Response {
    let mut body = body.into();
    body.push('\n');
    content(status, TEXT, body)
}

/// A response of some type.
pub fn content(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 405, naming what is allowed.
pub fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} here"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
