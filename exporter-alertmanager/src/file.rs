//! The configuration file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::client::{SecretUrl, TlsSettings};
use daemon::config::{Fault, Loaded, duration};
use daemon::http::Allow;
use daemon::log::Level;
use daemon::mqtt::{Broker, Password};
use notify::feed;
use serde::Deserialize;
use wire::{HostName, LabelSet};

use crate::fleet;
use crate::sender::{Authorization, Place};

/// Where its own pages are.
const LISTEN: &str = "[::]:9464";

/// `/etc/utilizer/exporter-alertmanager.toml`; `config/exporter-alertmanager.toml` explains every key.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Configuration {
    pub alertmanager: AlertmanagerSection,
    pub mqtt: MqttSection,
    pub fleet: FleetSection,
    pub host_down: HostDownSection,
    pub host_flapping: HostFlappingSection,
    pub clock_skew: ClockSkewSection,
    pub records_dropped: RecordsDroppedSection,
    pub serve: ServeSection,
    pub log: LogSection,
}

/// `[alertmanager]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct AlertmanagerSection {
    pub urls: Vec<String>,
    pub username: String,
    pub password: Option<Password>,
    pub password_file: PathBuf,
    pub bearer_token_file: PathBuf,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub server_name: String,
    #[serde(with = "duration")]
    pub resend: Duration,
    #[serde(with = "duration")]
    pub resolved_for: Duration,
    #[serde(with = "duration")]
    pub timeout: Duration,
    pub labels: BTreeMap<String, String>,
    pub host_label: String,
    pub job: String,
    pub generator_url: String,
}

impl Default for AlertmanagerSection {
    fn default() -> Self {
        let feed::Settings { resend, resolved_for, .. } = feed::Settings::default();
        Self {
            urls: vec!["http://127.0.0.1:9093".to_owned()],
            username: String::new(),
            password: None,
            password_file: PathBuf::new(),
            bearer_token_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            server_name: String::new(),
            resend,
            resolved_for,
            timeout: Duration::from_secs(10),
            labels: BTreeMap::new(),
            host_label: "host".to_owned(),
            job: "utilizer".to_owned(),
            generator_url: String::new(),
        }
    }
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MqttSection {
    pub url: String,
    pub username: String,
    pub password: Option<Password>,
    pub password_file: PathBuf,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub member: String,
    pub heartbeats: bool,
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
            member: String::new(),
            heartbeats: true,
        }
    }
}

/// `[fleet]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct FleetSection {
    pub most_hosts: usize,
    pub most_alerts: usize,
    pub most_alerts_per_host: usize,
    #[serde(with = "duration")]
    pub settle: Duration,
    #[serde(with = "duration")]
    pub forget_after: Duration,
    #[serde(with = "duration")]
    pub stopped_after: Duration,
}

impl Default for FleetSection {
    fn default() -> Self {
        Self {
            most_hosts: 20_000,
            most_alerts: 100_000,
            most_alerts_per_host: 1000,
            settle: Duration::from_secs(30),
            forget_after: Duration::from_secs(3600),
            stopped_after: Duration::from_secs(300),
        }
    }
}

/// `[host_down]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HostDownSection {
    pub enabled: bool,
    pub severity: String,
    #[serde(with = "duration")]
    pub grace: Duration,
    #[serde(with = "duration")]
    pub silent_after: Duration,
}

impl Default for HostDownSection {
    fn default() -> Self {
        Self {
            enabled: true,
            severity: "critical".to_owned(),
            grace: Duration::from_secs(60),
            silent_after: Duration::from_secs(300),
        }
    }
}

/// `[host_flapping]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HostFlappingSection {
    pub enabled: bool,
    pub severity: String,
    pub changes: usize,
    #[serde(with = "duration")]
    pub window: Duration,
}

impl Default for HostFlappingSection {
    fn default() -> Self {
        Self { enabled: true, severity: "warning".to_owned(), changes: 6, window: Duration::from_secs(600) }
    }
}

/// `[clock_skew]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ClockSkewSection {
    pub enabled: bool,
    pub severity: String,
    #[serde(with = "duration")]
    pub bound: Duration,
}

