//! `[[logs]]` and `[redact]` as relied upon.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use wire::Timestamp;
use wire::messages::{Level, LogRecord};

use crate::columns::{self, Columns};
use crate::formats::{self, Reading, otlp};
use crate::latency::Unit;
use crate::levels;
use crate::multiline::Multiline;
use crate::pattern::Pattern;
use crate::redact::Redactor;
use crate::rules::{Condition, Written};
use crate::sections::{CountSection, JournalSection, LimitSection, LogsSection, RedactSection, StartAt, SyslogSection};
use crate::time::Zone;

/// A line has to fit into a message, also where its keys are repeated.
const MOST_LINE: u64 = 1 << 20;
const LEAST_LINE: u64 = 256;

/// More series of one counter are no metric any more.
const MOST_SERIES: usize = 1000;

/// Finds a time zone by its name; `local` is the system's.
pub type Zones<'a> = dyn Fn(&str) -> Option<TimeZone> + 'a;

/// A key, such as `logs[0].format`, and what is wrong with it.
pub type Fault = (String, String);

/// All inputs.
#[derive(Debug, Clone)]
pub struct Plans {
    /// In the order of the configuration, without [`Plans::push`] and [`Plans::own`].
    pub inputs: Vec<Arc<Plan>>,
    /// What is done with `POST /v1/logs`; without an input that says so, it is redacted and counted.
    pub push: Arc<Plan>,
    /// The agent's own log, where it is an input.
    pub own: Option<Arc<Plan>>,
    /// What does not leave the host.
    pub redactor: Arc<Redactor>,
}

/// Where an input's lines come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Files.
    Files {
        /// Patterns of their paths.
        files: Vec<String>,
        /// Patterns of those among them that are not read.
        exclude: Vec<String>,
        /// Where a file is begun that was there before it was ever read.
        start_at: StartAt,
    },
    /// journald.
    Journal {
        /// What of it.
        journal: JournalSection,
        /// Where it is begun at the first start.
        start_at: StartAt,
    },
    /// Messages from the network.
    Syslog(SyslogSection),
    /// `POST /v1/logs`
    Push,
    /// The agent's own log.
    Own,
}

/// One input.
#[derive(Debug)]
pub struct Plan {
    /// What it is called; no other has the name.
    pub name: String,
    /// Where its lines come from.
    pub source: Source,
    /// The longest line in bytes; the rest of one is left out by who reads it, and counted by [`Stream::line`].
    ///
    /// [`Stream::line`]: crate::Stream::line
    pub max_line: usize,
    /// How long lines that wait do so without another one; then [`Stream::flush`] is due.
    ///
    /// [`Stream::flush`]: crate::Stream::flush
    pub wait: Duration,
    pub(crate) reading: Reading,
    pub(crate) in_container: bool,
    pub(crate) multiline: Option<Multiline>,
    pub(crate) service: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) category: Option<String>,
    pub(crate) categories: Vec<(String, Condition)>,
    pub(crate) drop: Vec<Condition>,
    pub(crate) sample: Vec<(u64, Condition)>,
    pub(crate) limit: Limit,
    pub(crate) counters: Vec<CounterPlan>,
    pub(crate) redactor: Arc<Redactor>,
    /// Nobody wrote it: nothing is shown of it before something came.
    pub(crate) is_default: bool,
}

/// `[logs.limit]`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// Lines a second; 0 is no limit.
    pub(crate) rate: u64,
    pub(crate) burst: u64,
    /// From this level on nothing is left out.
    pub(crate) spare: Option<Level>,
    pub(crate) tell_every: Duration,
}

/// `[[logs.count]]`
#[derive(Debug, Clone)]
pub(crate) struct CounterPlan {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) condition: Condition,
    pub(crate) by: Vec<String>,
    pub(crate) max_series: usize,
}

