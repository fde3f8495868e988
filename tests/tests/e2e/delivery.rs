//! Each record once, whatever is killed. The test is the host: it sends again what it sent, as a host does until it is
//! told.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_servers::Program;

use super::site::{Site, clickhouse, postgres, wait_for};

/// The numbered messages of a host, one a line.
fn lines(host: &str, numbers: std::ops::RangeInclusive<u64>, records: impl Fn(u64) -> Value) -> String {
    let (time, boot) = (jiff::Timestamp::now().to_string(), format!("boot-of-{host}"));
    let message = |seq: u64| {
        json!({"v": 1, "host": host, "boot": boot, "seq": seq, "time": time, "records": records(seq)}).to_string()
            + "\n"
    };
    numbers.map(message).collect()
}

fn values(host: &str, numbers: std::ops::RangeInclusive<u64>) -> String {
    lines(host, numbers, |seq| json!([{"job_id": host, "stage": "s", "metric_name": "m", "metric_value": seq}]))
}

fn empty(exporter: &Program) -> Option<()> {
    (exporter.metric("utilizer_exporter_spool_records") == Some(0.0)).then_some(())
}

#[test]
fn two_members_with_one_ledger_write_each_record_once() {
    let site = Site::new();
    let database = postgres().create_database();
    let url = postgres().url(&database);
    let files = ["a", "b"].map(|member| site.postgres_exporter(member, &url));
    let mut members = files.each_ref().map(|file| site.start_ready("utilizer-exporter-postgres", file));
    let topic = "utilizer/v1/telemetry/db-01/pipeline";
    let count =
        || postgres().psql(&database, "SELECT count(*), count(DISTINCT metric_value) FROM recap_system_metrics");
    for round in 1..=4u64 {
        // Killed at whatever it is at: receiving, between fsync and commit, between commit and confirmation.
        site.publish_lines(topic, &values("db-01", 1..=round * 100));
        let which = (round % 2) as usize;
        members[which].kill();
        site.publish_lines(topic, &values("db-01", 1..=round * 100));
        members[which] = site.start_ready("utilizer-exporter-postgres", &files[which]);
    }
    site.publish_lines(topic, &values("db-01", 1..=400));
    wait_for("all are written", || (count() == "400|400").then_some(()));
    for member in &members {
        member.wait_for("its spool is empty", empty);
    }
    assert_eq!(count(), "400|400");
    assert_eq!(
        postgres().psql(&database, "SELECT host, kind, committed FROM delivery_ledger"),
        "db-01|pipeline|{[1,401)}"
    );
}

#[test]
fn two_shards_write_each_line_once() {
    let site = Site::new();
    let file = |member: &str, shard: &str| {
        let file = site.clickhouse_exporter().set("mqtt.member", member).set("mqtt.shard", shard);
        file.set("state_dir", site.path(member))
    };
    let files = [file("a", "0/2"), file("b", "1/2")];
    let mut members = files.each_ref().map(|file| site.start_ready("utilizer-exporter-clickhouse", file));
    let hosts: Vec<String> = (1..=6).map(|n| format!("web-{n:02}")).collect();
    let send = |most: u64| {
        for host in &hosts {
            let line = |seq: u64| json!([{"timestamp": "2026-11-21T10:00:00Z", "level": "INFO", "message": format!("{host} {seq}")}]);
            site.publish_lines(&format!("utilizer/v1/telemetry/{host}/logs"), &lines(host, 1..=most, line));
        }
    };
    let count = |sql: &str| {
        let answer = clickhouse().query(&site.clickhouse_database, sql);
        serde_json::from_str::<Value>(&answer).unwrap()["n"].as_u64().unwrap()
    };
    for round in 1..=2u64 {
        send(round * 20);
        members[round as usize % 2].kill();
        send(round * 20);
        members[round as usize % 2] = site.start_ready("utilizer-exporter-clickhouse", &files[round as usize % 2]);
    }
    send(40);
    wait_for("all are there", || (count("SELECT uniqExact(message) AS n FROM logs") == 240).then_some(()));
    for member in &members {
        member.wait_for("its spool is empty", empty);
        assert!(member.metric("utilizer_exporter_foreign_total") > Some(0.0), "each hears of the other's hosts");
    }
    assert_eq!(count("SELECT count() AS n FROM logs"), 240);
    assert_eq!(count("SELECT uniqExact(event_id) AS n FROM logs"), 240);
}

#[test]
fn dead_letters_are_listed_shown_and_replayed_beside_the_running_exporter() {
    let site = Site::new();
    let database = postgres().create_database();
    let file = site.postgres_exporter("a", &postgres().url(&database));
    let exporter = site.start_ready("utilizer-exporter-postgres", &file);
    // A person's rule, which a person can take away again.
    postgres().psql(&database, "ALTER TABLE recap_system_metrics ADD CONSTRAINT small CHECK (metric_value < 100)");
    let topic = "utilizer/v1/telemetry/db-01/pipeline";
    site.publish_lines(topic, &values("db-01", 98..=103));
    let count = || postgres().psql(&database, "SELECT count(*) FROM recap_system_metrics WHERE job_id = 'db-01'");
    exporter.wait_for("four are refused", |exporter| {
        (exporter.metric("utilizer_exporter_dead_letters_total{reason=\"poison\"}") == Some(4.0)).then_some(())
    });
    wait_for("the others are written", || (count() == "2").then_some(()));
    let ask = |arguments: &[&str]| {
        let mut asked = site.start("utilizer-exporter-postgres", &file, arguments);
        assert_eq!(asked.ended(), Some(0), "{}", asked.log());
        asked.log()
    };
    let table = ask(&["dead-letters", "list"]);
    let ids: BTreeSet<&str> = table.lines().filter(|line| line.contains("poison")).map(|line| &line[..12]).collect();
    assert!(ids.len() == 4 && table.contains("db-01/pipeline") && table.contains("\"small\""), "{table}");
    let one = ids.first().unwrap();
    let shown = ask(&["dead-letters", "show", one]);
    assert!(shown.contains("of the run boot-of-db-01") && shown.contains("\"metric_value\":10"), "{shown}");
    postgres().psql(&database, "ALTER TABLE recap_system_metrics DROP CONSTRAINT small");
    assert!(ask(&["dead-letters", "replay", one]).contains("replayed 1 dead letters"));
    wait_for("it is written", || (count() == "3").then_some(()));
    assert!(ask(&["dead-letters", "replay"]).contains("replayed 3 dead letters"));
    wait_for("the others too", || (count() == "6").then_some(()));
    assert!(ask(&["dead-letters", "list"]).contains("4 more were replayed"));
    let mut unknown = site.start("utilizer-exporter-postgres", &file, &["dead-letters", "show", "zzz"]);
    assert_eq!(unknown.ended(), Some(1));
}
