//! Probes: this host asks services whether they answer as they should.
//!
//! Each probe runs on its own beat on the agent's thread for everything asynchronous (`runner.rs`). What it found last joins
//! every snapshot, as if a collector had read it, for three of its intervals (`results.rs`): a probe that does not run any more
//! shows nothing rather than old values. Names are blackbox_exporter's where it has them, and those of a service's own exporter.
//! Each protocol is spoken as far as the question needs it; its parser takes bytes and is in the same file.

mod dial;
mod found;
mod results;
mod runner;
mod talk;
mod web;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use daemon::config::duration;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use wire::LabelSet;

pub use dial::TlsSection;
use dial::{Family, Tools};
use found::Found;
pub use results::{Shared, State};
pub use runner::{Runner, run};

/// More probes than these are another program's work.
const MOST_PROBES: usize = 500;

/// A service that is asked more often than this is under load by it.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The longest target that is a label.
const LONGEST_TARGET: usize = 200;

/// Labels that probes give themselves.
const OWN_LABELS: &[&str] = &["probe", "target", "kind", "phase", "state", "version"];

/// The probes: key of the table, which is the module and the label `kind`, and type.
macro_rules! kinds {
    ($($(#[$doc:meta])* $key:ident: $type:ident,)*) => {
        $(mod $key; pub use $key::$type;)*

        /// `[[probe]]`: a name, how often, and one table that says what is asked.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct ProbeSection {
            /// The label `probe`.
            pub name: String,
            /// Time between two runs.
            #[serde(with = "duration")]
            pub interval: Duration,
            /// The longest time for one run.
            #[serde(with = "duration")]
            pub timeout: Duration,
            /// Labels of all that it finds.
            pub labels: LabelSet,
            /// `4`, `6`, or empty for both.
            pub ip_protocol: Family,
            $($(#[$doc])* pub $key: Option<$type>,)*
        }

        impl Default for ProbeSection {
            fn default() -> Self {
                Self {
                    name: String::new(),
                    interval: Duration::from_secs(30),
                    timeout: Duration::from_secs(5),
                    labels: LabelSet::default(),
                    ip_protocol: Family::Any,
                    $($key: None,)*
                }
            }
        }

        /// What is asked.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) enum Kind {
            $(#[allow(non_camel_case_types)] $key(Box<$type>),)*
        }

        impl Kind {
            /// The keys of all kinds.
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($key)),*];

            fn all(section: &ProbeSection) -> Vec<Self> {
                let mut all = Vec::new();
                $(all.extend(section.$key.clone().map(|table| Self::$key(Box::new(table))));)*
                all
            }

            fn name(&self) -> &'static str {
                match self {
                    $(Self::$key(_) => stringify!($key),)*
                }
            }

            fn look(&self) -> &dyn Look {
                match self {
                    $(Self::$key(table) => &**table,)*
                }
            }
        }

        /// The keys of each kind with their defaults, as TOML. For the test of the documentation.
        #[cfg(test)]
        fn defaults() -> Vec<(&'static str, toml::Table)> {
            vec![$((stringify!($key), toml::Table::try_from($type::default()).unwrap()),)*]
        }
    };
}

kinds! {
    /// A page or an endpoint of HTTP.
    http: Http,
    /// A TCP port.
    tcp: Tcp,
    /// A name server.
    dns: Dns,
    /// An address, by an echo request.
    icmp: Icmp,
    /// An MQTT broker.
    mqtt: MqttProbe,
    /// A PostgreSQL server.
    postgres: Postgres,
    /// A Redis server.
    redis: Redis,
    /// A ClickHouse server.
    clickhouse: ClickHouse,
    /// A Prometheus server.
    prometheus: Prometheus,
    /// A Grafana server.
    grafana: Grafana,
    /// A file that is watched for changes.
    file: WatchedFile,
    /// How new files or messages are.
    freshness: Freshness,
}

/// What a table of a probe can be asked.
pub(crate) trait Look: Send + Sync {
    /// The label `target`: what is asked, without secrets.
    fn target(&self) -> String;

    /// What is wrong, by key: what can't be seen while the file is read.
    fn check(&self, faults: &mut Faults);

    /// Asks once. An error is a sentence that holds no secret, and no number that is another each time: a reason is logged
    /// when it changes.
    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a>;
}

