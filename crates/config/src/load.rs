use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree;

/// Keys that may come from the environment only: a configuration file is read by too many.
const SECRET_KEYS: &[&str] = &["password", "token", "secret"];

/// At most so many faults are reported; a file with more is not this program's.
pub(super) const MAX_FAULTS: usize = 50;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Line and column of the file, from 1.
    Line(usize, usize),
    /// An environment variable.
    Variable(String),
    /// Nowhere: it has its default.
    Default,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub message: String,
}

/// A configuration that can't be used, with everything that is wrong in it.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can't be read.
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file or the environment hold faults; never empty.
    Faults {
        /// The file, where there is one.
        file: Option<PathBuf>,
        /// In the order of their places.
        faults: Vec<Fault>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Read { file, source } => {
                write!(f, "can't read the configuration file {}: {source}", file.display())
            }
            ConfigError::Faults { file, faults } => {
                for (i, fault) in faults.iter().enumerate() {
                    if i > 0 {
                        f.write_str("\n")?;
                    }
                    match (&fault.place, file) {
                        (Place::Line(line, column), Some(file)) => write!(f, "{}:{line}:{column}: ", file.display())?,
                        (Place::Line(line, column), None) => write!(f, "line {line}, column {column}: ")?,
                        (Place::Variable(name), _) => write!(f, "environment variable {name}: ")?,
                        (Place::Default, _) => {}
                    }
                    f.write_str(&fault.message)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// A configuration as written, which remembers where each of its keys came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The values.
    pub value: T,
    pub(super) file: Option<PathBuf>,
    pub(super) places: BTreeMap<String, Place>,
}

impl<T> Loaded<T> {
    /// A fault of the key `path` (`serve.listen`), with the place where it was set.
    pub fn fault(&self, path: &str, message: impl fmt::Display) -> Fault {
        Fault { place: self.nearest(path).cloned().unwrap_or(Place::Default), message: format!("{path}: {message}") }
    }

    /// Where the key was set; where it is missing in an element of a list, a place in that element.
    fn nearest(&self, path: &str) -> Option<&Place> {
        let mut found = self.places.get(path);
        let mut element = path;
        while let (None, Some((rest, _))) = (found, element.rsplit_once(']')) {
            element = rest;
            let within = format!("{rest}]");
            let mut keys = self.places.range(within.clone()..);
            found = keys.next().filter(|(key, _)| key.starts_with(&within)).map(|(_, place)| place);
        }
        found
    }

    /// Where the key was set.
    pub fn place(&self, path: &str) -> Option<&Place> {
        self.places.get(path)
    }

    /// Whether the file or the environment set the key.
    pub fn is_set(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// An error of all these faults, in the order of their places.
    pub fn error(&self, mut faults: Vec<Fault>) -> ConfigError {
        sort(&mut faults);
        ConfigError::Faults { file: self.file.clone(), faults }
    }

    /// A configuration that was made in memory, of which no key has a place.
    pub fn of(value: T) -> Self {
        Self { value, file: None, places: BTreeMap::new() }
    }
}

/// Reads a file (`None`: defaults only) and the environment variables that begin with `prefix` and two underscores:
/// `UTILIZER_AGENT__MQTT__URL` is `mqtt.url` under the prefix `UTILIZER_AGENT`.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    prefix: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let text = match file {
        None => String::new(),
        Some(file) => {
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?
        }
    };
    load_text(file, &text, prefix, environment)
}

/// As [`load`], over the text of a file that was already read.
pub fn load_text<T: DeserializeOwned>(
    file: Option<&Path>,
    text: &str,
    prefix: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let mut faults = Vec::new();
    let file = file.map(Path::to_owned);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let faults = errors
            .iter()
            .map(|e| Fault {
                place: e.span().map_or(Place::Default, |span| line_of(text, span.start)),
                message: e.message().to_owned(),
            })
            .collect();
        return Err(ConfigError::Faults { file, faults });
    }
    let mut table = table.into_inner();
    let mut places = BTreeMap::new();
    note_places(&table, "", &|span| line_of(text, span.start), &mut places);
    for (path, place) in &places {
        if SECRET_KEYS.contains(&path.rsplit('.').next().unwrap_or_default()) {
            let variable = format!("{prefix}__{}", path.to_ascii_uppercase().replace('.', "__"));
            let message = format!(
                "{path}: a secret does not belong in this file; put it into a file of its own and name that in \
                 {path}_file, or set {variable}"
            );
            faults.push(Fault { place: place.clone(), message });
        }
    }

    // Each variable gets a span past the end of the text, so that an error's span leads back to it.
    let mut variables = Vec::new();
    let mut sorted: Vec<(String, String)> = Vec::new();
    environment.into_iter().for_each(|pair| insert(&mut sorted, pair, |before, pair| before <= pair));
    for (name, value) in &sorted {
        let Some(path) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("__")) else { continue };
        let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        let at = text.len() + 1 + variables.len();
        // A number, boolean or list where it reads as one; else a text. A text key gets its text back below.
        let scalar = match DeValue::parse(value) {
            Ok(parsed) if !matches!(parsed.get_ref(), DeValue::Table(_)) => parsed.into_inner(),
            _ => DeValue::String(value.clone().into()),
        };
        if set(&mut table, &path, scalar, at..at) {
            places.insert(path.join("."), Place::Variable(name.clone()));
        } else {
            let message = format!("{} is below a key that holds no table", path.join("."));
            faults.push(Fault { place: Place::Variable(name.clone()), message });
        }
        variables.push((name, value));
    }

    // Deserialize; what an error complains about is noted, taken out, and the rest read again, so that one run names
    // every fault. Each turn shortens the table, so this ends.
    loop {
        let error = match tree::read(&table) {
            Ok(value) if faults.is_empty() => return Ok(Loaded { value, file, places }),
            Ok(_) => break,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..text.len());
        let variable = span.start.checked_sub(text.len() + 1).and_then(|i| variables.get(i));
        let Some(taken) = take(&mut table, &span, "") else {
            faults.push(Fault { place: line_of(text, span.start), message: explain(error.message(), "") });
            break;
        };
        if let (Some((_, value)), false) = (variable, matches!(taken.value, DeValue::String(_))) {
            let path: Vec<String> = taken.path.split('.').map(str::to_owned).collect();
            set(&mut table, &path, DeValue::String((*value).clone().into()), span);
            continue;
        }
        // As an empty text for a text: no value. That is how a container's file sets what it leaves open.
        if variable.is_some_and(|(_, value)| value.is_empty()) && !error.message().starts_with("unknown field") {
            continue;
        }
        let (place, hint) = match variable {
            Some((name, _)) if error.message().trim_end().ends_with("expected a sequence") => {
                (Place::Variable((*name).clone()), "; a list is written as in the file: [\"a\", \"b\"]")
            }
            Some((name, _)) => (Place::Variable((*name).clone()), ""),
            None => (line_of(text, span.start), ""),
        };
        faults.push(Fault { place, message: explain(error.message(), &taken.path) + hint });
        if faults.len() >= MAX_FAULTS {
            break;
        }
    }
    sort(&mut faults);
    Err(ConfigError::Faults { file, faults })
}

