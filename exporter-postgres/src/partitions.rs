//! Day partitions of `recap_system_metrics`, made on demand.
//!
//! A day gets a partition when a row needs it and the day touches [now − retention, now + 1 day]; today and tomorrow
//! are made ahead, so that rows which others insert find theirs. Everything else goes to the default partition.
//! Rows of a day that reached the default partition before the day's own existed are moved.
//!
//! ATTACH wants the default partition for itself for a moment. Who reads the table for hours (a dump, a report) keeps
//! it from that; writing must not wait for them, so the rows go to the default partition until a later attempt.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use exporter::sink::SinkError;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use wire::Timestamp;

use crate::config::Place;
use crate::error::schema_error;
use crate::migrate::LOCK;

/// The pause after an attempt that others' locks prevented. Each attempt holds up all writers while it waits.
const POSTPONED: Duration = Duration::from_secs(300);

const DAY_MILLIS: i64 = 86_400_000;

/// Days since the epoch, UTC.
type Day = i64;

/// The days whose partition is known to exist.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    made: BTreeSet<Day>,
    not_before: Option<Instant>,
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
            if self.made.contains(&day) || self.not_before.is_some_and(|time| Instant::now() < time) {
                continue;
            }
            match create(client, place, day).await? {
                Outcome::There => {
                    self.made.insert(day);
                }
                Outcome::Postponed => self.not_before = Some(Instant::now() + POSTPONED),
            }
        }
        Ok(())
    }
}

/// What became of a wish for a partition.
enum Outcome {
    /// The day has one.
    There,
    /// It could not be made in reasonable time; rows of the day go to the default partition for now.
    Postponed,
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

/// The names of the day partitions that ended at `end` or before, oldest first. Partitions of other names are their
/// makers' own matter.
pub(crate) async fn ended(client: &Client, end: Timestamp) -> Result<Vec<String>, tokio_postgres::Error> {
    let last = name(day(end));
    let sql = "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'recap_system_metrics'::regclass
                   AND c.relname ~ '^recap_system_metrics_[0-9]{8}$' AND c.relname < $1::text
               ORDER BY c.relname";
    client.query(sql, &[&last]).await?.iter().map(|row| row.try_get(0)).collect()
}

fn name(day: Day) -> String {
    format!("recap_system_metrics_{}", date(day).replace('-', ""))
}

/// Makes one day's partition in a transaction of its own. It does nothing where it exists already.
async fn create(client: &mut Client, place: &Place, day: Day) -> Result<Outcome, SinkError> {
    let (from, to) = (date(day), date(day + 1));
    let name = name(day);
    let doing = || format!("making the partition {name} of postgres at {place}");
    let transaction = client.transaction().await.map_err(|e| schema_error(doing(), e))?;
    transaction
        .batch_execute("SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '40s'")
        .await
        .map_err(|e| schema_error(doing(), e))?;
    // Two members may want the same day at the same time.
    if let Err(e) = transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await {
        return too_long(&e).then(|| postponed(&name, place, &e)).ok_or_else(|| schema_error(doing(), e));
    }
    let exists = transaction
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(|e| schema_error(doing(), e))?;
    if exists {
        return Ok(Outcome::There);
    }
    // Writers of the parent wait meanwhile, or one of them could put a row of this day into the default partition
    // between the move and ATTACH, which would then fail. Readers go on, but for the moment of ATTACH.
    let sql = format!(
        "LOCK TABLE recap_system_metrics IN SHARE ROW EXCLUSIVE MODE;
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
        Ok(()) => {
            transaction.commit().await.map_err(|e| schema_error(doing(), e))?;
            Ok(Outcome::There)
        }
        // Someone made a partition of another span, such as a month: its rows have a home.
        Err(e) if e.code() == Some(&SqlState::INVALID_OBJECT_DEFINITION) => {
            tracing::warn!("no partition {name} in postgres at {place}: another partition covers that day");
            Ok(Outcome::There)
        }
        Err(e) if too_long(&e) => Ok(postponed(&name, place, &e)),
        Err(e) => Err(schema_error(doing(), e)),
    }
}

/// Whether it took too long: others' locks, waited for in vain or in a circle that the server cut here, or a default
/// partition with too many rows to move.
fn too_long(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::QUERY_CANCELED];
    error.code().is_some_and(|code| codes.contains(code))
}

fn postponed(name: &str, place: &Place, error: &tokio_postgres::Error) -> Outcome {
    let reason = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    tracing::warn!(
        "no partition {name} in postgres at {place} yet ({reason}): a long transaction holds recap_system_metrics, or \
         its default partition has grown very large; the day's rows go there as well, and the next attempt is in {} s",
        POSTPONED.as_secs()
    );
    Outcome::Postponed
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
