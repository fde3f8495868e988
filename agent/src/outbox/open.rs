//! Opening the spool: where it is, what an earlier run left in it.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use delivery::Sender;
use delivery::sender::{DiskState, Settings, Timing};
use serde::{Deserialize, Deserializer, Serialize};
use spool::{Log, Options, ReadError, Reserve, state};
use tokio::sync::Notify;
use tracing::{info, warn};
use wire::{BootId, HostName, Kind};

use super::audit::{AUDIT, Audit};
use super::halve::{HALVED, Halving};
use super::keeper::{Bell, Keeper, Keeping, STATE};
use super::positions::Positions;
use super::shelf::Shelf;
use super::{MAX_RECORD, Outbox, Post};
use crate::config::{DEFAULT_SPOOL, Spool};
use ::rules::order;

/// The file that says whose records stand where.
const RUNS: &str = "runs";

/// Room for the small files when the disk is full.
const RESERVE: u64 = 256 << 10;

/// Bound of a spool in a temporary folder, which may be in memory.
const TEMPORARY_BYTES: u64 = 16 << 20;

/// Beginning of a temporary spool's name; the run's id follows.
const TEMPORARY: &str = "utilizer-spool-";

/// Beginning of the names of folders with another host's records.
const ASIDE: &str = "of-";

/// A temporary folder that is younger may be one that an agent is about to lock.
const YOUNG: Duration = Duration::from_secs(60);

/// The spool can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A log in it.
    #[error("the spool: {0}")]
    Log(#[from] spool::OpenError),
    /// Its folder, or a file of its own.
    #[error("the spool: can't use {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl OpenError {
    /// Whether the folder was asked for and is no good: another one has to be configured.
    pub fn is_configuration(&self, spool: &Spool) -> bool {
        spool.directory != Path::new(DEFAULT_SPOOL) || matches!(self, Self::Log(spool::OpenError::Locked(_)))
    }
}

/// Which runs of the agent made the records of each kind: the index of the first record of each run, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Runs {
    host: Option<HostName>,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Run {
    boot: BootId,
    #[serde(deserialize_with = "known_kinds")]
    first: BTreeMap<Kind, u64>,
}

/// A later version may have written it.
pub(super) fn known_kinds<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Kind, u64>, D::Error> {
    let all = BTreeMap::<String, u64>::deserialize(from)?;
    Ok(all.into_iter().filter_map(|(kind, first)| Some((kind.parse().ok()?, first))).collect())
}

/// Opens the spool of a configuration for a run of the agent. A folder that was configured is used or nothing is; in place of
/// the default one, which an agent started by hand may not write, the user's own serves, and a temporary one in the end.
pub fn open(spool: &Spool, host: &HostName, boot: BootId) -> Result<(Post, Keeping), OpenError> {
    remove_leftovers(&std::env::temp_dir(), YOUNG);
    let first = open_in(&spool.directory, spool, host, boot.clone());
    let error = match first {
        Err(error) if !error.is_configuration(spool) => error,
        result => return result,
    };
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    if let Some(own) = own.map(|own| own.join("utilizer/spool")) {
        match open_in(&own, spool, host, boot.clone()) {
            Err(OpenError::Io { .. } | OpenError::Log(spool::OpenError::Io { .. })) => {}
            opened => {
                warn!("{error}; the spool is in {} instead: `spool.directory` chooses", own.display());
                return opened;
            }
        }
    }
    let temporary = std::env::temp_dir().join(format!("{TEMPORARY}{boot}"));
    let bounded = Spool { max_bytes: spool.max_bytes.min(TEMPORARY_BYTES), ..spool.clone() };
    let (post, mut keeping) = open_in(&temporary, &bounded, host, boot)?;
    keeping.temporary = Some(temporary.clone());
    warn!(
        "{error}; records wait in {} and are lost with this run of the agent: set `spool.directory` to a folder that it may \
         write",
        temporary.display()
    );
    Ok((post, keeping))
}

