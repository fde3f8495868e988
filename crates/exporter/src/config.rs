//! The sections that every exporter's configuration has, as written in its file.
//!
//! serde can't both share a flattened struct and refuse unknown keys, so each exporter's own struct names these
//! sections as fields and lends them as [`Common`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::config::{Fault, Loaded, duration, size};
use daemon::http::Allow;
use daemon::log::Level;
use daemon::mqtt::{Broker, Password};
use delivery::Shard;
use serde::{Deserialize, Serialize};
use wire::{GroupName, HostName, MemberName};

use crate::map::Rules;
use crate::settings::{
    BatchLimits, CONFIRM_EVERY, DEAD_LETTER_BYTES, DeadLetterLimits, RECEIVE_MAXIMUM, SPOOL_BYTES, Serve, Settings,
    SpoolLimits, dead_letter_file, spool_folder,
};
use crate::writer::Backoff;

/// `[mqtt]`. An empty text is the absence of a value, so that an example can show every key with its default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttSection {
    /// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
    pub url: String,
    /// User name.
    pub username: String,
    /// The password; from the environment only.
    pub password: Option<Password>,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// Authorities to trust, PEM.
    pub ca_file: PathBuf,
    /// Our certificate and its chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The exporters that share one copy of the telemetry; by default called as the store.
    pub group: String,
    /// This exporter's name in the group; by default the host's name.
    pub member: String,
    /// One part of the hosts, such as `0/4`: the first of four. Empty: all of them.
    pub shard: String,
    /// Whether the broker shares the telemetry out among the members of the group.
    pub shared: bool,
    /// How many messages may be on their way into the spool.
    pub receive_maximum: u16,
}

impl Default for MqttSection {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".to_owned(),
            username: String::new(),
            password: None,
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            group: String::new(),
            member: String::new(),
            shard: String::new(),
            shared: true,
            receive_maximum: RECEIVE_MAXIMUM,
        }
    }
}

/// The least that a spool may be bounded to; one record has up to 4 MiB, and is taken while there is any room.
const LEAST_SPOOL_BYTES: u64 = 1 << 20;

/// Bounds of `[confirm] every`. A host sends again after 90 s what nobody has confirmed.
const LEAST_CONFIRM: Duration = Duration::from_millis(100);
const MOST_CONFIRM: Duration = Duration::from_secs(90);

/// A text that is there.
pub fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A store's password: the first line of `file` (the key `key`), or what the environment says.
pub fn password<T>(
    loaded: &Loaded<T>,
    key: &str,
    environment: Option<&Password>,
    file: &Path,
) -> Result<Option<String>, Fault> {
    match path(file) {
        None => Ok(environment.map(|password| password.expose().to_owned())),
        Some(file) => match std::fs::read_to_string(file) {
            Ok(text) => Ok(Some(text.lines().next().unwrap_or_default().to_owned())),
            Err(error) => Err(loaded.fault(key, format_args!("can't read {}: {error}", file.display()))),
        },
    }
}

/// A path that is there.
pub fn path(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// `[rows]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RowsSection {
    /// One metrics message in each such span makes rows; `0s`: every one does.
    #[serde(with = "duration")]
    pub every: Duration,
    /// Whether the top processes make rows.
    pub processes: bool,
}

impl Default for RowsSection {
    fn default() -> Self {
        let Rules { every, processes, .. } = Rules::default();
        Self { every, processes }
    }
}

/// `[batch]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSection {
    /// A batch is written once it has this many rows.
    pub max_rows: usize,
    /// Or once its first message has waited this long.
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for BatchSection {
    fn default() -> Self {
        let BatchLimits { max_rows, max_age } = BatchLimits::default();
        Self { max_rows, max_age }
    }
}

/// `[retention]` of a store with a table for metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSection {
    /// Metric rows older than this are marked, and get no partition of their own.
    #[serde(with = "duration")]
    pub metrics: Duration,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self { metrics: Rules::default().retention }
    }
}

/// `[spool]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolSection {
    /// The folder; empty: `spool` in the exporter's own part of `state_dir`.
    pub directory: PathBuf,
    /// How large it may become.
    #[serde(with = "size")]
    pub max_bytes: u64,
}

impl Default for SpoolSection {
    fn default() -> Self {
        Self { directory: PathBuf::new(), max_bytes: SPOOL_BYTES }
    }
}

/// `[confirm]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfirmSection {
    /// How often a host is told what of its records is held and written.
    #[serde(with = "duration")]
    pub every: Duration,
}

impl Default for ConfirmSection {
    fn default() -> Self {
        Self { every: CONFIRM_EVERY }
    }
}

/// `[dead_letters]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLettersSection {
    /// How large their file may become.
    #[serde(with = "size")]
    pub max_bytes: u64,
}

impl Default for DeadLettersSection {
    fn default() -> Self {
        Self { max_bytes: DEAD_LETTER_BYTES }
    }
}

/// `[serve]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSection {
    /// Where `/metrics`, `/healthz` and `/readyz` are; an empty text: nowhere; absent: at the exporter's own port, since
    /// several may run on one host.
    pub listen: Option<String>,
    /// Who is answered.
    pub allow: Vec<String>,
}

