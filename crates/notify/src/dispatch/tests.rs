use serde::Deserialize;

use super::*;
use crate::inhibit::InhibitSection;
use crate::matcher;
use crate::plan::{EscalationSection, HeartbeatSection, RouteSection, Sections, SilenceSection, Target};
use crate::silence::Origin;
use crate::times::TimesSection;

/// A Friday, 8 o'clock.
const START: &str = "2026-11-20T08:00:00Z";

/// The decisive part of `[notify]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    route: RouteSection,
    inhibit: Vec<InhibitSection>,
    time_intervals: Vec<TimesSection>,
    silences: Vec<SilenceSection>,
    escalations: Vec<EscalationSection>,
    heartbeats: Vec<HeartbeatSection>,
}

/// Receivers with one way each; `quiet` is not told when alerts are over, `nobody` has no way.
fn plan(text: &str) -> Result<Plan, Vec<(String, String)>> {
    let written: Written = toml::from_str(text).unwrap();
    let one = |name: &str| {
        let ways = vec![Target { name: format!("{name}/webhook/0"), send_resolved: name != "quiet" }];
        (name.to_owned(), if name == "nobody" { Vec::new() } else { ways })
    };
    let targets = ["ops", "db", "boss", "quiet", "nobody"].into_iter().map(one).collect();
    let sections = Sections {
        route: &written.route,
        inhibit: &written.inhibit,
        times: &written.time_intervals,
        silences: &written.silences,
        escalations: &written.escalations,
        heartbeats: &written.heartbeats,
        report_to: None,
    };
    Plan::new(sections, targets, &|_| None)
}

fn start() -> Timestamp {
    START.parse().unwrap()
}

fn alert(text: &str, fired_at: Timestamp) -> Alert {
    let labels: LabelSet = text
        .split(' ')
        .enumerate()
        .map(|(at, word)| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (if at == 0 { "alertname" } else { word }.to_owned(), word.to_owned()),
        })
        .collect();
    Alert {
        fingerprint: text.to_owned(),
        labels,
        annotations: LabelSet::default(),
        value: 1.0.into(),
        active_at: fired_at,
        fired_at,
        resolved_at: None,
    }
}

/// A host in simulated time.
struct Host {
    dispatcher: Dispatcher,
    now: Timestamp,
    firing: BTreeMap<String, Alert>,
    told: Vec<String>,
}

fn settings() -> Settings {
    Settings { max_alerts: 100, external_url: String::new(), labels: LabelSet::default() }
}

impl Host {
    fn new(text: &str) -> Self {
        let dispatcher = Dispatcher::new(plan(text).unwrap(), settings(), Saved::default(), start());
        Self { dispatcher, now: start(), firing: BTreeMap::new(), told: Vec::new() }
    }

    /// Lets time go by, minute:second by minute:second.
    fn until(&mut self, clock: &str) {
        let (minutes, seconds) = clock.split_once(':').unwrap();
        let seconds = minutes.parse::<u64>().unwrap() * 60 + seconds.parse::<u64>().unwrap();
        let end = start().plus(Duration::from_secs(seconds));
        while let Some(next) = self.dispatcher.next().filter(|next| *next <= end) {
            let stuck = self.told.len() > 1000;
            assert!(!stuck, "it never stops: {:?}", self.told);
            self.now = self.now.max(next);
            self.look();
        }
        self.now = end;
    }

    fn look(&mut self) {
        let since = (self.now.as_millis() - start().as_millis()) / 1000;
        for Order { target, notification } in self.dispatcher.due(self.now) {
            let names =
                |alerts: Vec<&Alert>| alerts.iter().map(|a| a.fingerprint.clone()).collect::<Vec<_>>().join(",");
            let reason = match notification.reason {
                Reason::Alerts => String::new(),
                Reason::Escalation(step) => format!(" step {step}"),
                other => format!(" {other:?}"),
            };
            let receiver = target.split('/').next().unwrap();
            self.told.push(format!(
                "{}:{:02} {receiver}{reason} [{}] [{}]",
                since / 60,
                since % 60,
                names(notification.firing().collect()),
                names(notification.resolved().collect())
            ));
        }
    }

    fn fires(&mut self, name: &str) {
        self.firing.insert(name.to_owned(), alert(name, self.now));
        self.dispatcher.observe(self.firing.values(), self.now);
        self.look();
    }

