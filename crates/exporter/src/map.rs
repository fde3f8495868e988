//! From messages to rows. Pure: the time of now is a parameter.
//!
//! A row that no store would take is refused alone; the other rows of its message are written.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use wire::messages::{
    AlertState, AlertTransition, HostState, Logs, Metrics, Pipeline, PipelineRecord, Process, Status, check_row,
};
use wire::{Head, HostName, Kind, LabelSet, Stage, Timestamp, Value};

use crate::rows::{AlertRow, HostRow, JsonObject, LogRow, MetricRow};

/// What decides which rows a message makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// One metrics message in each such span makes rows; zero: every message does.
    pub every: Duration,
    /// Whether the top processes make rows.
    pub processes: bool,
    /// Metric rows older than this are marked with `metadata.original_time`.
    pub retention: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { every: Duration::from_secs(60), processes: false, retention: Duration::from_secs(90 * 86_400) }
    }
}

impl Rules {
    /// Whether a row of this time belongs to no day that is kept, so that it says its time in its metadata.
    fn is_marked(&self, time: Timestamp, now: Timestamp) -> bool {
        time < now.minus(self.retention) || time > now.plus(AHEAD)
    }
}

/// How far ahead of ours a sender's clock may be before its rows are marked.
const AHEAD: Duration = Duration::from_secs(86_400);

/// The first moment that a metric row holds: 0001-01-01T00:00:00Z. There is no year 0 in SQL.
const FIRST: i64 = -62_135_596_800_000;

/// What the external labels of one message may come to, copied into each of its rows. A thousand rows with 2 KiB of
/// labels stay below it; a message made to multiply to gigabytes, which would come again after each start, does not.
const MOST_COPIED: usize = 4 << 20;

/// A row that is not written, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// A sentence.
    pub reason: String,
    /// The row as JSON, for the dead letters.
    pub row: Json,
    /// The kind of message that could carry it: for [`Kind::Pipeline`] it is one of the records, else the whole body.
    pub of: Kind,
}

/// The rows of a message and what was refused of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapped {
    /// In the order of the message.
    pub rows: Vec<MetricRow>,
    /// Likewise.
    pub refused: Vec<Refusal>,
}

/// Whether a metrics message makes rows, by its own time alone, so that every member of a group chooses alike: it is
/// the first within its span of `every`.
pub fn chosen(time: Timestamp, interval_seconds: f64, every: Duration) -> bool {
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    // An interval that is no span of time says nothing about what else will come: better a row too many.
    if every == 0 || !interval_seconds.is_finite() || interval_seconds <= 0.0 {
        return true;
    }
    (time.as_millis().rem_euclid(every) as f64) < interval_seconds * 1000.0
}

