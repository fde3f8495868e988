//! What the machines keep does not grow with the records.

use delivery::receiver::{Arrived, Receiver};
use delivery::sender::{DiskState, MOST_PUBLISHED, Sender};
use delivery::{Identity, KindSet, Millis, receiver, sender};
use wire::messages::{TierState, TierStatus};
use wire::{BootId, GroupName, HostName, Kind, MemberName, Timestamp, VERSION};

use crate::sim::Random;

fn announcement(state: TierState) -> TierStatus {
    TierStatus {
        v: VERSION,
        group: "postgres".parse().unwrap(),
        member: "m0".parse().unwrap(),
        state,
        time: Timestamp::from_millis(0),
        sink: String::new(),
        kinds: vec![Kind::Metrics],
        durable: true,
        version: String::new(),
    }
}

/// Asks for everything that may go now, and has the broker take it.
fn pump(sender: &mut Sender, now: Millis, mut publish: impl FnMut(u64)) {
    while let Some(next) = sender.next(now) {
        sender.puback(next.id, now);
        publish(next.seq);
    }
}

/// A day and 100,000 records; the database is down all the time, the network now and then, and a tenth is lost.
#[test]
fn a_day_without_the_database_costs_disk_only() {
    let host: HostName = "web-01".parse().unwrap();
    let boot: BootId = "run-1".parse().unwrap();
    let (group, member): (GroupName, MemberName) = ("postgres".parse().unwrap(), "m0".parse().unwrap());
    let identity = |seq| Identity { host: host.clone(), boot: boot.clone(), kind: Kind::Metrics, seq };
    let mut sender = Sender::new(&sender::Settings::default(), boot.clone(), DiskState::default());
    let mut receiver = Receiver::new(receiver::Settings { kinds: KindSet::all(), ..receiver::Settings::default() });
    let mut random = Random::new(3);
    let (mut most_sender, mut most_receiver) = (0, 0);
    for seq in 1..=100_000u64 {
        let now = Millis(seq * 864);
        sender.appended(Kind::Metrics, seq);
        if seq % 20_000 == 1 {
            sender.connected();
            sender.subscribed(now);
            sender.tier_status(&announcement(TierState::Online));
        } else if seq % 20_000 == 15_000 {
            sender.disconnected(now);
        }
        pump(&mut sender, now, |seq| {
            if !random.chance(1_000) && receiver.received(&identity(seq), now) == Arrived::Store {
                receiver.stored(&identity(seq), now);
            }
        });
        for name in receiver.due(now, 10) {
            let said = receiver.confirmation(&name, None, now);
            if let Some(said) = said.filter(|_| !random.chance(1_000)) {
                sender.confirmation(&group, &member, &said, now);
            }
        }
        assert!(sender.take_freed().is_empty());
        sender.durable(sender.version());
        most_sender = most_sender.max(sender.size());
        most_receiver = most_receiver.max(receiver.size());
    }
    assert_eq!(sender.unfreed(Kind::Metrics), 100_000);
    assert!(receiver.held() > 90_000, "{}", receiver.held());
    assert!(most_sender < 4_000, "{most_sender}");
    assert!(most_receiver < 2_000, "{most_receiver}");
}

/// The same without any exporter: every record was published once, and none was heard of again.
#[test]
fn a_day_without_exporters_costs_disk_only() {
    let boot: BootId = "run-1".parse().unwrap();
    let mut sender = Sender::new(&sender::Settings::default(), boot, DiskState::default());
    sender.connected();
    sender.subscribed(Millis(0));
    sender.tier_status(&announcement(TierState::Offline));
    let (mut published, mut most) = (0u64, 0);
    for seq in 1..=100_000u64 {
        let now = Millis(seq * 864);
        sender.appended(Kind::Metrics, seq);
        pump(&mut sender, now, |_| published += 1);
        most = most.max(sender.size());
    }
    assert_eq!(sender.unfreed(Kind::Metrics), 100_000);
    assert!(most < 2 * MOST_PUBLISHED + 100, "{most}");
    println!("{published} publishes, at most {most} entries");
}

