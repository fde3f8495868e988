//! Entries of systemd's journal, read from its files.
//!
//! A file of the journal has a number of its own, which it keeps when it is renamed; entries are only ever added to it. So a
//! place is a file's number and how many entries of it were read, and a rotation is a new number. Entries of one file come in
//! their order. At the first start the past comes first, file by file, beside what is written meanwhile.

mod file;
mod filter;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logs::sections::StartAt;
use logs::{Origin, Plan, Stream};
use tracing::{info, warn};

use super::feed::Feed;
use super::source::{Next, Source};
use super::told::Counts;
use crate::outbox::Moves;
use file::{Entry, Fault, Reader};
use filter::Filter;

/// Where journald keeps its files: what stays, and what is gone after a boot.
const FOLDERS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// Time between two looks for files, and for new entries.
const SCAN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(250);

/// Entries of a file that are read before others have their turn.
const SHARE: usize = 500;

/// A file that is in no folder any more is forgotten after this, and one whose list of entries is wrong is given up: a look
/// may have come between two steps of journald's.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a look tells of faults at most so often.
const COMPLAINT: Duration = Duration::from_secs(600);

/// More files are not read; journald keeps 100 of one kind.
const MOST_FILES: usize = 10_000;

/// The beginning of these streams' names in the spool.
const PREFIX: &str = "journal/";

/// An input of the journal.
pub(super) struct Journal {
    plan: Arc<Plan>,
    filter: Filter,
    /// The folders, and whether they were given: then all below them is meant.
    folders: Vec<PathBuf>,
    given: bool,
    files: BTreeMap<u128, Known>,
    /// Files that are no journal, by device and inode, so that it is said once.
    strange: BTreeSet<(u64, u64)>,
    /// Places of files that were not seen yet, from an earlier run, and since when they could have been.
    saved: BTreeMap<u128, u64>,
    started: Option<Instant>,
    /// Files that are gone.
    over: Vec<u128>,
    stream: Stream,
    /// The next look for files.
    scan: Instant,
    /// Begin files at their end.
    first: bool,
    urgent: bool,
    lost: u64,
    errors: u64,
    complaint: Option<Instant>,
    fields: Vec<(String, String)>,
}

/// A file of the journal.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    inode: (u64, u64),
    begins: u64,
    /// Entries that were read.
    at: u64,
    /// There is a new place for the spool.
    touched: bool,
    state: State,
    gone: Option<Instant>,
    failing: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// It is read when it is its turn.
    Waiting,
    Open(Box<Reader>),
    /// Nothing more will be read of it.
    Done,
}

fn beginning(input: &str) -> String {
    format!("{PREFIX}{input}/")
}

impl Journal {
    /// An input with the places of earlier runs. Without any, it is the first start with it.
    pub(super) fn new(plan: Arc<Plan>, positions: &dyn Fn(&str) -> Vec<(String, String)>, kept: bool) -> Self {
        let (section, start_at) = match &plan.source {
            logs::Source::Journal { journal, start_at } => (journal.clone(), *start_at),
            _ => Default::default(),
        };
        let beginning = beginning(&plan.name);
        let saved: BTreeMap<u128, u64> = positions(&beginning)
            .iter()
            .filter_map(|(key, text)| {
                let id = u128::from_str_radix(key.strip_prefix(&beginning)?, 16).ok()?;
                Some((id, text.split(' ').next()?.parse().ok()?))
            })
            .collect();
        let given = !section.directories.is_empty();
        Self {
            filter: Filter::new(&section),
            folders: if given { section.directories } else { FOLDERS.iter().map(PathBuf::from).collect() },
            given,
            files: BTreeMap::new(),
            strange: BTreeSet::new(),
            // Where nothing is kept, each start would send everything again.
            first: saved.is_empty() && (!kept || start_at == StartAt::End),
            saved,
            started: None,
            over: Vec::new(),
            stream: Stream::new(&plan, Origin::default()),
            plan,
            scan: Instant::now(),
            urgent: false,
            lost: 0,
            errors: 0,
            complaint: None,
            fields: Vec::new(),
        }
    }

    fn complain(&mut self, now: Instant, text: &str) {
        self.errors += 1;
        if self.complaint.is_none_or(|last| now >= last + COMPLAINT) {
            self.complaint = Some(now);
            warn!("logs {:?}: {text}", self.plan.name);
        }
    }

    /// Looks for files that are new, or under other names, or gone.
    fn search(&mut self, now: Instant) {
        let mut seen = BTreeSet::new();
        let by_inode: BTreeMap<_, _> = self.files.iter().map(|(id, known)| (known.inode, *id)).collect();
        for folder in self.folders.clone() {
            let paths = match paths(&folder, self.given) {
                Ok(paths) => paths,
                // One of the two places is mostly missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.given => continue,
                Err(error) => {
                    self.complain(now, &cannot_read(&folder, &error.into()));
                    continue;
                }
            };
            for path in paths {
                let Ok(metadata) = path.metadata() else { continue };
                let inode = (metadata.dev(), metadata.ino());
                // An inode is soon another file's: what changed its name is looked at.
                let known = by_inode
                    .get(&inode)
                    .filter(|id| self.files.get(id).is_some_and(|known| known.path == path && known.gone.is_none()));
                if let Some(id) = known {
                    seen.insert(*id);
                } else if metadata.is_file() && !self.strange.contains(&inode) {
                    seen.extend(self.meet(path, inode, now));
                }
            }
        }
        self.first = false;
        if seen.is_empty() {
            return;
        }
        for (id, known) in &mut self.files {
            if !seen.contains(id) {
                known.gone.get_or_insert(now);
            }
        }
        self.forget(now);
    }

