//! The contract: golden files of every message, and the schemas generated from the types.
//!
//! `make golden` writes both anew. A change to a golden file is a change of the protocol: say so in the changelog.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use utilizer_wire::messages::*;
use utilizer_wire::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compares with the file, or writes it when asked to.
fn hold(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let file = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}; `make golden` writes it", path.display()));
    assert_eq!(text, file, "{} differs; if the change is meant, `make golden` writes it anew", path.display());
}

fn golden<T: Serialize>(name: &str, message: &T) -> String {
    let text = serde_json::to_string_pretty(message).unwrap() + "\n";
    hold(&folder("golden").join(format!("{name}.json")), &text);
    text
}

fn state<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &'static str, message: T) {
    let text = golden(name, &message);
    assert_eq!(decode_state::<T>(name, text.as_bytes()).unwrap(), message);
}

fn record<B: Body + PartialEq + std::fmt::Debug>(body: B) {
    let message = Record { head: head(), body };
    let text = golden(B::KIND.as_str(), &message);
    assert_eq!(decode_head(text.as_bytes()).unwrap(), message.head);
    assert_eq!(decode_body::<B>(text.as_bytes()).unwrap(), message.body);
    assert_eq!(
        serde_json::from_slice::<Json>(&encode(&message)).unwrap(),
        serde_json::from_str::<Json>(&text).unwrap()
    );
}

fn time(offset: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + offset)
}

fn boot() -> BootId {
    "019a3f5e-7c00-7d3a-9b1c-0242ac120002".parse().unwrap()
}

