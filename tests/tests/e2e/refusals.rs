//! What is wrong is refused with a sentence, and disturbs nothing else.

use serde_json::{Value, json};
use test_servers::Program;

use super::site::{Site, clickhouse, postgres, wait_for};

#[test]
fn a_wrong_password_of_the_broker_is_named_and_not_shown() {
    let site = Site::new();
    let wrong = site.path("wrong");
    std::fs::write(&wrong, "hush-hush\n").unwrap();
    let agent = site.start("utilizer-agent", &site.agent().set("mqtt.password_file", wrong.as_str()), &[]);
    let file = site.sqlite_exporter(&site.path("metrics.db")).set("mqtt.password_file", wrong.as_str());
    let exporter = site.start("utilizer-exporter-sqlite", &file, &[]);
    for program in [&agent, &exporter] {
        program.wait_for("it says that it may not connect", |program| {
            let log = program.log();
            (log.contains(&site.broker.url()["mqtt://".len()..]) && log.contains("ot authorized")).then_some(())
        });
        assert!(!program.log().contains("hush"), "the password is in the log");
    }
    // The host is watched all the same, and the exporter says that it does not work.
    assert_eq!(agent.get("/metrics").status, 200);
    assert_eq!(agent.metric("utilizer_mqtt_connected"), Some(0.0));
    let health = exporter.get("/readyz");
    assert!(health.status == 503 && health.body.contains("ot authorized"), "{health:?}");
}

#[test]
fn a_wrong_password_of_a_database_ends_the_exporter_with_a_sentence() {
    let site = Site::new();
    let database = postgres().create_database();
    let url = postgres().url(&database).replace(postgres().password(), "hush-hush");
    let file = site.postgres_exporter("a", &url);
    for arguments in [&[][..], &["migrate"]] {
        let mut exporter = site.start("utilizer-exporter-postgres", &file, arguments);
        assert_eq!(exporter.ended(), Some(1), "waiting mends no password");
        let log = exporter.log();
        assert!(log.contains("connecting to postgres at 127.0.0.1:") && log.contains("password"), "{log}");
        assert!(!log.contains("hush"), "{log}");
    }
    // The configuration as such is good.
    let mut check = site.start("utilizer-exporter-postgres", &file, &["check"]);
    assert_eq!(check.ended(), Some(0), "{}", check.log());
}

#[test]
fn faults_of_a_configuration_are_named_with_their_place_before_anything_runs() {
    let site = Site::new();
    let database = postgres().url("postgres");
    let files = [
        ("utilizer-agent", site.agent()),
        ("utilizer-exporter-postgres", site.postgres_exporter("a", &database)),
        ("utilizer-exporter-clickhouse", site.clickhouse_exporter()),
        ("utilizer-exporter-sqlite", site.sqlite_exporter(&site.path("metrics.db"))),
    ];
    for (name, file) in files {
        for (key, value, parts) in [
            ("mqtt.usrename", toml::Value::from("me"), ["usrename", "username"]),
            ("mqtt.url", toml::Value::from(7), ["mqtt.url", "7"]),
            ("mqtt.url", toml::Value::from("broker"), ["mqtt.url", "mqtt://"]),
            ("serve.listen", toml::Value::from("everywhere"), ["serve.listen", "everywhere"]),
        ] {
            for arguments in [&[][..], &["check"]] {
                let mut program = site.start(name, &file.clone().set(key, value.clone()), arguments);
                assert_eq!(program.ended(), Some(2), "{name}, {key} = {value}: {}", program.log());
                let log = program.log();
                assert!(
                    log.contains(".toml:") && parts.iter().all(|part| log.contains(part)),
                    "{key}, {parts:?}: {log}"
                );
            }
        }
        let mut check = site.start(name, &file, &["check"]);
        assert_eq!(check.ended(), Some(0), "{}", check.log());
    }
}

#[test]
fn a_broker_that_is_not_there_is_named_and_waited_for() {
    let site = Site::new();
    let agent = site.agent();
    let exporter = site.sqlite_exporter(&site.path("metrics.db"));
    site.broker.stop();
    let agent = site.start("utilizer-agent", &agent, &[]);
    let exporter = site.start("utilizer-exporter-sqlite", &exporter, &[]);
    for program in [&agent, &exporter] {
        program.says(site.broker.url());
        program.says("refused");
        program.says("trying again");
    }
    assert_eq!(exporter.get("/readyz").status, 503);
    site.broker.again();
    exporter.ready();
    agent.wait_for("it is connected", |agent| (agent.metric("utilizer_mqtt_connected") == Some(1.0)).then_some(()));
}

