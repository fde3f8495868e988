//! `utilizer group retire`: hosts stop waiting for exporters that are gone for good.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mqtt::{Client, Event, Message, Options};
use serde_json::{Value, json};
use test_servers::Mosquitto;

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

fn status(broker: &Mosquitto, host: &str, state: &str, groups: &[&str]) {
    let status = json!({"v": 1, "host": host, "state": state, "boot": "b", "time": "2026-11-21T22:30:00Z", "version": "0.1.0",
                        "groups": groups});
    broker.publish(&format!("utilizer/v1/telemetry/{host}/status"), &status.to_string(), &["-r"]);
}

fn exporter(broker: &Mosquitto, group: &str, state: &str) {
    let status = json!({"v": 1, "group": group, "member": "m-1", "state": state, "time": "2026-11-21T20:00:00Z",
                        "sink": "postgres", "kinds": ["metrics"], "durable": true, "version": "0.1.0"});
    broker.publish(&format!("utilizer/v1/tier/{group}/m-1/status"), &status.to_string(), &["-r"]);
}

fn retire(broker: &Mosquitto, words: &[&str]) -> Output {
    Command::new(UTILIZER).args(["group", "retire", "--mqtt", &broker.url()]).args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A host that does what it is told, but not before it was told twice.
fn obedient(broker: &Mosquitto, host: &'static str) -> Arc<AtomicUsize> {
    let (options, told) = (Options::new(broker.url().parse().unwrap(), host), Arc::new(AtomicUsize::new(0)));
    let counter = told.clone();
    let (ready, wait) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, mut events) = Client::start(options).unwrap();
            client.subscribe([format!("utilizer/v1/command/{host}/control")]).await.unwrap();
            while let Some(event) = events.recv().await {
                match event {
                    Event::Subscribed { .. } => ready.send(()).unwrap(),
                    Event::Received { message, ack } => {
                        client.ack(ack);
                        let command: Value = serde_json::from_slice(&message.payload).unwrap();
                        assert_eq!((&command["action"], &command["group"]), (&json!("retire_group"), &json!("old")));
                        if counter.fetch_add(1, Ordering::Relaxed) > 0 {
                            let status = json!({"v": 1, "host": host, "state": "online", "boot": "b", "time": "2026-11-21T22:31:00Z",
                                                "version": "0.1.0", "groups": ["postgres"]});
                            let topic = format!("utilizer/v1/telemetry/{host}/status");
                            let payload = status.to_string().into();
                            client.try_publish(1, Message { topic, payload, retain: true, ..Message::default() }).unwrap();
                        }
                    }
                    _ => {}
                }
            }
        });
    });
    wait.recv_timeout(Duration::from_secs(60)).unwrap();
    told
}

#[test]
fn it_is_repeated_until_no_host_that_is_online_waits() {
    let broker = Mosquitto::start("");
    exporter(&broker, "old", "offline");
    exporter(&broker, "postgres", "online");
    status(&broker, "web-01", "online", &["old", "postgres"]);
    status(&broker, "web-02", "offline", &["old", "postgres"]);
    status(&broker, "web-03", "online", &["postgres"]);
    let told = obedient(&broker, "web-01");
    let output = retire(&broker, &["old"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(told.load(Ordering::Relaxed) >= 2);
    assert!(said(&output).contains("hosts that no longer wait for the group old: 1"), "{}", said(&output));
    assert!(said(&output).contains("are offline and will still wait for it") && said(&output).contains("web-02"));
    // The group's own statuses are gone, the other's are not.
    let output = Command::new(UTILIZER).args(["status", "--json", "--mqtt", &broker.url()]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups: Vec<_> = json["exporters"].as_array().unwrap().iter().map(|status| &status["group"]).collect();
    assert_eq!(groups, [&json!("postgres")]);
}

#[test]
fn it_refuses_what_would_be_a_mistake_and_says_who_does_not_listen() {
    let broker = Mosquitto::start("");
    exporter(&broker, "postgres", "online");
    status(&broker, "web-01", "online", &["postgres"]);
    let output = retire(&broker, &["postgres"]);
    assert!(
        output.status.code() == Some(1) && said(&output).contains("m-1 of the group postgres is online"),
        "{}",
        said(&output)
    );
    let output = retire(&broker, &["postgre"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("knows the group postgre;"), "{}", said(&output));
    let output = retire(&broker, &["postgres", "--force", "--timeout", "1s"]);
    assert!(
        output.status.code() == Some(1) && said(&output).contains("still wait for the group postgres: web-01"),
        "{}",
        said(&output)
    );
}
