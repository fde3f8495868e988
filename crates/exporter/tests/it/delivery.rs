//! What crashes, outages and full disks leave: every record once, and its host told.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use wire::messages::Confirmation;

use crate::fixture::{Fixture, TOPIC, numbered, pipeline, wait};
use crate::memory::{Mood, Plain};

/// What a host is told by confirmations.
struct Told {
    events: mqtt::Events,
    _client: mqtt::Client,
    held: BTreeSet<u64>,
    committed: BTreeSet<u64>,
    whole: bool,
}

impl Told {
    async fn listen(f: &Fixture) -> Self {
        let (client, mut events) =
            mqtt::Client::start(mqtt::Options::new(f.broker.url().parse().unwrap(), "web-01")).unwrap();
        client.subscribe(["utilizer/v1/command/web-01/confirmed/+/+"]).await.unwrap();
        while !matches!(events.recv().await, Some(mqtt::Event::Subscribed { .. })) {}
        Self { events, _client: client, held: BTreeSet::new(), committed: BTreeSet::new(), whole: false }
    }

    /// Reads confirmations until it knows what it wants.
    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let event = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await;
            let Ok(Some(event)) = event else { panic!("never told: {what}; committed {:?}", self.committed) };
            let mqtt::Event::Received { message, ack } = event else { continue };
            self._client.ack(ack);
            assert_eq!(message.topic, "utilizer/v1/command/web-01/confirmed/memory/member-1");
            let confirmation: Confirmation = wire::decode_state("confirmation", &message.payload).unwrap();
            self.whole |= confirmation.whole;
            for (from, into) in [(&confirmation.held, &mut self.held), (&confirmation.committed, &mut self.committed)] {
                for kinds in from.iter().filter(|(boot, _)| boot.as_str() == "b1").map(|(_, kinds)| kinds) {
                    into.extend(kinds.values().flat_map(|ranges| ranges.iter()).flat_map(|(from, to)| from..=to));
                }
            }
        }
    }
}

fn once(count: u64) -> Vec<f64> {
    (1..=count).map(|seq| seq as f64).collect()
}

impl Fixture {
    /// The values in order, without those of `subscribed`.
    fn sorted(&self) -> Vec<f64> {
        let mut values = self.values();
        values.sort_by(f64::total_cmp);
        values
    }

    async fn spooled(&self, records: f64) {
        wait("all are spooled", || self.metric("utilizer_exporter_spool_records") >= records).await;
    }
}

#[tokio::test]
async fn a_host_is_told_what_is_held_and_then_what_is_written() {
    let f = Fixture::new();
    let mut told = Told::listen(&f).await;
    let running = f.start().await;
    f.memory.set(Mood::Down);
    for seq in 1..=3 {
        f.publish(TOPIC, &numbered(seq, seq as f64));
    }
    told.until("held", |told| told.held == BTreeSet::from([1, 2, 3])).await;
    assert!(told.committed.is_empty());
    f.memory.set(Mood::Well);
    told.until("committed, and the whole", |told| told.committed == told.held && told.whole).await;
    // It asks again, and is told again.
    told.committed.clear();
    f.publish(TOPIC, &numbered(2, 2.0));
    told.until("again", |told| told.committed.contains(&2)).await;
    assert_eq!(f.values(), once(3));
    running.stop().await;
}

#[tokio::test]
async fn declared_losses_are_booked_and_confirmed_and_counted_once() {
    let f = Fixture::new();
    let mut told = Told::listen(&f).await;
    let running = f.start().await;
    f.publish(TOPIC, &numbered(2, 2.0));
    let status = json!({"v": 1, "host": "web-01", "state": "online", "boot": "b1", "time": "2026-11-21T22:30:00Z",
                        "version": "0", "dropped": [["b1", "pipeline", 1, 4, "age"], ["b1", "logs", 1, 9, "age"]]});
    for _ in 0..2 {
        f.broker.publish("utilizer/v1/telemetry/web-01/status", &status.to_string(), &["-r"]);
    }
    told.until("that the losses are booked", |told| told.committed == (1..=4).collect()).await;
    wait("the ledger has it", || f.memory.booked() == (vec![(2, 2)], vec![(1, 1), (3, 4)])).await;
    assert_eq!(f.metric("utilizer_exporter_lost_total{reason=\"age\"}"), 4.0, "logs are not taken here");
    // A copy that arrives all the same is written.
    f.publish(TOPIC, &numbered(3, 3.0));
    wait("the late copy", || f.values() == [2.0, 3.0]).await;
    assert_eq!(f.memory.booked(), (vec![(2, 3)], vec![(1, 1), (4, 4)]));
    running.stop().await;
}

