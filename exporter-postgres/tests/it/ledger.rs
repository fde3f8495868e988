//! Records are in the tables once, whatever comes twice, at once, or half.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use delivery::Identity;
use delivery::ledger::{Entry, Key};
use exporter::rows::{AlertRow, Batch, Origin, Record, Rows};
use exporter::sink::{Sink, SinkError};
use test_servers::Postgres as Server;
use utilizer_exporter_postgres::{Postgres, PostgresConfig};
use wire::messages::{Loss, LossReason};
use wire::{BootId, HostName, Kind, Ranges};

use crate::{Fixture, SERVER, alert, chain, now, row};

const COUNT: &str = "SELECT count(*), count(DISTINCT metric_name) FROM recap_system_metrics";
const LEDGER: &str = "SELECT host, boot, kind, committed, lost FROM delivery_ledger
    WHERE NOT isempty(committed) OR NOT isempty(lost) ORDER BY host, boot, kind";

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn boot(name: &str) -> BootId {
    name.parse().unwrap()
}

/// A record with rows named after it, so that a row that is there twice shows.
fn record(name: &str, kind: Kind, seq: u64, rows: usize) -> Record {
    let origin = Origin { host: host(name), kind, boot: Some(boot("b1")), seq: Some(seq) };
    let named = |n| row(&format!("{name}-{kind}-{seq}-{n}"), now());
    Record { origin, rows: Rows::Metrics((0..rows).map(named).collect()) }
}

fn batch(records: impl IntoIterator<Item = Record>) -> Batch {
    Batch { records: records.into_iter().collect(), ..Batch::default() }
}

fn ranges(pairs: &[(u64, u64)]) -> Ranges {
    let mut ranges = Ranges::default();
    for (from, to) in pairs {
        ranges.insert_range(*from, *to);
    }
    ranges
}

fn loss(kind: Kind, from: u64, to: u64) -> Loss {
    Loss { boot: boot("b1"), kind, from, to, reason: LossReason::Full }
}

/// A generator that gives the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test]
async fn a_record_makes_its_rows_once() {
    let mut f = Fixture::open().await;
    let first =
        batch([record("a", Kind::Metrics, 1, 3), record("a", Kind::Pipeline, 1, 2), record("b", Kind::Metrics, 9, 1)]);
    assert!(f.sink.write(&first).await.unwrap().known.is_empty());
    assert_eq!(f.sink.write(&first).await.unwrap().known, [0, 1, 2]);
    // Overlapping, and one of them twice in itself.
    let second = batch([
        record("a", Kind::Metrics, 2, 1),
        record("a", Kind::Metrics, 1, 3),
        record("a", Kind::Metrics, 2, 1),
        record("a", Kind::Metrics, 4, 0),
    ]);
    assert_eq!(f.sink.write(&second).await.unwrap().known, [1, 2]);
    assert_eq!(f.psql(COUNT), "7|7");
    assert_eq!(f.psql(LEDGER), "a|b1|metrics|{[1,3),[4,5)}|{}\na|b1|pipeline|{[1,2)}|{}\nb|b1|metrics|{[9,10)}|{}");
}

const NONE: [usize; 0] = [];

/// Writes as the tier does.
async fn write_encoded(sink: &mut Postgres, batch: &Batch) -> Result<Vec<usize>, SinkError> {
    let encoded = Postgres::encode(&batch.records.iter().collect::<Vec<_>>());
    assert!(!encoded.is_empty());
    sink.write_encoded(batch, encoded).await.map(|written| written.known)
}