impl Default for ServeSection {
    fn default() -> Self {
        Self { listen: None, allow: vec!["loopback".to_owned(), "private".to_owned()] }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// The least severe events that are logged.
    pub level: Level,
}

/// The folder for what an exporter keeps on its host, by default.
pub fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/utilizer")
}

/// The shared sections of one exporter's configuration.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    /// `state_dir`
    pub state_dir: &'a Path,
    /// `[mqtt]`
    pub mqtt: &'a MqttSection,
    /// `[rows]`
    pub rows: &'a RowsSection,
    /// `[batch]`
    pub batch: &'a BatchSection,
    /// `[retention] metrics`
    pub metrics_retention: Duration,
    /// `[spool]`
    pub spool: &'a SpoolSection,
    /// `[confirm]`
    pub confirm: &'a ConfirmSection,
    /// `[dead_letters]`
    pub dead_letters: &'a DeadLettersSection,
    /// `[serve] listen`
    pub listen: &'a str,
    /// `[serve] allow`
    pub allow: &'a [String],
    /// `[log]`
    pub log: &'a LogSection,
}

impl Common<'_> {
    /// The checked settings of a tier, or every fault, each with the place of its key in `loaded`. `sink` names the
    /// default group.
    pub fn settings<T>(&self, sink: &str, loaded: &Loaded<T>) -> Result<Settings, Vec<Fault>> {
        let mut faults = Vec::new();
        // Exporters into several stores may share one state_dir.
        let folder = self.state_dir.join(sink);
        let mqtt = self.mqtt;
        let broker = Broker {
            url: &mqtt.url,
            username: text(&mqtt.username),
            password: mqtt.password.as_ref(),
            password_file: path(&mqtt.password_file),
            ca_file: path(&mqtt.ca_file),
            cert_file: path(&mqtt.cert_file),
            key_file: path(&mqtt.key_file),
        };
        let broker = broker
            // The tier makes its own from group and member.
            .options("utilizer-exporter")
            .map_err(|list| faults.extend(list.into_iter().map(|(key, text)| loaded.fault(key, text))))
            .ok();
        let group: Option<GroupName> =
            text(&mqtt.group).unwrap_or(sink).parse().map_err(|e| faults.push(loaded.fault("mqtt.group", e))).ok();
        let member = text(&mqtt.member).map_or_else(host_name, str::to_owned);
        let member: Option<MemberName> = member.parse().map_err(|e| faults.push(loaded.fault("mqtt.member", e))).ok();
        let shard = text(&mqtt.shard).map(str::parse::<Shard>).transpose();
        let shard = shard.map_err(|e| faults.push(loaded.fault("mqtt.shard", e))).unwrap_or_default();
        if self.spool.max_bytes < LEAST_SPOOL_BYTES {
            faults.push(loaded.fault("spool.max_bytes", "at least 1MiB is needed"));
        }
        if self.confirm.every < LEAST_CONFIRM || self.confirm.every > MOST_CONFIRM {
            faults.push(
                loaded.fault("confirm.every", "it must be from 100ms to 90s: hosts send again what nobody confirms"),
            );
        }
        if mqtt.receive_maximum == 0 {
            faults.push(loaded.fault("mqtt.receive_maximum", "at least 1 message must be allowed"));
        }
        if self.batch.max_rows == 0 {
            faults.push(loaded.fault("batch.max_rows", "a batch has at least 1 row"));
        }
        if self.metrics_retention < Duration::from_secs(86_400) {
            faults.push(loaded.fault("retention.metrics", "at least a day (1d) must be kept"));
        }
        let allow = Allow::parse(self.allow).map_err(|e| faults.push(loaded.fault("serve.allow", e))).ok();
        let listen = self.listen;
        if !listen.is_empty() && listen.parse::<std::net::SocketAddr>().is_err() {
            faults.push(loaded.fault(
                "serve.listen",
                format_args!("{listen:?} is not an address and port such as 127.0.0.1:9461 or [::]:9461"),
            ));
        }
        match (broker, group, member, allow) {
            (Some(broker), Some(group), Some(member), Some(allow)) if faults.is_empty() => Ok(Settings {
                broker,
                group,
                member,
                receive_maximum: mqtt.receive_maximum,
                shared: mqtt.shared,
                shard,
                durable: true,
                confirm_every: self.confirm.every,
                spool: SpoolLimits {
                    directory: path(&self.spool.directory).map_or_else(|| spool_folder(&folder), Path::to_owned),
                    max_bytes: self.spool.max_bytes,
                },
                rules: Rules {
                    every: self.rows.every,
                    processes: self.rows.processes,
                    retention: self.metrics_retention,
                },
                batch: BatchLimits { max_rows: self.batch.max_rows, max_age: self.batch.max_age },
                dead_letters: DeadLetterLimits {
                    path: dead_letter_file(&folder),
                    max_bytes: self.dead_letters.max_bytes,
                },
                serve: (!listen.is_empty()).then(|| Serve { listen: listen.to_owned(), allow: Arc::new(allow) }),
                backoff: Backoff::default(),
                metrics: crate::metrics::Metrics::new(),
            }),
            _ => Err(faults),
        }
    }
}

/// The system's name made fit for a topic.
fn host_name() -> String {
    let uname = rustix::system::uname();
    HostName::from_system(&uname.nodename().to_string_lossy()).map_or_else(|| "exporter".to_owned(), |n| n.to_string())
}