/// Messages that nobody sends who means well, each with the reason that its dead letter gives and a part of its detail.
fn bad_messages() -> Vec<(&'static str, String, &'static str, &'static str)> {
    const TOPIC: &str = "utilizer/v1/telemetry/web-02/pipeline";
    let message =
        |records: Value| json!({"v": 1, "host": "web-02", "time": "2026-11-21T10:00:00Z", "records": records});
    let record = |field: &str, value: Value| {
        let mut record = json!({"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 1});
        record[field] = value;
        message(json!([record])).to_string()
    };
    let good = message(json!([{"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 1}]));
    let with = |field: &str, value: Value| {
        let mut message = good.clone();
        message[field] = value;
        message.to_string()
    };
    vec![
        (TOPIC, r#"{"v":1,"host":"web-02","#.to_owned(), "payload", "EOF"),
        (TOPIC, String::new(), "payload", ""),
        (TOPIC, "[]".to_owned(), "payload", ""),
        (TOPIC, with("records", json!("none")), "payload", "expected a sequence"),
        (TOPIC, record("metric_value", json!(1)).replace(":1}", ":NaN}"), "payload", ""),
        ("utilizer/v1/telemetry/we b/pipeline", with("host", json!("we b")), "topic", "' '"),
        (TOPIC, with("host", json!("web-03")), "host", "web-03"),
        (TOPIC, with("v", json!(99)), "version", "99"),
        (TOPIC, record("metric_value", json!("NaN")), "row", "NaN"),
        (TOPIC, record("metric_value", json!("+Inf")), "row", "inf"),
        (TOPIC, record("job_id", json!("x".repeat(101))), "row", "job_id has 101 characters"),
        (TOPIC, record("stage", json!("x".repeat(51))), "row", "stage has 51 characters"),
        (TOPIC, record("metric_name", json!("x".repeat(101))), "row", "metric_name has 101 characters"),
        (TOPIC, record("metadata", json!({"text": "a\0b"})), "row", "U+0000"),
        ("utilizer/v1/telemetry/web-02/metrics", "{}".to_owned(), "payload", ""),
    ]
}

#[test]
fn messages_that_cannot_be_taken_are_dead_letters_and_the_next_good_one_arrives() {
    let site = Site::new();
    let database = postgres().create_database();
    let exporter =
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &postgres().url(&database)));
    let letters = || -> Vec<Value> {
        let text = std::fs::read_to_string(site.path("a/postgres/dead-letters.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (number, (topic, payload, reason, detail)) in bad_messages().into_iter().enumerate() {
        site.publish(topic, &payload);
        good_record_arrives(&site, &database, number);
        let letters = letters();
        assert_eq!(letters.len(), number + 1, "{payload}\n{letters:#?}");
        let letter = &letters[number];
        assert_eq!((letter["topic"].as_str(), letter["reason"].as_str()), (Some(topic), Some(reason)), "{letter}");
        assert!(letter["detail"].as_str().unwrap().contains(detail), "{letter}");
    }
    let counted = |exporter: &Program, reason: &str| {
        exporter.metric(&format!("utilizer_exporter_dead_letters_total{{reason=\"{reason}\"}}"))
    };
    assert_eq!(counted(&exporter, "topic"), Some(1.0));
    assert_eq!(counted(&exporter, "row"), Some(6.0));
    let strays = postgres().psql(&database, "SELECT count(*) FROM recap_system_metrics WHERE job_id <> 'good'");
    assert_eq!(strays, "0");
}

fn good_record_arrives(site: &Site, database: &str, number: usize) {
    let record = json!([{"job_id": "good", "stage": "s", "metric_name": "m", "metric_value": number}]);
    site.publish_records("web-02", &record);
    wait_for("the good record after a bad one", || {
        let sql =
            format!("SELECT count(*) FROM recap_system_metrics WHERE metric_value = {number} AND job_id = 'good'");
        (postgres().psql(database, &sql) == "1").then_some(())
    });
}

#[test]
fn in_one_message_good_records_are_written_beside_refused_ones() {
    let site = Site::new();
    let database = postgres().create_database();
    let _exporter =
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &postgres().url(&database)));
    let record = |job: &str, value: Value, time: &str| json!({"job_id": job, "stage": "s", "metric_name": "m", "metric_value": value, "recorded_at": time});
    let now = jiff::Timestamp::now().to_string();
    site.publish_records(
        "web-02",
        &json!([
            record("now", json!(1), &now),
            record(&"x".repeat(101), json!(2), &now),
            record("old", json!(3), "1970-01-01T00:00:00Z"),
            record("nan", json!("NaN"), &now),
            record("far", json!(4), "2099-12-31T23:59:59.999Z"),
        ]),
    );
    let rows = wait_for("the good ones are there", || {
        let rows = postgres().psql(
            &database,
            "SELECT job_id, metric_value, metadata->>'original_time', tableoid::regclass = 'recap_system_metrics_default'::regclass \
             FROM recap_system_metrics ORDER BY id",
        );
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!(rows, "now|1||f\nold|3|1970-01-01T00:00:00.000Z|t\nfar|4|2099-12-31T23:59:59.999Z|t");
}

#[test]
fn a_bad_message_on_logs_disturbs_no_other_line() {
    let site = Site::new();
    let exporter = site.start_ready("utilizer-exporter-clickhouse", &site.clickhouse_exporter());
    let line = |text: &str, time: &str| {
        let records = json!([{"timestamp": time, "level": "INFO", "message": text}]);
        json!({"v": 1, "host": "web-02", "time": "2026-11-21T10:00:00Z", "records": records}).to_string()
    };
    const TOPIC: &str = "utilizer/v1/telemetry/web-02/logs";
    for payload in ["{", &line("no time", "yesterday")] {
        site.publish(TOPIC, payload);
    }
    for (text, time) in
        [("old", "1970-01-01T00:00:00Z"), ("far", "2099-01-01T00:00:00Z"), ("ok", "2026-11-21T10:00:00Z")]
    {
        site.publish(TOPIC, &line(text, time));
    }
    let found = wait_for("the good lines are in logs", || {
        let sql = "SELECT message, toString(timestamp) AS at FROM logs ORDER BY timestamp";
        let text = clickhouse().query(&site.clickhouse_database, sql);
        (text.lines().count() == 3).then_some(text)
    });
    let lines: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            json!({"message": "old", "at": "1970-01-01 00:00:00.000"}),
            json!({"message": "ok", "at": "2026-11-21 10:00:00.000"}),
            json!({"message": "far", "at": "2099-01-01 00:00:00.000"}),
        ]
    );
    assert_eq!(exporter.metric("utilizer_exporter_dead_letters_total{reason=\"payload\"}"), Some(2.0));
}
