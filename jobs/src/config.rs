//! The configuration: as written in the file, and as relied upon.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::config::{ConfigError, Fault, Loaded, duration, load, size};
use daemon::http::Credentials;
use daemon::log::Level;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::argv::{self, Allowed, Param, Template};
use crate::limits::{Limits, Pace};

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/utilizer/jobs.toml";

/// Environment variables begin with this and two underscores.
const PREFIX: &str = "UTILIZER_JOBS";

/// The longest time that a command may get.
const MOST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Spans of limits are remembered in the state file, and so have an end.
const MOST_SPAN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Commands at once. Each has pipes, buffers and a body in memory.
const MOST_AT_ONCE: usize = 256;

/// Bytes of output that are kept of each stream.
const MOST_OUTPUT: u64 = 1 << 20;

/// A file, as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) jobs: JobsSection,
    pub(crate) log: LogSection,
    pub(crate) job: Vec<JobSection>,
}

/// `[jobs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JobsSection {
    pub(crate) socket: PathBuf,
    pub(crate) socket_mode: String,
    pub(crate) socket_group: String,
    pub(crate) allow_users: Vec<String>,
    pub(crate) allow_groups: Vec<String>,
    pub(crate) state_dir: PathBuf,
    pub(crate) audit: PathBuf,
    pub(crate) max_concurrent: usize,
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
}

impl Default for JobsSection {
    fn default() -> Self {
        Self {
            socket: "/run/utilizer-jobs/jobs.sock".into(),
            socket_mode: "0660".to_owned(),
            socket_group: String::new(),
            allow_users: Vec::new(),
            allow_groups: Vec::new(),
            state_dir: "/var/lib/utilizer-jobs".into(),
            audit: "/var/log/utilizer-jobs/audit.log".into(),
            max_concurrent: 8,
            timeout: Duration::from_secs(30),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSection {
    pub(crate) level: Level,
}

/// `[[job]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JobSection {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) argv: Vec<String>,
    /// A text, so that an empty one can stand for no value.
    pub(crate) timeout: String,
    pub(crate) rate: RateSection,
    #[serde(with = "duration")]
    pub(crate) cooldown: Duration,
    pub(crate) max_concurrent: usize,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: PathBuf,
    #[serde(with = "size")]
    pub(crate) max_output: u64,
    pub(crate) params: BTreeMap<String, ParamSection>,
}

impl Default for JobSection {
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            argv: Vec::new(),
            timeout: String::new(),
            rate: RateSection::default(),
            cooldown: Duration::ZERO,
            max_concurrent: 1,
            env: Vec::new(),
            working_dir: "/".into(),
            max_output: 16 << 10,
            params: BTreeMap::new(),
        }
    }
}

/// `rate = { count = 10, per = "10m" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RateSection {
    pub(crate) count: usize,
    #[serde(with = "duration")]
    pub(crate) per: Duration,
}

impl Default for RateSection {
    fn default() -> Self {
        Self { count: 10, per: Duration::from_secs(600) }
    }
}

/// `[job.params.unit]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ParamSection {
    pub(crate) from: String,
    pub(crate) values: Vec<String>,
    pub(crate) pattern: String,
}

/// A job as it is relied upon.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) argv: Template,
    pub(crate) params: BTreeMap<String, Param>,
    pub(crate) timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) max_concurrent: usize,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: PathBuf,
    pub(crate) max_output: usize,
}

/// Who is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Askers {
    /// Whether the socket's permissions alone decide.
    open: bool,
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

impl Askers {
    pub(crate) fn permits(&self, asker: &Credentials) -> bool {
        self.open || self.users.contains(&asker.uid) || self.groups.contains(&asker.gid)
    }
}