/// Ranges in the worst order, billions of numbers, runs that nobody knows: none of it costs more than its own length.
#[test]
fn a_hostile_confirmation_costs_nothing() {
    let boot: BootId = "run-1".parse().unwrap();
    let mut sender = Sender::new(&sender::Settings::default(), boot, DiskState::default());
    sender.tier_status(&announcement(TierState::Online));
    (1..=10).for_each(|seq| sender.appended(Kind::Metrics, seq));
    let many: Vec<[u64; 2]> = (0..60_000u64).rev().map(|n| [n * 3 + 100, n * 3 + 100]).collect();
    for ranges in
        [serde_json::json!([[0, u64::MAX]]), serde_json::json!(many), serde_json::json!([[u64::MAX, u64::MAX]])]
    {
        let said = serde_json::json!({"v": 1, "whole": true, "held": {"run-1": {"metrics": ranges}, "run-2": {"metrics": ranges}}});
        let said = serde_json::from_value(said).unwrap();
        sender.confirmation(&"postgres".parse().unwrap(), &"m0".parse().unwrap(), &said, Millis(1));
        sender.confirmation(&"nobody".parse().unwrap(), &"m0".parse().unwrap(), &said, Millis(1));
        assert!(sender.size() < 20, "{}", sender.size());
    }
    assert_eq!(sender.unfreed(Kind::Metrics), 10);
}

/// A client has room for one publish at a time: the live stream keeps its order, and is not paced as a backlog is.
#[test]
fn a_full_client_does_not_make_backlog_of_the_live_stream() {
    let boot: BootId = "run-1".parse().unwrap();
    let mut sender = Sender::new(&sender::Settings::default(), boot, DiskState::default());
    sender.connected();
    sender.subscribed(Millis(0));
    (1..=200).for_each(|seq| sender.appended(Kind::Logs, seq));
    let now = Millis(10_000);
    let mut order = Vec::new();
    for _ in 0..200 {
        let sent = sender.next(now).unwrap();
        let refused = sender.next(now).map(|refused| refused.id);
        refused.into_iter().for_each(|id| sender.lost(id, now));
        order.push(sent.seq);
        sender.puback(sent.id, now);
    }
    assert_eq!(order, (1..=200).collect::<Vec<u64>>());
    assert_eq!(sender.unfreed(Kind::Logs), 0);
}

/// More ranges of one host than a confirmation holds: each of them has its turn, and every lease is renewed in time.
#[test]
fn what_does_not_fit_into_a_confirmation_comes_with_the_next_ones() {
    let host: HostName = "web-01".parse().unwrap();
    let mut receiver = Receiver::new(receiver::Settings { kinds: KindSet::all(), ..receiver::Settings::default() });
    let records = 10_000;
    for n in 0..records {
        let record = Identity { host: host.clone(), boot: "run-1".parse().unwrap(), kind: Kind::Logs, seq: n * 2 + 1 };
        receiver.stored(&record, Millis(0));
    }
    // Twice the lease, of which the first half tells the news and the second one renews.
    let mut named = [wire::Ranges::default(), wire::Ranges::default()];
    for minute in 0..30 {
        let now = Millis(minute * 60_000 + 60_000);
        for name in receiver.due(now, 10) {
            let said = receiver.confirmation(&name, None, now).unwrap();
            let held = &said.held.values().next().unwrap()[&Kind::Logs];
            assert!(held.len() <= receiver::MOST_RANGES);
            named[usize::from(minute >= 15)].add(held);
        }
    }
    assert_eq!(named.map(|named| named.count()), [records; 2]);
}

#[test]
fn groups_that_anyone_names_are_bounded() {
    let boot: BootId = "run-1".parse().unwrap();
    let mut sender = Sender::new(&sender::Settings::default(), boot, DiskState::default());
    for i in 0..1000 {
        let group: GroupName = format!("g{i}").parse().unwrap();
        sender.tier_status(&TierStatus { group, ..announcement(TierState::Online) });
    }
    assert_eq!(sender.groups().count(), sender::MOST_GROUPS);
    for i in 0..1000 {
        // Known or not.
        sender.retire(&format!("g{}", i * 2).parse().unwrap(), Timestamp::from_millis(i));
    }
    assert!(sender.disk().0.retired.len() <= sender::MOST_GROUPS);
}
