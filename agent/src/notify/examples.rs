//! The examples of `config/examples`: they load, and who hears of what when is what their comments say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::dispatch::{Ack, Dispatcher, Saved};
use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

use super::Notify;
use crate::config::{Config, PathSwitches};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples")
}

fn load(example: &str) -> Config {
    let path = examples().join(example);
    Config::load(Some(&path), &PathSwitches::default(), &[]).unwrap_or_else(|error| panic!("{example}: {error}"))
}

#[test]
fn every_example_is_a_configuration_that_tells_somebody() {
    let mut count = 0;
    for system in std::fs::read_dir(examples()).unwrap() {
        let system = system.unwrap();
        for file in std::fs::read_dir(system.path()).unwrap() {
            let name = format!("{}/{}", system.file_name().display(), file.unwrap().file_name().display());
            if name.ends_with(".toml") && !name.ends_with("/jobs.toml") {
                count += 1;
                let text = std::fs::read_to_string(examples().join(&name)).unwrap();
                assert!(text.contains("[notify.route]") && !load(&name).notify.is_empty(), "{name}");
            }
        }
    }
    assert!(count >= 6, "{count} examples");
}

fn alert(labels: &[(&str, &str)], fired_at: Timestamp) -> Alert {
    let labels: LabelSet = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let fingerprint = labels.iter().map(|(_, value)| value).collect::<Vec<_>>().join(" ");
    let annotations = LabelSet::default();
    Alert { fingerprint, labels, annotations, value: 1.0.into(), active_at: fired_at, fired_at, resolved_at: None }
}

/// A host in simulated time.
struct Host {
    dispatcher: Dispatcher,
    now: Timestamp,
    firing: BTreeMap<String, Alert>,
    /// Seconds, target, alerts that fire, alerts that are over.
    told: Vec<(i64, String, usize, usize)>,
}

impl Host {
    fn new(notify: &Notify) -> Self {
        let now = Timestamp::from_millis(0);
        let dispatcher = Dispatcher::new(notify.plan.clone(), notify.dispatch.clone(), Saved::default(), now);
        Self { dispatcher, now, firing: BTreeMap::new(), told: Vec::new() }
    }

    fn fires(&mut self, labels: &[(&str, &str)]) {
        let alert = alert(labels, self.now);
        self.firing.insert(alert.fingerprint.clone(), alert);
        self.look();
    }

    fn look(&mut self) {
        self.dispatcher.observe(self.firing.values(), self.now);
        for order in self.dispatcher.due(self.now) {
            let (firing, over) = (order.notification.firing().count(), order.notification.resolved().count());
            let target = order.target.trim_end_matches("/0").to_owned();
            self.told.push((self.now.as_millis() / 1000, target, firing, over));
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now.plus(Duration::from_secs(seconds));
        while let Some(next) = self.dispatcher.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.look();
        }
        self.now = end;
    }

    /// When each target was told first: `0:00 a b, 2:00 c`.
    fn first(&self) -> String {
        let mut seen = BTreeSet::new();
        let mut moments: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        for (at, target, ..) in &self.told {
            if seen.insert(target) {
                moments.entry(*at).or_default().push(target);
            }
        }
        let moment = |(at, mut targets): (i64, Vec<&str>)| {
            targets.sort_unstable();
            format!("{}:{:02} {}", at / 60, at % 60, targets.join(" "))
        };
        moments.into_iter().map(moment).collect::<Vec<_>>().join(", ")
    }
}

/// Name, severity and area of each alert of the rule file.
fn shipped() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(examples().join("daytrade/rules.yml")).unwrap();
    let mut alerts = Vec::new();
    let mut name = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            alert.clone_into(&mut name);
        }
        if let Some(labels) = line.strip_prefix("labels: {severity: ").and_then(|rest| rest.strip_suffix('}')) {
            let (severity, area) = labels.split_once(", area: ").unwrap();
            alerts.push((name.clone(), severity.to_owned(), area.to_owned()));
        }
    }
    alerts
}

