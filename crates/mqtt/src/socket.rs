//! The byte stream to the broker, TCP or TLS, with an ear for what the library below does not tell.
//!
//! The library swallows a DISCONNECT that consists of a reason code alone, without the empty property list that
//! MQTT v5 allows a broker to leave out. mosquitto from 2.0.15 and EMQX send it so, also for 0x8E (session taken over),
//! which a client must not miss: it would take the session back at once. It names no other server and no reason of a
//! refused connection, ends connections over reason codes that it does not know, and does not notice a broker that is
//! gone while it writes. So the stream listens along, and keeps the time since when an answer is awaited.
//!
//! And it outlives the library's use of it: after our own DISCONNECT it is the broker that closes, having read
//! everything. A client that closes first and connects again makes mosquitto throw away what it had not read yet.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::tokio_rustls::rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::frames::{Incoming, LastWord, Outgoing};

/// The TLS handshake failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HandshakeFault(io::Error);

impl HandshakeFault {
    /// The library's error, if it is one.
    pub(crate) fn tls(&self) -> Option<&(dyn Error + 'static)> {
        self.0.get_ref().map(|fault| fault as _)
    }
}

/// What is kept of a connection's stream beside the library.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Tapped>);

#[derive(Default)]
struct Tapped {
    heard: Mutex<Heard>,
    /// The stream, once the library has dropped it.
    left: Mutex<Option<Box<dyn Stream>>>,
}

#[derive(Default)]
struct Heard {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Since when the broker owes an answer.
    asked: Option<Instant>,
    /// Since when it takes no more bytes.
    stuck: Option<Instant>,
}

impl Tap {
    /// The code, and more, of the broker's DISCONNECT, or of a CONNACK that refuses.
    pub(crate) fn last_word(&self) -> Option<LastWord> {
        // 1 is how a broker of MQTT 3.1.1 refuses another version.
        self.heard().incoming.last_word().filter(|word| word.code >= 0x80 || word.code == 1)
    }

    /// The true code of a PUBACK that the library was told as 0x83.
    pub(crate) fn puback_code(&self, packet: u16) -> Option<u8> {
        self.heard().incoming.code(packet)
    }

    /// Since when nothing has come although an answer is due, or nothing more can be written.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        let heard = self.heard();
        heard.asked.into_iter().chain(heard.stuck).min()
    }

    /// Counts the silence from now on: nobody listened.
    pub(crate) fn excuse_silence(&self) {
        let mut heard = self.heard();
        heard.asked = heard.asked.map(|_| Instant::now());
        heard.stuck = heard.stuck.map(|_| Instant::now());
    }

    /// After our DISCONNECT, with the library's half gone: waits until the broker closes. Says whether it did.
    pub(crate) async fn closed(&self, within: Duration) -> bool {
        let left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut stream) = left else { return false };
        let mut buffer = [0; 1024];
        let drained = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
        timeout(within, drained).await.is_ok()
    }

    /// No code runs under this lock that could leave it half changed, so that poison says nothing.
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let mut heard = self.heard();
            heard.incoming.listen(bytes);
            (heard.asked, heard.stuck) = (None, None);
        }
    }

    /// Notes what came of a write of these bytes.
    fn wrote<'a>(&self, bytes: impl Iterator<Item = &'a [u8]>, result: &Poll<io::Result<usize>>) {
        let mut heard = self.heard();
        match result {
            Poll::Pending => {
                heard.stuck.get_or_insert_with(Instant::now);
            }
            Poll::Ready(Ok(written)) => {
                let mut written = *written;
                heard.stuck = None;
                for bytes in bytes {
                    let part = bytes.get(..written).unwrap_or(bytes);
                    written -= part.len();
                    if heard.outgoing.asks(part) {
                        heard.asked.get_or_insert_with(Instant::now);
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
        }
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
    Ok(Socket { stream: Some(stream), tap })
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open stream to a broker.
pub(crate) struct Socket {
    /// `None` only while it is dropped.
    stream: Option<Box<dyn Stream>>,
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
        self.tap.read(buf.filled_mut().get_mut(before..).unwrap_or_default());
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.as_mut().stream()?.poll_write(cx, buf);
        self.tap.wrote([buf].into_iter(), &result);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.as_mut().stream()?.poll_write_vectored(cx, bufs);
        self.tap.wrote(bufs.iter().map(|buf| &**buf), &result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_write_vectored())
    }
}
