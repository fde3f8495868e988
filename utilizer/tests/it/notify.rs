//! `utilizer alerts`, `silence`, `ack` and `notify test`, against an agent and through a broker.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::{Mosquitto, Program, built, wait_for};

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

const RULES: &str = "
groups:
  - name: it
    interval: 200ms
    rules:
      - {alert: Always, expr: vector(1), labels: {severity: critical}, annotations: {summary: \"it\\e[31m is\"}}
      - {alert: Too, expr: vector(2), labels: {severity: warning}}
";

fn run(words: &[&str]) -> Output {
    Command::new(UTILIZER).args(words).env_remove("USER").env_remove("LOGNAME").output().unwrap()
}

#[track_caller]
fn lines(words: &[&str]) -> Vec<Value> {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Answers every request with success.
fn hook() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut heard, mut byte) = (Vec::new(), [0]);
            while !heard.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                heard.extend(byte);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    url
}

fn agent(broker: Option<&Mosquitto>) -> (Program, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("rules.yml"), RULES).unwrap();
    let mqtt = broker.map_or("enabled = false".to_owned(), |broker| format!("url = {:?}", broker.url()));
    let config = format!(
        "host = \"web-01\"\ninterval = \"1s\"\n[mqtt]\n{mqtt}\n[serve]\nlisten = \"127.0.0.1:0\"\n[spool]\ndirectory = {:?}\n\
         [rules]\nfiles = [{:?}]\n[notify.route]\nreceiver = \"ops\"\n[[notify.receivers]]\nname = \"ops\"\n\
         [[notify.receivers.webhook]]\nurl = {:?}\n[[notify.receivers]]\nname = \"away\"\n[[notify.receivers.webhook]]\n\
         url = \"http://127.0.0.1:1/\"\n",
        path("spool"),
        path("rules.yml"),
        hook()
    );
    std::fs::write(path("agent.toml"), config).unwrap();
    (Program::start(&built("utilizer-agent"), &["--config", &path("agent.toml")], &[]), folder)
}

