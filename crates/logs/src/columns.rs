//! From what a line says under its names to the columns of a record.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Map;
use wire::Timestamp;
use wire::messages::{Level, LogRecord};

use crate::latency::{self, Unit};
use crate::levels;
use crate::time::{self, Zone};

/// Nested deeper than this, the rest of a value is kept as JSON text.
pub(crate) const MAX_DEPTH: usize = 8;

/// An object below a longer key than this is kept as JSON text too. Each key in it would repeat the one above, and with a
/// long one a body of a mebibyte would become gigabytes.
pub(crate) const MAX_PREFIX: usize = 128;

/// The columns that a name can mean, but for the latency, whose names have units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Timestamp,
    Level,
    Service,
    Message,
    Logger,
    Environment,
    Category,
    TraceId,
    RequestId,
    Latency,
}

const COLUMNS: usize = Column::Latency as usize + 1;

/// What the columns are called in `[logs.map]`, and the names under which loggers write them; the first that a line has
/// counts. Names inside `context` are the last resort: what a line says of itself stands above.
const NAMES: [(&str, Column, &[&str]); COLUMNS] = [
    (
        "timestamp",
        Column::Timestamp,
        &["timestamp", "@timestamp", "time", "ts", "@t", "Timestamp", "context.timestamp"],
    ),
    (
        "level",
        Column::Level,
        &[
            "level",
            "severity",
            "log.level",
            "levelname",
            "lvl",
            "loglevel",
            "severity_text",
            "@l",
            "Level",
            "levelno",
            "severityNumber",
            "severity_number",
        ],
    ),
    (
        "service",
        Column::Service,
        &["service_name", "service", "service.name", "app", "context.service", "context.functionName"],
    ),
    ("message", Column::Message, &["message", "msg", "body", "event", "short_message", "@m", "@mt", "Message"]),
    ("logger", Column::Logger, &["logger", "logger_name", "name", "log.logger", "context.logger"]),
    ("environment", Column::Environment, &["environment", "env", "deployment.environment", "context.environment"]),
    ("category", Column::Category, &["category", "context.category"]),
    (
        "trace_id",
        Column::TraceId,
        &["trace_id", "traceId", "trace.id", "dd.trace_id", "context.trace_id", "context.traceId"],
    ),
    ("request_id", Column::RequestId, &["request_id", "requestId", "reqId", "context.request_id", "context.requestId"]),
    ("latency_ms", Column::Latency, &["latency_ms", "duration_ms", "context.latency_ms", "context.duration_ms"]),
];

/// What the columns are called in `[logs.map]`.
pub(crate) fn column_names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _, _)| *name)
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(Cow<'a, str>),
    /// A boolean, a list, or an object that is not looked into, as JSON.
    Other(Cow<'a, str>),
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    fn as_str(&self) -> &str {
        let (Self::Text(text) | Self::Number(text) | Self::Other(text)) = self;
        text
    }

    fn into_string(self) -> String {
        let (Self::Text(text) | Self::Number(text) | Self::Other(text)) = self;
        text.into_owned()
    }
}

/// How names and values of an input's lines are meant.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// Sorted; the number is its rank among those of its column, the least counts.
    names: Vec<(Box<str>, Column, u8)>,
    pub(crate) zone: Zone,
    pub(crate) unit: Unit,
}