    fn ends(&mut self, name: &str) {
        self.firing.remove(name).unwrap();
        self.dispatcher.observe(self.firing.values(), self.now);
        self.look();
    }

    /// As after kill -9 right after the state was written.
    fn restart(&mut self, text: &str) {
        let saved = serde_json::to_string(&self.dispatcher.saved()).unwrap();
        let saved = serde_json::from_str(&saved).unwrap();
        self.dispatcher = Dispatcher::new(plan(text).unwrap(), settings(), saved, self.now);
        self.dispatcher.observe(self.firing.values(), self.now);
        self.look();
    }

    fn silence(&mut self, matchers: &str, minutes: u64) {
        let silence = Silence {
            id: "s".to_owned(),
            matchers: matcher::parse(matchers).unwrap(),
            starts_at: self.now,
            ends_at: self.now.plus(Duration::from_secs(60 * minutes)),
            created_by: "me".to_owned(),
            comment: "work".to_owned(),
            origin: Origin::Host,
        };
        self.dispatcher.set_silences(vec![silence]);
    }

    fn acknowledge(&mut self, which: &str) {
        let ack = Ack { by: "me".to_owned(), comment: String::new(), false_alarm: false, at: self.now };
        assert!(!self.dispatcher.acknowledge(which, &ack).is_empty(), "{which}");
    }

    #[track_caller]
    fn was_told(&mut self, expected: &[&str]) {
        assert_eq!(self.told, expected);
        self.told.clear();
    }
}

#[test]
fn a_silence_may_name_the_host() {
    let mut host = Host::new(SIMPLE);
    let labels = [("host".to_owned(), "web-01".to_owned())].into_iter().collect();
    host.dispatcher.set_plan(plan(SIMPLE).unwrap(), Settings { labels, ..settings() }, start());
    host.fires("A");
    host.silence("host=web-02", 60);
    assert_eq!(host.dispatcher.counts(host.now), (1, 0));
    host.silence("host=~\"web-.*\", alertname=A", 60);
    assert_eq!(host.dispatcher.counts(host.now), (1, 1));
    // What an alert says of itself counts before.
    host.fires("B host=db-01");
    assert_eq!(host.dispatcher.counts(host.now), (2, 1));
}

#[test]
fn two_routes_with_the_same_matchers_are_two() {
    let mut host = Host::new(
        "route = {receiver='boss', group_wait='0s', routes=[{matchers=['a=~\".*\"'], receiver='ops', continue=true},
         {matchers=['a=~\".*\"'], receiver='db', group_wait='10s'}]}",
    );
    host.fires("A");
    host.until("0:10");
    host.was_told(&["0:00 ops [A] []", "0:10 db [A] []"]);
    host.ends("A");
    host.until("20:00");
    host.was_told(&["5:00 ops [] [A]", "5:10 db [] [A]"]);
}

const SIMPLE: &str = "route = {receiver='ops', group_by=['alertname']}";

#[test]
fn a_group_waits_and_then_tells_its_news_at_its_interval() {
    let mut host = Host::new(SIMPLE);
    host.fires("A x=1");
    host.until("0:10");
    host.fires("A x=2");
    host.fires("B");
    host.until("0:30");
    host.was_told(&["0:30 ops [A x=1,A x=2] []"]);
    host.until("0:40");
    host.was_told(&["0:40 ops [B] []"]);
    host.fires("A x=3");
    host.until("5:00");
    host.ends("A x=1");
    host.until("5:40");
    host.was_told(&["5:30 ops [A x=2,A x=3] [A x=1]"]);
    host.until("10:40");
    host.was_told(&[]);
    host.ends("A x=2");
    host.ends("A x=3");
    host.until("15:40");
    host.was_told(&["15:30 ops [] [A x=2,A x=3]"]);
    // B is told again after four hours, at the first time of its group from then on.
    host.until("239:40");
    host.was_told(&[]);
    host.until("240:40");
    host.was_told(&["240:40 ops [B] []"]);
    host.ends("B");
    host.until("300:00");
    host.was_told(&["245:40 ops [] [B]"]);
    assert_eq!(host.dispatcher.next(), None);
    assert_eq!(host.dispatcher.saved(), Saved::default());
}

