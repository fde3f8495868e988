//! SIGHUP and SIGTERM.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use test_servers::{Mosquitto, wait_for};

use super::support::{Agent, Setup, Watch};

#[test]
fn a_reload_takes_what_it_can_and_names_the_rest() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let setup = Setup::with_broker(&broker.url());
    let agent = setup.start();
    watch.metrics(1);
    assert!(agent.metric("node_load1").is_some());

    let labels = toml::Table::from_iter([("rack".to_owned(), "r7".into())]);
    let changed = setup
        .clone()
        .set("interval", "150ms")
        .set("labels", labels)
        .set("collectors.disable", vec!["loadavg"])
        .set("publish.include", vec!["node_memory_MemTotal_bytes"])
        .set("serve.listen", "127.0.0.1:1")
        .set("push.max_body", "2MiB")
        .set("host", "other")
        .set("log.level", "debug");
    agent.reload(&changed);
    agent.says("these take effect at the next start: host, serve.listen, mqtt, push.max_body, log.level");
    agent.says("configuration reloaded");
    let new = watch.wait("metrics", "a message with the new configuration", |all| {
        all.iter().find(|payload| payload["labels"]["rack"] == "r7" && payload["interval_seconds"] == 0.15).cloned()
    });
    assert_eq!(new["families"][0]["name"], "node_memory_MemTotal_bytes");
    wait_for("the collector is gone", || agent.metric("node_load1").is_none().then_some(()));
    assert_eq!(agent.metric("utilizer_interval_seconds"), Some(0.15));
    // Who reads the status alone sees it too.
    let status = watch.wait("status", "a status with the new configuration", |all| {
        all.iter().find(|status| status["labels"]["rack"] == "r7").cloned()
    });
    assert_eq!((&status["state"], &status["interval_seconds"]), (&"online".into(), &0.15.into()));

    for (number, text, said) in [
        (1, "intervall = \"1s\"\n", "agent.toml:1:1: unknown key intervall; did you mean interval?"),
        (2, "[mqtt]\npassword_file = \"/nonexistent\"\nusername = \"u\"\n", "mqtt.password_file: can't read"),
    ] {
        agent.reload_text(text);
        agent.says_times("the configuration is not reloaded, the old one stays", number);
        agent.says(said);
        assert_eq!(agent.metric("utilizer_interval_seconds"), Some(0.15));
    }
    agent.reload(&setup);
    agent.metric_becomes("utilizer_interval_seconds", |seconds| seconds == 0.1);
    agent.metric_becomes("node_load1", |_| true);
    assert_eq!(agent.get("/healthz").status, 200);
}

/// An agent that waits for a dead broker takes for ever. That the parts of a stop add up to less than the contract's 5 s is
/// held by the compiler (`publisher.rs`); this bound leaves a busy machine its time.
const STOP: Duration = Duration::from_secs(20);

fn stops_in_time(agent: &mut Agent) {
    let asked = Instant::now();
    agent.stop();
    assert!(asked.elapsed() < STOP, "it took {:?}\n{}", asked.elapsed(), agent.log());
}

#[test]
fn a_stop_ends_whatever_the_broker_does() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let broker = Mosquitto::start(&format!("pid_file {}", pid_file.display()));
    let setup = Setup::with_broker(&broker.url());

    // Up.
    let mut agent = setup.start();
    agent.says("connected to the broker");
    stops_in_time(&mut agent);

    // Frozen: connections stand and nothing is answered.
    let mut agent = setup.start();
    agent.says("connected to the broker");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    agent.metric_becomes(r#"utilizer_spool_records{kind="metrics"}"#, |records| records >= 2.0);
    stops_in_time(&mut agent);
    agent.says("records stay in the spool for the next start");

    // Frozen before the connection: it never comes about.
    let mut agent = setup.start();
    agent.metric_becomes(r#"utilizer_spool_records{kind="metrics"}"#, |records| records >= 2.0);
    assert_eq!(agent.metric("utilizer_mqtt_connected"), Some(0.0));
    stops_in_time(&mut agent);
    kill_process(pid, Signal::CONT).unwrap();

    // Down.
    broker.stop();
    let mut agent = setup.start();
    agent.says("no connection to the broker");
    stops_in_time(&mut agent);
}

#[test]
fn a_stop_does_not_wait_for_those_who_hang_on_the_line() {
    let mut agent = Setup::new().start();
    let address = agent.address();
    let lines: Vec<_> = (0..20)
        .map(|number| {
            let mut line = std::net::TcpStream::connect(address).unwrap();
            let half = ["", "GET /metr", "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{"][number % 3];
            std::io::Write::write_all(&mut line, half.as_bytes()).unwrap();
            line
        })
        .collect();
    assert_eq!(agent.get("/healthz").status, 200);
    stops_in_time(&mut agent);
    drop(lines);
}

#[test]
fn an_interrupt_from_the_keyboard_stops_too() {
    let mut agent = Setup::new().start();
    agent.address();
    agent.signal(Signal::INT);
    assert_eq!(agent.ended().code(), Some(0));
    agent.says("stopped");
}
