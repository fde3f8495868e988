use serde_json::Value;
use wire::messages::{Loss, LossReason, MatchOperator, Matcher};
use wire::{BootId, Kind, VERSION};

use super::*;

const MINUTE: i64 = 60;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn settings() -> Settings {
    Settings {
        labels: [("team".to_owned(), "ops".to_owned())].into_iter().collect(),
        host_label: Some("host".to_owned()),
        job: "utilizer".to_owned(),
        generator_url: String::new(),
        most_hosts: 100,
        most_alerts_per_host: 4,
        settle: Duration::from_secs(30),
        forget_after: Duration::from_secs(3600),
        stopped_after: Duration::from_secs(300),
        down: Some(Down {
            severity: "critical".to_owned(),
            grace: Duration::from_secs(60),
            silent_after: Some(Duration::from_secs(300)),
        }),
        flapping: Some(Flapping { severity: "warning".to_owned(), changes: 4, window: Duration::from_secs(600) }),
        skew: Some(Skew { severity: "warning".to_owned(), bound: Duration::from_secs(30) }),
        dropped: Some(Dropped { severity: "warning".to_owned(), hold: Duration::from_secs(900) }),
    }
}

/// A fleet, and what an Alertmanager was told last of each alert: name@host, and when it is over.
struct World {
    fleet: Fleet,
    now: i64,
    told: BTreeMap<String, Value>,
}

impl World {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let mut fleet = Fleet::new(settings, feed::Settings::default(), 1);
        fleet.connected(at(1000));
        Self { fleet, now: 1000, told: BTreeMap::new() }
    }

    /// Second by second until then.
    fn until(&mut self, end: i64) {
        while self.now < end {
            self.now += 1;
            self.look();
        }
    }

    fn look(&mut self) {
        let now = at(self.now);
        self.fleet.tick(now);
        while let Some(batch) = self.fleet.feed().take(0, now) {
            for alert in serde_json::from_slice::<Vec<Value>>(batch.body()).unwrap() {
                let label = |name: &str| alert["labels"][name].as_str().unwrap_or("-").to_owned();
                assert_eq!(label("team"), "ops", "{alert}");
                self.told.insert(format!("{}@{}", label("alertname"), label("host")), alert);
            }
        }
    }

    /// What fires for Alertmanager now.
    fn firing(&self) -> Vec<&str> {
        let fires = |alert: &Value| alert["endsAt"].as_str().unwrap().parse::<Timestamp>().unwrap() > at(self.now);
        self.told.iter().filter(|(_, alert)| fires(alert)).map(|(name, _)| name.as_str()).collect()
    }

    fn status(&mut self, host: &str, change: impl FnOnce(&mut Status)) {
        self.say(host, false, change);
    }

    fn say(&mut self, host: &str, retained: bool, change: impl FnOnce(&mut Status)) {
        let mut status = Status {
            v: VERSION,
            host: host.parse().unwrap(),
            state: HostState::Online,
            boot: boot("1"),
            time: at(self.now),
            version: "0.1.0".to_owned(),
            stopped: false,
            interval_seconds: None,
            labels: [("env".to_owned(), "prod".to_owned())].into_iter().collect(),
            inventory: None,
            groups: Vec::new(),
            lowest_unconfirmed: Default::default(),
            dropped: Vec::new(),
        };
        change(&mut status);
        self.fleet.status(&status, retained, at(self.now));
    }

    fn lost(&mut self, host: &str) {
        self.status(host, |status| (status.state, status.time) = (HostState::Offline, at(5)));
    }

    fn active(&mut self, host: &str, names: &[&str], time: i64) {
        let alerts = names.iter().map(|name| alert(name)).collect();
        let message = ActiveAlerts { v: VERSION, host: host.parse().unwrap(), boot: boot("1"), time: at(time), alerts };
        self.fleet.active(&message, false, at(self.now));
    }

    fn beat(&mut self, host: &str, seq: u64, time: i64) {
        self.fleet.beat(&head(host, seq, time), at(self.now));
    }

    fn refused(&mut self) -> Vec<Refusal> {
        self.fleet.take_refused().into_keys().collect()
    }
}

fn boot(text: &str) -> BootId {
    format!("019a3f5e-7c00-7d3a-9b1c-00000000000{text}").parse().unwrap()
}

fn head(host: &str, seq: u64, time: i64) -> Head {
    Head { v: VERSION, host: host.parse().unwrap(), boot: Some(boot("1")), seq: Some(seq), time: at(time) }
}