impl Columns {
    /// With more names, which stand before those that all have.
    pub(crate) fn new(more: &BTreeMap<String, Vec<String>>, zone: Zone, unit: Unit) -> Self {
        let mut names: Vec<(Box<str>, Column, u8)> = Vec::new();
        for (title, column, known) in &NAMES {
            let own = more.get(*title).map(Vec::as_slice).unwrap_or_default();
            let all = own.iter().map(String::as_str).chain(known.iter().copied());
            for (rank, name) in (0..=u8::MAX).zip(all) {
                // What was given for one column is no other's.
                let given = more.values().flatten().any(|given| given == name) && rank >= own.len().min(255) as u8;
                if !given && !names.iter().any(|(there, ..)| **there == *name) {
                    names.push((name.into(), *column, rank));
                }
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Self { names, zone, unit }
    }

    fn of(&self, key: &str) -> Option<(Column, u8)> {
        let at = self.names.binary_search_by(|(name, ..)| (**name).cmp(key)).ok()?;
        self.names.get(at).map(|(_, column, rank)| (*column, *rank))
    }
}

impl Default for Columns {
    fn default() -> Self {
        Self::new(&BTreeMap::new(), Zone::utc(), Unit::default())
    }
}

/// What is wrong with a record that was handed in; a line has no such faults.
pub(crate) type Fault = String;

/// A record in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft<'a> {
    slots: [Option<(u8, Cow<'a, str>, Value<'a>)>; COLUMNS],
    /// The best latency whose name or text has a unit of its own: its rank and milliseconds.
    latency: Option<(u8, f64)>,
    fields: BTreeMap<String, String>,
    /// What is known of the line from around it.
    pub(crate) default_time: Option<Timestamp>,
    pub(crate) default_level: Option<(Level, Option<String>)>,
    /// What the line says of its time is no time.
    pub(crate) bad_time: bool,
    /// The line is not in the format that it should have.
    pub(crate) strange: bool,
}

impl<'a> Draft<'a> {
    /// An empty one, with what is known from around the line.
    pub(crate) fn around(other: &Draft<'_>) -> Self {
        Self { default_time: other.default_time, default_level: other.default_level.clone(), ..Self::default() }
    }

    /// Takes what a line has under a name. Of two of the same name the later one counts, as it does in JSON.
    pub(crate) fn put(&mut self, columns: &Columns, key: impl Into<Cow<'a, str>>, value: Value<'a>) {
        let key = key.into();
        let Some((column, rank)) = columns.of(&key) else {
            if let Some(unit) = latency::of_key(&key)
                && let Some(millis) = latency::millis(value.as_str(), unit.unwrap_or(columns.unit))
            {
                // With a unit is surer than without; of equals, the first counts.
                let rank = if unit.is_some() { 1 } else { 2 };
                if self.latency.is_none_or(|(other, _)| rank < other) {
                    self.latency = Some((rank, millis));
                }
            }
            self.field(key, value);
            return;
        };
        let Some(slot) = self.slots.get_mut(column as usize) else { return };
        match slot {
            Some((other, _, _)) if *other < rank => self.field(key, value),
            slot => {
                if let Some((other, key, value)) = slot.replace((rank, key, value))
                    && other != rank
                {
                    self.field(key, value);
                }
            }
        }
    }

    /// Takes what another draft has, over what stands here.
    pub(crate) fn over(&mut self, other: Self) {
        for (slot, own) in self.slots.iter_mut().zip(other.slots) {
            if own.is_some() {
                *slot = own;
            }
        }
        self.latency = other.latency.or(self.latency);
        self.fields.extend(other.fields);
    }

    /// Takes a text that is a column's whatever it is called.
    pub(crate) fn set(&mut self, column: Column, text: impl Into<Cow<'a, str>>) {
        if let Some(slot) = self.slots.get_mut(column as usize) {
            *slot = Some((0, Cow::Borrowed(""), Value::Text(text.into())));
        }
    }

    pub(crate) fn latency(&mut self, millis: f64) {
        self.latency = Some((0, millis));
    }

    /// Takes what is no column.
    pub(crate) fn field(&mut self, key: impl Into<Cow<'a, str>>, value: Value<'a>) {
        self.fields.insert(key.into().into_owned(), value.into_string());
    }

    /// A field that may come in several parts, each a line of it.
    pub(crate) fn more(&mut self, key: &'static str, text: &str) {
        match self.fields.get_mut(key) {
            Some(there) => there.extend(["\n", text]),
            None => drop(self.fields.insert(key.to_owned(), text.to_owned())),
        }
    }

    /// A field, where the value is no empty text nor a dash, as logs of servers have it for nothing.
    pub(crate) fn known(&mut self, key: &'static str, value: &'a str) {
        if !matches!(value, "" | "-") {
            self.field(key, Value::text(value));
        }
    }

