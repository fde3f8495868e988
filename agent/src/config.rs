//! The agent's configuration: as written ([`File`]) and as relied upon ([`Config`]).

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::rules::Rules;
use ::rules::window::{Limits, Window};
use daemon::config::{ConfigError, Fault, Loaded, Place};
use daemon::http::{Allow, Web};
use daemon::log::Level;
use daemon::mqtt::{Broker, Password};
use serde::{Deserialize, Deserializer, Serialize};
use wire::{GroupName, HostName, LabelSet};

use crate::collectors::{self, CollectorSettings};
use crate::host::HostRoot;
use crate::notify::{self, JobsSection, Notify, NotifySection};
use crate::outbox::MAX_RECORD;
use crate::probes::{self, Probe, ProbeSection};
use crate::rules::{self, Fresh, RulesSection};
use crate::scrape::{self, Plan, ScrapeSection};

/// Environment variables that begin with this and two underscores stand over the file.
pub const ENV_PREFIX: &str = "UTILIZER_AGENT";

/// Where the packages put it.
pub const DEFAULT_PATH: &str = "/etc/utilizer/agent.toml";

/// Variables that the users' own documents name. They stand over the file and below `UTILIZER_AGENT__…`.
const PORT: &str = "PROMETHEUS_PORT";
const LOG_LEVEL: &str = "LOG_LEVEL";
const INTERVAL: &str = "MONITORING_INTERVAL";
const WEBHOOK: &str = "ALERT_WEBHOOK_URL";

/// Where the packages have their state.
pub const DEFAULT_SPOOL: &str = "/var/lib/utilizer/spool";

/// The smallest spool: it has segments of several kinds, and room for a large record in each.
const LEAST_SPOOL: u64 = 4 << 20;

/// Less would send every record again and again before an exporter can answer.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// With less time a mount that is well seems to hang.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);

/// More processes by CPU time and by memory, with their command lines, make messages that the queue has no room for.
const MOST_TOP: usize = 500;

/// More scraped samples make messages that brokers do not take.
const MOST_SCRAPED: usize = 10_000;

/// A label goes into every message and every row of the host.
const LONGEST_LABEL: usize = 200;

/// More series than one host has make an agent as large as a Prometheus.
const MOST_SERIES: usize = 1_000_000;

/// The smallest limit of a push body that still lets a log line in.
const LEAST_BODY: u64 = 1 << 10;

/// The file as written; an empty one is valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Name in topics and rows; the system's host name where absent.
    pub host: Option<String>,
    /// Time between two passes.
    #[serde(with = "daemon::config::duration")]
    pub interval: Duration,
    /// External labels: sent with every message of this host.
    pub labels: LabelSet,
    /// Where the host's file systems are.
    pub path: PathSection,
    /// What is read.
    pub collectors: CollectorSettings,
    /// The HTTP server.
    pub serve: ServeSection,
    /// The broker.
    pub mqtt: MqttSection,
    /// What goes over MQTT beside the utilization gauges.
    pub publish: PublishSection,
    /// What waits on disk.
    pub spool: SpoolSection,
    /// What applications may push.
    pub push: PushSection,
    /// Lines of logs that are taken in.
    pub logs: Vec<logs::LogsSection>,
    /// What does not leave the host.
    pub redact: logs::RedactSection,
    /// What is evaluated.
    pub rules: RulesSection,
    /// What is asked whether it answers.
    pub probe: Vec<ProbeSection>,
    /// Applications that are scraped.
    pub scrape: Vec<ScrapeSection>,
    /// Who is told of alerts.
    pub notify: NotifySection,
    /// Where commands are run.
    pub jobs: JobsSection,
    /// The agent's own log.
    pub log: LogSection,
}

impl Default for File {
    fn default() -> Self {
        Self {
            host: None,
            interval: Duration::from_secs(10),
            labels: LabelSet::default(),
            path: PathSection::default(),
            collectors: CollectorSettings::default(),
            serve: ServeSection::default(),
            mqtt: MqttSection::default(),
            publish: PublishSection::default(),
            spool: SpoolSection::default(),
            push: PushSection::default(),
            logs: Vec::new(),
            redact: logs::RedactSection::default(),
            rules: RulesSection::default(),
            probe: Vec::new(),
            scrape: Vec::new(),
            notify: NotifySection::default(),
            jobs: JobsSection::default(),
            log: LogSection::default(),
        }
    }
}

/// `[path]`: another root than this system's, for an agent inside a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PathSection {
    /// `--path.procfs`
    pub procfs: PathBuf,
    /// `--path.sysfs`
    pub sysfs: PathBuf,
    /// `--path.rootfs`
    pub rootfs: PathBuf,
    /// `--path.udev.data`
    pub udev_data: PathBuf,
    /// `--collector.textfile.directory`: one or several.
    #[serde(deserialize_with = "one_or_more")]
    pub textfile: Vec<String>,
}

