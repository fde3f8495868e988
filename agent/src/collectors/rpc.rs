//! Statistics of the kernel's NFS client and server, `/proc/net/rpc/…`: lines of a word and numbers behind it.

use crate::collectors::rare::RareFile;
use crate::collectors::{CollectError, Outcome, Pass};
use crate::host::{KeptFile, TextError, fields, lines, number};
use crate::snapshot::{Families, Labels, MetricType};

/// A family, and which numbers of the file are its samples.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) sources: &'static [Source],
}

/// Numbers of the line with this first word.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) line: &'static str,
    pub(super) numbers: Numbers,
}

/// Which numbers of a line, and what tells them apart.
#[derive(Debug)]
pub(super) enum Numbers {
    /// The one at this place, from 0.
    One(usize),
    /// From this place on; each has a value of this label. Those without a name are passed over.
    Each(usize, &'static str, &'static [&'static str]),
    /// How often each procedure of this version was called. How many there are stands before them: newer kernels know
    /// more, and older ones fewer.
    Procedures(&'static str, &'static [&'static str]),
    /// As such a procedure, but on a line of its own.
    Procedure(&'static str, &'static str),
}

impl Numbers {
    /// Places and labels of the samples.
    fn samples(&self) -> Vec<(usize, Labels)> {
        let named = |names: &'static [&'static str]| {
            (0usize..).zip(names).filter(|(_, name)| !name.is_empty()).map(|(place, name)| (place, *name))
        };
        match self {
            Self::One(place) => vec![(*place, Labels::none())],
            Self::Each(first, label, names) => {
                named(names).map(|(place, name)| (first + place, Labels::new([(*label, name)]))).collect()
            }
            Self::Procedures(proto, names) => {
                let labels = |name| Labels::new([("method", name), ("proto", proto)]);
                named(names).map(|(place, name)| (1 + place, labels(name))).collect()
            }
            Self::Procedure(proto, name) => vec![(0, Labels::new([("method", *name), ("proto", *proto)]))],
        }
    }

    /// How many numbers are read at most. Some lines have others than whole ones behind.
    fn needed(&self) -> usize {
        match self {
            Self::One(place) => place + 1,
            Self::Each(first, _, names) => first + names.len(),
            Self::Procedures(_, names) => 1 + names.len(),
            Self::Procedure(..) => 1,
        }
    }
}

/// A line that is read, with what it says now; without numbers where there is none.
#[derive(Debug)]
struct Line {
    word: &'static str,
    needed: usize,
    /// Whether the first number tells how many follow.
    is_counted: bool,
    numbers: Vec<u64>,
}

/// The lines that families need.
fn lines_of(families: &[Shown]) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    for Source { line: word, numbers } in families.iter().flat_map(|family| family.sources) {
        let needed = numbers.needed();
        match found.iter_mut().find(|line| line.word == *word) {
            Some(line) => line.needed = line.needed.max(needed),
            None => {
                let is_counted = matches!(numbers, Numbers::Procedures(..));
                found.push(Line { word, needed, is_counted, numbers: Vec::new() });
            }
        }
    }
    found
}

/// Reads the lines that are known; newer kernels have others.
fn parse(text: &[u8], known: &mut [Line]) -> Result<(), TextError> {
    known.iter_mut().for_each(|line| line.numbers.clear());
    for line in lines(text)? {
        let mut values = fields(line);
        let Some(word) = values.next() else { continue };
        let Some(found) = known.iter_mut().find(|line| line.word.as_bytes() == word) else { continue };
        let Line { needed, is_counted, numbers, .. } = found;
        numbers.clear();
        let count = values.clone().count();
        for value in values.take(*needed) {
            numbers.push(number(value).ok_or_else(|| TextError::expected("a statistic of NFS", value))?);
        }
        let is_whole = match numbers.first() {
            Some(told) if *is_counted => usize::try_from(*told).is_ok_and(|told| told == count - 1),
            first => first.is_some() && count >= *needed,
        };
        if !is_whole {
            return Err(TextError::expected("a line with all of its numbers", line));
        }
    }
    if known.iter().all(|line| line.numbers.is_empty()) {
        return Err(TextError::expected("statistics of NFS", text));
    }
    Ok(())
}

/// A family with its samples: the line, the place in it, the labels.
type Samples = (&'static Shown, Vec<(usize, usize, Labels)>);

/// Such a file, and the families that it fills.
#[derive(Debug)]
pub(super) struct Statistics {
    file: RareFile,
    families: &'static [Shown],
    lines: Vec<Line>,
    /// Made when the file is first found.
    samples: Vec<Samples>,
}

impl Statistics {
    pub(super) fn new(file: std::path::PathBuf, families: &'static [Shown]) -> Self {
        Self { file: RareFile::new(KeptFile::record(file)), families, lines: Vec::new(), samples: Vec::new() }
    }

    pub(super) fn begin(&mut self, pass: Pass) {
        self.file.begin(pass);
    }

    pub(super) fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { file, families, lines, samples } = self;
        let read = file.read(|text| {
            if lines.is_empty() {
                *lines = lines_of(families);
            }
            parse(text, lines)
        })?;
        if read.is_none() {
            return Ok(Outcome::Nothing);
        }
        if samples.is_empty() {
            *samples = families.iter().map(|family| (family, samples_of(family, lines))).collect();
        }
        for (Shown { name, help, kind, .. }, samples) in samples {
            out.family(*name, *help, *kind);
            for (line, place, labels) in samples {
                let value = lines.get(*line).and_then(|line| line.numbers.get(*place));
                value.inspect(|value| out.push(labels, **value as f64));
            }
        }
        Ok(Outcome::Data)
    }
}

fn samples_of(family: &Shown, lines: &[Line]) -> Vec<(usize, usize, Labels)> {
    let each = |Source { line: word, numbers }: &Source| {
        let line = lines.iter().position(|line| line.word == *word).unwrap_or(usize::MAX);
        numbers.samples().into_iter().map(move |(place, labels)| (line, place, labels))
    };
    family.sources.iter().flat_map(each).collect()
}

/// What a file of this text is shown as: the samples' labels and values by family.
#[cfg(test)]
pub(super) fn shown(families: &'static [Shown], text: &[u8]) -> Result<Families, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("statistics");
    std::fs::write(&path, text).unwrap();
    let mut statistics = Statistics::new(path, families);
    let mut out = Families::default();
    statistics.begin(Pass::Interval);
    statistics.collect(&mut out).map(|_| out).map_err(|error| error.to_string())
}

/// The value of the sample with this value of its label.
#[cfg(test)]
pub(super) fn value(out: &Families, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let is_meant = |sample: &&crate::snapshot::Sample| {
        labels.iter().all(|(label, value)| sample.labels.get(label) == Some(*value))
    };
    out.samples(family).iter().find(is_meant).map(|sample| sample.value)
}