const CRITICAL: &str = "critical/email critical/slack critical/sms";
const ON_CALL: &str = "2:00 on-call/pagerduty on-call/sms";

#[test]
fn in_daytrade_each_alert_reaches_its_channels_in_its_time() {
    let outage = "7:00 infrastructure-team/email infrastructure-team/sms";
    let table = [
        (
            "EnsembleAccuracyDegraded",
            format!("0:00 accuracy/slack {CRITICAL}, {ON_CALL}, 7:00 ml-team/email ml-team/sms"),
        ),
        ("MLServiceDown", format!("0:00 {CRITICAL} ml/slack recovery/command, {ON_CALL}, {outage}")),
        ("DataServiceDown", format!("0:00 {CRITICAL} data/slack recovery/command, {ON_CALL}, {outage}")),
        ("SchedulerServiceDown", format!("0:00 {CRITICAL} recovery/command scheduler/slack, {ON_CALL}, {outage}")),
        ("DatabaseDown", format!("0:00 {CRITICAL} infra/slack, {ON_CALL}, {outage}")),
        ("HighMemoryUsage", "0:00 infra/slack, 1:00 mail/email".to_owned()),
        ("HighCPUUsage", "0:00 infra/slack, 1:00 mail/email".to_owned()),
        ("DataQualityDegraded", "0:00 data/slack, 1:00 mail/email".to_owned()),
        ("SchedulerTaskFailure", "0:00 scheduler/slack, 1:00 mail/email".to_owned()),
        ("ModelRetrained", "15:00 ml/slack".to_owned()),
        ("DataRefreshed", "15:00 data/slack".to_owned()),
        ("BackupCompleted", "15:00 infra/slack".to_owned()),
    ];
    let shipped = shipped();
    let names: Vec<_> = shipped.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, table.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let production = load("daytrade/production.toml").notify;
    let told = |alert: &[(&str, &str)]| {
        let mut host = Host::new(&production);
        host.fires(alert);
        host.pass(20 * 60);
        host.first()
    };
    for ((name, expected), (_, severity, area)) in table.iter().zip(&shipped) {
        assert_eq!(told(&[("alertname", name), ("severity", severity), ("area", area)]), *expected, "{name}");
    }
    // Not of the rule file.
    let business = told(&[("alertname", "OrdersStopped"), ("severity", "critical"), ("area", "business")]);
    let product = "7:00 product-team/email product-team/sms";
    assert_eq!(business, format!("0:00 business/slack {CRITICAL}, {ON_CALL}, {product}"));
    let other = told(&[("alertname", "Odd"), ("severity", "warning"), ("area", "payments")]);
    assert_eq!(other, "0:00 alerts/slack, 1:00 mail/email");
    assert_eq!(told(&[("alertname", "Plain")]), "0:00 alerts/slack");
}

#[test]
fn in_daytrade_a_warning_never_waits_for_more_than_five_minutes_and_a_critical_alert_not_at_all() {
    let production = load("daytrade/production.toml").notify;
    let mut host = Host::new(&production);
    // Another one of the same name comes whenever it is worst: right after a message went out.
    let mut fired = Vec::new();
    for (instance, pause) in [("a", 1), ("b", 60), ("c", 1), ("d", 240), ("e", 1), ("f", 700)] {
        fired.push((host.now.as_millis() / 1000, fired.len() + 1));
        host.fires(&[
            ("alertname", "HighCPUUsage"),
            ("severity", "warning"),
            ("area", "infra"),
            ("instance", instance),
        ]);
        host.pass(pause);
    }
    for target in ["mail/email", "infra/slack"] {
        for (at, count) in &fired {
            let within = |(when, to, firing, _): &(i64, String, usize, usize)| {
                to == target && firing >= count && (*at..=at + 300).contains(when)
            };
            assert!(host.told.iter().any(within), "{target} at {at} s: {:?}", host.told);
        }
    }
    let mut host = Host::new(&production);
    for (count, instance) in ["a", "b", "c"].into_iter().enumerate() {
        let labels = [("alertname", "MLServiceDown"), ("severity", "critical"), ("area", "ml"), ("instance", instance)];
        host.fires(&labels);
        for target in ["critical/slack", "critical/email", "critical/sms", "recovery/command"] {
            let told = host.told.iter().filter(|(at, to, ..)| to == target && *at == host.now.as_millis() / 1000);
            assert_eq!(told.count(), 1, "{target} {count}");
        }
        host.pass(7);
    }
}

