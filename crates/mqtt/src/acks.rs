//! Which received messages wait for their PUBACK, in the order of receipt.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The right to acknowledge one received message, once, by [`Client::ack`](crate::Client::ack).
///
/// A token that is dropped instead leaves its message unacknowledged, and with it every later one of the connection:
/// the broker stops sending at the receive maximum, and delivers them all again after a reconnect.
#[must_use = "a message without its PUBACK holds back the PUBACKs of all later ones"]
#[derive(Debug)]
pub struct AckToken {
    connection: u64,
    number: u64,
}

impl AckToken {
    /// For a message that has no PUBACK (QoS 0). Connections are numbered from 1, so that it never matches one.
    pub(crate) const NONE: Self = Self { connection: 0, number: 0 };
}

/// The messages of the present connection that have no PUBACK yet.
///
/// Tokens of earlier connections do not match and change nothing: their packet identifiers mean nothing to the broker
/// any more, or worse, mean another message.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    open: Mutex<Open>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Open {
    connection: u64,
    /// Number of the entry at the front.
    first: u64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    packet: u16,
    given: bool,
}

impl Acks {
    /// Forgets the messages of the last connection.
    pub(crate) fn begin(&self, connection: u64) {
        *self.open() = Open { connection, first: 0, entries: VecDeque::new() };
    }

    /// Books a received message; `None` if more are without PUBACK than there are packet identifiers.
    pub(crate) fn received(&self, packet: u16) -> Option<AckToken> {
        let mut open = self.open();
        if open.entries.len() >= usize::from(u16::MAX) {
            return None;
        }
        let number = open.first + open.entries.len() as u64;
        open.entries.push_back(Entry { packet, given: false });
        Some(AckToken { connection: open.connection, number })
    }

    /// The caller's acknowledgement.
    pub(crate) fn give(&self, token: AckToken) {
        let mut open = self.open();
        if token.connection != open.connection {
            return;
        }
        let Some(index) = token.number.checked_sub(open.first) else { return };
        if let Some(entry) = open.entries.get_mut(index as usize) {
            entry.given = true;
        }
        if index == 0 {
            self.ready.notify_one();
        }
    }

    /// Takes the packet identifier whose turn it is, if its acknowledgement was given.
    pub(crate) fn next_ready(&self) -> Option<u16> {
        let mut open = self.open();
        if !open.entries.front()?.given {
            return None;
        }
        open.first += 1;
        open.entries.pop_front().map(|entry| entry.packet)
    }

    /// Waits until [`next_ready`](Self::next_ready) may have something.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// No code runs under this lock that could leave it half changed, so that poison says nothing.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(acks: &Acks) -> Vec<u16> {
        std::iter::from_fn(|| acks.next_ready()).collect()
    }

    #[test]
    fn acknowledgements_leave_in_the_order_of_receipt() {
        let acks = Acks::default();
        acks.begin(1);
        let [a, b, c] = [7, 3, 9].map(|packet| acks.received(packet).unwrap());
        acks.give(c);
        assert!(drain(&acks).is_empty());
        acks.give(a);
        assert_eq!(drain(&acks), [7]);
        acks.give(b);
        assert_eq!(drain(&acks), [3, 9]);
    }

    #[test]
    fn tokens_of_an_earlier_connection_change_nothing() {
        let acks = Acks::default();
        acks.begin(1);
        let old = acks.received(1).unwrap();
        acks.begin(2);
        let new = acks.received(1).unwrap();
        acks.give(old);
        acks.give(AckToken::NONE);
        assert!(drain(&acks).is_empty());
        acks.give(new);
        assert_eq!(drain(&acks), [1]);
    }

    #[test]
    fn more_than_there_are_packet_identifiers_are_refused() {
        let acks = Acks::default();
        acks.begin(1);
        let first = acks.received(1).unwrap();
        for packet in 2..=u16::MAX {
            let _ = acks.received(packet).unwrap();
        }
        assert!(acks.received(1).is_none());
        acks.give(first);
        assert_eq!(drain(&acks), [1]);
        let _last = acks.received(1).unwrap();
    }
}