/// The rows of one interval of a host that was [`chosen`]: one per gauge and published sample, and per process where `rules` says so.
pub fn metrics(head: &Head, body: Metrics, rules: &Rules, now: Timestamp) -> Mapped {
    let mut mapped = Mapped::default();
    let samples: usize = body.families.iter().map(|family| family.samples.len()).sum();
    let processes = if rules.processes { 2 * body.processes.len() } else { 0 };
    let labels: usize = body.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    if labels.saturating_mul(body.gauges.len() + samples + processes) > MOST_COPIED {
        let reason =
            format!("its labels of {labels} bytes, copied into each row, come to more than {MOST_COPIED} bytes");
        let row = serde_json::to_value(&body).unwrap_or_default();
        mapped.refused.push(Refusal { reason, row, of: Kind::Metrics });
        return mapped;
    }
    let job_id: Arc<str> = format!("host:{}", head.host).into();
    let recorded_at = head.time.max(Timestamp::from_millis(FIRST));
    let original_time = rules.is_marked(head.time, now).then(|| head.time.to_string());
    let metadata = |own: &LabelSet| own_metadata(&head.host, &body.labels, own, original_time.as_deref());
    // Most gauges have no labels of their own.
    let plain = metadata(&LabelSet::default());
    let sample =
        |stage: Stage, metric_name: &str, own: &LabelSet, value: Value| -> Result<MetricRow, Box<PipelineRecord>> {
            let stage = stage.as_str();
            let object = if own.is_empty() { plain.clone() } else { metadata(own) };
            match object {
                Some(object) if check_row(&job_id, stage, metric_name, value).is_ok() => Ok(MetricRow {
                    job_id: job_id.clone(),
                    stage: stage.into(),
                    metric_name: metric_name.to_owned(),
                    metric_value: value.0,
                    metadata: Some(object),
                    recorded_at,
                }),
                // It is refused with all that belongs to it.
                _ => Err(Box::new(PipelineRecord {
                    job_id: job_id.to_string(),
                    stage: stage.to_owned(),
                    metric_name: metric_name.to_owned(),
                    metric_value: value,
                    metadata: Some(merged(&body.labels, own)),
                    recorded_at: None,
                })),
            }
        };
    let gauges =
        body.gauges.iter().map(|gauge| sample(Stage::of(&gauge.name), &gauge.name, &gauge.labels, gauge.value));
    let samples = body.families.iter().flat_map(|family| {
        // An application's `cpu_percent` is not the host's.
        let stage = if family.scraped { Stage::Scrape } else { Stage::of(&family.name) };
        family.samples.iter().map(move |one| (stage, &family.name, one))
    });
    let samples = samples.map(|(stage, name, one)| sample(stage, name, &one.labels, one.value));
    mapped.rows.reserve(body.gauges.len());
    for row in gauges.chain(samples) {
        match row {
            Ok(row) => mapped.rows.push(row),
            Err(record) => mapped.add(*record, &head.host, head.time, rules, now),
        }
    }
    if rules.processes {
        for Process { pid, name, cpu_percent, memory_percent, .. } in &body.processes {
            for (metric_name, value) in [("cpu_percent", Some(*cpu_percent)), ("memory_percent", *memory_percent)] {
                let Some(value) = value else { continue };
                let mut metadata = merged(&body.labels, &LabelSet::default());
                metadata.insert("pid".to_owned(), Json::from(*pid));
                metadata.insert("name".to_owned(), Json::from(name.as_str()));
                let record = PipelineRecord {
                    job_id: job_id.to_string(),
                    stage: Stage::Process.as_str().to_owned(),
                    metric_name: metric_name.to_owned(),
                    metric_value: value,
                    metadata: Some(metadata),
                    recorded_at: None,
                };
                mapped.add(record, &head.host, head.time, rules, now);
            }
        }
    }
    mapped
}

fn merged(shared: &LabelSet, own: &LabelSet) -> Map<String, Json> {
    shared.iter().chain(own.iter()).map(|(name, value)| (name.to_owned(), Json::from(value))).collect()
}

/// What [`Mapped::add`] makes of labels, without a map in between; `None` if one of them can't be stored.
fn own_metadata(host: &HostName, shared: &LabelSet, own: &LabelSet, original_time: Option<&str>) -> Option<JsonObject> {
    let mut pairs: Vec<(&str, &str)> =
        shared.iter().filter(|(name, _)| own.get(name).is_none()).chain(own.iter()).collect();
    if pairs.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return None;
    }
    let mut set = |name, value| match pairs.iter_mut().find(|pair| pair.0 == name) {
        Some(pair) => Some(std::mem::replace(&mut pair.1, value)),
        None => {
            pairs.push((name, value));
            None
        }
    };
    if let Some(theirs) = set("host", host.as_str()).filter(|theirs| *theirs != host.as_str()) {
        set("exported_host", theirs);
    }
    if let Some(time) = original_time {
        set("original_time", time);
    }
    Some(JsonObject::of_texts(pairs))
}

/// The rows that a job reported, with the host that passed them on.
pub fn pipeline(head: &Head, body: Pipeline, rules: &Rules, now: Timestamp) -> Mapped {
    let mut mapped = Mapped::default();
    for record in body.records {
        mapped.add(record, &head.host, head.time, rules, now);
    }
    mapped
}

impl Mapped {
    fn add(&mut self, record: PipelineRecord, host: &HostName, time: Timestamp, rules: &Rules, now: Timestamp) {
        if let Err(fault) = record.check() {
            let row = serde_json::to_value(&record).unwrap_or_default();
            self.refused.push(Refusal { reason: fault.to_string(), row, of: Kind::Pipeline });
            return;
        }
        let mut metadata = record.metadata.unwrap_or_default();
        // The host is ours to say. A label of that name moves aside, as Prometheus does it.
        if let Some(theirs) = metadata.insert("host".to_owned(), Json::from(host.as_str()))
            && theirs != host.as_str()
        {
            metadata.insert("exported_host".to_owned(), theirs);
        }
        let recorded_at = record.recorded_at.unwrap_or(time);
        if rules.is_marked(recorded_at, now) {
            metadata.insert("original_time".to_owned(), Json::from(recorded_at.to_string()));
        }
        self.rows.push(MetricRow {
            job_id: record.job_id.into(),
            stage: record.stage.into(),
            metric_name: record.metric_name,
            metric_value: record.metric_value.0,
            metadata: Some(JsonObject::from(&metadata)),
            recorded_at: recorded_at.max(Timestamp::from_millis(FIRST)),
        });
    }
}

