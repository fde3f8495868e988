//! SQL as users write it runs on the tables that the exporters make.

use std::path::PathBuf;

use serde_json::Value;
use test_servers::workspace;

use super::site::{Site, clickhouse, postgres};

/// A database whose tables `migrate` made.
pub(super) fn migrated_postgres() -> String {
    let site = Site::new();
    let database = postgres().create_database();
    let file = site.postgres_exporter("a", &postgres().url(&database));
    // The second finds nothing to do.
    for _ in 0..2 {
        let mut migrate = site.start("utilizer-exporter-postgres", &file, &["migrate"]);
        assert_eq!(migrate.ended(), Some(0), "{}", migrate.log());
    }
    database
}

pub(super) fn migrated_clickhouse() -> String {
    let site = Site::new();
    for _ in 0..2 {
        let mut migrate = site.start("utilizer-exporter-clickhouse", &site.clickhouse_exporter(), &["migrate"]);
        assert_eq!(migrate.ended(), Some(0), "{}", migrate.log());
    }
    site.clickhouse_database
}

/// A text that users of earlier systems gave us; it may lie beside a developer's checkout and is no part of it.
fn users_text(name: &str) -> Option<String> {
    let folder: PathBuf = workspace().join("../shared/fixtures");
    folder.exists().then(|| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
}

fn lines_of_logs(database: &str) {
    clickhouse().query(
        database,
        "INSERT INTO logs (timestamp, level, service_name, message, latency_ms) SELECT now() - number, \
         ['INFO', 'ERROR'][number % 2 + 1], ['cart', 'mail'][number % 2 + 1], concat('message ', toString(number % 2)), \
         if(number % 3 = 0, NULL, number) FROM numbers(60)",
    );
}

#[test]
fn inserts_and_questions_over_jobs_run_on_the_migrated_tables() {
    let database = migrated_postgres();
    let ask = |sql: &str| postgres().psql(&database, sql);
    // Without `recorded_at` and `id`, with JSON as text, several rows at once.
    ask("INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, metadata) VALUES \
         ('job-1', 'merging', 'duration_ms', 1500, '{\"merged\": 12}'), ('job-1', 'merging', 'duration_ms', 2500, NULL), \
         ('job-1', 'scoring', 'duration_ms', 500, NULL)");
    let sql = "SELECT stage, AVG(metric_value) AS mean FROM recap_system_metrics WHERE metric_name = 'duration_ms' \
               AND recorded_at > NOW() - INTERVAL '7 days' GROUP BY stage ORDER BY mean DESC";
    assert_eq!(ask(sql), "merging|2000\nscoring|500");
    let sql = "SELECT DATE_TRUNC('day', recorded_at) = DATE_TRUNC('day', NOW()) AS today, COUNT(*), MAX(metadata->>'merged') \
               FROM recap_system_metrics GROUP BY today";
    assert_eq!(ask(sql), "t|3|12");
    ask("INSERT INTO admin_jobs (job_type, parameters, created_by) VALUES ('retrain', '{\"model\": \"m\"}', 'me')");
    assert_eq!(ask("SELECT status, created_at <= now() FROM admin_jobs"), "pending|t");
}

#[test]
fn questions_over_logs_run_on_the_migrated_table() {
    let database = migrated_clickhouse();
    lines_of_logs(&database);
    let sql = "SELECT service_name, countIf(level = 'ERROR') AS errors, count() AS lines, quantile(0.5)(latency_ms) > 0 AS p50 \
               FROM logs WHERE timestamp > now() - INTERVAL 1 HOUR AND latency_ms IS NOT NULL GROUP BY service_name \
               ORDER BY service_name";
    let rows: Vec<Value> =
        clickhouse().query(&database, sql).lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0]["service_name"].as_str(), rows[0]["errors"].as_u64()), (Some("cart"), Some(0)));
    assert_eq!((rows[1]["errors"].as_u64(), rows[1]["lines"].as_u64()), (Some(20), Some(20)));
}

#[test]
fn the_users_own_inserts_and_questions_run_unchanged() {
    let texts = ["alt-recap-inserts.sql", "alt-recap-queries.sql", "alt-clickhouse-queries.sql"].map(users_text);
    let [Some(inserts), Some(questions), Some(over_logs)] = texts else { return };

    let database = migrated_postgres();
    postgres().psql(&database, &inserts);
    let rows = |text: &str| text.lines().count();
    let answers: Vec<_> = statements(&questions).map(|sql| postgres().psql(&database, sql)).collect();
    assert!(!answers.is_empty() && answers.iter().all(|answer| rows(answer) > 0), "{answers:?}");

    let database = migrated_clickhouse();
    lines_of_logs(&database);
    let answers: Vec<_> = statements(&over_logs).map(|sql| clickhouse().query(&database, sql)).collect();
    assert!(!answers.is_empty() && answers.iter().all(|answer| rows(answer) > 0), "{answers:?}");
}

fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty())
}
