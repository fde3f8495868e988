//! `[[logs]]` and `[redact]` as written; `docs/logs.md` explains them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[[logs]]`: one input. Exactly one of `files`, `journal`, `syslog`, `push` and `own` says where its lines come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsSection {
    /// What it is called in metrics and messages; by default after where its lines come from.
    pub name: Option<String>,
    /// Files, or patterns of them.
    pub files: Vec<String>,
    /// Of these files, not those.
    pub exclude: Vec<String>,
    /// Where a file is begun that was there before it was ever read.
    pub start_at: StartAt,
    /// journald.
    pub journal: Option<JournalSection>,
    /// Messages from the network.
    pub syslog: Option<SyslogSection>,
    /// What comes by `POST /v1/logs`.
    pub push: bool,
    /// The agent's own log.
    pub own: bool,
    /// The longest line; the rest of one is left out and counted.
    #[serde(with = "config::size")]
    pub max_line: u64,

    /// How lines are read.
    pub format: String,
    /// For `format = "container"`: how the lines in it are read.
    pub inner: String,
    /// For `format = "pattern"`: a regular expression with named groups.
    pub pattern: Option<String>,
    /// How a time without zone is meant: `local`, `UTC`, or a zone's name.
    pub timezone: String,
    /// The unit of a latency whose name has none: `s`, `ms`, `us` or `ns`.
    pub latency_unit: String,
    /// More names under which a line has a column: `message = ["text"]`.
    pub map: BTreeMap<String, Vec<String>>,
    /// Lines that belong together.
    pub multiline: MultilineSection,

    /// The service of lines that name none.
    pub service: Option<String>,
    /// The environment of lines that name none.
    pub environment: Option<String>,
    /// Fields of every line.
    pub fields: BTreeMap<String, String>,
    /// The category of lines that none of `categories` takes; it decides how long they are kept.
    pub category: Option<String>,
    /// Categories by what lines say; the first that takes a line has it.
    pub categories: Vec<CategorySection>,
    /// What does not leave the host.
    pub drop: Vec<DropSection>,
    /// Of what only a part leaves the host.
    pub sample: Vec<SampleSection>,
    /// The most lines of each service.
    pub limit: LimitSection,
    /// What is counted.
    pub count: Vec<CountSection>,
}

impl Default for LogsSection {
    fn default() -> Self {
        Self {
            name: None,
            files: Vec::new(),
            exclude: Vec::new(),
            start_at: StartAt::Beginning,
            journal: None,
            syslog: None,
            push: false,
            own: false,
            max_line: 64 << 10,
            format: "auto".to_owned(),
            inner: "auto".to_owned(),
            pattern: None,
            timezone: "local".to_owned(),
            latency_unit: "s".to_owned(),
            map: BTreeMap::new(),
            multiline: MultilineSection::default(),
            service: None,
            environment: None,
            fields: BTreeMap::new(),
            category: None,
            categories: Vec::new(),
            drop: Vec::new(),
            sample: Vec::new(),
            limit: LimitSection::default(),
            count: Vec::new(),
        }
    }
}

/// Where a file is begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// With its first line.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
}

/// `[logs.journal]`: what of the journal is read; all where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalSection {
    /// Units, as `ssh.service`.
    pub units: Vec<String>,
    /// Syslog identifiers, as `sshd`.
    pub identifiers: Vec<String>,
    /// The least severe entries: `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info` or `debug`, or 0 to 7.
    pub priority: Option<String>,
    /// Where the journal's files are; by default where journald keeps them.
    pub directories: Vec<PathBuf>,
}

impl JournalSection {
    /// The largest number of severity; none where all are taken, or the word is none.
    pub fn least_severity(&self) -> Option<u32> {
        let word = self.priority.as_deref()?;
        (0..8).find(|severity| {
            crate::levels::syslog_word(*severity).eq_ignore_ascii_case(word) || severity.to_string() == word
        })
    }
}

/// `[logs.syslog]`: where messages are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyslogSection {
    /// An address and port.
    pub udp: Option<String>,
    /// An address and port.
    pub tcp: Option<String>,
    /// A Unix datagram socket.
    pub unix: Option<PathBuf>,
    /// Whose messages are taken, as in `[serve]`.
    pub allow: Vec<String>,
    /// Connections at a time.
    pub max_connections: usize,
}

impl Default for SyslogSection {
    fn default() -> Self {
        Self {
            udp: None,
            tcp: None,
            unix: None,
            allow: vec!["loopback".to_owned(), "private".to_owned()],
            max_connections: 256,
        }
    }
}

