//! `utilizer status --agent`: layers of what an agent knows of, and the exit code.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};
use utilizer::health::{State, Targets, as_text, judge};
use utilizer::terminal::Paint;
use wire::Timestamp;

const METRICS: &str = r#"# TYPE pg_up gauge
pg_settings_max_connections{probe="orders-db",target="postgres://db:5432/orders",kind="postgres"} 100
pg_stat_activity_count{probe="orders-db",target="postgres://db:5432/orders",kind="postgres",state="active"} 80
pg_stat_activity_count{probe="orders-db",target="postgres://db:5432/orders",kind="postgres",state="idle"} 7
probe_http_status_code{probe="shop",target="https://shop/",kind="http"} 200
probe_ssl_earliest_cert_expiry{probe="shop",target="https://shop/",kind="http"} 1.7643e+09
redis_memory_used_bytes{probe="cache",target="redis://c:6379",kind="redis"} 1048576
redis_instantaneous_ops_per_sec{probe="cache",target="redis://c:6379",kind="redis"} 42
utilizer_build_info{version="0.1.0"} 1
utilizer_collector_success{collector="cpu"} 1
utilizer_collector_success{collector="gpu"} 0
utilizer_cpu_percent 12.4
utilizer_disk_percent{device="/dev/sda1",mountpoint="/"} 71.2
utilizer_group_online{group="postgres"} 1
utilizer_memory_percent 40.6
utilizer_mqtt_connected 1
"#;

/// Of the agent's own form; what it scrapes does not stand on its `/metrics`.
fn targets(down: bool) -> Value {
    let health = if down { "down" } else { "up" };
    let fault = if down { "can't connect to http://10.0.0.5:8000: nobody listens there" } else { "" };
    let labels = json!({"job": "ml-service", "instance": "10.0.0.5:8000"});
    let target = json!({"scrapePool": "ml-service", "labels": labels, "health": health, "lastError": fault,
        "lastScrapeDuration": 0.01});
    json!({"status": "success", "data": {"activeTargets": [target]}})
}

fn probes() -> Value {
    let probe = |name: &str, kind: &str, target: &str, reason: Option<&str>| {
        let mut probe = json!({"probe": name, "kind": kind, "target": target, "success": reason.is_none(),
            "time": "2026-11-21T22:30:00Z", "duration_seconds": 0.0123, "interval_seconds": 30.0});
        if let Some(reason) = reason {
            probe["reason"] = json!(reason);
        }
        probe
    };
    json!([
        probe("shop", "http", "https://shop/", None),
        probe("orders-db", "postgres", "postgres://db:5432/orders", None),
        probe("cache", "redis", "redis://c:6379", None),
        probe("broker", "mqtt", "mqtt://b:1883", Some("nobody listens there\u{1b}[31m")),
        probe("grafana", "grafana", "http://g:3000", None),
        probe("sudoers", "file", "/etc/sudoers", None),
    ])
}

fn alerts() -> Value {
    json!([
        {"labels": {"alertname": "DiskFull", "severity": "warning"}, "annotations": {"summary": "the disk is full"},
         "startsAt": "2026-11-21T22:00:00Z"},
        {"labels": {"alertname": "ShopDown", "severity": "critical"}, "startsAt": "2026-11-21T22:29:00Z"},
    ])
}

#[test]
fn layers_are_judged_and_shown() {
    let now: Timestamp = "2026-11-21T22:30:00Z".parse().unwrap();
    let probes: Vec<_> = serde_json::from_value(probes()).unwrap();
    let health = judge(
        METRICS,
        &probes,
        &serde_json::from_value(targets(true)).unwrap(),
        serde_json::from_value(alerts()).unwrap(),
        now,
    );
    assert!(!health.healthy);
    let state = |name: &str| health.layers.iter().find(|layer| layer.layer == name).unwrap().state;
    for (layer, wanted) in [
        // Its certificate has expired.
        ("services", Some(State::Down)),
        ("databases", Some(State::Warning)),
        ("cache", Some(State::Up)),
        ("broker", Some(State::Down)),
        ("tier", Some(State::Up)),
        ("monitoring", Some(State::Down)),
        ("logs and files", Some(State::Up)),
        ("host", Some(State::Warning)),
    ] {
        assert_eq!(state(layer), wanted, "{layer}");
    }
    super::golden("health.txt", &as_text(&health, now, Paint(false)));
    let healthy = judge("utilizer_cpu_percent 1\n", &[], &Targets::default(), Some(Vec::new()), now);
    assert!(healthy.healthy);
    assert_eq!(as_text(&healthy, now, Paint(false)), "ok   host\n    ok   agent    cpu 1%\nok   alerts: 0 firing\n");
}

/// An agent that answers these pages.
fn agent(metrics: &'static str, probes: Value, targets: Value, alerts: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let length = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
            let body = match asked.split(' ').nth(1).unwrap_or_default() {
                "/metrics" => metrics.to_owned(),
                "/api/v1/probes" => json!({"status": "success", "data": probes}).to_string(),
                "/api/v1/targets" => targets.to_string(),
                "/api/v2/alerts" => alerts.to_string(),
                other => panic!("{other}"),
            };
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}

#[test]
fn the_exit_code_says_whether_something_is_down() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_utilizer")).arg("status").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let ill = agent(METRICS, probes(), targets(true), alerts());
    let (code, text) = run(&["--agent", &ill]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("DOWN broker: 1 of 2 down") && !text.contains('\u{1b}'), "{text}");
    let (code, text) = run(&["--agent", &ill, "--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["healthy"]), (Some(1), &json!(false)));
    assert_eq!(json["layers"][2]["items"][0]["detail"], "12 ms, 1.0 MiB of memory, 42 operations/s");
    assert_eq!(json["alerts"][0]["name"], "ShopDown");
    let well = agent("utilizer_mqtt_connected 1\n", json!([]), targets(false), json!([]));
    assert_eq!(run(&["--agent", &well]).0, Some(0));
    let scraped = agent("utilizer_mqtt_connected 1\n", json!([]), targets(true), json!([]));
    assert_eq!(run(&["--agent", &scraped]).0, Some(1), "an application that is down");
    let (code, text) = run(&["--agent", "http://127.0.0.1:1"]);
    assert!(code == Some(1) && text.contains("can't ask the agent at http://127.0.0.1:1"), "{text}");
    assert_eq!(run(&["--agent", "nonsense"]).0, Some(2));
}
