//! `utilizer broker acl`: the broker's access rules, written down.
//!
//! Who may publish and read what follows from the protocol's topics; which users there are, only their operator knows.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use wire::{GroupName, Topic};

use crate::command::CommandError;

/// What `utilizer broker` is asked for.
#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// Print access rules for the broker, for a file that it reads.
    ///
    /// A host, whose user name is its own name, may write below `telemetry/<its name>/` only, and read what is for it and
    /// what exporters say of themselves. That holds for every user, so that a new host needs no new rules. Exporters,
    /// managers and operators are users that are named here, by names that no host has.
    #[command(after_long_help = "Examples:\n  \
        utilizer broker acl --exporter exporter-postgres=postgres > /etc/mosquitto/acl\n  \
        utilizer broker acl --exporter pg=postgres --exporter ch=clickhouse,archive --manager grafana --operator ops")]
    Acl(AclArgs),
}

/// What `utilizer broker acl` is asked for.
#[derive(Debug, ClapArgs)]
pub struct AclArgs {
    /// A user that is an exporter, and the groups that it may speak for. Can be given several times.
    #[arg(long = "exporter", value_name = "NAME=GROUP[,GROUP]", value_parser = exporter)]
    exporters: Vec<Exporter>,
    /// A user that may read what hosts and exporters publish, and write nothing, as `utilizer tail` and `status` do. Can be
    /// given several times.
    #[arg(long = "manager", value_name = "NAME", value_parser = user_name)]
    managers: Vec<String>,
    /// A user that may also command hosts, silence alerts and retire groups. Can be given several times.
    #[arg(long = "operator", value_name = "NAME", value_parser = user_name)]
    operators: Vec<String>,
    /// The form of the rules.
    #[arg(long, value_enum, default_value_t = Format::Mosquitto)]
    format: Format,
}

/// Brokers whose rules can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The file that `acl_file` of mosquitto.conf names.
    Mosquitto,
}

/// A user and the groups of exporters that it speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exporter {
    name: String,
    groups: Vec<GroupName>,
}

/// Runs a subcommand of `utilizer broker`.
pub fn run(command: &BrokerCommand) -> Result<(), CommandError> {
    let BrokerCommand::Acl(args) = command;
    let Format::Mosquitto = args.format;
    let rules = mosquitto(args)?;
    std::io::stdout().write_all(rules.as_bytes()).map_err(|error| CommandError::output(&error))
}

/// A name that stands on a line of its own, and that a pattern with the user's name in it can be matched with.
fn user_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_control() || c.is_whitespace() || "+#/=,".contains(c)) {
        return Err("a user's name must not be empty, nor contain spaces, `+`, `#`, `/`, `=` or `,`".to_owned());
    }
    Ok(text.to_owned())
}

fn exporter(text: &str) -> Result<Exporter, String> {
    let (name, groups) =
        text.split_once('=').ok_or("the groups are missing: write NAME=GROUP, as in exporter-postgres=postgres")?;
    let group = |group: &str| group.parse::<GroupName>().map_err(|error| error.to_string());
    Ok(Exporter { name: user_name(name)?, groups: groups.split(',').map(group).collect::<Result<_, _>>()? })
}