/// The rows of a batch of log records. `event` begins every `event_id`.
pub fn logs(head: &Head, body: Logs, event: &str) -> Vec<LogRow> {
    body.records
        .into_iter()
        .enumerate()
        .map(|(index, record)| LogRow {
            timestamp: record.timestamp,
            level: record.level.as_str(),
            level_original: record.level_original.unwrap_or_else(|| record.level.as_str().to_owned()),
            service_name: record.service_name,
            message: record.message,
            latency_ms: record.latency_ms,
            host: head.host.to_string(),
            logger: record.logger,
            environment: record.environment,
            category: record.category,
            trace_id: record.trace_id,
            request_id: record.request_id,
            fields: record.fields.into_iter().collect(),
            event_id: format!("{event}-{index}"),
        })
        .collect()
}

/// The row of an alert's transition.
pub fn alert(head: &Head, body: AlertTransition, event: &str) -> Result<AlertRow, Refusal> {
    if let Some(field) = nul_in_alert(&body) {
        let reason = format!("{field} hold the character U+0000, which can't be stored");
        return Err(Refusal { reason, row: serde_json::to_value(&body).unwrap_or_default(), of: Kind::Alerts });
    }
    let alert = body.alert;
    let first = |time: Timestamp| time.max(Timestamp::from_millis(FIRST));
    Ok(AlertRow {
        time: first(head.time),
        host: head.host.to_string(),
        alert_name: alert.labels.get("alertname").unwrap_or_default().to_owned(),
        state: match body.state {
            AlertState::Firing => "firing",
            AlertState::Resolved => "resolved",
            AlertState::Acknowledged => "acknowledged",
        },
        severity: alert.labels.get("severity").unwrap_or_default().to_owned(),
        labels: object(alert.labels),
        annotations: object(alert.annotations),
        value: Some(alert.value.0).filter(|value| value.is_finite()),
        active_at: first(alert.active_at),
        resolved_at: alert.resolved_at.map(first),
        fingerprint: alert.fingerprint,
        event_id: format!("{event}-0"),
    })
}

/// A host's row from its status, or why a text of it can't be stored. `retained`: the broker had it in its store.
pub fn host(status: &Status, retained: bool, now: Timestamp) -> Result<HostRow, &'static str> {
    // JSON writes U+0000 in this form only; a backslash before it would be another text.
    if serde_json::to_string(status).unwrap_or_default().replace("\\\\", "").contains("\\u0000") {
        return Err("the status holds the character U+0000, which can't be stored");
    }
    Ok(HostRow {
        host: status.host.to_string(),
        state: match status.state {
            HostState::Online => "online",
            HostState::Offline => "offline",
        },
        version: status.version.clone(),
        boot: status.boot.clone(),
        interval_seconds: status.interval_seconds.filter(|seconds| seconds.is_finite()),
        inventory: status.inventory.as_ref().and_then(|inventory| match serde_json::to_value(inventory) {
            Ok(Json::Object(map)) => Some(map),
            _ => None,
        }),
        // A host that has been away for a week is told with every subscription; that is no sign of it.
        seen_at: if retained { status.time.clamp(Timestamp::from_millis(FIRST), now) } else { now },
        retained,
    })
}

fn object(labels: LabelSet) -> Map<String, Json> {
    labels.into_iter().map(|(name, value)| (name, Json::from(value))).collect()
}

