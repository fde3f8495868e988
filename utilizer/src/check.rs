//! `utilizer check rules`: rule files are read, and their unit tests run, without any agent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use rules::Labels;
use rules::file::{Fault, Rules};
use rules::parse::duration;
use rules::testing::series;
use rules::testing::unit::UnitTests;

use crate::command::CommandError;
use crate::glob;
use crate::replay::{self, ReplayArgs};
use crate::terminal::plain;

/// What `utilizer check` is asked for.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Check Prometheus rule files, run their unit tests, or replay history through them.
    ///
    /// Every fault is told with file, line and column, also what of PromQL is not evaluated on a host. Of files without
    /// faults it is told what series their rules select and how far they look back. With --replay the history of hosts in a
    /// store goes through the rules of each host as if its agent had had them. Exit code 1: something is wrong.
    #[command(after_long_help = "Examples:\n  \
        utilizer check rules /etc/utilizer/rules.d/*.yml\n  \
        curl -s localhost:9100/metrics | utilizer check rules --metrics - rules.yml\n  \
        utilizer check rules --test rules_test.yml\n  \
        utilizer check rules --replay 7d rules.yml     what would have fired here under `utilizer up`\n  \
        utilizer check rules --replay 1d --postgres postgres://utilizer@db/utilizer --host 'web-*' rules.yml")]
    Rules(Box<RulesArgs>),
}

/// What `utilizer check rules` is asked for.
#[derive(Debug, ClapArgs)]
pub struct RulesArgs {
    /// Rule files; with --test files with tests, which name their rule files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Run unit tests, in the form of `promtool test rules`.
    #[arg(long, conflicts_with = "metrics")]
    test: bool,
    /// What a host has, as /metrics gives it; `-` is stdin. Tells for each selector how many series it finds there.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    #[command(flatten)]
    replay: ReplayArgs,
}

/// Runs a subcommand of `utilizer check`.
pub async fn run(command: CheckCommand) -> Result<ExitCode, CommandError> {
    let CheckCommand::Rules(args) = command;
    let series = args.metrics.as_deref().map(read_metrics).transpose()?;
    let (text, good) = if let Some(range) = args.replay.range() {
        match load(&args.files)? {
            Ok((rules, _)) => replay::run(rules, range, &args.replay).await?,
            Err(told) => (told, false),
        }
    } else if args.test {
        test(&args.files)?
    } else {
        check(&args.files, series.as_deref())?
    };
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> Result<(String, String), CommandError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| CommandError::Failed(format!("can't read {}: {error}", file.display())))?;
    Ok((file.display().to_string(), text))
}

fn read_all<P: AsRef<Path>>(files: &[P]) -> Result<Vec<(String, String)>, CommandError> {
    files.iter().map(|file| read(file.as_ref())).collect()
}

/// Rules with the texts of their files, or what is wrong with them.
type Loaded = Result<(Rules, Vec<(String, String)>), String>;

fn load(files: &[PathBuf]) -> Result<Loaded, CommandError> {
    let files = read_all(files)?;
    Ok(match Rules::load(&files) {
        Ok(rules) => Ok((rules, files)),
        Err(faults) => {
            let mut text = String::new();
            tell(&faults, "", &mut text);
            let _ = writeln!(text, "{} in {}", count(faults.len(), "fault"), count(files.len(), "file"));
            Err(text)
        }
    })
}

/// What was found, and whether all is well.
fn check(files: &[PathBuf], series: Option<&[Labels]>) -> Result<(String, bool), CommandError> {
    let (all, files) = match load(files)? {
        Ok(loaded) => loaded,
        Err(told) => return Ok((told, false)),
    };
    let mut text = String::new();
    for (file, _) in &files {
        let groups: Vec<_> = all.groups.iter().filter(|group| group.file == *file).collect();
        let rules = groups.iter().map(|group| group.rules.len()).sum();
        let _ = writeln!(text, "{}: {} in {}", plain(file), count(rules, "rule"), count(groups.len(), "group"));
    }
    let needs = all.needs();
    if !needs.is_empty() {
        text.push_str("They read:\n");
    }
    for need in needs {
        let found = series.map(|series| {
            let found = series.iter().filter(|labels| rules::testing::memory::selects(&need.selector, labels)).count();
            if found == 0 { ", nothing on this host".to_owned() } else { format!(", {found} series on this host") }
        });
        let selector = need.selector.to_string();
        let back = duration::format(need.back);
        let _ = writeln!(text, "  {}, back {back}{}", plain(&selector), found.unwrap_or_default());
    }
    Ok((text, true))
}

fn test(files: &[PathBuf]) -> Result<(String, bool), CommandError> {
    let (mut text, mut good) = (String::new(), true);
    for file in files {
        let (name, content) = read(file)?;
        let faults = match UnitTests::read(&name, &content) {
            Err(faults) => faults,
            Ok(tests) => {
                let folder = file.parent().unwrap_or(Path::new(""));
                let mut rule_files = Vec::new();
                for pattern in tests.rule_files() {
                    let found = matching(&folder.join(pattern));
                    if found.is_empty() {
                        let _ = writeln!(text, "{}: no file fits {}", plain(&name), plain(pattern));
                    }
                    rule_files.extend(found);
                }
                match Rules::load(&read_all(&rule_files)?) {
                    Err(faults) => faults,
                    Ok(rules) => tests.run(&rules),
                }
            }
        };
        let verdict = if faults.is_empty() { "SUCCESS" } else { "FAILED" };
        let _ = writeln!(text, "{}: {verdict}", plain(&name));
        tell(&faults, "  ", &mut text);
        good &= faults.is_empty();
    }
    Ok((text, good))
}

/// The files that a path with `*` and `?` stands for, sorted. One that is no pattern stands for itself, if it is there.
fn matching(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let name = part.as_os_str().to_string_lossy();
        if !glob::is_pattern(&name) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        found = found.iter().flat_map(|folder| within(folder, &name)).collect();
    }
    found.retain(|path| path.exists());
    found
}

fn within(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name()).filter(|name| glob::fits(pattern, &name.to_string_lossy()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn tell(faults: &[Fault], indent: &str, text: &mut String) {
    for fault in faults {
        for line in fault.to_string().lines() {
            let _ = writeln!(text, "{indent}{}", plain(line));
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The series of an exposition in Prometheus' text format.
fn read_metrics(file: &Path) -> Result<Vec<Labels>, CommandError> {
    let text = match file == Path::new("-") {
        false => read(file)?.1,
        true => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| CommandError::Failed(format!("can't read stdin: {error}")))?;
            text
        }
    };
    let mut found = BTreeMap::new();
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (labels, _) = series::split(line)
            .map_err(|error| CommandError::Failed(format!("{}:{number}: no metrics: {error}", file.display())))?;
        found.insert(labels, ());
    }
    Ok(found.into_keys().collect())
}