#[test]
fn an_agent_is_asked_and_told() {
    let (program, _folder) = agent(None);
    let url = format!("http://{}", program.address());
    let alerts = || lines(&["alerts", "--url", &url]);
    wait_for("both fire", || (alerts().len() == 2).then_some(()));
    let critical = lines(&["alerts", "severity=critical", "--url", &url]);
    assert_eq!((critical.len(), &critical[0]["annotations"]["summary"]), (1, &json!("it\u{1b}[31m is")));

    let tried = lines(&["notify", "test", "ops", "--url", &url]);
    assert_eq!(tried, [json!({"target": "ops/webhook/0", "sent": true})]);
    let output = run(&["notify", "test", "away", "--url", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("nobody listens there"), "{output:?}");
    let output = run(&["notify", "test", "nobody", "--url", &url]);
    assert!(
        output.status.code() == Some(1) && said(&output).contains("there is no receiver \"nobody\""),
        "{}",
        said(&output)
    );

    let words =
        ["silence", "add", "alertname=Always", "--for", "2h", "--comment", "test", "--author", "ann", "--url", &url];
    let output = run(&words);
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let silences = lines(&["silence", "list", "--url", &url]);
    assert_eq!((silences.len(), silences[0]["id"].as_str()), (1, Some(id.as_str())));
    let state = |name: &str| {
        let alerts = alerts();
        let alert = alerts.iter().find(|alert| alert["labels"]["alertname"] == name).unwrap();
        (alert["status"]["state"].clone(), alert["acknowledged"]["by"].clone())
    };
    assert_eq!(state("Always"), (json!("suppressed"), Value::Null));
    assert!(run(&["silence", "expire", &id, "--url", &url]).status.success());
    assert_eq!(lines(&["silence", "list", "--url", &url]).len(), 0);
    assert_eq!(lines(&["silence", "list", "--expired", "--url", &url]).len(), 1);
    assert_eq!(state("Always").0, json!("active"));

    let acknowledged = lines(&["ack", "Too", "--author", "ann", "--false-alarm", "--url", &url]);
    assert_eq!(acknowledged[0]["labels"]["alertname"], "Too");
    assert_eq!(state("Too").1, json!("ann"));
    let output = run(&["ack", "None", "--author", "ann", "--url", &url]);
    assert!(output.status.code() == Some(1) && said(&output).contains("no alert \"None\" fires"), "{}", said(&output));
}

#[test]
fn a_fleet_is_asked_and_told_through_its_broker() {
    let broker = Mosquitto::start("");
    let (program, _folder) = agent(Some(&broker));
    let (mqtt, url) = (broker.url(), format!("http://{}", program.address()));
    let alerts = || lines(&["alerts", "--mqtt", &mqtt]);
    wait_for("both fire", || (alerts().len() == 2).then_some(()));
    assert_eq!(alerts()[0]["host"], "web-01");

    let words = ["silence", "add", "host=web-01", "alertname=Too", "--for", "2h", "--comment", "test"];
    let output = run(&[&words[..], &["--author", "ann", "--mqtt", &mqtt]].concat());
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let silences = lines(&["silence", "list", "--mqtt", &mqtt]);
    assert_eq!((&silences[0]["id"], &silences[0]["state"]), (&json!(id), &json!("active")));
    // The host's own word: an alert by what it is now.
    let heard = |key: &str, value: Value| {
        wait_for("the host hears of it", || {
            let alerts = lines(&["alerts", "alertname=Too", "--url", &url]);
            (alerts[0].pointer(key) == Some(&value)).then_some(())
        });
    };
    heard("/status/silencedBy/0", json!(id));
    assert!(run(&["silence", "expire", &id, "--mqtt", &mqtt]).status.success());
    heard("/status/state", json!("active"));
    assert_eq!(lines(&["silence", "list", "--expired", "--mqtt", &mqtt]).len(), 0);
    let output = run(&["silence", "expire", &id, "--mqtt", &mqtt]);
    assert!(output.status.code() == Some(1) && said(&output).contains("has no silence"), "{}", said(&output));

    let ack = |host: &str, alert: &str| run(&["ack", alert, "--author", "bob", "--host", host, "--mqtt", &mqtt]);
    let output = ack("web-01", "Too");
    assert!(output.status.success(), "{}", said(&output));
    heard("/acknowledged/by", json!("bob"));
    for (host, alert, part) in [("web-01", "None", "fires on web-01"), ("web-02", "Too", "knows no host web-02")] {
        let output = ack(host, alert);
        assert!(output.status.code() == Some(1) && said(&output).contains(part), "{}", said(&output));
    }
}

#[test]
fn wrong_calls_are_told() {
    let silence = ["silence", "add", "a=b", "--comment", "c"];
    let all = [
        &["silence", "add"][..],
        &silence,
        &[&silence[..], &["--for", "1h"]].concat(),
        &[&silence[..], &["--for", "0s", "--author", "x"]].concat(),
        &[&silence[..], &["--for", "1h", "--until", "2999-01-01T00:00:00Z", "--author", "x"]].concat(),
        &[&silence[..], &["--until", "2001-01-01T00:00:00Z", "--author", "x"]].concat(),
        &["silence", "add", "a!=b", "--for", "1h", "--comment", "c", "--author", "x"],
        &["silence", "add", "a=b", "--for", "1h", "--comment", " ", "--author", "x"],
        &["silence", "expire"],
        &["alerts", "a"],
        &["alerts", "--username", "x"],
        &["alerts", "--mqtt", "mqtt://127.0.0.1:1", "--url", "http://127.0.0.1:1"],
        &["ack", "x"],
        &["ack", "x", "--author", "x", "--host", "web-01"],
        &["ack", "x", "--author", "x", "--mqtt", "mqtt://127.0.0.1:1"],
        &["notify", "test"],
    ];
    for words in all {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", said(&output));
    }
}

#[test]
fn help_says_what_it_always_said() {
    let mut text = String::new();
    for words in [
        &["alerts"][..],
        &["ack"],
        &["silence"],
        &["silence", "add"],
        &["silence", "list"],
        &["silence", "expire"],
        &["notify", "test"],
    ] {
        let help = run(&[words, &["--help"]].concat());
        text += &format!("$ utilizer {} --help\n{}\n", words.join(" "), String::from_utf8_lossy(&help.stdout));
    }
    super::golden("help-notify.txt", &text);
}
