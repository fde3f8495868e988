//! What the store refuses: cut down to where the fault is, and made a message of its own again.

use serde_json::{Map, Value as Json, json};
use wire::{Kind, Timestamp, Topic};

use crate::dead::{DeadLetter, Reason};
use crate::intake::message;
use crate::lines::LogLine;
use crate::rows::{AlertRow, JsonObject, MetricRow, Origin, Record, Rows};

/// Cuts refused records: between tables, then between records. A record that stands alone comes back.
///
/// A store that has no transaction over two tables may have written one of them when it refused the other. That
/// table's rows stay together and in their order, so that the store can recognize them.
pub(crate) fn halves(mut records: Vec<Record>) -> Result<(Vec<Record>, Vec<Record>), Record> {
    if let Some(table) = records.first().map(|record| std::mem::discriminant(&record.rows)) {
        let (first, second): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| std::mem::discriminant(&record.rows) == table);
        if !second.is_empty() {
            return Ok((first, second));
        }
        records = first;
    }
    if records.len() > 1 {
        let second = records.split_off(records.len() / 2);
        return Ok((records, second));
    }
    // Nothing is refused by nobody; two empty halves end the matter.
    records.pop().map_or_else(|| Ok((Vec::new(), Vec::new())), Err)
}

impl Rows {
    /// Cuts the rows of one record; one row comes back.
    pub(crate) fn halves(self) -> Result<(Rows, Rows), Rows> {
        match self {
            Rows::Metrics(mut first) if first.len() > 1 => {
                let second = first.split_off(first.len() / 2);
                Ok((Rows::Metrics(first), Rows::Metrics(second)))
            }
            Rows::Logs(mut first) if first.len() > 1 => {
                let second = first.split_off(first.len() / 2);
                Ok((Rows::Logs(first), Rows::Logs(second)))
            }
            rows => Err(rows),
        }
    }

    /// Puts parts of one record's rows together again.
    pub(crate) fn joined(parts: Vec<Rows>) -> Rows {
        parts
            .into_iter()
            .reduce(|all, part| match (all, part) {
                (Rows::Metrics(mut all), Rows::Metrics(part)) => {
                    all.extend(part);
                    Rows::Metrics(all)
                }
                (Rows::Logs(mut all), Rows::Logs(part)) => {
                    all.extend(part.iter().map(|line| line.to_row()));
                    Rows::Logs(all)
                }
                // A record has rows of one table, and an alert is one row.
                (all, _) => all,
            })
            .unwrap_or(Rows::Metrics(Vec::new()))
    }
}

/// A dead letter of refused rows of one record.
pub(crate) fn letter_of(origin: &Origin, rows: &Rows, detail: String) -> DeadLetter {
    let (kind, time, mut bodies): (Kind, Timestamp, Vec<Json>) = match rows {
        Rows::Metrics(rows) => {
            let time = rows.first().map(|row| row.recorded_at);
            (Kind::Pipeline, time.unwrap_or(Timestamp::from_millis(0)), rows.iter().map(metric).collect())
        }
        Rows::Logs(rows) => {
            let time = rows.first().map(|row| row.timestamp());
            (Kind::Logs, time.unwrap_or(Timestamp::from_millis(0)), rows.iter().map(log).collect())
        }
        Rows::Alert(row) => (Kind::Alerts, row.time, vec![alert(row)]),
    };
    let first = if bodies.is_empty() { Json::Object(Map::new()) } else { bodies.remove(0) };
    let mut payload = message(&origin.host, time, kind, first);
    if let Some(records) = payload.get_mut("records").and_then(Json::as_array_mut) {
        records.extend(bodies);
    }
    DeadLetter {
        topic: Topic::Telemetry(origin.host.clone(), kind).to_string(),
        reason: Reason::Poison,
        detail,
        payload: payload.to_string().into_bytes(),
        numbered: origin.boot.clone().zip(origin.seq),
    }
}

fn metric(row: &MetricRow) -> Json {
    json!({"job_id": &*row.job_id, "stage": row.stage, "metric_name": row.metric_name, "metric_value": row.metric_value,
           "metadata": row.metadata.as_ref().map(JsonObject::parse), "recorded_at": row.recorded_at})
}

fn log(row: LogLine<'_>) -> Json {
    let row = row.to_row();
    let fields: Map<_, _> = row.fields.into_iter().map(|(key, value)| (key, value.into())).collect();
    json!({"timestamp": row.timestamp, "level": row.level, "level_original": row.level_original,
           "service_name": row.service_name, "message": row.message, "latency_ms": row.latency_ms,
           "logger": row.logger, "environment": row.environment, "category": row.category,
           "trace_id": row.trace_id, "request_id": row.request_id, "fields": fields})
}

