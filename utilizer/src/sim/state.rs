//! What a killed simulation leaves behind, so that a later one goes on with it and verifies all of it.
//!
//! The file is a list of JSON values, one a line, each written whole before what it says may have an effect: the plan; each
//! run; how far readings may have been made; per host what its sender wants kept; what was declared lost; and now and then
//! below which numbers everything is stored. It outlives a kill of the process, and not of the machine. A last line that was
//! torn is as good as none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use delivery::sender::DiskState;
use serde::{Deserialize, Serialize};
use wire::{Kind, Ranges};

use super::plan::{Plan, Run};
use crate::command::CommandError;

/// A stream of numbers: host, run, kind.
pub(super) type Stream = (u32, usize, Kind);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Plan(Plan),
    Run(Run),
    Until(i64),
    Disk(u32, DiskState),
    Declared(Stream, u64, u64),
    Low(Vec<(Stream, u64)>),
}

/// What earlier runs left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The runs, oldest first.
    pub(super) runs: Vec<Run>,
    /// What senders keep.
    pub(super) disks: BTreeMap<u32, DiskState>,
    /// What was declared lost.
    pub(super) declared: BTreeMap<Stream, Ranges>,
    /// Everything below is stored.
    pub(super) low: BTreeMap<Stream, u64>,
}

/// The file, written at its end.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl StateFile {
    /// Opens it, or makes it for a new simulation. The plan must be that of the file, but for the count of readings.
    pub(super) fn open(path: &Path, plan: &Plan) -> Result<(Self, Left), CommandError> {
        let fault = |what: &str, error: &dyn std::fmt::Display| {
            CommandError::Failed(format!("can't {what} the state file {}: {error}", path.display()))
        };
        let left = match fs::read_to_string(path) {
            Ok(text) => read(&text, plan).map_err(|error| {
                CommandError::Usage(format!(
                    "{}: {error}; name another --state file for a new simulation",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Left::default(),
            Err(error) => return Err(fault("read", &error)),
        };
        // Written anew, so that it is as short as it can be.
        let temporary = path.with_extension("new");
        let write = || -> io::Result<File> {
            let mut file = File::create(&temporary)?;
            let mut text = line(&Line::Plan(plan.clone()));
            left.runs.iter().for_each(|run| text += &line(&Line::Run(run.clone())));
            left.disks.iter().for_each(|(host, disk)| text += &line(&Line::Disk(*host, disk.clone())));
            for (stream, ranges) in &left.declared {
                ranges.iter().for_each(|(from, to)| text += &line(&Line::Declared(*stream, from, to)));
            }
            text += &line(&Line::Low(left.low.iter().map(|(stream, low)| (*stream, *low)).collect()));
            file.write_all(text.as_bytes())?;
            fs::rename(&temporary, path)?;
            Ok(file)
        };
        let file = write().map_err(|error| fault("write", &error))?;
        Ok((Self { path: path.to_owned(), file: Mutex::new(file) }, left))
    }

    fn append(&self, what: &Line) -> Result<(), CommandError> {
        let text = line(what);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).map_err(|error| {
            CommandError::Failed(format!("can't write the state file {}: {error}", self.path.display()))
        })
    }

    /// A run begins.
    pub(super) fn run(&self, run: &Run) -> Result<(), CommandError> {
        self.append(&Line::Run(run.clone()))
    }

    /// Readings up to this moment may be made from now on.
    pub(super) fn until(&self, until: i64) -> Result<(), CommandError> {
        self.append(&Line::Until(until))
    }

    /// A host's sender wants this kept.
    pub(super) fn disk(&self, host: u32, disk: DiskState) -> Result<(), CommandError> {
        self.append(&Line::Disk(host, disk))
    }

    /// These were declared lost.
    pub(super) fn declared(&self, stream: Stream, from: u64, to: u64) -> Result<(), CommandError> {
        self.append(&Line::Declared(stream, from, to))
    }

    /// Everything below is stored.
    pub(super) fn low(&self, low: Vec<(Stream, u64)>) -> Result<(), CommandError> {
        self.append(&Line::Low(low))
    }
}

fn line(line: &Line) -> String {
    // Maps with names as keys, and numbers: always JSON.
    let text = serde_json::to_string(line).unwrap_or_else(|error| unreachable!("BUG: a line does not encode: {error}"));
    text + "\n"
}

fn read(text: &str, plan: &Plan) -> Result<Left, String> {
    let mut left = Left::default();
    let mut lines = text.split_inclusive('\n').enumerate().peekable();
    while let Some((place, text)) = lines.next() {
        let line = match serde_json::from_str(text) {
            Ok(line) => line,
            // Torn by the kill.
            Err(_) if lines.peek().is_none() && !text.ends_with('\n') => break,
            Err(error) => return Err(format!("line {} is none of a simulation: {error}", place + 1)),
        };
        match line {
            Line::Plan(of) if Plan { count: plan.count, ..of.clone() } != *plan => {
                let of = serde_json::to_string(&of).unwrap_or_default();
                return Err(format!("it is of another simulation, {of}"));
            }
            Line::Plan(_) => {}
            Line::Run(run) => left.runs.push(run),
            Line::Until(until) => left.runs.iter_mut().next_back().into_iter().for_each(|run| run.until = until),
            Line::Disk(host, disk) => drop(left.disks.insert(host, disk)),
            Line::Declared(stream, from, to) => left.declared.entry(stream).or_default().insert_range(from, to),
            Line::Low(low) => left.low.extend(low),
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::super::plan::KINDS;
    use super::*;

    #[test]
    fn a_killed_simulation_leaves_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let plan = Plan {
            prefix: "sim".into(),
            hosts: 3,
            interval: 1000,
            count: 9,
            kinds: KINDS.to_vec(),
            log_lines: 1,
            seed: 7,
        };
        let (file, left) = StateFile::open(&path, &plan).unwrap();
        assert!(left.runs.is_empty());
        let run = Run { id: "a".into(), start: 5, until: 5 };
        file.run(&run).unwrap();
        file.until(77).unwrap();
        file.disk(2, DiskState::default()).unwrap();
        file.declared((1, 0, Kind::Logs), 3, 9).unwrap();
        file.low(vec![((1, 0, Kind::Metrics), 12)]).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"unti");
        fs::write(&path, text).unwrap();
        for _ in 0..2 {
            let (_, left) = StateFile::open(&path, &Plan { count: 20, ..plan.clone() }).unwrap();
            assert_eq!(left.runs, [Run { until: 77, ..run.clone() }]);
            assert!(left.disks.contains_key(&2) && left.declared[&(1, 0, Kind::Logs)] == Ranges::of(3, 9));
            assert_eq!(left.low[&(1, 0, Kind::Metrics)], 12);
        }
        let error = StateFile::open(&path, &Plan { hosts: 4, ..plan }).unwrap_err();
        assert!(matches!(&error, CommandError::Usage(text) if text.contains("another simulation")), "{error}");
    }
}
