//! Metrics that programs of the host leave in files: `*.prom` in directories that the configuration names.
//!
//! A file is read again only when its time, size or inode changes; what it said is kept. A broken one costs itself
//! only: its families go, `node_textfile_scrape_error` is 1, and the log says once what is wrong.

mod parse;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::warn;

pub use parse::{ParseError, ParsedFamily, ParsedSample, parse};

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome, Pass, names};
use crate::glob;
use crate::host::{Directory, KeptFile};
use crate::snapshot::{Families, Labels, MetricType};

/// More files in one directory are not looked at.
const MAX_FILES: usize = 1000;

/// What the agent's own families about itself begin with: a file may not add to them.
const RESERVED: &[&str] = &["utilizer_", "node_textfile_", "node_scrape_collector_"];
/// Those of every Prometheus client library, which the agent has as well.
const RESERVED_NAMES: &[&str] = &[
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
];

/// `[collectors.textfile]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the files are: directories, with `*` and `?` for any text and any character within a name. From
    /// `[path] textfile` and `--collector.textfile.directory`.
    #[serde(skip)]
    pub directories: Vec<String>,
    /// A file that was not written for this long is left out; zero: none is.
    #[serde(with = "daemon::config::duration")]
    pub stale_after: Duration,
    /// A larger file is left out.
    #[serde(with = "daemon::config::size")]
    pub max_file_size: u64,
    /// Samples of all files together; a file that would exceed it is left out.
    pub max_samples: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { directories: Vec::new(), stale_after: Duration::ZERO, max_file_size: 4 << 20, max_samples: 20_000 }
    }
}

/// Why something is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// A directory or file can't be read.
    Unreadable,
    /// A file is not in the text format.
    Malformed,
    /// A file is too large, or would bring too many samples, or there are too many files.
    TooLarge,
    /// A file was not written for too long.
    Stale,
    /// A family or sample is another file's or the agent's already, or has another type or help there.
    Conflict,
}

impl Reason {
    const ALL: [Reason; 5] = [Reason::Unreadable, Reason::Malformed, Reason::TooLarge, Reason::Stale, Reason::Conflict];

    fn text(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
            Reason::Malformed => "malformed",
            Reason::TooLarge => "too_large",
            Reason::Stale => "stale",
            Reason::Conflict => "conflict",
        }
    }
}

/// Something that is left out, and the sentence for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    reason: Reason,
    what: String,
}

/// What tells a file from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanos: i64,
}

/// A file as it was read last.
struct TextFile {
    path: PathBuf,
    labels: Labels,
    /// `None` before it was looked at, and where that failed.
    stamp: Option<Stamp>,
    content: Result<Vec<ParsedFamily>, Refusal>,
    stale: bool,
}

impl TextFile {
    fn new(path: PathBuf) -> Self {
        let labels = Labels::new([("file", &*path.to_string_lossy())]);
        Self { path, labels, stamp: None, content: Ok(Vec::new()), stale: false }
    }

    /// Looks at the file, and reads it where it is another than before. Whether anything changed.
    fn refresh(&mut self, now: Duration, settings: &Settings) -> bool {
        let failed = |reason, what: String| Err(Refusal { reason, what });
        let (stamp, is_file) = match std::fs::metadata(&self.path) {
            Ok(found) => (
                Stamp {
                    device: found.dev(),
                    inode: found.ino(),
                    size: found.size(),
                    seconds: found.mtime(),
                    nanos: found.mtime_nsec(),
                },
                found.is_file(),
            ),
            Err(error) => {
                let content = failed(Reason::Unreadable, format!("cannot read {}: {error}", self.path.display()));
                let changed = self.stamp.take().is_some() || self.content != content;
                self.content = content;
                return changed;
            }
        };
        // A clock that was set back makes no file stale.
        let age = now.saturating_sub(Duration::from_secs(u64::try_from(stamp.seconds).unwrap_or(0)));
        let stale = !settings.stale_after.is_zero() && age > settings.stale_after;
        if self.stamp == Some(stamp) && self.stale == stale {
            return false;
        }
        self.stale = stale;
        if self.stamp != Some(stamp) {
            self.stamp = Some(stamp);
            let path = self.path.display();
            self.content = if !is_file {
                // Opening a pipe would wait for a writer.
                failed(Reason::Unreadable, format!("{path} is no regular file"))
            } else if stamp.size > settings.max_file_size {
                failed(
                    Reason::TooLarge,
                    format!(
                        "{path} has {} bytes, more than collectors.textfile.max_file_size allows ({})",
                        stamp.size,
                        daemon::config::size::format(settings.max_file_size)
                    ),
                )
            } else {
                read(&self.path)
            };
        }
        true
    }
}