/// The rules in the form of mosquitto's `acl_file`.
fn mosquitto(args: &AclArgs) -> Result<String, CommandError> {
    let AclArgs { exporters, managers, operators, .. } = args;
    let mut names = BTreeSet::new();
    for name in exporters.iter().map(|exporter| &exporter.name).chain(managers).chain(operators) {
        if !names.insert(name) {
            let sentence =
                format!("the user {name:?} is named twice; give one user one part, and an exporter all its groups");
            return Err(CommandError::Usage(sentence));
        }
    }
    let everything = Topic::everything();
    let root = everything.trim_end_matches('#');
    let (statuses, tier) = (Topic::all_statuses(), Topic::all_tier_statuses());
    let mut rules = format!(
        "# Access rules of utilizer for mosquitto (acl_file), made by `utilizer broker acl`. They take effect with\n\
         # `allow_anonymous false`, and anew after a SIGHUP.\n\
         \n\
         # Every user, and so every host: the user's name is the host's name. `topic` lines above the first `user` would be\n\
         # for anonymous clients only, hence patterns also where no name is in them; mosquitto warns of that for nothing.\n\
         pattern write {root}telemetry/%u/#\n\
         pattern read {root}command/%u/#\n\
         pattern read {tier}\n\
         pattern read {root}fleet/#\n"
    );
    for Exporter { name, groups } in exporters {
        // Writing to a String does not fail.
        let _ = write!(rules, "\n# An exporter.\nuser {name}\ntopic read {root}telemetry/#\n");
        for group in groups {
            let _ = write!(
                rules,
                "topic write {root}tier/{group}/+/status\ntopic write {root}command/+/confirmed/{group}/+\n"
            );
        }
    }
    for name in managers {
        let _ = write!(
            rules,
            "\n# Reads, and writes nothing.\nuser {name}\ntopic read {root}telemetry/#\n\
             topic read {root}command/+/confirmed/#\n"
        );
    }
    for name in operators {
        let _ = write!(
            rules,
            "\n# Commands hosts, and clears what is kept of exporters and hosts that are gone.\nuser {name}\n\
             topic read {everything}\ntopic write {root}command/+/control\ntopic write {root}command/+/jobs\n\
             topic write {root}command/+/ack\ntopic write {root}fleet/#\ntopic write {tier}\ntopic write {statuses}\n"
        );
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(exporters: &[&str], managers: &[&str], operators: &[&str]) -> AclArgs {
        let names = |names: &[&str]| names.iter().map(|name| user_name(name).unwrap()).collect();
        AclArgs {
            exporters: exporters.iter().map(|text| exporter(text).unwrap()).collect(),
            managers: names(managers),
            operators: names(operators),
            format: Format::Mosquitto,
        }
    }

    #[test]
    fn each_part_gets_its_rules_and_no_others() {
        let rules = mosquitto(&args(&["pg=postgres", "ch=clickhouse,archive"], &["grafana"], &["ops"])).unwrap();
        let lines: Vec<&str> = rules.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                "pattern write utilizer/v1/telemetry/%u/#",
                "pattern read utilizer/v1/command/%u/#",
                "pattern read utilizer/v1/tier/+/+/status",
                "pattern read utilizer/v1/fleet/#",
                "user pg",
                "topic read utilizer/v1/telemetry/#",
                "topic write utilizer/v1/tier/postgres/+/status",
                "topic write utilizer/v1/command/+/confirmed/postgres/+",
                "user ch",
                "topic read utilizer/v1/telemetry/#",
                "topic write utilizer/v1/tier/clickhouse/+/status",
                "topic write utilizer/v1/command/+/confirmed/clickhouse/+",
                "topic write utilizer/v1/tier/archive/+/status",
                "topic write utilizer/v1/command/+/confirmed/archive/+",
                "user grafana",
                "topic read utilizer/v1/telemetry/#",
                "topic read utilizer/v1/command/+/confirmed/#",
                "user ops",
                "topic read utilizer/v1/#",
                "topic write utilizer/v1/command/+/control",
                "topic write utilizer/v1/command/+/jobs",
                "topic write utilizer/v1/command/+/ack",
                "topic write utilizer/v1/fleet/#",
                "topic write utilizer/v1/tier/+/+/status",
                "topic write utilizer/v1/telemetry/+/status",
            ]
        );
    }

    #[test]
    fn names_that_would_say_something_else_are_refused() {
        for name in ["", "a b", "a\nuser b", "+", "#", "a/b", "a#", "\u{a0}"] {
            assert!(user_name(name).is_err(), "{name:?}");
        }
        for text in ["pg", "pg=", "pg=a b", "pg=+", "=postgres", "pg=a,", "p q=a"] {
            assert!(exporter(text).is_err(), "{text:?}");
        }
        let twice = mosquitto(&args(&["pg=postgres"], &["pg"], &[])).unwrap_err().to_string();
        assert!(twice.contains("\"pg\" is named twice"), "{twice}");
    }
}