fn alert(name: &str) -> Alert {
    Alert {
        fingerprint: "0123456789abcdef".to_owned(),
        labels: [("alertname".to_owned(), name.to_owned())].into_iter().collect(),
        annotations: LabelSet::default(),
        value: wire::Value(1.0),
        active_at: at(900),
        fired_at: at(950),
        resolved_at: None,
    }
}

fn transition(name: &str, resolved: Option<i64>) -> AlertTransition {
    let state = if resolved.is_some() { AlertState::Resolved } else { AlertState::Firing };
    AlertTransition { state, alert: Alert { resolved_at: resolved.map(at), ..alert(name) } }
}

#[test]
fn alerts_of_hosts_are_told_as_the_hosts_tell_them() {
    let mut world = World::new();
    world.status("a", |_| {});
    world.active("a", &["Full", "Hot"], 1000);
    world.until(1001);
    assert_eq!(world.firing(), ["Full@a", "Hot@a"]);
    let full = world.told["Full@a"].clone();
    assert_eq!((&full["labels"]["instance"], &full["startsAt"]), (&"a".into(), &at(950).to_string().into()));
    // No longer in the list: over since the list was made.
    world.active("a", &["Hot"], 1001);
    world.until(1005);
    assert_eq!(world.firing(), ["Hot@a"]);
    assert_eq!(world.told["Full@a"]["endsAt"], at(1001).to_string());
    // The record of it comes after, and changes nothing; nor does one that is sent again.
    world.fleet.transition(&head("a", 1, 1001), &transition("Full", Some(1001)), at(1005));
    world.fleet.transition(&head("a", 2, 1001), &transition("Full", None), at(1005));
    world.until(1010);
    assert_eq!(world.firing(), ["Hot@a"]);
    world.until(1100);
    assert_eq!(world.firing(), ["Hot@a"], "while nothing is heard, nothing is over");
}

#[test]
fn programs_without_a_state_are_heard_by_their_transitions() {
    let mut world = World::new();
    world.fleet.transition(&head("p", 1, 1000), &transition("Old", None), at(1000));
    world.until(1040);
    assert_eq!(world.firing(), [""; 0], "before the states have come, it may be an old one");
    world.fleet.transition(&head("p", 2, 1040), &transition("New", None), at(1040));
    world.until(1041);
    assert_eq!(world.firing(), ["New@p"]);
    world.fleet.transition(&head("p", 3, 1045), &transition("New", Some(1043)), at(1050));
    world.until(1051);
    assert_eq!((world.firing().len(), &world.told["New@p"]["endsAt"]), (0, &at(1043).to_string().into()));
}

#[test]
fn a_host_is_down_after_its_grace_and_not_after_a_clean_stop() {
    let mut world = World::new();
    for host in ["dead", "stopped", "back"] {
        world.status(host, |_| {});
    }
    world.until(1100);
    world.lost("dead");
    world.lost("back");
    world.status("stopped", |status| (status.state, status.stopped) = (HostState::Offline, true));
    world.until(1140);
    world.status("back", |_| {});
    world.until(1159);
    assert_eq!(world.firing(), [""; 0]);
    world.until(1161);
    assert_eq!(world.firing(), ["HostDown@dead"]);
    let labels = &world.told["HostDown@dead"]["labels"];
    let wanted = [("severity", "critical"), ("job", "utilizer"), ("instance", "dead"), ("env", "prod")];
    assert!(wanted.iter().all(|(name, value)| labels[name] == *value), "{labels}");
    assert_eq!(world.told["HostDown@dead"]["startsAt"], at(1000).to_string(), "its last word");
    world.until(3000);
    assert_eq!(world.firing(), ["HostDown@dead"]);
    world.status("dead", |status| status.boot = boot("2"));
    world.until(3001);
    assert_eq!(world.firing(), [""; 0]);
    assert_eq!(world.told["HostDown@dead"]["endsAt"], at(3000).to_string());
}

#[test]
fn a_host_that_was_lost_before_is_down_once_the_states_are_there() {
    let mut world = World::new();
    world.say("dead", true, |status| status.state = HostState::Offline);
    world.say("fine", true, |_| {});
    world.until(1029);
    assert_eq!(world.firing(), [""; 0]);
    world.until(1031);
    assert_eq!(world.firing(), ["HostDown@dead"]);
}