#[test]
fn what_is_over_before_anybody_was_told_is_not_told() {
    let mut host = Host::new(SIMPLE);
    host.fires("A");
    host.until("0:20");
    host.ends("A");
    host.until("9:00");
    host.was_told(&[]);
    assert_eq!(host.dispatcher.saved(), Saved::default());
    // With a batch it is: an event of a moment counts.
    let mut host = Host::new("route = {receiver='quiet', group_by=['severity'], batch='15m'}");
    host.fires("Retrained severity=info");
    host.until("0:10");
    host.ends("Retrained severity=info");
    host.fires("Refreshed severity=info");
    host.until("15:00");
    host.was_told(&["15:00 quiet [Refreshed severity=info] [Retrained severity=info]"]);
    host.ends("Refreshed severity=info");
    host.fires("Backup severity=info");
    host.until("15:30");
    host.ends("Backup severity=info");
    host.until("100:00");
    host.was_told(&["30:00 quiet [] [Backup severity=info,Refreshed severity=info]"]);
}

#[test]
fn one_that_wants_no_end_is_not_told_of_it() {
    let mut host = Host::new("route = {receiver='quiet', group_wait='0s'}");
    host.fires("A");
    host.fires("B");
    host.until("1:00");
    host.ends("A");
    host.until("5:30");
    host.ends("B");
    host.until("12:00");
    host.was_told(&["0:00 quiet [A] []", "5:00 quiet [B] []"]);
    assert_eq!(host.dispatcher.saved(), Saved::default());
}

#[test]
fn routes_are_taken_in_order_and_go_on_where_they_say_so() {
    let text = "
        route.receiver = 'ops'
        route.group_wait = '1s'
        [[route.routes]]
        matchers = ['team=db']
        receiver = 'db'
        group_by = ['team']
        continue = true
        routes = [{matchers=['severity=critical'], receiver='boss'}]
        [[route.routes]]
        matchers = ['severity=critical']
        receiver = 'quiet'
        [[route.routes]]
        matchers = ['severity=~critical|info']
        receiver = 'nobody'
    ";
    let routes = |labels: &str| {
        let plan = plan(text).unwrap();
        plan.receivers_of(&alert(labels, start()).labels).join(" ")
    };
    assert_eq!(routes("A"), "ops");
    assert_eq!(routes("A team=db"), "db");
    assert_eq!(routes("A team=db severity=critical"), "boss quiet");
    assert_eq!(routes("A severity=critical"), "quiet");
    assert_eq!(routes("A severity=info"), "nobody");
    let mut host = Host::new(text);
    host.fires("A team=db severity=critical");
    host.fires("B team=db");
    host.until("0:30");
    let key = r#"{}/{team="db"}/{severity="critical"}:{team="db"}"#;
    assert!(host.dispatcher.groups.contains_key(key), "{:?}", host.dispatcher.groups.keys());
    host.told.sort();
    host.was_told(&[
        "0:01 boss [A team=db severity=critical] []",
        "0:01 db [B team=db] []",
        "0:01 quiet [A team=db severity=critical] []",
    ]);
}

#[test]
fn an_alert_hides_others_while_it_fires() {
    let mut host = Host::new(
        "
        route = {receiver='ops', group_by=['...'], group_wait='5s', group_interval='1m'}
        [[inhibit]]
        source_matchers = ['severity=critical']
        target_matchers = ['severity=~warning|critical', 'alertname=Disk']
        equal = ['device']
    ",
    );
    host.fires("Disk severity=warning device=sda");
    host.fires("Disk severity=warning device=sdb");
    host.fires("Disk severity=critical device=sda");
    host.until("0:50");
    // The critical one is source and target: it does not hide itself.
    host.told.sort();
    host.was_told(&[
        "0:05 ops [Disk severity=critical device=sda] []",
        "0:05 ops [Disk severity=warning device=sdb] []",
    ]);
    host.ends("Disk severity=critical device=sda");
    host.until("2:00");
    host.told.sort();
    host.was_told(&[
        "1:05 ops [Disk severity=warning device=sda] []",
        "1:05 ops [] [Disk severity=critical device=sda]",
    ]);
    host.fires("Disk severity=critical device=sda");
    host.until("3:00");
    // Its end is told all the same: it was told before.
    host.ends("Disk severity=warning device=sda");
    host.until("4:00");
    host.told.sort();
    host.was_told(&[
        "2:05 ops [Disk severity=critical device=sda] []",
        "3:05 ops [] [Disk severity=warning device=sda]",
    ]);
}

