//! What became of a file that is no longer under its name: renamed, copied, compressed.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rules::order;

use super::content::{Content, Found};
use super::identity::{Id, Mark, Position};

/// Names in a folder that are looked at, and files whose content is.
const MOST_NAMES: usize = 10_000;
const MOST_FILES: usize = 64;

/// Endings of files that hold no lines as they are.
const COMPRESSED: &[&str] = &[".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip"];

/// A file that another one has become.
#[derive(Debug)]
pub(super) struct Heir {
    pub(super) path: PathBuf,
    pub(super) content: Content,
    pub(super) found: Found,
}

/// Whether a name is that of a compressed file.
pub(super) fn is_compressed(path: &Path) -> bool {
    let name = path.as_os_str().as_bytes();
    COMPRESSED.iter().any(|ending| name.ends_with(ending.as_bytes()))
}

fn is_gzip(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b".gz")
}

/// A file beside another one that may be a rotated form of it.
struct Sibling {
    path: PathBuf,
    id: Id,
    /// Last change, in ms since 1970.
    changed: i64,
}

/// Where a file stands that is known by a symbolic link: there its rotated forms are.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Whether the folder of a file is there, on the file's own device: else it may be mounted later.
pub(super) fn is_there(path: &Path, id: Id) -> bool {
    real(path).parent().and_then(|dir| std::fs::metadata(dir).ok()).is_some_and(|dir| dir.dev() == id.0)
}

/// The files in the folder whose names begin as this one's does, the youngest first.
fn siblings(path: &Path) -> io::Result<Vec<Sibling>> {
    let path = &*real(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    // `app.log` becomes `app.log.1`, `app.log-20260101`, `app-2026-01-01.log`.
    let stem = name.as_bytes().split(|byte| *byte == b'.').next().filter(|stem| !stem.is_empty());
    let stem = stem.unwrap_or(name.as_bytes());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)?.take(MOST_NAMES).flatten() {
        let name = entry.file_name();
        if !name.as_bytes().starts_with(stem) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && (is_gzip(&entry.path()) || !is_compressed(&entry.path())) {
            let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH);
            let changed = since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
            found.push(Sibling { path: entry.path(), id: Found::of(&metadata).id, changed });
        }
    }
    // While one is compressed, both forms are there, and one of them in part.
    let rank = |sibling: &Sibling| (std::cmp::Reverse(sibling.changed), is_compressed(&sibling.path));
    order::sort_by(&mut found, &|a: &Sibling, b: &Sibling| rank(a).cmp(&rank(b)));
    Ok(found)
}

/// A file under its new name, whatever that is, as long as it stands in the same folder.
pub(super) fn renamed(position: &Position) -> io::Result<Option<Heir>> {
    let real = real(&position.path);
    let Some(dir) = real.parent() else { return Ok(None) };
    for entry in std::fs::read_dir(dir)?.take(MOST_NAMES).flatten() {
        if entry.ino() == position.id.1
            && let Some(heir) = as_left(&entry.path(), is_gzip(&entry.path()), position)
            && heir.found.id == position.id
        {
            return Ok(Some(heir));
        }
    }
    Ok(None)
}

/// A file that has what this one had, up to where it was read and beyond: a copy, or a compressed one. `known`: files that are
/// read already.
pub(super) fn copied(position: &Position, known: &dyn Fn(Id) -> bool) -> io::Result<Option<Heir>> {
    if position.head.bytes == 0 {
        return Ok(None);
    }
    let mut others = siblings(&position.path)?;
    others.retain(|sibling| sibling.id != position.id && !known(sibling.id));
    others.truncate(MOST_FILES);
    Ok(others.iter().find_map(|sibling| as_left(&sibling.path, is_gzip(&sibling.path), position)))
}

/// The file, if it is what was read up to a position.
pub(super) fn as_left(path: &Path, gzip: bool, position: &Position) -> Option<Heir> {
    let mut content = Content::open(path, gzip).ok()?;
    let found = content.found().ok()?;
    let same = content.begins(position.head).ok()? && content.before(position.at).ok()? == Some(position.before);
    same.then(|| Heir { path: path.to_owned(), content, found })
}

/// Files beside this one that were written after a time and that nobody has read: generations that came and went meanwhile.
/// `known` says of a file whether it was read.
pub(super) fn missed(path: &Path, since: i64, known: &dyn Fn(Id, &mut Content) -> bool) -> io::Result<Vec<Heir>> {
    let path = &*real(path);
    let younger = siblings(path)?.into_iter().filter(|sibling| {
        let name_goes_on = sibling.path.as_os_str().as_bytes().starts_with(path.as_os_str().as_bytes());
        sibling.changed > since && name_goes_on && sibling.path != path
    });
    let (mut missed, mut heads): (Vec<Heir>, Vec<Mark>) = (Vec::new(), Vec::new());
    for sibling in younger.take(MOST_FILES) {
        let Ok(mut content) = Content::open(&sibling.path, is_gzip(&sibling.path)) else { continue };
        let (Ok(found), Ok(head)) = (content.found(), content.head()) else { continue };
        let twice = heads.iter().any(|head| content.begins(*head).unwrap_or(true));
        if head.bytes > 0 && !twice && !known(sibling.id, &mut content) {
            heads.push(head);
            missed.push(Heir { path: sibling.path, content, found });
        }
    }
    // In the order in which they were written.
    missed.reverse();
    Ok(missed)
}
