//! A narrow MQTT v5 client: connect, subscribe, publish at QoS 1, acknowledge by hand, stop cleanly.
//!
//! It knows no topics and no messages of ours, and nothing of the library below shows in its interface, so that the
//! library can be exchanged. One task drives the connection; the caller has two halves of it:
//!
//! - a [`Client`], cheap to clone, which hands work to the task and never waits for the network, and
//! - the [`Events`], read by one consumer, which tell what came of it.
//!
//! # What it promises
//!
//! 1. Every publish that [`Client::try_publish`] took ends in exactly one of [`Event::Acked`], [`Event::Refused`] and
//!    [`Event::Lost`], also when the connection breaks, the broker restarts or the client stops. It keeps nothing across
//!    connections: what had no PUBACK when a connection ended is `Lost`, and the caller, who has the record, decides
//!    when to publish it again.
//! 2. A received message is acknowledged when the caller says so, and PUBACKs leave in the order of receipt whatever the
//!    order in which they were given. One that belongs to an earlier connection is dropped: the broker delivers again.
//! 3. All queues are bounded: publishes by [`Options::max_in_flight`], received messages by
//!    [`Options::receive_maximum`]. A consumer that reads slowly stops the reading from the network, but not for longer
//!    than the keep-alive time: then the connection ends. Before the task connects again it waits until the consumer has
//!    read every event of the connection before.
//! 4. It reconnects with a growing, jittered pause, for ever, except after reason 0x8E (session taken over): two clients
//!    of one name would otherwise take the session from each other without end. Where the broker tells no such reason,
//!    it finds out by itself and leaves the session to the other one for a long pause ([`Cause::Rival`]).
//! 5. What the broker allows is kept to before anything is sent: packet size, publishes under way, retained messages,
//!    shared and wildcard subscriptions. A publish over which a broker ends the connection is `Refused`, not `Lost`.
//! 6. A broker that owes an answer is given up at most one and a half keep-alive times after it was last heard.
//! 7. A password or private key is in no `Debug`, `Display` or log line.

mod acks;
mod backoff;
mod client;
mod connection;
mod credentials;
mod driver;
mod event;
mod frames;
mod link;
mod options;
mod reason;
mod rival;
mod session;
mod socket;
mod wishes;

pub use acks::AckToken;
pub use backoff::Pauses;
pub use client::{Client, Events, PublishError, Stopped};
pub use event::{Cause, Disconnect, Event, Limits, Message};
pub use options::{BrokerUrl, Credentials, Options, OptionsError, Secret, Source};
pub use tls::Tls;
