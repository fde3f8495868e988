//! A drill for log files: a program writes numbered lines while its file is renamed, copied and cut, compressed and deleted, and
//! while the agent is killed; then each line is looked up in an exporter's store.
//!
//! `utilizer-drill-logs --seconds 600 --rate 20000 --seed 7`. With `--window` it measures instead what `copytruncate` itself
//! loses, when a program writes between copying and cutting. Exit code 0: each line is there exactly once.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its report is what it is run for")]
#![allow(clippy::unwrap_used, reason = "it is a test, and whatever fails ends it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use test_servers::{Mosquitto, Program};

#[derive(Debug, Clone, Copy)]
struct Arguments {
    seconds: u64,
    /// Lines a second.
    rate: u64,
    seed: u64,
    window: bool,
}

fn main() -> ExitCode {
    match arguments() {
        Ok(arguments) => ExitCode::from(u8::from(!if arguments.window { window(arguments) } else { drill(arguments) })),
        Err(error) => {
            eprintln!("utilizer-drill-logs: {error}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { seconds: 60, rate: 20_000, seed: 1, window: false };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut number = || given.next().and_then(|text| text.parse().ok()).ok_or(format!("{name} needs a number"));
        match name.as_str() {
            "--seconds" => arguments.seconds = number()?,
            "--rate" => arguments.rate = number()?,
            "--seed" => arguments.seed = number()?,
            "--window" => arguments.window = true,
            _ => return Err(format!("{name} is unknown; there are --seconds N, --rate N, --seed N, --window")),
        }
    }
    Ok(arguments)
}

/// Numbers that look random and are the same in each run of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Generations of a file that are kept: more than come in the time that an agent on a busy machine is behind. What is deleted
/// before it was read is gone, whoever reads.
const GENERATIONS: u32 = 50;

/// A program that logs, and what rotates its file, one after the other: only so is it known what was in the file when.
struct Writer {
    path: PathBuf,
    file: File,
    written: u64,
    random: Random,
    done: BTreeMap<&'static str, u64>,
    /// What was done before which line, for a reader of the report.
    marks: Vec<(String, u64)>,
}

impl Writer {
    fn open(path: &Path) -> File {
        OpenOptions::new().create(true).append(true).open(path).unwrap()
    }

    fn new(path: &Path, seed: u64) -> Self {
        let file = Self::open(path);
        Self { path: path.to_owned(), file, written: 0, random: Random(seed), done: BTreeMap::new(), marks: Vec::new() }
    }

    fn generation(&self, number: u32, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}.{number}{ending}", self.path.display()))
    }

    fn lines(&mut self, count: u64) {
        let mut text = String::new();
        for _ in 0..count {
            self.written += 1;
            writeln!(text, "{:08} a line of a program that has much to say about what it does", self.written).unwrap();
        }
        // In two writes, so that a line is sometimes seen without its end.
        let (first, second) = text.as_bytes().split_at(text.len() * self.random.below(100) as usize / 100);
        self.file.write_all(first).unwrap();
        self.file.write_all(second).unwrap();
    }

    /// Everything one number up, as logrotate does; the oldest is deleted.
    fn shift(&self) {
        for ending in ["", ".gz"] {
            let _ = fs::remove_file(self.generation(GENERATIONS, ending));
        }
        for number in (1..GENERATIONS).rev() {
            for ending in ["", ".gz"] {
                let _ = fs::rename(self.generation(number, ending), self.generation(number + 1, ending));
            }
        }
    }

    fn rotate(&mut self) {
        self.shift();
        let what = match self.random.below(4) {
            0 => {
                fs::copy(&self.path, self.generation(1, "")).unwrap();
                self.file.set_len(0).unwrap();
                "copied and cut"
            }
            1 => {
                fs::copy(&self.path, self.generation(1, "")).unwrap();
                self.file.set_len(0).unwrap();
                self.compress();
                "copied, cut and compressed"
            }
            2 => {
                fs::rename(&self.path, self.generation(1, "")).unwrap();
                self.file = Self::open(&self.path);
                self.compress();
                "renamed and compressed"
            }
            _ => {
                fs::rename(&self.path, self.generation(1, "")).unwrap();
                self.file = Self::open(&self.path);
                "renamed"
            }
        };
        *self.done.entry(what).or_default() += 1;
        self.marks.push((format!("{what} before line {}", self.written + 1), self.written));
    }

    fn compress(&self) {
        let status = Command::new("gzip").arg("-1").arg(self.generation(1, "")).status().expect("gzip is there");
        assert!(status.success());
    }
}

struct Ground {
    _broker: Mosquitto,
    folder: tempfile::TempDir,
}

impl Ground {
    fn new(pattern: &str) -> Self {
        let (broker, folder) = (Mosquitto::start("max_queued_messages 0"), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "host = \"h\"\ninterval = \"1h\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nurl = \"{}\"\n[spool]\ndirectory = \
             \"{}\"\nretry_after = \"1s\"\nconfirm_by = [\"sqlite\"]\n[[logs]]\nname = \"drill\"\nfiles = [\"{}\"]\nformat = \
             \"plain\"\n",
            broker.url(),
            path("spool"),
            path(pattern)
        );
        fs::write(folder.path().join("agent.toml"), config).unwrap();
        let exporter = format!(
            "state_dir = \"{}\"\n[mqtt]\nurl = \"{}\"\nmember = \"sqlite-1\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[sqlite]\npath = \
             \"{}\"\n[confirm]\nevery = \"300ms\"\n[batch]\nmax_age = \"50ms\"\n",
            path("exporter"),
            broker.url(),
            path("store.db")
        );
        fs::write(folder.path().join("exporter.toml"), exporter).unwrap();
        Self { _broker: broker, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, program: &str, config: &str) -> Program {
        let own = std::env::current_exe().unwrap();
        let path = own.parent().unwrap_or(&own).join(program);
        assert!(path.exists(), "{} is missing: cargo build --workspace --all-features --bins", path.display());
        Program::start(&path, &["--config", &self.path(config).display().to_string()], &[])
    }

    fn sql(&self, query: &str) -> String {
        // Python's own SQLite, which is not the exporter's.
        let code = "import sqlite3, sys\nfor row in sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True, timeout=20).execute(\
                    sys.argv[2]): print(row[0])";
        let output = Command::new("python3").args(["-c", code]).arg(self.path("store.db")).arg(query).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// How often each number is in the store.
    fn stored(&self) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        for message in self.sql("SELECT substr(message, 1, 9) FROM logs").lines() {
            let number = message.split(' ').next().and_then(|number| number.parse().ok());
            // A file that is cut within a line has the rest of that line.
            if let Some(number) = number {
                *counts.entry(number).or_default() += 1;
            }
        }
        counts
    }

    fn count(&self) -> u64 {
        self.sql("SELECT count(*) FROM logs").trim().parse().unwrap_or(0)
    }

    /// Waits until all are there, or nothing has come for a while.
    fn settle(&self, wanted: u64) -> BTreeMap<u64, u64> {
        let (mut count, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_secs(if count < wanted { 30 } else { 2 }) {
            let now = self.count();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            thread::sleep(Duration::from_millis(500));
        }
        self.stored()
    }
}

fn drill(Arguments { seconds, rate, seed, .. }: Arguments) -> bool {
    let ground = Ground::new("app.log");
    let _exporter = ground.start("utilizer-exporter-sqlite", "exporter.toml");
    let mut random = Random(seed);
    let end = Arc::new(AtomicBool::new(false));
    let (ended, path) = (end.clone(), ground.path("app.log"));
    let writing = thread::spawn(move || {
        let mut writer = Writer::new(&path, seed);
        let (begun, mut rotate) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        while !ended.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            writer.lines(due.saturating_sub(writer.written).min(rate));
            if Instant::now() >= rotate {
                writer.rotate();
                rotate = Instant::now() + Duration::from_millis(300 + writer.random.below(1500));
            }
            thread::sleep(Duration::from_millis(5));
        }
        // What comes last has its end.
        writer.lines(1);
        (writer.written, writer.done, writer.marks)
    });
    let (mut kills, mut logs) = (0, Vec::new());
    let mut agent = ground.start("utilizer-agent", "agent.toml");
    // Of a file that was rotated away before it was ever seen, nobody knows that it was meant.
    while ground.count() == 0 {
        thread::sleep(Duration::from_millis(100));
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_millis(100 + random.below(1500)));
        agent.signal(Signal::KILL);
        logs.push(agent.log());
        drop(agent);
        kills += 1;
        thread::sleep(Duration::from_millis(random.below(800)));
        agent = ground.start("utilizer-agent", "agent.toml");
    }
    end.store(true, Ordering::Relaxed);
    let (written, done, marks) = writing.join().unwrap();
    let stored = ground.settle(written);
    let missing: Vec<u64> = (1..=written).filter(|number| !stored.contains_key(number)).collect();
    let double: Vec<u64> = stored.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number).collect();
    println!(
        "seed {seed}: {written} lines, {kills} kills, {done:?}: {} missing, {} more than once",
        missing.len(),
        double.len()
    );
    let clean = missing.is_empty() && double.is_empty();
    if !clean {
        println!("missing:{}; more than once:{}", ranges(&missing), ranges(&double));
        let first = missing.iter().chain(&double).take(3);
        for number in first {
            println!(
                "{}",
                marks.iter().rev().find(|(_, written)| written < number).map_or("", |(what, _)| what.as_str())
            );
        }
        logs.iter().for_each(|log| println!("{log}"));
        println!("{}", agent.log());
    }
    clean && stored.len() as u64 == written
}

