//! Rules of single machines that a fleet shows too late or too seldom.

use delivery::fixed::{Candidate, Fixed, Outcome, Step};
use delivery::ledger::Ledger;
use delivery::sender::{DiskState, Sender, Settings};
use std::collections::BTreeSet;

use delivery::Millis;
use wire::messages::{Confirmation, Loss, LossReason, TierState, TierStatus};
use wire::{BootId, GroupName, Kind, Ranges, Timestamp, VERSION};

fn boot() -> BootId {
    "run-1".parse().unwrap()
}

fn late() -> GroupName {
    "late".parse().unwrap()
}

fn announcement(durable: bool, at: i64) -> TierStatus {
    TierStatus {
        v: VERSION,
        group: late(),
        member: "m0".parse().unwrap(),
        state: TierState::Online,
        time: Timestamp::from_millis(at),
        sink: String::new(),
        kinds: vec![Kind::Logs],
        durable,
        version: String::new(),
    }
}

#[test]
fn a_retired_group_stays_so_until_it_announces_itself_anew() {
    let mut sender = Sender::new(&Settings::default(), boot(), DiskState::default());
    sender.tier_status(&announcement(true, 1_000));
    sender.durable(sender.version());
    sender.retire(&late(), Timestamp::from_millis(2_000));
    assert_eq!(sender.status().groups, [late()], "listed until that is on disk: a crash would bring it back");
    sender.durable(sender.version());
    assert!(sender.status().groups.is_empty());
    // What was retained, or a last will that comes late.
    sender.tier_status(&announcement(true, 2_000));
    assert!(sender.status().groups.is_empty());
    let (disk, _) = sender.disk();
    let mut sender = Sender::new(&Settings::default(), boot(), disk);
    sender.tier_status(&announcement(true, 1_500));
    assert!(sender.status().groups.is_empty(), "a restart remembers");
    sender.tier_status(&announcement(true, 2_001));
    assert_eq!(sender.status().groups, [late()]);
}

#[test]
fn nobody_waits_for_a_group_that_confirms_nothing() {
    let mut sender = Sender::new(&Settings::default(), boot(), DiskState::default());
    sender.tier_status(&announcement(false, 1_000));
    assert!(sender.status().groups.is_empty());
    sender.tier_status(&announcement(true, 1_000));
    sender.tier_status(&announcement(false, 2_000));
    assert_eq!(sender.status().groups, [late()], "a step back to an earlier version gives nothing up");
}

/// An exporter whose spool is full is connected and says nothing.
#[test]
fn a_group_that_takes_nothing_does_not_keep_others_from_their_records() {
    const MANY: u64 = 3_000;
    let mut sender = Sender::new(&Settings::default(), boot(), DiskState::default());
    let before: BootId = "run-0".parse().unwrap();
    sender.restored(&before, Kind::Logs, 1, MANY);
    sender.connected();
    sender.subscribed(Millis(0));
    let well = TierStatus { group: "well".parse().unwrap(), ..announcement(true, 1_000) };
    let full = TierStatus { group: "full".parse().unwrap(), ..announcement(true, 1_000) };
    sender.tier_status(&well);
    sender.tier_status(&full);
    sender.durable(sender.version());
    let mut arrived = BTreeSet::new();
    let mut to_full = 0;
    let mut now = Millis(0);
    while arrived.len() < MANY as usize {
        // At 25 records a second it takes two minutes.
        assert!(now < Millis(240_000), "{} of {MANY} records after four minutes", arrived.len());
        let mut news = Ranges::default();
        while let Some(publish) = sender.next(now) {
            to_full += u64::from(!arrived.insert(publish.seq));
            news.insert(publish.seq);
            sender.puback(publish.id, now);
        }
        if !news.is_empty() {
            let kinds = [(Kind::Logs, news)].into_iter().collect();
            let committed = [(before.clone(), kinds)].into_iter().collect();
            let said = Confirmation { v: VERSION, committed, ..Confirmation::default() };
            sender.confirmation(&well.group, &well.member, &said, now);
        }
        now = now.plus(500);
    }
    // Until the first of them is due, 90 to 113 s at 25 a second; from then on it looks offline.
    assert!(to_full < 113 * 25, "{to_full} copies went to a group that says nothing");
    assert_eq!(sender.unfreed(Kind::Logs), MANY, "and nothing is freed without it");
    assert!(sender.size() < 1_000);
}

