//! What applications hand in over HTTP, and what they are told.

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_servers::{Mosquitto, wait_for};

use super::support::{Agent, Answer, Setup, Watch, ask};

fn start() -> (Mosquitto, Watch, Agent) {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let agent = Setup::with_broker(&broker.url()).set("push.max_body", "64KiB").start();
    (broker, watch, agent)
}

fn arrived(watch: &Watch, kind: &str, seq: u64) -> Vec<Value> {
    watch.wait(kind, &format!("{kind} record {seq}"), |all| {
        all.iter().find(|record| record["seq"] == seq)?["records"].as_array().cloned()
    })
}

#[test]
fn logs_arrive_with_their_fields_in_each_form() {
    let (_broker, watch, agent) = start();
    let line = json!({
        "timestamp": "2026-03-01T10:00:00.250+09:00", "level": "CRITICAL", "service": "scorer", "message": "model is gone",
        "latency_ms": 12.5, "trace_id": "t-1", "context": {"requestId": "r-1", "user": {"id": 7}},
    });
    let answer = agent.post("/v1/logs", &line.to_string());
    assert_eq!((answer.status, answer.body.as_str()), (202, "1 taken\n"));
    let records = arrived(&watch, "logs", 1);
    let expected = json!({
        "timestamp": "2026-03-01T01:00:00.250Z", "level": "FATAL", "level_original": "CRITICAL",
        "service_name": "scorer", "message": "model is gone", "latency_ms": 12.5, "trace_id": "t-1", "request_id": "r-1",
        "fields": {"context.user.id": "7"},
    });
    assert_eq!(records, [expected]);

    let array = r#"[{"message":"a","level":"warn"},{"message":"b\nc\u0000"}]"#;
    assert_eq!(agent.post("/v1/logs", array).body, "2 taken\n");
    let records = arrived(&watch, "logs", 2);
    assert_eq!((&records[0]["level"], &records[1]["message"]), (&json!("WARN"), &json!("b\nc\u{0}")));

    assert_eq!(agent.post("/v1/logs", "{\"message\":\"x\"}\n{\"message\":\"日本\"}\r\n\n").body, "2 taken\n");
    let records = arrived(&watch, "logs", 3);
    assert_eq!((&records[0]["message"], &records[1]["message"]), (&json!("x"), &json!("日本")));
    assert_eq!(agent.metric(r#"utilizer_push_records_total{kind="logs"}"#), Some(5.0));
    assert_eq!(agent.metric(r#"utilizer_push_refused_total{kind="logs"}"#), Some(0.0));
}

#[test]
fn pipeline_metrics_arrive() {
    let (_broker, watch, agent) = start();
    let row = r#"{"job_id":"j-1","stage":"clustering","metric_name":"silhouette_score","metric_value":0.42,
                  "metadata":{"labels":["a","b"],"counts":[[1,2],[3,4]]},"recorded_at":"2026-03-01T10:00:00Z"}"#;
    assert_eq!(agent.post("/v1/pipeline", row).status, 202);
    let records = arrived(&watch, "pipeline", 1);
    let mut expected: Value = serde_json::from_str(row).unwrap();
    expected["recorded_at"] = "2026-03-01T10:00:00.000Z".into();
    assert_eq!(records, [expected]);
    let two = r#"[{"job_id":"j","stage":"s","metric_name":"m","metric_value":1},{"job_id":"j","stage":"s","metric_name":"n","metric_value":-2}]"#;
    assert_eq!(agent.post("/v1/pipeline", two).body, "2 taken\n");
    let records = arrived(&watch, "pipeline", 2);
    assert!(records.iter().all(|record| record["recorded_at"].is_string()), "{records:?}");
}

#[test]
fn what_can_not_be_taken_is_refused_with_a_sentence_and_disturbs_nothing() {
    let (_broker, watch, agent) = start();
    let long = "x".repeat(101);
    for (path, body, expected) in [
        ("/v1/logs", "{\"message\":".to_owned(), "the body is not JSON: "),
        ("/v1/logs", "message=a".to_owned(), "the body is not JSON: "),
        ("/v1/logs", String::new(), "the body holds no record; send one object"),
        ("/v1/logs", r#"[{"message":"a"},{"level":"INFO"}]"#.to_owned(), "record 2: message is missing\n"),
        ("/v1/logs", "{\"message\":\"a\"}\n7\n".to_owned(), "record 2: an object is needed, this is a number\n"),
        ("/v1/logs", r#"{"message":"a","timestamp":"soon"}"#.to_owned(), "record 1: timestamp soon is neither"),
        ("/v1/logs", "[".repeat(60_000), "recursion limit"),
        ("/v1/pipeline", row("j", "s", "m", "NaN"), "the body is not JSON: "),
        ("/v1/pipeline", row("j", "s", "m", "\"NaN\""), "record 1: metric_value is NaN; only finite numbers"),
        ("/v1/pipeline", row("j", "s", "m", "1e999"), "number out of range"),
        ("/v1/pipeline", row(&long, "s", "m", "1"), "record 1: job_id has 101 characters; its column holds 100\n"),
        ("/v1/pipeline", row("j", &long[..51], "m", "1"), "record 1: stage has 51 characters; its column holds 50\n"),
        ("/v1/pipeline", row("j", "s", &long, "1"), "record 1: metric_name has 101 characters; its column holds 100\n"),
        ("/v1/pipeline", r#"{"job_id":"j"}"#.to_owned(), "record 1: missing field `stage`"),
    ] {
        let answer = agent.post(path, &body);
        assert_eq!(answer.status, 400, "{path} {body:.100}: {}", answer.body);
        assert!(answer.body.contains(expected), "{path} {body:.100}: {}", answer.body);
    }
    assert_eq!(agent.metric(r#"utilizer_push_refused_total{kind="logs"}"#), Some(7.0));
    assert_eq!(agent.metric(r#"utilizer_push_refused_total{kind="pipeline"}"#), Some(7.0));

    // A refused push uses up no number.
    assert_eq!(agent.post("/v1/logs", r#"{"message":"fine"}"#).status, 202);
    assert_eq!(arrived(&watch, "logs", 1)[0]["message"], "fine");
    assert_eq!(watch.payloads("pipeline").len(), 0);
}

fn row(job: &str, stage: &str, metric: &str, value: &str) -> String {
    format!(r#"{{"job_id":"{job}","stage":"{stage}","metric_name":"{metric}","metric_value":{value}}}"#)
}

#[test]
fn a_body_over_the_bound_is_refused_however_it_comes() {
    let (_broker, watch, agent) = start();
    let address = agent.address();
    let head = "POST /v1/logs HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let refused = |answer: Answer| {
        assert_eq!(answer.status, 413, "{}", answer.body);
        assert_eq!(answer.body, "the body has more than 65536 bytes; send it in parts\n");
    };
    // Declared: refused before a byte of it was sent.
    refused(ask(address, format!("{head}content-length: 65537\r\n\r\n").as_bytes()));
    // Chunked: at the byte that is too many.
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    refused(ask(address, format!("{head}transfer-encoding: chunked\r\n\r\n{}1\r\ny\r\n", chunk.repeat(4)).as_bytes()));
    // At the bound it is taken.
    let message = json!({"message": "x".repeat(65_536 - r#"{"message":""}"#.len())}).to_string();
    assert_eq!(message.len(), 65_536);
    assert_eq!(agent.post("/v1/logs", &message).status, 202);
    arrived(&watch, "logs", 1);
    // What can't be read is not taken for something else.
    for (encoding, status) in [("gzip", 400), ("br", 415)] {
        let encoded = format!("{head}content-encoding: {encoding}\r\ncontent-length: 2\r\n\r\n\x1f\x08");
        assert_eq!(ask(address, encoded.as_bytes()).status, status, "{encoding}");
    }
}

/// A megabyte of log line.
fn large(address: SocketAddr) -> Answer {
    super::support::post(address, "/v1/logs", &json!({"message": "x".repeat(1_000_000)}).to_string())
}

#[test]
fn a_full_spool_refuses_pushes_and_declares_the_metrics_that_gave_way() {
    let broker = Mosquitto::start("persistence true");
    let watch = Watch::start(&broker);
    let agent = Setup::with_broker(&broker.url()).set("spool.max_bytes", "4MiB").set("spool.retry_after", "2s").start();
    watch.metrics(1);
    broker.stop();
    agent.says("no connection to the broker");

    // Readings wait before the pushes come, so that they have something to displace.
    agent.metric_becomes(r#"utilizer_spool_records{kind="metrics"}"#, |records| records >= 3.0);
    let address = agent.address();
    let mut taken = 0;
    let refused = loop {
        let answer = large(address);
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
    };
    assert!((3..=4).contains(&taken), "{taken} are taken");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    let expected =
        "the spool is full (4194304 bytes); try again when the exporters have caught up, or raise `spool.max_bytes`\n";
    assert_eq!(refused.body, expected);
    // Small ones fill the rest, and readings give way to them.
    let full = |dropped: f64| (dropped > 0.0).then_some(dropped);
    let dropped = wait_for("readings give way", || {
        for bytes in [20_000, 2_000, 200] {
            let small = json!({"message": "x".repeat(bytes)}).to_string();
            while super::support::post(address, "/v1/logs", &small).status == 202 {
                taken += 1;
            }
        }
        full(agent.metric(r#"utilizer_records_dropped_total{kind="metrics"}"#)?)
    });
    let bytes: f64 = ["metrics", "logs", "alerts", "pipeline", "jobs"]
        .map(|kind| agent.metric(&format!("utilizer_spool_bytes{{kind=\"{kind}\"}}")).unwrap())
        .iter()
        .sum();
    assert!(bytes <= agent.metric("utilizer_spool_limit_bytes").unwrap(), "{bytes}");
    assert_eq!(agent.get("/readyz").status, 200, "a spool that is full is no fault of the host");

    broker.again();
    let status = watch.wait("status", "the declared losses", |all| {
        all.iter().rev().find(|status| status.get("dropped").is_some()).cloned()
    });
    let losses: Vec<_> = status["dropped"].as_array().unwrap().to_vec();
    assert!(
        losses.iter().all(|loss| loss[0] == status["boot"] && loss[1] == "metrics" && loss[4] == "full"),
        "{status}"
    );
    let named: u64 = losses.iter().map(|loss| loss[3].as_u64().unwrap() - loss[2].as_u64().unwrap() + 1).sum();
    assert!(named as f64 >= dropped, "{status}");
    let seqs = |kind: &str| -> std::collections::BTreeSet<u64> {
        watch.payloads(kind).iter().map(|record| record["seq"].as_u64().unwrap()).collect()
    };
    wait_for("every push that was taken", || (seqs("logs").len() == taken).then_some(()));

    // Without a group of exporters, what the broker took is free: there is room again. Each number came or is declared.
    agent.metric_becomes(r#"utilizer_spool_records{kind="logs"}"#, |records| records == 0.0);
    let last = watch.payloads("metrics").last().unwrap()["seq"].as_u64().unwrap();
    let declared = |seq: u64| losses.iter().any(|loss| (loss[2].as_u64()..=loss[3].as_u64()).contains(&Some(seq)));
    wait_for("every reading that was taken", || {
        (1..=last).all(|seq| declared(seq) || seqs("metrics").contains(&seq)).then_some(())
    });
    wait_for("room for a push", || (large(address).status == 202).then_some(()));
}
