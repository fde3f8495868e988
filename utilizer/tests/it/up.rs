//! `utilizer up`: one process that samples, publishes, stores and says what it does.

use std::path::Path;
use std::process::Command;

use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use test_servers::{Program, wait_for};

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

/// `utilizer up` over a folder, each second, on free ports, with more switches behind.
fn up(data: &TempDir, more: &[&str]) -> Program {
    let data = data.path().to_str().unwrap();
    let switches = ["up", "--interval", "1s", "--data-dir", data];
    // A switch may be given once only.
    let has = |switch: &str| more.contains(&switch);
    let listen = ["--listen", "127.0.0.1:0"].into_iter().filter(|_| !has("--listen"));
    let mqtt = ["--mqtt-listen", "127.0.0.1:0"].into_iter().filter(|_| !has("--mqtt-listen"));
    let words: Vec<_> = switches.into_iter().chain(listen).chain(mqtt).chain(more.iter().copied()).collect();
    Program::start(Path::new(UTILIZER), &words, &[])
}

/// What a query over its database gives, one column as text; nothing where there is no database yet.
fn column(data: &TempDir, sql: &str) -> Vec<String> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let file = data.path().join("utilizer.db");
        let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = database.prepare(sql)?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    read().unwrap_or_default()
}

fn stages(data: &TempDir) -> Vec<String> {
    column(data, "SELECT DISTINCT stage FROM recap_system_metrics ORDER BY stage")
}

fn wanted_stages() -> Vec<&'static str> {
    let routes = std::fs::read_to_string("/proc/net/dev").unwrap();
    // Two lines of headings, and the loopback device that is not counted.
    let networks = routes.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:")).count();
    let mut stages = vec!["cpu", "disk", "memory", "process"];
    stages.extend((networks > 0).then_some("network"));
    stages
}

fn has_all_stages(data: &TempDir) -> bool {
    let found = stages(data);
    wanted_stages().iter().all(|stage| found.iter().any(|found| found == stage))
}

/// The number that stands before a word in a text.
fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split_once(word).unwrap_or_else(|| panic!("{word:?} is not in: {text}")).0;
    before
        .split_ascii_whitespace()
        .next_back()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

/// The port behind a switch in the command that it prints for `mosquitto_sub`.
fn mqtt_port(program: &Program) -> String {
    program.wait_for("it says where its topics are", |program| {
        let log = program.log();
        let command = log.split_once("mosquitto_sub ")?.1.lines().next()?.to_owned();
        Some(command.split_once("-p ")?.1.split(' ').next()?.to_owned())
    })
}

#[test]
fn it_stores_serves_and_publishes_this_host() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(&data, &[]);
    let port = mqtt_port(&program);
    let heard = Program::start(
        Path::new("mosquitto_sub"),
        &["-V", "5", "-h", "127.0.0.1", "-p", &port, "-t", "utilizer/v1/#", "-F", "%t %p"],
        &[],
    );
    wait_for("rows of every part of the host", || has_all_stages(&data).then_some(()));
    let page = program.get("/metrics");
    assert_eq!(page.status, 200);
    for series in ["node_cpu_seconds_total{", "node_memory_MemAvailable_bytes ", "utilizer_cpu_percent "] {
        assert!(page.body.lines().any(|line| line.starts_with(series)), "{series} is not on /metrics");
    }
    let message = heard.wait_for("a subscriber sees the metrics", |heard| {
        let log = heard.log();
        let line = log.lines().find(|line| line.contains("/metrics {"))?.to_owned();
        // A line that is still being written has no end.
        log.contains(&format!("{line}\n")).then_some(line)
    });
    let (topic, payload) = message.split_once(' ').unwrap();
    let payload: Value = serde_json::from_str(payload).unwrap();
    assert_eq!(topic, format!("utilizer/v1/telemetry/{}/metrics", payload["host"].as_str().unwrap()));
    assert!(payload["gauges"].as_array().unwrap().iter().any(|gauge| gauge["name"] == "cpu_percent"));
    assert_eq!(column(&data, "SELECT state FROM hosts"), ["online"]);
    program.stop();
    assert_eq!(column(&data, "SELECT state FROM hosts"), ["offline"]);
}

