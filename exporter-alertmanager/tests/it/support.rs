use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::{Alertmanager, Mosquitto, Program, built};

/// Takes Alertmanager's notifications.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let keep = got.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_ok() && length > 0 {
                    keep.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    let _ = reader
                        .get_mut()
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                }
            }
        });
        Self { url, got }
    }

    /// What has come, as `STATUS ALERTNAME×COUNT`.
    pub(crate) fn told(&self) -> Vec<String> {
        let told = self.got.lock().unwrap();
        let line = |told: &Value| {
            let alerts = told["alerts"].as_array().unwrap();
            let name = alerts[0]["labels"]["alertname"].as_str().unwrap();
            format!("{} {name}×{}", told["status"].as_str().unwrap(), alerts.len())
        };
        told.iter().map(line).collect()
    }

    /// A configuration for it. Alertmanager forgets within 3 s what says no end; ours always says one.
    pub(crate) fn config(&self) -> String {
        format!(
            "global:\n  resolve_timeout: 3s\nroute:\n  receiver: hook\n  group_by: [alertname]\n  group_wait: 2s\n  \
             group_interval: 2s\n  repeat_interval: 1h\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: {}\n    \
             send_resolved: true\n",
            self.url
        )
    }
}

/// The exporter, and the folder with its configuration.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) program: Program,
    folder: TempDir,
}

impl Exporter {
    /// Its configuration.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("exporter.toml")
    }
}

/// Starts one that is quick in everything. `more` is appended to its configuration.
pub(crate) fn exporter(broker: &Mosquitto, alertmanagers: &[&str], member: &str, more: &str) -> Exporter {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exporter.toml");
    let text = format!(
        "[alertmanager]\nurls = {alertmanagers:?}\nresend = \"1s\"\n[mqtt]\nurl = {:?}\nmember = {member:?}\n[fleet]\nsettle = \
         \"2s\"\n[host_down]\ngrace = \"2s\"\n[serve]\nlisten = \"127.0.0.1:0\"\n{more}",
        broker.url()
    );
    std::fs::write(&file, text).unwrap();
    let program =
        Program::start(&built("utilizer-exporter-alertmanager"), &["--config", &file.display().to_string()], &[]);
    program.ready();
    Exporter { program, folder }
}

pub(crate) fn topic(host: &str, rest: &str) -> String {
    format!("utilizer/v1/telemetry/{host}/{rest}")
}

const BOOT: &str = "019a3f5e-7c00-7d3a-9b1c-0242ac120002";

/// Now, and so many seconds before.
pub(crate) fn ago(seconds: u64) -> String {
    wire::Timestamp::from(std::time::SystemTime::now()).minus(std::time::Duration::from_secs(seconds)).to_string()
}

/// A host's status; `state` is `online`, `offline` for the last will or `stopped`.
pub(crate) fn status(host: &str, state: &str) -> String {
    let (word, stopped) = if state == "stopped" { ("offline", true) } else { (state, false) };
    json!({"v": 1, "host": host, "state": word, "stopped": stopped, "boot": BOOT, "time": ago(0), "version": "0.1.0",
        "labels": {"env": "test"}})
    .to_string()
}

/// The alerts that fire on a host.
pub(crate) fn active(host: &str, names: &[&str], fired_at: &str) -> String {
    let alert = |name: &&str| {
        json!({"fingerprint": "5f1e2d3c4b5a6978", "labels": {"alertname": name, "severity": "critical", "instance": host},
            "annotations": {"summary": "/srv is full"}, "value": 97.0, "active_at": fired_at, "fired_at": fired_at})
    };
    let alerts: Vec<_> = names.iter().map(alert).collect();
    json!({"v": 1, "host": host, "boot": BOOT, "time": ago(0), "alerts": alerts}).to_string()
}

/// What an Alertmanager has active.
pub(crate) fn alerts(alertmanager: &Alertmanager) -> Vec<Value> {
    let answer = alertmanager.get("/api/v2/alerts?active=true");
    serde_json::from_str(&answer.body).unwrap_or_default()
}

/// Their names.
pub(crate) fn names(alertmanager: &Alertmanager) -> Vec<String> {
    let mut names: Vec<_> = alerts(alertmanager)
        .iter()
        .map(|alert| {
            format!("{}@{}", alert["labels"]["alertname"].as_str().unwrap(), alert["labels"]["host"].as_str().unwrap())
        })
        .collect();
    names.sort();
    names
}
