//! `[notify.alertmanager]`: what fires appears in a real Alertmanager, stays, outlives it and the agent, and goes.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use test_servers::{Alertmanager, wait_for};

use super::super::support::Agent;
use super::Scene;

/// Without another word, an alert ends here after five seconds, which is more than `resend` times four.
const CONFIG: &str = "route: {receiver: none}\nreceivers: [{name: none}]\nglobal: {resolve_timeout: 5s}\n";

fn alerts(alertmanager: &Alertmanager) -> Vec<Value> {
    let answer = alertmanager.get("/api/v2/alerts");
    assert_eq!(answer.status, 200, "{answer:?}");
    let Ok(Value::Array(alerts)) = serde_json::from_str(&answer.body) else { panic!("{answer:?}") };
    alerts
}

fn units(alertmanager: &Alertmanager) -> Vec<String> {
    let mut units: Vec<_> =
        alerts(alertmanager).iter().map(|alert| alert["labels"]["unit"].as_str().unwrap().to_owned()).collect();
    units.sort();
    units
}

fn become_units(alertmanager: &Alertmanager, wanted: &[&str]) {
    wait_for("Alertmanager's alerts are those that fire", || (units(alertmanager) == wanted).then_some(()));
}

fn agent(scene: &Scene, alertmanager: &Alertmanager) -> Agent {
    scene.setup(&format!("[alertmanager]\nurls = ['{}']\nresend = '1s'\n", alertmanager.url())).start()
}

#[test]
fn what_fires_appears_stays_and_goes() {
    let (scene, alertmanager) = (Scene::new(), Alertmanager::start(CONFIG, &[]));
    let mut running = agent(&scene, &alertmanager);
    scene.down(&["a", "b"]);
    become_units(&alertmanager, &["a", "b"]);
    let first = alerts(&alertmanager).into_iter().find(|alert| alert["labels"]["unit"] == "a").unwrap();
    assert_eq!(first["annotations"]["summary"], "a is down");
    assert_eq!((&first["labels"]["instance"], &first["labels"]["severity"]), (&"h".into(), &"page".into()));

    // For longer than it would stay without being posted again.
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        assert_eq!(units(&alertmanager), ["a", "b"]);
        std::thread::sleep(Duration::from_millis(100));
    }

    // Alertmanager is away while one ends and another begins.
    alertmanager.stop();
    scene.down(&["b", "c"]);
    running.says("takes no alerts");
    alertmanager.again();
    become_units(&alertmanager, &["b", "c"]);

    // The agent is killed, and what fires goes on as the same alert.
    let before = alerts(&alertmanager).into_iter().find(|alert| alert["labels"]["unit"] == "b").unwrap();
    running.signal(Signal::KILL);
    running.ended();
    let mut running = agent(&scene, &alertmanager);
    let url = alertmanager.url();
    let taken = format!(r#"utilizer_notify_alertmanager_alerts_total{{alertmanager="{url}",outcome="taken"}}"#);
    running.metric_becomes(&taken, |taken| taken >= 2.0);
    become_units(&alertmanager, &["b", "c"]);
    let after = alerts(&alertmanager).into_iter().find(|alert| alert["labels"]["unit"] == "b").unwrap();
    assert_eq!((&after["startsAt"], &after["fingerprint"]), (&before["startsAt"], &before["fingerprint"]));

    scene.down::<&str>(&[]);
    become_units(&alertmanager, &[]);
    running.stop();
}
