//! Audit records are chained on their way, and what happens to them in a store is found.

use std::process::{Command, Output};

use serde_json::{Value, json};
use test_servers::built;

use super::site::{HOST, Site, clickhouse, wait_for};

fn verify(site: &Site, more: &[&str]) -> (Output, Vec<Value>) {
    let url = clickhouse().url();
    let output = Command::new(built("utilizer"))
        .args(["logs", "verify", "--clickhouse", &url, "--database", &site.clickhouse_database])
        .args(more)
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    (output, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn audit_records_are_verified_and_what_was_done_to_them_is_named() {
    let site = Site::new();
    let _exporter = site.start_ready("utilizer-exporter-clickhouse", &site.clickhouse_exporter());
    let agent_file = site.agent();
    let push = |agent: &test_servers::Program, from: usize, to: usize| {
        for n in from..to {
            // What is hard to give back exactly: numbers, far times, all kinds of text; and other lines between.
            let level = ["CRITICAL", "info", "WARNING"][n % 3];
            let time = ["1066-10-14T09:00:00Z", "2024-12-21T10:30:45.123+09:00", "9000-01-01T00:00:00Z"][n % 3];
            let lines = [
                json!({
                    "category": "audit", "level": level, "message": format!("sudo {n} \"é\"\t\\ 支払い\u{0}"), "timestamp": time,
                    "latency_ms": (0.1 + n as f64 / 3.0), "user": {"name": "root", "größe": n}, "service": "sudo",
                    "chain.seq": "mine",
                }),
                json!({"message": "nothing to see", "category": "application"}),
                json!({"category": "audit", "message": "", "trace_id": "t"}),
            ];
            assert_eq!(agent.post("/v1/logs", &json!(lines).to_string()).status, 202);
        }
    };
    let ask = |sql: &str| clickhouse().query(&site.clickhouse_database, sql);
    let arrived = |count: usize| {
        wait_for("the audit records are in the store", || {
            let counted = ask("SELECT count() AS n FROM logs WHERE category = 'audit'");
            (counted.trim() == format!("{{\"n\":{count}}}")).then_some(())
        });
    };
    let mut agent = site.start_ready("utilizer-agent", &agent_file);
    push(&agent, 0, 6);
    agent.kill();
    let agent = site.start_ready("utilizer-agent", &agent_file);
    push(&agent, 6, 9);
    arrived(18);

    let broker = site.as_tester();
    let broker: Vec<&str> = broker.iter().map(String::as_str).collect();
    let chains = wait_for("the broker knows how far the chains go", || {
        let (output, chains) = verify(&site, &broker);
        let whole = chains.iter().all(|chain| chain["has_head"] == true && chain["beyond_head"] == 0);
        (output.status.success() && whole).then_some(chains)
    });
    let sizes: Vec<(&Value, &Value, &Value)> = chains.iter().map(|c| (&c["host"], &c["rows"], &c["last"])).collect();
    assert_eq!(sizes, [(&json!(HOST), &json!(12), &json!(12)), (&json!(HOST), &json!(6), &json!(6))], "{chains:?}");
    let boot = chains[0]["boot"].as_str().unwrap();
    let heads = site.path("heads.ndjson");
    std::fs::write(&heads, chains.iter().map(|chain| format!("{chain}\n")).collect::<String>()).unwrap();

    // A line of another field is altered, one is deleted, and the last one of the other run is.
    let change = |what: &str, seq: u64| {
        let which = format!("fields['chain.boot'] = '{boot}' AND fields['chain.seq'] = '{seq}'");
        ask(&format!("ALTER TABLE logs {what} WHERE {which} SETTINGS mutations_sync = 1"));
    };
    change("UPDATE fields = mapUpdate(fields, map('user.name', 'nobody'))", 3);
    change("DELETE", 7);
    ask(&format!(
        "ALTER TABLE logs DELETE WHERE fields['chain.boot'] != '{boot}' AND fields['chain.seq'] = '6' SETTINGS mutations_sync = 1"
    ));
    let with_file = [&broker[..], &["--grace", "0s"]].concat();
    for switches in [&with_file[..], &["--heads", &heads]] {
        let (output, chains) = verify(&site, switches);
        assert_eq!(output.status.code(), Some(1), "{chains:?}");
        let first = &chains[0];
        assert_eq!((&first["altered"], &first["missing"]), (&json!([3]), &json!([[7, 7]])), "{first}");
        assert_eq!(chains[1]["missing"], json!([[6, 6]]), "{}", chains[1]);
    }
    // Without the end of the chain nobody can tell that its last record was there.
    let (output, chains) = verify(&site, &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("without --mqtt or --heads"));
    assert_eq!(chains[1]["missing"], json!([]));
}
