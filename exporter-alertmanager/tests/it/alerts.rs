//! Alerts appear in Alertmanager, stay, and go.

use std::time::{Duration, Instant};

use serde_json::json;
use test_servers::{Alertmanager, Mosquitto, wait_for};

use super::support::{Webhook, active, ago, alerts, exporter, names, status, topic};

#[test]
fn alerts_appear_as_they_are_stay_and_resolve() {
    let (broker, webhook) = (Mosquitto::start(""), Webhook::start());
    let alertmanager = Alertmanager::start(&webhook.config(), &[]);
    let fired_at = ago(120);
    // What was there before is known from what the broker retains.
    broker.publish(&topic("web-1", "status"), &status("web-1", "online"), &["-r"]);
    broker.publish(&topic("web-1", "alerts/active"), &active("web-1", &["Full", "Hot"], &fired_at), &["-r"]);
    let exporter = exporter(&broker, &[&alertmanager.url()], "one", "");
    wait_for("both alerts are there", || (names(&alertmanager) == ["Full@web-1", "Hot@web-1"]).then_some(()));
    let all = alerts(&alertmanager);
    let full = all.iter().find(|alert| alert["labels"]["alertname"] == "Full").unwrap();
    let labels = json!({"alertname": "Full", "severity": "critical", "instance": "web-1", "host": "web-1"});
    assert_eq!((&full["labels"], &full["annotations"]["summary"]), (&labels, &json!("/srv is full")));
    assert_eq!(full["startsAt"].as_str().unwrap().parse::<wire::Timestamp>().unwrap().to_string(), fired_at);

    // It stays for three times as long as it would without being posted again.
    let until = Instant::now() + Duration::from_secs(13);
    while Instant::now() < until {
        assert_eq!(names(&alertmanager), ["Full@web-1", "Hot@web-1"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(webhook.told().len(), 2, "{:?}", webhook.told());

    broker.publish(&topic("web-1", "alerts/active"), &active("web-1", &["Hot"], &fired_at), &["-r"]);
    wait_for("it is told as resolved", || webhook.told().contains(&"resolved Full×1".to_owned()).then_some(()));
    assert_eq!(names(&alertmanager), ["Hot@web-1"]);

    // A transition is as good, and an Alertmanager that was away for a while hears of all that matters.
    alertmanager.stop();
    let fired = json!({"v": 1, "host": "job", "seq": 1, "boot": "019a3f5e-7c00-7d3a-9b1c-0242ac120002", "time": ago(0),
        "state": "firing", "alert": {"fingerprint": "5f1e2d3c4b5a6978", "labels": {"alertname": "Late"}, "value": 1.0,
        "active_at": ago(1), "fired_at": ago(1)}});
    broker.publish(&topic("job", "alerts"), &fired.to_string(), &[]);
    exporter.program.wait_for("it says that Alertmanager is away", |it| {
        (it.get("/readyz").status == 503 && it.get("/readyz").body.contains("nobody listens")).then_some(())
    });
    alertmanager.again();
    wait_for("all are there again", || (names(&alertmanager) == ["Hot@web-1", "Late@job"]).then_some(()));
    exporter.program.ready();

    // The broker goes: nothing is over.
    broker.kill();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(names(&alertmanager), ["Hot@web-1", "Late@job"]);
    assert_eq!(exporter.program.get("/readyz").status, 503);
}

#[test]
fn hosts_that_are_gone_are_told_once_and_those_that_stopped_never() {
    let (broker, webhook) = (Mosquitto::start(""), Webhook::start());
    let alertmanager = Alertmanager::start(&webhook.config(), &[]);
    for host in ["dead", "stopped", "silenced", "fine"] {
        broker.publish(&topic(host, "status"), &status(host, "online"), &["-r"]);
    }
    let silence = json!({"v": 1, "matchers": [{"name": "host", "operator": "=", "value": "silenced"}], "starts_at": ago(60),
        "ends_at": "2999-01-01T00:00:00Z", "author": "me", "comment": "new disks"});
    broker.publish("utilizer/v1/fleet/silences/disks", &silence.to_string(), &["-r"]);
    let exporter = exporter(&broker, &[&alertmanager.url()], "one", "");
    exporter.program.wait_for("it knows all hosts", |it| {
        (it.metric("utilizer_exporter_alertmanager_hosts_online") == Some(4.0)).then_some(())
    });
    for (host, state) in [("dead", "offline"), ("silenced", "offline"), ("stopped", "stopped")] {
        broker.publish(&topic(host, "status"), &status(host, state), &["-r"]);
    }
    wait_for("the dead one is told", || webhook.told().contains(&"firing HostDown×1".to_owned()).then_some(()));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((names(&alertmanager), webhook.told().len()), (vec!["HostDown@dead".to_owned()], 1));
    let all = alerts(&alertmanager);
    let labels = json!({"alertname": "HostDown", "severity": "critical", "instance": "dead", "job": "utilizer", "host": "dead",
        "env": "test"});
    assert_eq!(all[0]["labels"], labels);
    broker.publish(&topic("dead", "status"), &status("dead", "online"), &["-r"]);
    wait_for("it is over", || webhook.told().contains(&"resolved HostDown×1".to_owned()).then_some(()));
}