pub(super) fn sort(faults: &mut Vec<Fault>) {
    let key = |fault: &Fault| match &fault.place {
        Place::Line(line, column) => (*line, *column),
        Place::Variable(_) | Place::Default => (usize::MAX, 0),
    };
    for fault in std::mem::take(faults) {
        insert(faults, fault, |before, fault| key(before) <= key(fault));
    }
}

/// Inserts where the order says. These lists are short, and the library's sort is 5 KB of code for each type.
fn insert<T>(sorted: &mut Vec<T>, item: T, precedes: impl Fn(&T, &T) -> bool) {
    let at = sorted.partition_point(|before| precedes(before, &item));
    sorted.insert(at, item);
}

/// The text of an example file with its commented-out keys switched on: a line `# key = value` or `# [section]` loses
/// its mark, prose (`## …`, or anything else behind `#`) stays a comment. For the tests that hold examples to defaults.
pub fn uncomment(example: &str) -> String {
    let switched_on = |line: &str| -> Option<String> {
        let rest = line.strip_prefix("# ")?;
        let key = rest.split_once(" = ").map(|(key, _)| key);
        let is_key =
            key.is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        (is_key || (rest.starts_with('[') && rest.ends_with(']'))).then(|| rest.to_owned())
    };
    example.lines().map(|line| switched_on(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// serde's message about the key at `path`, with the nearest valid key where one is unknown.
pub(super) fn explain(message: &str, path: &str) -> String {
    let quoted = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let names = quoted(rest);
        let (unknown, valid) = names.split_first().map_or(("", &[][..]), |(u, v)| (u.as_str(), v));
        let nearest = valid
            .iter()
            .map(|key| (strsim::damerau_levenshtein(key, unknown), key))
            .filter(|(distance, key)| *distance <= 1 + key.len().max(unknown.len()) / 3)
            .min();
        return match nearest {
            Some((_, key)) => format!("unknown key {path}; did you mean {key}?"),
            None => format!("unknown key {path}; valid here: {}", valid.join(", ")),
        };
    }
    let message = message.trim_end();
    if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") }
}

fn line_of(text: &str, at: usize) -> Place {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    Place::Line(line, column)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

pub(super) fn note_places(
    table: &DeTable<'_>,
    path: &str,
    place: &impl Fn(Range<usize>) -> Place,
    places: &mut BTreeMap<String, Place>,
) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => note_places(inner, &path, place, places),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        let path = format!("{path}[{at}]");
                        note_places(inner, &path, place, places);
                        places.insert(path, place(item.span()));
                    }
                }
            }
            _ => {}
        }
        places.insert(path, place(key.span()));
    }
}