fn open_in(dir: &Path, spool: &Spool, host: &HostName, boot: BootId) -> Result<(Post, Keeping), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    make_dir(dir).map_err(io)?;
    let lock = lock(dir)?;
    say_aside(dir);
    let reserve = Reserve::take(dir, RESERVE).map_err(io)?;
    let mut known = read_json::<Runs>(dir, RUNS).map_err(io)?;
    if let Some(other) = known.as_ref().and_then(|runs| runs.host.clone()).filter(|other| other != host) {
        set_aside(dir, &other).map_err(io)?;
        warn!(
            "the records of the host {other} that wait in {} are set aside: they can't be sent as {host}",
            dir.display()
        );
        known = None;
    }
    let options = Options {
        segment_bytes: (spool.max_bytes / 32).clamp(64 << 10, 4 << 20),
        reserve_bytes: 0,
        max_record: MAX_RECORD,
    };
    let mut logs = Vec::new();
    let mut damaged = Vec::new();
    for kind in Kind::ALL {
        let (log, recovered) = Log::open(&dir.join(kind.as_str()), options)?;
        if recovered.torn_bytes > 0 {
            info!("the spool of {kind} ended in an unfinished record of {} bytes: it is cut off", recovered.torn_bytes);
        }
        for bad in recovered.bad_segments {
            warn!("{} is damaged: {kind} records are lost, and declared so", bad.path.display());
            damaged.push((kind, bad.from, bad.to));
        }
        logs.push((kind, log));
    }
    // Only a spool that is taken is looked at: another process changes its own.
    let disk = read_json::<DiskState>(dir, STATE).map_err(io)?;
    let earlier = logs.iter().any(|(_, log)| log.first() < log.next());
    if disk.is_none() && earlier && known.is_some() {
        warn!("which groups wait for the records in {} is not known any more", dir.display());
    }
    let known = match known {
        Some(known) => known,
        None if earlier => runs_by_reading(&logs),
        None => Runs::default(),
    };
    let shelves: Vec<Shelf> = logs
        .into_iter()
        .map(|(kind, log)| {
            let runs = known.runs.iter().filter_map(|run| Some((run.boot.clone(), *run.first.get(&kind)?)));
            Shelf::new(kind, log, runs.collect(), &boot)
        })
        .collect();
    write_runs(dir, host, &known, &shelves, &boot, &reserve).map_err(io)?;
    let halved = read_json(dir, HALVED).map_err(io)?;
    let halving = Halving::open(halved, &shelves, |text| reserve.spend(|| state::write(dir, HALVED, text)));
    let halving = halving.map_err(io)?;
    let audit = Audit::open(read_json(dir, AUDIT).map_err(io)?, &shelves[Kind::Logs as usize].log, host, &boot);

    let positions = match shelves.get(Kind::Logs as usize) {
        Some(shelf) => Positions::open(dir, &shelf.log, &reserve).map_err(io)?,
        None => Positions::default(),
    };

    let settings = Settings {
        timing: Timing::scaled(spool.retry_after),
        confirm_by: spool.confirm_by.clone(),
        backlog_rate: spool.backlog_rate,
        seed: seed(&boot),
    };
    let mut sender = Sender::new(&settings, boot.clone(), disk.unwrap_or_default());
    let boots: Vec<&BootId> = known.runs.iter().map(|run| &run.boot).collect();
    let mut restored: Vec<(usize, BootId, Kind, u64, u64)> = Vec::new();
    for shelf in &shelves {
        if let Some(last) = shelf.log.next().checked_sub(1).filter(|last| shelf.log.first() <= *last) {
            for (of, from, to) in shelf.seqs(shelf.log.first(), last) {
                let age = boots.iter().position(|known| **known == of).unwrap_or(0);
                restored.push((age, of, shelf.kind, from, to));
            }
        }
    }
    order::sort_by(&mut restored, &|a, b| a.0.cmp(&b.0));
    restored.iter().for_each(|(_, of, kind, from, to)| sender.restored(of, *kind, *from, *to));
    let waiting: u64 = restored.iter().map(|(.., from, to)| to - from + 1).sum();
    if waiting > 0 {
        info!("{waiting} records of earlier runs wait in {}", dir.display());
    }
    let mut outbox = Outbox {
        host: host.clone(),
        boot,
        began: Instant::now(),
        max_bytes: spool.max_bytes,
        max_age: spool.max_age,
        shelves,
        sender,
        counts: Default::default(),
        pressed: None,
        missing: Vec::new(),
        to_halve: Vec::new(),
        unreadable: None,
        turned_away: None,
        gone: None,
        positions,
        audit,
    };
    damaged.into_iter().for_each(|(kind, from, to)| outbox.missing(kind, from, to));
    halving.apply(&mut outbox);
    let post =
        Post { outbox: Arc::new(Mutex::new(outbox)), wake: Arc::new(Notify::new()), bell: Arc::new(Bell::default()) };
    post.bell.ring();
    let keeping = Keeper::new(post.clone(), dir.to_owned(), reserve, halving).spawn(lock).map_err(io)?;
    Ok((post, keeping))
}

/// Jitter has to differ from host to host.
fn seed(boot: &BootId) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    boot.hash(&mut hasher);
    hasher.finish()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    // What is spooled may be anybody's log lines.
    std::os::unix::fs::DirBuilderExt::mode(fs::DirBuilder::new().recursive(true), 0o700).create(dir)
}