#[test]
fn it_ends_by_itself_with_a_summary() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(&data, &["--for", "3s"]);
    assert_eq!(program.ended(), Some(0), "{}", program.log());
    let log = program.log();
    assert!(log.lines().any(|line| line.contains("  cpu ") && line.contains("  rows ")), "no status line: {log}");
    let summary = log.lines().find(|line| line.starts_with("ran 3s: ")).unwrap_or_else(|| panic!("no summary: {log}"));
    let (samples, rows, bytes) =
        (number_before(summary, " samples"), number_before(summary, " rows"), number_before(summary, " bytes"));
    assert!(samples > 0 && rows > 0 && bytes > 0, "{summary}");
    let stored: u64 = column(&data, "SELECT CAST(count(*) AS TEXT) FROM recap_system_metrics")[0].parse().unwrap();
    assert!(stored > 0 && stored <= rows, "{stored} in the database: {summary}");
}

#[test]
fn a_taken_port_is_named_with_its_switch() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for switch in ["--listen", "--mqtt-listen"] {
        let data = tempfile::tempdir().unwrap();
        let mut program = up(&data, &[switch, &address]);
        assert_eq!(program.ended(), Some(1), "{}", program.log());
        let log = program.log();
        assert!(log.contains(&address) && log.contains(&format!("choose another with {switch} ADDR")), "{log}");
    }
}

#[test]
fn wrong_switches_are_refused_before_anything_runs() {
    let data = tempfile::tempdir().unwrap();
    for (words, part) in [
        (["--interval", "1ms"], "interval"),
        (["--interval", "soon"], "soon"),
        (["--for", "long"], "long"),
        (["--listen", "9100"], "9100"),
        (["--mqtt-listen", "1883"], "1883"),
        (["--mqtt-lissten", "x"], "--mqtt-listen"),
    ] {
        let folder = data.path().join("data");
        let run = Command::new(UTILIZER).args(["up", "--data-dir"]).arg(&folder).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(part), "{said}");
    }
    let folder = data.path().join("file");
    std::fs::write(&folder, "").unwrap();
    let run = Command::new(UTILIZER).args(["up", "--data-dir"]).arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.code() == Some(1) && said.contains("--data-dir DIR"), "{said}");
}

#[test]
fn the_built_in_broker_stays_on_loopback() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(&data, &["--mqtt-listen", "0.0.0.0:0"]);
    assert_eq!(program.ended(), Some(1), "{}", program.log());
    assert!(program.log().contains("loopback only"), "{}", program.log());
}

#[test]
fn a_second_one_over_the_same_data_is_refused_and_disturbs_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut first = up(&data, &[]);
    wait_for("the first one stores", || has_all_stages(&data).then_some(()));
    let mut second = up(&data, &[]);
    assert_eq!(second.ended(), Some(1), "{}", second.log());
    let said = second.log();
    assert!(said.contains("is another `utilizer up` using this data directory?"), "{said}");
    assert!(said.contains("--data-dir DIR") && said.contains(data.path().to_str().unwrap()), "{said}");
    let count = || column(&data, "SELECT CAST(count(*) AS TEXT) FROM recap_system_metrics")[0].parse::<u64>().unwrap();
    let before = count();
    wait_for("the first one goes on", || (count() > before).then_some(()));
    first.stop();
}

#[test]
fn it_stops_on_ctrl_c_and_goes_on_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut program = up(&data, &[]);
    wait_for("the first run stores", || has_all_stages(&data).then_some(()));
    program.kill();
    let times = || column(&data, "SELECT DISTINCT recorded_at FROM recap_system_metrics");
    let before = times().len();
    assert!(before > 0, "what was committed is there after the kill");

    let mut program = up(&data, &[]);
    wait_for("the second run stores", || (times().len() > before + 1).then_some(()));
    program.signal(Signal::INT);
    assert_eq!(program.ended(), Some(0), "{}", program.log());
    assert!(program.log().contains("\nran "), "it says goodbye with a summary: {}", program.log());
}
