//! More alerts than anybody reads.

use super::super::support::Hooks;
use super::{Scene, of_webhook};

fn units(count: usize) -> Vec<String> {
    (0..count).map(|unit| format!("u{unit}")).collect()
}

#[test]
fn thousands_of_alerts_in_one_group_are_one_notification_that_says_how_many() {
    let (scene, hooks) = (Scene::new(), Hooks::start());
    let notify = format!(
        "[route]\nreceiver = 'ops'\ngroup_by = ['alertname']\ngroup_wait = '0s'\n{}",
        scene.webhook("ops", &hooks)
    );
    let setup = scene.setup(&notify);
    let mut agent = setup.start();
    scene.down(&units(2000));
    let told = hooks.gets(1).json();
    assert_eq!((told["alerts"].as_array().unwrap().len(), &told["truncatedAlerts"]), (100, &1900.into()));
    assert_eq!(told["groupLabels"], serde_json::json!({"alertname": "Down"}));
    agent.metric_becomes(r#"utilizer_notify_alerts{state="active"}"#, |count| count == 2000.0);
    agent.stop();
    let agent = setup.start();
    agent.metric_becomes(r#"utilizer_notify_alerts{state="active"}"#, |count| count == 2000.0);
    assert_eq!(hooks.told().len(), 1, "nothing is told again");
    scene.hides_secrets(&agent);
}

/// Each alert a group of its own: what can't be joined, and finds no room, is given up with few words.
#[test]
fn more_notifications_than_find_room_are_counted_and_said_in_few_words() {
    let (scene, hooks, desk) = (Scene::new(), Hooks::start(), Hooks::start());
    let notify = format!(
        "report_to = 'desk'\n[route]\nreceiver = 'ops'\n{}{}{}",
        super::QUICK,
        scene.webhook("ops", &hooks),
        scene.webhook("desk", &desk)
    );
    let agent = scene.setup(&notify).start();
    scene.down(&units(700));
    agent.metric_becomes("utilizer_notify_dead_letters_total", |count| count == 200.0);
    agent.metric_becomes(&of_webhook("sent_total", "ops"), |sent| sent >= 20.0);
    desk.waits("the report", |told| told.header("utilizer-reason") == "failure");
    let said = agent.log();
    let count = said.matches("notifications to ops/webhook/0 were given up: too many wait for it").count();
    assert!((1..=10).contains(&count), "{count} times: {said}");
    scene.hides_secrets(&agent);
}
