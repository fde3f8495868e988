//! journald's entries: what a program wrote is read as any line is; what journald knows of it becomes fields.

use wire::Timestamp;
use wire::messages::LogRecord;

use super::{Facts, Reading};
use crate::columns::Draft;
use crate::levels;

/// Where the journal says when it was written: by the program's own clock, else when journald took it. Microseconds.
const TIMES: [&str; 2] = ["_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"];

pub(crate) fn record(fields: &[(String, String)], reading: &Reading, now: Timestamp) -> (LogRecord, Facts) {
    let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut draft = Draft::default();
    draft.default_time = TIMES.iter().find_map(|name| get(name)).and_then(|micros| {
        let micros: i64 = micros.trim().parse().ok()?;
        Some(Timestamp::from_millis(micros / 1000))
    });
    if let Some(severity) = get("PRIORITY").and_then(|text| text.trim().parse().ok()) {
        let word = levels::syslog_word(severity);
        draft.default_level = levels::of_syslog(severity).map(|level| {
            let original = (!word.eq_ignore_ascii_case(level.as_str())).then(|| word.to_owned());
            (level, original)
        });
    }
    let (mut record, facts) = reading.record(get("MESSAGE").unwrap_or_default(), draft, now);
    if record.service_name.is_empty() {
        record.service_name = service(&get).to_owned();
    }
    for (key, value) in fields {
        let is_told = key == "MESSAGE" || key == "PRIORITY" || TIMES.contains(&key.as_str());
        if !is_told && !record.fields.contains_key(key) {
            record.fields.insert(key.clone(), value.clone());
        }
    }
    (record, facts)
}

/// The unit where it is a service of the system's or a user's, else how the program calls itself. A session's programs
/// share their unit, and so do all that a user's manager starts.
fn service<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> &'a str {
    let unit = |name: &str| {
        let unit = get(name)?.strip_suffix(".service")?;
        (!unit.starts_with("user@") && !unit.is_empty()).then_some(unit)
    };
    unit("_SYSTEMD_USER_UNIT")
        .or_else(|| unit("_SYSTEMD_UNIT"))
        .or_else(|| get("SYSLOG_IDENTIFIER"))
        .or_else(|| get("_COMM"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Columns;
    use crate::time;

    fn read(pairs: &[(&str, &str)]) -> LogRecord {
        let fields: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let reading = Reading::new("auto", Columns::default(), None).unwrap();
        record(&fields, &reading, time::zoned("2026-11-22T15:00:00Z").unwrap()).0
    }

    #[test]
    fn an_entry_is_a_record_with_all_its_fields() {
        let record = read(&[
            ("MESSAGE", "Started shop.service - The shop."),
            ("PRIORITY", "4"),
            ("_SYSTEMD_UNIT", "shop.service"),
            ("SYSLOG_IDENTIFIER", "python3"),
            ("__REALTIME_TIMESTAMP", "1790000000123456"),
            ("_PID", "77"),
        ]);
        assert_eq!(record.timestamp.to_string(), "2026-09-21T14:13:20.123Z");
        assert_eq!((record.level.as_str(), record.level_original.as_deref()), ("WARN", Some("warning")));
        assert_eq!(
            (record.service_name.as_str(), record.message.as_str()),
            ("shop", "Started shop.service - The shop.")
        );
        let keys: Vec<_> = record.fields.keys().map(String::as_str).collect();
        assert_eq!(keys, ["SYSLOG_IDENTIFIER", "_PID", "_SYSTEMD_UNIT"]);
    }

    #[test]
    fn what_the_program_says_stands_above_what_journald_says() {
        let json = r#"{"level":"error","msg":"no","service":"pay","ts":1790000000}"#;
        let record = read(&[("MESSAGE", json), ("PRIORITY", "6"), ("_SYSTEMD_UNIT", "session-3.scope")]);
        assert_eq!(
            (record.level.as_str(), record.service_name.as_str(), record.message.as_str()),
            ("ERROR", "pay", "no")
        );
        let record = read(&[("MESSAGE", "x"), ("_SYSTEMD_UNIT", "session-3.scope"), ("SYSLOG_IDENTIFIER", "sudo")]);
        assert_eq!((record.service_name.as_str(), record.level.as_str()), ("sudo", "INFO"));
    }
}