#[test]
fn without_the_broker_nothing_is_judged_and_nothing_is_over() {
    let mut world = World::new();
    world.status("a", |status| status.interval_seconds = Some(10.0));
    world.active("a", &["Full"], 1000);
    world.until(1040);
    world.lost("a");
    world.until(1050);
    world.fleet.disconnected();
    world.until(9000);
    assert_eq!(world.firing(), ["Full@a"]);
    world.fleet.connected(at(9000));
    world.say("a", true, |_| {});
    world.until(9060);
    assert_eq!(world.firing(), ["Full@a"], "it came back meanwhile");
    // What the broker knows no more is over in the end.
    world.fleet.disconnected();
    world.fleet.connected(at(9060));
    world.until(9060 + 3599);
    assert!(world.firing().contains(&"Full@a"));
    world.until(9060 + 3601);
    assert_eq!(world.firing(), [""; 0]);
}

#[test]
fn a_host_that_says_nothing_is_down() {
    let mut world = World::new();
    world.status("agent", |status| status.interval_seconds = Some(10.0));
    world.status("program", |_| {});
    for second in 0..200 {
        world.until(1000 + second);
        world.beat("agent", second as u64 + 1, 1000 + second);
    }
    world.until(1498);
    assert_eq!(world.firing(), [""; 0]);
    world.until(1500);
    assert_eq!(world.firing(), ["HostDown@agent"]);
    // A record that is sent again is a sign of life too.
    world.beat("agent", 5, 1005);
    world.until(1501);
    assert_eq!(world.firing(), [""; 0]);
}

#[test]
fn a_birth_that_was_missed_shows_by_new_records() {
    let mut world = World::new();
    world.status("a", |_| {});
    world.until(1040);
    world.lost("a");
    world.beat("a", 7, 1039);
    world.until(1050);
    world.beat("a", 3, 1030);
    world.until(1099);
    world.beat("a", 8, 1099);
    world.until(1200);
    assert_eq!(world.firing(), [""; 0]);
}

#[test]
fn alerts_of_a_stopped_host_are_over_after_a_while() {
    let mut world = World::new();
    world.status("a", |_| {});
    world.active("a", &["Full"], 1000);
    world.until(1100);
    world.status("a", |status| (status.state, status.stopped) = (HostState::Offline, true));
    world.until(1399);
    assert_eq!(world.firing(), ["Full@a"], "a restart is no news");
    world.until(1401);
    assert_eq!(world.firing(), [""; 0]);
    // Who starts later hears the same, and tells nobody.
    let mut late = World::new();
    late.now = 9000;
    late.say("a", true, |status| {
        (status.state, status.stopped, status.time) = (HostState::Offline, true, at(1100));
    });
    late.active("a", &["Full"], 1000);
    late.until(9100);
    assert!(late.told.is_empty());
    late.status("a", |_| {});
    late.active("a", &["Full"], 9100);
    late.until(9101);
    assert_eq!(late.firing(), ["Full@a"]);
}

#[test]
fn silences_keep_alerts_about_hosts_away() {
    let mut world = World::new();
    let silence = |value: &str| wire::messages::Silence {
        v: VERSION,
        matchers: vec![Matcher { name: "host".to_owned(), operator: MatchOperator::Regex, value: value.to_owned() }],
        starts_at: at(0),
        ends_at: at(1500),
        author: "me".to_owned(),
        comment: "disks".to_owned(),
    };
    world.fleet.silence("s", Some(silence("web-.*")));
    world.fleet.silence("bad", Some(silence("(")));
    assert_eq!(world.refused(), [Refusal::Silence]);
    for host in ["web-1", "db-1"] {
        world.say(host, true, |status| status.state = HostState::Offline);
        world.active(host, &["Full"], 1000);
    }
    world.until(1499);
    assert_eq!(world.firing(), ["Full@db-1", "Full@web-1", "HostDown@db-1"]);
    world.until(1501);
    assert_eq!(world.firing().len(), 4, "it has ended");
    let mut longer = silence("web-.*");
    longer.ends_at = at(9000);
    world.fleet.silence("s", Some(longer));
    world.until(1502);
    assert_eq!(world.firing().len(), 3);
    world.fleet.silence("s", None);
    world.until(1503);
    assert_eq!(world.firing().len(), 4);
}

#[test]
fn a_host_that_comes_and_goes_is_told_once() {
    let mut world = World::new();
    world.status("a", |_| {});
    world.until(1040);
    for _ in 0..5 {
        world.lost("a");
        world.until(world.now + 10);
        world.status("a", |_| {});
        world.until(world.now + 10);
    }
    assert_eq!(world.firing(), ["HostFlapping@a"]);
    world.until(world.now + 11 * MINUTE);
    assert_eq!(world.firing(), [""; 0]);
}

