//! An address: it answers an echo request. By sockets that need no capability where the kernel lets the agent's group have them.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, ipproto};
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::dial;
use super::{Asking, Faults, Look, Run};

/// Bytes behind the head, as `ping` sends them.
const PAYLOAD: usize = 56;

/// Types of messages: requests and replies.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// `[probe.icmp]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Icmp {
    /// A name or an address.
    pub host: String,
}

impl Look for Icmp {
    fn target(&self) -> String {
        self.host.clone()
    }

    fn check(&self, faults: &mut Faults) {
        if self.host.is_empty() || self.host.contains(['/', '@', ' ']) {
            faults.add("host", "must be a name or an address");
        }
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let (addresses, resolve) = dial::resolve(run, &self.host, 0).await?;
            let Some(address) = addresses.first() else { return Err(format!("{} has no address", self.host)) };
            let begun = Instant::now();
            let socket = socket(*address).await?;
            let setup = begun.elapsed().as_secs_f64();
            run.found.stage("the answer");
            let begun = Instant::now();
            let id = uuid::Uuid::new_v4();
            let result = echo(&socket, address.ip(), id.as_bytes()).await;
            let phases = [("resolve", resolve), ("setup", setup), ("rtt", begun.elapsed().as_secs_f64())];
            for (phase, seconds) in phases.iter().take(if result.is_ok() { 3 } else { 2 }) {
                let help = "How long each part of the request took.";
                run.found.labelled("probe_icmp_duration_seconds", help, ("phase", *phase), *seconds);
            }
            result
        })
    }
}

/// A socket for echo requests. The kernel knows it as one that sends datagrams, and so does the library.
async fn socket(address: SocketAddr) -> Result<UdpSocket, String> {
    let (family, protocol) = match address.ip() {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let made = rustix::net::socket(family, SocketType::DGRAM, Some(protocol));
    let socket = made.map_err(|error| match error {
        Errno::ACCESS | Errno::PERM => "the kernel gives this user no sockets for echo requests: put the agent's group \
            among those that get them by `sysctl net.ipv4.ping_group_range=\"0 2147483647\"`"
            .to_owned(),
        Errno::AFNOSUPPORT => "this host, or the agent's sandbox, does not have this IP protocol".to_owned(),
        error => format!("there is no socket for echo requests: {error}"),
    })?;
    let socket = std::net::UdpSocket::from(socket);
    let made = socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket));
    let socket = made.map_err(|error| error.to_string())?;
    socket.connect(address).await.map_err(|error| format!("it can't be reached: {error}"))?;
    Ok(socket)
}

async fn echo(socket: &UdpSocket, address: IpAddr, token: &[u8]) -> Result<(), String> {
    let broke = |error| format!("it can't be reached: {error}");
    socket.send(&request(address, token)).await.map_err(broke)?;
    let mut buffer = [0; 1500];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(broke)?;
        // The kernel hands each socket its own replies only.
        if is_reply(buffer.get(..length).unwrap_or_default(), address, token) {
            return Ok(());
        }
    }
}

/// An echo request. The kernel puts its own number and the checksum in.
fn request(to: IpAddr, token: &[u8]) -> Vec<u8> {
    let (kind, _) = if to.is_ipv4() { V4 } else { V6 };
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 1];
    bytes.extend(token.iter().copied().cycle().take(PAYLOAD));
    bytes
}

/// Whether this replies to a request with this token.
fn is_reply(bytes: &[u8], from: IpAddr, token: &[u8]) -> bool {
    let (_, kind) = if from.is_ipv4() { V4 } else { V6 };
    bytes.first() == Some(&kind) && bytes.get(8..8 + token.len()) == Some(token)
}

/// For fuzzing.
pub(super) fn read_anything(data: &[u8]) {
    let _ = is_reply(data, IpAddr::from([127, 0, 0, 1]), b"token");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_the_token() {
        let to = IpAddr::from([127, 0, 0, 1]);
        let mut bytes = request(to, b"0123456789abcdef");
        assert!(bytes.len() == 64 && !is_reply(&bytes, to, b"0123456789abcdef"));
        bytes[0] = 0;
        assert!(is_reply(&bytes, to, b"0123456789abcdef") && !is_reply(&bytes, to, b"x123456789abcdef"));
        assert!(!is_reply(&bytes[..8], to, b"0123456789abcdef"));
    }
}
