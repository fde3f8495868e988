//! Alertmanager's API v2.

use utilizer_notify::Reason;
use utilizer_notify::receivers::Outcome;

use crate::support::*;

#[test]
fn every_instance_is_told() {
    let receiver = receiver(
        "[[alertmanager]]\nurls = [\"http://a:9093/\", \"https://b/am\"]\nusername = \"u\"\npassword_file = \"key\"\n",
    );
    let all_of_them = receiver.integrations();
    let urls: Vec<String> =
        all_of_them.iter().map(|one| http(&**one, &plain(Reason::Alerts, true)).url.expose().to_owned()).collect();
    assert_eq!(urls, ["http://a:9093/api/v2/alerts", "https://b/am/api/v2/alerts"]);
    assert!(all_of_them.iter().all(|one| one.send_resolved() && one.kind() == "alertmanager"));
    let call = http(&*all_of_them[0], &plain(Reason::Alerts, true));
    assert!(header(&call, "Authorization").unwrap().starts_with("Basic "));
    let alerts: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(alerts[0]["endsAt"], "2026-11-22T11:25:05.250Z");
    assert_eq!(alerts[1]["endsAt"], "2026-11-22T11:20:05.250Z");
    for notification in all() {
        let alerts = json(&*all_of_them[0], notification);
        for alert in alerts.as_array().unwrap() {
            only(alert, &["labels", "annotations", "startsAt", "endsAt", "generatorURL"]);
            let labels = alert["labels"].as_object().unwrap();
            assert!(!labels.is_empty() && labels.values().all(|value| !value.as_str().unwrap().is_empty()));
            assert!(alert["annotations"].is_object());
            let time = |key: &str| text(&alert[key], key).parse::<wire::Timestamp>().unwrap();
            assert!(time("startsAt") <= time("endsAt"));
            if let Some(url) = alert.get("generatorURL") {
                assert!(text(url, "generatorURL").starts_with("http"));
            }
        }
    }
    assert_eq!(all_of_them[0].outcome(&answer(200, "")), Outcome::Sent);
    assert!(refused(all_of_them[0].outcome(&answer(400, HUSH))).contains("some of the alerts"));
    refused(all_of_them[0].outcome(&answer(404, "")));
    later(all_of_them[0].outcome(&answer(503, "")));
}
