//! `utilizer tail`: what it shows of messages, pinned by golden files, and how it behaves beside a broker.
//!
//! `make golden` writes the files anew after a change that is meant.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use mqtt::Message;
use rustix::process::Signal;
use serde_json::{Value, json};
use test_servers::{Mosquitto, Program, wait_for};
use utilizer::tail::{Entry, Reader, Text, json_line};
use utilizer::terminal::Paint;
use wire::Timestamp;

use super::golden;

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

/// The protocol's own golden messages, and what a hostile or careless sender makes of them.
fn messages() -> Vec<Message> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/wire/golden");
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(golden.join(format!("{name}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let with = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut value = read(name);
        change(&mut value);
        (name.to_owned(), value)
    };
    let plain = |name: &str| with(name, &|_| {});
    let messages = [
        with("status", &|status| {
            status["state"] = json!("offline");
            status["time"] = json!("2026-09-20T08:00:00.000Z");
        }),
        plain("status"),
        plain("status"),
        plain("metrics"),
        plain("logs"),
        // Again, as an agent sends it before it hears that it is stored.
        plain("logs"),
        with("logs", &|logs| {
            logs["seq"] = json!(45);
            logs["records"] = json!([
                {"timestamp": "2026-09-21T14:13:21Z", "level": "DEBUG", "service_name": "search", "message": "cache warm"},
                {"timestamp": "2026-09-20T23:59:59.999Z", "level": "WARN", "service_name": "search-and-suggest",
                 "message": "evil \u{1b}]0;title\u{7} \u{9b}31m\nsecond line \u{202e}txt.exe",
                 "fields": {"key\u{1b}": "\u{9b}"}},
            ]);
        }),
        with("metrics", &|metrics| {
            metrics["host"] = json!("gpu-07.example");
            metrics["boot"] = json!("b");
            metrics["gauges"] = json!([
                {"name": "cpu_percent", "value": 3}, {"name": "memory_percent", "value": 41.26},
                {"name": "swap_percent", "value": "NaN"}, {"name": "load1", "value": 0.5},
                {"name": "disk_percent", "labels": {"mountpoint": "/"}, "value": 20},
                {"name": "disk_percent", "labels": {"mountpoint": "/srv/a\u{1b}b"}, "value": 97.25},
                {"name": "disk_read_bytes_per_second", "labels": {"device": "sda"}, "value": 1024},
                {"name": "disk_read_bytes_per_second", "labels": {"device": "sdb"}, "value": 1024},
                {"name": "network_receive_bytes_per_second", "labels": {"device": "eth0"}, "value": 1572864},
                {"name": "network_transmit_bytes_per_second", "labels": {"device": "eth0"}, "value": 12},
                {"name": "gpu_load", "labels": {"gpu": "0"}, "value": 12}, {"name": "gpu_load", "labels": {"gpu": "1"}, "value": 83},
            ]);
        }),
        plain("alerts"),
        with("alerts", &|alert| {
            alert["seq"] = json!(43);
            alert["state"] = json!("resolved");
        }),
        plain("pipeline"),
        plain("jobs"),
        with("jobs", &|job| {
            job["seq"] = json!(44);
            job["status"] = json!("failed");
            job["result"] = Value::Null;
            job["error_message"] = json!("exit code 1\nsee the log");
        }),
        with("status", &|status| {
            status["state"] = json!("offline");
            status["stopped"] = json!(true);
        }),
        // Names another host than its topic; of a later version; nothing at all.
        with("logs", &|logs| logs["host"] = json!("web-02")),
        with("alerts", &|alert| alert["v"] = json!(2)),
        with("jobs", &|job| *job = Value::Null),
    ];
    let host = |value: &Value| match value["host"].as_str() {
        Some("gpu-07.example") => "gpu-07.example",
        _ => "web-01",
    };
    let message = |(name, value): (String, Value)| Message {
        topic: format!("utilizer/v1/telemetry/{}/{name}", host(&value)),
        payload: if value.is_null() { "{\"v\":".into() } else { value.to_string().into() },
        ..Message::default()
    };
    messages.into_iter().map(message).collect()
}

fn entries(every_status: bool) -> Vec<Entry> {
    let mut reader = Reader::new(Timestamp::from_millis(0), every_status);
    messages().iter().flat_map(|message| reader.read(message)).collect()
}

#[test]
fn the_text_and_the_json_of_every_kind_are_pinned() {
    let mut text = Text::new(Paint(false), false);
    let lines: String = entries(false).iter().map(|entry| text.line(entry) + "\n").collect();
    assert!(!lines.chars().any(|c| c.is_control() && c != '\n'), "{lines:?}");
    golden("tail.txt", &lines);
    let mut text = Text::new(Paint(true), false);
    let coloured: String = entries(false).iter().map(|entry| text.line(entry) + "\n").collect();
    golden("tail-colours.txt", &coloured.replace('\u{1b}', "<ESC>"));
    let lines: String = entries(true).iter().map(|entry| json_line(entry) + "\n").collect();
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert!(!lines.chars().any(|c| c.is_control() && c != '\n'), "{lines:?}");
    golden("tail.ndjson", &lines);
}

fn tail(broker: &Mosquitto, switches: &[&str]) -> Program {
    let mut words = vec!["tail", "--mqtt"];
    let url = broker.url();
    words.push(&url);
    words.extend(switches);
    Program::start(Path::new(UTILIZER), &words, &[])
}

fn publish(broker: &Mosquitto, host: &str, kind: &str, body: Value) {
    let mut record = json!({"v": 1, "host": host, "boot": "b1", "time": "2099-01-01T00:00:00Z"});
    record.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    broker.publish(&format!("utilizer/v1/telemetry/{host}/{kind}"), &record.to_string(), &[]);
}

fn log(broker: &Mosquitto, host: &str, seq: u64, level: &str, service: &str, message: &str) {
    let line =
        json!({"timestamp": "2099-01-01T00:00:00Z", "level": level, "service_name": service, "message": message});
    publish(broker, host, "logs", json!({"seq": seq, "records": [line]}));
}

/// Publishes until `tail` shows it: it says nothing when it has subscribed.
fn until_it_listens(broker: &Mosquitto, tail: &Program) {
    let mut seq = 0;
    tail.wait_for("it follows", |tail| {
        seq += 1;
        log(broker, "web-00", seq, "FATAL", "start", "begin");
        tail.log().contains("begin").then_some(())
    });
}

#[test]
fn it_shows_what_was_asked_for_and_ends_cleanly() {
    let broker = Mosquitto::start("");
    let mut tail = tail(&broker, &["web-*", "--level", "warn", "--service", "check*,start"]);
    until_it_listens(&broker, &tail);
    log(&broker, "web-01", 1, "ERROR", "checkout", "first");
    log(&broker, "db-01", 1, "ERROR", "checkout", "another host");
    log(&broker, "web-01", 2, "INFO", "checkout", "too low");
    log(&broker, "web-01", 3, "WARN", "search", "another service");
    log(&broker, "web-01", 5, "WARN", "checkout", "second");
    log(&broker, "web-01", 5, "WARN", "checkout", "second");
    log(&broker, "web-01", 4, "WARN", "checkout", "third");
    tail.says("third");
    let lines: Vec<Value> = tail.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = lines.into_iter().filter(|line| line["host"] == "web-01").collect();
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap_or("gap")).collect();
    assert_eq!(messages, ["first", "gap", "second", "third"]);
    assert_eq!((&lines[1]["from"], &lines[1]["to"], &lines[1]["of"]), (&json!(4), &json!(4), &json!("logs")));
    tail.signal(Signal::INT);
    assert_eq!(tail.ended(), Some(0));
}

