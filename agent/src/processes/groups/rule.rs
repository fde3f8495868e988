//! Which process is in which group: the configuration's rules, in the form of process-exporter's `process_names`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pattern::Pattern;

/// One rule of `[[collectors.processes.groups]]`. All that is given must match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Group {
    /// What the group is called: a text with fields of the process in it, as `{{.Comm}}`.
    pub name: Template,
    /// Names of processes, of which one must be its.
    pub comm: Vec<String>,
    /// Programs, of which one must be its first argument: whole where they have a slash, else its last part.
    pub exe: Vec<String>,
    /// Patterns that its command line must match, all of them. Secrets are taken out before.
    pub cmdline: Vec<Pattern>,
    /// Patterns, of which one must match the unit of systemd.
    pub unit: Vec<Pattern>,
    /// Users, of whom one must be its effective one.
    pub user: Vec<String>,
}

/// A [`Group`] before it was looked at.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    name: Template,
    comm: Vec<String>,
    exe: Vec<String>,
    cmdline: Vec<Pattern>,
    unit: Vec<Pattern>,
    user: Vec<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self { name: Template::by_program(), comm: vec![], exe: vec![], cmdline: vec![], unit: vec![], user: vec![] }
    }
}

impl TryFrom<Written> for Group {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, comm, exe, cmdline, unit, user } = written;
        if [comm.len(), exe.len(), cmdline.len(), unit.len(), user.len()] == [0; 5] {
            let text = &name.text;
            return Err(format!("the group {text:?} takes no process: give it comm, exe, cmdline, unit or user"));
        }
        for part in &name.parts {
            if let Part::Field(Field::Matched(wanted)) = part
                && !cmdline
                    .iter()
                    .filter_map(Pattern::regex)
                    .any(|regex| regex.capture_names().flatten().any(|found| found == wanted))
            {
                let text = &name.text;
                return Err(format!("{text:?} has .Matches.{wanted}, but no pattern in cmdline has (?P<{wanted}>…)"));
            }
        }
        Ok(Self { name, comm, exe, cmdline, unit, user })
    }
}

/// A text with fields of a process in it.
#[derive(Clone, PartialEq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Comm,
    ExeBase,
    ExeFull,
    Username,
    Pid,
    Cgroups,
    Unit,
    Container,
    Matched(String),
}

const FIELDS: [(&str, Field); 8] = [
    (".Comm", Field::Comm),
    (".ExeBase", Field::ExeBase),
    (".ExeFull", Field::ExeFull),
    (".Username", Field::Username),
    (".PID", Field::Pid),
    (".Cgroups", Field::Cgroups),
    (".Unit", Field::Unit),
    (".Container", Field::Container),
];

impl Template {
    /// From what a user wrote; the error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (field, after) = after.split_once("}}").ok_or_else(|| format!("{text:?} has {{{{ without }}}}"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let field = field.trim();
            let known = FIELDS.iter().find(|(name, _)| *name == field).map(|(_, field)| field.clone());
            let matched = field.strip_prefix(".Matches.").map(|name| Field::Matched(name.to_owned()));
            let names = FIELDS.map(|(name, _)| name).join(", ");
            let field = known.or(matched).ok_or_else(|| {
                format!(
                    "{text:?} has a field {field:?}; there are {names} and .Matches.NAME of a (?P<NAME>…) in cmdline"
                )
            })?;
            parts.push(Part::Field(field));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() {
            return Err("a group needs a name".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// process-exporter's default.
    fn by_program() -> Self {
        Self { text: "{{.ExeBase}}".to_owned(), parts: vec![Part::Field(Field::ExeBase)] }
    }

    /// The name, where it is the same for all processes.
    pub(super) fn plain(&self) -> Option<&str> {
        match &self.parts[..] {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn has(&self, is: impl Fn(&Field) -> bool) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(field) if is(field)))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What rules ask of processes, so that only the files that they need are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) command_line: bool,
    pub(super) user: bool,
    pub(super) place: bool,
}

impl Needs {
    pub(super) fn of(groups: &[Group]) -> Self {
        let any = |needs: &dyn Fn(&Group) -> bool| groups.iter().any(needs);
        let has = |group: &Group, is: fn(&Field) -> bool| group.name.has(is);
        Self {
            command_line: any(&|group| {
                let in_name = |field: &Field| matches!(field, Field::ExeBase | Field::ExeFull | Field::Matched(_));
                !group.exe.is_empty() || !group.cmdline.is_empty() || has(group, in_name)
            }),
            user: any(&|group| !group.user.is_empty() || has(group, |field| *field == Field::Username)),
            place: any(&|group| {
                let in_name = |field: &Field| matches!(field, Field::Unit | Field::Container | Field::Cgroups);
                !group.unit.is_empty() || has(group, in_name)
            }),
        }
    }
}

/// What is known of a process that is looked at for the first time. What was not asked for is empty.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) pid: u32,
    pub(super) comm: String,
    /// The first argument as it is, and as it may be shown.
    pub(super) program: String,
    pub(super) shown_program: String,
    pub(super) command_line: String,
    pub(super) user: String,
    pub(super) unit: String,
    pub(super) container: String,
    pub(super) cgroup: String,
}