fn head() -> Head {
    Head { v: VERSION, host: "web-01".parse().unwrap(), boot: Some(boot()), seq: Some(42), time: time(0) }
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> LabelSet {
    pairs.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn object(value: Json) -> serde_json::Map<String, Json> {
    serde_json::from_value(value).unwrap()
}

fn alert() -> Alert {
    Alert {
        fingerprint: "5f1e2d3c4b5a6978".into(),
        labels: labels([("alertname", "HostDiskFull"), ("severity", "critical"), ("mountpoint", "/srv")]),
        annotations: labels([("summary", "/srv is 97 % full")]),
        value: Value(97.25),
        active_at: time(-300_000),
        fired_at: time(0),
        resolved_at: None,
    }
}

#[test]
fn durable_messages() {
    record(Metrics {
        interval_seconds: 10.0,
        labels: labels([("cluster", "eu-1")]),
        gauges: vec![
            Gauge { name: "cpu_percent".into(), labels: LabelSet::default(), value: Value(12.5) },
            Gauge { name: "disk_percent".into(), labels: labels([("mountpoint", "/")]), value: Value(71.0) },
        ],
        families: vec![Family {
            name: "app_quantile".into(),
            kind: FamilyType::Gauge,
            scraped: true,
            samples: vec![
                Sample { labels: labels([("le", "0.5")]), value: Value(f64::NAN) },
                Sample { labels: labels([("le", "+Inf")]), value: Value(f64::INFINITY) },
                Sample { labels: LabelSet::default(), value: Value(f64::NEG_INFINITY) },
            ],
        }],
        processes: vec![Process {
            pid: 4711,
            name: "postgres".into(),
            cpu_percent: Value(152.25),
            memory_percent: Some(Value(3.5)),
            resident_memory_bytes: 301_989_888,
            threads: Some(3),
            state: Some("R".into()),
            start_time_seconds: Some(Value(1_790_000_000.25)),
            open_fds: Some(48),
            max_fds: Some(1024),
            read_bytes_per_second: Some(Value(4096.0)),
            write_bytes_per_second: Some(Value(81920.5)),
            user: Some("postgres".into()),
            unit: Some("postgresql@15-main.service".into()),
            container: None,
            command_line: Some("/usr/lib/postgresql/15/bin/postgres -D /srv/main --password=***".into()),
        }],
    });
    record(Logs {
        records: vec![LogRecord {
            timestamp: time(-1500),
            level: Level::Fatal,
            level_original: Some("CRITICAL".into()),
            service_name: "checkout".into(),
            message: "payment provider is away".into(),
            latency_ms: Some(1250.5),
            logger: "checkout.payment".into(),
            environment: "production".into(),
            category: "application".into(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            request_id: "req-1".into(),
            fields: BTreeMap::from([("provider.name".into(), "acme".into())]),
        }],
    });
    record(AlertTransition { state: AlertState::Firing, alert: alert() });
    record(Pipeline {
        records: vec![PipelineRecord {
            job_id: "job-7".into(),
            stage: "clustering".into(),
            metric_name: "clusters_created".into(),
            metric_value: Value(12.0),
            metadata: Some(object(json!({ "algorithm": "hdbscan" }))),
            recorded_at: Some(time(-60_000)),
        }],
    });
    record(JobTransition {
        job: 7,
        status: JobStatus::Completed,
        result: Some(object(json!({ "articles": 850 }))),
        error_message: None,
    });
}

#[test]
fn state_messages() {
    state(
        "status",
        Status {
            v: VERSION,
            host: "web-01".parse().unwrap(),
            state: HostState::Online,
            boot: boot(),
            time: time(0),
            version: "0.1.0".into(),
            stopped: false,
            interval_seconds: Some(10.0),
            labels: labels([("cluster", "eu-1")]),
            inventory: Some(Inventory {
                os: Some("Debian GNU/Linux 12 (bookworm)".into()),
                kernel: Some("6.1.0-30-amd64".into()),
                architecture: Some("x86_64".into()),
                cpu_model: Some("Example CPU".into()),
                cpu_count: Some(8),
                core_count: Some(4),
                memory_total_bytes: Some(16_777_216_000),
                gpus: vec![Gpu {
                    index: 0,
                    uuid: "GPU-0f1e2d3c".into(),
                    name: "Example GPU".into(),
                    memory_total_bytes: 85_899_345_920,
                }],
            }),
            groups: vec!["postgres".parse().unwrap()],
            lowest_unconfirmed: BTreeMap::from([(boot(), BTreeMap::from([(Kind::Metrics, 40)]))]),
            dropped: vec![Loss { boot: boot(), kind: Kind::Logs, from: 3, to: 9, reason: LossReason::Full }],
        },
    );
    state(
        "alerts-active",
        ActiveAlerts {
            v: VERSION,
            host: "web-01".parse().unwrap(),
            boot: boot(),
            time: time(0),
            alerts: vec![alert()],
        },
    );
    let head = |boot, lost| AuditHead {
        boot,
        seq: 12,
        hash: "0123456789abcdef".repeat(4).parse().unwrap(),
        time: time(0),
        lost,
    };
    let lost = AuditLoss { from: 3, to: 5, hash: "f".repeat(64).parse().unwrap() };
    state(
        "audit",
        AuditHeads {
            v: VERSION,
            host: "web-01".parse().unwrap(),
            time: time(0),
            heads: vec![
                head(boot(), vec![lost]),
                head("019a4000-0000-7d3a-9b1c-0242ac120002".parse().unwrap(), vec![]),
            ],
        },
    );
    let mut held = Ranges::default();
    held.insert_range(43, 44);
    let mut committed = Ranges::default();
    committed.insert_range(1, 40);
    committed.insert(42);
    state(
        "confirmed",
        Confirmation {
            v: VERSION,
            whole: true,
            held: BTreeMap::from([(boot(), BTreeMap::from([(Kind::Metrics, held)]))]),
            committed: BTreeMap::from([(boot(), BTreeMap::from([(Kind::Metrics, committed)]))]),
        },
    );
    state(
        "run-job",
        RunJob {
            v: VERSION,
            job: 7,
            job_type: "retrain".into(),
            parameters: object(json!({ "model": "ensemble_v2" })),
            time: time(0),
            start_before: time(60_000),
        },
    );
    state(
        "ack",
        Acknowledge {
            v: VERSION,
            fingerprint: "5f1e2d3c4b5a6978".into(),
            author: "on-call".into(),
            comment: "looking".into(),
            false_alarm: false,
            time: time(0),
        },
    );
    state(
        "control",
        Control {
            v: VERSION,
            action: ControlAction::Pause,
            author: "on-call".into(),
            time: time(0),
            until: Some(time(3_600_000)),
            group: None,
        },
    );
    state(
        "control-retire-group",
        Control {
            v: VERSION,
            action: ControlAction::RetireGroup,
            author: "on-call".into(),
            time: time(0),
            until: None,
            group: Some("postgres".parse().unwrap()),
        },
    );
    state(
        "silence",
        Silence {
            v: VERSION,
            matchers: vec![Matcher { name: "host".into(), operator: MatchOperator::Regex, value: "web-.*".into() }],
            starts_at: time(0),
            ends_at: time(7_200_000),
            author: "on-call".into(),
            comment: "kernel update".into(),
        },
    );
    state(
        "tier-status",
        TierStatus {
            v: VERSION,
            group: "postgres".parse().unwrap(),
            member: "db-1".parse().unwrap(),
            state: TierState::Online,
            time: time(0),
            sink: "postgres".into(),
            kinds: vec![Kind::Metrics, Kind::Alerts, Kind::Pipeline],
            durable: false,
            version: "0.1.0".into(),
        },
    );
}

#[test]
fn every_message_has_a_golden_file_a_schema_and_a_topic() {
    let messages = schema::messages();
    for message in &messages {
        let text = serde_json::to_string_pretty(&message.schema).unwrap() + "\n";
        hold(&folder("schema").join(format!("{}.json", message.name)), &text);
        assert!(
            folder("golden").join(format!("{}.json", message.name)).exists(),
            "{} has no golden file",
            message.name
        );
        let topic = message.topic.replace(['{', '}'], "");
        topic.parse::<Topic>().unwrap_or_else(|e| panic!("{}: {e}", message.name));
    }
    hold(&folder("schema").join("asyncapi.json"), &(serde_json::to_string_pretty(&schema::asyncapi()).unwrap() + "\n"));
    // A second form of `control`; the document of all topics.
    for (name, extra) in [("golden", 1), ("schema", 1)] {
        let files = fs::read_dir(folder(name)).unwrap().count();
        assert_eq!(files, messages.len() + extra, "{name}/ holds a file that belongs to no message");
    }
}

#[test]
fn a_receiver_ignores_what_it_does_not_know_and_refuses_another_version() {
    let text = r#"{"v":1,"host":"a","time":"2026-01-02T03:04:05.678901+02:00","new":1,"records":[],"gauges":{}}"#;
    let head = decode_head(text.as_bytes()).unwrap();
    assert_eq!(head.time.to_string(), "2026-01-02T01:04:05.678Z");
    assert_eq!((head.boot, head.seq), (None, None));
    assert_eq!(decode_body::<Pipeline>(text.as_bytes()).unwrap().records, []);
    let error = decode_body::<Metrics>(text.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("the payload is no metrics message: "), "{error}");
    let error = decode_head(text.replace(":1,\"host", ":2,\"host").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("update the receiver"), "{error}");
    for bad in ["", "{", "[]", "nul", "{\"v\":1,\"host\":\"a b\",\"time\":\"2026-01-02T03:04:05Z\"}", "\u{feff}{}"] {
        assert!(matches!(decode_head(bad.as_bytes()), Err(DecodeError::Json { .. })), "{bad}");
    }
}

#[test]
fn identity_stands_in_user_properties() {
    let head = head();
    let properties = user_properties(&head.host, head.boot.as_ref(), Kind::Logs, head.seq);
    let find = |name: &str| properties.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(find("v"), Some("1"));
    assert_eq!(find("host"), Some("web-01"));
    assert_eq!(find("kind"), Some("logs"));
    assert_eq!(find("seq"), Some("42"));
    assert_eq!(find("boot"), Some(boot().as_str()));
}

#[test]
fn rows_that_no_store_takes_are_named() {
    let good = PipelineRecord {
        job_id: "j".into(),
        stage: "s".into(),
        metric_name: "m".into(),
        metric_value: Value(1.0),
        metadata: None,
        recorded_at: None,
    };
    assert_eq!(good.check(), Ok(()));
    let with = |change: &dyn Fn(&mut PipelineRecord)| {
        let mut record = good.clone();
        change(&mut record);
        record.check().unwrap_err().to_string()
    };
    assert_eq!(with(&|r| r.job_id = "x".repeat(101)), "job_id has 101 characters; its column holds 100");
    assert_eq!(with(&|r| r.stage = "ü".repeat(51)), "stage has 51 characters; its column holds 50");
    assert_eq!(with(&|r| r.metric_name = String::new()), "metric_name is empty");
    assert_eq!(with(&|r| r.metric_value = Value(f64::NAN)), "metric_value is NaN; only finite numbers can be stored");
    let nul = with(&|r| r.metadata = Some(object(json!({ "a": ["b\u{0}"] }))));
    assert_eq!(nul, "metadata holds the character U+0000, which can't be stored");
}

#[test]
fn times_are_clamped_to_what_can_be_written() {
    for millis in [i64::MIN, i64::MAX, 0, -1] {
        let time = Timestamp::from_millis(millis);
        assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time), "{millis}");
    }
    assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
    assert!("yesterday".parse::<Timestamp>().is_err());
}

/// A blank before it sends a text to the reader that knows all of RFC 3339.
#[test]
fn times_as_we_write_them_are_read_as_all_others() {
    let same = |text: &str| assert_eq!(text.parse::<Timestamp>().ok(), format!(" {text}").parse().ok(), "{text}");
    // Some 20 days and a bit apart, from the year 1 to the end of 9999.
    let mut millis = -62_135_596_800_000;
    while millis < 253_402_207_200_000 {
        let time = Timestamp::from_millis(millis);
        assert_eq!(time.to_string().parse(), Ok(time));
        same(&time.to_string());
        millis += 1_777_777_777;
    }
    for year in ["0000", "0001", "1900", "2000", "2023", "2024", "9998", "9999"] {
        for month in 0..=13 {
            for day in 0..=32 {
                same(&format!("{year}-{month:02}-{day:02}T12:34:56.789Z"));
            }
        }
    }
    for text in [
        "2026-11-21T24:00:00.000Z",
        "2026-11-21T23:60:00.000Z",
        "2026-11-21T23:59:60.000Z",
        "2026-11-21T23:59:61.000Z",
        "2026-11-21t23:59:59.000z",
        "2026-11-21 23:59:59.000Z",
        "2026-11-21T23:59:59,000Z",
        "2026-11-21T23:59:59.0000",
        "2026-11-21T23:59:59+00:0",
        "2026-11-21T23:59:59.+00Z",
        "+026-11-21T23:59:59.000Z",
        "2026-1a-21T23:59:59.000Z",
    ] {
        same(text);
    }
}

#[test]
fn a_host_name_from_the_system_is_made_safe() {
    let name = |text: &str| HostName::from_system(text).map(|n| n.to_string());
    assert_eq!(name("web 01/a+b#c\n").as_deref(), Some("web-01-a-b-c"));
    assert_eq!(name(""), None);
    assert_eq!(name(&"ü".repeat(200)).map(|n| n.len()), Some(90));
}

#[test]
fn kinds_of_a_later_version_are_skipped() {
    let confirmation: Confirmation =
        serde_json::from_str(r#"{"v":1,"whole":true,"held":{"b":{"metrics":[[1,2]],"traces":[[1,9]]}}}"#).unwrap();
    let known = std::collections::BTreeMap::from([(Kind::Metrics, Ranges::of(1, 2))]);
    assert_eq!(confirmation.held.into_iter().collect::<Vec<_>>(), [("b".parse().unwrap(), known)]);

    let mut tier: serde_json::Value = serde_json::from_str(include_str!("../golden/tier-status.json")).unwrap();
    tier["kinds"] = serde_json::json!(["traces", "logs"]);
    let tier: TierStatus = serde_json::from_value(tier).unwrap();
    assert_eq!(tier.kinds, [Kind::Logs]);

    let mut status: serde_json::Value = serde_json::from_str(include_str!("../golden/status.json")).unwrap();
    status["lowest_unconfirmed"] = serde_json::json!({"b": {"traces": 4, "logs": 7}});
    status["dropped"] = serde_json::json!([["b", "traces", 1, 2, "full"], ["b", "logs", 3, 4, "full"]]);
    let status: Status = serde_json::from_value(status).unwrap();
    assert_eq!(status.lowest_unconfirmed.values().flatten().collect::<Vec<_>>(), [(&Kind::Logs, &7)]);
    assert_eq!(status.dropped.iter().map(|loss| loss.kind).collect::<Vec<_>>(), [Kind::Logs]);
}
