//! Programs and servers that go away, and come again.

use rustix::process::Signal;
use serde_json::{Value, json};
use test_servers::Postgres;

use super::site::{HOST, Site, clickhouse, postgres, wait_for};

fn job(number: u32) -> Value {
    json!({"job_id": "crash", "stage": "s", "metric_name": "m", "metric_value": number})
}

fn numbers(server: &Postgres, database: &str) -> Vec<u32> {
    let text = server.psql(
        database,
        "SELECT DISTINCT metric_value FROM recap_system_metrics WHERE job_id = 'crash' ORDER BY metric_value",
    );
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn rows_that_an_exporter_held_when_it_was_killed_arrive_after_its_restart() {
    let site = Site::new();
    let database = postgres().create_database();
    let file = site.postgres_exporter("a", &postgres().url(&database));
    let mut exporter = site.start_ready("utilizer-exporter-postgres", &file);
    // Nobody can write into the table: what comes in is received and not committed.
    let lock = postgres().session(&database, "LOCK TABLE recap_system_metrics IN ACCESS EXCLUSIVE MODE");
    let agent = site.start_ready("utilizer-agent", &site.agent().set("interval", "1h"));
    for number in 1..=5 {
        assert_eq!(agent.post("/v1/pipeline", &job(number).to_string()).status, 202);
    }
    wait_for("the exporter holds the records", || {
        (exporter.metric("utilizer_exporter_messages_received_total{kind=\"pipeline\"}") == Some(5.0)).then_some(())
    });
    // PostgreSQL answers nothing for as long as it waits for the lock, and a killed exporter answers no more.
    exporter.kill();
    drop(lock);
    assert!(numbers(postgres(), &database).is_empty(), "nothing was committed");
    let _again = site.start("utilizer-exporter-postgres", &file, &[]);
    wait_for("all of them arrive", || (numbers(postgres(), &database) == [1, 2, 3, 4, 5]).then_some(()));
}

#[test]
fn an_exporter_waits_for_its_database_at_start_and_in_the_middle_and_nothing_is_lost() {
    let server = Postgres::start();
    let database = server.create_database();
    server.kill();
    let site = Site::new();
    let file = site.postgres_exporter("a", &server.url(&database));
    let exporter = site.start("utilizer-exporter-postgres", &file, &[]);
    exporter.says(format!("connecting to postgres at 127.0.0.1:{}/{database}", server.port()));
    exporter.says("trying again for as long as it takes");
    let health = exporter.get("/readyz");
    assert_eq!(health.status, 503, "{}", health.body);
    assert!(health.body.contains("postgres at 127.0.0.1:"), "{}", health.body);
    assert_eq!(exporter.get("/healthz").status, 200);
    server.again();
    exporter.ready();

    let messages = site.subscribe("utilizer/v1/telemetry/+/metrics");
    let agent = site.start_ready("utilizer-agent", &site.agent());
    let send = |number| assert_eq!(agent.post("/v1/pipeline", &job(number).to_string()).status, 202);
    send(1);
    wait_for("a record arrives", || (numbers(&server, &database) == [1]).then_some(()));
    server.kill();
    let published = messages.messages().len();
    (2..=20).for_each(send);
    exporter.wait_for("/readyz tells of the outage", |exporter| (exporter.get("/readyz").status == 503).then_some(()));
    wait_for("agent and broker go on", || (messages.messages().len() >= published + 2).then_some(()));
    server.again();
    wait_for("everything arrives", || (numbers(&server, &database) == (1..=20).collect::<Vec<_>>()).then_some(()));
    exporter.ready();
    let gaps = server.psql(
        &database,
        &format!(
            "SELECT count(*) FROM (SELECT recorded_at - lag(recorded_at) OVER (ORDER BY recorded_at) AS gap \
             FROM recap_system_metrics WHERE job_id = 'host:{HOST}' AND metric_name = 'memory_percent') AS spans \
             WHERE gap > interval '1.9 s'"
        ),
    );
    assert_eq!(gaps, "0", "the intervals of the outage are there as well");
}

/// mosquitto 2.0 comes back from its disk with sessions, says that they are there, and has forgotten their shared
/// subscriptions.
#[test]
fn after_a_restart_of_the_broker_lines_that_waited_and_new_ones_arrive() {
    let site = Site::new();
    let exporter = site.start_ready("utilizer-exporter-clickhouse", &site.clickhouse_exporter());
    let agent = site.start_ready("utilizer-agent", &site.agent());
    let send = |number: u32| {
        let line = json!({"level": "INFO", "message": format!("line {number}")});
        assert_eq!(agent.post("/v1/logs", &line.to_string()).status, 202);
    };
    let lines = || {
        let sql = "SELECT uniqExact(message) AS n FROM logs";
        let answer: Value = serde_json::from_str(&clickhouse().query(&site.clickhouse_database, sql)).unwrap();
        answer["n"].as_u64().unwrap()
    };
    send(1);
    wait_for("a line arrives", || (lines() == 1).then_some(()));
    site.broker.stop();
    exporter.wait_for("/readyz tells of the outage", |exporter| (exporter.get("/readyz").status == 503).then_some(()));
    (2..=10).for_each(send);
    // What a broker gets before the exporter is back goes nowhere, until agents wait for their exporters' confirmation.
    agent.signal(Signal::STOP);
    site.broker.again();
    exporter.ready();
    agent.signal(Signal::CONT);
    wait_for("the lines that waited arrive", || (lines() == 10).then_some(()));
    send(11);
    wait_for("a new line arrives", || (lines() == 11).then_some(()));
}