#[tokio::test]
async fn what_was_encoded_ahead_is_written_once_as_well() {
    let mut f = Fixture::open().await;
    let metrics = |seq, rows| record("a", Kind::Metrics, seq, rows);
    // The ledger has no row of it, then has.
    assert_eq!(write_encoded(&mut f.sink, &batch([metrics(1, 3)])).await.unwrap(), NONE);
    assert_eq!(write_encoded(&mut f.sink, &batch([metrics(2, 3000), metrics(3, 0)])).await.unwrap(), NONE);
    assert_eq!((f.psql(COUNT).as_str(), f.psql(LEDGER).as_str()), ("3003|3003", "a|b1|metrics|{[1,4)}|{}"));
    let overlapping = batch([metrics(4, 1), metrics(2, 3000), metrics(4, 1)]);
    assert_eq!(write_encoded(&mut f.sink, &overlapping).await.unwrap(), [1, 2]);
    assert_eq!(write_encoded(&mut f.sink, &overlapping).await.unwrap(), [0, 1, 2]);
    assert_eq!((f.psql(COUNT).as_str(), f.psql(LEDGER).as_str()), ("3004|3004", "a|b1|metrics|{[1,5)}|{}"));

    let mut long = metrics(5, 2);
    if let Rows::Metrics(rows) = &mut long.rows {
        rows[1].job_id = "x".repeat(101).into();
    }
    let with_alert = |row: AlertRow| {
        let origin = Origin { host: host("a"), kind: Kind::Alerts, boot: Some(boot("b1")), seq: Some(1) };
        Record { origin, rows: Rows::Alert(Box::new(row)) }
    };
    let refused = with_alert(AlertRow { state: "x".repeat(11).leak(), ..alert() });
    // So that the ledger has its row.
    f.sink.book(&[], &[(host("a"), loss(Kind::Alerts, 9, 9))]).await.unwrap();
    for bad in [batch([long, with_alert(alert())]), batch([metrics(5, 2), refused])] {
        let error = write_encoded(&mut f.sink, &bad).await.unwrap_err();
        assert!(matches!(error, SinkError::Poison { .. }), "{}", chain(&error));
        assert_eq!((f.psql(COUNT).as_str(), f.psql("SELECT count(*) FROM alerts").as_str()), ("3004|3004", "0"));
    }
    assert_eq!(write_encoded(&mut f.sink, &batch([metrics(5, 2), with_alert(alert())])).await.unwrap(), NONE);
    assert_eq!((f.psql(COUNT).as_str(), f.psql("SELECT count(*) FROM alerts").as_str()), ("3006|3006", "1"));
    assert_eq!(f.psql(LEDGER), "a|b1|alerts|{[1,2)}|{[9,10)}\na|b1|metrics|{[1,6)}|{}");
}

#[tokio::test]
async fn a_record_without_a_number_is_written_each_time() {
    let mut f = Fixture::open().await;
    let mut unnumbered = record("a", Kind::Pipeline, 1, 1);
    unnumbered.origin.seq = None;
    // A number that no ledger holds is none.
    let mut beyond = record("a", Kind::Pipeline, u64::MAX, 1);
    beyond.origin.boot = Some(boot("b2"));
    let both = batch([unnumbered, beyond]);
    for _ in 0..2 {
        assert!(f.sink.write(&both).await.unwrap().known.is_empty());
    }
    assert_eq!(f.psql(COUNT), "4|2");
    assert_eq!(f.psql(LEDGER), "");
}

#[tokio::test]
async fn tables_of_one_batch_are_committed_together() {
    let mut f = Fixture::open().await;
    let with_alert = |row: AlertRow| {
        let origin = Origin { host: host("a"), kind: Kind::Alerts, boot: Some(boot("b1")), seq: Some(1) };
        batch([record("a", Kind::Metrics, 1, 1), Record { origin, rows: Rows::Alert(Box::new(row)) }])
    };
    let refused = AlertRow { state: "x".repeat(11).leak(), ..alert() };
    let error = f.sink.write(&with_alert(refused)).await.unwrap_err();
    assert!(matches!(error, SinkError::Poison { .. }), "{}", chain(&error));
    assert_eq!((f.psql(COUNT), f.psql(LEDGER)), ("0|0".to_owned(), String::new()));
    let good = with_alert(alert());
    f.sink.write(&good).await.unwrap();
    assert_eq!(f.sink.write(&good).await.unwrap().known, [0, 1]);
    assert_eq!((f.psql(COUNT), f.psql("SELECT count(*) FROM alerts")), ("1|1".to_owned(), "1".to_owned()));
}