/// Nobody else uses the folder for as long as this is there.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let file = File::options().write(true).create(true).truncate(false).open(dir.join("lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(spool::OpenError::Locked(dir.to_owned()).into()),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// A state; one that is damaged counts as none, with a warning.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    let bytes = match state::read(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            warn!("{error}: what it said is found out anew");
            return Ok(None);
        }
        bytes => bytes?,
    };
    Ok(bytes.and_then(|bytes| {
        serde_json::from_slice(&bytes).map_err(|error| warn!("{name}.state in {}: {error}", dir.display())).ok()
    }))
}

/// Removes temporary spools of ours whose run ended without removing its own: what was in them is lost with their run.
pub(super) fn remove_leftovers(temporary: &Path, young: Duration) {
    let own = rustix::process::geteuid().as_raw();
    for path in named(temporary, TEMPORARY) {
        // Not through a link that somebody else put there.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let old = found.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= young));
        if !found.is_dir() || found.uid() != own || !old {
            continue;
        }
        // For as long as its agent runs, it has the lock.
        let lock = File::options().write(true).open(path.join("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) && fs::remove_dir_all(&path).is_ok() {
            info!("removed {}, which an agent left that ended by force", path.display());
        }
    }
}

/// Says what lies here for nobody.
fn say_aside(dir: &Path) {
    for path in named(dir, ASIDE) {
        warn!(
            "{} holds {} bytes of records of another host name, which nobody sends: remove it when they are not wanted",
            path.display(),
            bytes_below(&path)
        );
    }
}

fn named(dir: &Path, beginning: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(move |entry| entry.file_name().to_string_lossy().starts_with(beginning)).map(|entry| entry.path())
}

/// Bytes of the files in a folder and in those in it.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// Moves everything of another host name into a folder of its own. One that is there from an earlier change of the name stays
/// as it is.
fn set_aside(dir: &Path, host: &HostName) -> io::Result<()> {
    let names = std::iter::once(format!("{ASIDE}{host}")).chain((2u32..).map(|again| format!("{ASIDE}{host}.{again}")));
    let taken = |aside: &PathBuf| aside.join(format!("{RUNS}.state")).exists();
    let Some(aside) = names.map(|name| dir.join(name)).find(|aside| !taken(aside)) else { return Ok(()) };
    make_dir(&aside)?;
    // What tells whose they are goes last, so that a crash in between leaves the same to do.
    let states = [STATE, HALVED, AUDIT, RUNS].map(|name| format!("{name}.state"));
    for name in Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).chain(states) {
        match fs::rename(dir.join(&name), aside.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Writes down where the present run begins, before it appends anything.
fn write_runs(
    dir: &Path,
    host: &HostName,
    known: &Runs,
    shelves: &[Shelf],
    boot: &BootId,
    reserve: &Reserve,
) -> io::Result<()> {
    let mut runs = Runs { host: Some(host.clone()), runs: Vec::new() };
    for of in known.runs.iter().map(|run| &run.boot).chain([boot]) {
        let mut first = BTreeMap::new();
        first.extend(
            shelves.iter().filter_map(|shelf| Some((shelf.kind, shelf.runs().iter().find(|(run, _)| run == of)?.1))),
        );
        if !first.is_empty() && runs.runs.iter().all(|run| run.boot != *of) {
            runs.runs.push(Run { boot: of.clone(), first });
        }
    }
    let text = serde_json::to_vec(&runs).map_err(io::Error::other)?;
    reserve.spend(|| state::write(dir, RUNS, &text))
}

/// The slow way, after the loss of the file: every record says whose it is.
fn runs_by_reading(logs: &[(Kind, Log)]) -> Runs {
    let mut found: BTreeMap<BootId, BTreeMap<Kind, u64>> = BTreeMap::new();
    for (kind, log) in logs {
        let (mut reader, mut buffer) = (log.reader(), Vec::new());
        let mut index = log.first();
        while index < log.next() {
            match reader.read(index, &mut buffer) {
                Ok(entry) => {
                    let head = entry.and_then(|entry| wire::decode_head(entry.body).ok());
                    if let Some((boot, seq)) = head.and_then(|head| Some((head.boot?, head.seq?))) {
                        found.entry(boot).or_default().entry(*kind).or_insert((index + 1).saturating_sub(seq));
                    }
                    index += 1;
                }
                Err(ReadError::Gap { to, .. }) => index = to + 1,
                Err(_) => break,
            }
        }
    }
    // Their ids sort by the time of their start.
    Runs { host: None, runs: found.into_iter().map(|(boot, first)| Run { boot, first }).collect() }
}
