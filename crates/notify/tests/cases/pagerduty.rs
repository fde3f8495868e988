//! PagerDuty's Events API v2.

use std::collections::BTreeSet;

use serde_json::Value;
use utilizer_notify::receivers::Outcome;
use utilizer_notify::{Notification, Reason};

use crate::support::*;

const PAGERDUTY: &str = "[[pagerduty]]\nrouting_key_file = \"key\"\n";

fn event(value: &Value) {
    only(value, &["routing_key", "event_action", "dedup_key", "client", "client_url", "links", "payload"]);
    assert!(value.to_string().len() <= 512 * 1000, "{} bytes", value.to_string().len());
    assert_eq!(value["routing_key"], HUSH);
    assert!(["trigger", "resolve"].contains(&text(&value["event_action"], "event_action")));
    bounded(&value["dedup_key"], 1, 255, "dedup_key");
    for link in value["links"].as_array().unwrap() {
        only(link, &["href", "text"]);
        assert!(text(&link["href"], "href").starts_with("https://runbooks.example/"));
    }
    let payload = &value["payload"];
    only(payload, &["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"]);
    bounded(&payload["summary"], 1, 1024, "summary");
    bounded(&payload["source"], 1, 1000, "source");
    assert!(["critical", "error", "warning", "info"].contains(&text(&payload["severity"], "severity")));
    text(&payload["timestamp"], "timestamp").parse::<wire::Timestamp>().unwrap();
    assert!(payload["custom_details"].is_object());
}

#[test]
fn pagerduty_takes_whatever_comes() {
    let templates = "summary = \"{{ .CommonAnnotations.summary }}\"\nseverity = \"{{ .CommonLabels.severity }}\"\n\
                     class = \"{{ .GroupLabels }}\"\ncomponent = \"{{ .Host }}\"\ngroup = \"{{ .Receiver }}\"\n";
    for table in [PAGERDUTY.to_owned(), format!("{PAGERDUTY}{templates}")] {
        let receiver = one(&table);
        for notification in all() {
            event(&json(&*receiver, notification));
        }
    }
}

#[test]
fn incidents_begin_and_end_under_one_key() {
    let receiver = one(PAGERDUTY);
    let key = |notification: &Notification| {
        let event = json(&*receiver, notification);
        (event["event_action"].as_str().unwrap().to_owned(), event["dedup_key"].as_str().unwrap().to_owned())
    };
    let begin = key(&plain(Reason::Alerts, false));
    let end = key(&notification(Reason::Alerts, vec![high_cpu("web-01", true)]));
    assert_eq!((begin.0.as_str(), end.0.as_str()), ("trigger", "resolve"));
    assert_eq!(begin.1, end.1);
    assert_eq!(key(&plain(Reason::Escalation(2), false)).1, begin.1);
    // Another host's group of the same key, another group, and a test are others.
    let mut other = plain(Reason::Alerts, false);
    other.host = "web-02".to_owned();
    let mut group = plain(Reason::Alerts, false);
    group.group_key = "{}:{}".to_owned();
    let keys: BTreeSet<String> =
        [&other, &group, &plain(Reason::Test, false)].map(|notification| key(notification).1).into();
    assert!(keys.len() == 3 && !keys.contains(&begin.1));
    assert_eq!(key(&notification(Reason::Test, Vec::new())).0, "trigger");
}

#[test]
fn severities_are_pagerdutys() {
    for (severity, expected) in [
        ("critical", "critical"),
        ("page", "critical"),
        ("error", "error"),
        ("warning", "warning"),
        ("info", "info"),
        ("P1", "warning"),
    ] {
        let one_alert = alert(&[("alertname", "A"), ("severity", severity)], &[], false);
        let value = json(&*one(PAGERDUTY), &notification(Reason::Alerts, vec![one_alert]));
        assert_eq!(value["payload"]["severity"], expected, "{severity}");
    }
    let fixed = one(&format!("{PAGERDUTY}severity = \"error\"\n"));
    assert_eq!(json(&*fixed, &plain(Reason::Alerts, false))["payload"]["severity"], "error");
}

#[test]
fn pagerdutys_answers_are_understood() {
    let receiver = one(PAGERDUTY);
    assert_eq!(receiver.outcome(&answer(202, "{\"status\": \"success\"}")), Outcome::Sent);
    assert!(refused(receiver.outcome(&answer(400, HUSH))).contains("routing key"));
    later(receiver.outcome(&answer(429, "")));
    later(receiver.outcome(&answer(503, "")));
}