#[tokio::test]
async fn a_rehearsal_leaves_nothing() {
    let mut f = Fixture::open().await;
    let mut bad = record("a", Kind::Metrics, 1, 2);
    if let Rows::Metrics(rows) = &mut bad.rows {
        rows[1].job_id = "x".repeat(101).into();
    }
    let error = f.sink.rehearse(&batch([bad])).await.unwrap_err();
    assert!(matches!(error, SinkError::Poison { .. }), "{}", chain(&error));
    f.sink.rehearse(&batch([record("a", Kind::Metrics, 1, 2)])).await.unwrap();
    assert_eq!((f.psql(COUNT), f.psql(LEDGER)), ("0|0".to_owned(), String::new()));
    f.sink.write(&batch([record("a", Kind::Metrics, 1, 2)])).await.unwrap();
    assert_eq!(f.psql(COUNT), "2|2");
}

#[tokio::test]
async fn losses_are_apart_from_commits_and_a_late_copy_is_written() {
    let mut f = Fixture::open().await;
    f.sink.write(&batch([record("a", Kind::Metrics, 3, 1)])).await.unwrap();
    let lost = [(host("a"), loss(Kind::Metrics, 1, 5)), (host("b"), loss(Kind::Pipeline, 0, u64::MAX))];
    let dead = Identity { host: host("a"), boot: boot("b1"), kind: Kind::Metrics, seq: 7 };
    for _ in 0..2 {
        f.sink.book(std::slice::from_ref(&dead), &lost).await.unwrap();
    }
    let key = |name, kind| Key { host: host(name), boot: boot("b1"), kind };
    let entry = |committed, lost| Entry { committed: ranges(committed), lost: ranges(lost) };
    let entries = f.sink.entries(&[host("a"), host("nobody")]).await.unwrap();
    assert_eq!(entries, [(key("a", Kind::Metrics), entry(&[(3, 3), (7, 7)], &[(1, 2), (4, 5)]))]);
    let [(_, all)] = &f.sink.entries(&[host("b")]).await.unwrap()[..] else { panic!("one entry") };
    assert_eq!(all.lost.count(), (1 << 63) - 1, "as much as a ledger holds");

    let late = batch([record("a", Kind::Metrics, 4, 1), record("a", Kind::Metrics, 7, 1)]);
    assert_eq!(f.sink.write(&late).await.unwrap().known, [1]);
    let entries = f.sink.entries(&[host("a")]).await.unwrap();
    assert_eq!(entries, [(key("a", Kind::Metrics), entry(&[(3, 4), (7, 7)], &[(1, 2), (5, 5)]))]);
    assert_eq!(f.psql(COUNT), "2|2");
    f.sink.book(&[], &[]).await.unwrap();
}

#[tokio::test]
async fn what_nobody_names_or_touches_is_forgotten() {
    let mut f = Fixture::open().await;
    f.sink.write(&batch(["a", "b", "c", "d", "e"].map(|name| record(name, Kind::Metrics, 1, 1)))).await.unwrap();
    assert_eq!(f.sink.forget(now().minus(Duration::from_secs(3600)), &[]).await.unwrap(), 0);
    f.psql("UPDATE delivery_ledger SET updated_at = now() - interval '31 days' WHERE host <> 'c'");
    // Of d no status is known, and the one of e was written by an earlier run.
    let named = [("a", "b1"), ("b", "b2"), ("c", "b2"), ("e", "b0")].map(|(name, run)| (host(name), boot(run)));
    assert_eq!(f.sink.forget(now().minus(Duration::from_secs(30 * 86_400)), &named).await.unwrap(), 1);
    assert_eq!(f.psql("SELECT string_agg(host, ',' ORDER BY host) FROM delivery_ledger"), "a,c,d,e");
}

