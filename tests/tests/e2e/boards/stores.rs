//! Queries to PostgreSQL and ClickHouse, over the tables that the exporters make.

use serde_json::Value;

use super::fill::{Choices, Dialect, FROM, TO, filled};
use super::{Query, boards, string};
use crate::e2e::site::{clickhouse, postgres};
use crate::e2e::sql::{migrated_clickhouse, migrated_postgres};

const POSTGRES: &str = "grafana-postgresql-datasource";
const CLICKHOUSE: &str = "grafana-clickhouse-datasource";

/// Rows of an hour as exporters write them: of a host with a GPU, of a pipeline's jobs, admin jobs, alerts.
fn fill_postgres(database: &str) {
    let minutes = format!("generate_series(to_timestamp({FROM}), to_timestamp({TO}), interval '1 minute') AS at");
    let sql = format!(
        r#"
        INSERT INTO hosts VALUES ('web-01', 'online', '0.1.0', 'b', 10, '{{}}', to_timestamp({TO}));
        INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at)
        SELECT 'host:web-01', stage, name, value, '{{"host": "web-01"}}'::jsonb || labels::jsonb, at FROM {minutes}, (VALUES
            ('cpu', 'cpu_percent', 12.5, '{{}}'), ('memory', 'memory_percent', 61, '{{}}'),
            ('memory', 'memory_used_bytes', 4e9, '{{}}'), ('memory', 'memory_total_bytes', 8e9, '{{}}'),
            ('gpu', 'gpu_load', 80, '{{"gpu": "0"}}'), ('gpu', 'gpu_memory_percent', 50, '{{"gpu": "0"}}'),
            ('gpu', 'gpu_memory_used_bytes', 4e10, '{{"gpu": "0"}}'),
            ('disk', 'disk_percent', 71, '{{"mountpoint": "/", "device": "/dev/sda"}}'),
            ('network', 'network_receive_bytes_per_second', 1000, '{{"device": "eth0"}}'),
            ('process', 'cpu_percent', 99, '{{"pid": 42, "name": "busy"}}'),
            ('process', 'memory_percent', 1.5, '{{"pid": 42, "name": "busy"}}')) AS gauges (stage, name, value, labels);
        INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at)
        SELECT 'recap-' || extract(minute FROM at), stage, name, value, labels::jsonb, at FROM {minutes},
            unnest(ARRAY['deduplication', 'classification', 'clustering', 'summarization']) AS stage, (VALUES
            ('articles_processed', 1000, '{{"duplicates_found": 150}}'), ('processing_time_ms', 2500, NULL),
            ('articles_classified', 850, NULL), ('clusters_created', 12, '{{"algorithm": "hdbscan"}}'),
            ('silhouette_score', 0.72, NULL), ('accuracy', 0.9, NULL),
            ('f1_score', 0.85, '{{"confusion": {{"labels": ["news", "sport"], "counts": [[40, 2], [5, 53]]}}}}'),
            ('f1_score', 0.81, '{{"genre": "news"}}'), ('f1_score', 0.92, '{{"genre": "sport"}}'))
            AS reported (name, value, labels);
        INSERT INTO admin_jobs (job_type, parameters, status, created_by, created_at, started_at, completed_at, error_message, result)
        SELECT 'retrain', '{{"model": "m"}}', status, 'me', to_timestamp({FROM} + 60), to_timestamp({FROM} + 120),
            CASE WHEN status IN ('completed', 'failed') THEN to_timestamp({FROM} + 600) END,
            CASE status WHEN 'failed' THEN 'too little memory' END, '{{}}'
            FROM unnest(ARRAY['pending', 'running', 'completed', 'failed']) AS status;
        INSERT INTO alerts (time, host, alert_name, state, severity, labels, annotations, value, active_at, resolved_at, fingerprint, event_id)
        SELECT to_timestamp({FROM} + 60), 'web-01', 'HostBusy', state, severity, '{{}}', '{{"summary": "busy", "action": "wait"}}', 1,
            to_timestamp({FROM}), CASE state WHEN 'resolved' THEN to_timestamp({FROM} + 300) END, severity || state, '1'
            FROM unnest(ARRAY['firing', 'resolved']) AS state, unnest(ARRAY['critical', 'warning', 'info']) AS severity;
        "#
    );
    postgres().psql(database, &sql);
}