/// Numbers that follow each other, in short.
fn ranges(numbers: &[u64]) -> String {
    let mut text = String::new();
    let mut numbers = numbers.iter().copied().peekable();
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if_eq(&(last + 1)) {
            last = next;
        }
        write!(text, " {first}-{last}").unwrap();
    }
    text
}

/// logrotate copies and cuts in two steps; what is written between them is in neither file, whoever reads them.
fn window(Arguments { rate, .. }: Arguments) -> bool {
    let rounds = 20;
    let ground = Ground::new("app.log");
    let _exporter = ground.start("utilizer-exporter-sqlite", "exporter.toml");
    let _agent = ground.start("utilizer-agent", "agent.toml");
    let end = Arc::new(AtomicBool::new(false));
    let (ended, path) = (end.clone(), ground.path("app.log"));
    let writing = thread::spawn(move || {
        let mut writer = Writer::new(&path, 1);
        let begun = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            writer.lines(due.saturating_sub(writer.written).min(rate));
            thread::sleep(Duration::from_millis(1));
        }
        writer.written
    });
    let path = ground.path("app.log");
    let mut kept = Vec::new();
    for round in 0..rounds {
        thread::sleep(Duration::from_millis(700));
        let copy = ground.path(&format!("app.log.{round}"));
        assert!(Command::new("cp").arg(&path).arg(&copy).status().unwrap().success());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        kept.push(copy);
    }
    thread::sleep(Duration::from_millis(700));
    end.store(true, Ordering::Relaxed);
    let written = writing.join().unwrap();
    kept.push(path);
    let stored = ground.settle(written);
    let mut in_files = BTreeSet::new();
    for path in kept {
        let text = fs::read_to_string(path).unwrap();
        in_files.extend(text.lines().filter_map(|line| line.split(' ').next()?.parse::<u64>().ok()));
    }
    let in_no_file = (1..=written).filter(|number| !in_files.contains(number)).count();
    let missing = (1..=written).filter(|number| !stored.contains_key(number)).count();
    let unread = in_files.iter().filter(|number| !stored.contains_key(number)).count();
    let double = stored.values().filter(|count| **count > 1).count();
    println!(
        "{written} lines at {rate} a second, copied and cut {rounds} times: {in_no_file} are in no file, {missing} were not \
         sent, {unread} of those that are in a file; {double} more than once"
    );
    unread == 0 && double == 0
}
