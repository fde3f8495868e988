//! What the caller hands in and what it is told.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::AckToken;

/// An application message. It is published, and asked for, at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Topic name, without wildcards.
    pub topic: String,
    /// The payload, not looked into.
    pub payload: Bytes,
    /// Publishing: the broker keeps it as the topic's state. Receiving: the broker sent it from its store because of a
    /// new subscription; a message passed on as it is published comes without.
    pub retain: bool,
    /// The v5 property of that name, such as `application/json`.
    pub content_type: Option<String>,
    /// The v5 user properties, in order.
    pub user_properties: Vec<(String, String)>,
}

/// What happened on the connection or to a publish.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the connection; publishes are taken from now on.
    Connected {
        /// Whether the broker kept the session, and with it the subscriptions, from an earlier connection.
        session_present: bool,
    },
    /// The connection ended, or an attempt at one failed.
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// The pause until the next attempt; `None`: there will be none, this is the last event.
        retry_in: Option<Duration>,
    },
    /// The broker accepted a subscription. Comes again after each reconnect.
    Subscribed {
        /// The topic filter as it was given.
        filter: String,
    },
    /// A subscription was refused. It is asked for again at the next connection.
    SubscriptionRefused {
        /// The topic filter as it was given.
        filter: String,
        /// The v5 reason code; `None` if the filter never left, being malformed.
        code: Option<u8>,
        /// A sentence for the log.
        reason: String,
    },
    /// A message came in.
    Received {
        /// The message.
        message: Message,
        /// To be given to [`Client::ack`](crate::Client::ack) once the message is safe.
        ack: AckToken,
    },
    /// The broker took a publish (PUBACK). That is not yet its delivery to anyone.
    Acked {
        /// As given to [`Client::try_publish`](crate::Client::try_publish).
        id: u64,
    },
    /// A publish can't be had in this form: sending it again unchanged would be refused again.
    Refused {
        /// As given to [`Client::try_publish`](crate::Client::try_publish).
        id: u64,
        /// The v5 reason code; `None` if the message never left, being malformed or too large.
        code: Option<u8>,
        /// A sentence for the log.
        reason: String,
    },
    /// A publish had no PUBACK when its connection ended; the broker may have it or not. To be published again.
    Lost {
        /// As given to [`Client::try_publish`](crate::Client::try_publish).
        id: u64,
    },
}

/// Why a connection ended or did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// What kind of fault it was.
    pub cause: Cause,
    /// The v5 reason code of the broker's CONNACK or DISCONNECT, where it sent one.
    pub code: Option<u8>,
    /// A sentence that names the broker, the fault and, where one is known, the remedy.
    pub sentence: String,
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Kinds of fault, as far as a caller may want to act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No connection to that host and port: refused, unknown name, no route.
    Unreachable,
    /// The TLS handshake failed.
    Tls,
    /// The broker does not accept this user (0x86, 0x87, 0x8C).
    Credentials,
    /// Another client connected under the same client id (0x8E).
    TakenOver,
    /// The broker refused or ended the connection for another reason of its own.
    Refused,
    /// The connection broke without a word from the broker.
    Closed,
    /// No answer in time.
    Timeout,
    /// One of the two sides did not keep to the protocol.
    Protocol,
    /// The consumer did not read the events while the broker sent more messages than there is room for.
    Overrun,
}