#[test]
fn hosts_that_are_offline_are_shown() {
    let broker = Mosquitto::start("");
    let status = |host: &str, state: &str| {
        let status = json!({"v": 1, "host": host, "state": state, "boot": "b1", "time": "2026-01-01T00:00:00Z", "version": "0.1.0"});
        broker.publish(&format!("utilizer/v1/telemetry/{host}/status"), &status.to_string(), &["-r"]);
    };
    status("web-01", "offline");
    status("web-02", "online");
    let mut tail = tail(&broker, &["--kind", "logs", "--format", "text"]);
    tail.says("web-01 offline");
    until_it_listens(&broker, &tail);
    status("web-02", "offline");
    tail.says("web-02 offline");
    status("web-01", "online");
    tail.says("web-01 online");
    assert_eq!(tail.log().matches("web-02").count(), 1, "{}", tail.log());
    tail.stop();
}

#[test]
fn a_reader_that_leaves_ends_it_quietly_whether_something_comes_or_not() {
    let broker = Mosquitto::start("");
    for something_comes in [true, false] {
        let mut child = Command::new(UTILIZER)
            .args(["tail", "--mqtt", &broker.url()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut seq = 0;
        let status = wait_for("tail ends", || {
            seq += 1;
            if something_comes {
                log(&broker, "web-01", seq, "INFO", "s", "m");
            }
            child.try_wait().unwrap()
        });
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_terminal_gets_lines_in_colours_and_nothing_that_steers_it() {
    let broker = Mosquitto::start("");
    // `script` runs it on a terminal of its own.
    let command = format!("{UTILIZER} tail --mqtt {} --kind logs", broker.url());
    let mut tail = Program::start(Path::new("script"), &["-qefc", &command, "/dev/null"], &[("TERM", "xterm")]);
    until_it_listens(&broker, &tail);
    log(&broker, "web-01", 1, "ERROR", "checkout", "evil \u{1b}]0;title\u{7}");
    tail.says("evil \\x1b]0;title\\x07");
    assert!(tail.log().contains("\u{1b}[31mERROR\u{1b}[0m checkout evil"), "{:?}", tail.log());
    tail.signal(Signal::TERM);
    tail.ended();
}

#[test]
fn what_can_not_work_is_said() {
    let run = |words: &[&str]| {
        let output = Command::new(UTILIZER).arg("tail").args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["--mqtt", "mqtt://127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is the broker running?"), "{said}");
    let (code, said) = run(&["--ca-file", "/nonexistent"]);
    assert!(code == Some(2) && said.contains("--ca-file: can't read /nonexistent"), "{said}");
    let (code, said) = run(&["--kind", "all"]);
    assert!(code == Some(2) && said.contains("metrics, logs, alerts, pipeline, jobs, status"), "{said}");
    let (code, said) = run(&["host/with/levels"]);
    assert!(code == Some(2) && said.contains("is no host"), "{said}");
}
