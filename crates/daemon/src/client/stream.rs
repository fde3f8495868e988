//! From a URL to a connection.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{SecretUrl, SendError};

/// A connection of whatever kind. One type, so that what speaks over it is compiled once.
pub type Stream = Box<dyn Io>;

/// What can be read from and written to.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Of a name's addresses so many are tried.
const MOST_ADDRESSES: usize = 8;

/// An address gets at least this long before the next is tried, unless the deadline is sooner.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);

pub(super) async fn unix(path: &Path) -> Result<Stream, SendError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(SendError::Connect { place: path.display().to_string(), why: sentence(&error) }),
    }
}

/// Addresses of both families take turns, as the resolver has sorted them, so that a family without a route costs one
/// address's patience only.
pub(super) async fn resolve(url: &SecretUrl) -> Result<Vec<SocketAddr>, SendError> {
    if let Ok(address) = url.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port())]);
    }
    let fault = |why: String| SendError::Resolve { place: url.place(), why };
    let found = tokio::net::lookup_host((url.host(), url.port())).await.map_err(|error| fault(error.to_string()))?;
    let found: Vec<_> = found.collect();
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut addresses = Vec::new();
    while addresses.len() < MOST_ADDRESSES {
        let before = addresses.len();
        addresses.extend(first.next());
        addresses.extend(other.next());
        if addresses.len() == before {
            break;
        }
    }
    if addresses.is_empty() { Err(fault("the resolver knows none".to_owned())) } else { Ok(addresses) }
}

/// Tries one after another; each gets its share of the time that is left. `None`: the time is over.
pub(super) async fn connect(
    url: &SecretUrl,
    addresses: &[SocketAddr],
    until: Instant,
) -> Result<Option<TcpStream>, SendError> {
    let mut why = None;
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let others = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = (until.saturating_duration_since(now) / others).max(LEAST_PATIENCE);
        match timeout_at(until.min(now + share), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A request is written at once; without it, a body might wait for an acknowledgement of the head.
                let _ = stream.set_nodelay(true);
                return Ok(Some(stream));
            }
            Ok(Err(error)) => why = Some(sentence(&error)),
            Err(_) => {}
        }
    }
    match why {
        Some(why) if Instant::now() < until => Err(SendError::Connect { place: url.place(), why }),
        _ => Ok(None),
    }
}

pub(super) fn server_name(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

pub(super) async fn secure(
    url: &SecretUrl,
    stream: TcpStream,
    name: &str,
    configuration: Arc<ClientConfig>,
) -> Result<Stream, SendError> {
    let fault = |why| SendError::Tls { place: url.place(), why };
    let name = server_name(name).ok_or_else(|| fault("its name can't stand in a certificate".to_owned()))?;
    match TlsConnector::from(configuration).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
            Err(fault(format!("{error}; {}", tls::remedy(inner, "server"))))
        }
    }
}

/// Why there was no connection, without what an error of the system says besides.
fn sentence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there (connection refused)".to_owned(),
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    }
}
