//! Exporters share work within a group, and each group gets everything.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::json;

use super::site::{HOST, Site, clickhouse, postgres, wait_for};

/// Records that are pushed.
const RECORDS: usize = 60;

#[test]
fn members_share_the_load_and_every_group_gets_everything() {
    let site = Site::new();
    let database = postgres().create_database();
    let url = postgres().url(&database);
    let statuses = site.subscribe("utilizer/v1/tier/#");
    let mut members =
        ["a", "b"].map(|member| site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter(member, &url)));
    let store = site.path("metrics.db");
    let _sqlite = site.start_ready("utilizer-exporter-sqlite", &site.sqlite_exporter(&store));
    let _logs = site.start_ready("utilizer-exporter-clickhouse", &site.clickhouse_exporter());
    let agent = site.start_ready("utilizer-agent", &site.agent());

    for number in 0..RECORDS {
        let record = json!({"job_id": "shared", "stage": "s", "metric_name": "m", "metric_value": number});
        let line = json!({"level": "INFO", "message": number.to_string()});
        assert_eq!(agent.post("/v1/pipeline", &record.to_string()).status, 202);
        assert_eq!(agent.post("/v1/logs", &line.to_string()).status, 202);
    }
    let all: BTreeSet<usize> = (0..RECORDS).collect();

    let postgres_numbers = || -> Vec<usize> {
        let sql = "SELECT metric_value FROM recap_system_metrics WHERE job_id = 'shared'";
        postgres().psql(&database, sql).lines().map(|line| line.parse().unwrap()).collect()
    };
    wait_for("PostgreSQL has them all", || (postgres_numbers().len() >= RECORDS).then_some(()));
    let numbers = postgres_numbers();
    assert_eq!(numbers.len(), RECORDS, "without a fault, each is written once");
    assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), all);
    for member in &members {
        let share = member.metric("utilizer_exporter_messages_received_total{kind=\"pipeline\"}");
        assert!(share.is_some_and(|share| share > 0.0 && share < RECORDS as f64), "{share:?}");
    }

    let sqlite = Connection::open(&store).unwrap();
    let column = |sql: &str| -> Vec<String> {
        let mut statement = sqlite.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    for sql in [
        "SELECT CAST(CAST(metric_value AS INTEGER) AS TEXT) FROM recap_system_metrics WHERE job_id = 'shared'",
        "SELECT message FROM logs",
    ] {
        wait_for("SQLite has them all", || (column(sql).len() >= RECORDS).then_some(()));
        let numbers: BTreeSet<usize> = column(sql).iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(numbers, all, "{sql}");
    }
    let lines = || {
        let text = clickhouse().query(&site.clickhouse_database, "SELECT message FROM logs");
        let of =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].as_str()?.parse().ok();
        text.lines().filter_map(of).collect::<BTreeSet<usize>>()
    };
    wait_for("ClickHouse has all lines", || (lines() == all).then_some(()));

    // Every member hears of every host; the state is one row all the same.
    let hosts = postgres().psql(&database, "SELECT host, state FROM hosts");
    assert_eq!(hosts, format!("{HOST}|online"));

    // Which exporters there are is to be seen at the broker, too.
    members.iter_mut().for_each(|member| member.stop());
    let last = |group: &str, member: &str| -> Option<String> {
        let topic = format!("utilizer/v1/tier/{group}/{member}/status");
        let (_, status) = statuses.messages().into_iter().rfind(|(heard, _)| *heard == topic)?;
        assert_eq!((status["group"].as_str(), status["member"].as_str()), (Some(group), Some(member)));
        status["state"].as_str().map(str::to_owned)
    };
    for (group, member, state) in [
        ("postgres", "a", "offline"),
        ("postgres", "b", "offline"),
        ("sqlite", "sqlite-1", "online"),
        ("clickhouse", "clickhouse-1", "online"),
    ] {
        wait_for("the state of an exporter", || (last(group, member).as_deref() == Some(state)).then_some(()));
    }
}

/// The broker goes on handing a member its share while it is away, for as long as it keeps the member's session.
#[test]
fn the_share_of_a_killed_member_waits_for_its_return() {
    let site = Site::new();
    let database = postgres().create_database();
    let url = postgres().url(&database);
    let [a, b] = ["a", "b"].map(|member| site.postgres_exporter(member, &url));
    let _stays = site.start_ready("utilizer-exporter-postgres", &a);
    let mut goes = site.start_ready("utilizer-exporter-postgres", &b);
    let agent = site.start_ready("utilizer-agent", &site.agent());
    goes.kill();
    for number in 0..RECORDS {
        let record = json!({"job_id": "shared", "stage": "s", "metric_name": "m", "metric_value": number});
        assert_eq!(agent.post("/v1/pipeline", &record.to_string()).status, 202);
    }
    let _returns = site.start("utilizer-exporter-postgres", &b, &[]);
    wait_for("PostgreSQL has them all", || {
        let sql = "SELECT count(DISTINCT metric_value) FROM recap_system_metrics WHERE job_id = 'shared'";
        (postgres().psql(&database, sql) == RECORDS.to_string()).then_some(())
    });
}
