//! The file of `utilizer up`, and of the SQLite exporter.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params_from_iter};
use wire::Timestamp;

use super::filter::{Filter, Order, names};
use super::row::Row;
use crate::command::CommandError;

/// A file, open for reading.
#[derive(Debug)]
pub struct Sqlite {
    place: String,
    // A connection is no value that several may look into at the same time.
    connection: std::sync::Mutex<Connection>,
}

const COLUMNS: &str = "timestamp, level, level_original, service_name, message, latency_ms, host, logger, environment, \
    category, trace_id, request_id, fields, event_id, ingested_at";

impl Sqlite {
    /// Opens a file that is there.
    pub(super) fn open(path: &Path) -> Result<Self, CommandError> {
        let place = format!("the SQLite file {}", path.display());
        // SQLite's own words name no reason.
        if let Err(error) = std::fs::metadata(path) {
            return Err(CommandError::Failed(format!("can't read {place}: {error}; --sqlite says where it is")));
        }
        match Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
            Ok(connection) => Ok(Self { place, connection: std::sync::Mutex::new(connection) }),
            Err(error) => Err(failed(&place, &error)),
        }
    }

    /// Gives the lines that are asked for.
    pub(super) fn rows(
        &self,
        filter: &Filter,
        order: Order,
        limit: Option<u64>,
        each: &mut dyn FnMut(Row) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let (conditions, values) = conditions(filter);
        let order = match order {
            Order::Newest => "DESC",
            Order::Oldest => "ASC",
        };
        let query = format!("SELECT {COLUMNS} FROM logs{conditions} ORDER BY timestamp {order}, rowid {order}");
        let connection = self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let broken = |error: rusqlite::Error| failed(&self.place, &error);
        let mut statement = connection.prepare(&query).map_err(broken)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(broken)?;
        let mut left = limit.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(found) = rows.next().map_err(broken)? else { break };
            let row = read(found).map_err(broken)?;
            if filter.takes_text(&row) {
                left -= 1;
                each(row)?;
            }
        }
        Ok(())
    }
}

/// What of a filter SQLite looks at, and the values of its parameters.
fn conditions(filter: &Filter) -> (String, Vec<String>) {
    let (mut parts, mut values) = (Vec::new(), Vec::new());
    // Times are text that sorts as it counts.
    for (ms, comparison) in [(filter.from, ">="), (filter.to, "<")] {
        if let Some(ms) = ms {
            parts.push(format!("timestamp {comparison} ?"));
            values.push(Timestamp::from_millis(ms).to_string());
        }
    }
    let levels: Vec<String> = filter.levels.iter().map(ToString::to_string).collect();
    for (column, list) in [
        ("level", &levels),
        ("service_name", &filter.services),
        ("host", &filter.hosts),
        ("category", &filter.categories),
    ] {
        if list.is_empty() {
            continue;
        }
        let (plain, patterns) = names(list);
        let equal = plain.iter().map(|_| format!("{column} = ?"));
        let like = patterns.iter().map(|_| format!("{column} GLOB ?"));
        parts.push(format!("({})", equal.chain(like).collect::<Vec<_>>().join(" OR ")));
        values.extend(plain.into_iter().cloned());
        // GLOB knows sets of characters besides.
        values.extend(patterns.into_iter().map(|pattern| pattern.replace('[', "[[]")));
    }
    for (column, id) in [("trace_id", &filter.trace_id), ("request_id", &filter.request_id)] {
        if let Some(id) = id {
            parts.push(format!("{column} = ?"));
            values.push(id.clone());
        }
    }
    let text = if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) };
    (text, values)
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let time = |column: usize| -> rusqlite::Result<Timestamp> {
        let text: String = row.get(column)?;
        text.parse().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
        })
    };
    let fields: String = row.get(12)?;
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&fields)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(12, rusqlite::types::Type::Text, Box::new(error)))?;
    let (field_names, field_values) = fields
        .into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .unzip();
    Ok(Row {
        timestamp: time(0)?,
        level: row.get(1)?,
        level_original: row.get(2)?,
        service_name: row.get(3)?,
        message: row.get(4)?,
        latency_ms: row.get(5)?,
        host: row.get(6)?,
        logger: row.get(7)?,
        environment: row.get(8)?,
        category: row.get(9)?,
        trace_id: row.get(10)?,
        request_id: row.get(11)?,
        field_names,
        field_values,
        event_id: row.get(13)?,
        ingested_at: time(14)?,
    })
}

fn failed(place: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Failed(format!("can't read logs from {place}: {error}"))
}