#[test]
fn in_daytrade_events_come_in_one_message_a_quarter_of_an_hour() {
    let production = load("daytrade/production.toml").notify;
    let mut host = Host::new(&production);
    for (name, area) in [("ModelRetrained", "ml"), ("DataRefreshed", "data"), ("DataImported", "data")] {
        host.fires(&[("alertname", name), ("severity", "info"), ("area", area)]);
        host.pass(60);
        // An event is over soon.
        host.firing.clear();
        host.look();
    }
    host.pass(3600);
    let data: Vec<_> = host.told.iter().filter(|(_, target, ..)| target == "data/slack").collect();
    assert_eq!(
        data.iter().map(|(at, _, firing, over)| (*at, firing + over)).collect::<Vec<_>>(),
        [(960, 2)],
        "{data:?}"
    );
    assert_eq!(host.told.len(), 2, "{:?}", host.told);
}

#[test]
fn in_daytrade_an_acknowledged_alert_climbs_no_further_and_is_not_repeated() {
    let production = load("daytrade/production.toml").notify;
    let mut host = Host::new(&production);
    host.fires(&[("alertname", "DatabaseDown"), ("severity", "critical"), ("area", "infra")]);
    host.pass(6 * 60);
    let repeated = host.told.iter().filter(|(_, target, ..)| target == "critical/slack").count();
    assert_eq!(repeated, 2, "it is repeated after five minutes: {:?}", host.told);
    let ack = Ack { by: "ann".to_owned(), comment: String::new(), false_alarm: false, at: host.now };
    assert_eq!(host.dispatcher.acknowledge("DatabaseDown", &ack).len(), 1);
    let before = host.told.len();
    host.pass(3600);
    assert_eq!(host.told.len(), before, "{:?}", host.told);
    host.firing.clear();
    host.look();
    host.pass(600);
    let over: BTreeSet<_> = host.told.iter().skip(before).map(|(_, target, ..)| target.as_str()).collect();
    // Those who want to know that it is over.
    assert_eq!(over, ["critical/email", "critical/slack", "infra/slack", "on-call/pagerduty"].into());
}

#[test]
fn the_profiles_of_daytrade_differ_in_what_they_say_and_have_the_eight_channels() {
    let read = |name: &str| std::fs::read_to_string(examples().join("daytrade").join(name)).unwrap();
    let (production, staging) = (read("production.toml"), read("staging.toml"));
    let differing: Vec<_> = production
        .lines()
        .zip(staging.lines())
        .filter(|(a, b)| a != b && !a.starts_with("##"))
        .map(|(a, b)| format!("{a} -> {}", b.rsplit(" = ").next().unwrap()))
        .collect();
    assert_eq!(
        differing,
        [
            "interval = \"15s\" -> \"30s\"",
            "environment = \"production\" -> \"staging\"",
            "group_wait = \"0s\" -> \"10s\"",
            "repeat_interval = \"5m\" -> \"15m\""
        ]
    );
    assert_eq!(production.lines().count(), staging.lines().count());
    let channels: BTreeSet<_> = production.lines().filter_map(|line| line.split("] # #day-trade-").nth(1)).collect();
    let named = ["critical", "accuracy", "ml", "data", "scheduler", "infra", "business", "alerts"];
    assert_eq!(channels, named.into());
    let mut host = Host::new(&load("daytrade/staging.toml").notify);
    host.fires(&[("alertname", "HighCPUUsage"), ("severity", "warning"), ("area", "infra")]);
    host.pass(20 * 60);
    assert_eq!(host.first(), "0:10 infra/slack, 1:00 mail/email");
}
