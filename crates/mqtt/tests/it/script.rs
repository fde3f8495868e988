//! A broker that does what a test says, for what no real one can be made to do.

use std::future::Future;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// CONNACK: success, no session, no properties.
pub(super) const WELCOME: &[u8] = &[0x20, 0x03, 0x00, 0x00, 0x00];

/// One connection, seen from the broker.
pub(super) struct Wire(pub(super) TcpStream);

impl Wire {
    /// The next packet: its first byte and its body; `None` at the end.
    pub(super) async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.0.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        // The client may have left already.
        let _ = self.0.write_all(bytes).await;
    }

    /// Reads the CONNECT and answers it with these bytes.
    pub(super) async fn connect(&mut self, answer: &[u8]) {
        assert_eq!(self.packet().await.map(|(first, _)| first), Some(0x10), "a CONNECT");
        self.send(answer).await;
    }

    /// Reads until a PUBLISH; its packet identifier, and its size as it was on the wire but for the fixed header.
    pub(super) async fn publish(&mut self) -> Option<([u8; 2], usize)> {
        loop {
            let (first, body) = self.packet().await?;
            if first >> 4 == 3 {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                return Some(([body[2 + topic], body[3 + topic]], body.len()));
            }
        }
    }

    /// Answers PUBLISH, SUBSCRIBE, UNSUBSCRIBE and PINGREQ with success until the client leaves.
    pub(super) async fn obey(&mut self) {
        while let Some((first, body)) = self.packet().await {
            match first >> 4 {
                3 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    self.send(&[0x40, 0x02, body[2 + topic], body[3 + topic]]).await;
                }
                8 => self.send(&[0x90, 0x04, body[0], body[1], 0x00, 0x01]).await,
                10 => self.send(&[0xB0, 0x04, body[0], body[1], 0x00, 0x00]).await,
                12 => self.send(&[0xD0, 0x00]).await,
                14 => return,
                _ => {}
            }
        }
    }
}

/// Serves connections one after the other, numbered from 1; returns the URL.
pub(super) async fn broker<F, S>(serve: S) -> String
where
    S: Fn(usize, Wire) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for number in 1.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            serve(number, Wire(stream)).await;
        }
    });
    url
}

/// A CONNACK with these flags, code and properties.
pub(super) fn connack(session: bool, code: u8, properties: &[u8]) -> Vec<u8> {
    [&[0x20, properties.len() as u8 + 3, u8::from(session), code, properties.len() as u8], properties].concat()
}

/// A v5 property with a text.
pub(super) fn text(id: u8, text: &str) -> Vec<u8> {
    [&[id][..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}
