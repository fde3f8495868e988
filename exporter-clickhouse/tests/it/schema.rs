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
    assert_eq!(sink.migrate().await.unwrap(), 8);
    assert_eq!(sink.migrate().await.unwrap(), 0);
    assert_eq!(ClickHouse::new(config(server, "migrations")).migrate().await.unwrap(), 0);
    let tables = server.ask("migrations", "SELECT name FROM system.tables WHERE database = 'migrations' ORDER BY name");
    let names =
        ["alerts", "logs", "logs_hourly", "otel_logs", "utilizer_schema_migrations"].map(|name| json!({"name": name}));
    assert_eq!(tables.await, names);
    let versions = server.ask("migrations", "SELECT version, name FROM utilizer_schema_migrations ORDER BY version");
    assert_eq!(versions.await[0], json!({"version": 1, "name": "logs"}));
}

#[tokio::test]
async fn a_crash_between_a_migration_and_its_record_is_repaired() {
    let server = Server::shared();
    open(server, "crashed").await.write(&lines([line("a-1-0")])).await.unwrap();
    server.run("crashed", "TRUNCATE TABLE utilizer_schema_migrations").await;
    assert_eq!(ClickHouse::new(config(server, "crashed")).migrate().await.unwrap(), 8);
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
    let default = "ingested_at + toIntervalSecond(multiIf(category = 'audit', 7776000, 2592000))";
    assert_eq!(server.ask("ttl", TTL).await, [json!({"ttl": default})]);

    let one_life = ClickHouseConfig { category_ttl: Default::default(), ..config(server, "ttl") };
    let week = ClickHouseConfig { log_ttl: Duration::from_secs(7 * 86_400), ..one_life };
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

/// The documents' lines are of 2024 and 2025, and arrive today.
#[tokio::test]
async fn retention_looks_at_arrival_and_category_and_never_at_a_lines_own_time() {
    let server = Server::shared();
    let mut config = config(server, "lives");
    config.category_ttl.insert("debug".to_owned(), Duration::from_secs(3 * 86_400));
    ClickHouse::new(config).open().await.unwrap();
    server
        .run(
            "lives",
            "INSERT INTO logs (event_id, category, timestamp, ingested_at) VALUES \
             ('of 2024', '', '2024-12-21 10:30:45.123', now()), ('of 2025', '', '2025-01-15 00:00:00', now()), \
             ('debug of 2024', 'debug', '2024-01-01 00:00:00', now()), ('debug, new', 'debug', now(), now() - INTERVAL 2 DAY), \
             ('debug, old', 'debug', now(), now() - INTERVAL 4 DAY), ('old', '', now(), now() - INTERVAL 31 DAY), \
             ('audit, old', 'audit', now(), now() - INTERVAL 91 DAY), ('audit', 'audit', now(), now() - INTERVAL 89 DAY), \
             ('before', '', now(), now() - INTERVAL 29 DAY)",
        )
        .await;
    server.run("lives", "OPTIMIZE TABLE logs FINAL").await;
    let left = server.ask("lives", "SELECT event_id FROM logs ORDER BY event_id").await;
    let wanted = ["audit", "before", "debug of 2024", "debug, new", "of 2024", "of 2025"];
    assert_eq!(left, wanted.map(|id| json!({"event_id": id})));
    // What went is not counted any more.
    let counted = "SELECT sum(count) FROM logs_hourly";
    assert_eq!(server.count("lives", counted).await, 6);
}

/// Statements of the shipped file that give a role something, without the role.
fn grants(role: &str) -> Vec<String> {
    let file = std::fs::read_to_string(crate::server::workspace().join("config/clickhouse/grants.sql")).unwrap();
    let to = format!(" TO {role};");
    let grants: Vec<String> = file.lines().filter_map(|line| line.strip_suffix(&to)).map(str::to_owned).collect();
    assert!(!grants.is_empty(), "no grants to {role}");
    grants
}

#[tokio::test]
async fn the_shipped_roles_may_do_their_work_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let owner = Server::start(&["--data", data]);
    let mut sink = open(&owner, "utilizer").await;
    let first = lines([line("a-1-0")]);
    sink.write(&first).await.unwrap();
    drop(owner);

    let start = |role: &str| {
        let grants = grants(role);
        let arguments = ["--data", data].into_iter().chain(grants.iter().flat_map(|grant| ["--grant", grant]));
        Server::start(&arguments.collect::<Vec<_>>())
    };
    let refused = async |server: &Server, statement: &str| {
        let error = server.try_run("utilizer", statement).await.expect_err(statement);
        assert!(error.contains("Not enough privileges"), "{statement}: {error}");
    };
    let changes = [
        "ALTER TABLE logs DELETE WHERE 1",
        "DELETE FROM logs WHERE 1",
        "ALTER TABLE logs DROP PARTITION ID 'all'",
        "ALTER TABLE logs UPDATE message = 'x' WHERE 1",
        "TRUNCATE TABLE logs",
        "DROP TABLE logs",
        "ALTER TABLE logs MODIFY TTL ingested_at + toIntervalDay(1)",
        "DROP DATABASE utilizer",
    ];
    let writer = start("utilizer_writer");
    let mut sink = ClickHouse::new(config(&writer, "utilizer"));
    sink.open().await.unwrap();
    assert_eq!(sink.look_up(&first).await.unwrap(), [true]);
    let second = crate::rows::batch(vec![line("a-1-1")], vec![crate::rows::alert("a-1-0")]);
    sink.write(&second).await.unwrap();
    assert_eq!(sink.look_up(&second).await.unwrap(), [true, true]);
    for statement in changes.into_iter().chain(["SELECT message FROM logs"]) {
        refused(&writer, statement).await;
    }
    // Another retention is for somebody else to set.
    let longer = ClickHouseConfig { log_ttl: Duration::from_secs(86_400 * 60), ..config(&writer, "utilizer") };
    let text = expect(ClickHouse::new(longer).open().await, "fatal");
    assert!(text.contains("grants.sql"), "{text}");
    drop(writer);

    let reader = start("utilizer_reader");
    for table in ["logs", "otel_logs", "alerts", "logs_hourly"] {
        assert!(reader.count("utilizer", &format!("SELECT count() FROM {table}")).await > 0, "{table}");
    }
    for statement in changes.into_iter().chain(["INSERT INTO logs (message) VALUES ('x')"]) {
        refused(&reader, statement).await;
    }
    drop(reader);

    let cleaner = start("utilizer_cleaner");
    for statement in &changes[3..] {
        refused(&cleaner, statement).await;
    }
    cleaner.run("utilizer", "ALTER TABLE logs DELETE WHERE event_id = 'a-1-0' SETTINGS mutations_sync = 1").await;
    assert_eq!(cleaner.count("utilizer", "SELECT count() FROM logs").await, 1);
}
