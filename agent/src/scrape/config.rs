//! `[[scrape]]`: as written, and as relied upon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::client::{Client, HeaderName, HeaderValue, TlsSettings};
use serde::{Deserialize, Serialize};
use wire::LabelSet;

use super::relabel::{RelabelSection, Rule};
use super::target;
use super::text::is_label_name;

/// Targets of all jobs together: an agent is no Prometheus server.
pub const MOST_TARGETS: usize = 500;

/// The largest page that any job may take.
const LARGEST_BODY: u64 = 64 << 20;

pub(super) const SHORTEST: Duration = Duration::from_millis(100);
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);

/// Headers that the client sets.
const OURS: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that hold a secret, which does not stand in this file.
const SECRET: &[&str] = &["authorization", "cookie", "proxy-authorization", "x-api-key", "api-key", "x-auth-token"];

/// `[[scrape]]`: targets that are scraped alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeSection {
    /// The label `job`, which no other table has.
    pub job: String,
    /// `HOST:PORT` of each target.
    pub targets: Vec<String>,
    /// Labels of `targets`.
    pub labels: LabelSet,
    /// Further targets, with labels of their own.
    pub static_configs: Vec<StaticSection>,
    /// Files that hold targets, in the form of Prometheus' `file_sd_configs`, in JSON; `*` and `?` in names.
    pub target_files: Vec<String>,
    /// Time between two scrapes of a target.
    #[serde(with = "daemon::config::duration")]
    pub interval: Duration,
    /// What a scrape may take; never more than the interval.
    #[serde(with = "daemon::config::duration")]
    pub timeout: Duration,
    /// `http` or `https`.
    pub scheme: String,
    /// The path on the target.
    pub metrics_path: String,
    /// What stands behind the path's question mark.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether labels of the page win over those of the target, instead of becoming `exported_…`.
    pub honor_labels: bool,
    /// Whether times that the page gives its samples count.
    pub honor_timestamps: bool,
    /// Whether a target may send on to another URL.
    pub follow_redirects: bool,
    /// Rules for the labels of targets.
    pub relabel_configs: Vec<RelabelSection>,
    /// Rules for the labels of samples.
    pub metric_relabel_configs: Vec<RelabelSection>,
    /// A larger page is refused.
    #[serde(with = "daemon::config::size")]
    pub body_size_limit: u64,
    /// A page with more samples, after relabelling, is refused.
    pub sample_limit: usize,
    /// A page that has a sample with more labels is refused.
    pub label_limit: usize,
    /// Likewise of the bytes of a label's name.
    pub label_name_length_limit: usize,
    /// Likewise of the bytes of a label's value.
    pub label_value_length_limit: usize,
    /// The user, for basic authentication.
    pub username: String,
    /// A file whose first line is the user's password.
    pub password_file: Option<PathBuf>,
    /// A file whose first line is a bearer token.
    pub bearer_token_file: Option<PathBuf>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Further headers whose values are secrets: files whose first line is the value.
    pub header_files: BTreeMap<String, PathBuf>,
    /// The authorities that sign the targets' certificates; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// The agent's own certificate.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The name that stands in the targets' certificates.
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
}

impl Default for ScrapeSection {
    fn default() -> Self {
        Self {
            job: String::new(),
            targets: Vec::new(),
            labels: LabelSet::default(),
            static_configs: Vec::new(),
            target_files: Vec::new(),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            scheme: "http".to_owned(),
            metrics_path: "/metrics".to_owned(),
            params: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            follow_redirects: true,
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            body_size_limit: 16 << 20,
            sample_limit: 50_000,
            label_limit: 64,
            label_name_length_limit: 256,
            label_value_length_limit: 4096,
            username: String::new(),
            password_file: None,
            bearer_token_file: None,
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
            insecure_skip_verify: false,
        }
    }
}

/// Targets that have labels in common; also what target files are made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticSection {
    /// `HOST:PORT` of each.
    pub targets: Vec<String>,
    /// Their labels.
    pub labels: LabelSet,
}

/// A table as relied upon.
#[derive(Debug)]
pub struct Job {
    /// As it was written: two jobs that are written alike are alike.
    pub section: ScrapeSection,
    /// Rules for the labels of targets.
    pub relabel: Vec<Rule>,
    /// Rules for the labels of samples.
    pub metric_relabel: Vec<Rule>,
    /// Its way to the targets.
    pub client: Client,
    /// Headers without secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers from files.
    pub header_files: Vec<(HeaderName, PathBuf)>,
}