/// A run under way.
pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// What one run has.
pub(crate) struct Run<'r> {
    /// Where it puts what it finds.
    pub(crate) found: &'r mut Found,
    /// What it knows from the run before.
    pub(crate) memory: &'r mut Memory,
    /// What all probes share.
    pub(crate) tools: &'r Tools,
    /// Its end.
    pub(crate) until: Instant,
    /// How long it is, for messages.
    pub(crate) timeout: Duration,
    /// Which addresses.
    pub(crate) family: Family,
}

/// What a probe keeps between its runs.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    file: file::Seen,
    topic: Option<freshness::Listener>,
    tls: dial::Made,
    /// Whether files are being read, or a name is looked up.
    reads: Arc<AtomicBool>,
}

/// Faults of one table: the key and a sentence.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(String, String)>);

impl Faults {
    pub(crate) fn add(&mut self, key: &str, fault: impl Into<String>) {
        self.0.push((key.to_owned(), fault.into()));
    }

    /// A password without the name that goes with it, or the other way.
    fn pair(&mut self, username: &str, password_file: &Path) {
        if username.is_empty() && !password_file.as_os_str().is_empty() {
            self.add("username", "a password needs a username beside it");
        }
    }
}

/// A probe, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    name: String,
    interval: Duration,
    timeout: Duration,
    family: Family,
    target: String,
    labels: Vec<(String, String)>,
    kind: Kind,
}

/// Checks everything. A fault is a key such as `probe[0].http.url` and a sentence.
pub fn checked(sections: &[ProbeSection]) -> Result<Vec<Probe>, Vec<(String, String)>> {
    let mut faults = Vec::new();
    let mut probes: Vec<Probe> = Vec::new();
    if sections.len() > MOST_PROBES {
        faults.push(("probe".to_owned(), format!("more than {MOST_PROBES} probes; give some to another host's agent")));
    }
    for (at, section) in sections.iter().enumerate() {
        let mut fault = |key: &str, why: String| faults.push((format!("probe[{at}].{key}"), why));
        if section.name.trim().is_empty() {
            fault("name", "a probe needs a name: the label `probe` of all that it finds".to_owned());
        } else if probes.iter().any(|probe| probe.name == section.name) {
            fault("name", format!("there are two probes {:?}", section.name));
        }
        if let Some(why) = crate::config::label_fault("probe", &section.name) {
            fault("name", why.to_owned());
        }
        if section.interval < SHORTEST_INTERVAL {
            fault("interval", "must be at least 100ms".to_owned());
        }
        if section.timeout.is_zero() || section.timeout > section.interval {
            let why = if section.timeout.is_zero() { "must not be 0s" } else { "must not be longer than the interval" };
            fault("timeout", why.to_owned());
        }
        for (name, value) in section.labels.iter() {
            if OWN_LABELS.contains(&name) {
                fault(&format!("labels.{name}"), "is a label that probes give themselves".to_owned());
            } else if let Some(why) = crate::config::label_fault(name, value) {
                fault(&format!("labels.{name}"), why.to_owned());
            }
        }
        let mut kinds = Kind::all(section);
        let Some(kind) = kinds.pop().filter(|_| kinds.is_empty()) else {
            fault("name", format!("must say what it asks, by exactly one table of {}", Kind::NAMES.join(", ")));
            continue;
        };
        let mut wrong = Faults::default();
        kind.look().check(&mut wrong);
        wrong.0.into_iter().for_each(|(key, why)| fault(&format!("{}.{key}", kind.name()), why));
        let target: String = kind.look().target().chars().take(LONGEST_TARGET).collect();
        let mut labels = vec![
            ("probe".to_owned(), section.name.clone()),
            ("target".to_owned(), target.clone()),
            ("kind".to_owned(), kind.name().to_owned()),
        ];
        labels.extend(section.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        probes.push(Probe {
            name: section.name.clone(),
            interval: section.interval,
            timeout: section.timeout,
            family: section.ip_protocol,
            target,
            labels,
            kind,
        });
    }
    if faults.is_empty() { Ok(probes) } else { Err(faults) }
}

/// For people: which probes there are.
pub fn summary(probes: &[Probe]) -> String {
    match probes {
        [] => "none".to_owned(),
        probes => probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// The parsers, for fuzzing: none may panic or run on, whatever a server answers.
pub fn read_anything(data: &[u8]) {
    postgres::read_anything(data);
    redis::read_anything(data);
    dns::read_anything(data);
    icmp::read_anything(data);
    web::read_anything(data);
    let _ = tls::expiry::not_after(data);
}

/// Whether this may be the name of a metric.
fn is_metric_name(name: &str) -> bool {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':');
    begins && name.len() <= LONGEST_TARGET && characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

#[cfg(test)]
mod tests;