fn nul_in_alert(body: &AlertTransition) -> Option<&'static str> {
    let nul = |labels: &LabelSet| labels.iter().any(|(name, value)| name.contains('\0') || value.contains('\0'));
    match &body.alert {
        alert if nul(&alert.labels) => Some("the labels"),
        alert if nul(&alert.annotations) => Some("the annotations"),
        alert if alert.fingerprint.contains('\0') => Some("the fingerprint's characters"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        time("2026-11-21T22:30:00.000Z")
    }

    fn head(at: Timestamp) -> Head {
        Head { v: 1, host: "web-01".parse().unwrap(), boot: Some("b1".parse().unwrap()), seq: Some(7), time: at }
    }

    fn body<T: serde::de::DeserializeOwned>(json: Json) -> T {
        serde_json::from_value(json).unwrap()
    }

    fn sample() -> Metrics {
        body(json!({
            "interval_seconds": 10.0,
            "labels": {"cluster": "eu-1"},
            "gauges": [
                {"name": "cpu_percent", "value": 12.5},
                {"name": "disk_percent", "labels": {"mountpoint": "/"}, "value": 40},
                {"name": "swap_percent", "value": "NaN"}
            ],
            "families": [
                {"name": "node_load1", "type": "gauge", "samples": [{"labels": {"host": "mine"}, "value": 0.5}]},
            ],
            "processes": [{"pid": 42, "name": "busy", "cpu_percent": 99.0, "memory_percent": 1.5, "resident_memory_bytes": 1}]
        }))
    }

    #[test]
    fn what_was_scraped_is_no_gauge_of_the_host() {
        let family = |scraped: bool| {
            json!({"name": "cpu_percent", "type": "gauge", "scraped": scraped, "samples": [
            {"labels": {"job": "shop", "instance": "h:1"}, "value": 7}]})
        };
        let families = [family(true), family(false)];
        let body: Metrics = body(json!({"interval_seconds": 10.0, "gauges": [], "families": families}));
        let mapped = metrics(&head(now()), body, &Rules::default(), now());
        let rows: Vec<_> = mapped.rows.iter().map(|row| (&*row.job_id, &*row.stage, row.metric_value)).collect();
        assert_eq!(rows, [("host:web-01", "scrape", 7.0), ("host:web-01", "cpu", 7.0)]);
        let metadata = mapped.rows[0].metadata.as_ref().unwrap().parse();
        assert_eq!(metadata["job"], "shop");
    }

    #[test]
    fn one_message_in_each_span_is_chosen() {
        let seconds = |s: i64| Timestamp::from_millis(s * 1000);
        let every = Duration::from_secs(60);
        let chosen_of = |interval: i64, every| -> Vec<i64> {
            (0..12).map(|i| i * interval).filter(|s| chosen(seconds(*s), interval as f64, every)).collect()
        };
        assert_eq!(chosen_of(10, every), [0, 60]);
        assert_eq!(chosen_of(10, Duration::ZERO).len(), 12);
        // An interval as long as the span, or longer, or one that does not divide it.
        assert_eq!(chosen_of(60, every).len(), 12);
        assert_eq!(chosen_of(90, every).len(), 12);
        assert_eq!(chosen_of(25, every), [0, 75, 125, 200, 250]);
        // A pass that began some milliseconds late counts for its span; one before the epoch too.
        assert!(chosen(Timestamp::from_millis(60_009), 10.0, every));
        assert!(!chosen(Timestamp::from_millis(59_999), 10.0, every));
        assert!(chosen(Timestamp::from_millis(-59_999), 10.0, every));
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(chosen(Timestamp::from_millis(59_999), nonsense, every));
        }
    }

    #[test]
    fn gauges_and_samples_become_rows_and_a_nan_is_refused_alone() {
        let mapped = metrics(&head(now()), sample(), &Rules::default(), now());
        let rows: Vec<_> = mapped
            .rows
            .iter()
            .map(|row| {
                (&*row.stage, row.metric_name.as_str(), row.metric_value, row.metadata.as_ref().unwrap().parse())
            })
            .collect();
        let object = |json: Json| json.as_object().cloned().unwrap();
        assert_eq!(
            rows,
            [
                ("cpu", "cpu_percent", 12.5, object(json!({"cluster": "eu-1", "host": "web-01"}))),
                ("disk", "disk_percent", 40.0, object(json!({"cluster": "eu-1", "mountpoint": "/", "host": "web-01"}))),
                (
                    "cpu",
                    "node_load1",
                    0.5,
                    object(json!({"cluster": "eu-1", "exported_host": "mine", "host": "web-01"}))
                ),
            ]
        );
        assert!(mapped.rows.iter().all(|row| &*row.job_id == "host:web-01" && row.recorded_at == now()));
        assert_eq!(mapped.refused.len(), 1);
        assert!(mapped.refused[0].reason.contains("NaN"), "{:?}", mapped.refused);
        assert_eq!(mapped.refused[0].row["metric_name"], "swap_percent");
    }

    #[test]
    fn metadata_without_a_map_is_as_with_one() {
        let old = "2026-01-01T00:00:00.000Z";
        for at in [now(), time(old)] {
            let mut message = sample();
            let labels = json!({"mountpoint": "\"/ü\"", "cluster": "mine", "host": "theirs", "exported_host": "x",
                                "original_time": "y"});
            message.gauges.truncate(1);
            message.gauges[0].labels = body(labels.clone());
            message.families.clear();
            let row = metrics(&head(at), message, &Rules::default(), now()).rows.remove(0);
            let records: Pipeline = body(json!({"records": [
                {"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 1, "metadata": labels}]}));
            let expected = pipeline(&head(at), records, &Rules::default(), now()).rows.remove(0);
            assert_eq!(row.metadata.unwrap().parse(), expected.metadata.unwrap().parse());
        }
        let mut message = sample();
        message.gauges[1].labels = body(json!({"mountpoint": "\0"}));
        let mapped = metrics(&head(now()), message, &Rules::default(), now());
        assert!(mapped.refused[0].reason.contains("U+0000"), "{:?}", mapped.refused);
        assert_eq!(mapped.refused[0].row["metadata"]["mountpoint"], "\0");
    }

    #[test]
    fn labels_that_multiply_beyond_all_measure_are_refused() {
        let with = |bytes: usize| {
            let mut message = sample();
            message.labels = [("cluster".to_owned(), "x".repeat(bytes))].into_iter().collect();
            message.gauges = vec![message.gauges[0].clone(); 1000];
            metrics(&head(now()), message, &Rules::default(), now())
        };
        assert_eq!(with(2000).rows.len(), 1001);
        let refused = with(5000);
        assert!(refused.rows.is_empty() && refused.refused.len() == 1);
        assert!(refused.refused[0].reason.contains("5007 bytes"), "{}", refused.refused[0].reason);
    }

    #[test]
    fn processes_become_rows_on_request() {
        let rules = Rules { processes: true, ..Rules::default() };
        let mapped = metrics(&head(now()), sample(), &rules, now());
        let rows: Vec<_> = mapped.rows.iter().filter(|row| row.stage == "process").collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].metric_name.as_str(), rows[0].metric_value), ("cpu_percent", 99.0));
        assert_eq!((rows[1].metric_name.as_str(), rows[1].metric_value), ("memory_percent", 1.5));
        let metadata = rows[0].metadata.as_ref().unwrap().parse();
        assert_eq!(Json::from(metadata), json!({"cluster": "eu-1", "host": "web-01", "pid": 42, "name": "busy"}));
    }

    #[test]
    fn pipeline_records_are_refused_one_by_one() {
        let long = |n: usize| "x".repeat(n);
        let record = |job: String, stage: String, name: String| json!({"job_id": job, "stage": stage, "metric_name": name, "metric_value": 1});
        let records: Pipeline = body(json!({"records": [
            record(long(100), long(50), long(100)),
            record(long(101), "s".into(), "m".into()),
            record("j".into(), long(51), "m".into()),
            record("j".into(), "s".into(), long(101)),
            // Characters count, not bytes.
            record("ü".repeat(100), "s".into(), "m".into()),
            record(String::new(), "s".into(), "m".into()),
            {"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": "+Inf"},
            {"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 1, "metadata": {"deep": ["\u{0}"]}},
            {"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 2, "metadata": {"host": "web-01", "model": "v2"},
             "recorded_at": "2026-11-21T20:00:00Z"}
        ]}));
        let mapped = pipeline(&head(now()), records, &Rules::default(), now());
        assert_eq!(mapped.rows.len(), 3);
        assert_eq!(mapped.rows[2].recorded_at, time("2026-11-21T20:00:00Z"));
        assert_eq!(
            Json::from(mapped.rows[2].metadata.as_ref().unwrap().parse()),
            json!({"host": "web-01", "model": "v2"})
        );
        let reasons: Vec<_> = mapped.refused.iter().map(|refusal| refusal.reason.as_str()).collect();
        for (reason, part) in
            reasons.iter().zip(["job_id has 101", "stage has 51", "metric_name has 101", "empty", "inf", "U+0000"])
        {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(reasons.len(), 6);
    }

    #[test]
    fn times_outside_the_window_are_marked_and_kept() {
        let rules = Rules { retention: 30 * DAY, ..Rules::default() };
        let marked = |at: Timestamp| {
            let records: Pipeline = body(
                json!({"records": [{"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 1, "recorded_at": at.to_string()}]}),
            );
            let row = pipeline(&head(now()), records, &rules, now()).rows.remove(0);
            (row.metadata.unwrap().parse().get("original_time").cloned(), row.recorded_at)
        };
        for inside in [now(), now().minus(30 * DAY), now().plus(DAY)] {
            assert_eq!(marked(inside), (None, inside));
        }
        for outside in ["1970-01-01T00:00:00.000Z", "2099-01-01T00:00:00.000Z", "2026-10-01T00:00:00.000Z"] {
            assert_eq!(marked(time(outside)), (Some(Json::from(outside)), time(outside)));
        }
        // There is no year 0 in SQL.
        let zero = "0000-01-01T00:00:00.000Z";
        assert_eq!(marked(time(zero)), (Some(Json::from(zero)), time("0001-01-01T00:00:00Z")));
    }

    #[test]
    fn log_records_keep_their_level_and_get_their_ids() {
        let records: Logs = body(json!({"records": [
            {"timestamp": "2024-01-01T12:00:00Z", "level": "FATAL", "level_original": "CRITICAL", "message": "m",
             "fields": {"b": "2", "a": "1"}},
            {"timestamp": "2024-01-01T12:00:01Z", "level": "INFO", "message": "n"}
        ]}));
        let rows = logs(&head(now()), records, "b1-7");
        assert_eq!((rows[0].level, rows[0].level_original.as_str()), ("FATAL", "CRITICAL"));
        assert_eq!(rows[0].fields, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        assert_eq!((rows[1].level, rows[1].level_original.as_str()), ("INFO", "INFO"));
        assert_eq!((rows[0].event_id.as_str(), rows[1].event_id.as_str()), ("b1-7-0", "b1-7-1"));
    }

    #[test]
    fn alerts_become_rows_unless_they_hold_what_no_store_takes() {
        let transition = |summary: &str| -> AlertTransition {
            body(json!({"state": "resolved", "alert": {
                "fingerprint": "00ff", "labels": {"alertname": "DiskFull", "severity": "critical"},
                "annotations": {"summary": summary}, "value": "NaN",
                "active_at": "2026-11-21T22:00:00Z", "fired_at": "2026-11-21T22:05:00Z", "resolved_at": "2026-11-21T22:30:00Z"
            }}))
        };
        let row = alert(&head(now()), transition("full"), "b1-7").unwrap();
        assert_eq!((row.alert_name.as_str(), row.severity.as_str(), row.state), ("DiskFull", "critical", "resolved"));
        assert_eq!((row.value, row.event_id.as_str()), (None, "b1-7-0"));
        assert!(alert(&head(now()), transition("a\0b"), "b1-7").unwrap_err().reason.contains("annotations"));
    }

    #[test]
    fn a_status_becomes_a_host() {
        let status = |os: &str| -> Status {
            body(json!({"v": 1, "host": "web-01", "state": "online", "boot": "b1", "time": "2026-11-21T22:30:00Z",
                        "version": "0.1.0", "interval_seconds": 10.0, "inventory": {"os": os}}))
        };
        let row = host(&status("Debian \\u0000"), false, now()).unwrap();
        assert_eq!((row.state, row.interval_seconds, row.seen_at), ("online", Some(10.0), now()));
        assert_eq!(Json::from(row.inventory), json!({"os": "Debian \\u0000"}));
        assert!(host(&status("a\0b"), false, now()).is_err());
    }

    #[test]
    fn a_retained_status_is_no_sign_of_its_host() {
        let seen_at = |written: &str, retained| {
            let status =
                json!({"v": 1, "host": "web-01", "state": "offline", "boot": "b1", "time": written, "version": "0"});
            host(&body(status), retained, now()).unwrap().seen_at
        };
        assert_eq!(seen_at("2026-11-14T22:30:00Z", true), time("2026-11-14T22:30:00Z"));
        assert_eq!(seen_at("2026-11-14T22:30:00Z", false), now());
        // A host's clock that runs ahead, and one that never ran.
        assert_eq!(seen_at("2099-01-01T00:00:00Z", true), now());
        assert_eq!(seen_at("0000-01-01T00:00:00Z", true), time("0001-01-01T00:00:00Z"));
    }
}