#[test]
fn queries_find_something_in_postgresql() {
    let database = migrated_postgres();
    fill_postgres(&database);
    let ask = |sql: &str| postgres().psql(&database, sql);
    let mut faults = Vec::new();
    for board in boards().iter().filter(|board| !board.queries(POSTGRES).is_empty()) {
        // Of two columns, the second is the value; variables may ask for the time range, and for no other variable.
        let values = |_: &str, sql: &str| {
            let rows = ask(&filled(Dialect::Postgres, sql, &Choices::default()));
            rows.lines().map(|row| row.rsplit('|').next().unwrap().to_owned()).collect()
        };
        for (choices, first) in board.choices(POSTGRES, values).iter().zip([true, false]) {
            for Query { place, json } in board.queries(POSTGRES) {
                let sql = filled(Dialect::Postgres, string(json, "rawSql"), choices);
                let rows = ask(&sql);
                // Only separators are only NULLs.
                if !rows.contains(|c: char| c != '|' && !c.is_whitespace()) {
                    faults.push(format!("{place}: nothing for {sql}"));
                }
                if first && json["format"] == "time_series" {
                    let named = "bool_and(metric IS NOT NULL AND metric <> '')";
                    let told = ask(&format!("SELECT DISTINCT pg_typeof(max(time)), {named} FROM ({sql}) AS answer"));
                    let numbers = ["numeric|t", "double precision|t"];
                    assert!(numbers.contains(&&*told), "{place}: seconds and the series' names are {told}");
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn fill_clickhouse(database: &str) {
    let sql = format!(
        "INSERT INTO logs (timestamp, level, service_name, message, latency_ms, host, logger, environment, category, trace_id, fields) \
         SELECT toDateTime64({FROM} + 1 + number % 3000, 3), \
         arrayElement(['DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'], 1 + number % 5), \
         arrayElement(['ml-service', 'recommendations'], 1 + intDiv(number, 5) % 2), concat('took too long: ', toString(number % 7)), \
         if(number % 3 = 0, NULL, number % 900), 'web-01', 'main', 'production', 'application', concat('t', toString(number)), \
         map('k', toString(number)) FROM numbers(6000)"
    );
    clickhouse().query(database, &sql);
}

#[test]
fn queries_find_something_in_clickhouse() {
    let database = migrated_clickhouse();
    fill_clickhouse(&database);
    let ask = |place: &str, sql: &str| -> Vec<Value> {
        let answer = clickhouse().try_query(&database, sql, "").unwrap_or_else(|e| panic!("{place}: {e}\nin: {sql}"));
        answer.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
    };
    let mut faults = Vec::new();
    for board in boards().iter().filter(|board| !board.queries(CLICKHOUSE).is_empty()) {
        let values = |place: &str, sql: &str| {
            let rows = ask(place, &filled(Dialect::ClickHouse, sql, &Choices::default()));
            rows.iter().filter_map(|row| Some(row.as_object()?.values().next()?.as_str()?.to_owned())).collect()
        };
        for choices in &board.choices(CLICKHOUSE, values) {
            for Query { place, json } in board.queries(CLICKHOUSE) {
                let sql = filled(Dialect::ClickHouse, string(json, "rawSql"), choices);
                let rows = ask(&place, &sql);
                let told = rows.iter().any(|row| row.as_object().unwrap().values().any(|value| !value.is_null()));
                if !told {
                    faults.push(format!("{place}: nothing for {sql}"));
                }
                let columns = match string(json, "queryType") {
                    "timeseries" => ["time", "metric"].as_slice(),
                    "logs" => &["timestamp", "body", "level", "labels"],
                    _ => &[],
                };
                let lacking: Vec<_> =
                    columns.iter().filter(|column| rows.iter().any(|row| row.get(column).is_none())).collect();
                assert!(lacking.is_empty(), "{place}: no column {lacking:?}");
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
