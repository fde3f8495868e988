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
        /// What the broker allows on this connection.
        limits: Limits,
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
    /// A subscription was refused. It is asked for again at the next connection, and on this one after
    /// [`Pauses::refused`](crate::Pauses::refused) where time may change the answer.
    SubscriptionRefused {
        /// The topic filter as it was given.
        filter: String,
        /// The v5 reason code; `None` if the filter never left, being malformed. 0x9E and 0xA2 also where the filter
        /// never left because the broker said at the connection that it has no shared or wildcard subscriptions.
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
        /// Whether anyone had subscribed, as far as the broker says it: `false` for reason 0x10 (no matching
        /// subscribers), which is no error, and which not every broker tells.
        matched: bool,
    },
    /// The broker, or this client in its place, does not take a publish.
    Refused {
        /// As given to [`Client::try_publish`](crate::Client::try_publish).
        id: u64,
        /// The v5 reason code. A message that never left has one too where there is one for it: 0x95 too large for the
        /// broker, 0x90 no topic name, 0x9A to be retained by a broker that retains nothing. `None`: it can't be
        /// expressed in MQTT.
        code: Option<u8>,
        /// `true`: the message may be taken later as it is (quota exceeded, not authorized, an error of the broker's own);
        /// wait before trying again. `false`: in this form it never will be.
        retry: bool,
        /// A sentence for the log.
        reason: String,
    },
    /// A publish had no PUBACK when its connection ended; the broker may have it or not. To be published again.
    Lost {
        /// As given to [`Client::try_publish`](crate::Client::try_publish).
        id: u64,
    },
}

/// What a broker allows on a connection, from its CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many of our publishes may be without PUBACK, in messages. The client keeps to it by itself.
    pub receive_maximum: u16,
    /// The largest packet that the broker takes, in bytes, with topic and properties; `None`: no limit was named.
    /// What is larger is [`Event::Refused`] with 0x95 and never sent.
    pub max_packet: Option<u32>,
    /// The keep-alive time that is in force: ours, or the broker's where it demands another.
    pub keep_alive: Duration,
    /// How long the broker keeps the session after the connection.
    pub session_expiry: Duration,
    /// Whether the broker keeps retained messages.
    pub retain: bool,
    /// Whether it has shared subscriptions (`$share/…`).
    pub shared: bool,
    /// Whether filters may have wildcards.
    pub wildcards: bool,
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
    /// Another client connected under the same client id, and the broker said so (0x8E). This client has stopped.
    TakenOver,
    /// Another client has the session of this client id each time that this one comes back, which a broker that says no
    /// 0x8E let us find out. This client leaves it to the other one for [`Pauses::rival`](crate::Pauses::rival).
    Rival,
    /// The broker has too much to do, or a quota is used up (0x88, 0x89, 0x96, 0x97, 0x9F, 0xA0).
    Busy,
    /// The broker is shutting down (0x8B).
    ShuttingDown,
    /// The broker is elsewhere now (0x9C, 0x9D); the sentence has its address where it was told.
    Moved,
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