/// The kernel keeps so many bytes of a program's name.
const LONGEST_COMM: usize = 15;

/// Whether a process has the name, as the kernel keeps it or in full.
fn is_comm(comm: &str, name: &str) -> bool {
    comm == name || comm.len() == LONGEST_COMM && name.as_bytes().get(..LONGEST_COMM) == Some(comm.as_bytes())
}

fn base(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

impl Group {
    /// The name of the group that takes the process by this rule.
    pub(super) fn name_for(&self, facts: &Facts) -> Option<String> {
        let given_and_none = |list: &[String], value: &str| !list.is_empty() && !list.iter().any(|item| item == value);
        if !self.comm.is_empty() && !self.comm.iter().any(|name| is_comm(&facts.comm, name)) {
            return None;
        }
        if given_and_none(&self.user, &facts.user) {
            return None;
        }
        let is_program = |exe: &String| {
            let program = &facts.program;
            !program.is_empty() && if exe.contains('/') { exe == program } else { exe == base(program) }
        };
        if !self.exe.is_empty() && !self.exe.iter().any(is_program) {
            return None;
        }
        if !self.unit.is_empty() && !self.unit.iter().any(|pattern| pattern.matches(&facts.unit)) {
            return None;
        }
        let mut matched = BTreeMap::new();
        for regex in self.cmdline.iter().filter_map(Pattern::regex) {
            let captures = regex.captures(&facts.command_line)?;
            for name in regex.capture_names().flatten() {
                matched.insert(name, captures.name(name).map_or("", |group| group.as_str()));
            }
        }
        Some(self.name.fill(facts, &matched))
    }
}

impl Template {
    fn fill(&self, facts: &Facts, matched: &BTreeMap<&str, &str>) -> String {
        // A process without arguments, as a kernel thread, goes by its name.
        let has_program = !facts.shown_program.is_empty();
        let program = if has_program { &facts.shown_program } else { &facts.comm };
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(field) => match field {
                    Field::Comm => out.push_str(&facts.comm),
                    // The slash in `kworker/0:1` is no path's.
                    Field::ExeBase => out.push_str(if has_program { base(program) } else { program }),
                    Field::ExeFull => out.push_str(program),
                    Field::Username => out.push_str(&facts.user),
                    Field::Pid => out.push_str(&facts.pid.to_string()),
                    Field::Cgroups => out.push_str(&facts.cgroup),
                    Field::Unit => out.push_str(&facts.unit),
                    Field::Container => out.push_str(&facts.container),
                    Field::Matched(name) => out.push_str(matched.get(name.as_str()).copied().unwrap_or_default()),
                },
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn group(text: &str) -> Group {
        toml::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn facts() -> Facts {
        Facts {
            pid: 7,
            comm: "worker".into(),
            program: "/usr/bin/python3".into(),
            shown_program: "/usr/bin/python3".into(),
            command_line: "/usr/bin/python3 -m shop.worker --queue mail".into(),
            user: "web".into(),
            unit: "shop@1.service".into(),
            container: "abc".into(),
            cgroup: "/system.slice/shop@1.service".into(),
        }
    }

    fn named(text: &str) -> Option<String> {
        group(text).name_for(&facts())
    }

    #[test]
    fn all_that_is_given_must_match() {
        for (text, name) in [
            ("comm = ['x', 'worker']", Some("python3")),
            ("comm = ['work']", None),
            ("exe = ['python3']", Some("python3")),
            ("exe = ['/usr/bin/python3']\nname = '{{.ExeFull}}'", Some("/usr/bin/python3")),
            ("exe = ['/bin/python3']", None),
            ("exe = ['python3']\ncomm = ['other']", None),
            ("cmdline = ['shop', '--queue (?P<Queue>\\S+)']\nname = 'q-{{.Matches.Queue}}'", Some("q-mail")),
            ("cmdline = ['shop', 'nonesuch']", None),
            ("cmdline = ['shop(?P<None>\\d)?']\nname = '{{.Matches.None}}x'", Some("x")),
            ("unit = ['^cron', '^shop@']\nname = '{{.Unit}}'", Some("shop@1.service")),
            ("unit = ['^hop']", None),
            ("user = ['web']\nname = '{{ .Username }}:{{.Comm}}:{{.PID}}'", Some("web:worker:7")),
            ("user = ['root']", None),
            ("comm = ['worker']\nname = '{{.Container}} {{.Cgroups}}'", Some("abc /system.slice/shop@1.service")),
            ("comm = ['worker']\nname = 'plain'", Some("plain")),
        ] {
            assert_eq!(named(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn a_process_without_arguments_goes_by_its_name() {
        let facts = Facts { comm: "kworker/0:1".into(), ..Facts::default() };
        assert_eq!(group("comm = ['kworker/0:1']").name_for(&facts).as_deref(), Some("kworker/0:1"));
        assert_eq!(group("comm = ['kworker']").name_for(&facts), None);
        assert_eq!(group("exe = ['']").name_for(&facts), None);
        assert_eq!(group("cmdline = ['.+']").name_for(&facts), None);
    }

    #[test]
    fn a_name_that_the_kernel_cut_is_known_by_the_whole() {
        let facts = Facts { comm: "prometheus-node".into(), ..Facts::default() };
        let name = |text: &str| group(text).name_for(&facts);
        assert_eq!(name("comm = ['prometheus-node-exporter']").as_deref(), Some("prometheus-node"));
        assert_eq!(name("comm = ['prometheus-node']").as_deref(), Some("prometheus-node"));
        assert_eq!(name("comm = ['prometheus']"), None);
        assert_eq!(name("comm = ['prometheus-nodé-exporter']"), None);
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        let error = |text: &str| toml::from_str::<Group>(text).unwrap_err().to_string();
        assert!(error("name = 'x'").contains("the group \"x\" takes no process: give it comm, exe,"));
        assert!(error("name = '{{.Nonesuch}}'\ncomm = ['x']").contains("has a field \".Nonesuch\"; there are .Comm,"));
        assert!(error("name = '{{.Comm'\ncomm = ['x']").contains("has {{ without }}"));
        assert!(error("name = ''\ncomm = ['x']").contains("a group needs a name"));
        let error_of_matches = error("name = 'x-{{.Matches.Q}}'\ncmdline = ['(?P<R>x)', 'y']");
        assert!(error_of_matches.contains("no pattern in cmdline has (?P<Q>…)"), "{error_of_matches}");
        assert!(error("cmdline = ['(']").contains("is not a regular expression"));
        assert!(error("names = 'x'").contains("unknown field"));
    }

    #[test]
    fn only_needed_files_are_read() {
        let needs = |text: &str| Needs::of(&[group(text)]);
        let none = Needs::default();
        assert_eq!(needs("comm = ['x']\nname = '{{.Comm}}'"), none);
        assert_eq!(needs("comm = ['x']"), Needs { command_line: true, ..none });
        assert_eq!(needs("user = ['x']\nname = 'x'"), Needs { user: true, ..none });
        assert_eq!(needs("comm = ['x']\nname = '{{.Unit}}'"), Needs { place: true, ..none });
    }
}
