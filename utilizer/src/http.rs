//! Asks over HTTP/1.1: one request a connection, without TLS.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

/// Whatever goes wrong on the way.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// `HOST:PORT`.
    Tcp(&'a str),
    /// A socket's file.
    Unix(&'a Path),
}

/// Sends a request. An answer with more than `most` bytes is an error.
pub async fn ask(place: Place<'_>, request: Request<Full<Bytes>>, most: usize) -> Result<(StatusCode, Bytes), Error> {
    match place {
        Place::Tcp(address) => exchange(TcpStream::connect(address).await?, request, most).await,
        Place::Unix(path) => exchange(UnixStream::connect(path).await?, request, most).await,
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, most: usize) -> Result<(StatusCode, Bytes), Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await?.to_bytes();
        Ok((status, body))
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// Why there was no connection, without what an error of the system says besides.
pub fn sentence(error: &Error) -> String {
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens there".to_owned(),
        Some(io::ErrorKind::NotFound) => "there is no such file".to_owned(),
        _ => error.to_string(),
    }
}
