//! Reading from a connection what a parser has to say is whole.

use daemon::client::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is read at once.
const PIECE: usize = 4 << 10;

/// A connection and what was read of it and not yet taken.
pub(super) struct Talk {
    stream: Stream,
    buffer: Vec<u8>,
    /// The most that may wait for the rest of an answer.
    most: usize,
}

impl Talk {
    pub(super) fn new(stream: Stream, most: usize) -> Self {
        Self { stream, buffer: Vec::new(), most }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| format!("the connection broke while something was sent: {error}"))
    }

    /// Reads until `parse` finds a whole thing at the beginning: it gives that and its length, or nothing yet.
    pub(super) async fn take<T>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, String>,
    ) -> Result<T, String> {
        loop {
            if let Some((found, length)) = parse(&self.buffer)? {
                self.buffer.drain(..length.min(self.buffer.len()));
                return Ok(found);
            }
            if self.more().await? == 0 {
                return Err("it closed the connection before its answer was whole".to_owned());
            }
        }
    }

    /// Reads a piece more; 0 at the end of the connection.
    async fn more(&mut self) -> Result<usize, String> {
        if self.buffer.len() >= self.most {
            return Err(format!("its answer is longer than {} bytes", self.most));
        }
        self.buffer.reserve(PIECE);
        self.stream.read_buf(&mut self.buffer).await.map_err(|error| format!("the connection broke: {error}"))
    }
}
