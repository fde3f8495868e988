//! From a host and a port to a connection, with what is to be told of the way.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use daemon::client::Stream;
use serde::{Deserialize, Serialize};
use tls::{Roots, Shown};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::found::Found;
use super::{Faults, Run};

/// Of a name's addresses so many are tried.
const MOST_ADDRESSES: usize = 8;

/// An address gets at least this long before the next is tried, unless the end is sooner.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);

/// How long the system's authorities are kept, which all probes share.
const ROOTS_TIME: Duration = Duration::from_secs(3600);

/// Which addresses a probe takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// Those that the name has.
    #[default]
    #[serde(rename = "")]
    Any,
    /// IPv4.
    #[serde(rename = "4")]
    V4,
    /// IPv6.
    #[serde(rename = "6")]
    V6,
}

impl Family {
    fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// `tls`, below the table of a probe: whom it trusts, and as whom it comes. An empty text is no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSection {
    /// The authorities to trust, PEM; the system's where absent.
    pub ca_file: PathBuf,
    /// Our certificate and its chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The name that must stand in the server's certificate; that of the target where absent.
    pub server_name: String,
    /// Whether the server has to prove who it is.
    pub verify: bool,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            server_name: String::new(),
            verify: true,
        }
    }
}

impl TlsSection {
    pub(super) fn check(&self, faults: &mut Faults) {
        if is_given(&self.cert_file) != is_given(&self.key_file) {
            faults.add("tls.cert_file", "cert_file and key_file go together; one of them is missing");
        }
        if !self.server_name.is_empty() && ServerName::try_from(self.server_name.as_str()).is_err() {
            faults.add("tls.server_name", format!("{:?} is no host name", self.server_name));
        }
    }

    fn files(&self) -> [&Path; 3] {
        [&self.ca_file, &self.cert_file, &self.key_file]
    }
}

pub(super) fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// What all probes share.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// The system's authorities.
    roots: Arc<Mutex<Option<(Instant, Roots)>>>,
}

/// What tells that a file was replaced: when it was changed, and its length.
type Stamp = Option<(SystemTime, u64)>;

/// What a probe's TLS needs, and the files that it was made of.
#[derive(Debug, Default)]
pub(crate) struct Made(Option<(Arc<ClientConfig>, [Stamp; 3], Instant)>, Arc<Shown>);

/// How long each part took, in seconds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Phases {
    pub(crate) resolve: f64,
    pub(crate) connect: f64,
    pub(crate) tls: Option<f64>,
}

/// A place to connect to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Whether and how TLS is spoken.
    pub(crate) tls: Option<&'a TlsSection>,
}

impl Place<'_> {
    fn shown(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The addresses of a name that the probe may take. Says how long that took.
pub(crate) async fn resolve(run: &mut Run<'_>, host: &str, port: u16) -> Result<(Vec<SocketAddr>, f64), String> {
    run.found.stage("resolving the name");
    let begun = Instant::now();
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let name = host.to_owned();
            let found = read(run, move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect)).await?;
            found.map_err(|error: io::Error| format!("the name {host} has no address: {error}"))?
        }
    };
    let took = begun.elapsed().as_secs_f64();
    run.found.gauge("probe_dns_lookup_time_seconds", "Time to resolve the name of the target.", took);
    let mut addresses: Vec<_> = found.into_iter().filter(|address| run.family.takes(address.ip())).collect();
    addresses.truncate(MOST_ADDRESSES);
    match addresses.first() {
        None => Err(format!("{host} has no address of the IP protocol that `ip_protocol` says")),
        Some(first) => {
            note_address(run.found, first.ip());
            Ok((addresses, took))
        }
    }
}

fn note_address(found: &mut Found, address: IpAddr) {
    let version = if address.is_ipv4() { 4.0 } else { 6.0 };
    found.gauge("probe_ip_protocol", "The IP protocol that was used: 4 or 6.", version);
}

