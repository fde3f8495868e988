//! What programs hand to the agent arrives whole.

use serde_json::{Value, json};

use super::site::{HOST, Site, clickhouse, postgres, wait_for};

#[test]
fn a_log_line_is_found_in_clickhouse_with_all_its_fields() {
    let site = Site::new();
    let _exporter = site.start_ready("utilizer-exporter-clickhouse", &site.clickhouse_exporter());
    let agent = site.start_ready("utilizer-agent", &site.agent());
    let line = json!({
        "timestamp": "2026-02-03T04:05:06.789+01:00", "level": "CRITICAL", "service": "checkout", "message": "no answer: \"é\"",
        "latency_ms": 1234.5, "logger": "checkout.bank", "environment": "staging", "category": "payments",
        "trace_id": "4bf9", "request_id": "r-1", "amount": 12, "customer": {"tier": "gold"},
    });
    let answer = agent.post("/v1/logs", &line.to_string());
    assert_eq!(answer.status, 202, "{}", answer.body);

    let ask = |sql: &str| clickhouse().query(&site.clickhouse_database, sql);
    let found = wait_for("the line is in logs", || {
        let text = ask("SELECT * EXCEPT (event_id, ingested_at) FROM logs");
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(
        serde_json::from_str::<Value>(&found).unwrap(),
        json!({
            "timestamp": "2026-02-03 03:05:06.789", "level": "FATAL", "level_original": "CRITICAL",
            "service_name": "checkout", "message": "no answer: \"é\"", "latency_ms": 1234.5, "host": HOST,
            "logger": "checkout.bank", "environment": "staging", "category": "payments", "trace_id": "4bf9",
            "request_id": "r-1", "fields": {"amount": "12", "customer.tier": "gold"},
        })
    );
    let view = ask("SELECT SeverityText, Body, ServiceName, LogAttributes['amount'] AS amount FROM otel_logs");
    assert_eq!(
        serde_json::from_str::<Value>(&view).unwrap(),
        json!({"SeverityText": "CRITICAL", "Body": "no answer: \"é\"", "ServiceName": "checkout", "amount": "12"})
    );
}

#[test]
fn a_jobs_metrics_are_rows_with_their_metadata() {
    let site = Site::new();
    let database = postgres().create_database();
    let _exporter =
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &postgres().url(&database)));
    let agent = site.start_ready("utilizer-agent", &site.agent());
    // One object a line, as jobs write them.
    let body = "{\"job_id\":\"nightly-7\",\"stage\":\"classification\",\"metric_name\":\"f1_score\",\"metric_value\":0.85,\
                \"metadata\":{\"model\":\"v2\",\"folds\":[1,2]},\"recorded_at\":\"2026-01-02T03:04:05.678Z\"}\n\
                {\"job_id\":\"nightly-7\",\"stage\":\"classification\",\"metric_name\":\"articles\",\"metric_value\":850}\n";
    let answer = agent.post("/v1/pipeline", body);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let rows = wait_for("the job's rows are there", || {
        let rows = postgres().psql(
            &database,
            "SELECT metric_name, metric_value, metadata - 'original_time' FROM recap_system_metrics \
             WHERE job_id = 'nightly-7' AND stage = 'classification' ORDER BY id",
        );
        (rows.lines().count() == 2).then_some(rows)
    });
    assert_eq!(
        rows,
        format!(
            "f1_score|0.85|{{\"host\": \"{HOST}\", \"folds\": [1, 2], \"model\": \"v2\"}}\narticles|850|{{\"host\": \"{HOST}\"}}"
        )
    );
    let time = postgres().psql(
        &database,
        "SELECT recorded_at AT TIME ZONE 'UTC' FROM recap_system_metrics WHERE metric_name = 'f1_score'",
    );
    assert_eq!(time, "2026-01-02 03:04:05.678");
    let now = postgres().psql(
        &database,
        "SELECT abs(extract(epoch FROM now() - recorded_at)) < 60 FROM recap_system_metrics WHERE metric_name = 'articles'",
    );
    assert_eq!(now, "t", "a record without a time is of now");
}
