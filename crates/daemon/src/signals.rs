//! TERM, INT and HUP; and CHLD for whoever starts processes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_core::Stream;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: drain and stop.
    Stop,
    /// HUP: read the configuration anew.
    Reload,
}

/// The process's signals, as a sequence of requests.
pub struct Signals(signal_hook_tokio::Signals);

impl Signals {
    /// Takes over TERM, INT and HUP for the whole process. Call it once, inside a tokio runtime.
    pub fn install() -> io::Result<Self> {
        signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP]).map(Self)
    }

    /// The next request.
    pub async fn next(&mut self) -> Signal {
        match poll_fn(|context| Pin::new(&mut self.0).poll_next(context)).await {
            Some(SIGHUP) => Signal::Reload,
            // `None` means that the signals were closed, which nobody but this value could do.
            Some(_) | None => Signal::Stop,
        }
    }
}

/// Tells that some child of this process has changed.
pub struct Children(signal_hook_tokio::Signals);

impl Children {
    /// Watches from now on: make it before the child. Inside a tokio runtime.
    pub fn watch() -> io::Result<Self> {
        signal_hook_tokio::Signals::new([SIGCHLD]).map(Self)
    }

    /// Returns when a child, any of them, has changed since the last call. Several changes may be told at once.
    pub async fn changed(&mut self) {
        poll_fn(|context| Pin::new(&mut self.0).poll_next(context)).await;
    }
}
