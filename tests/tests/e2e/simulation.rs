//! `utilizer sim` over the real tier: what it finds in the stores, how it goes on after a kill, and how its hosts stop waiting
//! for a group that is retired.

use std::process::{Command, Output};

use rusqlite::Connection;
use test_servers::{Program, built};

use super::site::{Site, clickhouse, postgres, wait_for};

/// Switches of a quick simulation.
const SOON: [&str; 6] = ["--interval", "500ms", "--rows-every", "0s", "--retry-after", "60s"];

/// A few hosts, four a connection.
const FEW: [&str; 4] = ["--hosts", "12", "--connections", "3"];

/// More hosts than a connection may have filters, so that one of its own hears their commands.
const CROWDED: [&str; 4] = ["--hosts", "65", "--connections", "1"];

fn words(site: &Site, hosts: [&str; 4], more: &[&str]) -> Vec<String> {
    let words = ["sim"].into_iter().chain(SOON).chain(hosts).chain(more.iter().copied()).map(str::to_owned);
    words.chain(site.as_tester()).collect()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn sim(site: &Site, more: &[&str]) -> Output {
    Command::new(built("utilizer")).args(words(site, FEW, more)).output().unwrap()
}

#[test]
fn what_was_sent_is_in_every_store_and_damage_is_found() {
    let site = Site::new();
    let database = postgres().create_database();
    let url = postgres().url(&database);
    let file = site.path("all.db");
    let soon = |file: super::site::File| file.set("confirm.every", "1s");
    let _running = [
        site.start_ready("utilizer-exporter-postgres", &soon(site.postgres_exporter("a", &url))),
        site.start_ready("utilizer-exporter-postgres", &soon(site.postgres_exporter("b", &url))),
        site.start_ready("utilizer-exporter-clickhouse", &soon(site.clickhouse_exporter())),
        site.start_ready("utilizer-exporter-sqlite", &soon(site.sqlite_exporter(&file))),
    ];
    let clickhouse_url = format!("{}/{}", clickhouse().url(), site.clickhouse_database);
    let (state, sqlite_url) = (site.path("sim.state"), format!("sqlite:{file}"));
    let stores = ["--verify", &url, "--verify", &clickhouse_url, "--verify", &sqlite_url];
    let switches: Vec<&str> = ["--count", "10", "--state", &state].into_iter().chain(stores).collect();
    let output = sim(&site, &switches);
    let text = said(&output);
    assert!(output.status.success() && text.matches("\nexactly once").count() == 3, "{text}");
    assert!(text.contains("metrics   120 records, 4800 rows: 0 lost, 0 double, 0 declared lost"), "{text}");
    // The URL's password is nobody's business.
    assert!(!text.contains(postgres().password()), "{text}");

    postgres().psql(
        &database,
        "DELETE FROM recap_system_metrics WHERE id = (SELECT min(id) FROM recap_system_metrics WHERE metric_name = 'load1')",
    );
    let duplicate = "INSERT INTO logs SELECT * FROM logs LIMIT 1";
    assert_eq!(Connection::open(&file).unwrap().execute(duplicate, ()).unwrap(), 1);
    clickhouse().query(&site.clickhouse_database, "INSERT INTO alerts SELECT * FROM alerts LIMIT 1");
    let output = sim(&site, &switches);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "metrics   120 records, 4799 rows: 1 lost, 0 double",
        "lost in part: sim-",
        "logs      120 records, 1201 rows: 0 lost, 1 double",
        "NOT exactly once",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_killed_simulation_is_continued_and_all_of_it_verified() {
    let site = Site::new();
    let database = postgres().create_database();
    let url = postgres().url(&database);
    let _exporter =
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &url).set("confirm.every", "1s"));
    let state = site.path("sim.state");
    let switches = ["--count", "12", "--kinds", "metrics,pipeline", "--state", &state, "--verify", &url];
    let words = words(&site, CROWDED, &switches);
    let mut killed =
        Program::start(&built("utilizer"), &[words.clone(), vec!["--progress".into(), "200ms".into()]].concat(), &[]);
    killed.wait_for("some of it is stored", |program| {
        let log = program.log();
        let stored = log.rsplit_once("committed: postgres ")?.1;
        let count: u64 = stored.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        (count > 100).then_some(())
    });
    killed.kill();
    let output = Command::new(built("utilizer")).args(&words).output().unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.contains("\nexactly once"), "{text}");
    assert!(text.contains("metrics   780 records, 31200 rows: 0 lost, 0 double, 0 declared lost"), "{text}");
}

#[test]
fn hosts_stop_waiting_for_a_group_that_is_retired() {
    let site = Site::new();
    let database = postgres().create_database();
    let url = postgres().url(&database);
    let _exporter =
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &url).set("confirm.every", "1s"));
    let mut gone = site.start_ready("utilizer-exporter-sqlite", &site.sqlite_exporter(&site.path("gone.db")));
    gone.stop();
    let words = words(&site, FEW, &["--count", "4", "--verify", &url, "--progress", "500ms"]);
    let mut waiting = Program::start(&built("utilizer"), &words, &[]);
    let everyone_waits = |text: &str| text.matches("postgres,sqlite").count() == 12;
    let utilizer = |words: &[&str]| {
        let output = Command::new(built("utilizer")).args(words).args(site.as_tester()).output().unwrap();
        (output.status.code(), said(&output))
    };
    wait_for("every host waits for both groups", || everyone_waits(&utilizer(&["status"]).1).then_some(()));
    let (code, text) = utilizer(&["group", "retire", "sqlite"]);
    assert!(code == Some(0) && text.contains("hosts that no longer wait for the group sqlite: 12"), "{text}");
    assert_eq!(waiting.ended(), Some(0), "{}", waiting.log());
    assert!(waiting.log().contains("\nexactly once"), "{}", waiting.log());
}
