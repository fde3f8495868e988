//! The command line. By `lexopt` and not by the library that the other programs use: that would be a twentieth of the
//! agent's size, for two commands and eight switches.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use utilizer_agent::config::PathSwitches;
use utilizer_agent::sample::Format;

/// What `--help` says.
const HELP: &str = "\
Samples this host every interval, answers Prometheus on /metrics and pushes over MQTT.

What is to be published waits on disk ([spool] in the configuration) until the exporters have stored it.

SIGHUP reads the configuration anew, SIGTERM stops within 5 s.

Usage: utilizer-agent [OPTIONS] [COMMAND]

Commands:
  sample  Read the host once and write what was found to stdout
  check   Check the configuration and say what would run

Options:
      --config <FILE>           The configuration file [default: /etc/utilizer/agent.toml, if it exists]
      --path.procfs <DIR>       The host's procfs
      --path.sysfs <DIR>        The host's sysfs
      --path.rootfs <DIR>       The host's root directory
      --path.udev.data <DIR>    udev's data
      --web.config.file <FILE>  TLS, passwords and tokens, in the form of Prometheus' exporters
      --collector.textfile.directory <DIR>
                                Where programs leave metrics in `*.prom` files; may be given more than once, with
                                `*` and `?` in names
  -h, --help                    Print this help
  -V, --version                 Print the version

Options of sample:
      --format <FORMAT>         How to write it: prometheus or json [default: prometheus]
";

const OPTIONS: &[&str] = &[
    "config",
    "path.procfs",
    "path.sysfs",
    "path.rootfs",
    "path.udev.data",
    "web.config.file",
    "collector.textfile.directory",
    "help",
    "version",
    "format",
];

const COMMANDS: &[&str] = &["sample", "check"];

/// What the arguments ask for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Sample, serve and publish until told to stop.
    Run,
    /// One pass, to stdout.
    Sample(Format),
    /// Check the configuration.
    Check,
    /// Print this text and end.
    Print(String),
}

/// Options of every command.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Switches {
    /// `--config`
    pub(crate) config: Option<PathBuf>,
    /// The others.
    pub(crate) paths: PathSwitches,
}

/// Reads the arguments, without the program's name. The error says which is wrong and what is meant.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Command, Switches), String> {
    read(lexopt::Parser::from_args(arguments)).map_err(|error| format!("{error}; --help lists what there is"))
}

fn read(mut parser: lexopt::Parser) -> Result<(Command, Switches), lexopt::Error> {
    let mut switches = Switches::default();
    let (mut command, mut format) = (None, None);
    while let Some(argument) = parser.next()? {
        let paths = &mut switches.paths;
        match argument {
            Short('h') | Long("help") => return Ok((Command::Print(HELP.to_owned()), switches)),
            Short('V') | Long("version") => {
                let version = format!("utilizer-agent {}\n", utilizer_agent::VERSION);
                return Ok((Command::Print(version), switches));
            }
            Long("config") => switches.config = Some(parser.value()?.into()),
            Long("path.procfs") => paths.procfs = Some(parser.value()?.into()),
            Long("path.sysfs") => paths.sysfs = Some(parser.value()?.into()),
            Long("path.rootfs") => paths.rootfs = Some(parser.value()?.into()),
            Long("path.udev.data") => paths.udev_data = Some(parser.value()?.into()),
            Long("web.config.file") => paths.web_config = Some(parser.value()?.into()),
            Long("collector.textfile.directory") => paths.textfile.push(parser.value()?.string()?),
            Long("format") => {
                let value = parser.value()?;
                format = Some(match value.to_str() {
                    Some("prometheus") => Format::Prometheus,
                    Some("json") => Format::Json,
                    _ => return Err(format!("--format {value:?}: there are prometheus and json").into()),
                });
            }
            Value(word) if command.is_none() => match word.to_str() {
                Some("sample") => command = Some(Command::Sample(Format::Prometheus)),
                Some("check") => command = Some(Command::Check),
                _ => {
                    let word = word.to_string_lossy();
                    return Err(unknown("command", &word, COMMANDS, "").into());
                }
            },
            Long(name) => {
                let message = unknown("option", &format!("--{name}"), OPTIONS, "--");
                return Err(message.into());
            }
            other => return Err(other.unexpected()),
        }
    }
    let command = match (command, format) {
        (Some(Command::Sample(_)), Some(format)) => Command::Sample(format),
        (_, Some(_)) => return Err("--format is an option of sample".into()),
        (command, None) => command.unwrap_or(Command::Run),
    };
    Ok((command, switches))
}

fn unknown(what: &str, found: &str, known: &[&str], prefix: &str) -> String {
    let distance = |name: &&&str| strsim::damerau_levenshtein(name, found.trim_start_matches('-'));
    match known.iter().min_by_key(distance) {
        Some(name) if distance(&name) <= 1 + name.len() / 3 => {
            format!("unknown {what} {found}; did you mean {prefix}{name}?")
        }
        _ => format!("unknown {what} {found}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<(Command, Switches), String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_stand_before_and_behind_the_command() {
        let (command, switches) =
            parsed(&["--config=a.toml", "sample", "--path.procfs", "/host/p", "--format", "json"]).unwrap();
        assert_eq!(command, Command::Sample(Format::Json));
        assert_eq!(switches.config, Some("a.toml".into()));
        assert_eq!(switches.paths.procfs, Some("/host/p".into()));
        let directory = "--collector.textfile.directory";
        let (command, switches) = parsed(&[directory, "a", directory, "b"]).unwrap();
        assert_eq!((command, switches.paths.textfile), (Command::Run, vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(parsed(&["check"]).unwrap().0, Command::Check);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, said) in [
            (&["--confg", "x"][..], "unknown option --confg; did you mean --config?"),
            (&["smaple"], "unknown command smaple; did you mean sample?"),
            (&["frobnicate"], "unknown command frobnicate;"),
            (&["sample", "--format", "xml"], "--format \"xml\": there are prometheus and json"),
            (&["check", "--format", "json"], "--format is an option of sample"),
            (&["check", "sample"], "unexpected argument \"sample\""),
            (&["--config"], "missing argument for option '--config'"),
            (&["-x"], "invalid option '-x'"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.starts_with(said), "{error}");
            assert!(error.ends_with("; --help lists what there is"), "{error}");
        }
    }

    #[test]
    fn the_help_names_every_option_and_command() {
        for name in OPTIONS {
            assert!(HELP.contains(&format!("--{name}")), "{name}");
        }
        for name in COMMANDS {
            assert!(HELP.contains(&format!("\n  {name}")), "{name}");
        }
        let Command::Print(version) = parsed(&["sample", "-V"]).unwrap().0 else { panic!("no version") };
        assert_eq!(version, format!("utilizer-agent {}\n", env!("CARGO_PKG_VERSION")));
    }
}
