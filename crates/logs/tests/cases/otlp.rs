//! Records in OTLP/HTTP's JSON.

use serde_json::json;

use super::{now, plan_of};

#[test]
fn a_body_becomes_records() {
    let body = json!({"resourceLogs": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "deployment.environment", "value": {"stringValue": "production"}},
            {"key": "process.pid", "value": {"intValue": "77"}}
        ]},
        "scopeLogs": [{"scope": {"name": "shop.orders"}, "logRecords": [
            {
                "timeUnixNano": "1790000000123456789", "severityNumber": 17, "severityText": "Error",
                "body": {"stringValue": "order failed"},
                "attributes": [
                    {"key": "duration", "value": {"doubleValue": 0.25}},
                    {"key": "retry", "value": {"boolValue": true}},
                    {"key": "http", "value": {"kvlistValue": {"values": [
                        {"key": "method", "value": {"stringValue": "POST"}}
                    ]}}},
                    {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}}}
                ],
                "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"
            },
            {"observedTimeUnixNano": 1790000001000000000u64, "severityText": "warn", "body": {"kvlistValue": {"values": [
                {"key": "message", "value": {"stringValue": "structured"}},
                {"key": "n", "value": {"intValue": 5}}
            ]}}},
            {}
        ]}]
    }]});
    let plan = plan_of("push = true\n");
    let made = plan.otlp(body.as_object().unwrap(), now()).unwrap().unwrap().records;
    let lines: Vec<_> = made.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    assert_eq!(
        lines[0],
        r#"{"timestamp":"2026-09-21T14:13:20.123Z","level":"ERROR","level_original":"Error","service_name":"shop","message":"order failed","latency_ms":250.0,"logger":"shop.orders","environment":"production","trace_id":"5b8efff798038103d269b633813fc60c","fields":{"duration":"0.25","http.method":"POST","process.pid":"77","retry":"true","span_id":"eee19b7ec3c1b174","tags":"[\"a\",\"1\"]"}}"#
    );
    assert_eq!(
        (made[1].message.as_str(), made[1].level.as_str(), made[1].fields["n"].as_str()),
        ("structured", "WARN", "5")
    );
    assert_eq!(made[1].timestamp.to_string(), "2026-09-21T14:13:21.000Z");
    assert_eq!((made[2].message.as_str(), made[2].timestamp), ("", now()));
}

#[test]
fn what_is_of_another_form_is_said() {
    let plan = plan_of("push = true\n");
    let of = |body: serde_json::Value| plan.otlp(body.as_object().unwrap(), now());
    assert!(of(json!({"message": "x"})).is_none(), "an object of one's own");
    assert_eq!(of(json!({"resourceLogs": []})).unwrap().unwrap().records, []);
    assert_eq!(of(json!({"resourceLogs": 7})).unwrap().unwrap_err(), "resourceLogs is no list");
    let partly = of(json!({"resourceLogs": [{"scopeLogs": [{"logRecords": ["x", {}]}]}]})).unwrap().unwrap();
    let found = (partly.records.len(), partly.refused, partly.why.as_str());
    assert_eq!(found, (1, 1, "logRecords holds what is no object"));
}