    /// A file that was not known under its inode.
    fn meet(&mut self, path: PathBuf, inode: (u64, u64), now: Instant) -> Option<u128> {
        let header = match file::open(&path) {
            Ok((_, header)) => header,
            Err(fault) => {
                if matches!(fault, Fault::Format(_)) && self.strange.len() < MOST_FILES {
                    self.strange.insert(inode);
                }
                self.complain(now, &cannot_read(&path, &fault));
                return None;
            }
        };
        if let Some(known) = self.files.get_mut(&header.id) {
            let there = known.path.metadata().is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == known.inode);
            // Else it is a copy.
            if !there || known.inode == inode {
                (known.path, known.inode, known.gone) = (path, inode, None);
            }
            return Some(header.id);
        }
        if self.files.len() >= MOST_FILES {
            self.complain(now, &format!("more than {MOST_FILES} files: {} is not read", path.display()));
            return None;
        }
        let saved = self.saved.remove(&header.id);
        let at = saved.unwrap_or(if self.first { header.entries } else { 0 });
        self.urgent |= self.first;
        let done = header.archived && at >= header.entries;
        self.files.insert(
            header.id,
            Known {
                path,
                inode,
                begins: header.begins,
                at,
                touched: saved.is_none(),
                state: if done { State::Done } else { State::Waiting },
                gone: None,
                failing: None,
            },
        );
        Some(header.id)
    }

    /// Files that were removed, which journald does with the oldest ones.
    fn forget(&mut self, now: Instant) {
        let late = |since: Instant| now >= since + PATIENCE;
        let (over, lost) = (&mut self.over, &mut self.lost);
        self.files.retain(|id, known| {
            let keep = match (known.gone, &known.state) {
                (None, _) => true,
                (Some(since), State::Done | State::Open(_)) => !late(since),
                (Some(since), State::Waiting) => {
                    *lost += u64::from(late(since));
                    !late(since)
                }
            };
            if !keep {
                over.push(*id);
            }
            keep
        });
        if late(*self.started.get_or_insert(now)) {
            self.over.extend(std::mem::take(&mut self.saved).into_keys());
        }
    }

    /// Reads a share of a file; `true` if it has more.
    fn read_file(&mut self, id: u128, feed: &mut Feed<'_>) -> bool {
        let now = feed.now;
        let Some(known) = self.files.get_mut(&id) else { return false };
        if matches!(known.state, State::Waiting) {
            match file::open(&known.path) {
                // It was renamed since, and another has its name.
                Ok((_, header)) if header.id != id => {
                    self.scan = now;
                    return false;
                }
                Ok((file, header)) => {
                    known.state = State::Open(Box::new(Reader::new(file, header, known.at)));
                }
                Err(fault) => {
                    let text = cannot_read(&known.path, &fault);
                    known.failing = Some(now + SCAN);
                    self.complain(now, &text);
                    return false;
                }
            }
        }
        for _ in 0..SHARE {
            if feed.full() {
                return true;
            }
            let Some(known) = self.files.get_mut(&id) else { return false };
            let State::Open(reader) = &mut known.state else { return false };
            let archived = reader.header.archived;
            let mut entry = reader.entry(feed.max_line);
            if matches!(entry, Ok(None)) && !archived {
                // There may be more by now.
                entry = reader.refresh().and_then(|()| reader.entry(feed.max_line));
            }
            let moved = reader.next != known.at;
            known.at = reader.next;
            known.touched |= moved;
            match entry {
                Ok(Some(entry)) => {
                    known.failing = None;
                    if self.filter.takes(&entry) {
                        take(&entry, &mut self.fields, &mut self.stream, feed);
                    }
                }
                Ok(None) => {
                    if reader.header.archived && archived {
                        known.state = State::Done;
                    }
                    return false;
                }
                Err(fault) => {
                    let text = format!("entry {} of {}: {fault}", known.at, known.path.display());
                    let over = archived || known.failing.is_some_and(|since| now >= since + PATIENCE);
                    if moved {
                        known.failing = None;
                    } else if over {
                        known.state = State::Done;
                        self.lost += 1;
                    } else {
                        known.failing.get_or_insert(now);
                    }
                    self.complain(now, &text);
                    if !moved {
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// Hands an entry on as its fields.
fn take(entry: &Entry, fields: &mut Vec<(String, String)>, stream: &mut Stream, feed: &mut Feed<'_>) {
    fields.clear();
    let mut bytes = 0;
    for field in &entry.fields {
        bytes += field.name.len() + field.value.len();
        match fields.iter_mut().find(|(name, _)| *name == field.name) {
            // A field may have several values.
            Some((_, value)) => {
                value.push('\n');
                value.push_str(&field.value);
            }
            None => fields.push((field.name.clone(), field.value.clone())),
        }
    }
    fields.push(("__REALTIME_TIMESTAMP".to_owned(), entry.realtime.to_string()));
    for (name, count) in [("cut_bytes", entry.cut), ("unread_fields", entry.unread)] {
        if count > 0 {
            fields.push((name.to_owned(), count.to_string()));
        }
    }
    feed.journal(stream, fields, bytes as u64, entry.cut);
}

impl Source for Journal {
    fn read(&mut self, feed: &mut Feed<'_>) -> Next {
        let now = feed.now;
        if now >= self.scan {
            self.search(now);
            self.scan = now + SCAN;
        }
        // All that is open, and of what waits the oldest.
        let mut turns: Vec<u128> = Vec::new();
        let mut oldest: Option<(u64, u128)> = None;
        for (id, known) in &self.files {
            match known.state {
                State::Open(_) => turns.push(*id),
                State::Waiting if known.failing.is_none_or(|until| now >= until) => {
                    let this = (known.begins, *id);
                    oldest = Some(oldest.map_or(this, |oldest| oldest.min(this)));
                }
                State::Waiting | State::Done => {}
            }
        }
        let waits = oldest.is_some();
        let past = |id: &u128| {
            self.files
                .get(id)
                .is_some_and(|known| matches!(&known.state, State::Open(reader) if reader.header.archived))
        };
        if !turns.iter().any(past) {
            turns.extend(oldest.map(|(_, id)| id));
        }
        let mut more = waits;
        for id in turns {
            if feed.full() {
                return Next::Now;
            }
            more |= self.read_file(id, feed);
        }
        if more { Next::Now } else { Next::At((now + LOOK).min(self.scan)) }
    }

    fn moved(&mut self, _: i64, moves: &mut Moves) -> bool {
        let beginning = beginning(&self.plan.name);
        let key = |id: u128| format!("{beginning}{id:032x}");
        for id in self.over.drain(..) {
            moves.insert(key(id), None);
        }
        for (id, known) in &mut self.files {
            if std::mem::take(&mut known.touched) {
                let name = known.path.file_name().unwrap_or_default().to_string_lossy();
                moves.insert(key(*id), Some(format!("{} {name}", known.at)));
            }
        }
        std::mem::take(&mut self.urgent)
    }

    fn count(&self, counts: &mut Counts) {
        counts.watched = self.files.len() as u64;
        counts.open = self.files.values().filter(|known| matches!(known.state, State::Open(_))).count() as u64;
        (counts.lost, counts.errors) = (self.lost, self.errors);
    }
}

/// The files in a folder, and in the folders of machines in it.
fn paths(folder: &Path, given: bool) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut folders = vec![(folder.to_owned(), true)];
    while let Some((folder, top)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if top => return Err(error),
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(".journal") || name.ends_with(".journal~") {
                if !top || given {
                    paths.push(entry.path());
                }
            } else if top && (given || is_machine(name)) {
                folders.push((entry.path(), false));
            }
        }
    }
    Ok(paths)
}

/// A machine's number. With a dot and more behind it, it is a namespace, which `journalctl` does not show either.
fn is_machine(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A sentence with the remedy.
fn cannot_read(path: &Path, fault: &Fault) -> String {
    let remedy = match fault {
        Fault::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "; let the agent's user read it: `usermod -aG systemd-journal utilizer`, and a restart of the agent"
        }
        _ => "",
    };
    format!("can't read {}: {fault}{remedy}", path.display())
}

/// What `check` says: files that can't be read, or none at all.
pub(super) fn hints(plan: &Plan) -> Vec<String> {
    let logs::Source::Journal { journal, .. } = &plan.source else { return Vec::new() };
    let given = !journal.directories.is_empty();
    let default = || FOLDERS.iter().map(PathBuf::from).collect();
    let folders: Vec<PathBuf> = if given { journal.directories.clone() } else { default() };
    let (mut hints, mut files) = (Vec::new(), 0);
    for folder in &folders {
        match paths(folder, given) {
            Ok(paths) => {
                files += paths.len();
                let faults = paths.iter().filter_map(|path| Some(cannot_read(path, &file::open(path).err()?)));
                hints.extend(faults.take(5));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => hints.push(cannot_read(folder, &error.into())),
        }
    }
    if files == 0 && hints.is_empty() {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        hints.push(format!("there is no file of the journal in {}", folders.join(" or ")));
    }
    hints
}

/// Reads a file to its end and counts its entries; for the fuzz target.
#[doc(hidden)]
pub fn count_entries(path: &Path, most: usize) -> u64 {
    let Ok((file, header)) = file::open(path) else { return 0 };
    let mut reader = Reader::new(file, header, 0);
    let mut count = 0;
    loop {
        let before = reader.next;
        match reader.entry(most) {
            Ok(Some(_)) => count += 1,
            Ok(None) => return count,
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
        if reader.next == before || count > 100_000 {
            info!("{} entries, and then no more", reader.next);
            return count;
        }
    }
}
