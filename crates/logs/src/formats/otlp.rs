//! OTLP/HTTP's JSON: `{"resourceLogs":[{"resource":…,"scopeLogs":[{"scope":…,"logRecords":[…]}]}]}`.

use serde_json::{Map, Value as Json};
use wire::Timestamp;
use wire::messages::{Level, LogRecord};

use crate::columns::{Column, Columns, Draft, MAX_DEPTH, MAX_PREFIX, Value};
use crate::levels;

/// Whether a body is of this form.
pub(crate) fn is_it(object: &Map<String, Json>) -> bool {
    object.contains_key("resourceLogs")
}

/// What a body holds.
#[derive(Debug, Default)]
pub struct Taken {
    /// Its records, in its order.
    pub records: Vec<LogRecord>,
    /// How many others are wrong.
    pub refused: u64,
    /// What is wrong with the first one.
    pub why: String,
}

pub(crate) fn records(body: &Map<String, Json>, columns: &Columns, now: Timestamp) -> Result<Taken, String> {
    let mut taken = Taken::default();
    for of_resource in list(body, "resourceLogs")? {
        let resource = of_resource.get("resource").and_then(Json::as_object);
        for of_scope in list(of_resource, "scopeLogs")? {
            let scope = of_scope.get("scope").and_then(|scope| scope.get("name")).and_then(Json::as_str);
            let records = match of_scope.get("logRecords") {
                None | Some(Json::Null) => continue,
                Some(Json::Array(records)) => records,
                Some(_) => return Err("logRecords is no list".to_owned()),
            };
            for record in records {
                let object = record.as_object().ok_or_else(|| "logRecords holds what is no object".to_owned());
                match object.and_then(|record| of_record(record, resource, scope, columns, now)) {
                    Ok(record) => taken.records.push(record),
                    Err(why) => {
                        taken.refused += 1;
                        if taken.refused == 1 {
                            taken.why = why;
                        }
                    }
                }
            }
        }
    }
    Ok(taken)
}

/// The objects of a list; none where it is missing, as empty ones are.
fn list<'a>(object: &'a Map<String, Json>, key: &str) -> Result<Vec<&'a Map<String, Json>>, String> {
    let items = match object.get(key) {
        None | Some(Json::Null) => return Ok(Vec::new()),
        Some(Json::Array(items)) => items,
        Some(_) => return Err(format!("{key} is no list")),
    };
    items.iter().map(|item| item.as_object().ok_or_else(|| format!("{key} holds what is no object"))).collect()
}

fn of_record(
    record: &Map<String, Json>,
    resource: Option<&Map<String, Json>>,
    scope: Option<&str>,
    columns: &Columns,
    now: Timestamp,
) -> Result<LogRecord, String> {
    let mut draft = Draft::default();
    // What the record itself says stands over what its resource says.
    for of in [resource, Some(record)].into_iter().flatten() {
        for attribute in list(of, "attributes")? {
            let key = attribute.get("key").and_then(Json::as_str).unwrap_or_default();
            if let Some(value) = attribute.get("value") {
                put(&mut draft, columns, key.to_owned(), value, 0);
            }
        }
    }
    if let Some(scope) = scope.filter(|scope| !scope.is_empty()) {
        draft.set(Column::Logger, scope.to_owned());
    }
    for (key, column) in [("traceId", Column::TraceId)] {
        if let Some(id) = record.get(key).and_then(Json::as_str).filter(|id| !id.is_empty()) {
            draft.set(column, id.to_owned());
        }
    }
    if let Some(id) = record.get("spanId").and_then(Json::as_str).filter(|id| !id.is_empty()) {
        draft.field("span_id", Value::Text(id.to_owned().into()));
    }
    let nanos = |key: &str| {
        let nanos: i64 = match record.get(key)? {
            Json::String(text) => text.parse().ok()?,
            other => other.as_i64()?,
        };
        (nanos > 0).then(|| Timestamp::from_millis(nanos / 1_000_000))
    };
    let level = level(record);
    let word = record.get("severityText").and_then(Json::as_str).filter(|word| !word.is_empty());
    let original = word.filter(|word| level.is_none_or(|level| level.as_str() != *word)).map(str::to_owned);
    draft.default_level = Some((level.unwrap_or(Level::Info), original));
    draft.default_time = nanos("timeUnixNano").or_else(|| nanos("observedTimeUnixNano"));
    match record.get("body") {
        None | Some(Json::Null) => draft.set(Column::Message, ""),
        Some(body) => match plain(body) {
            Some(text) => draft.set(Column::Message, text),
            // Pairs are what a line of JSON has: its message is among them.
            None => match pairs(body) {
                Some(pairs) => pairs.for_each(|(key, value)| put(&mut draft, columns, key.to_owned(), value, 0)),
                None => put(&mut draft, columns, "body".to_owned(), body, 0),
            },
        },
    }
    Ok(draft.lenient(columns, "", now).0)
}

/// By the number, else by the word.
fn level(record: &Map<String, Json>) -> Option<Level> {
    let number = record.get("severityNumber").and_then(Json::as_u64).and_then(|number| u32::try_from(number).ok());
    let word = record.get("severityText").and_then(Json::as_str);
    number.and_then(levels::of_opentelemetry).or_else(|| word.and_then(levels::of_word))
}

/// A value that is one text.
fn plain(value: &Json) -> Option<String> {
    let object = value.as_object()?;
    for (key, inner) in object {
        match (key.as_str(), inner) {
            ("stringValue" | "intValue" | "bytesValue", Json::String(text)) => return Some(text.clone()),
            ("intValue" | "doubleValue", Json::Number(number)) => return Some(number.to_string()),
            ("boolValue", Json::Bool(whether)) => return Some(whether.to_string()),
            _ => {}
        }
    }
    None
}

/// A value that is a list of pairs.
fn pairs(value: &Json) -> Option<impl Iterator<Item = (&str, &Json)>> {
    let list = value.get("kvlistValue")?.get("values")?.as_array()?;
    Some(list.iter().filter_map(|pair| Some((pair.get("key")?.as_str()?, pair.get("value")?))))
}

/// Takes an attribute; lists of pairs become dotted keys, other lists JSON.
fn put(draft: &mut Draft<'_>, columns: &Columns, key: String, value: &Json, depth: usize) {
    if let Some(text) = plain(value) {
        return draft.put(columns, key, Value::Text(text.into()));
    }
    if let Some(pairs) = pairs(value).filter(|_| depth < MAX_DEPTH && key.len() <= MAX_PREFIX) {
        return pairs.for_each(|(inner, value)| put(draft, columns, format!("{key}.{inner}"), value, depth + 1));
    }
    let values = value.get("arrayValue").and_then(|list| list.get("values")).and_then(Json::as_array);
    let text = match values {
        Some(values) => {
            let values = values.iter().map(|value| plain(value).map_or_else(|| value.clone(), Json::from));
            Json::Array(values.collect()).to_string()
        }
        None => value.to_string(),
    };
    draft.put(columns, key, Value::Other(text.into()));
}