fn read(path: &Path) -> Result<Vec<ParsedFamily>, Refusal> {
    // Not kept open: such files are replaced, not written anew.
    match KeptFile::listing(path.to_path_buf()).read(parse) {
        Ok(Ok(families)) => Ok(families),
        Ok(Err(error)) => Err(Refusal { reason: Reason::Malformed, what: format!("{}: {error}", path.display()) }),
        Err(error) => Err(Refusal { reason: Reason::Unreadable, what: error.to_string() }),
    }
}

/// A directory and its files.
struct Folder {
    path: PathBuf,
    listing: Directory,
    files: Cache<TextFile>,
    count: usize,
    refusal: Option<Refusal>,
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self { listing: Directory::new(path.clone()), path, files: Cache::default(), count: 0, refusal: None }
    }

    /// Whether anything changed.
    fn refresh(&mut self, now: Duration, settings: &Settings) -> bool {
        let Self { path, listing, files, count, refusal } = self;
        let mut changed = false;
        let (mut seen, mut fresh) = (0, 0);
        files.begin();
        let now_refused = match listing.list() {
            Ok(Some(names)) => {
                let wanted = || names.iter().filter(|name| name.ends_with(b".prom"));
                for name in wanted().take(MAX_FILES) {
                    let file = files.get(name, |_| {
                        fresh += 1;
                        TextFile::new(path.join(std::ffi::OsStr::from_bytes(name)))
                    });
                    changed |= file.refresh(now, settings);
                    seen += 1;
                }
                (wanted().count() > MAX_FILES).then(|| Refusal {
                    reason: Reason::TooLarge,
                    what: format!("{} holds more than {MAX_FILES} files; the others are left out", path.display()),
                })
            }
            Ok(None) => Some(Refusal {
                reason: Reason::Unreadable,
                what: format!("the directory {} of text files does not exist", path.display()),
            }),
            Err(error) => Some(Refusal { reason: Reason::Unreadable, what: error.to_string() }),
        };
        files.end();
        // One that is gone changes as much as one that came.
        changed |= fresh > 0 || seen != *count || *refusal != now_refused;
        *count = seen;
        *refusal = now_refused;
        changed
    }
}

/// A family of all files together.
struct Merged {
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: MetricType,
    samples: Vec<ParsedSample>,
    /// The agent has a family of that name itself.
    hidden: bool,
}

/// See the module.
pub(crate) struct TextFiles {
    settings: Settings,
    folders: Vec<Folder>,
    merged: Vec<Merged>,
    /// What is left out of the files, from the last merging.
    refusals: Vec<Refusal>,
    /// What is left out because the agent has it.
    hidden: Vec<Refusal>,
    /// What the log has said and what is still so.
    told: BTreeSet<String>,
    /// One for each of [`Reason::ALL`].
    reasons: [Labels; Reason::ALL.len()],
    pass: Pass,
}

