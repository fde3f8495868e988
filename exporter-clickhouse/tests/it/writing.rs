//! What is written comes back, once.

use exporter::rows::Batch;
use exporter::sink::Sink;
use serde_json::{Value, json};

use crate::open;
use crate::rows::{alert, at, batch, line, lines};
use crate::server::Server;

#[tokio::test]
async fn every_column_of_a_line_comes_back() {
    let server = Server::shared();
    let mut sink = open(server, "columns").await;
    let mut full = line("0193f9c2-1-0");
    full.timestamp = at("2026-11-21T22:30:10.123Z");
    full.level = "FATAL";
    full.level_original = "CRITICAL".into();
    full.service_name = "zahlung".into();
    full.message = "Überlauf: 支払い失敗 💥\tund\n\"mehr\" \\ 'Zitat' \0 Ende".into();
    full.latency_ms = Some(12.5);
    full.host = "web-02".into();
    full.logger = "app.db".into();
    full.environment = "production".into();
    full.category = "audit".into();
    full.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736".into();
    full.request_id = "r-1".into();
    full.fields = vec![("größe".into(), "ünï".into()), ("leer".into(), String::new()), ("user.id".into(), "7".into())];
    let mut long = line("0193f9c2-1-1");
    long.message = "x".repeat(300_000);
    sink.write(&lines([full, long])).await.unwrap();

    let rows = server.ask("columns", "SELECT * EXCEPT ingested_at FROM logs WHERE event_id LIKE '%-0'").await;
    let expected = json!({
        "timestamp": "2026-11-21 22:30:10.123",
        "level": "FATAL",
        "service_name": "zahlung",
        "message": "Überlauf: 支払い失敗 💥\tund\n\"mehr\" \\ 'Zitat' \0 Ende",
        "latency_ms": 12.5,
        "host": "web-02",
        "logger": "app.db",
        "environment": "production",
        "category": "audit",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "request_id": "r-1",
        "fields": {"größe": "ünï", "leer": "", "user.id": "7"},
        "event_id": "0193f9c2-1-0",
        "level_original": "CRITICAL",
    });
    assert_eq!(rows, [expected]);
    let rest = "SELECT latency_ms, length(message) AS size, fields, abs(now() - ingested_at) < 600 AS fresh \
                FROM logs WHERE event_id LIKE '%-1'";
    assert_eq!(
        server.ask("columns", rest).await,
        [json!({"latency_ms": null, "size": 300_000, "fields": {}, "fresh": 1})]
    );
}

#[tokio::test]
async fn all_levels_are_kept() {
    let server = Server::shared();
    let mut sink = open(server, "levels").await;
    let levels = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let rows = levels.iter().enumerate().map(|(n, level)| {
        let mut line = line(&format!("a-1-{n}"));
        line.level = level;
        line
    });
    sink.write(&lines(rows)).await.unwrap();
    let rows = server.ask("levels", "SELECT level FROM logs ORDER BY event_id").await;
    assert_eq!(rows, levels.map(|level| json!({"level": level})));
}

#[tokio::test]
async fn every_column_of_an_alert_comes_back() {
    let server = Server::shared();
    let mut sink = open(server, "alerts").await;
    let mut resolved = alert("a-2-0");
    resolved.state = "resolved";
    resolved.value = None;
    resolved.resolved_at = Some(at("2026-11-21T10:05:00.000Z"));
    sink.write(&batch(Vec::new(), vec![alert("a-1-0"), resolved])).await.unwrap();
    let rows = server.ask("alerts", "SELECT * EXCEPT ingested_at FROM alerts ORDER BY event_id").await;
    let expected = json!({
        "time": "2026-11-21 10:00:00.500",
        "host": "web-01",
        "alert_name": "HighCpu",
        "state": "firing",
        "severity": "critical",
        "labels": {"alertname": "HighCpu", "core": "3"},
        "annotations": {"summary": "CPU hot: 91 % 🔥"},
        "value": 91.25,
        "active_at": "2026-11-21 09:55:00.000",
        "resolved_at": null,
        "fingerprint": "00ff00ff00ff00ff",
        "event_id": "a-1-0",
    });
    assert_eq!(rows[0], expected);
    assert_eq!(rows[1]["value"], Value::Null);
    assert_eq!(rows[1]["resolved_at"], "2026-11-21 10:05:00.000");
}