#[test]
fn a_loss_is_declared_only_when_it_is_on_disk() {
    let mut sender = Sender::new(&Settings::default(), boot(), DiskState::default());
    (1..=20).for_each(|seq| sender.appended(Kind::Logs, seq));
    let loss = Loss { boot: boot(), kind: Kind::Logs, from: 1, to: 12, reason: LossReason::Full };
    let version = sender.evicted(&loss);
    assert!(sender.status().dropped.is_empty());
    assert_eq!(sender.unfreed(Kind::Logs), 8);
    let (disk, of) = sender.disk();
    assert!(of >= version);
    sender.durable(of);
    assert_eq!(sender.status().dropped, std::slice::from_ref(&loss));
    // The crash came before the segment went: what was declared is not sent any more.
    let mut sender = Sender::new(&Settings::default(), "run-2".parse().unwrap(), disk);
    sender.restored(&boot(), Kind::Logs, 1, 20);
    assert_eq!(sender.unfreed(Kind::Logs), 8);
    let freed = sender.take_freed();
    assert_eq!(freed[0].seqs.iter().collect::<Vec<_>>(), [(1, 12)]);
    assert_eq!(sender.status().dropped, [loss]);
}

/// Fixes logs at the places 0 to 7.
fn fixed() -> Fixed {
    let mut fixed = Fixed::default();
    let candidates: Vec<_> = (0..8).map(|place| Candidate { place, kind: Kind::Logs, identity: None }).collect();
    fixed.fix("t".to_owned(), Timestamp::from_millis(0), (0, 8), &candidates, &Ledger::default());
    assert_eq!(fixed.step(), Step::Save);
    fixed.saved();
    fixed
}

fn token(fixed: &Fixed) -> String {
    match fixed.step() {
        Step::Insert(part) | Step::LookUp(part) => part.token.clone(),
        step => panic!("{step:?}"),
    }
}

#[test]
fn what_is_missing_goes_under_a_new_token_that_is_on_disk_first() {
    let mut fixed = fixed();
    let first = token(&fixed);
    fixed.inserted(Outcome::Unknown);
    assert!(matches!(fixed.step(), Step::LookUp(_)));
    fixed.looked_up(&[false; 8]);
    assert!(matches!(fixed.step(), Step::Insert(part) if part.token == first), "the same again");
    fixed.inserted(Outcome::Unknown);
    fixed.looked_up(&[true; 3]);
    assert!(matches!(fixed.step(), Step::LookUp(_)), "an answer of another length is none");
    fixed.looked_up(&[true, true, false, true, false, true, true, true]);
    assert_eq!(fixed.step(), Step::Save);
    // A crash: nothing is sent before the look-up.
    let mut fixed = Fixed::resume(fixed.batch().unwrap().clone(), &wire::Ranges::default());
    assert!(matches!(fixed.step(), Step::LookUp(part) if part.token != first && part.records.count() == 2));
    fixed.looked_up(&[true, true]);
    assert_eq!(fixed.step(), Step::Book { from: 0, to: 8 });
    fixed.booked();
    assert_eq!(fixed.step(), Step::Idle);
}

