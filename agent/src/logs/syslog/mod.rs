//! Messages of syslog (RFC 5424 and RFC 3164) over UDP, TCP and a Unix socket.
//!
//! Nothing is kept by who sends them: what was taken and is not in the spool yet, half a second's worth, is gone with a kill.
//! While the spool takes nothing, nothing is read: TCP and the Unix socket hold their senders back, and what UDP loses then
//! is counted by the kernel and told.

mod drops;
pub mod framing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::http::Allow;
use logs::sections::SyslogSection;
use logs::{Origin, Plan, Stream};
use tracing::{info, warn};

use super::feed::Feed;
use super::source::{Next, Source};
use super::told::Counts;
use crate::host::{HostRoot, KeptFile};
use crate::outbox::Moves;
use framing::{Framing, trimmed};

/// Time between two looks, while messages come and while none do. The sockets' buffers hold what comes between.
const BUSY: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_millis(50);

/// So long after a message more are expected.
const CALM: Duration = Duration::from_secs(1);

/// Datagrams of a socket, and reads of a connection, before others have their turn.
const SHARE: usize = 1000;
const READS: usize = 4;

/// An address that can't be taken is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// How often the kernel is asked what it dropped: it walks through all sockets for that.
const ASK: Duration = Duration::from_secs(10);

/// How often faults are told.
const COMPLAINT: Duration = Duration::from_secs(600);

/// The largest datagram.
const DATAGRAM: usize = 65_536;

/// Bytes that the kernel is asked to hold for UDP. How many it does is `net.core.rmem_max`.
const HELD: usize = 4 << 20;

/// Senders over UDP that are told apart at a time.
const SENDERS: usize = 1000;

/// An input of syslog.
pub(super) struct Syslog {
    plan: Arc<Plan>,
    section: SyslogSection,
    allow: Allow,
    udp: Option<Udp>,
    tcp: Option<TcpListener>,
    unix: Option<Unix>,
    connections: Vec<Connection>,
    senders: HashMap<Option<IpAddr>, Stream>,
    buffer: Vec<u8>,
    root: HostRoot,
    /// When missing sockets are made.
    bind: Option<Instant>,
    active: Option<Instant>,
    refused: u64,
    errors: u64,
    complaints: BTreeMap<&'static str, Instant>,
}

struct Udp {
    socket: UdpSocket,
    table: KeptFile,
    inode: u64,
    asked: Instant,
    dropped: u64,
}

struct Connection {
    socket: TcpStream,
    framing: Framing,
    stream: Stream,
}

/// The socket's file goes with it.
struct Unix {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Drop for Unix {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Syslog {
    pub(super) fn new(plan: Arc<Plan>, root: &HostRoot) -> Self {
        let section = match &plan.source {
            logs::Source::Syslog(section) => section.clone(),
            _ => SyslogSection::default(),
        };
        let now = Instant::now();
        let mut this = Self {
            // The configuration was checked.
            allow: Allow::parse(&section.allow).unwrap_or_else(|_| Allow::nobody()),
            udp: None,
            tcp: None,
            unix: None,
            connections: Vec::new(),
            senders: HashMap::new(),
            buffer: vec![0; DATAGRAM],
            root: root.clone(),
            bind: Some(now),
            active: None,
            refused: 0,
            errors: 0,
            complaints: BTreeMap::new(),
            section,
            plan,
        };
        this.listen(now);
        this
    }

    fn complain(&mut self, now: Instant, about: &'static str, text: &str) {
        if self.complaints.get(about).is_none_or(|last| now >= *last + COMPLAINT) {
            self.complaints.insert(about, now);
            warn!("logs {:?}: {text}", self.plan.name);
        }
    }

