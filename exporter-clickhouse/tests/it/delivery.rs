//! Rows are there once, whatever was cut off, repeated, or half written.

use std::time::Duration;

use exporter::lines::LogRows;
use exporter::rows::{Batch, Record, Rows};
use exporter::sink::Sink;
use serde_json::json;
use utilizer_exporter_clickhouse::{ClickHouse, ClickHouseConfig};

use crate::rows::{alert, at, batch, line, lines, now};
use crate::server::Server;
use crate::{config, expect, open};

const COUNT: &str = "SELECT count() FROM logs";

/// A record for each line.
fn apart(batch: Batch) -> Batch {
    let one = |record: &Record, rows| Record { origin: record.origin.clone(), rows };
    let records = batch.records.iter().flat_map(|record| match &record.rows {
        Rows::Logs(rows) => rows.iter().map(|row| one(record, Rows::Logs(vec![row.to_row()].into()))).collect(),
        rows => vec![one(record, rows.clone())],
    });
    Batch { records: records.collect(), ..batch }
}

#[tokio::test]
async fn the_token_and_not_the_text_tells_batches_apart() {
    let server = Server::shared();
    let mut sink = open(server, "tokens").await;
    let first = lines([line("a-1-0"), line("a-1-1")]);
    for _ in 0..2 {
        sink.write(&first).await.unwrap();
    }
    assert_eq!(server.count("tokens", COUNT).await, 2);
    // The missing rows of a batch go under a token of their own.
    sink.write(&Batch { token: format!("{}-missing", first.token), ..first }).await.unwrap();
    assert_eq!(server.count("tokens", COUNT).await, 4);
}

#[tokio::test]
async fn what_was_encoded_ahead_is_the_same_insert() {
    let server = Server::shared();
    let mut sink = open(server, "ahead").await;
    let batch = Batch { written_at: at("2026-11-21T22:30:10Z"), ..lines((0..300).map(|n| line(&format!("a-1-{n}")))) };
    let encoded = || ClickHouse::encode(&batch.records.iter().collect::<Vec<_>>());
    for _ in 0..2 {
        sink.write_encoded(&batch, encoded()).await.unwrap();
        sink.write(&batch).await.unwrap();
    }
    let arrived = server.ask(
        "ahead",
        "SELECT count() AS lines, uniq(event_id) AS ids, toUnixTimestamp(any(ingested_at)) AS at FROM logs",
    );
    assert_eq!(arrived.await, [json!({"lines": 300, "ids": 300, "at": batch.written_at.as_millis() / 1000})]);
}

/// The partition goes by the day of arrival, within which alone tokens are compared: a batch keeps its day.
#[tokio::test]
async fn a_batch_of_yesterday_is_known_today() {
    let server = Server::shared();
    let mut sink = open(server, "midnight_passed").await;
    let yesterday = Batch { written_at: now().minus(Duration::from_secs(86_400)), ..lines([line("a-1-0")]) };
    sink.write(&yesterday).await.unwrap();
    open(server, "midnight_passed").await.write(&yesterday).await.unwrap();
    assert_eq!(server.count("midnight_passed", COUNT).await, 1);
    let arrived = server.ask("midnight_passed", "SELECT toUnixTimestamp(ingested_at) AS at FROM logs").await;
    assert_eq!(arrived, [json!({"at": yesterday.written_at.as_millis() / 1000})]);
    assert_eq!(sink.look_up(&yesterday).await.unwrap(), [true]);
}

