//! The byte stream to the broker, TCP or TLS, with an ear for the broker's last word.
//!
//! The library below swallows a DISCONNECT that consists of a reason code alone, without the empty property list that
//! MQTT v5 allows a broker to leave out. mosquitto from 2.0.15 and EMQX send it so, also for 0x8E (session taken over),
//! which a client must not miss: it would take the session back at once. So the stream listens along.
//!
//! And it outlives the library's use of it: after our own DISCONNECT it is the broker that closes, having read
//! everything. A client that closes first and connects again makes mosquitto throw away what it had not read yet.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::tokio_rustls::rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The TLS handshake failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HandshakeFault(io::Error);

/// What is kept of a connection's stream beside the library.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Tapped>);

#[derive(Default)]
struct Tapped {
    /// The reason code of the broker's DISCONNECT. 0 (normal disconnection) is never sent by one, and as good as none.
    code: AtomicU8,
    /// The stream, once the library has dropped it.
    left: Mutex<Option<Box<dyn Stream>>>,
}

impl Tap {
    /// The reason code of the DISCONNECT that the broker sent, if it did.
    pub(crate) fn code(&self) -> Option<u8> {
        Some(self.0.code.load(Ordering::Acquire)).filter(|code| *code != 0)
    }

    /// After our DISCONNECT, with the library's half gone: waits until the broker closes. Says whether it did.
    pub(crate) async fn closed(&self, within: Duration) -> bool {
        let left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut stream) = left else { return false };
        let mut buffer = [0; 1024];
        let drained = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
        timeout(within, drained).await.is_ok()
    }
}

/// Connects, with TLS if there is a configuration for it.
pub(crate) async fn connect(host: String, port: u16, tls: Option<Arc<ClientConfig>>, tap: Tap) -> io::Result<Socket> {
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    tcp.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(config) => {
            let fault = |error| io::Error::other(HandshakeFault(error));
            let name = ServerName::try_from(host).map_err(|error| fault(io::Error::other(error)))?;
            Box::new(TlsConnector::from(config).connect(name, tcp).await.map_err(fault)?)
        }
    };
    Ok(Socket { stream: Some(stream), frames: Frames::default(), tap })
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open stream to a broker.
pub(crate) struct Socket {
    /// `None` only while it is dropped.
    stream: Option<Box<dyn Stream>>,
    frames: Frames,
    tap: Tap,
}

impl Socket {
    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut Box<dyn Stream>>> {
        let stream = self.get_mut().stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::Error::other("BUG: a stream was used after its end"))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        *self.tap.0.left.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = self.as_mut().stream()?.poll_read(cx, buf);
        if let Some(code) = self.frames.listen(buf.filled().get(before..).unwrap_or_default()) {
            self.tap.0.code.store(code, Ordering::Release);
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_write_vectored())
    }
}

/// The first byte of a DISCONNECT.
const DISCONNECT: u8 = 0xE0;

/// Follows the packets in a stream of bytes just far enough to find a DISCONNECT.
///
/// It judges nothing: in a stream that is no MQTT it may end up anywhere, and the library ends that connection.
#[derive(Debug, Default)]
enum Frames {
    /// The next byte is the first of a packet.
    #[default]
    Start,
    /// In the remaining length, of which `shift` bits were read.
    Length { first: u8, length: usize, shift: u32 },
    /// `left` bytes of the packet are to come.
    Body { first: u8, left: usize },
    /// A DISCONNECT was found; nothing follows it.
    Over,
}

impl Frames {
    /// Takes the next bytes; returns the reason code of a DISCONNECT if it is among them.
    fn listen(&mut self, mut bytes: &[u8]) -> Option<u8> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match *self {
                Self::Start => {
                    *self = Self::Length { first: byte, length: 0, shift: 0 };
                    bytes = rest;
                }
                Self::Length { first, length, shift } => {
                    let length = length | usize::from(byte & 0x7F) << shift;
                    *self = match (byte & 0x80 != 0, length) {
                        // A fourth continuation is malformed; there is no use in following further.
                        (true, _) if shift >= 21 => Self::Over,
                        (true, _) => Self::Length { first, length, shift: shift + 7 },
                        (false, 0) => Self::Start,
                        (false, left) => Self::Body { first, left },
                    };
                    bytes = rest;
                }
                Self::Body { first: DISCONNECT, .. } => {
                    *self = Self::Over;
                    return Some(byte);
                }
                Self::Body { first, left } => {
                    let taken = left.min(bytes.len());
                    *self = if taken == left { Self::Start } else { Self::Body { first, left: left - taken } };
                    bytes = &bytes[taken..];
                }
                Self::Over => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONNACK, a PUBLISH of 200 bytes that is full of what looks like a DISCONNECT, PINGRESP.
    fn before() -> Vec<u8> {
        let mut bytes = vec![0x20, 0x03, 0x00, 0x00, 0x00, 0x32, 0xC8, 0x01];
        bytes.extend([0xE0, 0x01].repeat(100));
        bytes.extend([0xD0, 0x00]);
        bytes
    }

    #[test]
    fn a_disconnect_is_found_in_each_of_its_forms_and_however_the_bytes_come() {
        for last in [&[0xE0, 0x01, 0x8E][..], &[0xE0, 0x02, 0x8E, 0x00], &[0xE0, 0x05, 0x8E, 0x03, 0x1F, 0x00, 0x00]] {
            let bytes = [&before()[..], last].concat();
            for size in [1, 2, 3, 7, bytes.len()] {
                let mut frames = Frames::default();
                let found: Vec<u8> = bytes.chunks(size).filter_map(|chunk| frames.listen(chunk)).collect();
                assert_eq!(found, [0x8E], "in pieces of {size}");
            }
        }
    }

    #[test]
    fn nothing_is_found_where_there_is_none() {
        for bytes in [before(), vec![0xFF; 100], vec![0xE0, 0x00], vec![0xE0], vec![]] {
            assert_eq!(Frames::default().listen(&bytes), None, "{bytes:02X?}");
        }
    }
}
