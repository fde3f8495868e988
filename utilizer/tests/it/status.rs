//! `utilizer status`: what it tells of hosts and exporters, pinned by golden files, and how it judges them.

use std::process::{Command, Output};

use mqtt::Message;
use serde_json::{Value, json};
use test_servers::Mosquitto;
use utilizer::fleet::Fleet;
use utilizer::status::{as_json, as_text, problems};
use utilizer::terminal::Paint;

use super::golden;

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

fn host(name: &str, more: Value) -> Message {
    let mut status = json!({"v": 1, "host": name, "state": "online", "boot": "b2", "time": "2026-11-21T22:30:00Z", "version": "0.1.0"});
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message(format!("utilizer/v1/telemetry/{name}/status"), &status)
}

fn exporter(group: &str, member: &str, state: &str) -> Message {
    let status = json!({"v": 1, "group": group, "member": member, "state": state, "time": "2026-11-21T20:00:00Z", "sink": "postgres",
                        "kinds": ["metrics", "alerts"], "durable": true, "version": "0.1.0"});
    message(format!("utilizer/v1/tier/{group}/{member}/status"), &status)
}

fn message(topic: String, payload: &Value) -> Message {
    Message { topic, payload: payload.to_string().into(), ..Message::default() }
}

fn messages() -> Vec<Message> {
    vec![
        host(
            "web-01",
            json!({"interval_seconds": 10.0, "groups": ["postgres", "clickhouse"],
                              "lowest_unconfirmed": {"b2": {"metrics": 40, "logs": 7}, "b1": {"logs": 900}}}),
        ),
        host("web-02", json!({"state": "offline", "time": "2026-11-14T22:30:00Z", "version": "0.0.9\u{1b}[31m"})),
        host("web-03", json!({"state": "offline", "stopped": true, "time": "2026-11-21T22:28:30Z"})),
        host(
            "db-primary-01.example",
            json!({"time": "2026-11-21T22:29:59Z", "groups": ["postgres"], "dropped":
             [["b1", "metrics", 1, 500, "full"], ["b1", "metrics", 700, 701, "full"], ["b2", "logs", 3, 3, "too_large"]]}),
        ),
        exporter("postgres", "db-1", "online"),
        exporter("postgres", "db-2", "offline"),
        exporter("clickhouse", "ch-1", "offline"),
        Message {
            topic: "utilizer/v1/telemetry/web-04/status".into(),
            payload: "nonsense".into(),
            ..Message::default()
        },
    ]
}

#[test]
fn the_text_and_the_json_are_pinned() {
    let mut fleet = Fleet::default();
    assert!(messages().iter().all(|message| fleet.note(message)));
    let problems = problems(&fleet);
    let text = as_text(&fleet, &problems, "2026-11-21T22:30:01Z".parse().unwrap(), Paint(false));
    assert!(!text.contains('\u{1b}'));
    golden("status.txt", &text);
    let json: Value = serde_json::from_str(&as_json(&fleet, &problems)).unwrap();
    golden("status.json", &(serde_json::to_string_pretty(&json).unwrap() + "\n"));
    // A message that can be read again, and one that is taken away.
    assert!(fleet.note(&host("web-04", json!({}))) && fleet.unreadable.is_empty());
    assert!(fleet.note(&Message { payload: "".into(), ..host("web-04", json!({})) }));
    assert_eq!(fleet.hosts.len(), 4);
}

fn status(broker: &Mosquitto, words: &[&str]) -> Output {
    Command::new(UTILIZER).args(["status", "--mqtt", &broker.url()]).args(words).output().unwrap()
}

#[test]
fn the_exit_code_speaks_of_health_on_request_only() {
    let broker = Mosquitto::start("");
    let publish = |message: &Message| {
        broker.publish(&message.topic, std::str::from_utf8(&message.payload).unwrap(), &["-r"]);
    };
    publish(&host("web-01", json!({"groups": ["postgres"]})));
    publish(&exporter("postgres", "db-1", "online"));
    let output = status(&broker, &["--check"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("hosts: 1 online, 0 offline"), "{output:?}");
    publish(&host("web-02", json!({"state": "offline"})));
    assert_eq!(status(&broker, &["--check"]).status.code(), Some(1));
    assert_eq!(status(&broker, &[]).status.code(), Some(0));
    assert_eq!(status(&broker, &["--check", "*-01"]).status.code(), Some(0));
    let output = status(&broker, &["--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["hosts"][1]["state"], json["problems"].as_array().unwrap().len()), (&json!("offline"), 1));
}
