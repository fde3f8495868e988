//! A connection over which systemd is asked: to the system bus, or to systemd itself.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::wire::{self, Call, FIXED_HEADER, Incoming, Reader, WireError};

/// Calls that are out at the same time. A bus allows 128 a connection by default.
const MAX_OUT: usize = 64;
/// The lines of the handshake are short.
const MAX_LINE: usize = 512;

const BUS: &str = "org.freedesktop.DBus";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum BusError {
    #[error("cannot connect to {path}: {source}")]
    Connect { path: String, source: io::Error },
    #[error("lost the connection: {0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("does not let the agent in: {0:?}")]
    Refused(String),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{member} fails: {name}")]
    Failed { member: String, name: String },
}

/// When waiting ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    until: Instant,
    given: Duration,
}

impl Deadline {
    pub(super) fn after(given: Duration) -> Self {
        Self { until: Instant::now() + given, given }
    }

    fn left(self) -> Result<Duration, BusError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(BusError::Slow(self.given)) } else { Ok(left) }
    }
}

/// See the module.
pub(super) struct Connection {
    stream: UnixStream,
    /// What has come and is not read yet, from `begun` on.
    buffer: Vec<u8>,
    begun: usize,
    out: Vec<u8>,
    serial: u32,
}

impl Connection {
    /// Connects, shows who asks, and says hello where there is a bus behind the socket.
    pub(super) fn open(path: &Path, is_bus: bool, deadline: Deadline) -> Result<Self, BusError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| BusError::Connect { path: path.display().to_string(), source })?;
        let mut this = Self { stream, buffer: Vec::new(), begun: 0, out: Vec::new(), serial: 0 };
        // Who the agent is, the other side takes from the socket: the agent's own number may be another in a container.
        this.send(b"\0AUTH EXTERNAL\r\n", deadline)?;
        this.expect_line("DATA", deadline)?;
        this.send(b"DATA\r\n", deadline)?;
        this.expect_line("OK ", deadline)?;
        this.send(b"BEGIN\r\n", deadline)?;
        if is_bus {
            let hello = Call {
                destination: Some(BUS),
                path: "/org/freedesktop/DBus",
                interface: BUS,
                member: "Hello",
                arguments: &[],
            };
            this.call(&hello, deadline, |_| Ok(()))?;
        }
        Ok(this)
    }

    /// Makes one call and reads its answer.
    pub(super) fn call<T>(
        &mut self,
        call: &Call<'_>,
        deadline: Deadline,
        read: impl FnOnce(Reader<'_>) -> Result<T, WireError>,
    ) -> Result<T, BusError> {
        let mut read = Some(read);
        let mut answer = None;
        self.calls(std::slice::from_ref(call), deadline, |_, body| {
            if let Some(read) = read.take() {
                answer = Some(match body {
                    Ok(body) => Ok(read(body)?),
                    Err(name) => Err(BusError::Failed { member: call.member.to_owned(), name: name.to_owned() }),
                });
            }
            Ok(())
        })?;
        answer.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()))
    }

    /// Makes many calls and hands each answer to `read`, with the number of its call: the body, or the error's name.
    pub(super) fn calls(
        &mut self,
        calls: &[Call<'_>],
        deadline: Deadline,
        mut read: impl FnMut(usize, Result<Reader<'_>, &str>) -> Result<(), WireError>,
    ) -> Result<(), BusError> {
        for (batch, calls) in calls.chunks(MAX_OUT).enumerate() {
            if self.serial > u32::MAX - MAX_OUT as u32 - 1 {
                self.serial = 0;
            }
            let first = self.serial + 1;
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            for (serial, call) in (first..).zip(calls) {
                call.write(serial, &mut out);
                self.serial = serial;
            }
            self.send(&out, deadline)?;
            self.out = out;
            let mut missing = calls.len();
            while missing > 0 {
                let message = self.message(deadline)?;
                let (serial, answer) = match wire::incoming(message)? {
                    Incoming::Return { serial, body } => (serial, Ok(body)),
                    Incoming::Error { serial, name } => (serial, Err(name)),
                    Incoming::Other => continue,
                };
                // An answer to another call is one that came too late.
                let Some(number) = serial.checked_sub(first).filter(|number| (*number as usize) < calls.len()) else {
                    continue;
                };
                read(batch * MAX_OUT + number as usize, answer)?;
                missing -= 1;
            }
        }
        Ok(())
    }

    /// Gives back what a large answer needed.
    pub(super) fn shrink(&mut self) {
        if self.begun == self.buffer.len() {
            self.buffer = Vec::new();
            self.begun = 0;
        }
    }

    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), BusError> {
        self.stream.set_write_timeout(Some(deadline.left()?))?;
        self.stream.write_all(bytes).map_err(|error| timed_out(error, deadline))
    }

    /// Reads until at least `count` bytes lie in the buffer.
    fn fill(&mut self, count: usize, deadline: Deadline) -> Result<(), BusError> {
        /// Some messages at once.
        const CHUNK: usize = 16 << 10;
        if self.begun > 0 && self.buffer.len() - self.begun < count {
            self.buffer.drain(..self.begun);
            self.begun = 0;
        }
        while self.buffer.len() - self.begun < count {
            self.stream.set_read_timeout(Some(deadline.left()?))?;
            let length = self.buffer.len();
            self.buffer.resize(length + CHUNK, 0);
            let read = self.stream.read(&mut self.buffer[length..]);
            self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error, deadline)),
            }
        }
        Ok(())
    }

    /// The next message, whole.
    fn message(&mut self, deadline: Deadline) -> Result<&[u8], BusError> {
        self.fill(FIXED_HEADER, deadline)?;
        let length = wire::message_length(&self.buffer[self.begun..])?;
        self.fill(length, deadline)?;
        let begun = self.begun;
        self.begun += length;
        Ok(&self.buffer[begun..begun + length])
    }

    /// The next line of the handshake, which must begin so.
    fn expect_line(&mut self, with: &str, deadline: Deadline) -> Result<(), BusError> {
        let mut count = 1;
        loop {
            self.fill(count, deadline)?;
            let waiting = &self.buffer[self.begun..];
            if let Some(end) = waiting.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&waiting[..end]).into_owned();
                self.begun += end + 2;
                return if line.starts_with(with) { Ok(()) } else { Err(BusError::Refused(line)) };
            }
            if waiting.len() >= MAX_LINE {
                return Err(BusError::Refused(String::from_utf8_lossy(&waiting[..MAX_LINE]).into_owned()));
            }
            count = waiting.len() + 1;
        }
    }
}

fn timed_out(error: io::Error, deadline: Deadline) -> BusError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => BusError::Slow(deadline.given),
        _ => error.into(),
    }
}
