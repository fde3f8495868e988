//! PostgreSQL: metrics, pipeline records and alerts.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};
use wire::Kind;

use super::{Expected, Tally, Verdict, failed};
use crate::command::CommandError;
use crate::sim::content::NUMBER;

/// Counts the rows of every record.
pub(super) async fn look(config: &Config, expected: &Expected<'_>) -> Result<Verdict, CommandError> {
    let store = format!("the PostgreSQL database {}", config.get_dbname().unwrap_or("of the user's name"));
    let (client, connection) = config.connect(NoTls).await.map_err(|error| failed(&store, sentence(&error)))?;
    // It ends with the client; an error shows in the queries.
    let connection = tokio::spawn(connection);
    let mut tally = Tally::new(expected);
    let counted = count(&client, expected, &mut tally).await;
    drop(client);
    let _ = connection.await;
    counted.map_err(|error| failed(&store, sentence(&error)))?;
    Ok(tally.judge(store, &[Kind::Metrics, Kind::Pipeline, Kind::Alerts]))
}

/// The library's own text of a refusal is "db error".
fn sentence(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

async fn count(client: &Client, expected: &Expected<'_>, tally: &mut Tally<'_>) -> Result<(), tokio_postgres::Error> {
    let (prefix, since) = (expected.prefix(), expected.since() as f64 / 1000.0);
    let hosts = format!("host:{prefix}");
    let metrics = "SELECT job_id, (extract(epoch FROM recorded_at) * 1000)::int8, count(*), \
                   sum(round(metric_value * 100)::int8)::int8 FROM recap_system_metrics \
                   WHERE starts_with(job_id, $1) AND stage <> 'process' AND recorded_at >= to_timestamp($2) GROUP BY 1, 2";
    each(client, metrics, &[&hosts, &since], |row| {
        let (job, time): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let record = job.strip_prefix("host:").and_then(|host| expected.metrics_at(host, time));
        tally.note(record, rows(row, 2)?, None, Some(row.try_get(3)?));
        Ok(())
    })
    .await?;
    let pipeline = format!(
        "SELECT metadata->>'{NUMBER}', count(*), sum(round(metric_value * 100)::int8)::int8 FROM recap_system_metrics \
         WHERE starts_with(job_id, $1) AND metadata ? '{NUMBER}' AND recorded_at >= to_timestamp($2) GROUP BY 1"
    );
    each(client, &pipeline, &[&prefix, &since], |row| {
        let record = expected.record_of(row.try_get(0)?, Kind::Pipeline);
        tally.note(record, rows(row, 1)?, None, Some(row.try_get(2)?));
        Ok(())
    })
    .await?;
    let alerts = "SELECT regexp_replace(event_id, '-[0-9]+$', ''), count(*), count(DISTINCT event_id) FROM alerts \
                  WHERE starts_with(host, $1) AND time >= to_timestamp($2) GROUP BY 1";
    each(client, alerts, &[&prefix, &since], |row| {
        let record = expected.record_of(row.try_get(0)?, Kind::Alerts);
        tally.note(record, rows(row, 1)?, Some(rows(row, 2)?), None);
        Ok(())
    })
    .await
}

fn rows(row: &Row, column: usize) -> Result<u64, tokio_postgres::Error> {
    row.try_get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0))
}

/// The answer is read row by row: a long simulation has millions of records.
async fn each(
    client: &Client,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
    mut row: impl FnMut(&Row) -> Result<(), tokio_postgres::Error>,
) -> Result<(), tokio_postgres::Error> {
    let mut found = pin!(client.query_raw(query, parameters.iter().copied()).await?);
    while let Some(next) = found.try_next().await? {
        row(&next)?;
    }
    Ok(())
}