#[test]
fn a_silence_hides_and_ends() {
    let mut host = Host::new("route = {receiver='ops', group_wait='0s', group_interval='1m', repeat_interval='10m'}");
    host.fires("A");
    host.was_told(&["0:00 ops [A] []"]);
    host.silence("alertname=~'A|B'".replace('\'', "\"").as_str(), 30);
    host.fires("B");
    host.until("20:30");
    host.was_told(&[]);
    assert_eq!(host.dispatcher.counts(host.now), (2, 2));
    host.ends("A");
    host.until("29:59");
    // It was told as firing, so it is told as over.
    host.was_told(&["21:00 ops [] [A]"]);
    host.until("31:00");
    host.was_told(&["30:00 ops [B] []"]);
    // A silence of the plan, over before it begins to matter.
    let text = format!(
        "route = {{receiver='ops', group_wait='0s'}}\n[[silences]]\nmatchers = ['alertname=A']\nends_at = '{}'\n\
         created_by = 'me'\ncomment = 'work'",
        start().plus(Duration::from_secs(60))
    );
    let mut host = Host::new(&text);
    host.fires("A");
    host.until("4:59");
    host.was_told(&[]);
    host.until("5:00");
    host.was_told(&["5:00 ops [A] []"]);
}

#[test]
fn in_muted_times_nothing_is_told_and_afterwards_all_of_it() {
    let mut host = Host::new(
        "
        route = {receiver='ops', group_interval='10m', routes=[{mute_time_intervals=['early'], active_time_intervals=['friday']}]}
        time_intervals = [
            {name='early', time_intervals=[{times=[{start_time='08:00', end_time='09:00'}]}]},
            {name='friday', time_intervals=[{weekdays=['friday']}]},
        ]
    ",
    );
    host.fires("A");
    host.until("30:00");
    host.fires("B");
    host.until("40:00");
    host.ends("A");
    host.until("59:00");
    host.was_told(&[]);
    host.until("65:00");
    host.was_told(&["60:30 ops [B] []"]);
    // Saturday begins at 960.
    host.until("955:00");
    host.told.clear();
    host.until("965:00");
    host.ends("B");
    host.until("2500:00");
    // The end comes with the next Friday, not never.
    host.was_told(&[]);
    let group = host.dispatcher.groups.values().next().unwrap();
    assert_eq!(group.members.len(), 1);
}

const CHAIN: &str = "
    route = {receiver='ops', group_wait='10s', group_interval='1m', escalation='chain'}
    [[escalations]]
    name = 'chain'
    steps = [{receiver='db', after='5m'}, {receiver='boss', after='15m'}]
";

#[test]
fn who_is_next_is_told_while_nobody_acknowledges() {
    let mut host = Host::new(CHAIN);
    host.fires("A");
    host.until("2:00");
    host.fires("B");
    host.until("10:00");
    host.was_told(&[
        "0:10 ops [A] []",
        "2:10 ops [A,B] []",
        "5:10 db step 1 [A] []",
        // B was told two minutes later, and so is the next for it.
        "7:10 db step 1 [A,B] []",
    ]);
    host.acknowledge("A");
    host.until("20:00");
    host.was_told(&["17:10 boss step 2 [B] []"]);
    host.ends("A");
    host.ends("B");
    host.until("22:00");
    host.was_told(&["20:10 ops [] [A,B]", "20:10 db step 1 [] [A,B]", "20:10 boss step 2 [] [B]"]);
    // A new one of the same name is a new one.
    host.fires("A");
    host.until("28:00");
    host.was_told(&["22:10 ops [A] []", "27:10 db step 1 [A] []"]);
}

#[test]
fn what_is_acknowledged_or_silenced_goes_no_step_and_is_not_repeated() {
    let text = CHAIN.replace("group_wait='10s'", "group_wait='10s', repeat_interval='2m'");
    let mut host = Host::new(&text);
    host.fires("A");
    host.until("1:00");
    host.acknowledge("A");
    host.until("30:00");
    host.was_told(&["0:10 ops [A] []"]);
    let mut host = Host::new(CHAIN);
    host.fires("A");
    host.until("1:00");
    host.silence("alertname=A", 29);
    host.until("29:59");
    host.was_told(&["0:10 ops [A] []"]);
    host.until("32:00");
    assert_eq!(host.told, ["30:10 db step 1 [A] []", "30:10 boss step 2 [A] []"]);
}

