//! Webhooks and commands: Alertmanager's payload.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use utilizer_notify::Reason;
use utilizer_notify::receivers::Call;

use crate::support::*;

const WEBHOOK: &str = "[[webhook]]\nurl_file = \"url\"\nbearer_token_file = \"key\"\nheaders = { X-Team = \"ops\" }\n";

/// As Alertmanager documents it.
fn payload(value: &Value) {
    bounded(&value["receiver"], 0, 1_000_000, "receiver");
    assert!(["firing", "resolved"].contains(&text(&value["status"], "status")));
    assert_eq!(value["version"], "4");
    bounded(&value["groupKey"], 0, 1_000_000, "groupKey");
    assert!(value["truncatedAlerts"].is_u64());
    assert!(value["externalURL"].is_string());
    let texts = |labels: &Value| labels.as_object().unwrap().values().all(Value::is_string);
    for labels in ["groupLabels", "commonLabels", "commonAnnotations"] {
        assert!(texts(&value[labels]), "{labels}");
    }
    for alert in value["alerts"].as_array().unwrap() {
        only(alert, &["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"]);
        assert_eq!(alert.as_object().unwrap().len(), 7);
        let firing = alert["status"] == "firing";
        assert!(firing || alert["status"] == "resolved");
        assert!(texts(&alert["labels"]) && texts(&alert["annotations"]));
        let time = |key: &str| text(&alert[key], key).parse::<wire::Timestamp>().unwrap();
        assert!(time("startsAt") <= self::time());
        assert_eq!(time("endsAt").to_string().starts_with("0001-01-01T00:00:00"), firing);
        assert_eq!(text(&alert["fingerprint"], "fingerprint").len(), 16);
    }
}

#[test]
fn the_payload_is_alertmanagers() {
    let webhook = one(WEBHOOK);
    for notification in all() {
        let call = http(&*webhook, notification);
        let value: Value = serde_json::from_slice(&call.body).unwrap();
        payload(&value);
        assert_eq!(value.as_object().unwrap().len(), 10);
        let alerts = value["alerts"].as_array().unwrap().len() as u64;
        let all = (notification.alerts.len() + notification.left_out) as u64;
        assert_eq!(value["truncatedAlerts"].as_u64().unwrap() + alerts, all);
        assert_eq!(header(&call, "Authorization"), Some(format!("Bearer {HUSH}").as_str()));
        assert_eq!(header(&call, "Idempotency-Key"), Some(notification.id.as_str()));
        assert_eq!(header(&call, "X-Team"), Some("ops"));
    }
}

#[test]
fn the_payload_is_as_written() {
    let call = http(&*one(WEBHOOK), &notification(Reason::Escalation(3), vec![high_cpu("web-01", false)]));
    assert_eq!(header(&call, "Utilizer-Reason"), Some("escalation-3"));
    let value: Value = serde_json::from_slice(&call.body).unwrap();
    let labels = json!({"alertname": "HighCPU", "environment": "production", "instance": "web-01", "job": "node",
        "severity": "critical"});
    let annotations = json!({"description": "The CPU is at 97 %.", "runbook_url": "https://runbooks.example/cpu?a=1&b=2",
        "summary": "CPU above 90 %"});
    let expected = json!({
        "receiver": "team",
        "status": "firing",
        "alerts": [{
            "status": "firing",
            "labels": labels,
            "annotations": annotations,
            "startsAt": "2026-11-22T11:19:05.250Z",
            "endsAt": "0001-01-01T00:00:00.000Z",
            "generatorURL": "http://web-01:9100",
            "fingerprint": "0123456789abcdef",
        }],
        "groupLabels": {"alertname": "HighCPU"},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "http://web-01:9100",
        "version": "4",
        "groupKey": "{}/{severity=\"critical\"}:{alertname=\"HighCPU\"}",
        "truncatedAlerts": 0,
    });
    assert_eq!(value, expected);
}

#[test]
fn alerts_are_truncated() {
    let value =
        json(&*one("[[webhook]]\nurl = \"http://localhost/x\"\nmax_alerts = 1\n"), &plain(Reason::Alerts, true));
    assert_eq!((value["alerts"].as_array().unwrap().len(), &value["truncatedAlerts"]), (1, &json!(1)));
    assert_eq!(value["status"], "firing");
    let many = (0..100_000).map(|at| high_cpu(&format!("web-{at}"), false)).collect();
    let start = Instant::now();
    let call = http(&*one(WEBHOOK), &notification(Reason::Alerts, many));
    assert!(call.body.len() < 5 << 20 && start.elapsed() < Duration::from_secs(60));
}

#[test]
fn commands_read_the_payload_and_more() {
    let command = one("[[command]]\njob = \"restart-nginx\"\n");
    assert!(command.send_resolved());
    for notification in all() {
        let Ok(Call::Command { job, body }) = command.call(notification, time(), &secrets) else { panic!() };
        assert_eq!(job, "restart-nginx");
        let value: Value = serde_json::from_slice(&body).unwrap();
        payload(&value);
        assert_eq!(value["id"], notification.id.as_str());
        assert_eq!(value["values"].as_array().unwrap().len(), value["alerts"].as_array().unwrap().len());
        let beside = |key: &str| value[key].to_string().len();
        let labels = beside("groupLabels") + beside("commonLabels") + beside("commonAnnotations");
        assert!(body.len() < (300 << 10) + labels + 10_000, "{}", body.len());
    }
}
