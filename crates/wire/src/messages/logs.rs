use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Body, Kind, Timestamp};

/// A batch of log records. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Logs {
    /// In the order the agent took them.
    pub records: Vec<LogRecord>,
}

impl Body for Logs {
    const KIND: Kind = Kind::Logs;

    fn log_records(&mut self) -> Option<&mut [LogRecord]> {
        Some(&mut self.records)
    }
}

/// One log record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogRecord {
    /// When the line was written, by its own account; when it was taken, where it has none.
    pub timestamp: Timestamp,
    /// Its level, normalized.
    pub level: Level,
    /// The level as the line spells it, where that differs from `level`: `CRITICAL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_original: Option<String>,
    /// The service that wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_name: String,
    /// Its text.
    pub message: String,
    /// A latency that the line reports, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The logger's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub logger: String,
    /// For example `production`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// Decides how long it is kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub category: String,
    /// Trace id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// Request id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Everything else the line carried; nested keys joined by dots.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// A log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Also trace.
    Debug,
    /// Also notice, and whatever has no level.
    Info,
    /// Warning.
    Warn,
    /// Error.
    Error,
    /// Also critical, alert, emergency, panic.
    Fatal,
}

impl Level {
    /// The level that a word means, in any case: the names of syslog, Python, Go, Java and JavaScript loggers.
    pub fn from_word(word: &str) -> Option<Self> {
        const WORDS: &[(&str, Level)] = &[
            ("trace", Level::Debug),
            ("verbose", Level::Debug),
            ("debug", Level::Debug),
            ("info", Level::Info),
            ("information", Level::Info),
            ("informational", Level::Info),
            ("notice", Level::Info),
            ("log", Level::Info),
            ("warn", Level::Warn),
            ("warning", Level::Warn),
            ("err", Level::Error),
            ("error", Level::Error),
            ("severe", Level::Error),
            ("crit", Level::Fatal),
            ("critical", Level::Fatal),
            ("alert", Level::Fatal),
            ("emerg", Level::Fatal),
            ("emergency", Level::Fatal),
            ("fatal", Level::Fatal),
            ("panic", Level::Fatal),
            ("dpanic", Level::Fatal),
        ];
        WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.trim())).map(|(_, level)| *level)
    }

    /// As it stands in the `level` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