impl Plans {
    /// Checks everything that was written. Each fault is named by its key.
    pub fn new(sections: &[LogsSection], redact: &RedactSection, zones: &Zones<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let redactor = Arc::new(Redactor::new(redact, |key, why| faults.push((format!("redact.{key}"), why))));
        let (mut inputs, mut push, mut own): (Vec<Arc<Plan>>, _, _) = (Vec::new(), None, None);
        let mut names: Vec<String> = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            let mut fault = |key: &str, why: String| faults.push((format!("logs[{at}].{key}"), why));
            let plan = Arc::new(Plan::new(section, &redactor, zones, &mut fault));
            if names.contains(&plan.name) {
                fault("name", format!("there are two inputs {:?}; give each a name of its own", plan.name));
            }
            names.push(plan.name.clone());
            let only = match plan.source {
                Source::Push => &mut push,
                Source::Own => &mut own,
                _ => {
                    inputs.push(plan);
                    continue;
                }
            };
            if only.replace(plan).is_some() {
                let key = if own.is_some() && section.own { "own" } else { "push" };
                fault(key, "stands in two inputs; one can have it".to_owned());
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let push = push.unwrap_or_else(|| {
            let section = LogsSection { push: true, ..LogsSection::default() };
            let fault = &mut |key: &str, why| unreachable!("BUG: {key}: {why}");
            Arc::new(Plan { is_default: true, ..Plan::new(&section, &redactor, zones, fault) })
        });
        Ok(Self { inputs, push, own, redactor })
    }
}

impl Plan {
    fn new(
        section: &LogsSection,
        redactor: &Arc<Redactor>,
        zones: &Zones<'_>,
        fault: &mut dyn FnMut(&str, String),
    ) -> Self {
        let source = source(section, fault);
        let named = section.name.clone().filter(|name| !name.is_empty());
        let name = named.unwrap_or_else(|| match &source {
            Source::Files { files, .. } => files.first().cloned().unwrap_or_default(),
            Source::Journal { .. } => "journal".to_owned(),
            Source::Syslog(_) => "syslog".to_owned(),
            Source::Push => "push".to_owned(),
            Source::Own => "agent".to_owned(),
        });
        if name.len() > 200 || name.chars().any(char::is_control) {
            fault("name", "must have at most 200 bytes and no control characters".to_owned());
        }
        if !(LEAST_LINE..=MOST_LINE).contains(&section.max_line) {
            fault("max_line", "must lie between 256B and 1MiB".to_owned());
        }
        let in_container = section.format == formats::CONTAINER;
        let inner = if in_container { section.inner.as_str() } else { section.format.as_str() };
        let reading = reading(section, inner, in_container, zones, fault);
        let multiline = Multiline::new(&section.multiline, inner, |key, why| fault(&format!("multiline.{key}"), why));
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut conditions = Conditions { fault };
        Self {
            name,
            source,
            max_line: usize::try_from(section.max_line).unwrap_or(usize::MAX),
            wait: section.multiline.timeout,
            reading,
            in_container,
            multiline,
            service: text(&section.service),
            environment: text(&section.environment),
            fields: section.fields.clone(),
            category: text(&section.category),
            categories: conditions.categories(section),
            drop: conditions.drop(section),
            sample: conditions.sample(section),
            limit: conditions.limit(&section.limit),
            counters: section.count.iter().enumerate().filter_map(|(at, count)| conditions.count(at, count)).collect(),
            redactor: redactor.clone(),
            is_default: false,
        }
    }

    /// The record of an object that was pushed, or what is wrong with it. [`Policy::push`] comes next.
    ///
    /// [`Policy::push`]: crate::Policy::push
    pub fn record(&self, object: Map<String, Value>, now: Timestamp) -> Result<LogRecord, String> {
        columns::of_object(&self.reading.columns, object, now)
    }

