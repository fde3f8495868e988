//! Runs Prometheus' evaluation scripts: `conformance DIR [--list]`, over each `.test` file of the folder.
//!
//! What fails has to stand in `conformance.txt` beside this folder with its reason, and nothing else may stand there.
//! `--list` names what was skipped too.

#![allow(clippy::print_stdout, reason = "it tells what it found")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

use utilizer_rules::eval::Options;
use utilizer_rules::testing::run::{Verdict, run};

/// `file:line`, two spaces or more, the reason.
const KNOWN: &str = include_str!("../conformance.txt");

fn main() -> ExitCode {
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare() -> Result<bool, Box<dyn Error>> {
    let (switches, folders): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|word| word.starts_with("--"));
    let list = switches.iter().any(|word| word == "--list");
    let [folder] = folders.as_slice() else { return Err("usage: conformance DIR [--list]".into()) };
    if switches.iter().any(|word| word != "--list") {
        return Err("the only switch is --list".into());
    }
    let mut files: Vec<_> =
        fs::read_dir(folder).map_err(|error| format!("can't read {folder}: {error}"))?.collect::<Result<_, _>>()?;
    files.retain(|file| file.path().extension().is_some_and(|extension| extension == "test"));
    files.sort_by_key(|file| file.file_name());
    if files.is_empty() {
        return Err(format!("no .test file lies in {folder}").into());
    }

    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for line in KNOWN.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (place, reason) =
            line.split_once(char::is_whitespace).ok_or(format!("conformance.txt: `{line}` lacks a reason"))?;
        known.insert(place, reason.trim());
    }
    // As upstream runs them.
    let options = Options { delayed_name_removal: true, ..Options::default() };
    let (mut passed, mut failed, mut new) = (0, 0, 0);
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(file.path())?;
        for outcome in run(&text, &options).map_err(|error| format!("{name}, {error}"))? {
            let place = format!("{name}:{}", outcome.line);
            match outcome.verdict {
                Verdict::Passed => passed += 1,
                Verdict::Failed(why) => {
                    failed += 1;
                    match known.remove(place.as_str()) {
                        Some(reason) => println!("{place}  known: {reason}"),
                        None => {
                            new += 1;
                            println!("{place}  {}\n    {why}", outcome.text);
                        }
                    }
                }
                Verdict::Skipped(why) => {
                    if list {
                        println!("{place}  skipped: {why}: {}", outcome.text);
                    }
                    *skipped.entry(why).or_default() += 1;
                }
            }
        }
    }
    for (place, reason) in &known {
        println!("{place}  no longer fails, take it out of conformance.txt: {reason}");
    }
    let mut reasons: Vec<_> = skipped.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1));
    for (why, count) in reasons {
        println!("skipped {count}: {why}");
    }
    println!("{passed} passed, {failed} failed, {} skipped", skipped.values().sum::<usize>());
    Ok(new == 0 && known.is_empty())
}