#[tokio::test]
async fn a_message_is_acknowledged_when_it_is_on_the_disk_and_survives_a_kill_before_the_commit() {
    let f = Fixture::new();
    let running = f.start().await;
    f.memory.set(Mood::Down);
    f.publish_numbered(1..=5).await;
    f.publish(TOPIC, &pipeline(&[6.0]).to_string());
    f.spooled(6.0).await;
    running.kill().await;
    // The broker has nothing left: what is written now comes from the disk.
    f.broker.stop();
    f.memory.set(Mood::Well);
    let again = f.spawn();
    wait("all from the disk", || f.sorted() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).await;
    again.kill().await;
}

#[tokio::test]
async fn a_kill_between_commit_and_confirmation_writes_nothing_twice_and_tells_the_host_later() {
    for beside in [false, true] {
        let f = Fixture::new();
        let start = || if beside { f.spawn_with(Plain(f.memory.clone())) } else { f.spawn() };
        let running = start();
        f.subscribed().await;
        // The rows are in, and nobody learns of it.
        f.memory.set(Mood::Silent);
        f.publish_numbered(1..=20).await;
        wait("an insert", || !f.values().is_empty()).await;
        f.spooled(20.0).await;
        running.kill().await;
        f.memory.set(Mood::Well);
        let mut told = Told::listen(&f).await;
        let again = start();
        told.until("all", |told| told.committed == (1..=20).collect()).await;
        assert_eq!(f.sorted(), once(20), "with a ledger beside: {beside}");
        again.stop().await;
    }
}

#[tokio::test]
async fn an_insert_of_unknown_end_is_looked_up_before_anything_is_sent_again() {
    let mut f = Fixture::new();
    f.settings.batch.max_age = Duration::from_millis(200);
    let running = f.spawn_with(Plain(f.memory.clone()));
    f.subscribed().await;
    for (mood, numbers) in [(Mood::Garbled, 1..=10), (Mood::Halfway, 11..=20), (Mood::Down, 21..=30)] {
        let (end, before) = (*numbers.end(), f.memory.look(|store| (store.writes, store.look_ups)));
        f.memory.set(mood);
        f.publish_numbered(numbers).await;
        wait("an attempt", || f.memory.look(|store| store.writes) > before.0).await;
        f.memory.set(Mood::Well);
        wait("all are written", || {
            f.sorted().len() as u64 >= end && f.metric("utilizer_exporter_spool_records") == 0.0
        })
        .await;
        assert_eq!(f.sorted(), once(end), "{mood:?}");
        assert!(f.memory.look(|store| store.look_ups) > before.1, "{mood:?}");
    }
    // No two inserts went by one token unless the store had nothing of the first.
    let tokens = f.memory.look(|store| store.tokens.clone());
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len());
    // What is known makes no insert.
    let inserts = tokens.len();
    f.publish_numbered(1..=30).await;
    wait("all copies are known", || f.metric("utilizer_exporter_spool_records") == 0.0).await;
    assert_eq!(f.memory.look(|store| store.tokens.len()), inserts);
    running.stop().await;
}

#[tokio::test]
async fn what_a_store_without_a_ledger_refuses_is_one_record() {
    let mut f = Fixture::new();
    f.settings.batch.max_age = Duration::from_millis(300);
    let running = f.spawn_with(Plain(f.memory.clone()));
    f.subscribed().await;
    f.memory.set(Mood::Picky(7.0));
    let mut told = Told::listen(&f).await;
    f.publish_numbered(1..=20).await;
    told.until("all of them, the refused one too", |told| told.committed == (1..=20).collect()).await;
    assert_eq!(f.sorted(), (1..=20).filter(|seq| *seq != 7).map(f64::from).collect::<Vec<_>>());
    let letters = f.dead_letters();
    assert_eq!((letters.len(), &letters[0]["reason"], &letters[0]["seq"]), (1, &json!("poison"), &json!(7)));
    running.stop().await;
}

#[tokio::test]
async fn an_outage_of_the_store_costs_disk_and_nothing_else() {
    let mut f = Fixture::with("max_queued_messages 0");
    f.settings.batch.max_rows = 200;
    let running = f.start().await;
    f.memory.set(Mood::Down);
    f.publish_numbered(1..=4000).await;
    f.spooled(4000.0).await;
    wait("all are told as held", || f.metric("utilizer_exporter_held_records") == 4000.0).await;
    assert!(f.values().is_empty());
    assert!(f.metric("utilizer_exporter_spool_oldest_age_seconds") >= 0.0);
    f.memory.set(Mood::Well);
    wait("all are written", || f.values().len() >= 4000).await;
    assert_eq!(f.values(), once(4000), "in their order, and once");
    wait("nothing is held", || f.metric("utilizer_exporter_held_records") == 0.0).await;
    running.stop().await;
}