    /// Makes the sockets that are not there yet.
    fn listen(&mut self, now: Instant) {
        self.bind = None;
        let mut faults = Vec::new();
        let mut failed = |what: &'static str, address: &str, error: &io::Error| {
            let remedy = match error.kind() {
                ErrorKind::PermissionDenied => {
                    "; ports below 1024 need `AmbientCapabilities=CAP_NET_BIND_SERVICE` in the agent's unit"
                }
                ErrorKind::AddrInUse => "; another program has it, perhaps rsyslog",
                ErrorKind::NotFound => "; its folder is not there",
                _ => "",
            };
            faults.push((what, format!("can't listen on {what} {address}: {error}{remedy}; it is tried again")));
        };
        if let Some(address) = self.section.udp.as_deref().filter(|_| self.udp.is_none()) {
            match udp(address, &self.root, now) {
                Ok(udp) => self.udp = Some(udp),
                Err(error) => failed("udp", address, &error),
            }
        }
        if let Some(address) = self.section.tcp.as_deref().filter(|_| self.tcp.is_none()) {
            let tcp = TcpListener::bind(address).and_then(|tcp| tcp.set_nonblocking(true).map(|()| tcp));
            match tcp {
                Ok(tcp) => self.tcp = Some(tcp),
                Err(error) => failed("tcp", address, &error),
            }
        }
        if let Some(path) = self.section.unix.as_deref().filter(|_| self.unix.is_none()) {
            match unix(path) {
                Ok(unix) => self.unix = Some(unix),
                Err(error) => failed("unix", &path.display().to_string(), &error),
            }
        }
        for (what, text) in faults {
            self.errors += 1;
            self.bind = Some(now + AGAIN);
            self.complain(now, what, &text);
        }
        if self.bind.is_none() {
            let udp = self.udp.as_ref().and_then(|udp| udp.socket.local_addr().ok());
            let tcp = self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
            let addresses = udp.map(|at| format!("udp {at}")).into_iter().chain(tcp.map(|at| format!("tcp {at}")));
            let unix = self.unix.as_ref().map(|unix| format!("unix {}", unix.path.display()));
            let all: Vec<_> = addresses.chain(unix).collect();
            info!("logs {:?}: syslog is taken on {}", self.plan.name, all.join(", "));
        }
    }

    /// Whether a peer may send; if not, it is counted.
    fn permits(&mut self, peer: IpAddr, now: Instant) -> bool {
        let permits = self.allow.permits(daemon::http::Peer::Ip(peer));
        if !permits {
            self.refused += 1;
            self.complain(now, "allow", &format!("{peer} sends messages, and `logs.syslog.allow` does not name it"));
        }
        permits
    }

    /// The next datagram of one of the two sockets: who sent it, and its bytes in the buffer.
    fn datagram(&mut self, unix: bool) -> io::Result<(Option<IpAddr>, usize)> {
        if unix {
            let Some(unix) = &self.unix else { return Err(ErrorKind::WouldBlock.into()) };
            return unix.socket.recv(&mut self.buffer).map(|length| (None, length));
        }
        let Some(udp) = &self.udp else { return Err(ErrorKind::WouldBlock.into()) };
        udp.socket.recv_from(&mut self.buffer).map(|(length, peer)| (Some(peer.ip().to_canonical()), length))
    }

    /// `true` if there is more.
    fn datagrams(&mut self, unix: bool, feed: &mut Feed<'_>) -> bool {
        for _ in 0..SHARE {
            if feed.full() {
                return true;
            }
            let (peer, length) = match self.datagram(unix) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.errors += 1;
                    self.complain(feed.now, "receive", &format!("can't receive: {error}"));
                    return false;
                }
            };
            if peer.is_some_and(|peer| !self.permits(peer, feed.now)) {
                continue;
            }
            self.active = Some(feed.now);
            if self.senders.len() >= SENDERS && !self.senders.contains_key(&peer) {
                for stream in self.senders.values_mut() {
                    feed.flush(stream);
                }
                self.senders.clear();
            }
            let plan = &self.plan;
            let stream = self.senders.entry(peer).or_insert_with(|| Stream::new(plan, origin(peer)));
            let text = trimmed(self.buffer.get(..length).unwrap_or_default());
            let taken = text.get(..feed.max_line).unwrap_or(text);
            feed.line(stream, taken, 0, (text.len() - taken.len()) as u64);
        }
        true
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..SHARE {
            let Some(Ok((socket, peer))) = self.tcp.as_ref().map(TcpListener::accept) else { return };
            let peer = peer.ip().to_canonical();
            if !self.permits(peer, now) {
                continue;
            }
            if self.connections.len() >= self.section.max_connections {
                self.refused += 1;
                let text = format!(
                    "{peer} is turned away: there are {} connections; `logs.syslog.max_connections` allows no more",
                    self.connections.len()
                );
                self.complain(now, "connections", &text);
                continue;
            }
            if socket.set_nonblocking(true).is_ok() {
                let stream = Stream::new(&self.plan, origin(Some(peer)));
                let framing = Framing::new(self.plan.max_line);
                self.connections.push(Connection { socket, framing, stream });
            }
        }
    }

    /// `true` if a connection has more.
    fn read_connections(&mut self, feed: &mut Feed<'_>) -> bool {
        let (mut more, mut at) = (false, 0);
        // Another one begins each time.
        if !self.connections.is_empty() {
            self.connections.rotate_left(1);
        }
        while let Some(connection) = self.connections.get_mut(at) {
            if feed.full() {
                return true;
            }
            let (state, bytes) = connection.read(&mut self.buffer, feed);
            if bytes > 0 {
                self.active = Some(feed.now);
            }
            match state {
                Reading::Over => {
                    feed.flush(&mut connection.stream);
                    self.connections.swap_remove(at);
                    continue;
                }
                Reading::More => more = true,
                Reading::Waits => {}
            }
            at += 1;
        }
        more
    }

    /// What waits for more lines and has waited long enough.
    fn flush(&mut self, feed: &mut Feed<'_>) {
        let patience = i64::try_from(self.plan.wait.as_millis()).unwrap_or(i64::MAX);
        let late = |since: wire::Timestamp| feed.time.as_millis() - since.as_millis() >= patience;
        let streams = self.senders.values_mut().chain(self.connections.iter_mut().map(|one| &mut one.stream));
        let due: Vec<&mut Stream> = streams.filter(|stream| stream.waiting_since().is_some_and(late)).collect();
        for stream in due {
            feed.flush(stream);
        }
    }
}

