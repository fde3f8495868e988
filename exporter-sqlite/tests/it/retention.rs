//! What arrived too long ago goes, and nothing else.

use std::time::Duration;

use exporter::rows::{Batch, Rows};
use exporter::sink::Sink;
use utilizer_exporter_sqlite::{Limits, Sqlite, SqliteConfig};
use wire::Kind;

use crate::{Fixture, alert, log, metrics, now, record, row};

const DAY: Duration = Duration::from_secs(86_400);

async fn open() -> Fixture {
    let mut f = Fixture::new();
    let retention = Limits { metrics: 10 * DAY, logs: 5 * DAY, alerts: 20 * DAY };
    f.sink = Sqlite::new(SqliteConfig { retention, ..SqliteConfig::new(f.path.clone()) });
    f.sink.open().await.unwrap();
    f
}

#[tokio::test]
async fn rows_of_any_time_stay_as_long_from_their_arrival() {
    let mut f = open().await;
    let past = "1970-01-01T00:00:00Z".parse().unwrap();
    let future = "2099-01-01T00:00:00Z".parse().unwrap();
    f.sink.write(&metrics(vec![row("past", past), row("now", now()), row("future", future)])).await.unwrap();
    let records = [past, future].map(|time| {
        [
            record(Kind::Logs, Rows::Logs(vec![log(time)].into())),
            record(Kind::Alerts, Rows::Alert(Box::new(alert(time)))),
        ]
    });
    f.sink.write(&Batch { records: records.into_iter().flatten().collect(), ..Batch::default() }).await.unwrap();
    let left = |f: &Fixture| {
        f.query(
            "SELECT (SELECT count(*) FROM recap_system_metrics), (SELECT count(*) FROM logs), (SELECT count(*) FROM alerts)",
        )
        .concat()
    };
    let began = now();
    let after = |days: u32| began.plus(days * DAY).plus(Duration::from_secs(60));
    assert_eq!(f.sink.retain(began).await.unwrap().rows, 0);
    for day in 1..5 {
        assert_eq!(f.sink.retain(after(day)).await.unwrap().rows, 0);
    }
    f.sink.write(&metrics(vec![row("later", past)])).await.unwrap();
    for (day, counts) in [(5, "4|0|2"), (9, "4|0|2"), (10, "1|0|2"), (14, "1|0|2"), (16, "0|0|2"), (21, "0|0|0")] {
        f.sink.retain(after(day)).await.unwrap();
        assert_eq!(left(&f), counts, "day {day}");
    }
    // An empty table counts from 1 again; what is new is not taken for old.
    f.sink.write(&metrics(vec![row("new", now())])).await.unwrap();
    for day in [22, 25] {
        f.sink.retain(after(day)).await.unwrap();
        assert_eq!(left(&f), "1|0|0");
    }
}

#[tokio::test]
async fn much_is_deleted_in_pieces() {
    let mut f = open().await;
    f.sink.write(&metrics(vec![row("old", now()); 12_000])).await.unwrap();
    f.sink.retain(now()).await.unwrap();
    f.sink.write(&metrics(vec![row("new", now()); 100])).await.unwrap();
    assert_eq!(f.sink.retain(now().plus(11 * DAY)).await.unwrap().rows, 12_000);
    assert_eq!(f.query("SELECT DISTINCT metric_name FROM recap_system_metrics"), ["new"]);
}