impl Default for PathSection {
    fn default() -> Self {
        let HostRoot { proc, sys, root, udev } = HostRoot::default();
        Self { procfs: proc, sysfs: sys, rootfs: root, udev_data: udev, textfile: Vec::new() }
    }
}

/// `[serve]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSection {
    /// Address and port.
    pub listen: String,
    /// Who is answered.
    pub allow: Vec<String>,
    /// A Unix socket beside the port.
    pub unix: Option<PathBuf>,
    /// TLS, passwords and tokens for the port, in the form of Prometheus' exporters.
    pub web_config_file: Option<PathBuf>,
}

impl Default for ServeSection {
    fn default() -> Self {
        Self {
            listen: "[::]:9100".to_owned(),
            allow: vec!["loopback".to_owned(), "private".to_owned()],
            unix: None,
            web_config_file: None,
        }
    }
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttSection {
    /// Whether anything is published at all.
    pub enabled: bool,
    /// The broker.
    pub url: String,
    /// User name.
    pub username: Option<String>,
    /// From `UTILIZER_AGENT__MQTT__PASSWORD` only.
    #[serde(skip_serializing)]
    pub password: Option<Password>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The authorities that sign the broker's certificate; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// The agent's own certificate.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
}

impl Default for MqttSection {
    fn default() -> Self {
        Self {
            enabled: true,
            url: "mqtt://127.0.0.1:1883".to_owned(),
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

/// `[publish]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishSection {
    /// Names of families to publish each interval, of scraped ones too; a `*` at the end stands for any rest.
    pub include: Vec<String>,
    /// Scraped samples in one record; further ones are left out.
    pub max_scraped: usize,
}

impl Default for PublishSection {
    fn default() -> Self {
        Self { include: Vec::new(), max_scraped: 1000 }
    }
}

/// `[spool]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolSection {
    /// Its folder.
    pub directory: PathBuf,
    /// Bound of all kinds together.
    #[serde(with = "daemon::config::size")]
    pub max_bytes: u64,
    /// Older records go.
    #[serde(with = "daemon::config::duration")]
    pub max_age: Duration,
    /// Groups of exporters that are waited for before they were ever seen.
    pub confirm_by: Vec<String>,
    /// A record that no group confirmed is sent again after this; the other times of delivery are scaled with it.
    #[serde(with = "daemon::config::duration")]
    pub retry_after: Duration,
    /// Records a second that are sent beside the present ones.
    pub backlog_rate: u32,
}

impl Default for SpoolSection {
    fn default() -> Self {
        Self {
            directory: DEFAULT_SPOOL.into(),
            max_bytes: 512 << 20,
            max_age: Duration::from_secs(7 * 86_400),
            confirm_by: Vec::new(),
            retry_after: Duration::from_secs(90),
            backlog_rate: 25,
        }
    }
}

/// `[spool]` as relied upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Its folder.
    pub directory: PathBuf,
    /// Bound of all kinds together.
    pub max_bytes: u64,
    /// Older records go.
    pub max_age: Duration,
    /// Groups of exporters that are waited for before they were ever seen.
    pub confirm_by: Vec<GroupName>,
    /// When an unconfirmed record is sent again.
    pub retry_after: Duration,
    /// Records a second that are sent beside the present ones.
    pub backlog_rate: u32,
}

/// `[push]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushSection {
    /// The largest body that `/v1/logs` and `/v1/pipeline` take.
    #[serde(with = "daemon::config::size")]
    pub max_body: u64,
}

impl Default for PushSection {
    fn default() -> Self {
        Self { max_body: 1 << 20 }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Least severe level that is logged.
    pub level: Level,
}

/// Paths given on the command line, over file and environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PathSwitches {
    /// `--path.procfs`
    pub procfs: Option<PathBuf>,
    /// `--path.sysfs`
    pub sysfs: Option<PathBuf>,
    /// `--path.rootfs`
    pub rootfs: Option<PathBuf>,
    /// `--path.udev.data`
    pub udev_data: Option<PathBuf>,
    /// `--web.config.file`
    pub web_config: Option<PathBuf>,
    /// `--collector.textfile.directory`; empty where it is not given.
    pub textfile: Vec<String>,
}

/// The configuration as relied upon: every value checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name in topics and rows.
    pub host: HostName,
    /// Time between two passes.
    pub interval: Duration,
    /// External labels.
    pub labels: LabelSet,
    /// The door to the machine.
    pub root: HostRoot,
    /// What runs, and how.
    pub collectors: CollectorSettings,
    /// Address of the HTTP server.
    pub listen: String,
    /// Who is answered.
    pub allow: Allow,
    /// Unix socket.
    pub unix: Option<PathBuf>,
    /// TLS, passwords and tokens.
    pub web: Option<Arc<Web>>,
    /// Connection options of the broker; `None` where `mqtt.enabled` is false. The client id is this host's.
    pub mqtt: Option<mqtt::Options>,
    /// Which families are published.
    pub include: Vec<String>,
    /// Scraped samples in one record.
    pub max_scraped: usize,
    /// Applications that are scraped.
    pub scrape: Plan,
    /// What waits on disk.
    pub spool: Spool,
    /// Largest push body in bytes.
    pub max_body: usize,
    /// Lines of logs that are taken in, and what of everything does not leave the host.
    pub logs: logs::Plans,
    /// How rules are evaluated.
    pub rules: RulesSection,
    /// The rules.
    pub fresh_rules: Fresh,
    /// The log's level.
    pub log_level: Level,
    /// What is asked.
    pub probes: Arc<Vec<Probe>>,
    /// Who is told of alerts.
    pub notify: Arc<Notify>,
}