#[test]
fn a_restart_repeats_and_forgets_nothing() {
    let mut host = Host::new(CHAIN);
    host.fires("A");
    host.until("0:05");
    host.restart(CHAIN);
    host.until("2:00");
    host.was_told(&["0:10 ops [A] []"]);
    host.restart(CHAIN);
    host.until("6:00");
    host.was_told(&["5:10 db step 1 [A] []"]);
    // While it is away, the alert ends and another begins.
    host.firing.clear();
    host.firing.insert("B".to_owned(), alert("B", host.now));
    host.now = host.now.plus(Duration::from_secs(600));
    host.restart(CHAIN);
    host.until("18:00");
    host.was_told(&["16:00 ops [B] [A]", "16:00 db step 1 [] [A]"]);
}

#[test]
fn another_plan_keeps_what_was_told() {
    let mut host = Host::new(SIMPLE);
    host.fires("A");
    host.until("1:00");
    host.was_told(&["0:30 ops [A] []"]);
    let more = "route = {receiver='ops', group_by=['alertname'], routes=[{matchers=['alertname=B'], receiver='db'}]}";
    host.dispatcher.set_plan(plan(more).unwrap(), settings(), host.now);
    host.fires("B");
    host.until("5:31");
    host.was_told(&["1:30 db [B] []"]);
    host.ends("A");
    host.until("10:40");
    host.was_told(&["10:30 ops [] [A]"]);
}

#[test]
fn a_heartbeat_comes_whatever_happens() {
    let mut host = Host::new("heartbeats = [{receiver='boss', every='1m'}]");
    host.until("2:00");
    let at: Vec<_> = host.told.iter().map(|told| told.split(" [").next().unwrap()).collect();
    assert_eq!(at, ["0:00 boss Heartbeat", "1:00 boss Heartbeat", "2:00 boss Heartbeat"]);
}

#[test]
fn long_groups_are_cut_and_counted() {
    let mut host = Host::new(SIMPLE);
    for number in 0..150 {
        host.fires(&format!("A x={number}"));
    }
    host.now = host.now.plus(Duration::from_secs(30));
    let orders = host.dispatcher.due(host.now);
    assert_eq!((orders[0].notification.alerts.len(), orders[0].notification.left_out), (100, 50));
}

#[test]
fn a_plan_is_refused_with_keys_and_reasons() {
    for (text, key, reason) in [
        ("route = {receiver='opps'}", "route.receiver", "there is no receiver \"opps\"; there are: boss, db"),
        ("route = {group_wait='1s'}", "route.receiver", "names nobody"),
        ("route = {routes=[{receiver='ops'}]}", "route.receiver", "names nobody"),
        ("route = {receiver='ops', matchers=['a=b']}", "route.matchers", "first route"),
        ("route = {receiver='ops', group_by=['...', 'a']}", "route.group_by", "stands alone"),
        ("route = {receiver='ops', batch='1m', group_wait='1s'}", "route.batch", "instead of"),
        ("route = {receiver='ops', group_interval='0s'}", "route.group_interval", "at least 1s"),
        ("route = {receiver='ops', repeat_interval='0s'}", "route.repeat_interval", "longer than 0s"),
        ("route = {receiver='ops', escalation='x'}", "route.escalation", "no escalation \"x\""),
        ("route = {receiver='ops', routes=[{matchers=['a']}]}", "route.routes[0].matchers", "is missing"),
        (
            "route = {receiver='ops', routes=[{mute_time_intervals=['n']}]}",
            "route.routes[0].mute_time_intervals",
            "no time",
        ),
        ("inhibit = [{source_matchers=['a=b']}]", "inhibit[0].target_matchers", "at least one"),
        (
            "escalations = [{name='x', steps=[{receiver='ops', after='0s'}]}]",
            "escalations[0].steps[0].after",
            "longer than",
        ),
        ("escalations = [{name='x'}]", "escalations[0].steps", "1 to 20"),
        ("heartbeats = [{receiver='x'}]", "heartbeats[0].receiver", "no receiver"),
        (
            "silences = [{matchers=['a=b'], ends_at='soon', created_by='a', comment='b'}]",
            "silences[0].ends_at",
            "RFC 3339",
        ),
        (
            "silences = [{ends_at='2026-11-20T08:00:00Z', created_by='a', comment='b'}]",
            "silences[0].matchers",
            "at least",
        ),
        ("silences = [{matchers=['a=b'], ends_at='2026-11-20T08:00:00Z'}]", "silences[0].comment", "why"),
        (
            "time_intervals = [{name='n', time_intervals=[{years=['x']}]}]",
            "time_intervals[0].time_intervals[0].years",
            "a year",
        ),
    ] {
        let faults = plan(text).unwrap_err();
        assert!(faults.iter().any(|(k, e)| k == key && e.contains(reason)), "{text}: {faults:?}");
    }
    assert!(plan("").unwrap().is_empty());
}