    /// The records of a body of OTLP/HTTP; none where it is another object.
    pub fn otlp(&self, body: &Map<String, Value>, now: Timestamp) -> Option<Result<otlp::Taken, String>> {
        otlp::is_it(body).then(|| otlp::records(body, &self.reading.columns, now))
    }
}

fn source(section: &LogsSection, fault: &mut dyn FnMut(&str, String)) -> Source {
    let files =
        || Source::Files { files: section.files.clone(), exclude: section.exclude.clone(), start_at: section.start_at };
    let given = [
        (!section.files.is_empty()).then(files),
        section.journal.clone().map(|journal| Source::Journal { journal, start_at: section.start_at }),
        section.syslog.clone().map(Source::Syslog),
        section.push.then_some(Source::Push),
        section.own.then_some(Source::Own),
    ];
    let mut given = given.into_iter().flatten();
    let first = given.next();
    let one_of = "one of files, journal, syslog, push and own says where the lines come from";
    match (&first, given.next()) {
        (None, _) => fault("files", format!("is missing; {one_of}")),
        (Some(_), Some(_)) => fault("files", format!("there is more than one source; {one_of}")),
        (Some(_), None) => {}
    }
    if let Some(journal) = &section.journal {
        if journal.priority.is_some() && journal.least_severity().is_none() {
            fault("journal.priority", "must be emerg, alert, crit, err, warning, notice, info or debug".to_owned());
        }
        if journal.directories.iter().any(|directory| !directory.is_absolute()) {
            fault("journal.directories", "must begin with '/'".to_owned());
        }
    }
    if section.files.iter().any(|file| !file.starts_with('/')) {
        fault("files", "must begin with '/'".to_owned());
    }
    if let Some(syslog) = &section.syslog
        && syslog.udp.is_none()
        && syslog.tcp.is_none()
        && syslog.unix.as_ref().is_none_or(|path: &PathBuf| path.as_os_str().is_empty())
    {
        fault("syslog", "names no address; udp, tcp or unix says where messages are taken".to_owned());
    }
    for (key, address) in section.syslog.iter().flat_map(|syslog| [("udp", &syslog.udp), ("tcp", &syslog.tcp)]) {
        if let Some(address) = address.as_deref().filter(|address| address.parse::<SocketAddr>().is_err()) {
            fault(&format!("syslog.{key}"), format!("{address:?} is no address and port such as \"127.0.0.1:514\""));
        }
    }
    if section.syslog.as_ref().is_some_and(|syslog| !(1..=10_000).contains(&syslog.max_connections)) {
        fault("syslog.max_connections", "must lie between 1 and 10000".to_owned());
    }
    first.unwrap_or_else(files)
}

fn reading(
    section: &LogsSection,
    format: &str,
    in_container: bool,
    zones: &Zones<'_>,
    fault: &mut dyn FnMut(&str, String),
) -> Reading {
    let pattern = section.pattern.as_deref().filter(|text| !text.is_empty());
    let pattern = pattern.and_then(|text| match Pattern::new(text) {
        Ok(pattern) if pattern.groups().next().is_none() => {
            fault("pattern", "has no named group such as (?<message>.*)".to_owned());
            None
        }
        Ok(pattern) => Some(pattern),
        Err(error) => {
            fault("pattern", error);
            None
        }
    });
    match (format, section.pattern.is_some()) {
        ("pattern", false) => fault("pattern", "is missing; format = \"pattern\" needs it".to_owned()),
        ("pattern", true) | (_, false) => {}
        (_, true) => fault("pattern", "is for format = \"pattern\" only".to_owned()),
    }
    let zone = match section.timezone.as_str() {
        "UTC" => Zone::utc(),
        name => match zones(name) {
            Some(zone) => Zone::new(zone),
            None if name == "local" => Zone::utc(),
            None => {
                fault("timezone", format!("the system knows no time zone {name:?}; there are also local and UTC"));
                Zone::utc()
            }
        },
    };
    let unit = Unit::of(&section.latency_unit).unwrap_or_else(|| {
        fault("latency_unit", "must be s, ms, us or ns".to_owned());
        Unit::default()
    });
    for name in section.map.keys().filter(|name| columns::column_names().all(|known| known != name.as_str())) {
        let known: Vec<_> = columns::column_names().collect();
        fault(&format!("map.{name}"), format!("is no column; there are {}", known.join(", ")));
    }
    let columns = Columns::new(&section.map, zone, unit);
    Reading::new(format, columns.clone(), pattern.clone()).unwrap_or_else(|| {
        let known: Vec<_> = formats::FORMATS.iter().map(|(name, _)| *name).collect();
        let key = if in_container { "inner" } else { "format" };
        let also = if in_container { "" } else { ", container" };
        fault(key, format!("there is no format {format:?}; there are {}{also}", known.join(", ")));
        Reading { format: 0, columns, pattern }
    })
}

/// What a rule asks of its lines, wherever it stands.
macro_rules! written {
    ($rule:expr) => {
        Written {
            message: $rule.message.as_deref(),
            levels: &$rule.levels,
            services: &$rule.services,
            fields: &$rule.fields,
        }
    };
}

/// The rules of an input.
struct Conditions<'a> {
    fault: &'a mut dyn FnMut(&str, String),
}

