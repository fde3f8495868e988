//! From a message to what is to be written.

use mqtt::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use wire::messages::{AlertTransition, Family, Gauge, Logs, Metrics, Pipeline, Status};
use wire::{
    Body, BootId, DecodeError, Head, HostName, Kind, LabelSet, Timestamp, Topic, decode_body, decode_head, decode_state,
};

use crate::dead::{DeadLetter, Reason};
use crate::frame::{Frame, Mark, REPLAYED};
use crate::lines;
use crate::map::{self, Mapped, Refusal, Rules};
use crate::rows::{HostRow, Origin, Record, Rows};

/// What a spooled message comes to.
#[derive(Debug)]
pub struct Taken {
    /// Its record; the rows may be none, and it is booked all the same.
    pub record: Record,
    /// The message, or rows of it, that can't be taken.
    pub dead: Vec<DeadLetter>,
}

/// Reads a spooled message. It never fails: what can't be read is a dead letter. The same bytes give the same rows each
/// time.
pub fn take(frame: &Frame, payload: &[u8], kinds: &[Kind], rules: &Rules) -> Taken {
    let Frame { host, kind, .. } = frame;
    let (boot, seq) = match &frame.mark {
        Mark::Numbered(boot, seq) => (Some(boot.clone()), Some(*seq)),
        Mark::Drawn(_) => (None, None),
    };
    let origin = Origin { host: host.clone(), kind: *kind, boot, seq };
    let letter = |of: Kind, reason, detail, payload| DeadLetter {
        topic: Topic::Telemetry(host.clone(), of).to_string(),
        reason,
        detail,
        payload,
        numbered: origin.boot.clone().zip(origin.seq),
    };
    match record(frame, payload, kinds, rules) {
        Ok((head, rows, refused)) => {
            let dead = refused.into_iter().map(|Refusal { reason, row, of }| {
                letter(of, Reason::Row, reason, message(&head.host, head.time, of, row).to_string().into_bytes())
            });
            Taken { dead: dead.collect(), record: Record { origin, rows } }
        }
        Err((reason, detail)) => {
            let dead = vec![letter(*kind, reason, detail, payload.to_vec())];
            Taken { record: Record { origin, rows: Rows::Metrics(Vec::new()) }, dead }
        }
    }
}

/// A message without a number that carries just this row, or this body.
pub(crate) fn message(host: &HostName, time: Timestamp, kind: Kind, row: Json) -> Json {
    let mut message = match kind {
        Kind::Pipeline | Kind::Logs => serde_json::json!({ "records": [row] }),
        Kind::Metrics | Kind::Alerts | Kind::Jobs => row,
    };
    message["v"] = wire::VERSION.into();
    message["host"] = host.as_str().into();
    message["time"] = time.to_string().into();
    message
}

/// What a message on a topic of state tells.
#[derive(Debug)]
pub enum Told {
    /// A host's state; the row is missing where a text of it can't be stored, which is a dead letter.
    Host(Box<Status>, Option<HostRow>, Option<DeadLetter>),
    /// Nothing: somebody cleared a topic.
    Cleared,
    /// It can't be read.
    Dead(DeadLetter),
}

/// Reads a host's state.
pub fn state(message: &Message, host: &HostName, now: Timestamp) -> Told {
    let Message { topic, payload, retain, .. } = message;
    if payload.is_empty() {
        return Told::Cleared;
    }
    let dead = |reason, detail: String| DeadLetter {
        topic: topic.clone(),
        reason,
        detail,
        payload: payload.to_vec(),
        numbered: None,
    };
    let status: Result<Status, _> =
        readable(message.content_type.as_deref()).and_then(|()| decoded(decode_state("status", payload)));
    match status.and_then(|status| same_host(host, &status.host).map(|()| status)) {
        Ok(status) => match map::host(&status, *retain, now) {
            Ok(row) => Told::Host(Box::new(status), Some(row), None),
            Err(why) => Told::Host(Box::new(status), None, Some(dead(Reason::Row, why.to_owned()))),
        },
        Err((reason, detail)) => Told::Dead(dead(reason, detail)),
    }
}

type Fault = (Reason, String);