#[tokio::test]
async fn a_look_up_tells_which_records_are_there() {
    let server = Server::shared();
    let mut sink = open(server, "looked_up").await;
    let mut far = line("a-1-2");
    far.timestamp = at("1066-10-14T09:00:00.000Z");
    let whole = apart(batch(vec![line("a-1-0"), line("a-1-1"), far], vec![alert("a-1-0"), alert("a-2-0")]));
    assert_eq!(sink.look_up(&whole).await.unwrap(), [false; 5]);
    let part = |places: &[usize]| {
        let records = places.iter().map(|place| whole.records[*place].clone()).collect();
        Batch { token: format!("{}-{places:?}", whole.token), records, ..whole.clone() }
    };
    sink.write(&part(&[0, 3])).await.unwrap();
    assert_eq!(sink.look_up(&whole).await.unwrap(), [true, false, false, true, false]);
    // The same numbers of another host, and of another time, are other rows.
    let mut other = line("a-1-1");
    other.host = "web-02".into();
    sink.write(&lines([other])).await.unwrap();
    let earlier = Batch { written_at: whole.written_at.minus(Duration::from_secs(60)), ..part(&[1]) };
    sink.write(&earlier).await.unwrap();
    assert_eq!(sink.look_up(&whole).await.unwrap(), [true, false, false, true, false]);
    sink.write(&part(&[2, 4])).await.unwrap();
    assert_eq!(sink.look_up(&whole).await.unwrap(), [true, false, true, true, true]);
    // A record is there when all its rows are; one without rows has none to miss.
    let together = Batch { token: "together".into(), ..batch(vec![line("a-1-0"), line("a-1-1")], vec![]) };
    let mut together = Batch { written_at: whole.written_at, ..together };
    together.records.push(Record { rows: Rows::Logs(LogRows::default()), ..together.records[0].clone() });
    assert_eq!(sink.look_up(&together).await.unwrap(), [false, true]);
}

