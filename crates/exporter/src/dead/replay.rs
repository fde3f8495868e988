//! Dead letters on their way back: a request is a file in the folder `replay` beside them, which the exporter takes into
//! its spool and removes.
//!
//! A replayed message gets an identity of its own, from the request's name and its place in it, so that a crash between
//! spooling and removing puts nothing in twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use wire::{BootId, HostName, Kind, Topic};

use super::commands::letters;
use crate::frame::REPLAYED;

/// Where requests lie.
pub(super) const FOLDER: &str = "replay";

/// Of a whole request; what is still being written has another ending.
const ENDING: &str = "ndjson";

/// Writes a request beside the letters of this file: whole or not at all.
pub(super) fn request(letters: &Path, lines: &[u8]) -> io::Result<()> {
    let folder = &letters.with_file_name(FOLDER);
    fs::create_dir_all(folder)?;
    give(folder, letters)?;
    let name = folder.join(uuid::Uuid::new_v4().simple().to_string());
    let unfinished = name.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&unfinished)?;
    file.write_all(lines)?;
    give(&unfinished, letters)?;
    file.sync_all()?;
    fs::rename(&unfinished, name.with_extension(ENDING))?;
    File::open(folder)?.sync_all()
}

/// Gives a file to the owner of another one: what root asks for, the exporter's user must be able to read and remove.
pub(super) fn give(path: &Path, like: &Path) -> io::Result<()> {
    let (owner, wanted) = (fs::metadata(path)?, fs::metadata(like)?);
    if owner.uid() == wanted.uid() {
        return Ok(());
    }
    chown(path, Some(wanted.uid()), Some(wanted.gid()))
}

/// The requests of one exporter.
#[derive(Debug)]
pub(crate) struct Replays {
    folder: PathBuf,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Replay {
    path: PathBuf,
    /// Stands for the agent's run.
    pub(crate) boot: BootId,
    /// Host, kind and payload; the place from 1 is the number.
    pub(crate) messages: Vec<(HostName, Kind, Vec<u8>)>,
}

impl Replays {
    /// Of the letters in this file.
    pub(crate) fn new(letters: &Path) -> Self {
        Self { folder: letters.with_file_name(FOLDER) }
    }

    /// The requests that wait. A folder that can't be read has none.
    pub(crate) fn waiting(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)).collect()
    }

    /// Reads a request.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Replay> {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let boot = format!("{REPLAYED}{name}").parse().map_err(io::Error::other)?;
        let messages = letters(path)?.filter_map(|letter| match letter.topic.parse() {
            Ok(Topic::Telemetry(host, kind)) => Some((host, kind, letter.payload())),
            _ => None,
        });
        Ok(Replay { path: path.to_owned(), boot, messages: messages.collect() })
    }

    /// Removes a request whose messages are in the spool.
    pub(crate) fn done(&self, replay: &Replay) -> io::Result<()> {
        fs::remove_file(&replay.path)
    }
}