impl Default for ClockSkewSection {
    fn default() -> Self {
        Self { enabled: true, severity: "warning".to_owned(), bound: Duration::from_secs(30) }
    }
}

/// `[records_dropped]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RecordsDroppedSection {
    pub enabled: bool,
    pub severity: String,
    #[serde(with = "duration")]
    pub hold: Duration,
}

impl Default for RecordsDroppedSection {
    fn default() -> Self {
        Self { enabled: true, severity: "warning".to_owned(), hold: Duration::from_secs(900) }
    }
}

/// `[serve]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ServeSection {
    pub listen: String,
    pub allow: Vec<String>,
}

impl Default for ServeSection {
    fn default() -> Self {
        Self { listen: LISTEN.to_owned(), allow: vec!["loopback".to_owned(), "private".to_owned()] }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LogSection {
    pub level: Level,
}

/// A configuration that was checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) broker: mqtt::Options,
    pub(crate) member: String,
    pub(crate) heartbeats: bool,
    pub(crate) places: Vec<Place>,
    pub(crate) client: daemon::client::Client,
    pub(crate) authorization: Authorization,
    pub(crate) timeout: Duration,
    pub(crate) feed: feed::Settings,
    pub(crate) fleet: fleet::Settings,
    pub(crate) listen: Option<String>,
    pub(crate) allow: Arc<Allow>,
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn path(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

impl Configuration {
    /// What is relied upon, or every fault, each with the place of its key in `loaded`.
    pub fn settings(&self, loaded: &Loaded<Self>) -> Result<Settings, Vec<Fault>> {
        let mut faults = Vec::new();
        let member = text(&self.mqtt.member).map_or_else(host_name, str::to_owned);
        let broker = Broker {
            url: &self.mqtt.url,
            username: text(&self.mqtt.username),
            password: self.mqtt.password.as_ref(),
            password_file: path(&self.mqtt.password_file),
            ca_file: path(&self.mqtt.ca_file),
            cert_file: path(&self.mqtt.cert_file),
            key_file: path(&self.mqtt.key_file),
        };
        let broker = broker.options(&format!("utilizer-exporter-alertmanager-{member}")).map_err(|list| {
            faults.extend(list.into_iter().map(|(key, why)| loaded.fault(key, why)));
        });
        if let Err(error) = member.parse::<wire::MemberName>() {
            faults.push(loaded.fault("mqtt.member", error));
        }
        let allow = Allow::parse(&self.serve.allow).map_err(|error| faults.push(loaded.fault("serve.allow", error)));
        if let Some(listen) = text(&self.serve.listen).filter(|listen| listen.parse::<SocketAddr>().is_err()) {
            let why = format!("{listen:?} is not an address and port such as 127.0.0.1:9464 or [::]:9464");
            faults.push(loaded.fault("serve.listen", why));
        }
        let places = self.places(loaded, &mut faults);
        let tls = TlsSettings {
            ca_file: Some(self.alertmanager.ca_file.clone()),
            cert_file: Some(self.alertmanager.cert_file.clone()),
            key_file: Some(self.alertmanager.key_file.clone()),
            server_name: Some(self.alertmanager.server_name.clone()),
            insecure_skip_verify: false,
        };
        let client = daemon::client::Client::new(&tls).map_err(|list| {
            let key = |key: &str| format!("alertmanager.{}", if key == "tls" { "ca_file" } else { key });
            faults.extend(list.into_iter().map(|(of, why)| loaded.fault(&key(of), why)));
        });
        let authorization = self.authorization(loaded, &mut faults);
        self.check_times(loaded, &mut faults);
        self.check_labels(loaded, &mut faults);
        let (Ok(broker), Ok(allow), Ok(client), true) = (broker, allow, client, faults.is_empty()) else {
            return Err(faults);
        };
        Ok(Settings {
            broker,
            member,
            heartbeats: self.mqtt.heartbeats,
            places,
            client,
            authorization,
            timeout: self.alertmanager.timeout,
            feed: feed::Settings {
                resend: self.alertmanager.resend,
                resolved_for: self.alertmanager.resolved_for,
                queue: self.fleet.most_alerts,
                most: self.fleet.most_alerts,
            },
            fleet: self.fleet(),
            listen: text(&self.serve.listen).map(str::to_owned),
            allow: Arc::new(allow),
        })
    }

    fn places(&self, loaded: &Loaded<Self>, faults: &mut Vec<Fault>) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        if self.alertmanager.urls.is_empty() {
            faults.push(loaded.fault("alertmanager.urls", "name at least one Alertmanager"));
        }
        for url in &self.alertmanager.urls {
            match url.parse::<SecretUrl>() {
                Err(error) => faults.push(loaded.fault("alertmanager.urls", error)),
                Ok(url) => match url.join("api/v2/alerts") {
                    Some(alerts) if places.iter().all(|place| place.alerts != alerts) => {
                        places.push(Place { name: url.to_string(), alerts });
                    }
                    _ => faults.push(loaded.fault("alertmanager.urls", format!("{url} stands there twice"))),
                },
            }
        }
        places
    }

    fn authorization(&self, loaded: &Loaded<Self>, faults: &mut Vec<Fault>) -> Authorization {
        let section = &self.alertmanager;
        let fixed = section.password.as_ref().filter(|password| !password.expose().is_empty());
        let (user, file) = (text(&section.username), path(&section.password_file));
        let token = path(&section.bearer_token_file);
        if fixed.is_some() && file.is_some() {
            faults.push(
                loaded.fault("alertmanager.password_file", "the password is set in the environment too; keep one"),
            );
        }
        let made = match (user, token) {
            (Some(_), Some(_)) => {
                faults.push(loaded.fault("alertmanager.bearer_token_file", "username is set too; keep one"));
                Authorization::Nothing
            }
            (None, None) if file.is_some() || fixed.is_some() => {
                faults.push(loaded.fault("alertmanager.username", "a password needs a username beside it"));
                Authorization::Nothing
            }
            (None, None) => Authorization::Nothing,
            (None, Some(file)) => Authorization::Bearer(file.to_owned()),
            (Some(user), None) => {
                Authorization::Basic { user: user.to_owned(), password: fixed.cloned(), file: file.map(Path::to_owned) }
            }
        };
        if let Err((key, why)) = made.header() {
            faults.push(loaded.fault(&format!("alertmanager.{key}"), why));
        }
        made
    }

    fn check_times(&self, loaded: &Loaded<Self>, faults: &mut Vec<Fault>) {
        let second = Duration::from_secs(1);
        for (key, value, least) in [
            ("alertmanager.resend", self.alertmanager.resend, second),
            ("alertmanager.resolved_for", self.alertmanager.resolved_for, second),
            ("alertmanager.timeout", self.alertmanager.timeout, Duration::from_millis(100)),
            ("fleet.settle", self.fleet.settle, second),
            ("fleet.forget_after", self.fleet.forget_after, self.fleet.settle),
            ("host_down.silent_after", self.host_down.silent_after, second),
            ("host_flapping.window", self.host_flapping.window, second),
            ("clock_skew.bound", self.clock_skew.bound, second),
            ("records_dropped.hold", self.records_dropped.hold, second),
        ] {
            if value < least || value > Duration::from_secs(30 * 86_400) {
                faults.push(
                    loaded.fault(key, format!("it must be from {} to 30d", daemon::config::duration::format(least))),
                );
            }
        }
        for (key, value) in [
            ("fleet.most_hosts", self.fleet.most_hosts),
            ("fleet.most_alerts", self.fleet.most_alerts),
            ("fleet.most_alerts_per_host", self.fleet.most_alerts_per_host),
            ("host_flapping.changes", self.host_flapping.changes),
        ] {
            if value == 0 || value > 10_000_000 {
                faults.push(loaded.fault(key, "it must be from 1 to 10000000"));
            }
        }
    }

    fn check_labels(&self, loaded: &Loaded<Self>, faults: &mut Vec<Fault>) {
        let names = self.alertmanager.labels.keys().map(|name| ("alertmanager.labels", name));
        let host =
            text(&self.alertmanager.host_label).map(|_| ("alertmanager.host_label", &self.alertmanager.host_label));
        for (key, name) in names.chain(host) {
            if !fleet::is_label_name(name) {
                faults.push(loaded.fault(key, format!("{name:?} is no label's name: letters, digits and _ are")));
            }
        }
    }

    fn fleet(&self) -> fleet::Settings {
        let (down, flapping) = (&self.host_down, &self.host_flapping);
        let (skew, dropped) = (&self.clock_skew, &self.records_dropped);
        let labels: LabelSet =
            self.alertmanager.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        fleet::Settings {
            labels,
            host_label: text(&self.alertmanager.host_label).map(str::to_owned),
            job: self.alertmanager.job.clone(),
            generator_url: self.alertmanager.generator_url.clone(),
            most_hosts: self.fleet.most_hosts,
            most_alerts_per_host: self.fleet.most_alerts_per_host,
            settle: self.fleet.settle,
            forget_after: self.fleet.forget_after,
            stopped_after: self.fleet.stopped_after,
            down: down.enabled.then(|| fleet::Down {
                severity: down.severity.clone(),
                grace: down.grace,
                silent_after: self.mqtt.heartbeats.then_some(down.silent_after),
            }),
            flapping: flapping.enabled.then(|| fleet::Flapping {
                severity: flapping.severity.clone(),
                changes: flapping.changes,
                window: flapping.window,
            }),
            skew: skew.enabled.then(|| fleet::Skew { severity: skew.severity.clone(), bound: skew.bound }),
            dropped: dropped.enabled.then(|| fleet::Dropped { severity: dropped.severity.clone(), hold: dropped.hold }),
        }
    }
}

/// The system's name made fit for a topic.
fn host_name() -> String {
    let uname = rustix::system::uname();
    HostName::from_system(&uname.nodename().to_string_lossy()).map_or_else(|| "exporter".to_owned(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use daemon::config::{load_text, uncomment};

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/exporter-alertmanager.toml");

    fn read(text: &str) -> Loaded<Configuration> {
        load_text(None, text, "X", []).unwrap()
    }

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        assert_eq!(read(EXAMPLE).value, Configuration::default());
        let loaded = read(&uncomment(EXAMPLE));
        assert_eq!(loaded.value, Configuration::default());
        for key in [
            "alertmanager.urls",
            "alertmanager.username",
            "alertmanager.password_file",
            "alertmanager.bearer_token_file",
            "alertmanager.ca_file",
            "alertmanager.cert_file",
            "alertmanager.key_file",
            "alertmanager.server_name",
            "alertmanager.resend",
            "alertmanager.resolved_for",
            "alertmanager.timeout",
            "alertmanager.labels",
            "alertmanager.host_label",
            "alertmanager.job",
            "alertmanager.generator_url",
            "mqtt.url",
            "mqtt.username",
            "mqtt.password_file",
            "mqtt.ca_file",
            "mqtt.cert_file",
            "mqtt.key_file",
            "mqtt.member",
            "mqtt.heartbeats",
            "fleet.most_hosts",
            "fleet.most_alerts",
            "fleet.most_alerts_per_host",
            "fleet.settle",
            "fleet.forget_after",
            "fleet.stopped_after",
            "host_down.enabled",
            "host_down.severity",
            "host_down.grace",
            "host_down.silent_after",
            "host_flapping.enabled",
            "host_flapping.severity",
            "host_flapping.changes",
            "host_flapping.window",
            "clock_skew.enabled",
            "clock_skew.severity",
            "clock_skew.bound",
            "records_dropped.enabled",
            "records_dropped.severity",
            "records_dropped.hold",
            "serve.listen",
            "serve.allow",
            "log.level",
        ] {
            assert!(loaded.is_set(key), "{key} is not in the example");
        }
        assert!(loaded.value.settings(&loaded).is_ok());
    }

    #[test]
    fn faults_are_named_all_at_once_and_no_secret_shows() {
        let loaded = read(
            "[alertmanager]\nurls = [\"http://me:hush@h\", \"ftp://hush/x\"]\nresend = \"10ms\"\npassword_file = \"/nothing\"\n\
             labels = { \"a-b\" = \"c\" }\n[fleet]\nmost_hosts = 0\n[serve]\nlisten = \"x\"",
        );
        let faults = loaded.value.settings(&loaded).unwrap_err();
        let said = loaded.error(faults).to_string();
        for part in
            ["user name or password", "only http and https", "resend", "username", "a-b", "most_hosts", "listen"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("hush"), "{said}");
    }
}
