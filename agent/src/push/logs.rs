//! `POST /v1/logs`: log lines as JSON, in the formats that applications already write, or as OTLP/HTTP has them.
//!
//! What they mean is `crates/logs`' to say, as it does for lines of files: well-known keys become columns, everything else
//! becomes a field, and secrets stay here. But what is handed in can be given back: a record that is wrong is refused.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::logs::formats::otlp;
use ::logs::{Counts, Plan, Policy};
use serde_json::{Map, Value};
use wire::Timestamp;
use wire::messages::Logs;

use super::{BodyFault, records};
use crate::snapshot::{Families, Labels};

/// What was made of a body.
#[derive(Debug)]
pub struct Taken {
    /// The records that leave the host.
    pub logs: Logs,
    /// How many the body has.
    pub count: usize,
    /// Of a body in OpenTelemetry's form: how many more are wrong, and what is wrong with the first one.
    pub partial: Option<(u64, String)>,
}

impl Taken {
    /// OTLP/HTTP's answer to a body that was taken.
    pub fn answer(refused: u64, why: &str) -> String {
        match refused {
            0 => "{}".to_owned(),
            // Numbers of 64 bits are texts in its JSON.
            _ => {
                let partial = serde_json::json!({"rejectedLogRecords": refused.to_string(), "errorMessage": why});
                serde_json::json!({"partialSuccess": partial}).to_string()
            }
        }
    }
}

/// What is pushed, on its way to the spool.
#[derive(Debug)]
pub struct Pushed(Mutex<(Arc<Plan>, Policy)>);

impl Pushed {
    /// As the input says that is for pushes.
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self(Mutex::new((plan.clone(), Policy::new(plan))))
    }

    /// The records of a body that leave the host. `now` is the time of lines that carry none.
    pub fn take(&self, plan: &Arc<Plan>, body: &[u8], now: Timestamp) -> Result<Taken, BodyFault> {
        let (taken, is_otlp) = parse(plan, body, now)?;
        let otlp::Taken { records: taken, refused, why } = taken;
        let count = taken.len();
        let mut state = self.state();
        if !Arc::ptr_eq(&state.0, plan) {
            *state = (plan.clone(), Policy::new(plan));
        }
        let policy = &mut state.1;
        let mut records = Vec::with_capacity(count);
        taken.into_iter().for_each(|record| policy.push(record, now, &mut records));
        policy.tick(now, &mut records);
        let partial = is_otlp.then_some((refused, why));
        Ok(Taken { logs: Logs { records }, count, partial })
    }

    /// Adds what was counted of them.
    pub fn counts(&self, out: &mut Counts) {
        self.state().1.counts(out);
    }

    fn state(&self) -> MutexGuard<'_, (Arc<Plan>, Policy)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was counted of lines, as families.
pub fn expose(counts: &Counts, out: &mut Families) {
    for (name, counter) in counts.iter() {
        out.counter(name.to_owned(), counter.help.clone());
        for (labels, value) in &counter.samples {
            let labels = labels.iter().map(|(name, value)| (name.to_string(), value.clone()));
            out.push(&Labels::owned(labels), *value);
        }
    }
}

/// A body that was compressed with gzip, unless it is larger than `limit`.
pub fn unzipped(body: &[u8], limit: usize) -> Result<Vec<u8>, BodyFault> {
    let mut plain = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(body).take(limit as u64 + 1);
    decoder.read_to_end(&mut plain).map_err(|error| BodyFault::Json(format!("the body is not gzip: {error}")))?;
    if plain.len() > limit {
        return Err(BodyFault::Json(format!("the body has more than {limit} bytes, unpacked; send less at a time")));
    }
    Ok(plain)
}

/// The records of a body, as they are, and whether it is in OpenTelemetry's form.
fn parse(plan: &Plan, body: &[u8], now: Timestamp) -> Result<(otlp::Taken, bool), BodyFault> {
    // The one key that tells OpenTelemetry's form from others; it stands at the beginning.
    let head = body.get(..body.len().min(64)).unwrap_or_default();
    if head.windows(14).any(|part| part == b"\"resourceLogs\"")
        && let Ok(object) = serde_json::from_slice::<Map<String, Value>>(body)
        && let Some(records) = plan.otlp(&object, now)
    {
        return records.map(|taken| (taken, true)).map_err(|fault| BodyFault::Records(vec![fault]));
    }
    let records = records(body, |object| plan.record(object, now))?;
    Ok((otlp::Taken { records, ..otlp::Taken::default() }, false))
}

