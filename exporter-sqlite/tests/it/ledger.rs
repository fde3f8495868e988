//! Records are in the file once, whatever comes twice or half.

use std::time::Duration;

use delivery::Identity;
use delivery::ledger::{Entry, Key};
use exporter::rows::{Batch, Origin, Record, Rows};
use exporter::sink::{Sink, SinkError};
use utilizer_exporter_sqlite::{Sqlite, SqliteConfig};
use wire::messages::{Loss, LossReason};
use wire::{HostName, Kind, Ranges};

use crate::{Fixture, chain, now, row};

const COUNT: &str = "SELECT count(*), count(DISTINCT metric_name) FROM recap_system_metrics";
const LEDGER: &str = "SELECT host, boot, kind, committed, lost FROM delivery_ledger ORDER BY host, boot, kind";

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// A record with rows named after it, so that a row that is there twice shows.
fn record(name: &str, kind: Kind, seq: u64, rows: usize) -> Record {
    let origin = Origin { host: host(name), kind, boot: Some("b1".parse().unwrap()), seq: Some(seq) };
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

#[tokio::test]
async fn a_record_makes_its_rows_once() {
    let mut f = Fixture::open().await;
    let first = batch([record("a", Kind::Metrics, 1, 3), record("a", Kind::Pipeline, 1, 2)]);
    assert!(f.sink.write(&first).await.unwrap().known.is_empty());
    // Another process finds the same.
    let mut other = Sqlite::new(SqliteConfig::new(f.path.clone()));
    other.open().await.unwrap();
    assert_eq!(other.write(&first).await.unwrap().known, [0, 1]);
    let mut unnumbered = record("b", Kind::Pipeline, 1, 1);
    unnumbered.origin.boot = None;
    let second = batch([
        record("a", Kind::Metrics, 2, 1),
        record("a", Kind::Metrics, 1, 3),
        record("a", Kind::Metrics, 2, 1),
        record("a", Kind::Metrics, 4, 0),
        unnumbered,
    ]);
    assert_eq!(f.sink.write(&second).await.unwrap().known, [1, 2]);
    assert_eq!(f.query(COUNT), ["7|7"]);
    assert_eq!(f.query(LEDGER), ["a|b1|metrics|[[1,2],[4,4]]|[]", "a|b1|pipeline|[[1,1]]|[]"]);
}

#[tokio::test]
async fn a_refused_batch_and_a_rehearsal_book_nothing() {
    let mut f = Fixture::open().await;
    let mut bad = record("a", Kind::Metrics, 2, 2);
    if let Rows::Metrics(rows) = &mut bad.rows {
        rows[1].metric_value = f64::NAN;
    }
    let bad = batch([record("a", Kind::Metrics, 1, 1), bad]);
    for _ in 0..2 {
        let error = f.sink.write(&bad).await.unwrap_err();
        assert!(matches!(error, SinkError::Poison { .. }), "{}", chain(&error));
        assert!(f.sink.rehearse(&bad).await.is_err());
        f.sink.rehearse(&batch([record("a", Kind::Metrics, 1, 1)])).await.unwrap();
    }
    assert_eq!((f.query(COUNT), f.query(LEDGER).len()), (vec!["0|0".to_owned()], 0));
}

#[tokio::test]
async fn losses_are_apart_from_commits_and_a_late_copy_is_written() {
    let mut f = Fixture::open().await;
    f.sink.write(&batch([record("a", Kind::Metrics, 3, 1)])).await.unwrap();
    let loss = Loss { boot: "b1".parse().unwrap(), kind: Kind::Metrics, from: 1, to: 5, reason: LossReason::Full };
    let dead = Identity { host: host("a"), boot: "b1".parse().unwrap(), kind: Kind::Metrics, seq: 7 };
    for _ in 0..2 {
        f.sink.book(std::slice::from_ref(&dead), &[(host("a"), loss.clone())]).await.unwrap();
    }
    let late = batch([record("a", Kind::Metrics, 4, 1), record("a", Kind::Metrics, 7, 1)]);
    assert_eq!(f.sink.write(&late).await.unwrap().known, [1]);
    let entries = f.sink.entries(&[host("a"), host("nobody")]).await.unwrap();
    let key = Key { host: host("a"), boot: "b1".parse().unwrap(), kind: Kind::Metrics };
    let entry = Entry { committed: ranges(&[(3, 4), (7, 7)]), lost: ranges(&[(1, 2), (5, 5)]) };
    assert_eq!(entries, [(key, entry)]);
}

#[tokio::test]
async fn what_nobody_names_or_touches_is_forgotten() {
    let mut f = Fixture::open().await;
    f.sink.write(&batch(["a", "b", "c", "d", "e"].map(|name| record(name, Kind::Metrics, 1, 1)))).await.unwrap();
    assert_eq!(f.sink.forget(now().minus(Duration::from_secs(3600)), &[]).await.unwrap(), 0);
    f.execute("UPDATE delivery_ledger SET updated_at = '2026-01-01T00:00:00.000Z' WHERE host <> 'c'");
    // Of d no status is known, and the one of e was written by an earlier run.
    let named = [("a", "b1"), ("b", "b2"), ("c", "b2"), ("e", "b0")];
    let named = named.map(|(name, run)| (host(name), run.parse().unwrap()));
    for forgotten in [1, 0] {
        assert_eq!(f.sink.forget(now().minus(Duration::from_secs(3600)), &named).await.unwrap(), forgotten);
    }
    assert_eq!(f.query("SELECT host FROM delivery_ledger ORDER BY host"), ["a", "c", "d", "e"]);
}

#[tokio::test]
async fn a_commit_waits_for_the_disk() {
    let mut f = Fixture::open().await;
    // Asked of the sink's own connection, by a trigger of the test.
    f.execute(
        "CREATE TABLE said (synchronous INTEGER);
         CREATE TRIGGER ask AFTER INSERT ON recap_system_metrics BEGIN
             INSERT INTO said SELECT synchronous FROM pragma_synchronous;
         END",
    );
    f.sink.write(&batch([record("a", Kind::Metrics, 1, 1)])).await.unwrap();
    assert_eq!(f.query("SELECT synchronous FROM said"), ["2"], "2 is FULL");
}

#[tokio::test]
async fn a_file_of_the_version_before_keeps_its_rows() {
    let mut f = Fixture::open().await;
    f.execute(
        "DROP TABLE delivery_ledger; DROP TABLE retention_marks;
         DELETE FROM utilizer_schema_migrations WHERE version = 2;
         INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value) VALUES ('j', 's', 'before', 1)",
    );
    assert_eq!(f.sink.migrate().await.unwrap(), 1);
    f.sink.write(&batch([record("a", Kind::Metrics, 1, 1)])).await.unwrap();
    assert_eq!(f.query(COUNT), ["2|2"]);
}
