//! The configuration file.

use std::path::PathBuf;
use std::time::Duration;

use daemon::config::{Fault, Loaded, duration};
use exporter::cli::Exporter;
use exporter::config::{
    BatchSection, Common, ConfirmSection, DeadLettersSection, LogSection, MqttSection, RowsSection, ServeSection,
    SpoolSection, default_state_dir,
};
use serde::Deserialize;

use crate::{Limits, Sqlite, SqliteConfig};

/// Where its own pages are.
const LISTEN: &str = "[::]:9463";

/// `/etc/utilizer/exporter-sqlite.toml`; `config/exporter-sqlite.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Configuration {
    pub state_dir: PathBuf,
    pub sqlite: SqliteSection,
    pub mqtt: MqttSection,
    pub rows: RowsSection,
    pub batch: BatchSection,
    pub retention: RetentionSection,
    pub spool: SpoolSection,
    pub confirm: ConfirmSection,
    pub dead_letters: DeadLettersSection,
    pub serve: ServeSection,
    pub log: LogSection,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            state_dir: default_state_dir(),
            sqlite: SqliteSection::default(),
            mqtt: MqttSection::default(),
            rows: RowsSection::default(),
            batch: BatchSection::default(),
            retention: RetentionSection::default(),
            spool: SpoolSection::default(),
            confirm: ConfirmSection::default(),
            dead_letters: DeadLettersSection::default(),
            serve: ServeSection::default(),
            log: LogSection::default(),
        }
    }
}

/// `[sqlite]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteSection {
    /// The file.
    pub path: PathBuf,
}

impl Default for SqliteSection {
    fn default() -> Self {
        Self { path: PathBuf::from("/var/lib/utilizer/utilizer.db") }
    }
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSection {
    /// Metrics that arrived longer ago are deleted; those that are older when they arrive are marked.
    #[serde(with = "duration")]
    pub metrics: Duration,
    /// Log lines that arrived longer ago are deleted.
    #[serde(with = "duration")]
    pub logs: Duration,
    /// Alerts that arrived longer ago are deleted.
    #[serde(with = "duration")]
    pub alerts: Duration,
}

impl Default for RetentionSection {
    fn default() -> Self {
        let Limits { metrics, logs, alerts } = Limits::default();
        Self { metrics, logs, alerts }
    }
}

impl Exporter for Configuration {
    const PROGRAM: &'static str = "utilizer-exporter-sqlite";
    const NAME: &'static str = "sqlite";
    type Sink = Sqlite;

    fn common(&self) -> Common<'_> {
        Common {
            state_dir: &self.state_dir,
            mqtt: &self.mqtt,
            rows: &self.rows,
            batch: &self.batch,
            metrics_retention: self.retention.metrics,
            spool: &self.spool,
            confirm: &self.confirm,
            dead_letters: &self.dead_letters,
            listen: self.serve.listen.as_deref().unwrap_or(LISTEN),
            allow: &self.serve.allow,
            log: &self.log,
        }
    }

    fn sink(loaded: &Loaded<Self>) -> Result<Sqlite, Vec<Fault>> {
        let (path, retention) = (&loaded.value.sqlite.path, &loaded.value.retention);
        let mut faults = Vec::new();
        if path.as_os_str().is_empty() {
            faults.push(loaded.fault("sqlite.path", "it must name a file"));
        }
        for (key, limit) in [("retention.logs", retention.logs), ("retention.alerts", retention.alerts)] {
            if limit < Duration::from_secs(86_400) {
                faults.push(loaded.fault(key, "at least a day (1d) must be kept"));
            }
        }
        let RetentionSection { metrics, logs, alerts } = *retention;
        let config = SqliteConfig { path: path.clone(), retention: Limits { metrics, logs, alerts } };
        if faults.is_empty() { Ok(Sqlite::new(config)) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::{load_text, uncomment};

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/exporter-sqlite.toml");

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let read = |text: &str| -> Loaded<Configuration> { load_text(None, text, "X", []).unwrap() };
        assert_eq!(read(EXAMPLE).value, Configuration::default());
        let mut loaded = read(&uncomment(EXAMPLE));
        assert_eq!(loaded.value.serve.listen.take().as_deref(), Some(LISTEN));
        assert_eq!(loaded.value, Configuration::default());
        for key in [
            "state_dir",
            "sqlite.path",
            "mqtt.url",
            "mqtt.username",
            "mqtt.password_file",
            "mqtt.ca_file",
            "mqtt.cert_file",
            "mqtt.key_file",
            "mqtt.group",
            "mqtt.member",
            "mqtt.shard",
            "mqtt.shared",
            "mqtt.receive_maximum",
            "spool.directory",
            "spool.max_bytes",
            "confirm.every",
            "rows.every",
            "rows.processes",
            "batch.max_rows",
            "batch.max_age",
            "retention.metrics",
            "retention.logs",
            "retention.alerts",
            "dead_letters.max_bytes",
            "serve.listen",
            "serve.allow",
            "log.level",
        ] {
            assert!(loaded.is_set(key), "{key} is not in the example");
        }
    }
}