#[tokio::test]
async fn the_same_batch_twice_is_there_once() {
    let server = Server::shared();
    let mut sink = open(server, "twice").await;
    let first = lines([line("a-1-0"), line("a-1-1")]);
    sink.write(&first).await.unwrap();
    sink.write(&first).await.unwrap();
    assert_eq!(server.count("twice", "SELECT count() FROM logs").await, 2);
    // The token decides, whichever process sends it.
    open(server, "twice").await.write(&first).await.unwrap();
    assert_eq!(server.count("twice", "SELECT count() FROM logs").await, 2);
    // Equal text is no reason to drop a line.
    let mut twin = line("a-2-0");
    twin.message = "served a-1-0".into();
    sink.write(&lines([twin])).await.unwrap();
    assert_eq!(server.count("twice", "SELECT count() FROM logs").await, 3);
}

/// Why the sink fixes `ingested_at` per batch: should this ever fail, the server compares across partitions, and the
/// sink may leave the time to the column's default.
#[tokio::test]
async fn the_server_compares_tokens_within_a_partition_only() {
    let server = Server::shared();
    open(server, "midnight").await;
    for (day, rows) in [("2026-11-20", 1), ("2026-11-20", 1), ("2026-11-21", 2)] {
        let insert = format!(
            "INSERT INTO logs (event_id, ingested_at) SETTINGS insert_deduplication_token = 'same' \
             FORMAT TabSeparated\na-1-0\t{day} 12:00:00\n"
        );
        server.run("midnight", &insert).await;
        assert_eq!(server.count("midnight", "SELECT count() FROM logs").await, rows, "{day}");
    }
}

#[tokio::test]
async fn a_large_batch_is_one_part() {
    let server = Server::shared();
    let mut sink = open(server, "large").await;
    let rows = (0..20_000).map(|n| {
        let mut line = line(&format!("a-1-{n}"));
        line.message = "a line of usual length, ".repeat(1 + n % 10);
        line.fields = vec![("n".into(), n.to_string()), ("path".into(), "/api/v1/items".into())];
        line
    });
    sink.write(&lines(rows)).await.unwrap();
    assert_eq!(server.count("large", "SELECT uniqExact(event_id) FROM logs").await, 20_000);
    assert_eq!(server.count("large", "SELECT uniqExact(_part) FROM logs").await, 1);
}

#[tokio::test]
async fn a_retry_after_half_a_batch_writes_the_other_half() {
    let server = Server::shared();
    let mut sink = open(server, "half").await;
    let whole = batch(vec![line("a-1-0")], vec![alert("a-1-0")]);
    let half = Batch { records: vec![whole.records[0].clone()], ..whole.clone() };
    sink.write(&half).await.unwrap();
    assert_eq!(sink.look_up(&whole).await.unwrap(), [true, false]);
    sink.write(&whole).await.unwrap();
    assert_eq!(sink.look_up(&whole).await.unwrap(), [true, true]);
    assert_eq!(server.count("half", "SELECT count() FROM logs").await, 1);
    assert_eq!(server.count("half", "SELECT count() FROM alerts").await, 1);
}

#[tokio::test]
async fn times_outside_the_columns_range_are_kept_beside_it() {
    let server = Server::shared();
    let mut sink = open(server, "range").await;
    let mut past = line("a-1-0");
    past.timestamp = at("1066-10-14T09:00:00.000Z");
    let mut future = line("a-1-1");
    future.timestamp = at("9000-01-01T00:00:00.000Z");
    let mut odd = alert("a-1-0");
    odd.active_at = at("1066-10-14T09:00:00.000Z");
    sink.write(&batch(vec![past, future], vec![odd])).await.unwrap();
    let rows = server.ask("range", "SELECT timestamp, fields FROM logs ORDER BY event_id").await;
    assert_eq!(
        rows,
        [
            json!({"timestamp": "1900-01-01 00:00:00.000", "fields": {"original_time": "1066-10-14T09:00:00.000Z"}}),
            json!({"timestamp": "2299-12-31 23:59:59.999", "fields": {"original_time": "9000-01-01T00:00:00.000Z"}}),
        ]
    );
    let noted = server.ask("range", "SELECT annotations['original_active_at'] AS at FROM alerts").await;
    assert_eq!(noted, [json!({"at": "1066-10-14T09:00:00.000Z"})]);
}

#[tokio::test]
async fn an_empty_batch_and_a_host_are_accepted() {
    let server = Server::shared();
    let mut sink = open(server, "empty").await;
    sink.write(&lines([])).await.unwrap();
    assert_eq!(server.count("empty", "SELECT count() FROM logs").await, 0);
}
