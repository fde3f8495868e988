//! The queries that users and tools bring along.

use std::time::Duration;

use exporter::sink::Sink;
use serde_json::{Value, json};

use crate::open;
use crate::rows::{line, lines, now};
use crate::server::{Server, workspace};

/// Ten lines within the last hour: two errors with one message, one with another, latencies 10 to 80 ms in two
/// services; and one error of ten days ago.
async fn example(server: &Server, database: &str) {
    let rows = (0u32..11).map(|n| {
        let mut line = line(&format!("a-1-{n}"));
        line.timestamp = now().minus(Duration::from_secs(if n == 10 { 10 * 86_400 } else { 60 }));
        (line.level, line.message) = match n {
            0 | 1 => ("ERROR", "payment failed".into()),
            2 | 10 => ("ERROR", "disk full".into()),
            _ => ("INFO", "served".into()),
        };
        line.level_original = if n == 0 { "error".into() } else { line.level.to_lowercase() };
        line.service_name = if n % 2 == 0 { "api".into() } else { "worker".into() };
        line.latency_ms = (n < 8).then(|| f64::from(n + 1) * 10.0);
        line
    });
    open(server, database).await.write(&lines(rows)).await.unwrap();
}

const RATE: &str = "SELECT countIf(level = 'ERROR') AS errors, count() AS all, errors / all AS rate \
                    FROM logs WHERE timestamp > now() - INTERVAL 1 DAY";

const LATENCY: &str = "SELECT service_name, quantile(0.5)(latency_ms) AS p50, max(latency_ms) AS worst \
                       FROM logs WHERE latency_ms IS NOT NULL GROUP BY service_name ORDER BY worst DESC";

const FREQUENT: &str = "SELECT message, count() AS n FROM logs \
                        WHERE level = 'ERROR' AND timestamp > now() - INTERVAL 7 DAY GROUP BY message ORDER BY n DESC";

#[tokio::test]
async fn error_rate_latency_percentiles_and_frequent_errors() {
    let server = Server::shared();
    example(server, "analysis").await;
    let rate = server.ask("analysis", RATE).await;
    assert_eq!(rate, [json!({"errors": 3, "all": 10, "rate": 0.3})]);
    let latency = server.ask("analysis", LATENCY).await;
    assert_eq!(
        latency,
        [
            json!({"service_name": "worker", "p50": 50, "worst": 80}),
            json!({"service_name": "api", "p50": 40, "worst": 70})
        ]
    );
    let frequent = server.ask("analysis", FREQUENT).await;
    assert_eq!(frequent, [json!({"message": "payment failed", "n": 2}), json!({"message": "disk full", "n": 1})]);
}

/// Only where the users' own file is at hand; the test above asks the same in our words.
#[tokio::test]
async fn the_users_queries_run_unchanged() {
    let Ok(text) = std::fs::read_to_string(workspace().join("../shared/fixtures/alt-clickhouse-queries.sql")) else {
        return;
    };
    let server = Server::shared();
    example(server, "users").await;
    let queries: Vec<&str> = text.split(';').filter(|query| !query.trim().is_empty()).collect();
    assert_eq!(queries.len(), 3);
    let rates = server.ask("users", queries[0]).await;
    let sum = |column: &str| rates.iter().filter_map(|row| row[column].as_u64()).sum::<u64>();
    assert_eq!((sum("error_count"), sum("total_count")), (3, 10), "{rates:?}");
    let latencies = server.ask("users", queries[1]).await;
    assert_eq!(latencies[0]["service_name"], "worker", "{latencies:?}");
    assert!(latencies[0]["p99"].as_f64() > latencies[0]["p50"].as_f64(), "{latencies:?}");
    let frequent = server.ask("users", queries[2]).await;
    assert_eq!(frequent[0], json!({"message": "payment failed", "occurrence": 2}), "{frequent:?}");
}

#[tokio::test]
async fn the_indexes_are_used() {
    let server = Server::shared();
    example(server, "indexes").await;
    for (condition, index) in [("trace_id = 'x'", "by_trace_id"), ("hasToken(lower(message), 'disk')", "by_lower_word")]
    {
        let plan =
            server.ask("indexes", &format!("EXPLAIN indexes = 1 SELECT count() FROM logs WHERE {condition}")).await;
        assert!(plan.iter().any(|row| row["explain"].as_str().is_some_and(|line| line.contains(index))), "{plan:?}");
    }
}

