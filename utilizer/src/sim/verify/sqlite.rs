//! A SQLite file: all kinds.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row};
use wire::Kind;

use super::{Expected, Tally, Verdict, failed, millis};
use crate::command::CommandError;
use crate::sim::content::NUMBER;

/// Counts the rows of every record.
pub(super) fn look(path: &Path, expected: &Expected<'_>) -> Result<Verdict, CommandError> {
    let store = format!("sqlite:{}", path.display());
    let mut tally = Tally::new(expected);
    count(path, expected, &mut tally).map_err(|error| failed(&store, error))?;
    Ok(tally.judge(store, &[Kind::Metrics, Kind::Logs, Kind::Alerts, Kind::Pipeline]))
}

fn count(path: &Path, expected: &Expected<'_>, tally: &mut Tally<'_>) -> rusqlite::Result<()> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (prefix, since) = (expected.prefix(), wire::Timestamp::from_millis(expected.since()).to_string());
    let mut query = database.prepare(
        "SELECT job_id, recorded_at, count(*), sum(cast(round(metric_value * 100) AS INTEGER)) FROM recap_system_metrics \
         WHERE substr(job_id, 1, 5 + length(?1)) = 'host:' || ?1 AND stage <> 'process' AND recorded_at >= ?2 \
         GROUP BY job_id, recorded_at",
    )?;
    let mut rows = query.query((&prefix, &since))?;
    while let Some(row) = rows.next()? {
        let (job, time): (String, String) = (row.get(0)?, row.get(1)?);
        let record = millis(&time).and_then(|time| expected.metrics_at(job.strip_prefix("host:")?, time));
        tally.note(record, number(row, 2)?, None, Some(row.get(3)?));
    }
    let mut query = database.prepare(&format!(
        "SELECT json_extract(metadata, '$.{NUMBER}') AS record, count(*), sum(cast(round(metric_value * 100) AS INTEGER)) \
         FROM recap_system_metrics WHERE substr(job_id, 1, length(?1)) = ?1 AND record IS NOT NULL AND recorded_at >= ?2 \
         GROUP BY record"
    ))?;
    let mut rows = query.query((&prefix, &since))?;
    while let Some(row) = rows.next()? {
        let record = expected.record_of(&row.get::<_, String>(0)?, Kind::Pipeline);
        tally.note(record, number(row, 1)?, None, Some(row.get(2)?));
    }
    for (table, time, kind) in [("logs", "timestamp", Kind::Logs), ("alerts", "time", Kind::Alerts)] {
        // An event id is that of the record and the place in it.
        let mut query = database.prepare(&format!(
            "SELECT rtrim(rtrim(event_id, '0123456789'), '-') AS record, count(*), count(DISTINCT event_id) FROM {table} \
             WHERE substr(host, 1, length(?1)) = ?1 AND {time} >= ?2 GROUP BY record"
        ))?;
        let mut rows = query.query((&prefix, &since))?;
        while let Some(row) = rows.next()? {
            let record = expected.record_of(&row.get::<_, String>(0)?, kind);
            tally.note(record, number(row, 1)?, Some(number(row, 2)?), None);
        }
    }
    Ok(())
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0))
}