#[test]
fn routes_with_the_same_conditions_have_groups_of_their_own() {
    const BOTH: &str = "[route]\nreceiver='ops'\ngroup_wait='0s'\n[[route.routes]]\nreceiver='db'\ncontinue=true\n\
                        [[route.routes]]\nreceiver='boss'\n";
    let mut host = Host::new(BOTH);
    host.fires("A");
    host.until("1:00");
    host.was_told(&["0:00 boss [A] []", "0:00 db [A] []"]);
    host.told.clear();
    host.restart(BOTH);
    host.ends("A");
    host.until("10:00");
    assert_eq!(host.told.len(), 2, "{:?}", host.told);
}

#[test]
fn a_clock_that_is_put_back_leaves_nobody_waiting_for_years() {
    let years = Duration::from_secs(4 * 365 * 86_400);
    for anew in [false, true] {
        let mut host = Host::new("[route]\nreceiver='ops'\n[[heartbeats]]\nreceiver='boss'\nevery='1m'");
        host.fires("A");
        host.until("1:00");
        host.now = host.now.plus(years);
        host.look();
        host.fires("B");
        host.told.clear();
        host.now = start().plus(Duration::from_secs(120));
        if anew {
            let saved = host.dispatcher.saved();
            host.dispatcher = Dispatcher::new(host.dispatcher.plan.clone(), settings(), saved, host.now);
            host.dispatcher.observe(host.firing.values(), host.now);
        }
        host.look();
        host.until("12:00");
        assert!(host.told.iter().any(|told| told.contains('B')), "{:?}", host.told);
        assert!(host.told.iter().filter(|told| told.contains("boss")).count() > 5, "{:?}", host.told);
        // Repeated after 4 h, not after years.
        host.told.clear();
        host.until("250:00");
        assert!(host.told.iter().any(|told| told.contains("A,B")), "{:?}", host.told);
    }
}

/// The queue knows what it has sent by its id, and drops what it knows.
#[test]
fn each_end_of_an_alert_that_comes_and_goes_has_an_id_of_its_own() {
    let text = "[route]\nreceiver = 'ops'\ngroup_wait = '0s'\ngroup_interval = '1s'\n";
    let mut dispatcher = Dispatcher::new(plan(text).unwrap(), settings(), Saved::default(), start());
    let mut ids = Vec::new();
    for round in 0..3u64 {
        let at = |seconds: u64| start().plus(Duration::from_secs(10 * round + seconds));
        for (firing, now) in [(vec![alert("A", at(0))], at(1)), (vec![], at(3))] {
            dispatcher.observe(&firing, now);
            let orders = dispatcher.due(now);
            assert_eq!(orders.len(), 1, "round {round}");
            ids.extend(orders.into_iter().map(|order| order.notification.id));
        }
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 6, "{ids:?}");
}

#[test]
fn one_that_begins_anew_before_its_end_was_told_climbs_again_and_is_over_for_all() {
    let mut host = Host::new(CHAIN);
    host.fires("A");
    host.until("5:20");
    host.was_told(&["0:10 ops [A] []", "5:10 db step 1 [A] []"]);
    host.ends("A");
    host.until("5:30");
    host.fires("A");
    host.until("10:00");
    host.ends("A");
    host.until("20:00");
    host.was_told(&["10:10 ops [] [A]", "10:10 db step 1 [] [A]"]);
    assert_eq!(host.dispatcher.saved(), Saved::default());
    // It was taken care of the first time, and is not the second.
    let mut host = Host::new(CHAIN);
    host.fires("A");
    host.until("5:20");
    host.acknowledge("A");
    host.ends("A");
    host.fires("A");
    host.told.clear();
    host.until("11:20");
    host.was_told(&["11:10 db step 1 [A] []"]);
    host.ends("A");
    host.until("20:00");
    host.was_told(&["12:10 ops [] [A]", "12:10 db step 1 [] [A]"]);
}

