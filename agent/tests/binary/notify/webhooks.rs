//! What becomes of a notification when a service does not take it.

use std::time::Duration;

use serde_json::{Value, json};
use test_servers::{Program, free_port, wait_for};

use super::super::support::{Agent, Hooks, Reply};
use super::super::web::Keys;
use super::{QUICK, SECRET, Scene, of_webhook};

fn route(receiver: &str) -> String {
    format!("[route]\nreceiver = '{receiver}'\n{QUICK}")
}

/// The lines of the file of what was given up.
fn given_up(scene: &Scene) -> Vec<Value> {
    let text = std::fs::read_to_string(scene.path("spool/notifications-given-up.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sent(agent: &Agent, receiver: &str, count: f64) {
    agent.metric_becomes(&of_webhook("sent_total", receiver), |sent| sent == count);
}

#[test]
fn an_alert_and_its_end_are_told_as_alertmanager_tells_them() {
    let (scene, hooks) = (Scene::new(), Hooks::start());
    let token = scene.secret("token", &format!("{SECRET}-token"));
    let url = hooks.url(&format!("{SECRET}/ops"));
    let webhook = scene.webhook_with("ops", &url, &format!("bearer_token_file = '{token}'"));
    let mut agent = scene.setup(&(route("ops") + &webhook)).start();
    scene.down(&["a"]);
    let told = hooks.gets(1);
    assert_eq!(told.path, format!("/{SECRET}/ops"));
    assert_eq!(told.header("authorization"), format!("Bearer {SECRET}-token"));
    assert_eq!((told.id().len(), told.header("content-type")), (32, "application/json; charset=utf-8"));
    let payload = told.json();
    let labels = json!({"alertname": "Down", "unit": "a", "severity": "page", "instance": "h", "job": "node"});
    for (key, value) in [
        ("version", json!("4")),
        ("receiver", json!("ops")),
        ("status", json!("firing")),
        ("groupLabels", labels.clone()),
        ("commonLabels", labels.clone()),
        ("commonAnnotations", json!({"summary": "a is down"})),
        ("truncatedAlerts", json!(0)),
    ] {
        assert_eq!(payload[key], value, "{key}");
    }
    let alert = &payload["alerts"][0];
    assert_eq!((&alert["labels"], &alert["endsAt"]), (&labels, &json!("0001-01-01T00:00:00.000Z")), "{alert}");
    let waited = agent.metric_becomes("utilizer_notify_latency_seconds", |waited| waited > 0.0);
    assert!(waited < 60.0, "{waited}");

    scene.down::<&str>(&[]);
    let over = hooks.gets(2);
    assert_eq!((&over.json()["status"], &over.json()["alerts"][0]["status"]), (&json!("resolved"), &json!("resolved")));
    assert_eq!(over.json()["alerts"][0]["startsAt"], alert["startsAt"]);
    assert_ne!(over.id(), told.id());
    sent(&agent, "ops", 2.0);
    scene.hides_secrets(&agent);
    agent.stop();
    assert_eq!(hooks.told().len(), 2);
}

#[test]
fn what_is_not_taken_is_sent_again_under_the_same_id() {
    let scene = Scene::new();
    let hooks = Hooks::with(|number, _| match number {
        0 => Reply::Status(503),
        1 => Reply::Cut,
        _ => Reply::Status(200),
    });
    let agent = scene.setup(&(route("ops") + &scene.webhook("ops", &hooks))).start();
    scene.down(&["a"]);
    hooks.gets(1);
    // What comes meanwhile waits behind it.
    scene.down(&["a", "b"]);
    hooks.gets(4);
    sent(&agent, "ops", 2.0);
    let told = hooks.told();
    assert_eq!(told.len(), 4);
    assert!(told[..3].iter().all(|one| (one.id(), &one.body) == (told[0].id(), &told[0].body)), "{told:?}");
    assert_eq!(told[3].alerts("unit"), [("Down".into(), "firing".into(), "b".into())]);
    assert_eq!(agent.metric(&of_webhook("retries_total", "ops")), Some(2.0));
    agent.says("a notification did not reach ops/webhook/0: it answered 503; it is sent again in 1 s");
    agent.says("notifications reach ops/webhook/0 again");
    scene.hides_secrets(&agent);
}

#[test]
fn a_service_that_asks_for_patience_gets_it() {
    let scene = Scene::new();
    let hooks = Hooks::with(|number, _| if number == 0 { Reply::Later(3) } else { Reply::Status(200) });
    let notify = route("ops") + &scene.webhook("ops", &hooks);
    let mut agent = scene.setup(&notify).start();
    scene.down(&["a"]);
    hooks.gets(1);
    agent.metric_becomes(&of_webhook("retries_total", "ops"), |retries| retries == 1.0);
    // Also over a restart.
    agent.stop();
    let agent = scene.setup(&notify).start();
    let again = hooks.gets(2);
    let first = hooks.gets(1);
    assert_eq!(again.id(), first.id());
    assert!(again.at - first.at >= Duration::from_secs(3), "{:?}", again.at - first.at);
    sent(&agent, "ops", 1.0);
}

#[test]
fn what_is_refused_for_good_is_kept_and_told_to_another() {
    let scene = Scene::new();
    let (hooks, desk) = (Hooks::with(|_, _| Reply::Status(403)), Hooks::start());
    let moved = Hooks::with(|_, _| Reply::SendsOn);
    let receivers = scene.webhook("ops", &hooks) + &scene.webhook("moved", &moved) + &scene.webhook("desk", &desk);
    let more = "[[route.routes]]\nreceiver = 'moved'\nmatchers = ['unit=\"m\"']\n";
    let agent = scene.setup(&format!("report_to = 'desk'\n{}{more}{receivers}", route("ops"))).start();
    scene.down(&["a"]);
    let report = desk.gets(1);
    assert_eq!(report.header("utilizer-reason"), "failure");
    let alert = report.json()["alerts"][0].clone();
    assert_eq!(alert["labels"]["alertname"], "NotificationFailed");
    assert_eq!(alert["labels"]["receiver"], "ops/webhook/0");
    let summary = alert["annotations"]["summary"].as_str().unwrap().to_owned();
    assert!(
        summary.starts_with("A notification of 1 alerts to ops/webhook/0 was given up: it answered 403."),
        "{summary}"
    );
    let kept = wait_for("it is kept", || given_up(&scene).into_iter().next());
    assert_eq!((&kept["target"], &kept["why"]), (&json!("ops/webhook/0"), &json!("it answered 403")));
    assert_eq!(kept["notification"]["alerts"][0]["labels"]["unit"], "a");

    scene.down(&["a", "m"]);
    let report = desk.gets(2).body;
    assert!(report.contains("sends on to https://elsewhere.example:443, which is not followed"), "{report}");
    assert_eq!((hooks.told().len(), moved.told().len()), (1, 1), "nothing is tried again");
    agent.metric_becomes("utilizer_notify_dead_letters_total", |count| count == 2.0);
    assert!(desk.told().iter().all(|told| !told.body.contains(SECRET)));
    scene.hides_secrets(&agent);
}

/// A service that takes the request and never answers is given 10 s.
#[test]
fn a_service_that_hangs_holds_up_nobody_else_and_no_stop() {
    let scene = Scene::new();
    let (hung, other) = (Hooks::with(|_, _| Reply::Silence), Hooks::start());
    let receivers = scene.webhook("hung", &hung) + &scene.webhook("other", &other);
    let more = "[[route.routes]]\nreceiver = 'hung'\ncontinue = true\n[[route.routes]]\nreceiver = 'other'\n";
    let notify = route("other") + more + &receivers;
    let mut agent = scene.setup(&notify).start();
    scene.down(&["a"]);
    let first = hung.gets(1);
    scene.down(&["a", "b"]);
    other.hears("firing", "unit", "b");
    assert_eq!(hung.told().len(), 1, "the other one did not wait for it");
    let again = hung.gets(2);
    assert_eq!(again.id(), first.id());
    agent.says(&format!(
        "a notification did not reach hung/webhook/0: http://127.0.0.1:{} took longer than 10 s",
        hung.port()
    ));
    agent.stop();
    agent.says("1 notifications are sent again at the next start: it is not known whether they arrived");

    hung.answers(|_, _| Reply::Status(200));
    let agent = scene.setup(&notify).start();
    let told = hung.gets(4);
    assert_eq!(hung.gets(3).id(), first.id());
    assert_eq!(told.alerts("unit"), [("Down".into(), "firing".into(), "b".into())]);
    sent(&agent, "hung", 2.0);
    scene.hides_secrets(&agent);
}

#[test]
fn a_service_that_is_not_there_gets_it_when_it_is() {
    let scene = Scene::new();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/{SECRET}");
    let agent = scene.setup(&(route("ops") + &scene.webhook_with("ops", &url, ""))).start();
    scene.down(&["a"]);
    agent.says(&format!("a notification did not reach ops/webhook/0: can't connect to http://127.0.0.1:{port}: "));
    let hooks = Hooks::on(port, |_, _| Reply::Status(200));
    hooks.hears("firing", "unit", "a");
    sent(&agent, "ops", 1.0);
    scene.hides_secrets(&agent);
}

/// TLS in front of a service without.
fn tls(keys: &Keys, who: &str, port: u16, to: u16) -> Program {
    const FORWARD: &str = "import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def serve(raw):
    try:
        inner = context.wrap_socket(raw, server_side=True)
    except OSError:
        return
    outer = socket.create_connection(('127.0.0.1', int(sys.argv[4])))
    threading.Thread(target=copy, args=(outer, inner), daemon=True).start()
    copy(inner, outer)
listener = socket.create_server(('127.0.0.1', int(sys.argv[3])))
print('listening', flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";
    let [port, to] = [port, to].map(|port| port.to_string());
    let (cert, key) = (keys.text(&format!("{who}.pem")), keys.text(&format!("{who}.key")));
    let program = Program::start("python3".as_ref(), &["-c", FORWARD, &cert, &key, &port, &to], &[]);
    program.says("listening");
    program
}

#[test]
fn a_server_that_is_another_is_told_nothing_until_it_is_the_right_one() {
    let (scene, hooks, keys) = (Scene::new(), Hooks::start(), Keys::new());
    let port = free_port();
    let wrong = tls(&keys, "stranger", port, hooks.port());
    let url = format!("https://127.0.0.1:{port}/{SECRET}");
    let webhook = scene.webhook_with("ops", &url, &format!("ca_file = '{}'", keys.text("ca.pem")));
    let agent = scene.setup(&(route("ops") + &webhook)).start();
    scene.down(&["a"]);
    agent.says(&format!("a notification did not reach ops/webhook/0: no TLS with https://127.0.0.1:{port}: "));
    agent.metric_becomes(&of_webhook("retries_total", "ops"), |retries| retries >= 2.0);
    assert_eq!(hooks.told().len(), 0);
    drop(wrong);
    let _right = tls(&keys, "server", port, hooks.port());
    hooks.hears("firing", "unit", "a");
    sent(&agent, "ops", 1.0);
    scene.hides_secrets(&agent);
}