/// Resolves, connects, and speaks TLS where the place says so.
pub(crate) async fn connect(run: &mut Run<'_>, place: Place<'_>) -> Result<(Stream, Phases), String> {
    let (stream, mut phases) = connect_plain(run, place).await?;
    match place.tls {
        None => Ok((Box::new(stream), phases)),
        Some(section) => {
            let begun = Instant::now();
            let stream = secure(run, place, section, stream).await?;
            phases.tls = Some(begun.elapsed().as_secs_f64());
            Ok((stream, phases))
        }
    }
}

/// Resolves and connects.
pub(crate) async fn connect_plain(run: &mut Run<'_>, place: Place<'_>) -> Result<(TcpStream, Phases), String> {
    let (addresses, resolve) = resolve(run, place.host, place.port).await?;
    let begun = Instant::now();
    run.found.stage("connecting");
    let mut why = None;
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let others = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = (run.until.saturating_duration_since(now) / others).max(LEAST_PATIENCE);
        match timeout_at(run.until.min(now + share), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                note_address(run.found, address.ip());
                let phases = Phases { resolve, connect: begun.elapsed().as_secs_f64(), tls: None };
                return Ok((stream, phases));
            }
            Ok(Err(error)) => why = Some(sentence(&error)),
            Err(_) => {}
        }
    }
    let limit = daemon::config::duration::format(run.timeout);
    let why = why.unwrap_or_else(|| format!("it takes no connection within {limit} (`timeout`)"));
    Err(format!("can't connect to {}: {why}", place.shown()))
}

/// Speaks TLS over a connection. Says when the certificates expire that the server shows, also where it is not believed.
pub(crate) async fn secure(
    run: &mut Run<'_>,
    place: Place<'_>,
    section: &TlsSection,
    stream: TcpStream,
) -> Result<Stream, String> {
    run.found.stage("the TLS handshake");
    let configuration = configuration(run, section).await?;
    let name = if section.server_name.is_empty() { place.host } else { &section.server_name };
    let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} can't stand in a certificate"))?;
    let shown = run.memory.tls.1.clone();
    let connected = TlsConnector::from(configuration).connect(name, stream).await;
    if let Some(expiry) = shown.earliest_expiry() {
        let help = "When the first certificate of the server's chain expires, in seconds since 1970.";
        run.found.gauge("probe_ssl_earliest_cert_expiry", help, expiry as f64);
    }
    match connected {
        Ok(stream) => {
            let version = match stream.get_ref().1.protocol_version() {
                Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
                _ => "unknown",
            };
            let help = "Always 1; the label says which version of TLS is spoken.";
            run.found.labelled("probe_tls_version_info", help, ("version", version), 1.0);
            Ok(Box::new(stream))
        }
        Err(error) => {
            let inner = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
            let remedy = tls::remedy(inner, "server");
            // rustls says how long ago a certificate expired, which is another text each time.
            let error = error.to_string();
            let error = error.split_once(": verification time").map_or(error.as_str(), |(error, _)| error);
            Err(format!("no TLS with {}: {error}; {remedy}", place.shown()))
        }
    }
}

async fn configuration(run: &mut Run<'_>, section: &TlsSection) -> Result<Arc<ClientConfig>, String> {
    let shared = run.tools.roots.clone();
    let (section, shown) = (section.clone(), run.memory.tls.1.clone());
    let before = run.memory.tls.0.take();
    // Files may lie on a disk that hangs, and the system's authorities are many.
    let made = read(run, move || {
        let stamps = section.files().map(|file| {
            let there = std::fs::metadata(Some(file).filter(|file| is_given(file))?).ok()?;
            Some((there.modified().ok()?, there.len()))
        });
        match before {
            Some(made) if made.1 == stamps && made.2.elapsed() < ROOTS_TIME => Ok(made),
            _ => made(&section, &shared, shown).map(|configuration| (configuration, stamps, Instant::now())),
        }
    });
    let made = made.await??;
    let configuration = made.0.clone();
    run.memory.tls.0 = Some(made);
    Ok(configuration)
}

