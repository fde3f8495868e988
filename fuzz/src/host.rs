//! The collectors over a copy of the frozen host, one file of which is the fuzzer's.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use utilizer_agent::collectors::{self, CATALOGUE, Collector, CollectorSettings, PROCESSES, Pass};
use utilizer_agent::exposition::{self, Choice, Format};
use utilizer_agent::host::HostRoot;
use utilizer_agent::processes::SharedTable;
use utilizer_agent::snapshot::Families;

use crate::Target;

/// Passes until everything that answers late has answered.
const WARM: u32 = 5;

/// A tree and its collectors. The processes' table is asked for the busiest, as the sampler does.
struct Host {
    tree: tempfile::TempDir,
    collectors: Vec<Box<dyn Collector>>,
    table: SharedTable,
    out: Families,
    text: Vec<u8>,
}

impl Host {
    fn new() -> Self {
        let tree = tempfile::Builder::new().prefix("utilizer-fuzz").tempdir().expect("a temporary folder");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/tests/fixtures/host"), tree.path());
        let (collectors, table) = collectors_of(tree.path());
        let mut host = Self { tree, collectors, table, out: Families::default(), text: Vec::new() };
        for _ in 0..WARM {
            host.pass();
            std::thread::sleep(Duration::from_millis(20));
        }
        host
    }

    /// Runs all collectors, without the registry that would catch a panic.
    fn pass(&mut self) {
        self.out.clear();
        for collector in &mut self.collectors {
            collector.begin(Pass::Interval);
            let mark = self.out.mark();
            if let Err(error) = collector.collect(&mut self.out) {
                self.out.truncate(mark);
                assert!(!error.to_string().is_empty());
            }
        }
        let _ = self.table.lock().top(Some(1e9));
        for format in [Format::Classic, Format::OpenMetrics] {
            exposition::encode_as(format, Choice::All, &[&self.out], &mut self.text);
            assert!(std::str::from_utf8(&self.text).is_ok(), "the text is not UTF-8");
        }
    }

    /// What each collector makes of the tree, without values: they change by themselves.
    fn shapes(&mut self) -> Vec<String> {
        let table = &self.table;
        let shape = |collector: &mut Box<dyn Collector>| {
            let mut out = Families::default();
            collector.begin(Pass::Interval);
            let outcome = collector.collect(&mut out).map_err(|error| error.to_string());
            let series = out.iter().flat_map(|family| {
                family.samples.iter().map(|sample| format!("{}{:?}", family.head.name, sample.labels))
            });
            // What the processes' files say stands in the list of the busiest.
            let top = (collector.name() == PROCESSES).then(|| table.lock().top(Some(1e9)));
            format!("{outcome:?} {} {top:?}", series.collect::<String>())
        };
        self.collectors.iter_mut().map(shape).collect()
    }

    /// Keeps only the collectors for which it makes a difference what stands in the file.
    fn keep_readers_of(&mut self, path: &Path) {
        let whole = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let before = self.shapes();
        fs::write(path, b"\xff\x00 no such text\n").expect("the copy can be written");
        let after = self.shapes();
        fs::write(path, whole).expect("the copy can be written");
        let mut changed = before.iter().zip(&after).map(|(before, after)| before != after);
        self.collectors.retain(|_| changed.next().unwrap_or(false));
        let names: Vec<_> = self.collectors.iter().map(|collector| collector.name()).collect();
        assert!(!names.is_empty(), "no collector reads {}", path.display());
        eprintln!("{} is read by {names:?}", path.display());
    }
}

/// All collectors, over this tree.
fn collectors_of(tree: &Path) -> (Vec<Box<dyn Collector>>, SharedTable) {
    let below = |name| tree.join(name);
    let host = HostRoot { proc: below("proc"), sys: below("sys"), root: below("root"), udev: below("udev") };
    let enable = CATALOGUE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut settings = CollectorSettings { enable, ..CollectorSettings::default() };
    settings.processes.thread_states = true;
    settings.bcache.priority_stats = true;
    let table = SharedTable::new(&host, &settings.processes);
    (collectors::all_over(&host, &settings, &table), table)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder below a temporary one");
    for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let entry = entry.expect("an entry of the frozen host");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            let target = fs::read_link(&path).expect("a link's target");
            std::os::unix::fs::symlink(target, to).expect("a link below a temporary folder");
        } else if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

/// Puts the bytes where the collectors, which keep files open, find them.
fn put(file: &File, data: &[u8]) {
    file.set_len(0).expect("the copy can be cut");
    file.write_all_at(data, 0).expect("the copy can be written");
}

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn one_file(path: &str) -> Target {
    let mut host = Host::new();
    let path = host.tree.path().join(path);
    host.keep_readers_of(&path);
    let file = open(&path);
    Box::new(move |data| {
        put(&file, data);
        host.pass();
    })
}

pub(crate) fn at_first_sight(path: &str, collector: &'static str) -> Target {
    let host = Host::new();
    let file = open(&host.tree.path().join(path));
    Box::new(move |data| {
        put(&file, data);
        let (mut collectors, table) = collectors_of(host.tree.path());
        collectors.retain(|known| known.name() == collector);
        let mut out = Families::default();
        // Shares, and with them the list of processes, are there from the second pass on.
        for _ in 0..2 {
            out.clear();
            for collector in &mut collectors {
                collector.begin(Pass::Interval);
                if let Err(error) = collector.collect(&mut out) {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
        let top = table.lock().top(Some(1e9));
        assert!(collector != PROCESSES || top.is_some_and(|top| !top.is_empty()), "no process is listed");
    })
}

pub(crate) fn any_file() -> Target {
    let mut host = Host::new();
    let mut files = Vec::new();
    list(host.tree.path(), &mut files);
    files.sort();
    Box::new(move |data| {
        let [first, second, rest @ ..] = data else { return };
        let path = &files[usize::from(u16::from_le_bytes([*first, *second])) % files.len()];
        let whole = fs::read(path).expect("the copy can be read");
        let file = open(path);
        put(&file, rest);
        host.pass();
        put(&file, &whole);
    })
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the copy can be listed") {
        let entry = entry.expect("an entry of the copy");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}