enum Reading {
    More,
    Waits,
    Over,
}

impl Connection {
    fn read(&mut self, buffer: &mut [u8], feed: &mut Feed<'_>) -> (Reading, usize) {
        let mut bytes = 0;
        for _ in 0..READS {
            if feed.full() {
                return (Reading::More, bytes);
            }
            let Self { socket, framing, stream } = self;
            match socket.read(buffer) {
                Ok(0) => {
                    framing.finish(|text, cut| feed.line(stream, text, 0, cut));
                    return (Reading::Over, bytes);
                }
                Ok(length) => {
                    bytes += length;
                    let read = buffer.get(..length).unwrap_or_default();
                    framing.take(read, |text, cut| feed.line(stream, text, 0, cut));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (Reading::Waits, bytes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    framing.finish(|text, cut| feed.line(stream, text, 0, cut));
                    return (Reading::Over, bytes);
                }
            }
        }
        (Reading::More, bytes)
    }
}

impl Udp {
    /// Asks the kernel what it dropped, now and then.
    fn ask(&mut self, now: Instant) {
        if now < self.asked {
            return;
        }
        self.asked = now + ASK;
        let inode = self.inode;
        // A container may see another table than its own; then nothing is known.
        if let Ok(Ok(Some(dropped))) = self.table.read(|text| drops::of_socket(text, inode)) {
            self.dropped = dropped;
        }
    }
}

fn udp(address: &str, root: &HostRoot, now: Instant) -> io::Result<Udp> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let own = rustix::net::sockopt::set_socket_recv_buffer_size(socket.as_fd(), HELD);
    if let Err(error) = own {
        info!("the kernel holds no more than it does by default for udp {address}: {error}");
    }
    let inode = rustix::fs::fstat(socket.as_fd())?.st_ino;
    let table = match socket.local_addr()? {
        SocketAddr::V4(_) => "net/udp",
        SocketAddr::V6(_) => "net/udp6",
    };
    Ok(Udp { socket, table: KeptFile::listing(root.proc(table)), inode, asked: now, dropped: 0 })
}

/// Every program of the host may write to it. A dead one that an earlier run left is replaced.
fn unix(path: &Path) -> io::Result<Unix> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    if is_socket {
        match UnixDatagram::unbound()?.connect(path) {
            Ok(()) => return Err(ErrorKind::AddrInUse.into()),
            Err(_) => std::fs::remove_file(path)?,
        }
    }
    let unix = Unix { socket: UnixDatagram::bind(path)?, path: path.to_owned() };
    unix.socket.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(unix)
}

/// What a message may not say itself: who sent it.
fn origin(peer: Option<IpAddr>) -> Origin {
    let fields = peer.map(|peer| ("peer".to_owned(), peer.to_string()));
    Origin { fields: fields.into_iter().collect(), ..Origin::default() }
}

impl Source for Syslog {
    fn read(&mut self, feed: &mut Feed<'_>) -> Next {
        let now = feed.now;
        if self.bind.is_some_and(|bind| now >= bind) {
            self.listen(now);
        }
        self.accept(now);
        let mut more = self.datagrams(false, feed);
        more |= self.datagrams(true, feed);
        more |= self.read_connections(feed);
        self.flush(feed);
        if let Some(udp) = &mut self.udp {
            udp.ask(now);
        }
        if more {
            return Next::Now;
        }
        let calm = self.active.is_none_or(|active| now >= active + CALM);
        Next::At(now + if calm { IDLE } else { BUSY })
    }

    /// What was taken is nowhere else.
    fn moved(&mut self, _: i64, _: &mut Moves) -> bool {
        false
    }

    fn count(&self, counts: &mut Counts) {
        counts.open = self.connections.len() as u64;
        counts.errors = self.errors;
        counts.refused = self.refused;
        counts.dropped = self.udp.as_ref().map_or(0, |udp| udp.dropped);
    }
}
