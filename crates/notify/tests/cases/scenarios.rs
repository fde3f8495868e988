//! The same alerts at the same moments for a real Alertmanager and for the dispatcher: each receiver is told the same, in the
//! same order. Alertmanager takes half a minute of real time for all scenarios at once, the dispatcher takes none.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde_json::{Value, json};
use test_servers::{Alertmanager, wait_for};
use utilizer_notify::dispatch::{Dispatcher, Saved, Settings};
use utilizer_notify::inhibit::InhibitSection;
use utilizer_notify::plan::{Plan, RouteSection, Sections, Target};
use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

/// Groups are told 1, 5, 9, … s after their first alert, so that events 2 s before and after are far from it.
const CONFIG: &str = r#"
[route]
receiver = "nobody"
group_by = ["scenario"]
group_wait = "1s"
group_interval = "4s"
repeat_interval = "1h"
routes = [
    { matchers = ['scenario="by-name"'], receiver = "ops", group_by = ["scenario", "alertname"] },
    { matchers = ['scenario="all-in-one"'], receiver = "ops" },
    { matchers = ['scenario="each"'], receiver = "ops", group_by = ["..."] },
    { matchers = ['scenario="again"'], receiver = "ops", repeat_interval = "6s" },
    { matchers = ['scenario="short"'], receiver = "ops", group_wait = "4s" },
    { matchers = ['scenario="flap"'], receiver = "ops" },
    { matchers = ['scenario="quiet"'], receiver = "quiet", repeat_interval = "6s" },
    { matchers = ['scenario="two"'], receiver = "db", continue = true },
    { matchers = ['scenario="two"', 'severity=~"c.*"'], receiver = "ops", repeat_interval = "6s" },
    { matchers = ['scenario="nested"'], receiver = "ops", routes = [
        { matchers = ['team="db"'], receiver = "db" },
        { matchers = ['team!="db"', 'team!=""'], receiver = "quiet" },
    ] },
    { matchers = ['scenario=~"inhibit.*"'], receiver = "ops" },
]

[[inhibit]]
source_matchers = ['severity="critical"', 'scenario=~"inhibit.*"']
target_matchers = ['severity="warning"']
equal = ["scenario", "instance"]
"#;

const RECEIVERS: [&str; 3] = ["ops", "db", "quiet"];

/// Second, whether it fires, scenario, name, further labels.
const EVENTS: &[(u64, bool, &str, &str, &str)] = &[
    (0, true, "by-name", "A", "x=1"),
    (0, true, "by-name", "A", "x=2"),
    (0, true, "by-name", "B", "x=1"),
    (3, true, "by-name", "A", "x=3"),
    (7, false, "by-name", "A", "x=1"),
    (11, false, "by-name", "A", "x=2"),
    (11, false, "by-name", "A", "x=3"),
    (11, true, "by-name", "B", "x=2"),
    (15, false, "by-name", "B", "x=1"),
    (0, true, "all-in-one", "A", "x=1"),
    (3, true, "all-in-one", "B", "x=1"),
    (3, false, "all-in-one", "A", "x=1"),
    (7, true, "all-in-one", "C", "x=1"),
    (11, false, "all-in-one", "B", "x=1"),
    (11, false, "all-in-one", "C", "x=1"),
    (0, true, "each", "A", "x=1"),
    (0, true, "each", "A", "x=2"),
    (3, false, "each", "A", "x=1"),
    // Told at 1, 9 and 17, and with news before it is due again at 13.
    (0, true, "again", "A", "x=1"),
    (11, true, "again", "B", "x=1"),
    // Over before anybody was told.
    (0, true, "short", "A", "x=1"),
    (2, false, "short", "A", "x=1"),
    (0, true, "short", "B", "x=1"),
    // Over and there again between two moments.
    (0, true, "flap", "A", "x=1"),
    (2, false, "flap", "A", "x=1"),
    (3, true, "flap", "A", "x=1"),
    (11, false, "flap", "A", "x=1"),
    // Nobody is told that it is over, but that it is there again.
    (0, true, "quiet", "A", "x=1"),
    (3, false, "quiet", "A", "x=1"),
    (11, true, "quiet", "A", "x=1"),
    (11, true, "quiet", "B", "x=1"),
    (15, false, "quiet", "B", "x=1"),
    (0, true, "two", "A", "severity=critical"),
    (0, true, "two", "A", "severity=warning"),
    (11, false, "two", "A", "severity=critical"),
    (0, true, "nested", "A", "team=db"),
    (0, true, "nested", "B", "team=web"),
    (0, true, "nested", "C", "x=1"),
    (7, false, "nested", "A", "team=db"),
    // Hidden from the beginning, until the other is over.
    (0, true, "inhibit", "A", "severity=critical instance=a"),
    (0, true, "inhibit", "B", "severity=warning instance=a"),
    (0, true, "inhibit", "B", "severity=warning instance=b"),
    (7, false, "inhibit", "A", "severity=critical instance=a"),
    (15, false, "inhibit", "B", "severity=warning instance=a"),
    // Hidden, and over without ever having been told.
    (0, true, "inhibit-all", "A", "severity=critical instance=a"),
    (3, true, "inhibit-all", "B", "severity=warning instance=a"),
    (7, false, "inhibit-all", "B", "severity=warning instance=a"),
    (15, false, "inhibit-all", "A", "severity=critical instance=a"),
    // Told, and then hidden: nothing is said about it while it is.
    (0, true, "inhibit-late", "B", "severity=warning instance=a"),
    (3, true, "inhibit-late", "A", "severity=critical instance=a"),
    (11, false, "inhibit-late", "A", "severity=critical instance=a"),
    (15, false, "inhibit-late", "B", "severity=warning instance=a"),
];