/// Members that get the same records in other orders and other company, and lose their connections on the way.
#[tokio::test]
async fn members_that_write_at_once_neither_double_nor_block() {
    let f = Fixture::open().await;
    const MEMBERS: u64 = 4;
    const ROUNDS: u64 = 60;
    let retries = Arc::new(AtomicU64::new(0));
    let members: Vec<_> = (0..MEMBERS)
        .map(|member| {
            let mut config = PostgresConfig::new(SERVER.url(&f.database));
            config.connections = 1 + usize::try_from(member % 2).unwrap();
            let (database, retries) = (f.database.clone(), retries.clone());
            tokio::spawn(async move {
                let mut random = Random(member);
                let mut sink = Postgres::new(config);
                while sink.open().await.is_err() {}
                for round in 0..ROUNDS {
                    // Each record reaches two members or more over time, in windows that move along.
                    let mut records: Vec<Record> = (0..1 + random.below(12))
                        .map(|_| {
                            let name = format!("host-{}", random.below(6));
                            let kind = [Kind::Metrics, Kind::Pipeline][usize::try_from(random.below(2)).unwrap()];
                            let seq = 1 + round / 4 + random.below(8);
                            // Enough rows now and then for two connections.
                            record(&name, kind, seq, if seq.is_multiple_of(7) { 300 } else { 2 })
                        })
                        .collect();
                    if random.below(2) == 0 {
                        records.reverse();
                    }
                    let batch = batch(records);
                    if random.below(10) == 0 {
                        // Some other session ends one of ours, wherever it is.
                        SERVER.psql(
                            &database,
                            "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                             WHERE datname = current_database() AND pid <> pg_backend_pid() \
                             ORDER BY random() LIMIT 1) AS one",
                        );
                    }
                    loop {
                        match sink.write(&batch).await {
                            Ok(_) => break,
                            Err(SinkError::Retry { .. }) => {
                                retries.fetch_add(1, Ordering::Relaxed);
                                while sink.open().await.is_err() {}
                            }
                            Err(error) => panic!("{}", chain(&error)),
                        }
                    }
                }
            })
        })
        .collect();
    for member in members {
        member.await.unwrap();
    }
    let counts = f.psql(COUNT);
    let (rows, distinct) = counts.split_once('|').unwrap();
    assert_eq!(rows, distinct, "some row is there twice");
    let records = "SELECT count(DISTINCT regexp_replace(metric_name, '-[0-9]+$', '')) FROM recap_system_metrics";
    let booked = "SELECT sum(upper(r) - lower(r)) FROM delivery_ledger, unnest(committed) AS r";
    assert_eq!(f.psql(records), f.psql(booked));
    assert_ne!(rows, "0");
    assert_eq!(
        f.psql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"),
        "0",
        "after {} retries",
        retries.load(Ordering::Relaxed)
    );
}

/// The server dies at a moment of its own choosing while batches come; each is repeated until it is taken.
#[tokio::test]
async fn a_server_that_dies_in_the_middle_loses_and_doubles_nothing() {
    let server = Arc::new(Server::start());
    let database = server.create_database();
    let mut sink = Postgres::new(PostgresConfig::new(server.url(&database)));
    sink.open().await.unwrap();
    for round in 0..4u64 {
        let killer = {
            let server = server.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(2 + 7 * round));
                server.kill();
                server.again();
            })
        };
        for part in 0..20 {
            let batch = batch((0..25).map(|n| record("a", Kind::Metrics, 1 + round * 500 + part * 25 + n, 40)));
            while let Err(error) = sink.write(&batch).await {
                assert!(matches!(error, SinkError::Retry { .. }), "{}", chain(&error));
                while sink.open().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        killer.join().unwrap();
        while sink.open().await.is_err() {}
    }
    assert_eq!(server.psql(&database, COUNT), "80000|80000");
    assert_eq!(server.psql(&database, LEDGER), "a|b1|metrics|{[1,2001)}|{}");
}