#[tokio::test]
async fn at_its_bound_the_spool_takes_no_more_and_calls_nothing_held() {
    let mut f = Fixture::with("max_queued_messages 0");
    f.settings.spool.max_bytes = 1 << 20;
    let running = f.start().await;
    f.memory.set(Mood::Down);
    f.publish_numbered(1..=6000).await;
    wait("some find no room", || f.metric("utilizer_exporter_refused_total") > 0.0).await;
    let received = || f.metric("utilizer_exporter_messages_received_total{kind=\"pipeline\"}");
    wait("all came", || received() >= 6001.0).await;
    wait("all are settled", || {
        f.metric("utilizer_exporter_held_records") + f.metric("utilizer_exporter_refused_total") == 6000.0
    })
    .await;
    let held = f.metric("utilizer_exporter_held_records") as u64;
    // Without a number it would be lost: it waits.
    f.publish(TOPIC, &pipeline(&[9000.0]).to_string());
    f.memory.set(Mood::Well);
    wait("what was held is written, and what waited", || f.values().len() as u64 > held).await;
    let mut expected = once(held);
    expected.push(9000.0);
    assert_eq!(f.sorted(), expected);
    // The host sends again what nobody called held.
    f.publish_numbered(held + 1..=6000).await;
    wait("the rest", || f.values().len() >= 6001).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_spool_loses_what_is_damaged_and_no_more() {
    let f = Fixture::new();
    let running = f.start().await;
    f.memory.set(Mood::Down);
    f.publish_numbered(1..=100).await;
    f.spooled(100.0).await;
    running.kill().await;
    let spool = f.folder.path().join("spool");
    let segment = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).max().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let needle = numbered(50, 50.0);
    let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap();
    bytes[at] ^= 0xff;
    fs::write(&segment, bytes).unwrap();
    f.memory.set(Mood::Well);
    let again = f.spawn();
    wait("the others", || f.values().len() >= 99).await;
    assert!(!f.values().contains(&50.0));
    assert!(f.metric("utilizer_exporter_spool_damaged_records_total") >= 1.0);
    wait("nothing of it is held", || f.metric("utilizer_exporter_held_records") == 0.0).await;
    // Nobody called it committed, so that its host sends it again.
    f.subscribed().await;
    f.publish(TOPIC, &numbered(50, 50.0));
    wait("it too", || f.sorted() == once(100)).await;
    again.stop().await;
}

#[tokio::test]
async fn a_shard_takes_its_own_hosts_only() {
    let mut f = Fixture::new();
    let shards: Vec<delivery::Shard> = ["0/2", "1/2"].map(|text| text.parse().unwrap()).into();
    let host = |shard: &delivery::Shard| {
        (1..).map(|n| format!("h{n}")).find(|host| shard.takes(&host.parse().unwrap())).unwrap()
    };
    let (ours, theirs) = (host(&shards[0]), host(&shards[1]));
    f.settings.shard = Some(shards[0]);
    let running = f.spawn();
    wait("connected", || f.metric("utilizer_exporter_mqtt_connected") == 1.0).await;
    let publish = |host: &str, seq: u64, value: f64| {
        let payload = numbered(seq, value).replace("web-01", host);
        f.publish(&format!("utilizer/v1/telemetry/{host}/pipeline"), &payload);
    };
    wait("subscribed, without a share", || {
        publish(&ours, 1, 1.0);
        !f.values().is_empty()
    })
    .await;
    publish(&theirs, 1, 2.0);
    publish(&ours, 2, 3.0);
    wait("ours", || f.values().contains(&3.0)).await;
    assert_eq!(f.values(), [1.0, 3.0]);
    assert_eq!(f.metric("utilizer_exporter_foreign_total"), 1.0);
    running.stop().await;
}

/// The command line writes the request; see the tests beside it.
#[tokio::test]
async fn a_replayed_dead_letter_goes_the_way_once() {
    let f = Fixture::new();
    let running = f.start().await;
    let request = f.folder.path().join("replay");
    fs::create_dir_all(&request).unwrap();
    let line: Value = json!({"topic": TOPIC, "payload": numbered(1, 5.0)});
    let name = request.join("0192f1de7c7a70008000000000000001");
    fs::write(name.with_extension("tmp"), format!("{line}\n")).unwrap();
    fs::copy(name.with_extension("tmp"), request.join("kept")).unwrap();
    fs::rename(name.with_extension("tmp"), name.with_extension("ndjson")).unwrap();
    wait("it is written", || f.values() == [5.0]).await;
    wait("the request is gone", || !name.with_extension("ndjson").exists()).await;
    // As if the exporter had been killed before it removed the request.
    fs::rename(request.join("kept"), name.with_extension("ndjson")).unwrap();
    wait("it is taken again", || !name.with_extension("ndjson").exists()).await;
    f.publish(TOPIC, &numbered(2, 6.0));
    wait("the next", || f.values().contains(&6.0)).await;
    assert_eq!(f.values(), [5.0, 6.0]);
    running.stop().await;
}