/// All tables.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In the order of the file.
    pub jobs: Vec<Arc<Job>>,
}

impl Plan {
    /// For people: what is scraped.
    pub fn summary(&self) -> String {
        if self.jobs.is_empty() {
            return "nothing".to_owned();
        }
        let each = self.jobs.iter().map(|job| {
            let files = if job.section.target_files.is_empty() { "" } else { " and files" };
            let targets: usize = job.groups().map(|group| group.targets.len()).sum();
            format!("{} ({targets} targets{files})", job.section.job)
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl Job {
    /// The targets that the configuration itself names.
    pub fn groups(&self) -> impl Iterator<Item = StaticSection> {
        let first = StaticSection { targets: self.section.targets.clone(), labels: self.section.labels.clone() };
        std::iter::once(first).chain(self.section.static_configs.clone())
    }
}

/// A key below the list, such as `[0].interval`, and what is wrong with it.
pub type Faults = Vec<(String, String)>;

/// Checks all tables against each other and the files that they name.
pub fn checked(sections: &[ScrapeSection]) -> Result<Plan, Faults> {
    let mut faults = Faults::new();
    let mut jobs = Vec::new();
    let mut names = BTreeSet::new();
    let mut targets = 0;
    for (at, section) in sections.iter().enumerate() {
        let mut wrong = Faults::new();
        if !section.job.is_empty() && !names.insert(&section.job) {
            wrong.push((
                "job".to_owned(),
                format!("there are two jobs {:?}: each needs a name of its own", section.job),
            ));
        }
        if let Some(job) = section.checked(&mut wrong) {
            let found = job.groups().flat_map(|group| target::targets(&job, &group, None));
            for result in found.collect::<Vec<_>>() {
                match result {
                    Ok(_) => targets += 1,
                    Err(why) => wrong.push(("targets".to_owned(), why)),
                }
            }
            jobs.push(Arc::new(job));
        }
        faults.extend(wrong.into_iter().map(|(key, what)| (format!("[{at}].{key}"), what)));
    }
    if targets > MOST_TARGETS {
        let what = format!("there are {targets} targets, {MOST_TARGETS} are the most: a Prometheus server takes more");
        faults.push((String::new(), what));
    }
    if faults.is_empty() { Ok(Plan { jobs }) } else { Err(faults) }
}

impl ScrapeSection {
    fn checked(&self, faults: &mut Faults) -> Option<Job> {
        let before = faults.len();
        let mut fault = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        if self.job.is_empty() {
            fault("job", "is missing: the job's name, which becomes the label `job`");
        }
        if self.targets.is_empty() && self.static_configs.is_empty() && self.target_files.is_empty() {
            fault("targets", "is empty, and so are static_configs and target_files: name a target as HOST:PORT");
        }
        for (key, value) in [("interval", self.interval), ("timeout", self.timeout)] {
            if !(SHORTEST..=LONGEST).contains(&value) {
                fault(key, "must lie between 100ms and 1d");
            }
        }
        if !matches!(self.scheme.as_str(), "http" | "https") {
            fault("scheme", "must be http or https");
        }
        if !self.metrics_path.starts_with('/') || self.metrics_path.contains(['?', '#']) {
            fault("metrics_path", "must begin with a slash; what stands behind a question mark belongs into params");
        }
        if !(1024..=LARGEST_BODY).contains(&self.body_size_limit) {
            fault("body_size_limit", "must lie between 1KiB and 64MiB");
        }
        for (key, value, most) in [
            ("sample_limit", self.sample_limit, 1_000_000),
            ("label_limit", self.label_limit, 512),
            ("label_name_length_limit", self.label_name_length_limit, 64 << 10),
            ("label_value_length_limit", self.label_value_length_limit, 64 << 10),
        ] {
            if !(1..=most).contains(&value) {
                fault(key, &format!("must lie between 1 and {most}"));
            }
        }
        let groups = self.static_configs.iter().enumerate();
        let groups = groups.map(|(at, group)| (format!("static_configs[{at}].labels"), &group.labels));
        for (key, labels) in std::iter::once(("labels".to_owned(), &self.labels)).chain(groups) {
            for (name, _) in labels.iter().filter(|(name, _)| !is_label_name(name)) {
                fault(&key, &format!("{name:?} is no name of a label: letters, digits and '_', and no digit first"));
            }
        }
        for file in self.target_files.iter().filter(|file| !file.ends_with(".json")) {
            fault("target_files", &format!("{file:?} does not end in .json, the form that target files have"));
        }
        self.check_login(&mut fault);
        let headers = self.checked_headers(&mut fault);
        let present = |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
        let client = Client::new(&TlsSettings {
            ca_file: present(&self.ca_file),
            cert_file: present(&self.cert_file),
            key_file: present(&self.key_file),
            server_name: self.server_name.clone(),
            insecure_skip_verify: self.insecure_skip_verify,
        });
        let client = client.map_err(|list| {
            list.iter().for_each(|(key, what)| fault(if *key == "tls" { "ca_file" } else { key }, what));
        });
        let mut rules = |key: &str, sections: &[RelabelSection]| {
            let mut rules = Vec::new();
            for (at, section) in sections.iter().enumerate() {
                match section.checked() {
                    Ok(rule) => rules.push(rule),
                    Err(list) => list.iter().for_each(|(of, what)| fault(&format!("{key}[{at}].{of}"), what)),
                }
            }
            rules
        };
        let relabel = rules("relabel_configs", &self.relabel_configs);
        let metric_relabel = rules("metric_relabel_configs", &self.metric_relabel_configs);
        let (headers, header_files) = headers;
        match client {
            Ok(client) if faults.len() == before => {
                Some(Job { section: self.clone(), relabel, metric_relabel, client, headers, header_files })
            }
            _ => None,
        }
    }

    fn check_login(&self, fault: &mut dyn FnMut(&str, &str)) {
        if self.bearer_token_file.is_some() && (!self.username.is_empty() || self.password_file.is_some()) {
            fault("bearer_token_file", "stands beside username or password_file: there can be only one login");
        }
        if self.username.is_empty() && self.password_file.is_some() {
            fault("username", "is missing: password_file goes with it");
        }
        if self.username.contains(|c: char| c == ':' || c.is_control()) {
            fault("username", "has a colon or a control character in it");
        }
    }

    #[allow(clippy::type_complexity, reason = "two lists of pairs")]
    fn checked_headers(
        &self,
        fault: &mut dyn FnMut(&str, &str),
    ) -> (Vec<(HeaderName, HeaderValue)>, Vec<(HeaderName, PathBuf)>) {
        let (mut plain, mut files) = (Vec::new(), Vec::new());
        let mut named = |key: &str, name: &str| match HeaderName::try_from(name) {
            Ok(found) if !OURS.contains(&found.as_str()) => Some(found),
            Ok(_) => {
                fault(key, &format!("{name} is a header that is set by itself"));
                None
            }
            Err(_) => {
                fault(key, &format!("{name:?} is no name of a header"));
                None
            }
        };
        let names: Vec<_> = self.headers.iter().map(|(name, value)| (named("headers", name), value)).collect();
        for (name, file) in &self.header_files {
            files.extend(named("header_files", name).map(|name| (name, file.clone())));
        }
        for (name, value) in names {
            let Some(name) = name else { continue };
            if SECRET.contains(&name.as_str()) {
                let what =
                    format!("{name} holds a secret: put it into a file of its own, and name that in header_files");
                fault("headers", &what);
            } else if let Ok(value) = HeaderValue::try_from(value.as_str()) {
                plain.push((name, value));
            } else {
                fault("headers", &format!("the value of {name} has a sign that no header can have"));
            }
        }
        (plain, files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        scrape: Vec<ScrapeSection>,
    }

    fn check(text: &str) -> Result<Plan, String> {
        let file: File = toml::from_str(text).unwrap_or_else(|e| panic!("{e}"));
        checked(&file.scrape).map_err(|faults| {
            let lines = faults.into_iter().map(|(key, what)| format!("scrape{key}: {what}\n"));
            lines.collect()
        })
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let error = check(
            r#"
            [[scrape]]
            targets = ["a:1/path", "http://b:1"]
            interval = "0s"
            scheme = "ftp"
            metrics_path = "metrics?x=y"
            labels = { "a-b" = "x" }
            sample_limit = 0
            username = "a:b"
            bearer_token_file = "/x"
            headers = { Authorization = "hush", Host = "h", "X-Scope" = "ok" }
            target_files = ["targets.yml"]
            ca_file = "/nonexistent/ca.pem"
            [[scrape.metric_relabel_configs]]
            action = "drop"
            [[scrape.metric_relabel_configs]]
            regex = "("
            target_label = "x"
            [[scrape]]
            job = "b"
            [[scrape]]
            job = "b"
            targets = ["h:1", "h:1/x"]
            "#,
        )
        .unwrap_err();
        for part in [
            "scrape[0].job: is missing",
            "scrape[0].interval: must lie between 100ms and 1d",
            "scrape[0].scheme: must be http or https",
            "scrape[0].metrics_path: must begin with a slash",
            "scrape[0].labels: \"a-b\" is no name of a label",
            "scrape[0].sample_limit: must lie between 1 and 1000000",
            "scrape[0].bearer_token_file: stands beside username",
            "scrape[0].username: has a colon",
            "scrape[0].headers: authorization holds a secret",
            "scrape[0].headers: Host is a header that is set by itself",
            "scrape[0].target_files: \"targets.yml\" does not end in .json",
            "scrape[0].ca_file: can't read",
            "scrape[0].metric_relabel_configs[1].regex: \"(\" is no regular expression",
            "scrape[1].targets: is empty",
            "scrape[2].job: there are two jobs \"b\"",
            "scrape[2].targets: \"h:1/x\" is no HOST:PORT",
        ] {
            assert!(error.contains(part), "{part}\n--\n{error}");
        }
        assert!(!error.contains("hush") && !error.contains("X-Scope"), "{error}");
        let many: Vec<String> = (0..=MOST_TARGETS).map(|at| format!("\"h:{}\"", at + 1)).collect();
        let error = check(&format!("[[scrape]]\njob = \"a\"\ntargets = [{}]", many.join(","))).unwrap_err();
        assert!(error.contains("501 targets, 500 are the most"), "{error}");
    }

    #[test]
    fn a_plan_says_what_it_scrapes() {
        let plan = check(
            "[[scrape]]\njob = 'a'\ntargets = ['h:1', 'h:2']\ntarget_files = ['/x/*.json']\n[[scrape]]\njob = 'b'\n\
             static_configs = [{ targets = ['h:3'], labels = { x = 'y' } }]",
        )
        .unwrap();
        assert_eq!(plan.summary(), "a (2 targets and files), b (1 targets)");
        assert_eq!(Plan::default().summary(), "nothing");
    }

    /// Keys without a default are shown too.
    #[test]
    fn every_key_stands_in_the_example_and_in_the_documentation() {
        let none = Some(PathBuf::from("x"));
        let section = ScrapeSection {
            password_file: none.clone(),
            bearer_token_file: none.clone(),
            ca_file: none.clone(),
            cert_file: none.clone(),
            key_file: none,
            server_name: Some("x".to_owned()),
            ..ScrapeSection::default()
        };
        let (example, page) = (include_str!("../../../config/agent.toml"), include_str!("../../../docs/scrape.md"));
        let example = example.split_once("## [[scrape]]").map_or("", |(_, rest)| rest);
        let toml::Value::Table(shown) = toml::Value::try_from(&section).unwrap() else { panic!("no table") };
        for (key, value) in &shown {
            assert!(example.contains(&format!("## {key} = ")), "{key} in config/agent.toml");
            assert!(page.contains(&format!("| `{key}` |")), "{key} in docs/scrape.md");
            // A default that is more than "none" stands there as it is.
            let default = value.to_string();
            if !matches!(default.as_str(), "\"\"" | "\"x\"" | "[]" | "{}") {
                let line = page.lines().find(|line| line.contains(&format!("| `{key}` |"))).unwrap();
                assert!(line.contains(&format!("`{default}`")), "{key}: {default}: {line}");
            }
        }
        let toml::Value::Table(rule) = toml::Value::try_from(RelabelSection::default()).unwrap() else {
            panic!("no table")
        };
        for key in rule.keys() {
            assert!(page.contains(&format!("| `{key}` |")), "{key} in docs/scrape.md");
        }
    }
}
