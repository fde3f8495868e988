//! The configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use daemon::config::{Fault, Loaded, duration};
use daemon::mqtt::Password;
use exporter::cli::Exporter;
use exporter::config::{
    BatchSection, Common, ConfirmSection, DeadLettersSection, LogSection, MqttSection, RowsSection, ServeSection,
    SpoolSection, default_state_dir, password, text,
};
use exporter::map::Rules;
use serde::Deserialize;

use utilizer_exporter_clickhouse::{ClickHouse, ClickHouseConfig};

/// Where its own pages are.
const LISTEN: &str = "[::]:9462";

/// More would only wait for each other in the server.
const MOST_CONNECTIONS: usize = 64;

/// `/etc/utilizer/exporter-clickhouse.toml`; `config/exporter-clickhouse.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub(crate) struct Configuration {
    pub(crate) state_dir: PathBuf,
    pub(crate) clickhouse: ClickHouseSection,
    pub(crate) mqtt: MqttSection,
    pub(crate) batch: BatchSection,
    pub(crate) retention: RetentionSection,
    pub(crate) spool: SpoolSection,
    pub(crate) confirm: ConfirmSection,
    pub(crate) dead_letters: DeadLettersSection,
    pub(crate) serve: ServeSection,
    pub(crate) log: LogSection,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            state_dir: default_state_dir(),
            clickhouse: ClickHouseSection::default(),
            mqtt: MqttSection::default(),
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

/// `[clickhouse]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClickHouseSection {
    /// The server's HTTP interface.
    pub(crate) url: String,
    /// Made if it is missing.
    pub(crate) database: String,
    /// User name.
    pub(crate) username: String,
    /// The password; from the environment only.
    pub(crate) password: Option<Password>,
    /// A file whose first line is the password.
    pub(crate) password_file: PathBuf,
    /// How many inserts of a batch run at the same time.
    pub(crate) connections: usize,
}

impl Default for ClickHouseSection {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            database: "utilizer".to_owned(),
            username: String::new(),
            password: None,
            password_file: PathBuf::new(),
            connections: 1,
        }
    }
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionSection {
    /// How long log lines stay, counted from their arrival.
    #[serde(with = "duration")]
    pub(crate) logs: Duration,
    /// The same for lines of some categories.
    pub(crate) categories: BTreeMap<String, Span>,
    /// How long alerts stay, counted from their arrival.
    #[serde(with = "duration")]
    pub(crate) alerts: Duration,
}

/// A duration as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Span(#[serde(with = "duration")] Duration);

impl Default for RetentionSection {
    fn default() -> Self {
        let ClickHouseConfig { log_ttl, category_ttl, alert_ttl, .. } = ClickHouseConfig::new("");
        let categories = category_ttl.into_iter().map(|(name, ttl)| (name, Span(ttl))).collect();
        Self { logs: log_ttl, categories, alerts: alert_ttl }
    }
}

/// Metrics have no table here, so that their section has no keys to set.
static NO_ROWS: LazyLock<RowsSection> = LazyLock::new(RowsSection::default);

impl Exporter for Configuration {
    const PROGRAM: &'static str = "utilizer-exporter-clickhouse";
    const NAME: &'static str = "clickhouse";
    type Sink = ClickHouse;

    fn common(&self) -> Common<'_> {
        Common {
            state_dir: &self.state_dir,
            mqtt: &self.mqtt,
            rows: &NO_ROWS,
            batch: &self.batch,
            metrics_retention: Rules::default().retention,
            spool: &self.spool,
            confirm: &self.confirm,
            dead_letters: &self.dead_letters,
            listen: self.serve.listen.as_deref().unwrap_or(LISTEN),
            allow: &self.serve.allow,
            log: &self.log,
        }
    }

    fn sink(loaded: &Loaded<Self>) -> Result<ClickHouse, Vec<Fault>> {
        let section = &loaded.value.clickhouse;
        let mut config = ClickHouseConfig::new(&section.url);
        config.database.clone_from(&section.database);
        config.username = text(&section.username).map(str::to_owned);
        let RetentionSection { logs, categories, alerts } = &loaded.value.retention;
        (config.log_ttl, config.alert_ttl) = (*logs, *alerts);
        config.category_ttl = categories.iter().map(|(name, span)| (name.clone(), span.0)).collect();
        config.connections = section.connections;
        if !(1..=MOST_CONNECTIONS).contains(&section.connections) {
            let fault = format_args!("1 to {MOST_CONNECTIONS} are possible");
            return Err(vec![loaded.fault("clickhouse.connections", fault)]);
        }
        config.password =
            password(loaded, "clickhouse.password_file", section.password.as_ref(), &section.password_file)
                .map_err(|fault| vec![fault])?;
        Ok(ClickHouse::new(config))
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::{load_text, uncomment};

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/exporter-clickhouse.toml");

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let read = |text: &str| -> Loaded<Configuration> { load_text(None, text, "X", []).unwrap() };
        assert_eq!(read(EXAMPLE).value, Configuration::default());
        let mut loaded = read(&uncomment(EXAMPLE));
        assert_eq!(loaded.value.serve.listen.take().as_deref(), Some(LISTEN));
        assert_eq!(loaded.value, Configuration::default());
        for key in [
            "state_dir",
            "clickhouse.url",
            "clickhouse.database",
            "clickhouse.username",
            "clickhouse.password_file",
            "clickhouse.connections",
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
            "batch.max_rows",
            "batch.max_age",
            "retention.logs",
            "retention.categories",
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
