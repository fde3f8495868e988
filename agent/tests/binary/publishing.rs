//! What goes over MQTT: birth, a message each interval, the end in each of its forms.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::Value;
use test_servers::{Mosquitto, wait_for};

use super::support::{Setup, Watch};

fn property<'a>(message: &'a mqtt::Message, name: &str) -> &'a str {
    let found = message.user_properties.iter().find(|(key, _)| key == name);
    &found.unwrap_or_else(|| panic!("no user property {name}: {:?}", message.user_properties)).1
}

#[test]
fn a_host_says_what_it_is_and_sends_each_interval() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let mut agent = Setup::with_broker(&broker.url())
        .set("labels", toml::Table::from_iter([("cluster".to_owned(), "eu-1".into())]))
        .set("publish.include", vec!["node_load1", "node_memory_Mem*"])
        .start();

    let birth = watch.status("online", 0);
    assert_eq!((&birth["v"], &birth["host"]), (&Value::from(1), &Value::from("h")));
    assert_eq!(birth["interval_seconds"], 0.1);
    assert_eq!(birth["labels"]["cluster"], "eu-1");
    assert_eq!(birth["version"], env!("CARGO_PKG_VERSION"));
    assert!(birth.get("stopped").is_none() && birth.get("dropped").is_none(), "{birth}");
    let inventory = &birth["inventory"];
    assert!(inventory["os"].is_string() && inventory["kernel"].is_string(), "{inventory}");
    assert!(inventory["cpu_count"].as_u64() >= Some(1) && inventory["memory_total_bytes"].is_u64(), "{inventory}");

    for seq in 1..=4 {
        let message = watch.metrics(seq);
        assert!(!message.retain);
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!(property(&message, "v"), "1");
        assert_eq!(property(&message, "host"), "h");
        assert_eq!(property(&message, "kind"), "metrics");
        assert_eq!(property(&message, "boot"), birth["boot"]);
        assert_eq!(property(&message, "seq"), seq.to_string());
        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((&payload["seq"], &payload["boot"]), (&Value::from(seq), &birth["boot"]));
        assert_eq!((&payload["interval_seconds"], &payload["labels"]["cluster"]), (&Value::from(0.1), &"eu-1".into()));
        let gauge = |name: &str| {
            let gauges = payload["gauges"].as_array().unwrap();
            gauges.iter().find(|gauge| gauge["name"] == name).and_then(|gauge| gauge["value"].as_f64())
        };
        for share in ["cpu_percent", "memory_percent"] {
            assert!(gauge(share).is_some_and(|value| (0.0..=100.0).contains(&value)), "{share} in {payload}");
        }
        assert!(gauge("memory_total_bytes") > Some(0.0) && gauge("load1").is_some());
        let families = payload["families"].as_array().unwrap();
        assert!(families.iter().any(|family| family["name"] == "node_load1"), "{families:?}");
        assert!(families.iter().any(|family| family["name"] == "node_memory_MemTotal_bytes"), "{families:?}");
        assert!(families.iter().all(|family| family["name"] != "node_load15"), "{families:?}");
        // The CPU use of processes needs two passes; the pass at start is not sent, so that every message has them.
        let processes = payload["processes"].as_array().unwrap();
        // The busiest 20 and the largest 20, of which many are both.
        assert!((1..=40).contains(&processes.len()), "{processes:?}");
        assert!(processes.iter().all(|p| p["pid"].is_u64() && p["name"].is_string() && p["cpu_percent"].is_number()));
    }

    agent.stop();
    let goodbye = watch.status("offline", 1);
    assert_eq!((&goodbye["stopped"], &goodbye["boot"]), (&Value::from(true), &birth["boot"]));
    drop(watch);

    // State is retained for those who come later, telemetry is not.
    let late = Watch::with({
        let mut options = mqtt::Options::new(broker.url().parse().unwrap(), "late");
        options.clean_start = true;
        options
    });
    late.status("offline", 0);
    // The status, and the alerts that fire: none.
    let messages = wait_for("both states", || Some(late.messages()).filter(|messages| messages.len() == 2));
    for message in &messages {
        assert!(message.retain && message.content_type.as_deref() == Some("application/json"), "{messages:?}");
    }
    let active = messages.iter().find(|message| message.topic == "utilizer/v1/telemetry/h/alerts/active").unwrap();
    let active: Value = serde_json::from_slice(&active.payload).unwrap();
    assert_eq!((&active["alerts"], &active["boot"]), (&serde_json::json!([]), &birth["boot"]));
}

#[test]
fn a_killed_agent_is_declared_offline_and_another_run_has_its_own_id() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let setup = Setup::with_broker(&broker.url());
    let mut agent = setup.start();
    let birth = watch.status("online", 0);
    watch.metrics(1);

    agent.signal(Signal::KILL);
    agent.ended();
    let will = watch.status("offline", 1);
    assert_eq!(will["boot"], birth["boot"]);
    assert!(will.get("stopped").is_none(), "a last will must not look like a stop: {will}");

    let _again = setup.start();
    let second = watch.status("online", 2);
    assert_ne!(second["boot"], birth["boot"]);
    let first_of_second = watch.wait("metrics", "the second run's metrics", |all| {
        all.iter().find(|payload| payload["boot"] == second["boot"]).cloned()
    });
    assert_eq!(first_of_second["seq"], 1);
}

/// A broker that tells them lets the first end; one that says nothing, as mosquitto before 2.0.15, leaves it with a hint.
#[test]
fn of_two_agents_with_one_name_the_first_says_so() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let setup = Setup::with_broker(&broker.url());
    let first = setup.start();
    watch.status("online", 0);
    let _second = setup.start();
    wait_for("the first agent says what happened", || {
        let log = first.log();
        let told = log.contains("give each host its own `host` in the configuration");
        let hinted = log.contains("does so when another client connects with the id \"utilizer-agent-h\"");
        (told || hinted).then_some(())
    });
}

/// Reads one packet of MQTT and returns its first byte.
fn packet(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    let mut next = |stream: &mut TcpStream| {
        stream.read_exact(&mut byte).unwrap();
        byte[0]
    };
    let kind = next(stream);
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = next(stream);
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    kind
}

/// They would take the session from each other for ever, so the one that is told ends. This broker accepts a client, and
/// says the reason code 0x8E to it when its birth has come.
#[test]
fn an_agent_whose_session_is_taken_over_ends() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = Setup::with_broker(&format!("mqtt://{}", broker.local_addr().unwrap())).start();
    let (mut stream, _) = broker.accept().unwrap();
    assert_eq!(packet(&mut stream), 0x10, "CONNECT");
    stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
    assert_eq!(packet(&mut stream), 0x82, "SUBSCRIBE");
    assert_eq!(packet(&mut stream), 0x33, "PUBLISH, QoS 1, retained: the birth");
    stream.write_all(&[0xE0, 1, 0x8E]).unwrap();
    // As brokers do, it closes; what the agent had on its way is read first, so that no reset overtakes the reason.
    stream.shutdown(Shutdown::Write).unwrap();
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();

    assert_eq!(agent.ended().code(), Some(1));
    agent.says("another agent connected to the broker under this host's name, \"h\"");
    agent.says("give each host its own `host` in the configuration");
    assert!(!agent.log().contains("trying again"), "{}", agent.log());
}