impl TextFiles {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            folders: Vec::new(),
            merged: Vec::new(),
            refusals: Vec::new(),
            hidden: Vec::new(),
            told: BTreeSet::new(),
            reasons: Reason::ALL.map(|reason| Labels::new([("reason", reason.text())])),
            pass: Pass::Interval,
        }
    }

    /// Brings the list of directories up to date. Whether it changed.
    fn find_folders(&mut self) -> bool {
        let mut paths: Vec<PathBuf> = Vec::new();
        for directory in &self.settings.directories {
            for path in folders(directory) {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        if self.folders.iter().map(|folder| &folder.path).eq(&paths) {
            return false;
        }
        let mut before = std::mem::take(&mut self.folders);
        for path in paths {
            self.folders.push(match before.iter().position(|folder| folder.path == path) {
                Some(at) => before.swap_remove(at),
                None => Folder::new(path),
            });
        }
        true
    }

    /// Puts the files together anew: earlier ones win.
    fn merge(&mut self) {
        let Self { settings, folders, merged, refusals, .. } = self;
        refusals.clear();
        let mut families: Vec<Joining> = Vec::new();
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        let mut series: HashSet<String> = HashSet::new();
        let mut samples = 0;
        for folder in folders.iter() {
            refusals.extend(folder.refusal.clone());
            for file in folder.files.asked() {
                let content = match &file.content {
                    Ok(content) => content,
                    Err(refusal) => {
                        refusals.push(refusal.clone());
                        continue;
                    }
                };
                let path = file.path.display();
                if file.stale {
                    let limit = daemon::config::duration::format(settings.stale_after);
                    let what = format!("{path} was not written for {limit} and is left out");
                    refusals.push(Refusal { reason: Reason::Stale, what });
                    continue;
                }
                let count: usize = content.iter().map(|family| family.samples.len()).sum();
                if samples + count > settings.max_samples {
                    let what = format!(
                        "{path} is left out: with its {count} samples there would be more than \
                         collectors.textfile.max_samples ({})",
                        settings.max_samples
                    );
                    refusals.push(Refusal { reason: Reason::TooLarge, what });
                    continue;
                }
                samples += count;
                for family in content {
                    let conflict = |what: String| Refusal { reason: Reason::Conflict, what: format!("{path}: {what}") };
                    let name = family.name.as_str();
                    let at = *by_name.entry(name).or_insert_with(|| {
                        families.push(Joining {
                            name,
                            kind: family.kind,
                            help: None,
                            files: Vec::new(),
                            samples: vec![],
                        });
                        families.len() - 1
                    });
                    let joining = &mut families[at];
                    if joining.kind != family.kind {
                        refusals.push(conflict(format!("{name} has another type in an earlier file")));
                        continue;
                    }
                    match (joining.help, family.help.as_deref()) {
                        (Some(known), Some(help)) if known != help => {
                            refusals.push(conflict(format!("{name} has another help text in an earlier file")));
                        }
                        (None, Some(help)) => joining.help = Some(help),
                        _ => {}
                    }
                    joining.files.push(&file.path);
                    for sample in &family.samples {
                        if series.insert(parse::series_key(name, sample.suffix, &sample.labels)) {
                            joining.samples.push(sample);
                        } else {
                            let what = format!("a sample of {name}{} is in an earlier file too", sample.suffix);
                            refusals.push(conflict(what));
                        }
                    }
                }
            }
        }
        *merged = families.into_iter().map(Joining::joined).collect();
    }

    /// Finds the families that the agent has itself, in `out`.
    fn hide_own(&mut self, out: &Families) {
        self.hidden.clear();
        if self.merged.is_empty() {
            return;
        }
        let own: HashSet<&str> = out.iter().map(|family| &*family.head.name).collect();
        for family in &mut self.merged {
            let name = &*family.name;
            family.hidden = own.contains(name)
                || RESERVED_NAMES.contains(&name)
                || RESERVED.iter().any(|prefix| name.starts_with(prefix));
            if family.hidden {
                let what = format!("the family {name} of a text file is left out: the agent has one of that name");
                self.hidden.push(Refusal { reason: Reason::Conflict, what });
            }
        }
    }

    fn refused(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.iter().chain(&self.hidden)
    }

    /// Says in the log what is newly left out.
    fn tell(&mut self) {
        let mut now = BTreeSet::new();
        now.extend(self.refused().map(|refusal| refusal.what.clone()));
        for what in now.difference(&self.told) {
            warn!(collector = "textfile", "{what}");
        }
        self.told = now;
    }
}

/// A family while files are put together.
struct Joining<'a> {
    name: &'a str,
    kind: MetricType,
    help: Option<&'a str>,
    files: Vec<&'a Path>,
    samples: Vec<&'a ParsedSample>,
}

impl Joining<'_> {
    fn joined(self) -> Merged {
        let help = match self.help {
            Some(help) => help.to_owned(),
            // As node_exporter says it.
            None => {
                let files: Vec<_> = self.files.iter().map(|path| path.to_string_lossy()).collect();
                format!("Metric read from {}", files.join(", "))
            }
        };
        Merged {
            name: names::keep(self.name.to_owned()),
            help: names::keep(help),
            kind: self.kind,
            samples: self.samples.into_iter().cloned().collect(),
            hidden: false,
        }
    }
}

