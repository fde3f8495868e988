//! Migrations, retention, partitions.

use std::time::Duration;

use exporter::sink::Sink;
use serde_json::json;
use utilizer_exporter_clickhouse::{ClickHouse, ClickHouseConfig};

use crate::rows::{at, line, lines};
use crate::server::Server;
use crate::{config, expect, open};

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let server = Server::shared();
    let mut sink = ClickHouse::new(config(server, "migrations"));
    assert_eq!(sink.migrate().await.unwrap(), 5);
    assert_eq!(sink.migrate().await.unwrap(), 0);
    assert_eq!(ClickHouse::new(config(server, "migrations")).migrate().await.unwrap(), 0);
    let tables = server.ask("migrations", "SELECT name FROM system.tables WHERE database = 'migrations' ORDER BY name");
    let names = ["alerts", "logs", "otel_logs", "utilizer_schema_migrations"].map(|name| json!({"name": name}));
    assert_eq!(tables.await, names);
    let versions = server.ask("migrations", "SELECT version, name FROM utilizer_schema_migrations ORDER BY version");
    assert_eq!(versions.await[0], json!({"version": 1, "name": "logs"}));
}

#[tokio::test]
async fn a_crash_between_a_migration_and_its_record_is_repaired() {
    let server = Server::shared();
    open(server, "crashed").await.write(&lines([line("a-1-0")])).await.unwrap();
    server.run("crashed", "TRUNCATE TABLE utilizer_schema_migrations").await;
    assert_eq!(ClickHouse::new(config(server, "crashed")).migrate().await.unwrap(), 5);
    assert_eq!(server.count("crashed", "SELECT count() FROM logs").await, 1);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let server = Server::shared();
    open(server, "newer").await;
    server.run("newer", "INSERT INTO utilizer_schema_migrations (version, name) VALUES (99, 'later')").await;
    let text = expect(ClickHouse::new(config(server, "newer")).open().await, "fatal");
    assert!(text.contains("version 99") && text.contains("newer utilizer-exporter-clickhouse"), "{text}");
}

#[tokio::test]
async fn the_ttl_follows_the_configuration_and_counts_from_arrival() {
    const TTL: &str = "SELECT extract(engine_full, 'TTL (.*) SETTINGS') AS ttl FROM system.tables \
                       WHERE database = 'ttl' AND name = 'logs'";
    let server = Server::shared();
    open(server, "ttl").await;
    assert_eq!(server.ask("ttl", TTL).await, [json!({"ttl": "ingested_at + toIntervalDay(30)"})]);

    let week = ClickHouseConfig { log_ttl: Duration::from_secs(7 * 86_400), ..config(server, "ttl") };
    ClickHouse::new(week.clone()).open().await.unwrap();
    assert_eq!(server.ask("ttl", TTL).await, [json!({"ttl": "ingested_at + toIntervalDay(7)"})]);
    assert_eq!(ClickHouse::new(week).migrate().await.unwrap(), 0);

    let arrived = "INSERT INTO logs (event_id, timestamp, ingested_at) VALUES \
                   ('old', now(), now() - INTERVAL 8 DAY), ('new', '2024-03-01 00:00:00', now() - INTERVAL 6 DAY)";
    server.run("ttl", arrived).await;
    server.run("ttl", "OPTIMIZE TABLE logs FINAL").await;
    assert_eq!(server.ask("ttl", "SELECT event_id FROM logs").await, [json!({"event_id": "new"})]);
}

#[tokio::test]
async fn categories_have_lives_of_their_own() {
    let server = Server::shared();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let mut config = config(server, "categories");
    config.category_ttl = [("audit".to_owned(), days(365)), ("it's \\ odd".to_owned(), days(3))].into();
    config.alert_ttl = days(100);
    ClickHouse::new(config.clone()).open().await.unwrap();
    let engine = "SELECT engine_full FROM system.tables WHERE database = 'categories' AND name IN ('logs', 'alerts')";
    let before = server.ask("categories", engine).await;
    assert!(before.iter().any(|row| row.to_string().contains("toIntervalDay(100)")), "{before:?}");
    assert_eq!(ClickHouse::new(config.clone()).migrate().await.unwrap(), 0);
    // What was said once is not said again with each check: the server spells it as we do.
    let mutations = "SELECT count() FROM system.mutations WHERE database = 'categories'";
    let changes = server.count("categories", mutations).await;
    ClickHouse::new(config.clone()).open().await.unwrap();
    assert_eq!(server.count("categories", mutations).await, changes);
    assert!(
        before.iter().any(|row| {
            let text = row["engine_full"].as_str().unwrap();
            text.contains(
                "TTL ingested_at + toIntervalSecond(multiIf(category = 'audit', 31536000, \
                       category = 'it\\'s \\\\ odd', 259200, 2592000)) SETTINGS ttl_only_drop_parts = 0",
            )
        }),
        "{before:?}"
    );

    let arrived = "INSERT INTO logs (event_id, category, timestamp, ingested_at) VALUES \
                   ('audit', 'audit', now(), now() - INTERVAL 40 DAY), ('other', '', now(), now() - INTERVAL 40 DAY), \
                   ('odd', 'it\\'s \\\\ odd', now(), now() - INTERVAL 40 DAY)";
    server.run("categories", arrived).await;
    server.run("categories", "OPTIMIZE TABLE logs FINAL").await;
    assert_eq!(server.ask("categories", "SELECT event_id FROM logs").await, [json!({"event_id": "audit"})]);

    config.category_ttl.clear();
    ClickHouse::new(config).open().await.unwrap();
    let after = server.ask("categories", engine).await;
    assert!(after.iter().all(|row| row.to_string().contains("ttl_only_drop_parts = 1")), "{after:?}");
}

#[tokio::test]
async fn lines_of_any_year_stay_and_share_one_partition() {
    let server = Server::shared();
    let mut sink = open(server, "years").await;
    let years = [
        "1970-01-01T00:00:00.000Z",
        "2024-01-15T08:30:00.123Z",
        "2026-11-21T22:00:00.000Z",
        "2099-12-31T23:59:59.999Z",
    ];
    let written = years.iter().enumerate().map(|(n, year)| {
        let mut line = line(&format!("a-1-{n}"));
        line.timestamp = at(year);
        line
    });
    sink.write(&lines(written)).await.unwrap();
    server.run("years", "OPTIMIZE TABLE logs FINAL").await;
    let years = server.ask("years", "SELECT toYear(timestamp) AS year FROM logs ORDER BY timestamp").await;
    assert_eq!(years, [1970, 2024, 2026, 2099].map(|year| json!({"year": year})));
    let parts = "SELECT uniqExact(partition) FROM system.parts WHERE database = 'years' AND table = 'logs' AND active";
    assert_eq!(server.count("years", parts).await, 1);
}