#[tokio::test]
async fn otel_logs_has_opentelemetrys_names() {
    let server = Server::shared();
    let mut sink = open(server, "otel").await;
    let mut first = line("a-1-0");
    first.timestamp = crate::rows::at("2026-11-21T22:30:10.123Z");
    first.level = "FATAL";
    first.level_original = "CRITICAL".into();
    first.environment = "production".into();
    first.logger = "app.db".into();
    first.trace_id = "4bf92f35".into();
    first.latency_ms = Some(12.5);
    first.fields = vec![("span_id".into(), "00f067aa".into()), ("user".into(), "7".into())];
    let mut second = line("a-1-1");
    second.level_original.clear();
    sink.write(&lines([first, second])).await.unwrap();

    let rows = server.ask("otel", "SELECT * FROM otel_logs ORDER BY LogAttributes['log.record.uid']").await;
    assert_eq!(
        rows[0],
        json!({
            "Timestamp": "2026-11-21 22:30:10.123",
            "TimestampTime": "2026-11-21 22:30:10",
            "TraceId": "4bf92f35",
            "SpanId": "00f067aa",
            "TraceFlags": 0,
            "SeverityText": "CRITICAL",
            "SeverityNumber": 21,
            "ServiceName": "checkout",
            "Body": "served a-1-0",
            "ResourceSchemaUrl": "",
            "ResourceAttributes": {
                "service.name": "checkout", "host.name": "web-01", "deployment.environment.name": "production"
            },
            "ScopeSchemaUrl": "",
            "ScopeName": "app.db",
            "ScopeVersion": "",
            "ScopeAttributes": {},
            "LogAttributes": {"span_id": "00f067aa", "user": "7", "latency_ms": "12.5", "log.record.uid": "a-1-0"},
            "EventName": "",
        })
    );
    assert_eq!(rows[1]["SeverityText"], "INFO");
    assert_eq!(rows[1]["SeverityNumber"], 9);
    let plan: Vec<Value> = server
        .ask("otel", "EXPLAIN indexes = 1 SELECT Body FROM otel_logs WHERE Timestamp > now() - INTERVAL 1 HOUR")
        .await;
    assert!(
        plan.iter().any(|row| row["explain"].as_str().is_some_and(|line| line.contains("timestamp in"))),
        "{plan:?}"
    );
}

/// A line of the many, as it is counted.
struct Seen {
    minutes_ago: u64,
    error: bool,
    service: usize,
    latency: Option<f64>,
    message: usize,
}

/// Lines of the last eight days, none within some minutes of where the queries' times begin.
fn many(count: u64) -> Vec<Seen> {
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let line = |_| {
        let error = next(20) == 0;
        // The more frequent a message, the lower its number, and no two alike.
        let message = (next(10_000) as f64).sqrt() as usize;
        let minutes_ago = [10 + next(40), 70 + next(1300), 1500 + next(8500), 10_150 + next(1000)][next(4) as usize];
        let latency = (next(5) > 0).then(|| next(1_000_000) as f64 / 100.0);
        Seen { minutes_ago, error, service: next(3) as usize, latency, message }
    };
    (0..count).map(line).collect()
}

/// The users' three questions in our words, over many lines, against a count of our own.
#[tokio::test]
async fn answers_over_many_lines_are_those_of_an_independent_count() {
    let server = Server::shared();
    let mut sink = open(server, "many").await;
    let begun = now();
    let seen = many(20_000);
    for (number, chunk) in seen.chunks(5_000).enumerate() {
        let rows = chunk.iter().enumerate().map(|(n, seen)| {
            let mut line = line(&format!("m-{number}-{n}"));
            line.timestamp = begun.minus(Duration::from_secs(seen.minutes_ago * 60));
            line.level = if seen.error { "ERROR" } else { "INFO" };
            line.service_name = format!("service-{}", seen.service);
            line.latency_ms = seen.latency;
            line.message = format!("message {}", seen.message);
            line
        });
        sink.write(&lines(rows)).await.unwrap();
    }

    let rate = server.ask("many", RATE).await;
    let day: Vec<&Seen> = seen.iter().filter(|seen| seen.minutes_ago < 1440).collect();
    let errors = day.iter().filter(|seen| seen.error).count();
    assert_eq!((&rate[0]["errors"], &rate[0]["all"]), (&json!(errors), &json!(day.len())));

    let latency = "SELECT service_name, quantile(0.5)(latency_ms) AS p50, quantile(0.99)(latency_ms) AS p99 FROM logs \
                   WHERE timestamp > now() - INTERVAL 1 HOUR AND latency_ms IS NOT NULL GROUP BY service_name \
                   ORDER BY service_name";
    let found = server.ask("many", latency).await;
    for (service, found) in found.iter().enumerate() {
        let hour = seen.iter().filter(|seen| seen.minutes_ago < 60 && seen.service == service);
        let mut latencies: Vec<f64> = hour.filter_map(|seen| seen.latency).collect();
        latencies.sort_by(f64::total_cmp);
        assert!(latencies.len() < 8192, "up to here the server keeps every value");
        let quantile = |level: f64| {
            let place = level * (latencies.len() - 1) as f64;
            let (low, high) = (latencies[place.floor() as usize], latencies[place.ceil() as usize]);
            low + (high - low) * place.fract()
        };
        for (name, level) in [("p50", 0.5), ("p99", 0.99)] {
            let value = found[name].as_f64().unwrap();
            assert!((value - quantile(level)).abs() < 1e-6, "{service} {name}: {value}, not {}", quantile(level));
        }
    }
    assert_eq!(found.len(), 3);

    let mut counts = std::collections::BTreeMap::<usize, u64>::new();
    for seen in seen.iter().filter(|seen| seen.error && seen.minutes_ago < 10_080) {
        *counts.entry(seen.message).or_default() += 1;
    }
    let mut counts: Vec<u64> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let frequent = server.ask("many", &format!("{FREQUENT} LIMIT 10")).await;
    let found: Vec<u64> = frequent.iter().filter_map(|row| row["n"].as_u64()).collect();
    assert_eq!(found, counts[..10]);
}
