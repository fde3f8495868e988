//! A broker that sends what it should not, at each stage of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mqtt::{Cause, Event};
use tokio::io::AsyncWriteExt;

use super::script::{WELCOME, broker, text};
use super::support::{Peer, message, options};

/// Connections of garbage that a client must outlive.
const ROUNDS: usize = 600;

/// A small generator, so that a failure can be had again by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
}

/// Well-formed packets of every type that a broker sends, and some that it does not.
fn packets() -> Vec<Vec<u8>> {
    let publish = |flags: u8, body: &[u8]| [&[0x30 | flags, body.len() as u8][..], body].concat();
    vec![
        WELCOME.to_vec(),
        publish(0, &[0, 1, b't', 0, b'x']),
        publish(2, &[0, 1, b't', 0, 7, 0, b'x']),
        publish(4, &[0, 1, b't', 0, 8, 0, b'x']),
        // A topic alias, though none is allowed; an alias without topic; a topic that is no UTF-8; identifier 0.
        publish(2, &[0, 1, b't', 0, 7, 3, 0x23, 0, 1]),
        publish(2, &[0, 0, 0, 7, 3, 0x23, 0, 1]),
        publish(2, &[0, 1, 0xFF, 0, 7, 0]),
        publish(2, &[0, 1, b't', 0, 0, 0]),
        vec![0x40, 0x02, 0x00, 0x01],
        vec![0x40, 0x04, 0x00, 0x01, 0x97, 0x00],
        vec![0x50, 0x02, 0x00, 0x01],
        vec![0x62, 0x02, 0x00, 0x01],
        vec![0x70, 0x02, 0x00, 0x01],
        vec![0x90, 0x04, 0x00, 0x01, 0x00, 0x01],
        vec![0x90, 0x06, 0x00, 0x01, 0x00, 0x01, 0x87, 0x97],
        vec![0xB0, 0x04, 0x00, 0x01, 0x00, 0x00],
        vec![0xC0, 0x00],
        vec![0xD0, 0x00],
        vec![0xE0, 0x00],
        vec![0xE0, 0x02, 0x82, 0x00],
        [&[0xE0, 0x0A, 0x80, 0x08][..], &text(0x1F, "words")].concat(),
        vec![0xF0, 0x02, 0x18, 0x00],
        // Lengths of 256 MiB and beyond what can be expressed.
        vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        vec![0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        vec![0xE0, 0xFF, 0xFF, 0xFF, 0x7F, 0x80],
        vec![0x40, 0xFF, 0xFF, 0xFF, 0x7F, 0x00, 0x01, 0x95],
        // An unknown property; a property list that is longer than its packet.
        vec![0x20, 0x05, 0x00, 0x00, 0x02, 0x7E, 0x00],
        vec![0x20, 0x04, 0x00, 0x00, 0x7F, 0x21],
    ]
}

/// What one connection gets to hear.
fn garbage(random: &mut Random) -> Vec<u8> {
    let packets = packets();
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(6) {
        let mut packet = packets[random.below(packets.len())].clone();
        match random.below(4) {
            0 => packet.truncate(random.below(packet.len() + 1)),
            1 => {
                let at = random.below(packet.len());
                packet[at] = random.next() as u8;
            }
            2 => packet = random.bytes(64),
            _ => {}
        }
        bytes.extend(packet);
    }
    bytes
}

#[tokio::test]
async fn no_garbage_stops_a_client_or_loses_count_of_its_publishes() {
    let seed = 0x5EED_0001_u64;
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let url = broker(move |number, mut wire| {
        count.store(number, Ordering::SeqCst);
        let mut random = Random(seed.wrapping_mul(number as u64 | 1) | 1);
        async move {
            if number > ROUNDS {
                wire.connect(WELCOME).await;
                return wire.obey().await;
            }
            // Before the CONNACK, after it, or in the middle of the traffic that follows.
            let stage = random.below(4);
            if stage > 0 {
                wire.connect(WELCOME).await;
            }
            if stage > 1 {
                let _ = tokio::time::timeout(Duration::from_millis(20), wire.publish()).await;
            }
            let bytes = garbage(&mut random);
            for piece in bytes.chunks(1 + random.below(bytes.len().max(1))) {
                wire.send(piece).await;
            }
            if random.below(2) == 0 {
                let _ = wire.0.shutdown().await;
            }
        }
    })
    .await;
    let mut client_options = options(&url, "client");
    client_options.pauses.first = Duration::from_micros(100);
    client_options.pauses.most = Duration::from_millis(1);
    client_options.connect_timeout = Duration::from_millis(50);
    client_options.receive_maximum = 8;
    client_options.max_in_flight = 4;
    let mut client = Peer::start(client_options);
    client.client.subscribe(["t", "$share/g/u"]).await.unwrap();
    let (mut id, mut open) = (0_u64, Vec::new());
    loop {
        match client.next().await {
            Some(Event::Disconnected { reason, retry_in }) => {
                // 0x8E is among what a flipped byte can make: then the client may stop, and begins anew.
                if retry_in.is_none() {
                    assert_eq!(reason.cause, Cause::TakenOver, "{reason}");
                    panic!("seed {seed:#x} makes a 0x8E by chance; choose another");
                }
            }
            Some(Event::Acked { id, .. } | Event::Refused { id, .. } | Event::Lost { id }) => {
                let index = open.iter().position(|known| *known == id);
                open.swap_remove(index.unwrap_or_else(|| panic!("{id} had its outcome already")));
            }
            Some(Event::Received { ack, .. }) => client.client.ack(ack),
            Some(_) => {}
            None => panic!("the client ended in round {}", served.load(Ordering::SeqCst)),
        }
        if served.load(Ordering::SeqCst) <= ROUNDS && client.client.try_publish(id, message("t", "x")).is_ok() {
            open.push(id);
            id += 1;
        }
        if served.load(Ordering::SeqCst) > ROUNDS && open.is_empty() {
            break;
        }
    }
    assert_eq!(client.client.in_flight(), 0);
    assert!(id > 100, "only {id} publishes were under way in all rounds");
}

#[tokio::test]
async fn a_packet_beyond_what_is_taken_costs_no_memory_and_a_line_of_the_log() {
    // 256 MiB are announced, and kept sending: neither of them is waited for.
    let url = broker(|number, mut wire| async move {
        wire.connect(WELCOME).await;
        if number > 1 {
            return wire.obey().await;
        }
        wire.send(&[0x32, 0xFF, 0xFF, 0xFF, 0x7F, 0x00, 0x01, b't']).await;
        let piece = vec![0; 1 << 16];
        while wire.0.write_all(&piece).await.is_ok() {}
    })
    .await;
    let mut client = Peer::connect(options(&url, "client")).await;
    let (reason, _) = client.disconnected().await;
    assert_eq!(reason.cause, Cause::Protocol, "{reason}");
    client.connected().await;
    client.publish(1, message("t", "x")).await;
}