impl Conditions<'_> {
    fn condition(&mut self, list: &str, at: usize, written: &Written<'_>) -> Condition {
        let fault = &mut self.fault;
        Condition::new(written, |key, why| fault(&format!("{list}[{at}].{key}"), why))
    }

    fn categories(&mut self, section: &LogsSection) -> Vec<(String, Condition)> {
        let mut made = Vec::new();
        for (at, rule) in section.categories.iter().enumerate() {
            let condition = self.condition("categories", at, &written!(rule));
            if rule.name.is_empty() {
                (self.fault)(&format!("categories[{at}].name"), "is missing".to_owned());
            }
            if condition.is_empty() {
                let why = "says nothing of its lines; `category` is for all that no other takes";
                (self.fault)(&format!("categories[{at}].match"), why.to_owned());
            }
            made.push((rule.name.clone(), condition));
        }
        made
    }

    fn drop(&mut self, section: &LogsSection) -> Vec<Condition> {
        let mut made = Vec::new();
        for (at, rule) in section.drop.iter().enumerate() {
            let condition = self.condition("drop", at, &written!(rule));
            if condition.is_empty() {
                (self.fault)(&format!("drop[{at}].match"), "is missing, and everything would be dropped".to_owned());
            }
            made.push(condition);
        }
        made
    }

    fn sample(&mut self, section: &LogsSection) -> Vec<(u64, Condition)> {
        let mut made = Vec::new();
        for (at, rule) in section.sample.iter().enumerate() {
            let condition = self.condition("sample", at, &written!(rule));
            if rule.one_in == 0 {
                (self.fault)(&format!("sample[{at}].one_in"), "must be at least 1".to_owned());
            }
            made.push((rule.one_in.max(1), condition));
        }
        made
    }

    fn limit(&mut self, section: &LimitSection) -> Limit {
        let spare = match section.spare.as_str() {
            // Nothing is spared.
            "" | "none" => None,
            word => match levels::of_word(word) {
                Some(level) => Some(level),
                None => {
                    let why = format!("{word:?} is not a level: DEBUG, INFO, WARN, ERROR, FATAL or none");
                    (self.fault)("limit.spare", why);
                    None
                }
            },
        };
        if section.tell_every < Duration::from_secs(1) {
            (self.fault)("limit.tell_every", "must be at least 1s".to_owned());
        }
        Limit {
            rate: section.rate,
            burst: if section.burst == 0 { section.rate.saturating_mul(10) } else { section.burst },
            spare,
            tell_every: section.tell_every,
        }
    }

    fn count(&mut self, at: usize, section: &CountSection) -> Option<CounterPlan> {
        let mut condition = self.condition("count", at, &written!(section));
        let mut fault = |key: &str, why: String| (self.fault)(&format!("count[{at}].{key}"), why);
        let preset = section.preset.as_deref().filter(|preset| !preset.is_empty());
        let preset = preset.and_then(|name| {
            let found = COUNT_PRESETS.iter().find(|preset| preset.title == name);
            if found.is_none() {
                let known: Vec<_> = COUNT_PRESETS.iter().map(|preset| preset.title).collect();
                fault("preset", format!("there is no preset {name:?}; there are {}", known.join(", ")));
            }
            found
        });
        if let Some(preset) = preset {
            if section.message.is_some() {
                fault("match", "stands in the preset".to_owned());
            }
            condition = condition.with_message(Pattern::fixed(preset.pattern, preset.needles));
        }
        let name = section.name.clone().filter(|name| !name.is_empty());
        let name = name.or_else(|| preset.map(|preset| preset.name.to_owned())).unwrap_or_default();
        if !is_metric_name(&name) {
            fault("name", "must be a metric's name: letters, digits, '_' and ':', and no digit first".to_owned());
        }
        if RESERVED.iter().any(|(reserved, _)| *reserved == name) {
            fault("name", "is a metric that every input has".to_owned());
        }
        for label in section.by.iter().filter(|label| !is_label_name(&label_of(label)) || *label == "input") {
            fault("by", format!("{label:?} can't be a label"));
        }
        if !(1..=MOST_SERIES).contains(&section.max_series) {
            fault("max_series", format!("must lie between 1 and {MOST_SERIES}"));
        }
        Some(CounterPlan {
            name,
            help: section
                .help
                .clone()
                .or_else(|| preset.map(|preset| preset.help.to_owned()))
                .unwrap_or_else(|| "Lines that a rule of the configuration counts.".to_owned()),
            condition,
            by: section.by.clone(),
            max_series: section.max_series,
        })
    }
}

