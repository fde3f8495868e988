//! The configuration file.

use std::path::PathBuf;
use std::time::Duration;

use daemon::config::{Fault, Loaded, duration};
use daemon::mqtt::Password;
use exporter::cli::Exporter;
use exporter::config::{
    BatchSection, Common, ConfirmSection, DeadLettersSection, LogSection, MqttSection, RowsSection, ServeSection,
    SpoolSection, default_state_dir, password,
};
use serde::Deserialize;

use crate::{Postgres, PostgresConfig, TlsFiles};

/// Where its own pages are.
const LISTEN: &str = "[::]:9461";

/// More would only wait for each other in the server.
const MOST_CONNECTIONS: usize = 64;

/// `/etc/utilizer/exporter-postgres.toml`; `config/exporter-postgres.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Configuration {
    pub state_dir: PathBuf,
    pub postgres: PostgresSection,
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
            postgres: PostgresSection::default(),
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

/// `[postgres]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSection {
    /// `postgres://user@host:port/database`.
    pub url: String,
    /// The password; from the environment only.
    pub password: Option<Password>,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// The authorities to trust, PEM; the system's where absent.
    pub ca_file: PathBuf,
    /// Our certificate and its chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// How many connections write at the same time.
    pub connections: usize,
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSection {
    /// Days of metrics that ended longer ago are deleted; rows older than this get no partition of their own.
    #[serde(with = "duration")]
    pub metrics: Duration,
    /// Alerts that arrived longer ago are deleted.
    #[serde(with = "duration")]
    pub alerts: Duration,
}

impl Default for RetentionSection {
    fn default() -> Self {
        let PostgresConfig { retention, alerts_retention, .. } = PostgresConfig::new("");
        Self { metrics: retention, alerts: alerts_retention }
    }
}

impl Default for PostgresSection {
    fn default() -> Self {
        Self {
            url: "postgres://utilizer@127.0.0.1:5432/utilizer".to_owned(),
            password: None,
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            connections: 1,
        }
    }
}

impl Exporter for Configuration {
    const PROGRAM: &'static str = "utilizer-exporter-postgres";
    const NAME: &'static str = "postgres";
    type Sink = Postgres;

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

    fn sink(loaded: &Loaded<Self>) -> Result<Postgres, Vec<Fault>> {
        let section = &loaded.value.postgres;
        let mut config = PostgresConfig::new(&section.url);
        config.retention = loaded.value.retention.metrics;
        config.alerts_retention = loaded.value.retention.alerts;
        config.connections = section.connections;
        let path = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
        config.files =
            TlsFiles { ca: path(&section.ca_file), cert: path(&section.cert_file), key: path(&section.key_file) };
        let mut faults = Vec::new();
        if !(1..=MOST_CONNECTIONS).contains(&section.connections) {
            faults.push(loaded.fault("postgres.connections", format_args!("1 to {MOST_CONNECTIONS} are possible")));
        }
        if config.alerts_retention < Duration::from_secs(86_400) {
            faults.push(loaded.fault("retention.alerts", "at least a day (1d) must be kept"));
        }
        match password(loaded, "postgres.password_file", section.password.as_ref(), &section.password_file) {
            Ok(password) => config.password = password,
            Err(fault) => faults.push(fault),
        }
        if let Err(fault) = config.check() {
            faults.push(loaded.fault("postgres.url", fault));
        }
        if faults.is_empty() { Ok(Postgres::new(config)) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::{load_text, uncomment};

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/exporter-postgres.toml");

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let read = |text: &str| -> Loaded<Configuration> { load_text(None, text, "X", []).unwrap() };
        assert_eq!(read(EXAMPLE).value, Configuration::default());
        let mut loaded = read(&uncomment(EXAMPLE));
        assert_eq!(loaded.value.serve.listen.take().as_deref(), Some(LISTEN));
        assert_eq!(loaded.value, Configuration::default());
        for key in [
            "state_dir",
            "postgres.url",
            "postgres.password_file",
            "postgres.ca_file",
            "postgres.cert_file",
            "postgres.key_file",
            "postgres.connections",
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
            "retention.alerts",
            "dead_letters.max_bytes",
            "serve.listen",
            "serve.allow",
            "log.level",
        ] {
            assert!(loaded.is_set(key), "{key} is not in the example");
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = "[postgres]\nurl = \"postgres://me:hush@h:port/d\"\npassword_file = \"/nonexistent\"\n\
                    [mqtt]\nurl = \"http://x\"\nmember = \"a b\"\nshard = \"2/2\"\nreceive_maximum = 0\n\
                    [batch]\nmax_rows = 0\n[retention]\nmetrics = \"1h\"\n[serve]\nlisten = \"here\"\nallow = [\"friends\"]\n";
        let loaded: Loaded<Configuration> = load_text(None, text, "X", []).unwrap();
        let mut faults = loaded.value.common().settings("postgres", &loaded).unwrap_err();
        faults.extend(Configuration::sink(&loaded).unwrap_err());
        let error = loaded.error(faults).to_string();
        for (line, part) in [
            (2, "postgres.url"),
            (3, "postgres.password_file"),
            (5, "mqtt.url"),
            (6, "mqtt.member"),
            (7, "mqtt.shard"),
            (8, "mqtt.receive_maximum"),
            (10, "batch.max_rows"),
            (12, "retention.metrics"),
            (14, "serve.listen"),
            (15, "serve.allow"),
        ] {
            let begin = format!("line {line}, column");
            assert!(error.lines().any(|l| l.starts_with(&begin) && l.contains(part)), "{part} in {error}");
        }
        assert!(!error.contains("hush"), "{error}");
    }
}