impl Config {
    /// Reads and checks the configuration. Without `file` the default path is read if it exists; a file that was named
    /// must exist. `environment` is the process's.
    pub fn load(
        file: Option<&Path>,
        switches: &PathSwitches,
        environment: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_PATH);
        let file = file.or_else(|| default.exists().then_some(default));
        let loaded = daemon::config::load::<File>(file, ENV_PREFIX, environment.iter().cloned())?;
        Self::check(&loaded, switches, environment)
    }

    /// The same over a configuration made in memory, as `utilizer up` does.
    pub fn from_file(file: File) -> Result<Self, ConfigError> {
        Self::check(&Loaded::of(file), &PathSwitches::default(), &[])
    }

    fn check(
        loaded: &Loaded<File>,
        switches: &PathSwitches,
        environment: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let file = &loaded.value;
        let mut faults = Vec::new();

        let host = match file.host.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => name.parse().map_err(|e| loaded.fault("host", format_args!("{e}"))),
            None => {
                system_host_name().ok_or_else(|| loaded.fault("host", "the system has no usable host name; set one"))
            }
        };
        let host: Option<HostName> = host.map_err(|fault| faults.push(fault)).ok();

        for (name, value) in file.labels.iter() {
            if let Some(message) = label_fault(name, value) {
                faults.push(loaded.fault(&format!("labels.{name}"), message));
            }
        }

        let mut interval = file.interval;
        let mut interval_place = None;
        let mut listen = file.listen_checked(loaded, &mut faults);
        let mut log_level = file.log.level;
        let mut alert_webhook = None;
        for (name, value) in environment.iter().filter(|(_, value)| !value.trim().is_empty()) {
            let mut fault = |message: String| faults.push(Fault { place: Place::Variable(name.clone()), message });
            let overridden = |key: &str| {
                let variable = format!("{ENV_PREFIX}__{key}");
                environment.iter().any(|(name, _)| *name == variable)
            };
            match name.as_str() {
                PORT if !overridden("SERVE__LISTEN") => match value.trim().parse::<u16>() {
                    Ok(port) => listen = with_port(&listen, port),
                    Err(_) => fault(format!("{value:?} is not a port; a number from 1 to 65535 is needed")),
                },
                LOG_LEVEL if !overridden("LOG__LEVEL") => match Level::from_word(value) {
                    Some(level) => log_level = level,
                    None => fault(format!("{value:?} is not a level: error, warn, info, debug or trace")),
                },
                INTERVAL if !overridden("INTERVAL") => match seconds_or_duration(value) {
                    Ok(duration) => {
                        interval = duration;
                        interval_place = Some(Place::Variable(name.clone()));
                    }
                    Err(message) => fault(message),
                },
                WEBHOOK => alert_webhook = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval) {
            let fault = loaded.fault("interval", "must lie between 100ms and 1h");
            faults.push(Fault { place: interval_place.unwrap_or(fault.place), message: fault.message });
        }
        if !(LEAST_BODY..=MAX_RECORD as u64).contains(&file.push.max_body) {
            let most = daemon::config::size::format(MAX_RECORD as u64);
            faults.push(
                loaded.fault(
                    "push.max_body",
                    format_args!("must lie between 1KiB and {most}, the largest record's size"),
                ),
            );
        }
        let spool = file.spool.checked(loaded, &mut faults);
        let logs = logs::Plans::new(&file.logs, &file.redact, &notify::zone).map_err(|list| {
            faults.extend(
                list.into_iter()
                    .map(|(key, fault)| Fault { place: near(loaded, &key), message: format!("{key}: {fault}") }),
            );
        });
        for (at, syslog) in file.logs.iter().enumerate().filter_map(|(at, input)| Some((at, input.syslog.as_ref()?))) {
            if let Err(error) = Allow::parse(&syslog.allow) {
                let key = format!("logs[{at}].syslog.allow");
                faults.push(Fault { place: near(loaded, &key), message: format!("{key}: {error}") });
            }
        }
        let fresh_rules = file.rules.checked(loaded, &mut faults);
        let notify = host.as_ref().and_then(|host| {
            let about = notify::About {
                host,
                labels: &file.labels,
                external_url: &file.rules.external_url,
                jobs: &file.jobs.socket,
                webhook: alert_webhook.as_deref(),
            };
            let wrong = |list: Vec<(String, String)>| {
                faults.extend(list.into_iter().map(|(key, fault)| {
                    let key = format!("notify.{key}");
                    Fault { place: near(loaded, &key), message: format!("{key}: {fault}") }
                }));
            };
            file.notify.checked(&about).map_err(wrong).ok()
        });

        let probes = probes::checked(&file.probe).unwrap_or_else(|list| {
            faults.extend(list.into_iter().map(|(key, fault)| loaded.fault(&key, fault)));
            Vec::new()
        });

        for (key, names) in [("enable", &file.collectors.enable), ("disable", &file.collectors.disable)] {
            for name in names.iter().filter(|name| collectors::names().all(|known| known != name.as_str())) {
                let known: Vec<_> = collectors::names().collect();
                let message = format!("there is no collector {name:?}; there are {}", known.join(", "));
                faults.push(loaded.fault(&format!("collectors.{key}"), message));
            }
        }

        let patience = [
            ("filesystem.mount_timeout", file.collectors.filesystem.mount_timeout),
            ("gpu.timeout", file.collectors.gpu.timeout),
            ("systemd.timeout", file.collectors.systemd.timeout),
        ];
        for (key, _) in patience.iter().filter(|(_, timeout)| *timeout < SHORTEST_TIMEOUT) {
            faults.push(loaded.fault(&format!("collectors.{key}"), "must be at least 100ms"));
        }

        if file.publish.max_scraped > MOST_SCRAPED {
            faults.push(loaded.fault("publish.max_scraped", format_args!("must be at most {MOST_SCRAPED}")));
        }
        let scrape = scrape::checked(&file.scrape).unwrap_or_else(|list| {
            faults.extend(list.into_iter().map(|(key, what)| {
                let key = format!("scrape{key}");
                Fault { place: near(loaded, &key), message: format!("{key}: {what}") }
            }));
            Plan::default()
        });

        if file.collectors.processes.top > MOST_TOP {
            faults.push(loaded.fault("collectors.processes.top", format_args!("must be at most {MOST_TOP}")));
        }

        let allow = Allow::parse(&file.serve.allow).map_err(|e| faults.push(loaded.fault("serve.allow", e))).ok();

        if let Some(message) = file.serve.unix.as_deref().and_then(socket_fault) {
            faults.push(loaded.fault("serve.unix", message));
        }

        // An empty path would be the directory that the agent was started in.
        let path = |switch: &Option<PathBuf>, written: &PathBuf, default: PathBuf| {
            let given = [switch.as_ref(), Some(written)].into_iter().flatten();
            given.into_iter().find(|path| !path.as_os_str().is_empty()).cloned().unwrap_or(default)
        };
        let own = HostRoot::default();
        let root = HostRoot {
            proc: path(&switches.procfs, &file.path.procfs, own.proc),
            sys: path(&switches.sysfs, &file.path.sysfs, own.sys),
            root: path(&switches.rootfs, &file.path.rootfs, own.root),
            udev: path(&switches.udev_data, &file.path.udev_data, own.udev),
        };

        let mut collectors = file.collectors.clone();
        let textfile = if switches.textfile.is_empty() { &file.path.textfile } else { &switches.textfile };
        collectors.textfile.directories = textfile.iter().filter(|path| !path.is_empty()).cloned().collect();

        if let Ok(logs) = &logs {
            collectors.processes.redactor = logs.redactor.clone();
        }

        let web = switches.web_config.as_ref().or(file.serve.web_config_file.as_ref());
        let web = web.filter(|path| !path.as_os_str().is_empty()).and_then(|path| {
            let web = Web::load(path);
            // A line for each fault of that file.
            let faulty = |error: ConfigError| {
                faults.extend(error.to_string().lines().map(|line| loaded.fault("serve.web_config_file", line)));
            };
            web.map_err(faulty).ok().map(Arc::new)
        });

        let mqtt = match &host {
            Some(host) if file.mqtt.enabled => {
                let options = file.mqtt.broker().options(&format!("utilizer-agent-{host}"));
                options.map_err(|list| faults.extend(list.into_iter().map(|(key, e)| loaded.fault(key, e)))).ok()
            }
            _ => None,
        };

        match (host, allow, notify, logs) {
            (Some(host), Some(allow), Some(notify), Ok(logs)) if faults.is_empty() => Ok(Self {
                host,
                interval,
                labels: file.labels.clone(),
                root,
                collectors,
                listen,
                allow,
                unix: file.serve.unix.clone().filter(|path| !path.as_os_str().is_empty()),
                web,
                mqtt,
                include: file.publish.include.clone(),
                max_scraped: file.publish.max_scraped,
                scrape,
                spool,
                max_body: usize::try_from(file.push.max_body).unwrap_or(usize::MAX),
                logs,
                rules: file.rules.clone(),
                fresh_rules: Fresh::new(fresh_rules),
                log_level,
                probes: Arc::new(probes),
                notify: Arc::new(notify),
            }),
            _ => Err(loaded.error(faults)),
        }
    }

    /// Keys that differ from `other` and can't be changed while running.
    pub fn needs_restart(&self, other: &Config) -> Vec<&'static str> {
        // `Debug` shows everything but the secrets, which can change as well.
        let broker = |config: &Config| {
            let options = config.mqtt.clone()?;
            Some((format!("{options:?}"), options.password, options.tls.ca, options.tls.identity))
        };
        let web_path = |config: &Config| config.web.as_ref().map(|web| web.path().to_owned());
        [
            ("host", self.host != other.host),
            ("path", self.root != other.root),
            ("serve.listen", self.listen != other.listen),
            ("serve.allow", self.allow != other.allow),
            ("serve.unix", self.unix != other.unix),
            ("serve.web_config_file", web_path(self) != web_path(other)),
            ("mqtt", broker(self) != broker(other)),
            ("spool", self.spool != other.spool),
            ("push.max_body", self.max_body != other.max_body),
            ("rules", !self.rules.differs_in_files_only(&other.rules)),
            ("log.level", self.log_level != other.log_level),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

impl File {
    fn listen_checked(&self, loaded: &Loaded<File>, faults: &mut Vec<Fault>) -> String {
        let listen = &self.serve.listen;
        if listen.parse::<std::net::SocketAddr>().is_err() {
            let message = format!("{listen:?} is not an address and port such as 127.0.0.1:9100 or [::]:9100");
            faults.push(loaded.fault("serve.listen", message));
        }
        listen.clone()
    }
}

impl SpoolSection {
    fn checked(&self, loaded: &Loaded<File>, faults: &mut Vec<Fault>) -> Spool {
        let mut fault = |key: &str, message: String| faults.push(loaded.fault(&format!("spool.{key}"), message));
        if self.directory.as_os_str().is_empty() {
            fault("directory", "names no folder".to_owned());
        }
        if self.max_bytes < LEAST_SPOOL {
            fault("max_bytes", "must be at least 4MiB".to_owned());
        }
        if self.max_age < Duration::from_secs(60) {
            fault("max_age", "must be at least 1m".to_owned());
        }
        if self.retry_after < SHORTEST_RETRY {
            fault("retry_after", "must be at least 100ms".to_owned());
        }
        if !(1..=1000).contains(&self.backlog_rate) {
            fault("backlog_rate", "must lie between 1 and 1000 records a second".to_owned());
        }
        let mut confirm_by = Vec::new();
        for name in &self.confirm_by {
            match name.parse() {
                Ok(name) => confirm_by.push(name),
                Err(error) => fault("confirm_by", format!("{error}")),
            }
        }
        Spool {
            directory: self.directory.clone(),
            max_bytes: self.max_bytes,
            max_age: self.max_age,
            confirm_by,
            retry_after: self.retry_after,
            backlog_rate: self.backlog_rate,
        }
    }
}

impl RulesSection {
    fn checked(&self, loaded: &Loaded<File>, faults: &mut Vec<Fault>) -> Rules {
        let before = faults.len();
        let mut fault = |key: &str, message: String| faults.push(loaded.fault(&format!("rules.{key}"), message));
        if self.interval < SHORTEST_INTERVAL {
            fault("interval", "must be at least 100ms".to_owned());
        }
        for (key, label) in [("job", Some(&self.job)), ("instance", self.instance.as_ref())] {
            if let Some(message) = label.and_then(|value| label_fault(key, value)) {
                fault(key, message.to_owned());
            }
        }
        if !(1..=MOST_SERIES).contains(&self.max_series) {
            fault("max_series", format!("must lie between 1 and {MOST_SERIES}"));
        }
        let rules = rules::load(&self.files).and_then(|rules| {
            let limits = Limits { max_age: self.max_history.as_millis() as i64, ..Limits::default() };
            // Nothing is kept yet: this only says whether some rule looks back too far.
            match Window::new(rules.needs(), limits) {
                Ok(_) => Ok(rules),
                Err(error) => Err(vec![format!("{error} (rules.max_history)")]),
            }
        });
        let rules = rules.unwrap_or_else(|lines| {
            lines.into_iter().for_each(|line| fault("files", line));
            Rules::default()
        });
        if faults.len() == before { rules } else { Rules::default() }
    }

    /// Whether all is the same that can't be changed while running.
    fn differs_in_files_only(&self, other: &Self) -> bool {
        Self { files: Vec::new(), ..self.clone() } == Self { files: Vec::new(), ..other.clone() }
    }
}

impl MqttSection {
    fn broker(&self) -> Broker<'_> {
        Broker {
            url: &self.url,
            username: self.username.as_deref(),
            password: self.password.as_ref(),
            password_file: self.password_file.as_deref(),
            ca_file: self.ca_file.as_deref(),
            cert_file: self.cert_file.as_deref(),
            key_file: self.key_file.as_deref(),
        }
    }
}

