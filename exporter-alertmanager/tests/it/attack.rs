//! What a hostile or careless sender makes of messages.

use test_servers::{Alertmanager, Mosquitto, wait_for};

use super::support::{Webhook, active, ago, exporter, names, status, topic};

#[test]
fn bad_messages_are_counted_and_keep_nobody_from_being_heard() {
    let (broker, webhook) = (Mosquitto::start(""), Webhook::start());
    let alertmanager = Alertmanager::start(&webhook.config(), &[]);
    let exporter = exporter(&broker, &[&alertmanager.url()], "one", "");
    let bad = [
        ("evil", "status", "{".to_owned()),
        ("evil", "status", status("good", "offline")),
        ("evil", "alerts/active", active("good", &["Stolen"], &ago(1))),
        ("evil", "alerts/active", "[]".to_owned()),
        ("evil", "alerts/active", "\u{1}\u{2}".to_owned()),
        ("evil", "alerts", r#"{"v":1,"host":"evil","time":"never"}"#.to_owned()),
        ("evil", "alerts", r#"{"v":9,"host":"evil","time":"2026-01-01T00:00:00Z"}"#.to_owned()),
        ("evil", "metrics", "nothing".to_owned()),
    ];
    for (host, rest, payload) in &bad {
        broker.publish(&topic(host, rest), payload, &[]);
    }
    broker.publish("utilizer/v1/fleet/silences/x", "{}", &[]);
    let labels = active("evil", &["Huge"], &ago(1)).replace("\"critical\"", &format!("{:?}", "x".repeat(100_000)));
    broker.publish(&topic("evil", "alerts/active"), &labels, &[]);
    broker.publish(&topic("evil", "alerts/active"), &active("evil", &["a b\\u0000", ""], &ago(1)), &[]);
    let future = active("evil", &["Future"], "2999-01-01T00:00:00Z");
    broker.publish(&topic("evil", "alerts/active"), &future, &[]);
    broker.publish(&topic("good", "alerts/active"), &active("good", &["Full"], &ago(1)), &[]);
    wait_for("the good one is there", || (names(&alertmanager) == ["Full@good", "Future@evil"]).then_some(()));
    exporter.program.wait_for("all are counted", |it| {
        let count =
            |reason: &str| it.metric(&format!("utilizer_exporter_alertmanager_refused_total{{reason={reason:?}}}"));
        (count("unreadable") == Some(9.0) && count("labels") == Some(2.0)).then_some(())
    });
    // Over before it began, by its own word.
    broker.publish(&topic("evil", "alerts/active"), &active("evil", &[], &ago(1)), &[]);
    wait_for("it is over", || (names(&alertmanager) == ["Full@good"]).then_some(()));
    let page = exporter.program.get("/metrics").body;
    assert!(page.contains("outcome=\"refused\"} 0"), "{page}");
}