#[test]
fn a_step_is_told_once() {
    let mut host = Host::new(&CHAIN.replace("group_wait='10s'", "group_wait='10s', repeat_interval='3m'"));
    host.fires("A");
    host.until("14:00");
    host.told.retain(|told| told.contains("step"));
    host.was_told(&["5:10 db step 1 [A] []"]);
}

#[test]
fn what_was_left_out_as_silenced_is_told_again_and_to_be_over() {
    const TEXT: &str = "route = {receiver='ops', group_wait='0s', group_interval='1m'}";
    let mut host = Host::new(TEXT);
    host.fires("A");
    host.fires("B");
    host.until("1:30");
    host.silence("alertname=A", 4);
    host.ends("B");
    host.until("5:00");
    // For whoever reads it, all is well.
    host.was_told(&["0:00 ops [A] []", "1:00 ops [A,B] []", "2:00 ops [] [B]"]);
    host.restart(TEXT);
    host.until("8:00");
    host.was_told(&["6:00 ops [A] []"]);
    host.silence("alertname=A", 60);
    host.fires("C");
    host.until("10:30");
    host.was_told(&["9:00 ops [C] []"]);
    host.ends("C");
    host.until("11:30");
    host.ends("A");
    host.until("20:00");
    host.was_told(&["11:00 ops [] [C]", "12:00 ops [] [A]"]);
    assert_eq!(host.dispatcher.saved(), Saved::default());
}

#[test]
fn a_target_that_is_no_more_keeps_no_alert() {
    for after in [
        CHAIN.replace("receiver='ops'", "receiver='quiet'"),
        CHAIN.replace("receiver='db'", "receiver='quiet'"),
        CHAIN.replace(", escalation='chain'", ""),
    ] {
        let mut host = Host::new(CHAIN);
        host.fires("A");
        host.until("6:00");
        host.dispatcher.set_plan(plan(&after).unwrap(), settings(), host.now);
        host.until("8:00");
        host.ends("A");
        host.until("20:00");
        assert_eq!(host.dispatcher.saved(), Saved::default(), "{after}");
    }
}

#[test]
fn what_a_group_was_told_to_be_over_is_not_told_it_again_after_a_restart() {
    const TEXT: &str = "
        route = {receiver='ops', routes=[{receiver='quiet', batch='1m', continue=true},
         {receiver='db', group_wait='0s', group_interval='10m'}]}
    ";
    let mut host = Host::new(TEXT);
    host.fires("A");
    host.until("0:30");
    host.ends("A");
    host.until("2:00");
    host.was_told(&["0:00 db [A] []", "1:00 quiet [] [A]"]);
    host.restart(TEXT);
    host.until("30:00");
    host.was_told(&["10:00 db [] [A]"]);
}

/// Of a route that is taken out and put back: an end must not have the id that a repetition had.
#[test]
fn an_end_has_another_id_than_a_repetition() {
    const TEXT: &str = "route = {receiver='ops', group_wait='0s', group_interval='1m', repeat_interval='1m'}";
    let mut dispatcher = Dispatcher::new(plan(TEXT).unwrap(), settings(), Saved::default(), start());
    let at = |seconds: u64| start().plus(Duration::from_secs(seconds));
    let id = |dispatcher: &mut Dispatcher, now| dispatcher.due(now).pop().unwrap().notification.id;
    let firing = [alert("A", at(0))];
    dispatcher.observe(&firing, at(0));
    let mut ids = vec![id(&mut dispatcher, at(0)), id(&mut dispatcher, at(60))];
    for text in ["", TEXT] {
        dispatcher.set_plan(plan(text).unwrap(), settings(), at(90));
    }
    let again = id(&mut dispatcher, at(90));
    assert_eq!(again, ids[0]);
    dispatcher.observe([], at(100));
    ids.push(id(&mut dispatcher, at(150)));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "{ids:?}");
}