/// Where a key was set; of one that is missing, where what it is missing in begins.
fn near(loaded: &Loaded<File>, key: &str) -> Place {
    let mut key = key;
    loop {
        match (loaded.place(key), key.rfind(['.', '['])) {
            (Some(place), _) => return place.clone(),
            (None, Some(at)) => key = key.get(..at).unwrap_or_default(),
            (None, None) => return Place::Default,
        }
    }
}

fn system_host_name() -> Option<HostName> {
    HostName::from_system(&rustix::system::uname().nodename().to_string_lossy())
}

/// Why no Unix socket can stand here. What an earlier run left is removed before the new one is made, and connecting to a
/// plain file fails just as connecting to a dead socket does: without this the file would go.
fn socket_fault(path: &Path) -> Option<String> {
    let other = std::fs::metadata(path).is_ok_and(|there| !there.file_type().is_socket());
    other.then(|| format!("{} is there and is no socket; choose another path", path.display()))
}

/// Why this can't be an external label: Prometheus' names, and values that every table holds.
pub(crate) fn label_fault(name: &str, value: &str) -> Option<&'static str> {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some("a label's name has letters, digits and '_', and does not begin with a digit");
    }
    if value.chars().any(char::is_control) {
        return Some("the value holds a control character");
    }
    let long = name.chars().count().max(value.chars().count()) > LONGEST_LABEL;
    // The number is LONGEST_LABEL.
    long.then_some("the name or value has more than 200 characters, and would go into every message and row")
}