/// As [`note_places`], with the places of the values instead of their keys', and of what stands in lists.
pub(super) fn note_values(
    table: &DeTable<'_>,
    path: &str,
    place: &impl Fn(Range<usize>) -> Place,
    places: &mut BTreeMap<String, Place>,
) {
    for (key, value) in table {
        note_value(value, join(path, key.get_ref()), place, places);
    }
}

fn note_value(
    value: &Spanned<DeValue<'_>>,
    path: String,
    place: &impl Fn(Range<usize>) -> Place,
    places: &mut BTreeMap<String, Place>,
) {
    match value.get_ref() {
        DeValue::Table(inner) => note_values(inner, &path, place, places),
        DeValue::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                note_value(item, format!("{path}[{at}]"), place, places);
            }
        }
        _ => {}
    }
    places.insert(path, place(value.span()));
}

/// Sets `path` to `value`, making tables on the way; false where a value stands in the way.
fn set<'i>(table: &mut DeTable<'i>, path: &[String], value: DeValue<'i>, span: Range<usize>) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    let key = Spanned::new(span.clone(), first.clone().into());
    if rest.is_empty() {
        // Remove first: inserting over an equal key would keep the old key with the old span.
        table.remove(&key);
        table.insert(key, Spanned::new(span, value));
        return true;
    }
    if !table.contains_key(&key) {
        table.insert(key.clone(), Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
    }
    match table.get_mut(&key).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => set(inner, rest, value, span),
        _ => false,
    }
}

pub(super) struct Taken<'i> {
    pub(super) path: String,
    value: DeValue<'i>,
}