/// When all is told, in seconds.
const END: u64 = 24;

#[derive(Deserialize)]
struct Written {
    route: RouteSection,
    inhibit: Vec<InhibitSection>,
}

/// Receiver and labels of the group.
type Group = (String, BTreeMap<String, String>);
/// What fires and what is over, as `NAME` and the labels that tell alerts of a scenario apart.
type Told = (BTreeSet<String>, BTreeSet<String>);
type All = BTreeMap<Group, Vec<Told>>;

fn labels((_, _, scenario, name, rest): (u64, bool, &str, &str, &str)) -> BTreeMap<String, String> {
    let own = [("scenario", scenario), ("alertname", name)];
    let rest = rest.split(' ').filter_map(|pair| pair.split_once('='));
    own.into_iter().chain(rest).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn shown<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let labels: BTreeMap<_, _> = labels.filter(|(name, _)| *name != "scenario").collect();
    labels.values().copied().collect::<Vec<_>>().join(" ")
}

fn events() -> Vec<(u64, bool, &'static str, &'static str, &'static str)> {
    let mut events = EVENTS.to_vec();
    events.sort_by_key(|(second, ..)| *second);
    events
}

/// In simulated time.
fn ours(written: &Written) -> All {
    let target = |name: &str| Target { name: format!("{name}/webhook/0"), send_resolved: name != "quiet" };
    let mut targets: BTreeMap<_, _> = RECEIVERS.iter().map(|name| ((*name).to_owned(), vec![target(name)])).collect();
    targets.insert("nobody".to_owned(), Vec::new());
    let sections = Sections {
        route: &written.route,
        inhibit: &written.inhibit,
        times: &[],
        silences: &[],
        escalations: &[],
        heartbeats: &[],
        report_to: None,
    };
    let plan = Plan::new(sections, targets, &|_| None).unwrap();
    let settings = Settings { max_alerts: 100, external_url: String::new(), labels: LabelSet::default() };
    let start = Timestamp::from_millis(1_700_000_000_000);
    let mut dispatcher = Dispatcher::new(plan, settings, Saved::default(), start);
    let mut firing: BTreeMap<String, Alert> = BTreeMap::new();
    let mut told = All::new();
    let mut look = |dispatcher: &mut Dispatcher, now| {
        for order in dispatcher.due(now) {
            let notification = order.notification;
            let all = |alerts: Vec<&Alert>| alerts.iter().map(|alert| shown(alert.labels.iter())).collect();
            let group = notification.group_labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let key = (order.target.split('/').next().unwrap().to_owned(), group.collect());
            let news = (all(notification.firing().collect()), all(notification.resolved().collect()));
            told.entry(key).or_default().push(news);
        }
    };
    let mut until = |dispatcher: &mut Dispatcher, end: Timestamp| {
        while let Some(next) = dispatcher.next().filter(|next| *next < end) {
            look(dispatcher, next);
        }
    };
    for event in events() {
        let now = start.plus(Duration::from_secs(event.0));
        until(&mut dispatcher, now);
        let labels: LabelSet = labels(event).into_iter().collect();
        let fingerprint: String = labels.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        if event.1 {
            let alert = Alert {
                fingerprint: fingerprint.clone(),
                labels,
                annotations: LabelSet::default(),
                value: 1.0.into(),
                active_at: now,
                fired_at: now,
                resolved_at: None,
            };
            firing.insert(fingerprint, alert);
        } else {
            firing.remove(&fingerprint).unwrap();
        }
        dispatcher.observe(firing.values(), now);
    }
    until(&mut dispatcher, start.plus(Duration::from_secs(END)));
    told
}