/// A commit whose answer was lost: the connection ends after COMMIT was sent.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_known_the_next_time() {
    let f = Fixture::open().await;
    // Between the sink and the server, so that answers can be kept back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = SERVER
        .url(&f.database)
        .replace(&format!("127.0.0.1:{}", SERVER.port()), &listener.local_addr().unwrap().to_string());
    let port = SERVER.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(cut_after_commit(client, server));
        }
    });
    let mut sink = Postgres::new(PostgresConfig::new(url));
    sink.open().await.unwrap();
    let batch = batch([record("a", Kind::Metrics, 1, 2)]);
    let error = sink.write(&batch).await.unwrap_err();
    assert!(matches!(error, SinkError::Retry { .. }), "{}", chain(&error));
    // The server may still be at it.
    test_servers::wait_for("the commit", || (f.psql(COUNT) == "2|2").then_some(()));
    let mut direct = Postgres::new(PostgresConfig::new(SERVER.url(&f.database)));
    direct.open().await.unwrap();
    assert_eq!(direct.write(&batch).await.unwrap().known, [0]);
    assert_eq!(f.psql(COUNT), "2|2");
}

/// Passes everything on; the COMMIT of a batch is the last thing that reaches the server, and nothing comes back.
async fn cut_after_commit(client: tokio::net::TcpStream, server: tokio::net::TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let mut back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let (mut buffer, mut copied) = (vec![0; 1 << 16], false);
    loop {
        let Ok(length @ 1..) = from_client.read(&mut buffer).await else { return };
        let bytes = &buffer[..length];
        copied |= bytes.windows(6).any(|window| window == b"PGCOPY");
        let commits = copied && bytes.windows(6).any(|window| window == b"COMMIT");
        if commits {
            back.abort();
            let _ = (&mut back).await;
        }
        if to_server.write_all(bytes).await.is_err() || commits {
            // Half of the connection stays until the server has read it.
            let _ = to_server.shutdown().await;
            return;
        }
    }
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_even_where_the_role_does_not() {
    let f = Fixture::open().await;
    f.psql(&format!("ALTER DATABASE {} SET synchronous_commit = off", f.database));
    let spy = "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'synchronous_commit %', current_setting('synchronous_commit') USING ERRCODE = '23514';
        END $$;
        CREATE TRIGGER spy BEFORE INSERT ON recap_system_metrics FOR EACH ROW EXECUTE FUNCTION spy()";
    f.psql(spy);
    for (set, used) in [("off", "on"), ("local", "local"), ("remote_write", "remote_write")] {
        f.psql(&format!("ALTER DATABASE {} SET synchronous_commit = {set}", f.database));
        let mut sink = Postgres::new(PostgresConfig::new(SERVER.url(&f.database)));
        sink.open().await.unwrap();
        let error = sink.write(&batch([record("a", Kind::Metrics, 1, 1)])).await.unwrap_err();
        assert!(chain(&error).contains(&format!("synchronous_commit {used}")), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_database_of_the_version_before_keeps_its_rows() {
    let mut f = Fixture::new();
    f.psql(include_str!("../../migrations/0001_first_tables.sql"));
    f.psql(
        "CREATE TABLE utilizer_schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL,
             applied_at TIMESTAMPTZ NOT NULL DEFAULT now());
         INSERT INTO utilizer_schema_migrations (version, name) VALUES (1, 'first_tables');
         INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value) VALUES ('j', 's', 'before', 1)",
    );
    assert_eq!(f.sink.migrate().await.unwrap(), 1);
    f.sink.write(&batch([record("a", Kind::Metrics, 1, 1)])).await.unwrap();
    assert_eq!(f.psql(COUNT), "2|2");
}