/// `[logs.multiline]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultilineSection {
    /// Whose stack traces are joined; `none` by default.
    pub preset: Option<String>,
    /// A line that matches begins a record.
    pub start: Option<String>,
    /// A line that matches belongs to the one before.
    #[serde(rename = "continue")]
    pub goes_on: Option<String>,
    /// More lines begin another record.
    pub max_lines: usize,
    /// More bytes begin another record.
    #[serde(with = "config::size")]
    pub max_bytes: u64,
    /// How long the next line is waited for.
    #[serde(with = "config::duration")]
    pub timeout: Duration,
}

impl Default for MultilineSection {
    fn default() -> Self {
        Self {
            preset: None,
            start: None,
            goes_on: None,
            max_lines: 500,
            max_bytes: 256 << 10,
            timeout: Duration::from_secs(1),
        }
    }
}

/// `[[logs.categories]]`. All that is given has to hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CategorySection {
    /// The category.
    pub name: String,
    /// A regular expression that the message matches.
    #[serde(rename = "match")]
    pub message: Option<String>,
    /// The level is one of these.
    pub levels: Vec<String>,
    /// The service is one of these.
    pub services: Vec<String>,
    /// Fields, each with a regular expression that it matches.
    pub fields: BTreeMap<String, String>,
}

/// `[[logs.drop]]`. All that is given has to hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropSection {
    /// A regular expression that the message matches.
    #[serde(rename = "match")]
    pub message: Option<String>,
    /// The level is one of these.
    pub levels: Vec<String>,
    /// The service is one of these.
    pub services: Vec<String>,
    /// Fields, each with a regular expression that it matches.
    pub fields: BTreeMap<String, String>,
}

/// `[[logs.sample]]`. All that is given has to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleSection {
    /// One line in so many of each service leaves the host.
    pub one_in: u64,
    /// A regular expression that the message matches.
    #[serde(rename = "match")]
    pub message: Option<String>,
    /// The level is one of these.
    pub levels: Vec<String>,
    /// The service is one of these.
    pub services: Vec<String>,
    /// Fields, each with a regular expression that it matches.
    pub fields: BTreeMap<String, String>,
}

impl Default for SampleSection {
    fn default() -> Self {
        Self { one_in: 1, message: None, levels: Vec::new(), services: Vec::new(), fields: BTreeMap::new() }
    }
}

/// `[logs.limit]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSection {
    /// Lines a second of each service; 0 is no limit.
    pub rate: u64,
    /// Lines of a service that may come at once; ten seconds' worth where it is 0.
    pub burst: u64,
    /// From this level on nothing is left out, neither by the limit nor by sampling.
    pub spare: String,
    /// How often it is told what was left out.
    #[serde(with = "config::duration")]
    pub tell_every: Duration,
}

impl Default for LimitSection {
    fn default() -> Self {
        Self { rate: 0, burst: 0, spare: "ERROR".to_owned(), tell_every: Duration::from_secs(60) }
    }
}

/// `[[logs.count]]`: a counter of lines. All that is given has to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CountSection {
    /// What is known under a name: `failed_logins` or `sudo`.
    pub preset: Option<String>,
    /// The metric's name.
    pub name: Option<String>,
    /// The metric's help text.
    pub help: Option<String>,
    /// A regular expression that the message matches.
    #[serde(rename = "match")]
    pub message: Option<String>,
    /// The level is one of these.
    pub levels: Vec<String>,
    /// The service is one of these.
    pub services: Vec<String>,
    /// Fields, each with a regular expression that it matches.
    pub fields: BTreeMap<String, String>,
    /// The labels: `service`, `level`, `logger`, `category`, `environment`, the name of a field or of a group in `match`.
    pub by: Vec<String>,
    /// More series than these are counted as one.
    pub max_series: usize,
}

impl Default for CountSection {
    fn default() -> Self {
        Self {
            preset: None,
            name: None,
            help: None,
            message: None,
            levels: Vec::new(),
            services: Vec::new(),
            fields: BTreeMap::new(),
            by: Vec::new(),
            max_series: 100,
        }
    }
}

/// `[redact]`: what does not leave the host, in logs, command lines of processes, and texts of alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedactSection {
    /// What is looked for.
    pub presets: Vec<String>,
    /// Regular expressions: what one matches is hidden or, where it has groups, what the groups match.
    pub patterns: Vec<String>,
    /// More names of keys whose values are hidden.
    pub keys: Vec<String>,
}

impl Default for RedactSection {
    fn default() -> Self {
        Self {
            presets: crate::redact::PRESETS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            patterns: Vec::new(),
            keys: Vec::new(),
        }
    }
}