fn decoded<T>(result: Result<T, DecodeError>) -> Result<T, Fault> {
    result.map_err(|error| {
        let reason = match error {
            DecodeError::Version { .. } => Reason::Version,
            DecodeError::Json { .. } => Reason::Payload,
        };
        (reason, error.to_string())
    })
}

fn same_host(topic: &HostName, payload: &HostName) -> Result<(), Fault> {
    if topic == payload {
        return Ok(());
    }
    Err((Reason::Host, format!("the payload names the host {payload}, the topic {topic}")))
}

fn readable(content_type: Option<&str>) -> Result<(), Fault> {
    match content_type {
        Some(content_type) if !content_type.starts_with(wire::CONTENT_TYPE) => {
            let known = wire::CONTENT_TYPE;
            Err((Reason::Payload, format!("the content type {content_type:?} can't be read; only {known} can")))
        }
        _ => Ok(()),
    }
}

/// A replayed message has a number of its own, beside the one that it may have had.
fn same_number(mark: &Mark, head: &Head) -> Result<(), Fault> {
    match (mark, &head.boot, head.seq) {
        (Mark::Numbered(boot, seq), Some(said), Some(number))
            if (boot, *seq) != (said, number) && !boot.as_str().starts_with(REPLAYED) =>
        {
            let detail = format!(
                "the payload says that it is number {number} of the run {said}, the properties beside it say number {seq} of {boot}"
            );
            Err((Reason::Payload, detail))
        }
        _ => Ok(()),
    }
}

fn record(frame: &Frame, payload: &[u8], kinds: &[Kind], rules: &Rules) -> Result<(Head, Rows, Vec<Refusal>), Fault> {
    let (kind, now) = (frame.kind, frame.received);
    if !kinds.contains(&kind) {
        return Err((Reason::Topic, format!("this store has no place for {kind}")));
    }
    readable(frame.content_type.as_deref())?;
    if kind == Kind::Logs
        && let Some((head, rows)) = lines::read(payload, &frame.event())
    {
        same_host(&frame.host, &head.host)?;
        same_number(&frame.mark, &head)?;
        return Ok((head, Rows::Logs(rows), Vec::new()));
    }
    let (head, interval_seconds) = head(kind, payload)?;
    same_host(&frame.host, &head.host)?;
    same_number(&frame.mark, &head)?;
    let (rows, refused) = match kind {
        Kind::Metrics => {
            if interval_seconds.is_some_and(|interval| !map::chosen(head.time, interval, rules.every)) {
                return Ok((head, Rows::Metrics(Vec::new()), Vec::new()));
            }
            let body = if rules.processes { body(payload)? } else { view::<WithoutProcesses>(payload)?.into() };
            let Mapped { rows, refused } = map::metrics(&head, body, rules, now);
            (Rows::Metrics(rows), refused)
        }
        Kind::Pipeline => {
            let Mapped { rows, refused } = map::pipeline(&head, body::<Pipeline>(payload)?, rules, now);
            (Rows::Metrics(rows), refused)
        }
        Kind::Logs => (Rows::Logs(map::logs(&head, body::<Logs>(payload)?, &frame.event()).into()), Vec::new()),
        Kind::Alerts => match map::alert(&head, body::<AlertTransition>(payload)?, &frame.event()) {
            Ok(row) => (Rows::Alert(Box::new(row)), Vec::new()),
            Err(refusal) => (Rows::Metrics(Vec::new()), vec![refusal]),
        },
        Kind::Jobs => return Err((Reason::Topic, "nothing here takes job transitions yet".to_owned())),
    };
    Ok((head, rows, refused))
}

/// A record's head, and the interval of a metrics message, in one pass. Of most such messages nothing else is needed: by
/// their time they make no rows.
fn head(kind: Kind, payload: &[u8]) -> Result<(Head, Option<f64>), Fault> {
    #[derive(Deserialize)]
    struct WithInterval {
        v: u32,
        host: HostName,
        #[serde(default)]
        boot: Option<BootId>,
        #[serde(default)]
        seq: Option<u64>,
        time: Timestamp,
        interval_seconds: f64,
    }
    if kind != Kind::Metrics {
        return Ok((decoded(decode_head(payload))?, None));
    }
    match view(payload) {
        Ok(WithInterval { v: wire::VERSION, host, boot, seq, time, interval_seconds }) => {
            Ok((Head { v: wire::VERSION, host, boot, seq, time }, Some(interval_seconds)))
        }
        // The fault is told in the words of what it is about.
        _ => Ok((decoded(decode_head(payload))?, None)),
    }
}

