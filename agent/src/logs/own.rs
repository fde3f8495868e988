//! The agent's own log: warnings and failures.
//!
//! It can't feed itself: what the thread that reads it says is not among it, and of what others say because of it at most
//! fifty events a second are taken. The rest is counted and told.

use std::time::Duration;

use daemon::log;
use wire::Timestamp;
use wire::messages::{Level, LogRecord};

use super::feed::Feed;
use super::source::{Next, Source};
use super::told::Counts;
use crate::outbox::Moves;

const LOOK: Duration = Duration::from_secs(1);

/// The service of these records.
const SERVICE: &str = "utilizer-agent";

/// The agent's own log as an input.
pub(super) struct Own;

impl Own {
    pub(super) fn new() -> Self {
        // From here on events are kept.
        drop(log::take_events());
        Self
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        log::leave_events();
    }
}

fn record(event: log::Event) -> LogRecord {
    let level = if event.level == tracing::Level::ERROR { Level::Error } else { Level::Warn };
    record_of(Timestamp::from(event.time), level, event.target, event.message, event.fields)
}

fn record_of(
    timestamp: Timestamp,
    level: Level,
    logger: String,
    message: String,
    fields: Vec<(String, String)>,
) -> LogRecord {
    LogRecord {
        timestamp,
        level,
        level_original: None,
        service_name: SERVICE.to_owned(),
        message,
        latency_ms: None,
        logger,
        environment: String::new(),
        category: String::new(),
        trace_id: String::new(),
        request_id: String::new(),
        fields: fields.into_iter().collect(),
    }
}

impl Source for Own {
    fn read(&mut self, feed: &mut Feed<'_>) -> Next {
        let (events, left_out) = log::take_events();
        for event in events {
            feed.record(record(event));
        }
        if left_out > 0 {
            let message = format!("{left_out} warnings and failures more stand in the agent's log");
            feed.record(record_of(feed.time, Level::Warn, SERVICE.to_owned(), message, Vec::new()));
        }
        Next::At(feed.now + LOOK)
    }

    fn moved(&mut self, _: i64, _: &mut Moves) -> bool {
        false
    }

    fn count(&self, _: &mut Counts) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_record() {
        let event = log::Event {
            time: std::time::UNIX_EPOCH + Duration::from_millis(1500),
            level: tracing::Level::ERROR,
            target: "utilizer_agent::publisher".to_owned(),
            message: "the broker is gone".to_owned(),
            fields: vec![("since".to_owned(), "5 s".to_owned())],
        };
        let record = record(event);
        assert_eq!((record.timestamp.as_millis(), record.level), (1500, Level::Error));
        assert_eq!((record.service_name.as_str(), record.message.as_str()), (SERVICE, "the broker is gone"));
        assert_eq!(record.fields["since"], "5 s");
    }
}