#[test]
fn a_clock_is_wrong_when_several_messages_say_so() {
    let mut world = World::new();
    for host in ["ahead", "behind", "late", "fine", "well", "good"] {
        world.status(host, |_| {});
    }
    world.until(1040);
    for n in 0..10 {
        let now = world.now;
        world.beat("ahead", n + 1, now + 100);
        world.beat("behind", n + 1, now - 100);
        // Its records come late, but for one.
        world.beat("late", n + 1, if n == 5 { now } else { now - 600 });
        world.beat("fine", n + 1, now);
        // Sent again after hours.
        world.beat("fine", 1, now - 9000);
        world.until(now + 2);
    }
    assert_eq!(world.firing(), ["ClockSkew@ahead", "ClockSkew@behind"]);
    for n in 10..20 {
        let now = world.now;
        world.beat("ahead", n + 1, now);
        world.until(now + 2);
    }
    assert_eq!(world.firing(), ["ClockSkew@behind"]);
}

#[test]
fn where_most_clocks_are_wrong_it_is_ours() {
    let mut world = World::new();
    for n in 0..10 {
        let now = world.now;
        for host in 0..6 {
            let host = format!("h{host}");
            if n == 0 {
                world.say(&host, true, |_| {});
            }
            world.beat(&host, n + 1, now + 100);
        }
        world.until(now + 10);
    }
    assert_eq!(world.firing(), [""; 0]);
    assert!(world.fleet.doubts_own_clock());
}

#[test]
fn losses_are_told_when_they_grow() {
    let mut world = World::new();
    let loss = |from, to| Loss { boot: boot("1"), kind: Kind::Logs, from, to, reason: LossReason::Full };
    // Known for long; and one that happened a minute ago.
    world.say("old", true, |status| (status.dropped, status.time) = (vec![loss(1, 5)], at(5)));
    world.say("fresh", true, |status| (status.dropped, status.time) = (vec![loss(1, 5)], at(940)));
    world.until(1040);
    assert_eq!(world.firing(), ["RecordsDropped@fresh"]);
    world.status("old", |status| status.dropped = vec![loss(1, 5)]);
    world.until(1041);
    assert_eq!(world.firing(), ["RecordsDropped@fresh"]);
    world.status("old", |status| status.dropped = vec![loss(1, 9)]);
    world.until(1042);
    assert_eq!(world.firing(), ["RecordsDropped@fresh", "RecordsDropped@old"]);
    // Booked by every group.
    world.status("old", |_| {});
    world.until(1042 + 15 * MINUTE);
    assert_eq!(world.firing(), [""; 0]);
}

#[test]
fn what_there_is_too_much_of_is_refused_and_counted() {
    let mut world = World::new();
    world.active("a", &["A", "B", "C", "D", "E"], 1000);
    assert_eq!(world.refused(), [Refusal::Alerts]);
    for n in 0..200 {
        world.status(&format!("h{n}"), |_| {});
    }
    assert_eq!((world.refused(), world.fleet.counts().hosts), (vec![Refusal::Hosts], 100));
    let mut bad = alert("X");
    bad.labels.insert("a-b".to_owned(), "1".to_owned());
    let mut huge = alert("Y");
    huge.labels.insert("a".to_owned(), "x".repeat(10_000));
    let mut wide = alert("Z");
    for n in 0..10 {
        wide.labels.insert(format!("l{n}"), "x".repeat(2000));
    }
    let mut nameless = alert("");
    nameless.labels.insert("host".to_owned(), "somebody-else".to_owned());
    let mut wordy = alert("Wordy");
    wordy.annotations.insert("summary".to_owned(), "ä".repeat(100_000));
    wordy.labels.insert("host".to_owned(), "somebody-else".to_owned());
    let message = ActiveAlerts {
        v: VERSION,
        host: "a".parse().unwrap(),
        boot: boot("1"),
        time: at(1000),
        alerts: vec![bad, wide, huge, nameless],
    };
    world.fleet.active(&message, false, at(1000));
    assert_eq!(world.refused(), [Refusal::Labels]);
    world.fleet.active(&ActiveAlerts { alerts: vec![wordy], ..message }, false, at(1000));
    world.look();
    assert_eq!(world.firing(), ["Wordy@a"], "whose it is, the topic says");
    assert!(world.told["Wordy@a"]["annotations"]["summary"].as_str().unwrap().len() < 9000);
}