fn alert(row: &AlertRow) -> Json {
    json!({"state": row.state, "alert": {
        "fingerprint": row.fingerprint, "labels": row.labels, "annotations": row.annotations,
        "value": row.value.map_or_else(|| json!("NaN"), Json::from), "active_at": row.active_at, "fired_at": row.active_at,
        "resolved_at": row.resolved_at}})
}

#[cfg(test)]
mod tests {
    use wire::Timestamp;

    use super::*;
    use crate::rows::{LogRow, Origin};

    fn record(rows: Rows) -> Record {
        let kind = wire::Kind::Logs;
        #[allow(clippy::unwrap_used)]
        let host = "web-01".parse().unwrap();
        Record { origin: Origin { host, kind, boot: None, seq: None }, rows }
    }

    fn metrics(values: &[f64]) -> Record {
        let row = |value: &f64| MetricRow {
            job_id: "j".into(),
            stage: "s".into(),
            metric_name: "m".to_owned(),
            metric_value: *value,
            metadata: None,
            recorded_at: Timestamp::from_millis(0),
        };
        record(Rows::Metrics(values.iter().map(row).collect()))
    }

    fn alert() -> Record {
        let text = String::new;
        record(Rows::Alert(Box::new(AlertRow {
            time: Timestamp::from_millis(0),
            host: text(),
            alert_name: text(),
            state: "firing",
            severity: text(),
            labels: serde_json::Map::new(),
            annotations: serde_json::Map::new(),
            value: None,
            active_at: Timestamp::from_millis(0),
            resolved_at: None,
            fingerprint: text(),
            event_id: text(),
        })))
    }

    #[test]
    fn tables_are_parted_first_and_keep_their_rows_and_order() {
        let all = vec![metrics(&[1.0]), alert(), metrics(&[2.0, 3.0]), metrics(&[]), alert()];
        let Ok((first, second)) = halves(all) else { panic!("it has two tables") };
        assert_eq!(first, [metrics(&[1.0]), metrics(&[2.0, 3.0]), metrics(&[])]);
        assert_eq!(second, [alert(), alert()]);
        let Ok((first, second)) = halves(first) else { panic!("it has three records") };
        assert_eq!((&first[..], &second[..]), (&[metrics(&[1.0])][..], &[metrics(&[2.0, 3.0]), metrics(&[])][..]));
        assert_eq!(halves(first), Err(metrics(&[1.0])));
        let rows = metrics(&[2.0, 3.0]).rows;
        let Ok((first, second)) = rows.clone().halves() else { panic!("it has two rows") };
        assert_eq!((&first, &second), (&metrics(&[2.0]).rows, &metrics(&[3.0]).rows));
        assert_eq!(first.clone().halves(), Err(first.clone()));
        assert_eq!(Rows::joined(vec![first, second]), rows);
        assert_eq!(halves(vec![alert()]), Err(alert()));
    }

    /// A person mends it or its store, and puts it back.
    #[test]
    fn a_refused_row_is_a_message_that_can_come_again() {
        let log = LogRow {
            timestamp: Timestamp::from_millis(1_700_000_000_000),
            level: "WARN",
            level_original: "WARNING".to_owned(),
            service_name: "s".to_owned(),
            message: "m".to_owned(),
            latency_ms: Some(1.5),
            host: "web-01".to_owned(),
            logger: "l".to_owned(),
            environment: String::new(),
            category: String::new(),
            trace_id: String::new(),
            request_id: String::new(),
            fields: vec![("a".to_owned(), "1".to_owned())],
            event_id: "b1-7-0".to_owned(),
        };
        let alert = match alert().rows {
            Rows::Alert(row) => Rows::Alert(Box::new(AlertRow { fingerprint: "00ff".to_owned(), ..*row })),
            rows => rows,
        };
        for (kind, rows) in [
            (Kind::Pipeline, metrics(&[1.0, 2.0]).rows),
            (Kind::Logs, Rows::Logs(vec![log].into())),
            (Kind::Alerts, alert),
        ] {
            let letter = letter_of(&record(rows.clone()).origin, &rows, "a bad taste".to_owned());
            assert_eq!(letter.topic, format!("utilizer/v1/telemetry/web-01/{kind}"));
            let frame = crate::frame::Frame {
                received: Timestamp::from_millis(0),
                host: "web-01".parse().unwrap(),
                kind,
                mark: crate::frame::Mark::of(&[], &letter.payload),
                content_type: None,
            };
            let taken = crate::intake::take(&frame, &letter.payload, &Kind::ALL, &crate::map::Rules::default());
            assert!(taken.dead.is_empty(), "{:?}", taken.dead);
            assert_eq!(taken.record.row_count(), record(rows).row_count());
        }
    }
}