/// Takes the innermost entry whose key or value has this span out of the table.
pub(super) fn take<'i>(table: &mut DeTable<'i>, span: &Range<usize>, path: &str) -> Option<Taken<'i>> {
    for (key, value) in table.iter_mut() {
        let path = join(path, key.get_ref());
        let found = match value.get_mut() {
            DeValue::Table(inner) => take(inner, span, &path),
            DeValue::Array(items) => items.iter_mut().enumerate().find_map(|(i, item)| match item.get_mut() {
                DeValue::Table(inner) => take(inner, span, &format!("{path}[{i}]")),
                _ => None,
            }),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    let contains = |value: &Spanned<DeValue<'i>>| match value.get_ref() {
        DeValue::Array(items) => items.iter().any(|item| item.span() == *span),
        _ => false,
    };
    let key = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span || contains(value))
        .map(|(key, _)| key.clone())?;
    let value = table.remove(&key)?.into_inner();
    Some(Taken { path: join(path, key.get_ref()), value })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        host: String,
        #[serde(with = "crate::duration")]
        interval: Duration,
        mqtt: Mqtt,
        logs: Vec<Log>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Mqtt {
        url: String,
        port: u16,
        enabled: bool,
        password: Option<String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Log {
        path: String,
    }

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        load_text(Some(Path::new("agent.toml")), text, "UTILIZER_AGENT", environment)
            .map(|loaded| loaded.value)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn every_fault_is_named_at_once_with_its_line_and_the_nearest_key() {
        let text =
            "intervall = \"10s\"\nhost = 7\n[mqtt]\nurl = \"x\"\nport = 70000\nzzz = 1\n[[logs]]\npaht = \"a\"\n";
        let error =
            read(text, &[("UTILIZER_AGENT__MQTT__ULR", "y"), ("UTILIZER_AGENT__MQTT__PORT", "many")]).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines[0], "agent.toml:1:1: unknown key intervall; did you mean interval?");
        assert_eq!(lines[1], "agent.toml:2:8: host: invalid type: integer `7`, expected a string");
        assert_eq!(lines[2], "agent.toml:6:1: unknown key mqtt.zzz; valid here: url, port, enabled, password");
        assert_eq!(lines[3], "agent.toml:8:1: unknown key logs[0].paht; did you mean path?");
        assert_eq!(
            lines[4],
            "environment variable UTILIZER_AGENT__MQTT__PORT: mqtt.port: invalid type: string \"many\", expected u16"
        );
        assert_eq!(lines[5], "environment variable UTILIZER_AGENT__MQTT__ULR: unknown key mqtt.ulr; did you mean url?");
        assert_eq!(lines.len(), 6, "{error}");
    }

    #[test]
    fn the_environment_stands_over_the_file() {
        let text = "host = \"a\"\ninterval = \"1m\"\n[mqtt]\nurl = \"x\"\n";
        let environment = [
            ("UTILIZER_AGENT__HOST", "17"),
            ("UTILIZER_AGENT__MQTT__PORT", "1883"),
            ("UTILIZER_AGENT__MQTT__ENABLED", "true"),
            ("UTILIZER_AGENT__MQTT__PASSWORD", "hush"),
            ("UTILIZER_EXPORTER__MQTT__URL", "not ours"),
            ("UTILIZER_AGENTX", "not ours"),
        ];
        let config = read(text, &environment).unwrap();
        let mqtt = Mqtt { url: "x".into(), port: 1883, enabled: true, password: Some("hush".into()) };
        assert_eq!(config, Config { host: "17".into(), interval: Duration::from_secs(60), mqtt, logs: vec![] });
    }

    #[test]
    fn an_empty_variable_is_no_value() {
        let environment =
            [("UTILIZER_AGENT__MQTT__PORT", ""), ("UTILIZER_AGENT__INTERVAL", ""), ("UTILIZER_AGENT__LOGS", "")];
        let config = read("", &environment).unwrap();
        assert_eq!(config, read("", &[]).unwrap());
        let error = read("", &[("UTILIZER_AGENT__MQTT__ULR", ""), ("UTILIZER_AGENT__LOGS", "a,b")]).unwrap_err();
        assert!(error.contains("unknown key mqtt.ulr"), "{error}");
        assert!(error.contains("expected a sequence; a list is written as in the file: [\"a\", \"b\"]"), "{error}");
    }

    #[test]
    fn a_secret_in_the_file_is_refused() {
        let error = read("[mqtt]\npassword = \"hush\"\n", &[]).unwrap_err();
        assert!(error.starts_with("agent.toml:2:1: mqtt.password: a secret does not belong in this file"), "{error}");
        assert!(error.contains("mqtt.password_file, or set UTILIZER_AGENT__MQTT__PASSWORD"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let error = read("host = \"a\"\n[mqtt\nurl = 1\n", &[]).unwrap_err();
        assert!(error.starts_with("agent.toml:2:"), "{error}");
        let error = read("interval = \"10\"\n", &[]).unwrap_err();
        assert!(error.contains("agent.toml:1:12: interval: \"10\" is not a duration such as"), "{error}");
        let error = read("mqtt = 3\n", &[("UTILIZER_AGENT__MQTT__URL", "x")]).unwrap_err();
        assert!(error.contains("mqtt"), "{error}");
    }

    #[test]
    fn later_faults_carry_their_place_too() {
        let loaded: Loaded<Config> = load_text(
            Some(Path::new("a.toml")),
            "\n[mqtt]\nport = 0\n[[logs]]\npath = \"a\"\n[[logs]]\npath = \"b\"\n",
            "X",
            [("X__HOST".into(), "h".into())],
        )
        .unwrap();
        assert!(loaded.is_set("mqtt.port") && !loaded.is_set("mqtt.url"));
        let faults = vec![
            loaded.fault("mqtt.port", "0 is no port"),
            loaded.fault("host", "h is taken"),
            loaded.fault("logs[1].path", "b is missing"),
        ];
        assert_eq!(
            loaded.error(faults).to_string(),
            "a.toml:3:1: mqtt.port: 0 is no port\na.toml:7:1: logs[1].path: b is missing\n\
             environment variable X__HOST: host: h is taken"
        );
    }
}