/// The directories that a path stands for; itself where it is no pattern, or finds none.
fn folders(path: &str) -> Vec<PathBuf> {
    let mut found = if glob::is_pattern(path) { glob::found(path) } else { Vec::new() };
    found.retain(|path| path.is_dir());
    if found.is_empty() { vec![path.into()] } else { found }
}

impl Collector for TextFiles {
    fn name(&self) -> &'static str {
        "textfile"
    }

    fn runs_last(&self) -> bool {
        true
    }

    fn begin(&mut self, pass: Pass) {
        self.pass = pass;
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut changed = self.pass == Pass::Interval && self.find_folders();
        for folder in &mut self.folders {
            changed |= folder.refresh(now, &self.settings);
        }
        if changed {
            self.merge();
        }
        if changed || self.pass == Pass::Interval {
            self.hide_own(out);
            self.tell();
        }
        for family in self.merged.iter().filter(|family| !family.hidden) {
            for part in family.samples.chunk_by(|a, b| a.suffix == b.suffix) {
                let suffix = part.first().map_or("", |sample| sample.suffix);
                out.part(family.name.clone(), suffix, family.help.clone(), family.kind);
                part.iter().for_each(|sample| out.push(&sample.labels, sample.value));
            }
        }
        out.gauge("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.");
        for file in self.folders.iter().flat_map(|folder| folder.files.asked()) {
            if let (Some(stamp), Ok(_)) = (&file.stamp, &file.content) {
                out.push(&file.labels, stamp.seconds as f64);
            }
        }
        let failed = self.refused().any(|refusal| refusal.reason != Reason::Stale);
        out.gauge("node_textfile_scrape_error", "1 if there was an error opening or reading a file, 0 otherwise");
        out.value(f64::from(failed));
        if !self.folders.is_empty() {
            out.gauge(
                "utilizer_textfile_refused",
                "Directories, files, families and samples of text files that are left out at the moment, by reason.",
            );
            for (reason, labels) in Reason::ALL.into_iter().zip(&self.reasons) {
                let count = self.refused().filter(|refusal| refusal.reason == reason).count();
                out.push(labels, count as f64);
            }
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        collector: TextFiles,
    }

    impl Bench {
        fn new(settings: Settings) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let directories = vec![dir.path().to_str().unwrap().to_owned()];
            Self { collector: TextFiles::new(&Settings { directories, ..settings }), dir }
        }

        fn write(&self, name: &str, text: &str) {
            // As the programs do that write such files.
            let new = self.dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.dir.path().join(name)).unwrap();
        }

        fn age(&self, name: &str, seconds: u64) {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            fs::File::options().write(true).open(self.dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }

        fn run_over(&mut self, mut out: Families, pass: Pass) -> Families {
            self.collector.begin(pass);
            self.collector.collect(&mut out).unwrap();
            out
        }

        fn run(&mut self) -> Families {
            self.run_over(Families::default(), Pass::Interval)
        }

        fn told(&self) -> String {
            let dir = format!("{}/", self.dir.path().display());
            self.collector.told.iter().map(|what| what.replace(&dir, "") + "\n").collect()
        }
    }

    fn refused(out: &Families, reason: &str) -> f64 {
        let all = out.samples("utilizer_textfile_refused");
        all.iter().find(|sample| sample.labels.get("reason") == Some(reason)).unwrap().value
    }

    fn text(out: &Families) -> String {
        let mut text = Vec::new();
        crate::exposition::encode(&[out], &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn without_a_directory_there_is_nothing_wrong() {
        let mut collector = TextFiles::new(&Settings::default());
        let mut out = Families::default();
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        assert_eq!(out.single("node_textfile_scrape_error"), Some(0.0));
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn files_are_shown_and_read_again_when_they_change() {
        let mut bench = Bench::new(Settings::default());
        bench
            .write("a.prom", "# HELP backup_age_seconds Age.\n# TYPE backup_age_seconds gauge\nbackup_age_seconds 7\n");
        bench.write("b.prom", "plain 1\n");
        bench.write("other.txt", "garbage");
        let out = bench.run();
        assert_eq!(out.single("backup_age_seconds"), Some(7.0));
        assert_eq!(out.samples("node_textfile_mtime_seconds").len(), 2);
        assert_eq!(out.single("node_textfile_scrape_error"), Some(0.0));
        let help = format!("Metric read from {}/b.prom", bench.dir.path().display());
        assert_eq!(out.iter().find(|f| f.head.name == "plain").unwrap().head.help, help);

        bench.write("b.prom", "plain 12\n");
        fs::remove_file(bench.dir.path().join("a.prom")).unwrap();
        // A scrape reads them too.
        let out = bench.run_over(Families::default(), Pass::Scrape);
        assert_eq!(out.single("plain"), Some(12.0));
        assert_eq!(out.single("backup_age_seconds"), None);
        assert_eq!(out.samples("node_textfile_mtime_seconds").len(), 1);
        // And nothing is left of a directory that goes away, but the error.
        fs::remove_file(bench.dir.path().join("b.prom")).unwrap();
        fs::remove_file(bench.dir.path().join("other.txt")).unwrap();
        fs::remove_dir(bench.dir.path()).unwrap();
        let out = bench.run();
        assert_eq!((out.single("plain"), out.single("node_textfile_scrape_error")), (None, Some(1.0)));
        assert_eq!(refused(&out, "unreadable"), 1.0);
    }

    #[test]
    fn a_broken_file_costs_itself_only_and_is_told_once() {
        let mut bench = Bench::new(Settings::default());
        bench.write("good.prom", "good 1\n");
        bench.write("bad.prom", "bad 1\nbad 2\n");
        fs::create_dir(bench.dir.path().join("folder.prom")).unwrap();
        for _ in 0..2 {
            let out = bench.run();
            assert_eq!((out.single("good"), out.single("bad")), (Some(1.0), None));
            assert_eq!(out.single("node_textfile_scrape_error"), Some(1.0));
            assert_eq!((refused(&out, "malformed"), refused(&out, "unreadable")), (1.0, 1.0));
            assert_eq!(out.samples("node_textfile_mtime_seconds").len(), 1);
        }
        assert_eq!(
            bench.told(),
            "bad.prom: line 2: a second sample of bad with the same labels\nfolder.prom is no regular file\n"
        );
        bench.write("bad.prom", "bad 1\n");
        fs::remove_dir(bench.dir.path().join("folder.prom")).unwrap();
        assert_eq!(bench.run().single("node_textfile_scrape_error"), Some(0.0));
        assert_eq!(bench.told(), "");
    }

    #[test]
    fn files_that_do_not_agree_lose_to_the_first() {
        let mut bench = Bench::new(Settings::default());
        bench.write("a.prom", "# HELP x One.\n# TYPE x gauge\nx{a=\"1\"} 1\ny 1\nz 1\n");
        bench.write(
            "b.prom",
            "# HELP x Two.\n# TYPE x gauge\nx{a=\"2\"} 2\n# TYPE y counter\ny{a=\"1\"} 2\nz{a=\"\"} 2\n",
        );
        let out = bench.run();
        let values = |name| out.samples(name).iter().map(|sample| sample.value).collect::<Vec<_>>();
        assert_eq!((values("x"), values("y"), values("z")), (vec![1.0, 2.0], vec![1.0], vec![1.0]));
        assert!(out.iter().filter(|f| f.head.name == "x").all(|f| f.head.help == "One."));
        assert_eq!((refused(&out, "conflict"), out.single("node_textfile_scrape_error")), (3.0, Some(1.0)));
        assert_eq!(
            bench.told(),
            "b.prom: a sample of z is in an earlier file too\nb.prom: x has another help text in an earlier file\n\
             b.prom: y has another type in an earlier file\n"
        );
    }

    #[test]
    fn the_agents_own_families_stay_its_own() {
        let mut bench = Bench::new(Settings::default());
        bench.write("a.prom", "node_load1 99\nutilizer_x 1\nprocess_cpu_seconds_total 1\nprocess_other 1\n");
        let own = || {
            let mut own = Families::default();
            own.gauge("node_load1", "1m load average.");
            own.value(0.5);
            own
        };
        let out = bench.run_over(own(), Pass::Interval);
        assert_eq!(out.single("node_load1"), Some(0.5));
        assert_eq!(out.single("process_other"), Some(1.0));
        assert!(out.samples("utilizer_x").is_empty() && out.samples("process_cpu_seconds_total").is_empty());
        assert_eq!(refused(&out, "conflict"), 3.0);
        // Where its collector is switched off, a file may have the name.
        assert_eq!(bench.run().single("node_load1"), Some(99.0));
    }

    #[test]
    fn histograms_and_summaries_come_out_as_they_went_in() {
        let mut bench = Bench::new(Settings::default());
        let written = concat!(
            "# HELP d_seconds Durations.\n# TYPE d_seconds histogram\nd_seconds_bucket{job=\"a\",le=\"1\"} 1\n",
            "d_seconds_bucket{job=\"a\",le=\"+Inf\"} 2\nd_seconds_sum{job=\"a\"} 3.5\nd_seconds_count{job=\"a\"} 2\n",
            "d_seconds_bucket{job=\"b\",le=\"+Inf\"} 0\nd_seconds_sum{job=\"b\"} 0\nd_seconds_count{job=\"b\"} 0\n",
            "# HELP q Say \\\\ and \\n.\n# TYPE q summary\nq{quantile=\"0.5\"} NaN\nq_sum 0\nq_count 0\n",
        );
        bench.write("a.prom", written);
        let out = text(&bench.run());
        let without_ours: String = out.split("# HELP node_").next().unwrap().to_owned();
        let rest: String = out.split_inclusive('\n').skip_while(|line| !line.contains(" q ")).collect();
        assert_eq!(without_ours + rest.split("# HELP utilizer_").next().unwrap(), written);
    }

    #[test]
    fn old_files_are_left_out_where_that_is_asked_for() {
        let mut bench = Bench::new(Settings { stale_after: Duration::from_secs(60), ..Settings::default() });
        bench.write("a.prom", "a 1\n");
        bench.age("a.prom", 30);
        assert_eq!(bench.run().single("a"), Some(1.0));
        bench.age("a.prom", 90);
        let out = bench.run();
        assert_eq!((out.single("a"), out.single("node_textfile_scrape_error")), (None, Some(0.0)));
        assert_eq!((refused(&out, "stale"), out.samples("node_textfile_mtime_seconds").len()), (1.0, 1));
        bench.write("a.prom", "a 2\n");
        assert_eq!(bench.run().single("a"), Some(2.0));

        let mut bench = Bench::new(Settings::default());
        bench.write("a.prom", "a 1\n");
        bench.age("a.prom", 90_000_000);
        assert_eq!(bench.run().single("a"), Some(1.0), "off by default");
    }

    #[test]
    fn size_and_samples_are_bounded() {
        let mut bench = Bench::new(Settings { max_file_size: 40, max_samples: 3, ..Settings::default() });
        bench.write("a.prom", "a 1\na{x=\"1\"} 1\n");
        bench.write("b.prom", "b 1\nb{x=\"1\"} 1\n");
        bench.write("c.prom", "c 1\n");
        bench.write("d.prom", &format!("# {}\nd 1\n", "x".repeat(40)));
        let out = bench.run();
        let found: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| out.samples(name).len()).collect();
        assert_eq!(found, [2, 0, 1, 0]);
        assert_eq!(refused(&out, "too_large"), 2.0);
        assert!(bench.told().contains("b.prom is left out: with its 2 samples"), "{}", bench.told());
        assert!(bench.told().contains("d.prom has 47 bytes"), "{}", bench.told());
    }

    #[test]
    fn directories_may_be_patterns() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["one", "two", "three/deep"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("m.prom"), format!("m{{d=\"{folder}\"}} 1\n")).unwrap();
        }
        fs::write(dir.path().join("t_file"), "").unwrap();
        let found = |pattern: &str| {
            let directories = vec![format!("{}/{pattern}", dir.path().display())];
            let mut collector = TextFiles::new(&Settings { directories, ..Settings::default() });
            let mut out = Families::default();
            collector.collect(&mut out).unwrap();
            out.samples("m").iter().map(|s| s.labels.get("d").unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found("*"), ["one", "two"]);
        assert_eq!(found("t*/d?ep"), ["three/deep"]);
        assert_eq!(found("tw?"), ["two"]);
        assert!(found("x*").is_empty());
    }

    #[test]
    fn a_pipe_is_not_opened() {
        let mut bench = Bench::new(Settings::default());
        let path = bench.dir.path().join("p.prom");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(refused(&bench.run(), "unreadable"), 1.0);
    }
}