#[test]
fn a_host_whose_status_is_cleared_is_no_more() {
    let mut world = World::new();
    world.say("a", true, |status| status.state = HostState::Offline);
    world.active("a", &["Full"], 1000);
    world.until(1040);
    assert_eq!(world.firing().len(), 2);
    world.fleet.forget(&"a".parse().unwrap(), at(1040));
    world.until(1041);
    assert_eq!((world.firing().len(), world.fleet.counts().hosts), (0, 0));
}

#[test]
fn a_machine_that_slept_takes_nobody_for_silent() {
    let mut world = World::new();
    for host in ["agent", "hung"] {
        world.status(host, |status| status.interval_seconds = Some(10.0));
    }
    world.until(1050);
    world.beat("agent", 1, 1050);
    world.now = 9000;
    world.look();
    assert_eq!(world.firing(), [""; 0]);
    for n in 0..33 {
        world.beat("agent", n + 2, world.now);
        world.until(world.now + 10);
    }
    assert_eq!(world.firing(), ["HostDown@hung"]);
}

#[test]
fn a_clock_that_is_put_back_stops_no_judgement() {
    let mut world = World::new();
    world.now = 500_000;
    world.fleet.connected(at(world.now));
    for host in ["a", "b"] {
        world.status(host, |_| {});
    }
    for _ in 0..4 {
        world.lost("b");
        world.status("b", |_| {});
    }
    world.until(500_100);
    assert_eq!(world.firing(), ["HostFlapping@b"]);
    world.lost("a");
    world.now = 2000;
    world.until(2100);
    assert_eq!(world.firing(), ["HostDown@a"]);
}

#[test]
fn a_loss_that_ends_before_it_begins_is_one_record() {
    let mut world = World::new();
    let loss = Loss { boot: boot("1"), kind: Kind::Logs, from: 9, to: 1, reason: LossReason::Full };
    world.status("a", |status| status.dropped = vec![loss]);
    world.until(1040);
    assert_eq!(world.firing(), ["RecordsDropped@a"]);
}

fn silence(host: &str, ends_at: i64) -> wire::messages::Silence {
    wire::messages::Silence {
        v: VERSION,
        matchers: vec![Matcher { name: "host".to_owned(), operator: MatchOperator::Equal, value: host.to_owned() }],
        starts_at: at(0),
        ends_at: at(ends_at),
        author: "me".to_owned(),
        comment: "disks".to_owned(),
    }
}

#[test]
fn a_silence_that_was_removed_while_the_broker_was_away_is_no_more() {
    let mut world = World::new();
    for host in ["a", "b"] {
        world.fleet.silence(host, Some(silence(host, 90_000)));
        world.say(host, true, |status| status.state = HostState::Offline);
    }
    world.until(1100);
    world.fleet.disconnected();
    world.until(1110);
    world.fleet.connected(at(1110));
    world.fleet.silence("b", Some(silence("b", 90_000)));
    for host in ["a", "b"] {
        world.say(host, true, |status| status.state = HostState::Offline);
    }
    world.until(1139);
    assert_eq!(world.firing(), [""; 0]);
    world.until(1141);
    assert_eq!(world.firing(), ["HostDown@a"]);
}

#[test]
fn silences_that_are_over_make_room() {
    let mut world = World::new();
    for n in 0..MOST_SILENCES {
        world.fleet.silence(&n.to_string(), Some(silence("x", 500)));
    }
    world.look();
    world.fleet.silence("new", Some(silence("a", 90_000)));
    assert_eq!((world.refused(), world.fleet.counts().silences), (Vec::new(), 1));
}

#[test]
fn a_silence_may_name_the_host_where_no_label_does() {
    let mut world = World::with(Settings { host_label: None, ..settings() });
    world.fleet.silence("s", Some(silence("a", 90_000)));
    for host in ["a", "b"] {
        world.say(host, true, |status| status.state = HostState::Offline);
    }
    world.until(1100);
    assert_eq!((world.told.len(), world.fleet.counts().own[0]), (1, 1), "{:?}", world.told);
}

#[test]
fn where_nobody_listens_nobody_is_silent() {
    let mut all = settings();
    all.down.as_mut().unwrap().silent_after = None;
    let mut world = World::with(all);
    world.status("agent", |status| status.interval_seconds = Some(10.0));
    world.until(3000);
    assert_eq!(world.firing(), [""; 0]);
}