/// An answer that does not come says nothing about the insert.
#[tokio::test]
async fn an_insert_that_still_runs_is_neither_repeated_nor_looked_past() {
    let directory = tempfile::tempdir().unwrap();
    let slow = directory.path().join("slow");
    let server = Server::start(&["--slow", slow.to_str().unwrap()]);
    let mut sink = open(&server, "slow").await;
    let first = lines([line("a-1-0")]);
    std::fs::write(&slow, "before 4").unwrap();
    let cut = tokio::time::timeout(Duration::from_millis(500), sink.write(&first)).await;
    assert!(cut.is_err(), "it was to be slow: {cut:?}");
    std::fs::remove_file(&slow).unwrap();
    let text = expect(sink.write(&first).await, "retry");
    assert!(text.contains("already running"), "{text}");
    let text = expect(sink.look_up(&first).await, "retry");
    assert!(text.contains("still runs"), "{text}");
    let found = loop {
        match sink.look_up(&first).await {
            Ok(found) => break found,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(found, [true]);
    sink.write(&first).await.unwrap();
    assert_eq!(server.count("slow", COUNT).await, 1);
}

#[tokio::test]
async fn a_batch_of_several_inserts_is_finished_by_its_retry() {
    let server = Server::shared();
    let config = ClickHouseConfig { connections: 3, ..config(server, "pieces") };
    let mut sink = ClickHouse::new(config);
    sink.open().await.unwrap();
    let whole = lines((0..110_000).map(|n| line(&format!("a-1-{n}"))));
    // As after a crash between the first insert and the others.
    let Rows::Logs(rows) = &whole.records[0].rows else { panic!("lines") };
    let first = rows.iter().take(utilizer_exporter_clickhouse::PIECE).map(|row| row.to_row());
    let first = Rows::Logs(first.collect());
    let first = vec![Record { rows: first, ..whole.records[0].clone() }];
    sink.write(&Batch { records: first, ..whole.clone() }).await.unwrap();
    assert_eq!(server.count("pieces", COUNT).await, 50_000);
    assert_eq!(sink.look_up(&whole).await.unwrap(), [false]);
    sink.write(&whole).await.unwrap();
    assert_eq!(server.count("pieces", "SELECT uniqExact(event_id) FROM logs").await, 110_000);
    assert_eq!(server.count("pieces", COUNT).await, 110_000);
    assert_eq!(sink.look_up(&whole).await.unwrap(), [true]);
}

/// A target of a view knows a repeated insert as the table does, if it has a window too.
#[tokio::test]
async fn a_repeated_insert_is_known_in_a_views_target() {
    let server = Server::shared();
    let mut sink = open(server, "views").await;
    server
        .run(
            "views",
            "CREATE TABLE errors (event_id String) ENGINE = MergeTree ORDER BY event_id \
             SETTINGS non_replicated_deduplication_window = 1000",
        )
        .await;
    server.run("views", "CREATE MATERIALIZED VIEW to_errors TO errors AS SELECT event_id FROM logs").await;
    let first = lines([line("a-1-0"), line("a-1-1")]);
    for _ in 0..3 {
        sink.write(&first).await.unwrap();
    }
    assert_eq!(server.count("views", COUNT).await, 2);
    assert_eq!(server.count("views", "SELECT count() FROM errors").await, 2);
}

#[tokio::test]
async fn a_look_up_reads_little() {
    let server = Server::shared();
    open(server, "little").await;
    // An hour of arrivals, a thousand lines each second, each written a little before.
    server
        .run(
            "little",
            "INSERT INTO logs (host, event_id, ingested_at, timestamp) SELECT 'web-01', toString(number), \
             toDateTime('2026-11-21 10:00:00') + intDiv(number, 1000) AS at, toDateTime64(at, 3) - number % 7 \
             FROM numbers(3600000) SETTINGS max_insert_threads = 1",
        )
        .await;
    server.run("little", "OPTIMIZE TABLE logs FINAL").await;
    let plan = "EXPLAIN ESTIMATE SELECT host, event_id FROM logs \
                WHERE ingested_at = toDateTime('2026-11-21 10:30:00')";
    let marks = server.ask("little", plan).await[0]["marks"].as_u64().unwrap();
    assert!(marks <= 5, "{marks} of 440 granules");
}

#[tokio::test]
async fn a_database_of_the_version_before_keeps_its_rows() {
    let server = Server::shared();
    server.run("default", "CREATE DATABASE before").await;
    for sql in [
        include_str!("../../migrations/0001_logs.sql"),
        include_str!("../../migrations/0002_alerts.sql"),
        include_str!("../../migrations/0003_otel_logs.sql"),
        "CREATE TABLE utilizer_schema_migrations (version UInt32, name String, applied_at DateTime DEFAULT now()) \
         ENGINE = MergeTree ORDER BY version",
        "INSERT INTO utilizer_schema_migrations (version, name) VALUES (1, 'logs'), (2, 'alerts'), (3, 'otel_logs')",
        "INSERT INTO logs (host, event_id) VALUES ('web-01', 'old')",
    ] {
        server.run("before", sql).await;
    }
    let mut sink = ClickHouse::new(config(server, "before"));
    assert_eq!(sink.migrate().await.unwrap(), 5);
    let new = lines([line("a-1-0")]);
    sink.write(&new).await.unwrap();
    assert_eq!(sink.look_up(&new).await.unwrap(), [true]);
    assert_eq!(server.count("before", COUNT).await, 2);
}

/// What the hourly statistics count, what rows there are, and how many of them are different.
async fn counted(server: &Server, database: &str) -> [u64; 3] {
    let mut counted = [0; 3];
    for (count, query) in counted.iter_mut().zip([
        "SELECT sum(count) FROM logs_hourly",
        "SELECT count(event_id) FROM logs",
        "SELECT uniqExact(event_id) FROM logs",
    ]) {
        *count = server.count(database, query).await;
    }
    counted
}

#[tokio::test]
async fn the_hourly_statistics_count_each_row_once() {
    let server = Server::shared();
    let mut sink = open(server, "hourly").await;
    let rows = |range: std::ops::Range<u32>| {
        lines(range.map(|n| {
            let mut line = line(&format!("a-1-{n}"));
            line.timestamp =
                at(["1066-10-14T09:00:00Z", "2026-11-21T10:59:59.999Z", "2026-11-21T11:00:00Z"][n as usize % 3]);
            line.level = if n % 2 == 0 { "ERROR" } else { "INFO" };
            line.latency_ms = (n % 3 != 0).then_some(f64::from(n));
            line
        }))
    };
    let first = rows(0..60);
    for _ in 0..3 {
        sink.write(&first).await.unwrap();
    }
    // Half of a batch is there: the rest goes under a token of its own.
    let whole = apart(rows(60..90));
    let part = |range: std::ops::Range<usize>, token: &str| {
        let records = whole.records.get(range).unwrap_or_default().to_vec();
        Batch { token: format!("{}{token}", whole.token), records, ..whole.clone() }
    };
    sink.write(&part(0..10, "")).await.unwrap();
    assert_eq!(sink.look_up(&whole).await.unwrap().iter().filter(|there| **there).count(), 10);
    sink.write(&part(10..30, "-missing")).await.unwrap();
    assert_eq!(counted(server, "hourly").await, [90; 3]);
    let plan = server.ask("hourly", "EXPLAIN SELECT sum(count) FROM logs_hourly").await;
    assert!(plan.iter().any(|row| row.to_string().contains("ReadFromMergeTree (hourly)")), "{plan:?}");
    let hours = "SELECT toString(hour) AS hour, sum(count) AS lines, sumIf(count, level = 'ERROR') AS errors, \
                 sum(latency_count) AS timed, quantilesTDigestMerge(0.5, 0.95, 0.99)(latency)[1] AS p50 \
                 FROM logs_hourly GROUP BY hour ORDER BY hour";
    let hours = server.ask("hourly", hours).await;
    let hour = |row: usize| (hours[row]["hour"].clone(), hours[row]["lines"].clone(), hours[row]["errors"].clone());
    assert_eq!(hours.len(), 3);
    assert_eq!(hour(0), (json!("1970-01-01 00:00:00"), json!(30), json!(15)), "the first hour that it holds");
    assert_eq!(hour(1), (json!("2026-11-21 10:00:00"), json!(30), json!(15)));
    assert_eq!((&hours[1]["timed"], &hours[0]["timed"]), (&json!(30), &json!(0)));
    let p50 = hours[1]["p50"].as_f64().unwrap();
    assert!((40.0..=50.0).contains(&p50), "{p50}");
    let parts = "SELECT uniqExact(partition) FROM system.parts WHERE database = 'hourly' AND table = 'logs' AND active";
    assert_eq!(server.count("hourly", parts).await, 1);
    server.run("hourly", "OPTIMIZE TABLE logs FINAL").await;
    assert_eq!(counted(server, "hourly").await, [90; 3]);
    server.run("hourly", "ALTER TABLE logs DELETE WHERE level = 'ERROR' SETTINGS mutations_sync = 1").await;
    assert_eq!(counted(server, "hourly").await, [45; 3]);
}

/// As the tier does: after a crash it looks up what of its batch is there, and sends what is not under a token of its own.
#[tokio::test]
async fn a_server_that_is_killed_in_inserts_neither_loses_nor_doubles_a_row_or_its_count() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let mut expected = 0;
    for round in 0..3_u64 {
        let server = Server::start(&["--data", data]);
        let mut sink = open(&server, "killed").await;
        let whole = apart(lines((0..2000).map(|n| line(&format!("a-{round}-{n}")))));
        let pause = Duration::from_millis(round * 30);
        let batch = whole.clone();
        let writing = tokio::spawn(async move { sink.write(&batch).await });
        tokio::time::sleep(pause).await;
        server.kill();
        let _ = writing.await.unwrap();

        let server = Server::start(&["--data", data]);
        let mut sink = open(&server, "killed").await;
        let there = sink.look_up(&whole).await.unwrap();
        let missing: Vec<Record> =
            whole.records.iter().zip(&there).filter(|(_, there)| !**there).map(|(record, _)| record.clone()).collect();
        if !missing.is_empty() {
            let token = if missing.len() == whole.records.len() { "" } else { "-missing" };
            let token = format!("{}{token}", whole.token);
            sink.write(&Batch { token, records: missing, ..whole.clone() }).await.unwrap();
        }
        expected += 2000;
        assert_eq!(counted(&server, "killed").await, [expected; 3], "round {round}");
    }
}
