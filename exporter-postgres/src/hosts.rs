//! The states of hosts, many in one statement.

use exporter::rows::HostRow;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Error, Statement};

use crate::time::system_time;

/// In sorted order: several members write the same hosts at the same time, and take their rows in one order.
///
/// A last will knows neither interval nor inventory: what the birth said stays.
pub(crate) const UPSERT: &str = "INSERT INTO hosts (host, state, version, boot, interval_seconds, inventory, seen_at)
    SELECT n.host, n.state, n.version, n.boot, n.interval_seconds, n.inventory, n.seen_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::jsonb[], $7::timestamptz[])
        AS n (host, state, version, boot, interval_seconds, inventory, seen_at)
    ORDER BY n.host COLLATE \"C\"
    ON CONFLICT (host) DO UPDATE SET
        state = excluded.state, version = excluded.version, boot = excluded.boot,
        interval_seconds = coalesce(excluded.interval_seconds, hosts.interval_seconds),
        inventory = coalesce(excluded.inventory, hosts.inventory),
        seen_at = CASE WHEN $8 THEN greatest(hosts.seen_at, excluded.seen_at) ELSE excluded.seen_at END";

/// At most two statements: states that came as they were published, and those that the broker repeated.
pub(crate) async fn upsert(client: &Client, statement: &Statement, rows: &[HostRow]) -> Result<(), Error> {
    for retained in [true, false] {
        let rows = || rows.iter().filter(move |row| row.retained == retained);
        if rows().next().is_none() {
            continue;
        }
        let hosts: Vec<&str> = rows().map(|row| row.host.as_str()).collect();
        let states: Vec<&str> = rows().map(|row| row.state).collect();
        let versions: Vec<&str> = rows().map(|row| row.version.as_str()).collect();
        let boots: Vec<&str> = rows().map(|row| row.boot.as_str()).collect();
        let intervals: Vec<Option<f64>> = rows().map(|row| row.interval_seconds).collect();
        let inventories: Vec<Option<Json<_>>> = rows().map(|row| row.inventory.as_ref().map(Json)).collect();
        let times: Vec<_> = rows().map(|row| system_time(row.seen_at)).collect();
        client
            .execute(statement, &[&hosts, &states, &versions, &boots, &intervals, &inventories, &times, &retained])
            .await?;
    }
    Ok(())
}
