//! A look at a spool from outside, while it is in use or when it is damaged. Changes nothing and takes no lock.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::cursor;
use crate::format::{RECORD, index_of, segment_path};
use crate::scan::{Next, Scanner, read_header};

/// What is in a folder and the folders in it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One for each folder with segments, by name.
    pub logs: Vec<LogReport>,
}

/// What is in one log.
#[derive(Debug, Clone, Default)]
pub struct LogReport {
    /// Its folder.
    pub dir: PathBuf,
    /// The first index that is wanted.
    pub first: u64,
    /// The index after the last record.
    pub next: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Records that are wanted and good.
    pub records: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// When the oldest and the newest of them were appended, in ms since 1970.
    pub appended_ms: Option<(u64, u64)>,
    /// Wanted indices that are damaged or missing: first and last of each gap.
    pub gaps: Vec<(u64, u64)>,
    /// Bytes after the last good record: one that is being written now, or torn by a crash.
    pub torn_bytes: u64,
    /// Files that were set aside.
    pub bad_files: Vec<PathBuf>,
}

/// Reads a log's folder, or a folder with logs in it, and checks every record.
pub fn inspect(dir: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    report.logs.extend(inspect_log(dir)?);
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    for folder in folders {
        report.logs.extend(inspect_log(&folder)?);
    }
    Ok(report)
}

fn inspect_log(dir: &Path) -> io::Result<Option<LogReport>> {
    let mut report = LogReport { dir: dir.to_owned(), ..LogReport::default() };
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(from) = index_of(&name) {
            segments.push(from);
        } else if name.ends_with(".bad") {
            report.bad_files.push(entry.path());
        }
    }
    if segments.is_empty() && report.bad_files.is_empty() {
        return Ok(None);
    }
    segments.sort_unstable();
    report.first = cursor::read(dir)?.unwrap_or(0).max(segments.first().copied().unwrap_or(0));
    report.next = report.first;
    for (place, &from) in segments.iter().enumerate() {
        segment(&mut report, from, segments.get(place + 1).copied())?;
    }
    report.next = report.next.max(report.first);
    Ok(Some(report))
}

/// Adds one segment: from the first index in its name to that of the next one.
fn segment(report: &mut LogReport, from: u64, end: Option<u64>) -> io::Result<()> {
    let file = match File::open(segment_path(&report.dir, from)) {
        Ok(file) => file,
        // Trimmed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let bytes = file.metadata()?.len();
    report.segments += 1;
    report.bytes += bytes;
    let first = report.first;
    let mut next = from;
    let gap = |report: &mut LogReport, from: u64, end: u64| {
        if from.max(first) < end {
            report.gaps.push((from.max(first), end - 1));
        }
    };
    if let Some(header) = read_header(&file, from)? {
        let mut scanner = Scanner::new(file, header.salt);
        loop {
            match scanner.next(next, bytes)? {
                Next::Record { header, body, .. } => {
                    if next >= first {
                        report.records += 1;
                        report.body_bytes += body.len() as u64;
                        let oldest = report.appended_ms.map_or(header.appended_ms, |(oldest, _)| oldest);
                        report.appended_ms = Some((oldest, header.appended_ms));
                    }
                    next += 1;
                }
                Next::End => break,
                Next::Bad => {
                    let most = next + 1 + (bytes - scanner.offset()) / RECORD as u64;
                    match scanner.search(next + 1, end.unwrap_or(most), bytes)? {
                        Some(found) => {
                            gap(report, next, found);
                            next = found;
                        }
                        None => {
                            report.torn_bytes += bytes - scanner.offset();
                            break;
                        }
                    }
                }
            }
        }
    }
    if let Some(end) = end {
        gap(report, next, end);
    }
    report.next = end.unwrap_or(next);
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.logs.is_empty() {
            return writeln!(f, "there is no spool here");
        }
        for (place, log) in self.logs.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            log.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for LogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.dir.display())?;
        writeln!(
            f,
            "  records    {} ({} to before {}), {} bytes",
            self.records, self.first, self.next, self.body_bytes
        )?;
        writeln!(f, "  segments   {}, {} bytes", self.segments, self.bytes)?;
        if let Some((oldest, newest)) = self.appended_ms {
            let span = newest.saturating_sub(oldest) / 1000;
            writeln!(f, "  appended   from {oldest} to {newest} ms since 1970, {span} s apart")?;
        }
        for (from, to) in &self.gaps {
            writeln!(f, "  missing    {from} to {to}: damaged, or not on the disk when the machine ended")?;
        }
        if self.torn_bytes > 0 {
            writeln!(f, "  unfinished {} bytes: being written now, or torn by a crash", self.torn_bytes)?;
        }
        for path in &self.bad_files {
            writeln!(
                f,
                "  set aside  {}: its beginning can't be read; delete it when nobody needs it",
                path.display()
            )?;
        }
        Ok(())
    }
}