#[cfg(test)]
mod tests {
    use ::logs::{Plans, RedactSection};
    use wire::messages::{Level, LogRecord};

    use super::*;

    fn plan() -> Arc<Plan> {
        Plans::new(&[], &RedactSection::default(), &|_| None).unwrap().push
    }

    fn all(body: &str) -> Result<Logs, String> {
        let plan = plan();
        let taken = Pushed::new(&plan).take(&plan, body.as_bytes(), Timestamp::from_millis(0));
        taken.map(|taken| taken.logs).map_err(|e| e.to_string())
    }

    fn one(line: &str) -> Result<LogRecord, String> {
        all(line).map(|mut logs| logs.records.remove(0))
    }

    #[test]
    fn a_flat_line_fills_the_columns_and_keeps_the_rest() {
        let record = one(
            r#"{"@timestamp":"2026-03-01T10:00:00.250+09:00","service":"scorer","level":"CRITICAL","logger":"scorer.core",
                "message":"model is gone","latency_ms":12.5,"environment":"staging","trace_id":"t","request_id":"r",
                "accuracy":0.5,"tags":["a"],"none":null}"#,
        )
        .unwrap();
        assert_eq!(record.timestamp.to_string(), "2026-03-01T01:00:00.250Z");
        assert_eq!((record.level, record.level_original.as_deref()), (Level::Fatal, Some("CRITICAL")));
        assert_eq!((record.service_name.as_str(), record.logger.as_str()), ("scorer", "scorer.core"));
        assert_eq!((record.message.as_str(), record.latency_ms), ("model is gone", Some(12.5)));
        assert_eq!(
            (record.environment.as_str(), record.trace_id.as_str(), record.request_id.as_str()),
            ("staging", "t", "r")
        );
        let fields: Vec<_> = record.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(fields, [("accuracy", "0.5"), ("tags", r#"["a"]"#)]);
    }

    #[test]
    fn a_nested_context_is_read_as_well() {
        let record = one(
            r#"{"level":"warning","msg":"slow","data":{"method":"POST"},
                "context":{"requestId":"u-1","userId":"7","functionName":"suggest","timestamp":"2026-03-01T10:00:00Z","duration_ms":"88"}}"#,
        )
        .unwrap();
        assert_eq!(record.timestamp.to_string(), "2026-03-01T10:00:00.000Z");
        assert_eq!((record.level, record.level_original.as_deref()), (Level::Warn, Some("warning")));
        assert_eq!(
            (record.service_name.as_str(), record.request_id.as_str(), record.latency_ms),
            ("suggest", "u-1", Some(88.0))
        );
        let fields: Vec<_> = record.fields.keys().map(String::as_str).collect();
        assert_eq!(fields, ["context.userId", "data.method"]);
    }

    #[test]
    fn odd_lines_are_kept_and_wrong_ones_named() {
        let record = one(r#"{"message":{"a":1},"level":30,"ts":1790000000}"#);
        assert_eq!(record.unwrap_err(), "record 1: message is missing", "an object is no message");
        let record = one(r#"{"message":5,"level":"LOUD","ts":1790000000.5}"#).unwrap();
        assert_eq!(
            (record.message.as_str(), record.level, record.level_original.as_deref()),
            ("5", Level::Info, Some("LOUD"))
        );
        assert_eq!(record.timestamp.as_millis(), 1_790_000_000_500);
        assert_eq!(one(r#"{"message":"m","time":1790000000123}"#).unwrap().timestamp.as_millis(), 1_790_000_000_123);
        assert_eq!(one(r#"{"message":"m"}"#).unwrap().timestamp.as_millis(), 0);
        assert!(one(r#"{"message":"m","timestamp":"soon"}"#).unwrap_err().contains("timestamp soon is neither"));
        assert!(one(r#"{"message":"m","latency_ms":"fast"}"#).unwrap_err().contains("latency_ms fast is not a number"));
        let deep = format!(r#"{{"message":"m","x":{}1{}}}"#, r#"{"y":"#.repeat(50), "}".repeat(50));
        assert_eq!(one(&deep).unwrap().fields.len(), 1);
    }

    #[test]
    fn a_long_key_is_not_repeated_for_all_that_is_below_it() {
        let inner: Vec<_> = (0..1000).map(|i| format!("\"{i}\":1")).collect();
        let line = |key: usize| format!(r#"{{"message":"m","{}":{{{}}}}}"#, "k".repeat(key), inner.join(","));
        assert_eq!(one(&line(128)).unwrap().fields.len(), 1000);
        let record = one(&line(10_000)).unwrap();
        let (key, text) = record.fields.first_key_value().unwrap();
        assert_eq!((record.fields.len(), key.len()), (1, 10_000));
        assert!(text.starts_with('{') && text.contains(r#""999":1"#), "nothing of it is lost");
    }

    /// The users' own lines, where they lie beside the repository.
    #[test]
    fn the_users_lines_are_understood() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/log-lines.ndjson");
        let Ok(lines) = std::fs::read_to_string(path) else { return };
        let logs = all(&lines).unwrap();
        assert_eq!(logs.records.len(), 3);
        for record in &logs.records {
            assert!(
                record.timestamp.as_millis() > 0 && !record.service_name.is_empty() && !record.request_id.is_empty()
            );
        }
        assert_eq!(logs.records[2].trace_id, "trace_789");
    }

    #[test]
    fn opentelemetrys_form_is_taken_too() {
        let body = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
            "scopeLogs":[{"logRecords":[{"severityNumber":13,"body":{"stringValue":"token=abc"}},{"body":{"stringValue":"b"}}]}]}]}"#;
        let records = all(body).unwrap().records;
        let found: Vec<_> = records.iter().map(|r| (r.service_name.as_str(), r.level, r.message.as_str())).collect();
        assert_eq!(found, [("shop", Level::Warn, "token=***"), ("shop", Level::Info, "b")]);
        let plan = plan();
        let body =
            br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"a"}},7,{"attributes":1}]}]}]}"#;
        let taken = Pushed::new(&plan).take(&plan, body, Timestamp::from_millis(0)).unwrap();
        assert_eq!((taken.count, taken.partial.as_ref().map(|partial| partial.0)), (1, Some(2)));
        let (refused, why) = taken.partial.unwrap();
        assert_eq!(
            Taken::answer(refused, &why),
            r#"{"partialSuccess":{"errorMessage":"logRecords holds what is no object","rejectedLogRecords":"2"}}"#
        );
        assert_eq!(Taken::answer(0, ""), "{}");
        assert_eq!(all(r#"{"resourceLogs":7}"#).unwrap_err(), "resourceLogs is no list");
    }

    #[test]
    fn what_the_input_says_of_pushes_is_done() {
        let section = toml::from_str("push = true\nservice = \"app\"\n[[drop]]\nmatch = \"noise\"\n").unwrap();
        let plan = Plans::new(&[section], &RedactSection::default(), &|_| None).unwrap().push;
        let pushed = Pushed::new(&plan);
        let body = br#"[{"message":"noise"},{"message":"kept"}]"#;
        let Taken { logs, count, .. } = pushed.take(&plan, body, Timestamp::from_millis(0)).unwrap();
        assert_eq!((logs.records.len(), count, logs.records[0].service_name.as_str()), (1, 2, "app"));
        let mut counts = Counts::default();
        pushed.counts(&mut counts);
        assert!(counts.iter().any(|(name, _)| name == "utilizer_log_left_out_total"));
    }

    #[test]
    fn a_compressed_body_is_unpacked_and_bounded() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &[b'x'; 5000]).unwrap();
        let body = gzip.finish().unwrap();
        assert_eq!(unzipped(&body, 5000).unwrap().len(), 5000);
        assert!(unzipped(&body, 4999).unwrap_err().to_string().contains("more than 4999 bytes, unpacked"));
        assert!(unzipped(b"no", 10).unwrap_err().to_string().starts_with("the body is not gzip"));
    }
}