#[test]
fn one_refused_record_is_found_by_halves() {
    let mut fixed = fixed();
    let (mut dead, mut inserts) = (Vec::new(), 0);
    loop {
        let outcome = match fixed.step() {
            Step::Save => {
                fixed.saved();
                continue;
            }
            Step::LookUp(part) => {
                let count = usize::try_from(part.records.count()).unwrap();
                fixed.looked_up(&vec![false; count]);
                continue;
            }
            Step::DeadLetter(place) => {
                dead.push(place);
                fixed.kept();
                continue;
            }
            Step::Insert(part) if part.records.contains(5) => Outcome::Refused,
            Step::Insert(_) => Outcome::Written,
            Step::Book { .. } => break,
            Step::Idle => unreachable!(),
        };
        inserts += 1;
        fixed.inserted(outcome);
    }
    assert_eq!((dead, inserts), (vec![5], 7));
}

/// Each is an entry of the ledger, for 30 days at least.
#[test]
fn a_host_that_declares_losses_of_any_number_of_runs_fills_no_ledger() {
    use delivery::receiver::{RUNS_AT_ONCE, Receiver, Settings};
    let mut receiver = Receiver::new(Settings { kinds: delivery::KindSet::all(), ..Settings::default() });
    let status = |runs: std::ops::Range<u64>| -> wire::messages::Status {
        let dropped: Vec<_> = runs.map(|run| serde_json::json!([format!("run-{run}"), "logs", 1, 2, "full"])).collect();
        serde_json::from_value(serde_json::json!({
            "v": 1, "host": "web-01", "state": "online", "boot": "run", "time": "2026-01-01T00:00:00Z", "version": "0",
            "dropped": dropped,
        }))
        .unwrap()
    };
    let mut taken = |runs, at| {
        let (losses, refused) = receiver.host_status(&status(runs), Millis(at));
        (losses.len() as u64, refused)
    };
    // What a host may have, it may repeat; what is more comes in the course of days.
    assert_eq!(taken(0..100, 0), (100, 0));
    assert_eq!(taken(0..100, 1), (100, 0));
    assert_eq!(taken(0..RUNS_AT_ONCE + 50, 2), (RUNS_AT_ONCE, 50));
    assert_eq!(taken(0..RUNS_AT_ONCE + 50, 3), (RUNS_AT_ONCE, 50));
    assert_eq!(taken(1_000..41_000, 4), (0, 40_000));
    let hour = 3_600_000;
    assert_eq!(taken(1_000..41_000, hour), (6, 39_994));
    assert_eq!(taken(1_000..41_000, 2 * hour), (12, 39_988));
}

/// They ride in the status, which has to be small enough for a broker.
#[test]
fn losses_of_refused_records_become_one_where_nothing_between_them_is_owed_and_are_bounded_where_something_is() {
    let mut sender = Sender::new(&Settings::default(), boot(), DiskState::default());
    sender.tier_status(&announcement(true, 1_000));
    let refuse = |sender: &mut Sender, seq| {
        let loss = Loss { boot: boot(), kind: Kind::Logs, from: seq, to: seq, reason: LossReason::TooLarge };
        let _version = sender.evicted(&loss);
        sender.durable(sender.version());
    };
    let mut refused = 0;
    for seq in 1..=6_000 {
        sender.appended(Kind::Logs, seq);
        if seq % 2 == 0 && sender.can_declare() {
            refuse(&mut sender, seq);
            refused += 1;
        }
    }
    // The group is away: each record between them is owed to it.
    assert_eq!(sender.status().dropped.len(), refused);
    assert!((256..2_000).contains(&refused), "{refused}");
    // It has them all, but the last two.
    let said = |to| {
        let committed = [(boot(), [(Kind::Logs, (1..=to).step_by(2).map(|seq| (seq, seq)).collect())].into())].into();
        Confirmation { v: VERSION, whole: false, held: Default::default(), committed }
    };
    let last = 2 * refused as u64;
    sender.confirmation(&late(), &"m0".parse().unwrap(), &said(last - 3), Millis(1));
    refuse(&mut sender, 6_000);
    let dropped: Vec<_> = sender.status().dropped.iter().map(|loss| (loss.from, loss.to)).collect();
    assert_eq!(dropped, [(2, last - 2), (last, last), (6_000, 6_000)], "what is owed still lies between the others");
    assert!(sender.can_declare());
}