/// The configuration as it is relied upon.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) socket: PathBuf,
    pub(crate) socket_mode: u32,
    pub(crate) socket_group: Option<u32>,
    pub(crate) askers: Askers,
    pub(crate) state_dir: PathBuf,
    pub(crate) audit: PathBuf,
    pub(crate) max_concurrent: usize,
    pub(crate) jobs: BTreeMap<String, Arc<Job>>,
    /// The least severe events that are logged.
    pub log_level: Level,
    /// What is no fault but worth a look.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads the file (`None`: defaults) and the environment over it; the error has every fault.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let loaded: Loaded<File> = load(file, PREFIX, environment)?;
        let mut settings = Self::check(&loaded, &Accounts::read()).map_err(|faults| loaded.error(faults))?;
        if let Some(file) = file {
            let writable = std::fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o002 != 0);
            if writable {
                let message =
                    "everybody may write this file, and so decide what is run; take that right away with chmod o-w";
                let fault = Fault { place: daemon::config::Place::Line(1, 1), message: message.to_owned() };
                return Err(loaded.error(vec![fault]));
            }
        }
        settings.warnings.extend(settings.jobs.values().filter_map(|job| missing(job)));
        Ok(settings)
    }

    fn check(loaded: &Loaded<File>, accounts: &Accounts) -> Result<Self, Vec<Fault>> {
        let File { jobs: section, log, job } = &loaded.value;
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: String| faults.push(loaded.fault(key, message));
        for (key, path) in
            [("jobs.socket", &section.socket), ("jobs.state_dir", &section.state_dir), ("jobs.audit", &section.audit)]
        {
            if !path.is_absolute() {
                fault(key, format!("{path:?} has to be an absolute path"));
            }
        }
        let socket_mode = u32::from_str_radix(&section.socket_mode, 8).ok().filter(|mode| *mode <= 0o777);
        if socket_mode.is_none_or(|mode| mode & 0o600 != 0o600) {
            fault(
                "jobs.socket_mode",
                format!("{:?} is no mode such as \"0660\"; its owner needs to read and write", section.socket_mode),
            );
        }
        let named = |what: &str, name: &str| {
            format!("there is no {what} {name:?} in this host's files; write the number of one from elsewhere")
        };
        let socket_group = match section.socket_group.as_str() {
            "" => None,
            name => {
                let group = accounts.group(name);
                if group.is_none() {
                    fault("jobs.socket_group", named("group", name));
                }
                group
            }
        };
        let mut askers =
            Askers { open: section.allow_users.is_empty() && section.allow_groups.is_empty(), ..Askers::default() };
        for name in &section.allow_users {
            match accounts.user(name) {
                Some(user) => _ = askers.users.insert(user),
                None => fault("jobs.allow_users", named("user", name)),
            }
        }
        for name in &section.allow_groups {
            match accounts.group(name) {
                Some(group) => {
                    askers.groups.insert(group);
                    askers.users.extend(accounts.members(group));
                }
                None => fault("jobs.allow_groups", named("group", name)),
            }
        }
        if !(1..=MOST_AT_ONCE).contains(&section.max_concurrent) {
            fault("jobs.max_concurrent", format!("{} is not between 1 and {MOST_AT_ONCE}", section.max_concurrent));
        }
        if let Some(message) = timeout_fault(section.timeout) {
            fault("jobs.timeout", message);
        }
        let mut jobs = BTreeMap::new();
        for (index, written) in job.iter().enumerate() {
            match check_job(written, section, &format!("job[{index}]"), &mut fault) {
                Some(job) if jobs.contains_key(&job.name) => {
                    fault(&format!("job[{index}].name"), format!("there are two jobs called {:?}", job.name));
                }
                Some(job) => _ = jobs.insert(job.name.clone(), Arc::new(job)),
                None => {}
            }
        }
        match socket_mode {
            Some(socket_mode) if faults.is_empty() => Ok(Self {
                socket: section.socket.clone(),
                socket_mode,
                socket_group,
                askers,
                state_dir: section.state_dir.clone(),
                audit: section.audit.clone(),
                max_concurrent: section.max_concurrent,
                jobs,
                log_level: log.level,
                warnings: Vec::new(),
            }),
            _ => Err(faults),
        }
    }

    /// What `check` prints.
    pub fn summary(&self) -> String {
        let jobs: Vec<&str> = self.jobs.keys().map(String::as_str).collect();
        let jobs = if jobs.is_empty() { "none; [[job]] names them".to_owned() } else { jobs.join(", ") };
        format!(
            "socket:  {} ({:04o})\naudit:   {}\nstate:   {}\njobs:    {jobs}\n",
            self.socket.display(),
            self.socket_mode,
            self.audit.display(),
            self.state_dir.display(),
        )
    }

    /// The keys that differ and can't change while the daemon runs.
    pub(crate) fn fixed_differences(&self, other: &Settings) -> Vec<&'static str> {
        let differs = [
            ("jobs.socket", self.socket != other.socket),
            ("jobs.socket_mode", self.socket_mode != other.socket_mode),
            ("jobs.socket_group", self.socket_group != other.socket_group),
            ("jobs.state_dir", self.state_dir != other.state_dir),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

fn timeout_fault(timeout: Duration) -> Option<String> {
    let bounds = Duration::from_millis(100)..=MOST_TIMEOUT;
    (!bounds.contains(&timeout)).then(|| format!("{:?} is not between 100ms and 1d", duration::format(timeout)))
}

fn check_job(
    written: &JobSection,
    section: &JobsSection,
    at: &str,
    fault: &mut impl FnMut(&str, String),
) -> Option<Job> {
    let mut sound = true;
    let mut fault = |key: &str, message: String| {
        sound = false;
        fault(&format!("{at}.{key}"), message);
    };
    if !is_job_name(&written.name) {
        fault("name", format!("{:?} is no name: 1 to 64 letters, digits, '.', '_' and '-'", written.name));
    }
    let timeout = match written.timeout.as_str() {
        "" => section.timeout,
        text => duration::parse(text).unwrap_or_else(|error| {
            fault("timeout", error);
            section.timeout
        }),
    };
    if let Some(message) = timeout_fault(timeout).filter(|_| !written.timeout.is_empty()) {
        fault("timeout", message);
    }
    if written.rate.count > Pace::MOST {
        fault("rate", format!("count is at most {}; 0 is no limit", Pace::MOST));
    }
    for (key, span) in [("rate", written.rate.per), ("cooldown", written.cooldown)] {
        if span > MOST_SPAN {
            fault(key, format!("{:?} is more than 7d", duration::format(span)));
        }
    }
    if !(1..=MOST_AT_ONCE).contains(&written.max_concurrent) {
        fault("max_concurrent", format!("{} is not between 1 and {MOST_AT_ONCE}", written.max_concurrent));
    }
    for name in &written.env {
        let good = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !good {
            fault(
                "env",
                format!(
                    "{name:?} is no name of an environment variable; values are taken from the daemon's own environment"
                ),
            );
        }
    }
    if !written.working_dir.is_absolute() {
        fault("working_dir", format!("{:?} has to be an absolute path", written.working_dir));
    }
    if written.max_output > MOST_OUTPUT {
        fault("max_output", "is at most 1MiB".to_owned());
    }
    let mut params = BTreeMap::new();
    for (name, param) in &written.params {
        match check_param(name, param) {
            Ok(param) => _ = params.insert(name.clone(), param),
            Err(message) => fault(&format!("params.{name}"), message),
        }
    }
    let template = Template::parse(&written.argv, &params);
    let template = template.map_err(|messages| messages.into_iter().for_each(|message| fault("argv", message)));
    if let Some(message) = written.argv.first().and_then(|program| writable(Path::new(program))) {
        fault("argv", message);
    }
    let argv = template.ok()?;
    sound.then(|| Job {
        name: written.name.clone(),
        description: written.description.clone(),
        argv,
        params,
        timeout,
        limits: Limits { count: written.rate.count, per: written.rate.per, cooldown: written.cooldown },
        max_concurrent: written.max_concurrent,
        env: written.env.clone(),
        working_dir: written.working_dir.clone(),
        max_output: usize::try_from(written.max_output).unwrap_or(usize::MAX),
    })
}

fn check_param(name: &str, written: &ParamSection) -> Result<Param, String> {
    if !argv::is_name(name) {
        return Err("is no name: at most 64 lower case letters, digits and '_'".to_owned());
    }
    let from = if written.from.is_empty() { format!("/params/{name}") } else { written.from.clone() };
    if !from.starts_with('/') {
        return Err(format!(
            "from: {from:?} is no place in JSON such as \"/params/{name}\" or \"/commonLabels/{name}\""
        ));
    }
    let allowed = match (written.values.is_empty(), written.pattern.is_empty()) {
        (false, true) => Allowed::Values(written.values.clone()),
        (true, false) => Allowed::pattern(&written.pattern).map_err(|error| format!("pattern: {error}"))?,
        (true, true) => {
            return Err("say what it may be: values = [\"a\", \"b\"], or a pattern for the whole value".to_owned());
        }
        (false, false) => return Err("has values and a pattern; one of them decides".to_owned()),
    };
    Ok(Param { from, allowed })
}

/// Whether a job may be called so.
pub(crate) fn is_job_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A program that everybody may replace is no program that the configuration names.
fn writable(program: &Path) -> Option<String> {
    let mode = std::fs::metadata(program).ok().filter(std::fs::Metadata::is_file)?.mode();
    (mode & 0o002 != 0)
        .then(|| format!("everybody may write {}; take that right away with chmod o-w", program.display()))
}

fn missing(job: &Job) -> Option<String> {
    let program = job.argv.program();
    let why = match std::fs::metadata(&program) {
        Ok(metadata) if !metadata.is_file() => "is no file".to_owned(),
        Ok(metadata) if metadata.mode() & 0o111 == 0 => "is not executable".to_owned(),
        Ok(_) => return None,
        Err(error) => error.to_string(),
    };
    Some(format!("job {}: {program} can't be run as it is: {why}", job.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::config::{load_text, uncomment};

    fn faults(text: &str) -> String {
        let loaded: Loaded<File> = match load_text(Some(Path::new("jobs.toml")), text, PREFIX, []) {
            Ok(loaded) => loaded,
            Err(error) => return error.to_string(),
        };
        Settings::check(&loaded, &Accounts::default()).map_err(|faults| loaded.error(faults).to_string()).unwrap_err()
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let text = "[jobs]\nsocket = \"jobs.sock\"\nsocket_mode = \"0066\"\nsocket_group = \"nobody-is-here\"\nallow_users = [\"gone\"]\nmax_concurrent = 0\n\
                    [[job]]\nname = \"a b\"\nargv = [\"ls\"]\ntimeout = \"2d\"\nenv = [\"A=B\"]\nworking_dir = \"tmp\"\n\
                    [[job]]\nname = \"x\"\nargv = [\"/bin/ls\", \"{dir}\"]\nrate = { count = 2000 }\nmax_output = \"1GiB\"\n[job.params.dir]\nfrom = \"dir\"\n\
                    [job.params.pat]\npattern = \"(\"\n";
        let faults = faults(text);
        for (line, part) in [
            (2, "jobs.socket: \"jobs.sock\" has to be an absolute path"),
            (3, "jobs.socket_mode"),
            (4, "no group \"nobody-is-here\""),
            (5, "no user \"gone\""),
            (6, "not between 1 and 256"),
            (8, "job[0].name: \"a b\" is no name"),
            (9, "absolute path; nothing is looked up"),
            (10, "not between 100ms and 1d"),
            (11, "\"A=B\" is no name"),
            (12, "job[0].working_dir"),
            (15, "{dir} is not declared"),
            (16, "count is at most 1000"),
            (17, "at most 1MiB"),
            (18, "no place in JSON"),
            (20, "pattern: "),
        ] {
            assert!(
                faults.lines().any(|l| l.starts_with(&format!("jobs.toml:{line}:")) && l.contains(part)),
                "{line} {part}:\n{faults}"
            );
        }
        let twice = "[[job]]\nname = \"x\"\nargv = [\"/bin/ls\"]\n[[job]]\nname = \"x\"\nargv = [\"/bin/ls\"]\n";
        assert!(super::tests::faults(twice).contains("two jobs called \"x\""));
        assert!(
            super::tests::faults("[[job]]\nname = \"x\"\nargs = []\n")
                .contains("unknown key job[0].args; did you mean argv?")
        );
    }

    #[test]
    fn groups_let_their_members_ask() {
        let text = "[jobs]\nallow_groups = [\"7\"]\nallow_users = [\"1000\"]\n";
        let loaded: Loaded<File> = load_text(None, text, PREFIX, []).unwrap();
        let settings = Settings::check(&loaded, &Accounts::default()).unwrap();
        let asker = |uid, gid| Credentials { uid, gid, pid: None };
        assert!(settings.askers.permits(&asker(1000, 1)) && settings.askers.permits(&asker(5, 7)));
        assert!(!settings.askers.permits(&asker(0, 0)));
        let open = Settings::check(&Loaded::of(File::default()), &Accounts::default()).unwrap();
        assert!(open.askers.permits(&asker(0, 0)));
    }

    #[test]
    fn the_shipped_example_says_the_defaults_and_every_key() {
        let example = include_str!("../../config/jobs.toml");
        let uncommented = uncomment(example);
        let file: File = toml::from_str(&uncommented).unwrap_or_else(|e| panic!("{e}\n{uncommented}"));
        assert_eq!(File { job: Vec::new(), ..file.clone() }, File::default());
        // The first job shows every key with its default, but for what makes it a job.
        let first = file.job.first().unwrap();
        let shown = JobSection {
            name: String::new(),
            description: String::new(),
            argv: Vec::new(),
            params: BTreeMap::new(),
            ..first.clone()
        };
        assert_eq!(shown, JobSection::default());
        let (_, first_text) = uncommented.split_once("[[job]]").unwrap();
        let first_text = first_text.split("[[job]]").next().unwrap();
        for key in toml::Table::try_from(JobSection::default()).unwrap().keys() {
            assert!(
                first_text.contains(&format!("\n{key} = ")) || first_text.contains(&format!("[job.{key}.")),
                "{key}"
            );
        }
        for key in toml::Table::try_from(JobsSection::default()).unwrap().keys() {
            assert!(uncommented.contains(&format!("\n{key} = ")), "{key}");
        }
        let loaded: Loaded<File> = load_text(None, &uncommented, PREFIX, []).unwrap();
        let settings = Settings::check(&loaded, &Accounts::default()).unwrap();
        assert!(settings.jobs.len() >= 3 && settings.jobs.contains_key("restart-unit"));
        // As shipped, nothing is switched on.
        assert!(toml::from_str::<File>(example).unwrap().job.is_empty());
    }
}
