//! Brokers that are away, come back, or refuse.

use std::process::Command;

use test_servers::Mosquitto;

use super::support::{Setup, Watch};

/// The numbers of a kind's records in the order of their arrival, without what came twice.
fn seqs(watch: &Watch, kind: &str) -> Vec<u64> {
    let mut seqs = Vec::new();
    for record in watch.payloads(kind) {
        let seq = record["seq"].as_u64().unwrap();
        if !seqs.contains(&seq) {
            seqs.push(seq);
        }
    }
    seqs
}

/// Waits until all metrics up to this number came. What waited goes beside the present ones, in an order of its own.
fn all_come(watch: &Watch, last: u64) {
    watch.wait("metrics", &format!("all numbers up to {last}"), |_| {
        let seqs = seqs(watch, "metrics");
        (1..=last).all(|seq| seqs.contains(&seq)).then_some(())
    });
}

#[test]
fn without_a_broker_at_start_everything_else_works_and_nothing_is_lost() {
    let broker = Mosquitto::start("persistence true");
    let watch = Watch::start(&broker);
    broker.stop();
    let agent = Setup::with_broker(&broker.url()).start();
    agent.says(&format!("nothing listens at {} (connection refused); is the broker running?", broker.url()));
    assert_eq!(agent.metric("utilizer_mqtt_connected"), Some(0.0));
    assert!(agent.get("/").body.contains("Not connected: nothing listens at"));
    assert_eq!(agent.get("/readyz").status, 200);
    for number in 1..=3 {
        let row = format!(r#"{{"job_id":"j","stage":"s","metric_name":"m","metric_value":{number}}}"#);
        assert_eq!(agent.post("/v1/pipeline", &row).status, 202);
    }
    let waiting = agent.metric_becomes(r#"utilizer_spool_records{kind="metrics"}"#, |records| records >= 8.0) as usize;
    assert_eq!(agent.log().matches("no connection to the broker").count(), 1, "{}", agent.log());

    broker.again();
    agent.says("connected to the broker");
    watch.metrics(waiting);
    watch.wait("pipeline", "the pushed records", |all| (all.len() >= 3).then_some(()));
    assert_eq!(seqs(&watch, "pipeline"), [1, 2, 3]);
    all_come(&watch, waiting as u64);
    agent.metric_becomes("utilizer_mqtt_connected", |connected| connected == 1.0);
    assert!(agent.get("/").body.contains("Connected; "));
    assert_eq!(agent.metric(r#"utilizer_records_dropped_total{kind="metrics"}"#), Some(0.0));
}

#[test]
fn a_broker_that_restarts_stops_nothing() {
    let broker = Mosquitto::start("persistence true");
    let watch = Watch::start(&broker);
    let agent = Setup::with_broker(&broker.url()).start();
    watch.metrics(2);
    for round in 1..=2 {
        broker.stop();
        agent.says_times("no connection to the broker", round);
        let made = agent.metric(r#"utilizer_records_total{kind="metrics"}"#).unwrap();
        assert_eq!(agent.post("/v1/logs", &format!(r#"{{"message":"{round}"}}"#)).status, 202);
        let made = agent.metric_becomes(r#"utilizer_records_total{kind="metrics"}"#, |now| now >= made + 3.0);
        broker.again();
        agent.says_times("connected to the broker\n", round + 1);
        agent.metric_becomes(r#"utilizer_records_acknowledged_total{kind="metrics"}"#, |acked| acked >= made);
        watch.metrics(made as usize);
        watch.wait("logs", "the line of the outage", |all| (all.len() >= round).then_some(()));
    }
    all_come(&watch, seqs(&watch, "metrics").len() as u64);
    assert_eq!(agent.metric("utilizer_mqtt_connections_total"), Some(3.0));
    assert!(watch.payloads("status").iter().all(|status| status.get("dropped").is_none()));
}

const PASSWORD: &str = "correct-horse-battery";

/// A broker that lets in `web` with [`PASSWORD`].
fn guarded(folder: &std::path::Path) -> Mosquitto {
    let file = folder.join("passwords");
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args(["web", PASSWORD]).output();
    let made = made.unwrap_or_else(|e| panic!("can't run mosquitto_passwd ({e}); it comes with mosquitto"));
    assert!(made.status.success(), "{made:?}");
    Mosquitto::start(&format!("allow_anonymous false\npassword_file {}", file.display()))
}

#[test]
fn a_refused_password_is_said_without_the_password() {
    const WRONG: &str = "tr0ub4dor";
    let folder = tempfile::tempdir().unwrap();
    let broker = guarded(folder.path());
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{WRONG}\n")).unwrap();
    let agent = Setup::with_broker(&broker.url())
        .set("mqtt.username", "web")
        .set("mqtt.password_file", file.display().to_string())
        .start();
    agent.says(&format!("the broker at {} does not let client \"utilizer-agent-h\" in", broker.url()));
    agent.says("check `username`, `password_file`");
    agent.metric_becomes("utilizer_sampler_passes_total", |passes| passes >= 3.0);
    assert_eq!(agent.metric("utilizer_mqtt_connected"), Some(0.0));
    let page = agent.get("/").body;
    assert!(page.contains("does not let client"), "{page}");
    for text in [agent.log(), page, agent.get("/metrics").body] {
        assert!(!text.contains(WRONG), "{text}");
    }
}

/// A missing access rule refuses whatever the agent sends, every interval: that is one line of each sort.
#[test]
fn a_broker_that_denies_everything_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl");
    std::fs::write(&rules, "topic read #\n").unwrap();
    let broker = Mosquitto::start(&format!("allow_anonymous true\nacl_file {}", rules.display()));
    let agent = Setup::with_broker(&broker.url()).start();
    agent.metric_becomes(r#"utilizer_spool_records{kind="metrics"}"#, |waiting| waiting >= 8.0);
    agent.says("check the broker's access rules");
    agent.says("records stay in the spool and are tried again");
    for text in ["the broker refuses this host's status", "the broker refuses metrics record"] {
        assert_eq!(agent.log().matches(text).count(), 1, "{}", agent.log());
    }
    assert_eq!(agent.metric(r#"utilizer_records_dropped_total{kind="metrics"}"#), Some(0.0));
}

/// Also with everything logged that libraries have to say.
#[test]
fn a_password_is_nowhere_to_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let broker = guarded(folder.path());
    let mut options = mqtt::Options::new(broker.url().parse().unwrap(), "watch");
    options.username = Some("web".to_owned());
    options.password = Some(mqtt::Secret::new(PASSWORD));
    let watch = Watch::with(options);
    let mut agent = Setup::with_broker(&broker.url())
        .set("mqtt.username", "web")
        .set("log.level", "trace")
        .set("publish.include", vec!["*"])
        .environment("UTILIZER_AGENT__MQTT__PASSWORD", PASSWORD)
        .start();
    watch.metrics(2);
    let mut texts = vec![agent.get("/").body, agent.get("/metrics").body];
    agent.signal(rustix::process::Signal::HUP);
    agent.says("configuration reloaded");
    agent.stop();
    texts.push(agent.log());
    texts.extend(watch.messages().iter().map(|message| format!("{message:?}")));
    assert!(texts.len() > 5);
    for text in texts {
        assert!(!text.contains(PASSWORD), "{text}");
        assert!(!text.contains(&format!("{:?}", PASSWORD.as_bytes())), "{text}");
    }
}
