//! From an MQTT message to what is to be written.

use mqtt::Message;
use wire::messages::{AlertTransition, Logs, Metrics, Pipeline, Status};
use wire::{Body, DecodeError, Head, HostName, Kind, Timestamp, Topic, decode_body, decode_head, decode_state};

use crate::dead::{DeadLetter, Reason};
use crate::map::{self, Mapped, Refusal, Rules};
use crate::rows::{HostRow, Origin, Record, Rows};

/// What a message comes to.
#[derive(Debug, Default)]
pub struct Taken {
    /// A record; its rows may be none.
    pub record: Option<Record>,
    /// A host's state.
    pub host: Option<HostRow>,
    /// The message, or rows of it, that can't be taken.
    pub dead: Vec<DeadLetter>,
}

/// Reads a message. It never fails: what can't be read is a dead letter.
pub fn take(message: &Message, rules: &Rules, now: Timestamp) -> Taken {
    let Message { topic, payload, retain, content_type, .. } = message;
    let dead = |reason, detail: String| {
        let letter = DeadLetter { topic: topic.clone(), reason, detail, payload: payload.to_vec() };
        Taken { dead: vec![letter], ..Taken::default() }
    };
    let parsed = match topic.parse() {
        Ok(parsed) => parsed,
        Err(error) => return dead(Reason::Topic, format!("{error}")),
    };
    // Nothing retained: somebody cleared a topic.
    if payload.is_empty() && matches!(parsed, Topic::Status(_)) {
        return Taken::default();
    }
    if let Some(content_type) = content_type.as_deref().filter(|text| !text.starts_with(wire::CONTENT_TYPE)) {
        let known = wire::CONTENT_TYPE;
        return dead(Reason::Payload, format!("the content type {content_type:?} can't be read; only {known} can"));
    }
    let result = match &parsed {
        Topic::Status(host) => status(host, payload, *retain, now),
        Topic::Telemetry(host, kind) => record(host, *kind, payload, rules, now),
        _ => return dead(Reason::Topic, "nothing here takes messages of this topic".to_owned()),
    };
    match result {
        Ok((mut taken, refused)) => {
            taken.dead = refused
                .into_iter()
                .map(|refusal| DeadLetter {
                    topic: topic.clone(),
                    reason: Reason::Row,
                    detail: refusal.reason,
                    payload: refusal.row.to_string().into_bytes(),
                })
                .collect();
            taken
        }
        Err((reason, detail)) => dead(reason, detail),
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

fn status(host: &HostName, payload: &[u8], retained: bool, now: Timestamp) -> Result<(Taken, Vec<Refusal>), Fault> {
    let status: Status = decoded(decode_state("status", payload))?;
    same_host(host, &status.host)?;
    Ok(match map::host(status, retained, now) {
        Ok(row) => (Taken { host: Some(row), ..Taken::default() }, Vec::new()),
        Err(refusal) => (Taken::default(), vec![refusal]),
    })
}

fn record(
    host: &HostName,
    kind: Kind,
    payload: &[u8],
    rules: &Rules,
    now: Timestamp,
) -> Result<(Taken, Vec<Refusal>), Fault> {
    let head = decoded(decode_head(payload))?;
    same_host(host, &head.host)?;
    let (rows, refused) = match kind {
        Kind::Metrics => {
            let Mapped { rows, refused } = map::metrics(&head, body::<Metrics>(payload)?, rules, now);
            (Rows::Metrics(rows), refused)
        }
        Kind::Pipeline => {
            let Mapped { rows, refused } = map::pipeline(&head, body::<Pipeline>(payload)?, rules, now);
            (Rows::Metrics(rows), refused)
        }
        Kind::Logs => (Rows::Logs(map::logs(&head, body::<Logs>(payload)?, &event(&head))), Vec::new()),
        Kind::Alerts => match map::alert(&head, body::<AlertTransition>(payload)?, &event(&head)) {
            Ok(row) => (Rows::Alert(Box::new(row)), Vec::new()),
            Err(refusal) => return Ok((Taken::default(), vec![refusal])),
        },
        Kind::Jobs => return Err((Reason::Topic, "nothing here takes job transitions yet".to_owned())),
    };
    let origin = Origin { host: head.host, kind, boot: head.boot, seq: head.seq };
    Ok((Taken { record: Some(Record { origin, rows }), ..Taken::default() }, refused))
}

fn body<B: Body>(payload: &[u8]) -> Result<B, Fault> {
    decoded(decode_body(payload))
}

/// The beginning of a record's event ids: its identity, or something random where it has none.
fn event(head: &Head) -> String {
    match (&head.boot, head.seq) {
        (Some(boot), Some(seq)) => format!("{boot}-{seq}"),
        _ => uuid::Uuid::new_v4().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T22:30:00Z".parse().unwrap()
    }

    fn read(topic: &str, payload: &str) -> Taken {
        take(&message(topic, payload), &Rules::default(), now())
    }

    fn message(topic: &str, payload: &str) -> Message {
        Message { topic: topic.to_owned(), payload: payload.to_owned().into(), ..Message::default() }
    }

    const METRICS: &str = r#"{"v":1,"host":"web-01","boot":"b1","seq":7,"time":"2026-11-21T22:30:00Z",
                              "interval_seconds":10,"gauges":[{"name":"cpu_percent","value":1}],"new_field":{}}"#;

    #[test]
    fn a_record_keeps_its_identity() {
        let taken = read("utilizer/v1/telemetry/web-01/metrics", METRICS);
        assert!(taken.dead.is_empty(), "{:?}", taken.dead);
        let record = taken.record.unwrap();
        assert_eq!((record.origin.kind, record.origin.seq), (Kind::Metrics, Some(7)));
        assert!(matches!(record.rows, Rows::Metrics(rows) if rows.len() == 1));
    }

    #[test]
    fn what_cannot_be_read_is_a_dead_letter_with_its_reason() {
        let topic = "utilizer/v1/telemetry/web-01/metrics";
        for (topic, payload, reason, part) in [
            (topic, "{", Reason::Payload, "not a durable message"),
            (topic, "", Reason::Payload, "not a durable message"),
            (topic, "[1,2]", Reason::Payload, "not a durable message"),
            (topic, &METRICS.replace("\"gauges\"", "\"gouges\""), Reason::Payload, "gauges"),
            (topic, &METRICS.replace("\"v\":1", "\"v\":2"), Reason::Version, "version 2"),
            (topic, &METRICS.replace("web-01", "web-02"), Reason::Host, "names the host web-02"),
            (topic, &METRICS.replace("2026-11-21T", "yesterday "), Reason::Payload, "RFC 3339"),
            ("utilizer/v1/telemetry/web 01/metrics", METRICS, Reason::Topic, "character ' '"),
            ("utilizer/v1/telemetry/web-01/jobs", METRICS, Reason::Topic, "job transitions"),
            ("utilizer/v1/telemetry/web-01/status", "{}", Reason::Payload, "status"),
            ("something/else", METRICS, Reason::Topic, "not one of utilizer's"),
        ] {
            let taken = read(topic, payload);
            assert!(taken.record.is_none() && taken.host.is_none(), "{payload}");
            let [letter] = &taken.dead[..] else { panic!("{payload}: {:?}", taken.dead) };
            assert_eq!((letter.reason, letter.payload.as_slice()), (reason, payload.as_bytes()));
            assert!(letter.detail.contains(part), "{payload}: {}", letter.detail);
        }
        let zstd = Message { content_type: Some("application/zstd".to_owned()), ..message(topic, "x") };
        let compressed = take(&zstd, &Rules::default(), now());
        assert!(compressed.dead[0].detail.contains("application/zstd"));
    }

    #[test]
    fn a_cleared_status_is_nothing() {
        let taken = read("utilizer/v1/telemetry/web-01/status", "");
        assert!(taken.dead.is_empty() && taken.host.is_none());
    }

    #[test]
    fn lines_without_identity_get_random_ids() {
        let payload = r#"{"v":1,"host":"a","time":"2026-11-21T22:30:00Z","records":[
                          {"timestamp":"2026-11-21T22:30:00Z","level":"INFO","message":"m"}]}"#;
        let id = || match read("utilizer/v1/telemetry/a/logs", payload).record.unwrap().rows {
            Rows::Logs(rows) => rows[0].event_id.clone(),
            other => panic!("{other:?}"),
        };
        assert_ne!(id(), id());
    }
}