    /// The record of a line. `text` is its message where it names none.
    pub(crate) fn lenient(mut self, columns: &Columns, text: &str, now: Timestamp) -> (LogRecord, bool) {
        let mut bad_time = self.bad_time;
        let timestamp = self.take(Column::Timestamp).and_then(|(key, value)| {
            let time = time::whole(value.as_str(), &columns.zone, now);
            if time.is_none() {
                bad_time = true;
                self.field(if key.is_empty() { Cow::Borrowed("timestamp") } else { key }, value);
            }
            time
        });
        let timestamp = timestamp.or(self.default_time).unwrap_or(now);
        if let Some((key, value)) = self.take(Column::Latency) {
            match latency::millis(value.as_str(), Unit::Millis) {
                Some(millis) => self.latency(millis),
                None => self.field(key, value),
            }
        }
        let message = self.take(Column::Message).map(|(_, value)| value.into_string());
        (self.record(timestamp, message.unwrap_or_else(|| text.to_owned())), bad_time)
    }

    /// The record of what was handed in, or what is wrong with it.
    pub(crate) fn strict(mut self, columns: &Columns, now: Timestamp) -> Result<LogRecord, Fault> {
        let Some((_, message)) = self.take(Column::Message) else { return Err("message is missing".to_owned()) };
        let timestamp = match self.take(Column::Timestamp) {
            None => now,
            Some((_, value)) => time::whole(value.as_str(), &columns.zone, now).ok_or_else(|| {
                format!("timestamp {} is neither an RFC 3339 time nor a number since 1970", value.as_str())
            })?,
        };
        if let Some((_, value)) = self.take(Column::Latency) {
            match latency::millis(value.as_str(), Unit::Millis) {
                Some(millis) => self.latency(millis),
                None => return Err(format!("latency_ms {} is not a number", value.as_str())),
            }
        }
        Ok(self.record(timestamp, message.into_string()))
    }

    fn take(&mut self, column: Column) -> Option<(Cow<'a, str>, Value<'a>)> {
        self.slots.get_mut(column as usize)?.take().map(|(_, key, value)| (key, value))
    }

    fn record(mut self, timestamp: Timestamp, message: String) -> LogRecord {
        let (level, level_original) = match self.take(Column::Level) {
            None => self.default_level.take().unwrap_or((Level::Info, None)),
            Some((key, value)) => {
                let word = value.into_string();
                // A word that no logger uses must not lose the line: it is kept, at INFO.
                let known = levels::of_word(&word).or_else(|| levels::of_number(&key, &word));
                let level = known.or(self.default_level.as_ref().map(|(level, _)| *level)).unwrap_or(Level::Info);
                let original = (!word.is_empty() && word != level.as_str()).then_some(word);
                (level, original)
            }
        };
        let mut text = |column| self.take(column).map(|(_, value)| value.into_string()).unwrap_or_default();
        LogRecord {
            timestamp,
            level,
            level_original,
            service_name: text(Column::Service),
            message,
            logger: text(Column::Logger),
            environment: text(Column::Environment),
            category: text(Column::Category),
            trace_id: text(Column::TraceId),
            request_id: text(Column::RequestId),
            latency_ms: self.latency.map(|(_, millis)| millis),
            fields: self.fields,
        }
    }
}

/// The record of a JSON object that was handed in; what is wrong with it is said, and it is not taken.
pub(crate) fn of_object(
    columns: &Columns,
    object: Map<String, serde_json::Value>,
    now: Timestamp,
) -> Result<LogRecord, Fault> {
    let mut draft = Draft::default();
    for (key, value) in object {
        flatten(&mut draft, columns, key, value, 0);
    }
    draft.strict(columns, now)
}

/// Objects become dotted keys; everything else is a value.
fn flatten(draft: &mut Draft<'_>, columns: &Columns, key: String, value: serde_json::Value, depth: usize) {
    use serde_json::Value as Json;
    let value = match value {
        Json::Object(object) if depth < MAX_DEPTH && key.len() <= MAX_PREFIX && !object.is_empty() => {
            for (inner, value) in object {
                flatten(draft, columns, format!("{key}.{inner}"), value, depth + 1);
            }
            return;
        }
        Json::Null => return,
        Json::String(text) => Value::Text(text.into()),
        Json::Number(number) => Value::Number(number.to_string().into()),
        other => Value::Other(other.to_string().into()),
    };
    draft.put(columns, key, value);
}
