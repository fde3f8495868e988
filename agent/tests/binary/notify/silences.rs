//! Silences and acknowledgements, by HTTP and by the broker, over restarts.

use std::process::Command;

use serde_json::{Value, json};
use test_servers::{Mosquitto, wait_for};

use super::super::support::{Agent, Hooks, Watch, ask};
use super::{QUICK, Scene};

fn json_of(agent: &Agent, path: &str) -> Value {
    let answer = agent.get(path);
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn alert(agent: &Agent, unit: &str) -> Option<Value> {
    let all = json_of(agent, "/api/v2/alerts");
    all.as_array().unwrap().iter().find(|alert| alert["labels"]["unit"] == unit).cloned()
}

/// Waits until an alert is in this state.
fn is(agent: &Agent, unit: &str, state: &str) -> Value {
    wait_for(&format!("{unit} is {state}"), || alert(agent, unit).filter(|alert| alert["status"]["state"] == state))
}

fn amtool(agent: &Agent, words: &[&str]) -> String {
    let output =
        Command::new("amtool").arg(format!("--alertmanager.url=http://{}", agent.address())).args(words).output();
    let output = output
        .unwrap_or_else(|e| panic!("can't run amtool ({e}); install it with: apt-get install prometheus-alertmanager"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn amtool_silences_an_alert_until_it_expires_the_silence() {
    let (scene, hooks) = (Scene::new(), Hooks::start());
    let notify = format!("[route]\nreceiver = 'ops'\n{QUICK}{}", scene.webhook("ops", &hooks));
    let setup = scene.setup(&notify);
    let mut agent = setup.start();
    let id = amtool(&agent, &["silence", "add", "unit=~a|b", "--author=anna", "--comment=new disks", "--duration=1h"]);
    let id = id.trim();
    let listed = amtool(&agent, &["silence", "query"]);
    assert!(listed.contains(id) && listed.contains("anna") && listed.contains("new disks"), "{listed}");
    scene.down(&["a", "c"]);
    hooks.hears("firing", "unit", "c");
    assert_eq!(is(&agent, "a", "suppressed")["status"]["silencedBy"], json!([id]));
    agent.metric_becomes(r#"utilizer_notify_alerts{state="silenced"}"#, |count| count == 1.0);
    agent.stop();

    let agent = setup.start();
    scene.down(&["a", "b", "c", "d"]);
    hooks.hears("firing", "unit", "d");
    is(&agent, "a", "suppressed");
    is(&agent, "b", "suppressed");
    let names = amtool(&agent, &["alert", "query", "-o", "simple", "--silenced"]);
    assert_eq!(names.matches("Down").count(), 2, "{names}");
    assert_eq!(hooks.told().len(), 2, "{:?}", hooks.told());

    amtool(&agent, &["silence", "expire", id]);
    hooks.hears("firing", "unit", "a");
    hooks.hears("firing", "unit", "b");
    assert!(!amtool(&agent, &["silence", "query"]).contains(id));
    assert!(amtool(&agent, &["silence", "query", "--expired"]).contains(id));
    assert_eq!(hooks.told().len(), 4);
    scene.hides_secrets(&agent);
}

#[test]
fn the_fleets_silences_come_by_the_broker_and_go_with_it() {
    let (scene, hooks, broker) = (Scene::new(), Hooks::start(), Mosquitto::start(""));
    let notify = format!("[route]\nreceiver = 'ops'\n{QUICK}{}", scene.webhook("ops", &hooks));
    let setup = scene.setup_with_broker(&broker, &notify);
    let silence = json!({
        "v": 1, "matchers": [{"name": "unit", "operator": "=", "value": "a"}], "author": "noc", "comment": "a move",
        "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2126-01-01T00:00:00Z",
    });
    const TOPIC: &str = "utilizer/v1/fleet/silences/move-1";
    broker.publish(TOPIC, &silence.to_string(), &["-r"]);
    // One that can't be used hurts nobody.
    let endless = json!({"v": 1, "matchers": [], "author": "x", "comment": "y", "starts_at": "2026-01-01T00:00:00Z",
        "ends_at": "2126-01-01T00:00:00Z"});
    broker.publish("utilizer/v1/fleet/silences/all", &endless.to_string(), &["-r"]);
    let mut agent = setup.start();
    agent.metric_becomes("utilizer_notify_silences", |count| count == 1.0);
    agent.says("the fleet's silence all can't be used: it has no matcher, and would hide everything");
    scene.down(&["a", "b"]);
    hooks.hears("firing", "unit", "b");
    assert_eq!(is(&agent, "a", "suppressed")["status"]["silencedBy"], json!(["move-1"]));
    // Who may change it is who made it.
    let address = agent.address();
    let answer = super::super::support::ask(
        address,
        super::super::support::request("DELETE", "/api/v2/silence/move-1").as_bytes(),
    );
    assert!(answer.status == 404 && answer.body.contains("it is the fleet's; remove it there"), "{answer:?}");
    agent.stop();

    // What it knows holds without the broker.
    broker.stop();
    let agent = setup.start();
    is(&agent, "a", "suppressed");
    broker.again();
    agent.says("connected to the broker");
    broker.publish(TOPIC, "", &["-r"]);
    hooks.hears("firing", "unit", "a");
    agent.metric_becomes("utilizer_notify_silences", |count| count == 0.0);
    scene.hides_secrets(&agent);
}

#[test]
fn who_acknowledges_ends_the_escalation_and_stands_in_the_records() {
    let (scene, broker) = (Scene::new(), Mosquitto::start(""));
    let (first, second) = (Hooks::start(), Hooks::start());
    let watch = Watch::start(&broker);
    let notify = format!(
        "[route]\nreceiver = 'first'\nescalation = 'up'\n{QUICK}{}{}[[escalations]]\nname = 'up'\n\
         [[escalations.steps]]\nreceiver = 'second'\nafter = '4s'\n",
        scene.webhook("first", &first),
        scene.webhook("second", &second),
    );
    let setup = scene.setup_with_broker(&broker, &notify);
    let mut agent = setup.start();
    agent.says("connected to the broker");
    scene.down(&["a", "b", "c"]);
    for unit in ["a", "b", "c"] {
        first.hears("firing", "unit", unit);
    }
    // One by HTTP, one by the broker, one by nobody.
    let print = |unit: &str| alert(&agent, unit).unwrap()["fingerprint"].as_str().unwrap().to_owned();
    let (a, b) = (print("a"), print("b"));
    let posted = json!({"alert": a, "author": "anna", "comment": "on it"}).to_string();
    let answer = agent.post("/api/v1/ack", &posted);
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = json!({"v": 1, "fingerprint": b, "author": "ben", "false_alarm": true, "time": "2026-11-22T08:00:00Z"});
    broker.publish("utilizer/v1/command/h/ack", &said.to_string(), &[]);
    let acknowledged = |unit: &str| {
        watch.wait("alerts", "the record of the acknowledgement", |all| {
            let of = |record: &&Value| record["state"] == "acknowledged" && record["alert"]["labels"]["unit"] == unit;
            all.iter().find(of).cloned()
        })
    };
    let record = acknowledged("a")["alert"]["annotations"].clone();
    assert_eq!((&record["acknowledged_by"], &record["acknowledgement"]), (&json!("anna"), &json!("on it")));
    assert_eq!(record["false_alarm"], "false");
    assert_eq!(acknowledged("b")["alert"]["annotations"]["false_alarm"], "true");
    assert_eq!(agent.post("/api/v1/ack", r#"{"alert": "Up", "author": "x"}"#).status, 404);
    assert_eq!(agent.post("/api/v1/ack", r#"{"alert": "Down", "author": " "}"#).status, 400);
    // What a page in a browser on this host could send.
    let body = r#"{"alert": "Down", "author": "x"}"#;
    let head = format!("Origin: https://example.org\r\nContent-Length: {}", body.len());
    let page = format!("POST /api/v1/ack HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}\r\n\r\n{body}");
    let answer = ask(agent.address(), page.as_bytes());
    assert!(answer.status == 403 && answer.body.contains("browser"), "{answer:?}");
    agent.stop();

    // Over a restart, too.
    let agent = setup.start();
    let up = second.hears("firing", "unit", "c");
    assert_eq!(up.header("utilizer-reason"), "escalation-1");
    assert_eq!(is(&agent, "a", "active")["acknowledged"]["by"], "anna");
    assert_eq!(alert(&agent, "b").unwrap()["acknowledged"]["false_alarm"], true);
    scene.down(&["a", "b"]);
    second.hears("resolved", "unit", "c");
    assert!(second.told().iter().all(|told| told.alerts("unit").iter().all(|(_, _, unit)| unit == "c")));
    scene.hides_secrets(&agent);
    for message in watch.messages() {
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        assert!(!text.contains(super::SECRET) && !message.topic.contains(super::SECRET), "{}: {text}", message.topic);
    }
}