/// The documents write `15` for 15 seconds.
fn seconds_or_duration(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => daemon::config::duration::parse(text),
    }
}

/// A text, or a list of texts.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a directory, or a list of directories")]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

fn with_port(listen: &str, port: u16) -> String {
    match listen.parse::<std::net::SocketAddr>() {
        Ok(mut address) => {
            address.set_port(port);
            address.to_string()
        }
        Err(_) => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::ProcessSettings;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let environment: Vec<_> = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Config::load(Some(&path), &PathSwitches::default(), &environment)
            .map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn an_empty_file_is_valid() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.interval, Duration::from_secs(10));
        assert_eq!(config.listen, "[::]:9100");
        assert!(config.mqtt.is_some());
        assert!(config.collectors.processes.redactor.hides_key("password"));
        let without = ProcessSettings { redactor: Arc::default(), ..config.collectors.processes.clone() };
        let collectors = CollectorSettings { processes: without, ..config.collectors };
        assert_eq!(collectors, CollectorSettings::default());
    }

    #[test]
    fn the_documents_names_stand_between_file_and_our_own() {
        let documents = [
            ("PROMETHEUS_PORT", "8000"),
            ("LOG_LEVEL", "WARNING"),
            ("MONITORING_INTERVAL", "15"),
            ("ALERT_WEBHOOK_URL", "https://hooks.example/hush"),
        ];
        let text = "interval = \"1m\"\n[serve]\nlisten = \"127.0.0.1:9100\"\n";
        let config = load(text, &documents).unwrap();
        assert_eq!(config.listen, "127.0.0.1:8000");
        assert_eq!(config.interval, Duration::from_secs(15));
        assert_eq!(config.log_level, Level::Warn);
        assert_eq!(config.notify.summary(), "alert-webhook");
        assert!(!format!("{config:?}").contains("hush"));
        let mut both = documents.to_vec();
        both.push(("UTILIZER_AGENT__INTERVAL", "20s"));
        both.push(("UTILIZER_AGENT__SERVE__LISTEN", "127.0.0.1:7000"));
        let config = load(text, &both).unwrap();
        assert_eq!((config.listen.as_str(), config.interval), ("127.0.0.1:7000", Duration::from_secs(20)));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = "host = \"a b\"\ninterval = \"1ms\"\n[collectors]\ndisable = [\"cpuu\"]\n[serve]\nlisten = \"9100\"\nallow = [\"lan\"]\n[mqtt]\nurl = \"http://x\"\n";
        let error = load(text, &[("PROMETHEUS_PORT", "many"), ("LOG_LEVEL", "loud")]).unwrap_err();
        for part in [
            "agent.toml:1:1: host: the host name \"a b\" has the character ' '",
            "agent.toml:2:1: interval: must lie between 100ms and 1h",
            "agent.toml:4:1: collectors.disable: there is no collector \"cpuu\"; there are ",
            "agent.toml:6:1: serve.listen: \"9100\" is not an address and port",
            "agent.toml:7:1: serve.allow: \"lan\" is none of",
            "environment variable PROMETHEUS_PORT: \"many\" is not a port",
            "environment variable LOG_LEVEL: \"loud\" is not a level",
        ] {
            assert!(error.contains(part), "{part}\n--\n{error}");
        }
        let text = "[labels]\n\"a b\" = \"x\"\nb = \"\\u0000\"\nok_1 = \"é\"\n[push]\nmax_body = \"8MiB\"\n";
        let error = load(text, &[("MONITORING_INTERVAL", "0")]).unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert!(lines[0].starts_with("agent.toml:2:1: labels.a b: a label's name has letters"), "{error}");
        assert_eq!(lines[1], "agent.toml:3:1: labels.b: the value holds a control character");
        assert_eq!(
            lines[2],
            "agent.toml:6:1: push.max_body: must lie between 1KiB and 4MiB, the largest record's size"
        );
        assert_eq!(lines[3], "environment variable MONITORING_INTERVAL: interval: must lie between 100ms and 1h");
        assert_eq!(lines.len(), 4, "{error}");
        let timeouts = "[collectors.filesystem]\nmount_timeout = \"0s\"\n[collectors.gpu]\ntimeout = \"99ms\"\n";
        let error = load(timeouts, &[("UTILIZER_AGENT__COLLECTORS__SYSTEMD__TIMEOUT", "1ms")]).unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines[0], "agent.toml:2:1: collectors.filesystem.mount_timeout: must be at least 100ms");
        assert_eq!(lines[1], "agent.toml:4:1: collectors.gpu.timeout: must be at least 100ms");
        assert!(lines[2].contains("SYSTEMD__TIMEOUT") && lines[2].contains("at least 100ms"), "{error}");
        let error = load("[collectors.processes]\ntop = 100000\n", &[]).unwrap_err();
        assert_eq!(error, "agent.toml:2:1: collectors.processes.top: must be at most 500");
        let error = load("[mqtt]\nurl = \"http://x\"\nkey_file = \"/nonexistent\"\n", &[]).unwrap_err();
        assert!(
            error.contains("agent.toml:2:1: mqtt.url:") && error.contains("agent.toml:3:1: mqtt.key_file:"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_path_is_no_path() {
        let text = "[path]\nprocfs = \"\"\nsysfs = \"/host/sys\"\n";
        let config = load(text, &[("UTILIZER_AGENT__PATH__ROOTFS", "")]).unwrap();
        assert_eq!(config.root, HostRoot { sys: "/host/sys".into(), ..HostRoot::default() });
        let switches = PathSwitches { procfs: Some(PathBuf::new()), ..PathSwitches::default() };
        assert_eq!(Config::load(None, &switches, &[]).unwrap().root, HostRoot::default());
    }

    #[test]
    fn directories_of_text_files_are_one_or_several() {
        let directories = |text: &str, environment: &[(&str, &str)]| {
            load(text, environment).map(|config| config.collectors.textfile.directories)
        };
        assert!(directories("", &[]).unwrap().is_empty());
        assert_eq!(directories("[path]\ntextfile = \"/a\"\n", &[]).unwrap(), ["/a"]);
        assert_eq!(directories("[path]\ntextfile = [\"/a\", \"/b/*\"]\n", &[]).unwrap(), ["/a", "/b/*"]);
        assert_eq!(directories("", &[("UTILIZER_AGENT__PATH__TEXTFILE", "/c")]).unwrap(), ["/c"]);
        assert!(directories("", &[("UTILIZER_AGENT__PATH__TEXTFILE", "")]).unwrap().is_empty());
        let error = directories("[path]\ntextfile = 7\n", &[]).unwrap_err();
        assert!(error.contains("agent.toml:2:") && error.contains("a directory, or a list"), "{error}");
        let switches = PathSwitches { textfile: vec!["/d".to_owned()], ..PathSwitches::default() };
        let config = Config::load(None, &switches, &[("UTILIZER_AGENT__PATH__TEXTFILE".into(), "/c".into())]).unwrap();
        assert_eq!(config.collectors.textfile.directories, ["/d"]);
    }

    #[test]
    fn a_socket_takes_no_files_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let text = format!("[serve]\nunix = \"{}\"\n", path.display());
        assert!(load(&text, &[]).is_ok());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(load(&text, &[]).is_ok(), "a dead socket may be replaced");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        let error = load(&text, &[]).unwrap_err();
        assert!(error.starts_with("agent.toml:2:1: serve.unix: ") && error.contains("is no socket"), "{error}");
        assert_eq!(load("[serve]\nunix = \"\"\n", &[]).unwrap().unix, None);
    }

    #[test]
    fn the_web_configuration_is_checked_with_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let web = folder.path().join("web.yml");
        let text = format!("[serve]\nweb_config_file = \"{}\"\n", web.display());
        std::fs::write(&web, "basic_auth_users:\n  anna: plain\ntls_server_confg: {}\n").unwrap();
        let error = load(&text, &[]).unwrap_err();
        let place = format!("agent.toml:2:1: serve.web_config_file: {}", web.display());
        assert_eq!(error, format!("{place}:3:1: unknown key tls_server_confg; did you mean tls_server_config?"));
        std::fs::write(&web, "basic_auth_users:\n  anna: plain\ntls_server_config:\n  cert_file: no.pem\n").unwrap();
        let error = load(&text, &[]).unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert!(lines[0].starts_with(&format!("{place}:2:3: basic_auth_users.anna: is no bcrypt hash")), "{error}");
        assert!(lines[1].starts_with(&format!("{place}:4:3: tls_server_config.cert_file: can't read ")), "{error}");
        std::fs::write(&web, "").unwrap();
        let config = load(&text, &[]).unwrap();
        assert_eq!(config.web.unwrap().path(), web);
        assert!(load("[serve]\nweb_config_file = \"\"\n", &[]).unwrap().web.is_none());
        let error = load("[serve]\nweb_config_file = \"/nonexistent/web.yml\"\n", &[]).unwrap_err();
        assert!(error.starts_with("agent.toml:2:1: serve.web_config_file: can't read"), "{error}");
    }

    #[test]
    fn another_password_in_the_same_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let text = format!("[mqtt]\nusername = \"u\"\npassword_file = \"{}\"\n", file.display());
        let with = |password: &str| {
            std::fs::write(&file, password).unwrap();
            load(&text, &[]).unwrap()
        };
        let old = with("old-horse");
        assert!(old.needs_restart(&with("old-horse\n")).is_empty());
        assert_eq!(old.needs_restart(&with("new-horse")), ["mqtt"]);
    }

    #[test]
    fn a_missing_file_is_an_error_only_when_it_was_named() {
        let error =
            Config::load(Some(Path::new("/nonexistent/agent.toml")), &PathSwitches::default(), &[]).unwrap_err();
        assert!(
            error.to_string().starts_with("can't read the configuration file /nonexistent/agent.toml: "),
            "{error}"
        );
    }

    #[test]
    fn the_shipped_example_says_the_defaults_and_every_key() {
        let example = include_str!("../../config/agent.toml");
        let uncommented = daemon::config::uncomment(example);
        let file: File = toml::from_str(&uncommented).unwrap_or_else(|e| panic!("{e}\n{uncommented}"));
        let defaults = File::default();
        // Keys without a default are shown with an example value; everything else must be the default.
        let expected = File {
            host: file.host.clone(),
            labels: file.labels.clone(),
            serve: ServeSection {
                unix: file.serve.unix.clone(),
                web_config_file: file.serve.web_config_file.clone(),
                ..defaults.serve
            },
            mqtt: MqttSection {
                username: file.mqtt.username.clone(),
                password_file: file.mqtt.password_file.clone(),
                ca_file: file.mqtt.ca_file.clone(),
                cert_file: file.mqtt.cert_file.clone(),
                key_file: file.mqtt.key_file.clone(),
                ..defaults.mqtt
            },
            logs: file.logs.clone(),
            rules: RulesSection { instance: file.rules.instance.clone(), ..defaults.rules },
            notify: NotifySection {
                report_to: file.notify.report_to.clone(),
                alertmanager: ::notify::receivers::Alertmanager {
                    password_file: file.notify.alertmanager.password_file.clone(),
                    bearer_token_file: file.notify.alertmanager.bearer_token_file.clone(),
                    ca_file: file.notify.alertmanager.ca_file.clone(),
                    ..defaults.notify.alertmanager
                },
                ..defaults.notify
            },
            ..defaults
        };
        assert_eq!(file, expected);
        let [input] = file.logs.as_slice() else { panic!("one input is shown") };
        let expected = logs::LogsSection {
            name: input.name.clone(),
            files: input.files.clone(),
            service: input.service.clone(),
            environment: input.environment.clone(),
            category: input.category.clone(),
            fields: input.fields.clone(),
            ..logs::LogsSection::default()
        };
        assert_eq!(*input, expected);
        for key in
            ["name", "files", "exclude", "start_at", "journal", "syslog", "push", "own", "max_line", "format", "inner"]
                .into_iter()
                .chain(["pattern", "timezone", "latency_unit", "map", "multiline", "preset", "start", "continue"])
                .chain([
                    "max_lines",
                    "max_bytes",
                    "timeout",
                    "service",
                    "environment",
                    "fields",
                    "category",
                    "categories",
                ])
                .chain([
                    "drop",
                    "sample",
                    "limit",
                    "rate",
                    "burst",
                    "spare",
                    "tell_every",
                    "count",
                    "one_in",
                    "match",
                    "levels",
                ])
                .chain(["services", "help", "by", "max_series"])
        {
            let is_shown = |line: &str| {
                let line = line.trim_start_matches(['#', ' ']);
                line.starts_with(&format!("{key} = "))
                    || line.starts_with(&format!("[logs.{key}]"))
                    || line.starts_with(&format!("[[logs.{key}]]"))
            };
            assert!(example.lines().any(is_shown), "{key}");
        }
        let shown = toml::Value::try_from(&file).unwrap();
        assert!(shown["host"].is_str() && shown["serve"]["unix"].is_str() && shown["mqtt"]["key_file"].is_str());
        assert!(shown["serve"]["web_config_file"].is_str());
        assert!(shown["mqtt"]["username"].is_str() && shown["mqtt"]["password_file"].is_str());
    }
}
