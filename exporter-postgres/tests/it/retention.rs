//! What is too old goes, and nothing else.

use std::time::Duration;

use exporter::rows::{AlertRow, Batch, Rows};
use exporter::sink::{Retained, Sink};
use utilizer_exporter_postgres::{Postgres, PostgresConfig};
use wire::{Kind, Timestamp};

use crate::{DAY, Fixture, SERVER, alert, metrics, now, record, row};

/// Keeps metrics for 10 days and alerts for 20.
async fn open() -> Fixture {
    let mut f = Fixture::new();
    let mut config = PostgresConfig::new(SERVER.url(&f.database));
    config.retention = 10 * DAY;
    config.alerts_retention = 20 * DAY;
    f.sink = Postgres::new(config);
    f.sink.open().await.unwrap();
    f
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

const DAYS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'recap_system_metrics'::regclass";
const NAMES: &str = "SELECT string_agg(metric_name, ',' ORDER BY metric_name) FROM recap_system_metrics";

#[tokio::test]
async fn days_are_dropped_when_they_have_ended_long_enough_ago() {
    let mut f = open().await;
    f.sink.write(&metrics(vec![row("old", now().minus(9 * DAY)), row("new", now())])).await.unwrap();
    // The partitions of today, tomorrow and nine days ago, and the default one.
    assert_eq!(f.psql(DAYS), "4");
    assert_eq!(f.sink.retain(now()).await.unwrap(), Retained::default());
    let later = f.sink.retain(now().plus(2 * DAY)).await.unwrap();
    assert_eq!(later, Retained { partitions: 1, rows: 0 });
    assert_eq!((f.psql(DAYS), f.psql(NAMES)), ("3".to_owned(), "new".to_owned()));
}

#[tokio::test]
async fn times_that_may_be_anything_count_from_their_arrival() {
    let mut f = open().await;
    f.psql("CREATE TABLE mine PARTITION OF recap_system_metrics FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')");
    let rows = [row("past", at("1970-01-01T00:00:00Z")), row("future", at("2099-01-01T00:00:00Z"))];
    f.sink.write(&metrics([&rows[..], &[row("mine", at("2001-01-10T00:00:00Z"))]].concat())).await.unwrap();
    let alert = |time: &str| record(Kind::Alerts, Rows::Alert(Box::new(AlertRow { time: at(time), ..alert() })));
    let alerts = ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z"].map(alert).to_vec();
    f.sink.write(&Batch { records: alerts, ..Batch::default() }).await.unwrap();

    let began = now();
    let after = |days: u32| began.plus(days * DAY).plus(Duration::from_secs(60));
    assert_eq!(f.sink.retain(began).await.unwrap(), Retained::default());
    f.sink.write(&metrics(vec![row("later", at("1970-01-01T00:00:00Z"))])).await.unwrap();
    // Each day a mark; an hour later none.
    for day in 1..10 {
        assert_eq!(f.sink.retain(after(day)).await.unwrap(), Retained::default());
        assert_eq!(f.sink.retain(after(day).plus(Duration::from_secs(3600))).await.unwrap(), Retained::default());
    }
    assert_eq!(f.psql("SELECT count(*) FROM retention_marks WHERE table_name = 'alerts'"), "10");
    assert_eq!(f.sink.retain(after(10)).await.unwrap().rows, 2);
    assert_eq!(f.psql(NAMES), "later,mine");
    // Its mark is that of the first day.
    assert_eq!(f.sink.retain(after(12)).await.unwrap().rows, 1);
    assert_eq!((f.psql(NAMES), f.psql("SELECT count(*) FROM alerts")), ("mine".to_owned(), "2".to_owned()));
    assert_eq!(f.sink.retain(after(21)).await.unwrap().rows, 2);
    assert_eq!(f.psql("SELECT count(*) FROM alerts"), "0");
}

#[tokio::test]
async fn much_is_deleted_in_pieces() {
    let mut f = open().await;
    f.psql(
        "INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, recorded_at)
         SELECT 'j', 's', 'm', n, '2001-01-01' FROM generate_series(1, 25000) n",
    );
    f.sink.retain(now()).await.unwrap();
    assert_eq!(f.sink.retain(now().plus(11 * DAY)).await.unwrap().rows, 25_000);
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "0");
}

/// A dump that reads for hours is not waited for, nor are writers made to wait behind it.
#[tokio::test]
async fn a_day_that_someone_reads_is_dropped_later() {
    let mut f = open().await;
    f.sink.write(&metrics(vec![row("old", now().minus(9 * DAY))])).await.unwrap();
    let reader = SERVER.session(&f.database, "DO $$ BEGIN PERFORM count(*) FROM recap_system_metrics; END $$");
    assert_eq!(f.sink.retain(now().plus(2 * DAY)).await.unwrap(), Retained::default());
    drop(reader);
    assert_eq!(f.sink.retain(now().plus(2 * DAY)).await.unwrap().partitions, 1);
}