/// A [`Metrics`] whose processes make no rows: they are a third of it.
#[derive(Deserialize)]
struct WithoutProcesses {
    interval_seconds: f64,
    #[serde(default)]
    labels: LabelSet,
    gauges: Vec<Gauge>,
    #[serde(default)]
    families: Vec<Family>,
}

impl From<WithoutProcesses> for Metrics {
    fn from(WithoutProcesses { interval_seconds, labels, gauges, families }: WithoutProcesses) -> Self {
        Self { interval_seconds, labels, gauges, families, processes: Vec::new() }
    }
}

fn view<V: DeserializeOwned>(payload: &[u8]) -> Result<V, Fault> {
    decoded(
        serde_json::from_slice(payload).map_err(|source| DecodeError::Json { what: Kind::Metrics.as_str(), source }),
    )
}

fn body<B: Body>(payload: &[u8]) -> Result<B, Fault> {
    decoded(decode_body(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Kind] = &Kind::ALL;

    fn now() -> Timestamp {
        "2026-11-21T22:30:00Z".parse().unwrap()
    }

    fn frame(kind: Kind, payload: &str) -> Frame {
        let mark = Mark::of(&[], payload.as_bytes());
        Frame { received: now(), host: "web-01".parse().unwrap(), kind, mark, content_type: None }
    }

    fn read(kind: Kind, payload: &str) -> Taken {
        take(&frame(kind, payload), payload.as_bytes(), ALL, &Rules::default())
    }

    const METRICS: &str = r#"{"v":1,"host":"web-01","boot":"b1","seq":7,"time":"2026-11-21T22:30:00Z",
                              "interval_seconds":10,"gauges":[{"name":"cpu_percent","value":1}],"new_field":{}}"#;

    #[test]
    fn a_record_keeps_its_identity() {
        let taken = read(Kind::Metrics, METRICS);
        assert!(taken.dead.is_empty(), "{:?}", taken.dead);
        assert_eq!((taken.record.origin.kind, taken.record.origin.seq), (Kind::Metrics, Some(7)));
        assert!(matches!(taken.record.rows, Rows::Metrics(rows) if rows.len() == 1));
    }

    #[test]
    fn a_message_between_two_marks_makes_no_rows() {
        let taken = read(Kind::Metrics, &METRICS.replace("22:30:00Z", "22:30:10Z"));
        assert!(taken.dead.is_empty(), "{:?}", taken.dead);
        assert_eq!(taken.record.origin.seq, Some(7));
        assert!(matches!(taken.record.rows, Rows::Metrics(rows) if rows.is_empty()));
    }

    #[test]
    fn processes_are_read_where_they_make_rows() {
        let payload = METRICS.replace(
            "\"new_field\":{}",
            r#""processes":[{"pid":1,"name":"init","cpu_percent":2,
            "resident_memory_bytes":3}]"#,
        );
        for (processes, rows) in [(false, 1), (true, 2)] {
            let rules = Rules { processes, ..Rules::default() };
            let taken = take(&frame(Kind::Metrics, &payload), payload.as_bytes(), ALL, &rules);
            assert!(taken.dead.is_empty(), "{:?}", taken.dead);
            assert_eq!(taken.record.row_count(), rows);
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_dead_letter_with_its_reason_and_keeps_its_number() {
        let properties = [("boot".to_owned(), "b1".to_owned()), ("seq".to_owned(), "7".to_owned())];
        for (kind, payload, reason, part) in [
            (Kind::Metrics, "{", Reason::Payload, "no durable message"),
            (Kind::Metrics, "", Reason::Payload, "no durable message"),
            (Kind::Metrics, "[1,2]", Reason::Payload, "no durable message"),
            (Kind::Metrics, &METRICS.replace("\"gauges\"", "\"gouges\""), Reason::Payload, "gauges"),
            (Kind::Metrics, &METRICS.replace("\"v\":1", "\"v\":2"), Reason::Version, "version 2"),
            (Kind::Metrics, &METRICS.replace("web-01", "web-02"), Reason::Host, "names the host web-02"),
            (Kind::Metrics, &METRICS.replace("\"seq\":7", "\"seq\":8"), Reason::Payload, "number 8 of the run b1"),
            (Kind::Metrics, &METRICS.replace("2026-11-21T", "yesterday "), Reason::Payload, "RFC 3339"),
            (Kind::Jobs, METRICS, Reason::Topic, "job transitions"),
        ] {
            let frame = Frame { mark: Mark::of(&properties, payload.as_bytes()), ..frame(kind, payload) };
            let taken = take(&frame, payload.as_bytes(), ALL, &Rules::default());
            assert_eq!((taken.record.row_count(), taken.record.origin.seq), (0, Some(7)), "{payload}");
            let [letter] = &taken.dead[..] else { panic!("{payload}: {:?}", taken.dead) };
            assert_eq!((letter.reason, letter.payload.as_slice()), (reason, payload.as_bytes()));
            assert_eq!(letter.topic, format!("utilizer/v1/telemetry/web-01/{kind}"));
            assert_eq!(letter.numbered, Some(("b1".parse().unwrap(), 7)));
            assert!(letter.detail.contains(part), "{payload}: {}", letter.detail);
        }
        let zstd = Frame { content_type: Some("application/zstd".to_owned()), ..frame(Kind::Metrics, METRICS) };
        let compressed = take(&zstd, METRICS.as_bytes(), ALL, &Rules::default());
        assert!(compressed.dead[0].detail.contains("application/zstd"));
        let other = take(&frame(Kind::Metrics, METRICS), METRICS.as_bytes(), &[Kind::Logs], &Rules::default());
        assert!(other.dead[0].detail.contains("no place for metrics"));
    }

    /// Their letter is a message that can come again.
    #[test]
    fn refused_rows_are_messages_of_their_own() {
        let gauges = METRICS.replace("[{", "[{\"name\":\"swap_percent\",\"value\":\"NaN\"},{");
        let taken = read(Kind::Metrics, &gauges);
        assert_eq!((taken.record.row_count(), taken.dead.len()), (1, 1));
        let letter = &taken.dead[0];
        assert_eq!((letter.reason, letter.topic.as_str()), (Reason::Row, "utilizer/v1/telemetry/web-01/pipeline"));
        let payload = String::from_utf8(letter.payload.clone()).unwrap().replace("\"NaN\"", "2");
        let again = read(Kind::Pipeline, &payload);
        assert!(again.dead.is_empty(), "{:?}", again.dead);
        let Rows::Metrics(rows) = again.record.rows else { panic!("{payload}") };
        assert_eq!((rows[0].metric_name.as_str(), rows[0].recorded_at), ("swap_percent", now()));
    }

    #[test]
    fn states_are_told_apart() {
        let message = |payload: &str| {
            let topic = "utilizer/v1/telemetry/web-01/status".to_owned();
            let message = Message { topic, payload: payload.to_owned().into(), ..Message::default() };
            state(&message, &"web-01".parse().unwrap(), now())
        };
        let good =
            r#"{"v":1,"host":"web-01","state":"online","boot":"b1","time":"2026-11-21T22:30:00Z","version":"0"}"#;
        assert!(matches!(message(""), Told::Cleared));
        assert!(matches!(message(good), Told::Host(_, Some(_), None)));
        assert!(matches!(message(&good.replace("\"0\"", r#""\u0000""#)), Told::Host(_, None, Some(_))));
        for bad in ["{}", &good.replace("web-01", "web-02")] {
            assert!(matches!(message(bad), Told::Dead(_)), "{bad}");
        }
    }

    #[test]
    fn lines_without_identity_get_ids_by_their_frame() {
        let payload = r#"{"v":1,"host":"web-01","time":"2026-11-21T22:30:00Z","records":[
                          {"timestamp":"2026-11-21T22:30:00Z","level":"INFO","message":"m"}]}"#;
        let id = |frame: &Frame| match take(frame, payload.as_bytes(), ALL, &Rules::default()).record.rows {
            Rows::Logs(rows) => rows.first().unwrap().to_row().event_id,
            other => panic!("{other:?}"),
        };
        let (one, other) = (frame(Kind::Logs, payload), frame(Kind::Logs, payload));
        assert_eq!(id(&one), id(&one));
        assert_ne!(id(&one), id(&other));
    }
}
