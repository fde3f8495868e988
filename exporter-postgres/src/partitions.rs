//! Day partitions of `recap_system_metrics`, made on demand.
//!
//! A day gets a partition when a row needs it and the day touches [now − retention, now + 1 day]; today and tomorrow
//! are made ahead, so that rows which others insert find theirs. Everything else goes to the default partition.
//! Rows of a day that reached the default partition before the day's own existed are moved.

use std::collections::BTreeSet;
use std::time::Duration;

use exporter::sink::SinkError;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use wire::Timestamp;

use crate::config::Place;
use crate::error::schema_error;
use crate::migrate::LOCK;

const DAY_MILLIS: i64 = 86_400_000;

/// Days since the epoch, UTC.
type Day = i64;

/// The days whose partition is known to exist.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    made: BTreeSet<Day>,
}

impl Partitions {
    /// Makes the partitions for rows of these times, and for today and tomorrow, where they are missing.
    pub(crate) async fn ensure(
        &mut self,
        client: &mut Client,
        place: &Place,
        times: impl Iterator<Item = Timestamp>,
        now: Timestamp,
        retention: Duration,
    ) -> Result<(), SinkError> {
        let wanted = wanted(times, now, retention);
        // Days behind the window are never asked for again.
        self.made = self.made.split_off(&day(now.minus(retention)));
        for day in wanted {
            if !self.made.contains(&day) {
                create(client, place, day).await?;
                self.made.insert(day);
            }
        }
        Ok(())
    }

    /// Forgets what it knows: another database may answer after a reconnect.
    pub(crate) fn forget(&mut self) {
        self.made.clear();
    }
}

fn day(time: Timestamp) -> Day {
    time.as_millis().div_euclid(DAY_MILLIS)
}

fn start(day: Day) -> Timestamp {
    Timestamp::from_millis(day * DAY_MILLIS)
}

/// `2026-11-21`.
fn date(day: Day) -> String {
    start(day).to_string().chars().take(10).collect()
}

fn wanted(times: impl Iterator<Item = Timestamp>, now: Timestamp, retention: Duration) -> BTreeSet<Day> {
    let today = day(now);
    let window = day(now.minus(retention))..=today + 1;
    let mut days: BTreeSet<Day> = times.map(day).filter(|day| window.contains(day)).collect();
    days.extend([today, today + 1]);
    days
}

/// Makes one day's partition in a transaction of its own. It does nothing where it exists already.
async fn create(client: &mut Client, place: &Place, day: Day) -> Result<(), SinkError> {
    let (from, to) = (date(day), date(day + 1));
    let name = format!("recap_system_metrics_{}", from.replace('-', ""));
    let doing = || format!("making the partition {name} of postgres at {place}");
    let transaction = client.transaction().await.map_err(|e| schema_error(doing(), e))?;
    // Two members may want the same day at the same time.
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(|e| schema_error(doing(), e))?;
    let exists = transaction
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(|e| schema_error(doing(), e))?;
    if exists {
        return Ok(());
    }
    // Writers of the parent wait meanwhile, or one of them could put a row of this day into the default partition
    // between the move and ATTACH, which would then fail. Readers go on. The bound keeps a forgotten transaction of
    // someone else from holding up every writer behind this lock; the tier tries again.
    let sql = format!(
        "SET LOCAL lock_timeout = '10s';
         LOCK TABLE recap_system_metrics IN SHARE ROW EXCLUSIVE MODE;
         CREATE TABLE {name} (LIKE recap_system_metrics INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
         WITH moved AS (
             DELETE FROM recap_system_metrics_default
             WHERE recorded_at >= '{from}T00:00:00Z' AND recorded_at < '{to}T00:00:00Z'
             RETURNING id, job_id, stage, metric_name, metric_value, metadata, recorded_at
         )
         INSERT INTO {name} (id, job_id, stage, metric_name, metric_value, metadata, recorded_at)
         SELECT id, job_id, stage, metric_name, metric_value, metadata, recorded_at FROM moved;
         ALTER TABLE recap_system_metrics ATTACH PARTITION {name}
             FOR VALUES FROM ('{from}T00:00:00Z') TO ('{to}T00:00:00Z');"
    );
    match transaction.batch_execute(&sql).await {
        Ok(()) => transaction.commit().await.map_err(|e| schema_error(doing(), e)),
        // Someone made a partition of another span, such as a month: its rows have a home.
        Err(e) if e.code() == Some(&SqlState::INVALID_OBJECT_DEFINITION) => {
            tracing::warn!("no partition {name} in postgres at {place}: another partition covers that day");
            Ok(())
        }
        Err(e) => Err(schema_error(doing(), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_are_utc_and_go_below_the_epoch() {
        assert_eq!(day(time("1970-01-01T23:59:59.999Z")), 0);
        assert_eq!(day(time("1969-12-31T23:59:59.999Z")), -1);
        assert_eq!(day(time("2026-11-22T01:00:00+02:00")), day(time("2026-11-21T23:00:00Z")));
        assert_eq!(date(day(time("2024-02-29T12:00:00Z"))), "2024-02-29");
    }

    #[test]
    fn only_days_inside_the_window_are_wanted() {
        let now = time("2026-11-21T22:30:00Z");
        let times = ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "2026-11-01T12:00:00Z", "2026-11-23T00:00:00Z"];
        let days = wanted(times.into_iter().map(time), now, Duration::from_secs(30 * 86_400));
        assert_eq!(days.into_iter().map(date).collect::<Vec<_>>(), ["2026-11-01", "2026-11-21", "2026-11-22"]);
    }
}
