//! HTTP/1.1 as far as tests need it: one request a connection, and nothing of the libraries that are under test.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 where there was no answer: nobody listens there, or the connection broke.
    pub status: u16,
    /// The body; without an answer, why there is none.
    pub body: String,
}

/// Sends a request and reads the answer.
pub fn ask(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    let answer = exchange(address, method, path, body);
    answer.unwrap_or_else(|e| Answer { status: 0, body: format!("{method} http://{address}{path}: {e}") })
}

fn exchange(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let answer = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
        Some(Answer { status, body: if chunked { unchunked(body)? } else { body.to_owned() } })
    });
    answer.ok_or_else(|| io::Error::other(format!("not an HTTP answer: {text:?}")))
}

/// The body of a chunked answer; `None` where it was cut.
fn unchunked(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, chunk) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(chunk.get(..size)?);
        rest = chunk.get(size..)?.strip_prefix("\r\n")?;
    }
}
