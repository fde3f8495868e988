//! One JSON object a line, for programs.
//!
//! Every object has `kind`, and the fields of the message under the names that they have on its topic (the JSON Schemas of
//! the `wire` crate): `metrics`, `alerts`, `jobs` and `status` as published, `logs` and `pipeline` one record a line with
//! its place in its message as `index`. Besides there are `gap` (`host`, `boot`, `of`, `from`, `to`, `time`: records that
//! did not come, or not yet) and `unreadable` (`topic`, `reason`).

use serde::Serialize;
use serde_json::json;
use wire::Head;

use super::entry::Entry;
use crate::terminal::plain_json;

#[derive(Serialize)]
struct Line<'a, B> {
    kind: &'static str,
    #[serde(flatten)]
    head: Option<&'a Head>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(flatten)]
    body: &'a B,
}

fn with<B: Serialize>(kind: &'static str, head: Option<&Head>, index: Option<usize>, body: &B) -> String {
    let line = Line { kind, head, index, body };
    // Messages that came as JSON are JSON.
    serde_json::to_string(&line).unwrap_or_else(|error| unreachable!("BUG: an entry does not encode: {error}"))
}

/// The line of an entry, without its end. It stands on a terminal without steering it.
pub fn line(entry: &Entry) -> String {
    plain_json(match entry {
        Entry::Log(head, index, record) => with("logs", Some(head), Some(*index), record),
        Entry::Metrics(head, body) => with("metrics", Some(head), None, body),
        Entry::Alert(head, body) => with("alerts", Some(head), None, body),
        Entry::Pipeline(head, index, record) => with("pipeline", Some(head), Some(*index), record),
        Entry::Job(head, body) => with("jobs", Some(head), None, body),
        Entry::Status(status) => with("status", None, None, status),
        Entry::Gap { host, boot, of, from, to, time } => {
            let body = json!({"host": host, "boot": boot, "of": of, "from": from, "to": to, "time": time});
            with("gap", None, None, &body)
        }
        Entry::Unreadable { topic, reason } => {
            with("unreadable", None, None, &json!({"topic": topic, "reason": reason}))
        }
    })
}