fn made(
    section: &TlsSection,
    shared: &Mutex<Option<(Instant, Roots)>>,
    shown: Arc<Shown>,
) -> Result<Arc<ClientConfig>, String> {
    let read = |key: &str, file: &Path| {
        daemon::config::file::read(file).map_err(|error| format!("tls.{key}: can't read {}: {error}", file.display()))
    };
    let roots = if !section.verify {
        None
    } else if is_given(&section.ca_file) {
        Some(Roots::pem(&read("ca_file", &section.ca_file)?).map_err(|error| error.to_string())?)
    } else {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, roots) = match shared.take().filter(|(at, _)| at.elapsed() < ROOTS_TIME) {
            Some(fresh) => shared.insert(fresh),
            None => shared.insert((Instant::now(), Roots::system().map_err(|error| error.to_string())?)),
        };
        Some(roots.clone())
    };
    let identity = if is_given(&section.cert_file) {
        Some((read("cert_file", &section.cert_file)?, read("key_file", &section.key_file)?))
    } else {
        None
    };
    tls::watching(roots.as_ref(), identity.as_ref(), shown).map(Arc::new).map_err(|error| error.to_string())
}

/// Why there was no connection, without what an error of the system says besides.
pub(crate) fn sentence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there (connection refused)".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads files, or asks the resolver, on a thread that may hang with them. While it hangs, no other is begun.
pub(crate) async fn read<T: Send + 'static>(
    run: &Run<'_>,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    struct Busy(Arc<AtomicBool>);

    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Release);
        }
    }

    let busy = &run.memory.reads;
    if busy.swap(true, Ordering::AcqRel) {
        return Err("a file or the resolver, asked for the run before, still hangs".to_owned());
    }
    let busy = Busy(busy.clone());
    let done = tokio::task::spawn_blocking(move || {
        let _busy = busy;
        read()
    });
    done.await.map_err(|panic| format!("BUG: reading failed: {panic}"))
}

/// The first line of a file with a secret. Reads it anew, so that it may change.
pub(crate) async fn secret(run: &Run<'_>, key: &'static str, file: &Path) -> Result<String, String> {
    let file = file.to_owned();
    let read = read(run, move || {
        daemon::config::file::read_text(&file).map_err(|error| format!("{key}: can't read {}: {error}", file.display()))
    });
    let text = read.await??;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("{key}: the first line of the file is the secret, and it is empty")),
    }
}

/// The parts of a URL as probes have them: `scheme://[user@]host[:port][/rest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) user: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
    pub(crate) rest: &'a str,
}

/// Takes a URL apart. An error repeats nothing of it, since it may hold a secret.
pub(crate) fn url<'a>(text: &'a str, schemes: &[&str]) -> Result<Url<'a>, String> {
    let form = || format!("must be {}", schemes.join("://HOST[:PORT] or ") + "://HOST[:PORT]");
    let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
    if !schemes.contains(&scheme) {
        return Err(form());
    }
    let (authority, rest) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Err(
            "carries a password, which would show; put it into a file and name that by `password_file`".to_owned()
        );
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or_else(form)?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(form)?) })
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => None,
        Some(port) => {
            let number = port.parse().ok().filter(|port| *port != 0);
            Some(number.ok_or_else(|| "has a port that is not a number from 1 to 65535".to_owned())?)
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(form());
    }
    Ok(Url { scheme, user, host, port, rest })
}

impl Url<'_> {
    /// `scheme://host:port`: what may be shown.
    pub(crate) fn shown(&self, port: u16) -> String {
        let place = Place { host: self.host, port: self.port.unwrap_or(port), tls: None };
        format!("{}://{}", self.scheme, place.shown())
    }
}
