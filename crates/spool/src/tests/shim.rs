//! What stands between the log and the disk in tests: it ends after the n-th byte, has little room if told so, and remembers
//! what was done, so that a power cut can be played.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Sequence;
use crate::disk::Disk;

#[derive(Debug)]
pub(crate) struct Shim(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Bytes and operations until the end.
    left: u64,
    /// Bytes that all files together may have.
    room: u64,
    sizes: BTreeMap<PathBuf, u64>,
    done: Vec<Done>,
}

#[derive(Debug, Clone)]
enum Done {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Cut(PathBuf, u64),
    Sync(PathBuf),
    SyncFolder,
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Shim {
    pub(crate) fn disk(left: u64, room: u64) -> (Disk, Arc<Self>) {
        let state = State { left, room, sizes: BTreeMap::new(), done: Vec::new() };
        let shim = Arc::new(Self(Mutex::new(state)));
        (Disk { shim: Some(shim.clone()) }, shim)
    }

    pub(crate) fn ended(&self) -> bool {
        self.0.lock().unwrap().left == 0
    }

    pub(crate) fn set_room(&self, room: u64) {
        self.0.lock().unwrap().room = room;
    }

    pub(crate) fn used(&self) -> u64 {
        self.0.lock().unwrap().sizes.values().sum()
    }

    fn step(&self, done: Done) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.left = state.left.saturating_sub(1);
        if state.left == 0 {
            return Err(io::Error::other("the end"));
        }
        match &done {
            Done::Cut(path, length) => drop(state.sizes.insert(path.clone(), *length)),
            Done::Remove(path) => drop(state.sizes.remove(path)),
            Done::Rename(from, to) => {
                let size = state.sizes.remove(from).unwrap_or(0);
                state.sizes.insert(to.clone(), size);
            }
            _ => {}
        }
        state.done.push(done);
        Ok(())
    }

    pub(crate) fn create(&self, path: &Path) -> io::Result<()> {
        self.step(Done::Create(path.to_owned()))
    }

    pub(crate) fn write(&self, path: &Path, bytes: &[u8], at: u64) -> (usize, Option<io::Error>) {
        let mut state = self.0.lock().unwrap();
        let size = state.sizes.get(path).copied().unwrap_or(0);
        let room = state.room.saturating_sub(state.sizes.values().sum()) + size.saturating_sub(at);
        let (mut through, mut error) = (bytes.len(), None);
        if room < through as u64 {
            (through, error) = (room as usize, Some(io::Error::from(io::ErrorKind::StorageFull)));
        }
        if state.left <= through as u64 {
            (through, error) = (state.left.saturating_sub(1) as usize, Some(io::Error::other("the end")));
            state.left = 0;
        } else {
            state.left -= through as u64;
        }
        state.sizes.insert(path.to_owned(), size.max(at + through as u64));
        state.done.push(Done::Write(path.to_owned(), at, bytes[..through].to_vec()));
        (through, error)
    }

    pub(crate) fn cut(&self, path: &Path, length: u64) -> io::Result<()> {
        self.step(Done::Cut(path.to_owned(), length))
    }

    pub(crate) fn sync(&self, path: &Path) -> io::Result<()> {
        self.step(Done::Sync(path.to_owned()))
    }

    pub(crate) fn sync_folder(&self) -> io::Result<()> {
        self.step(Done::SyncFolder)
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Done::Rename(from.to_owned(), to.to_owned()))
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(Done::Remove(path.to_owned()))
    }

    /// Puts into `dir` what a power cut now may leave: everything synced, and of the rest some writes, whole or torn,
    /// in any order, and names up to some change.
    pub(crate) fn power_cut(&self, dir: &Path, random: &mut Sequence) {
        let mut files: Vec<Content> = Vec::new();
        let (mut names, mut safe_names): (BTreeMap<PathBuf, usize>, BTreeMap<PathBuf, usize>) = Default::default();
        let mut changes: Vec<BTreeMap<PathBuf, usize>> = Vec::new();
        for done in &self.0.lock().unwrap().done {
            match done {
                Done::Create(path) => {
                    names.entry(path.clone()).or_insert_with(|| {
                        files.push(Content::default());
                        files.len() - 1
                    });
                }
                Done::Write(path, at, bytes) => files[names[path]].pending.push(Change::Write(*at, bytes.clone())),
                Done::Cut(path, length) => files[names[path]].pending.push(Change::Cut(*length)),
                Done::Sync(path) => files[names[path]].sync(),
                Done::SyncFolder => {
                    safe_names = names.clone();
                    changes.clear();
                    continue;
                }
                Done::Rename(from, to) => {
                    let file = names.remove(from).unwrap();
                    names.insert(to.clone(), file);
                }
                Done::Remove(path) => drop(names.remove(path)),
            }
            changes.push(names.clone());
        }
        let upto = random.below(changes.len() as u64 + 1) as usize;
        let names = upto.checked_sub(1).map_or(&safe_names, |last| &changes[last]);
        for (path, &file) in names {
            let content = files[file].after_power_cut(random);
            fs::write(dir.join(path.file_name().unwrap()), content).unwrap();
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    safe: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

impl Content {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.safe, &change);
        }
    }

    fn after_power_cut(&self, random: &mut Sequence) -> Vec<u8> {
        let mut content = self.safe.clone();
        // A truncation is a change of the file's own record, which file systems keep in order with its length.
        let all = random.below(3) == 0;
        for change in &self.pending {
            match change {
                Change::Write(at, bytes) if all || random.below(3) > 0 => {
                    let through = if all || random.below(2) == 0 {
                        bytes.len()
                    } else {
                        random.below(bytes.len() as u64) as usize
                    };
                    apply(&mut content, &Change::Write(*at, bytes[..through].to_vec()));
                }
                Change::Write(..) => {}
                cut => apply(&mut content, cut),
            }
        }
        content
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(_, bytes) if bytes.is_empty() => {}
        Change::Write(at, bytes) => {
            let at = *at as usize;
            content.resize(content.len().max(at + bytes.len()), 0);
            content[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Cut(length) => content.resize(*length as usize, 0),
    }
}
