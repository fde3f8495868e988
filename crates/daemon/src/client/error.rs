use std::fmt;
use std::time::Duration;

/// There is no answer. Names the server, and of its URL nothing but scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The host's name gives no address.
    #[error("the name in {place} has no address ({why}); check the name and the resolver")]
    Resolve {
        /// The server.
        place: String,
        /// The resolver's words.
        why: String,
    },
    /// Nobody takes the connection.
    #[error("can't connect to {place}: {why}")]
    Connect {
        /// The server, or the socket's file.
        place: String,
        /// Why.
        why: String,
    },
    /// The server is not the one that was meant, or does not take us for who we are.
    #[error("no TLS with {place}: {why}")]
    Tls {
        /// The server.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// It took longer than the deadline.
    #[error("{place} took longer than {}: {stage}", Seconds(*after))]
    Timeout {
        /// The server.
        place: String,
        /// What was waited for.
        stage: Stage,
        /// The deadline.
        after: Duration,
    },
    /// It is no answer of HTTP, or did not come to its end.
    #[error("no answer of {place}: {why}")]
    Protocol {
        /// The server.
        place: String,
        /// Why.
        why: String,
        /// Whether the request may have left.
        sent: bool,
    },
}

impl SendError {
    /// Whether the server may have got the request all the same, so that sending it again may do a thing twice.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Tls { .. } => false,
            Self::Timeout { stage, .. } => matches!(stage, Stage::Answer | Stage::Body),
            Self::Protocol { sent, .. } => *sent,
        }
    }
}

/// What a request waits for, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The host's addresses.
    Resolve,
    /// A connection to one of them.
    Connect,
    /// The handshake.
    Tls,
    /// The answer's head, while the request is sent or after.
    Answer,
    /// The rest of the answer.
    Body,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "its name was not resolved",
            Self::Connect => "it took no connection",
            Self::Tls => "the TLS handshake did not end",
            Self::Answer => "it did not answer",
            Self::Body => "its answer did not end",
        })
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}