/// What is counted by a name alone.
struct CountPreset {
    title: &'static str,
    name: &'static str,
    help: &'static str,
    pattern: &'static str,
    /// Each line that matches has one of these.
    needles: &'static [&'static str],
}

const COUNT_PRESETS: &[CountPreset] = &[
    CountPreset {
        title: "failed_logins",
        name: "utilizer_log_failed_logins_total",
        help: "Lines of sshd, login, su and others that tell of a login that failed.",
        pattern: r"^(Failed (password|publickey|keyboard-interactive/pam|none) for |FAILED LOGIN|FAILED SU|(error: )?maximum authentication attempts exceeded|pam_\w+\([^)]*\): authentication failure)",
        needles: &["Failed ", "FAILED ", "maximum authentication attempts", "authentication failure"],
    },
    CountPreset {
        title: "sudo",
        name: "utilizer_log_privilege_escalations_total",
        help: "Lines of sudo, su and doas that tell that somebody became another user, or tried to.",
        pattern: r"(; COMMAND=|^\(to \S+\) \S+ on |pam_unix\((su|sudo|su-l|sudo-i|doas)[^)]*\): session opened for user |NOT in sudoers|^FAILED SU )",
        needles: &["; COMMAND=", "(to ", "session opened for user ", "NOT in sudoers", "FAILED SU "],
    },
];

/// Metrics that every input has, and their help texts.
pub(crate) const RESERVED: &[(&str, &str)] = &[
    ("utilizer_log_lines_total", "Records made of lines, before any was left out."),
    ("utilizer_log_left_out_total", "Records that did not leave the host, by why: drop, sample or limit."),
    ("utilizer_log_strange_lines_total", "Lines that are not in their input's format, kept as text."),
    ("utilizer_log_bad_times_total", "Lines whose time is none, or lies far ahead or behind, by what it is."),
    ("utilizer_log_cut_bytes_total", "Bytes of lines longer than max_line."),
    ("utilizer_log_redacted_total", "Records in which something was hidden."),
];

/// A label's name of a field's.
pub(crate) fn label_of(field: &str) -> String {
    field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':') && !name.starts_with("__")
}

fn is_metric_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_source_is_named() {
        let journal = JournalSection { priority: Some("loud".to_owned()), ..JournalSection::default() };
        let syslog = SyslogSection { udp: Some("514".to_owned()), max_connections: 0, ..SyslogSection::default() };
        let sections = [
            LogsSection { journal: Some(journal), ..LogsSection::default() },
            LogsSection { syslog: Some(syslog), ..LogsSection::default() },
        ];
        let faults = Plans::new(&sections, &RedactSection::default(), &|_| Some(TimeZone::UTC)).unwrap_err();
        let keys: Vec<_> = faults.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["logs[0].journal.priority", "logs[1].syslog.udp", "logs[1].syslog.max_connections"]);
        for (word, severity) in [("warning", Some(4)), ("3", Some(3)), ("8", None), ("", None)] {
            let journal = JournalSection { priority: Some(word.to_owned()), ..JournalSection::default() };
            assert_eq!(journal.least_severity(), severity, "{word}");
        }
    }
}