/// Without what is not written.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(key, value)| (key, pruned(value)));
            Value::Object(kept.filter(|(_, value)| !value.is_null() && *value != json!([])).collect())
        }
        Value::Array(list) => list.into_iter().map(pruned).collect(),
        other => other,
    }
}

/// The same as Alertmanager's configuration; YAML takes JSON.
fn config(written: &Written, url: &str) -> String {
    let receiver = |name: &str| json!({ "name": name, "webhook_configs": [{ "url": format!("{url}{name}"), "send_resolved": name != "quiet" }] });
    let receivers: Vec<_> = RECEIVERS.iter().map(|name| receiver(name)).chain([json!({ "name": "nobody" })]).collect();
    json!({
        "route": pruned(json!(written.route)),
        "inhibit_rules": pruned(json!(written.inhibit)),
        "receivers": receivers,
    })
    .to_string()
}

/// Takes what Alertmanager sends to `/RECEIVER`.
fn hook() -> (String, Arc<Mutex<All>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let told = Arc::new(Mutex::new(All::new()));
    let keep = told.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_ok() && length > 0 {
                note(&mut keep.lock().unwrap(), &serde_json::from_slice(&body).unwrap());
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = reader.get_mut().write_all(answer);
            }
        }
    });
    (url, told)
}

fn note(told: &mut All, payload: &Value) {
    let map = |value: &Value| -> BTreeMap<String, String> { serde_json::from_value(value.clone()).unwrap() };
    let mut news = Told::default();
    for alert in payload["alerts"].as_array().unwrap() {
        let labels = map(&alert["labels"]);
        let text = shown(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if alert["status"] == "firing" {
            news.0.insert(text)
        } else {
            news.1.insert(text)
        };
    }
    let key = (payload["receiver"].as_str().unwrap().to_owned(), map(&payload["groupLabels"]));
    told.entry(key).or_default().push(news);
}

/// Alertmanager wants to know the type of what it is sent.
fn post(address: &str, body: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "content-type: application/json\r\nconnection: close";
    let length = body.len();
    write!(
        stream,
        "POST /api/v2/alerts HTTP/1.1\r\nhost: {address}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[test]
fn a_real_alertmanager_tells_the_same() {
    let written: Written = toml::from_str(CONFIG).unwrap();
    let ours = ours(&written);
    let count: usize = ours.values().map(Vec::len).sum();
    assert!(ours.len() >= 17 && count >= 40, "{count} in {} groups", ours.len());

    let (url, told) = hook();
    let alertmanager = Alertmanager::start(&config(&written, &url), &[]);
    let address = alertmanager.url().trim_start_matches("http://").to_owned();
    let start = Instant::now();
    let events = events();
    let mut since = BTreeMap::new();
    for same in events.chunk_by(|a, b| a.0 == b.0) {
        std::thread::sleep((start + Duration::from_secs(same[0].0)).saturating_duration_since(Instant::now()));
        let body: Value = same
            .iter()
            .map(|event| {
                let labels = labels(*event);
                if event.1 {
                    since.insert(labels.clone(), now());
                }
                let ends = if event.1 { now().plus(Duration::from_secs(3600)) } else { now() };
                json!({ "startsAt": since[&labels], "endsAt": ends, "labels": labels })
            })
            .collect();
        post(&address, &body.to_string());
    }
    std::thread::sleep((start + Duration::from_secs(END - 1)).saturating_duration_since(Instant::now()));
    let same = || told.lock().unwrap().clone();
    let equal = wait_for("Alertmanager has told all of it", || {
        let theirs = same();
        let so_far: usize = theirs.values().map(Vec::len).sum();
        (so_far >= count || start.elapsed() > Duration::from_secs(END + 10)).then_some(theirs)
    });
    for (group, theirs) in &equal {
        assert_eq!(ours.get(group), Some(theirs), "{group:?}: ours is left, Alertmanager's right");
    }
    assert_eq!(ours, equal);
}
