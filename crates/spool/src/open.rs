//! Opening a log after any end of the last process.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::cursor::Cursor;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::format::{HEADER, RECORD, SegmentHeader, index_of, segment_path};
use crate::log::Options;
use crate::reserve::Reserve;
use crate::scan::{Next, Scanner, read_header};
use crate::shared::{Extent, Segment};
use crate::state::UNFINISHED;

/// Segments that a process may leave unsynced when it is killed: it appends no more between two syncs.
const SYNCED_AT_OPEN: usize = 8;

/// What opening found and mended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of an unfinished record that were cut off.
    pub torn_bytes: u64,
    /// Damage in the last segment. That of earlier ones is found when they are read.
    pub bad_segments: Vec<BadSegment>,
    /// Bytes of segments that were read.
    pub bytes_read: u64,
}

/// Records that are lost by damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSegment {
    /// The file, under the name that it has now.
    pub path: PathBuf,
    /// First index.
    pub from: u64,
    /// Last index; of a segment that can't be read at all, the highest that can have been in it.
    pub to: u64,
}

pub(crate) struct Found {
    pub(crate) lock: File,
    pub(crate) extent: Extent,
    pub(crate) active: File,
    pub(crate) salt: u32,
    pub(crate) cursor: Cursor,
    pub(crate) reserve: Reserve,
    pub(crate) recovered: Recovered,
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { action, path: path.to_owned(), source }
}

pub(crate) fn open(dir: &Path, options: Options, disk: &Disk) -> Result<Found, OpenError> {
    fs::create_dir_all(dir).map_err(at("make the folder", dir))?;
    let lock = lock(dir, disk)?;
    let mut segments = list(dir, disk)?;
    let cursor_path = dir.join("cursor");
    let (cursor, wanted) = Cursor::open(dir, disk).map_err(at("use", &cursor_path))?;
    let mut recovered = Recovered::default();

    let mut next = wanted;
    let mut active = None;
    if let Some(last) = segments.back().copied() {
        let path = segment_path(dir, last.from);
        match last_segment(&path, last, disk, &mut recovered).map_err(at("read", &path))? {
            Last::Usable { file, salt, bytes, next: end } => {
                next = next.max(end);
                if let Some(segment) = segments.back_mut() {
                    segment.bytes = bytes;
                }
                // Where the cursor is beyond its end, records go on in another one, named by the index.
                if next == end {
                    active = Some((file, salt));
                }
            }
            Last::Bad { next: end } => {
                next = next.max(end);
                segments.pop_back();
            }
        }
    }
    let (active, salt) = match active {
        Some(active) => active,
        None => {
            let path = segment_path(dir, next);
            let (file, header) = make_segment(dir, next, disk).map_err(at("make", &path))?;
            disk.sync(&file, &path).map_err(at("sync", &path))?;
            segments.push_back(Segment { from: next, bytes: HEADER });
            (file, header.salt)
        }
    };
    let first = segments.front().map_or(next, |segment| segment.from).max(wanted);
    // A crash between cursor and unlink.
    while segments.get(1).is_some_and(|second| second.from <= first) {
        if let Some(gone) = segments.pop_front() {
            let path = segment_path(dir, gone.from);
            disk.remove(&path).map_err(at("unlink", &path))?;
        }
    }
    for segment in segments.iter().rev().take(SYNCED_AT_OPEN) {
        let path = segment_path(dir, segment.from);
        File::open(&path).and_then(|file| disk.sync(&file, &path)).map_err(at("sync", &path))?;
    }
    disk.sync_folder(dir).map_err(at("sync", dir))?;
    let reserve = Reserve::take_on(dir, options.reserve_bytes, disk).map_err(at("reserve room in", dir))?;
    Ok(Found { lock, extent: Extent { first, next, segments }, active, salt, cursor, reserve, recovered })
}

fn lock(dir: &Path, disk: &Disk) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = disk.create(&path).map_err(at("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(at("lock", &path)(error)),
    }
}

/// The segments in a folder, in order. Deletes what a crash left of a state.
fn list(dir: &Path, disk: &Disk) -> Result<VecDeque<Segment>, OpenError> {
    let mut segments: Vec<Segment> = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let entry = entry.map_err(at("list", dir))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.ends_with(UNFINISHED) {
            disk.remove(&entry.path()).map_err(at("unlink", &entry.path()))?;
        } else if let Some(from) = index_of(&name) {
            let bytes = entry.metadata().map_err(at("look at", &entry.path()))?.len();
            // One by one: to sort them is more code, and they are few.
            segments.insert(segments.partition_point(|before| before.from < from), Segment { from, bytes });
        }
    }
    Ok(segments.into())
}

/// Makes a segment with nothing in it. What stood under its name is gone.
pub(crate) fn make_segment(dir: &Path, from: u64, disk: &Disk) -> io::Result<(File, SegmentHeader)> {
    let path = segment_path(dir, from);
    let file = disk.create(&path)?;
    let header = write_header(&file, &path, from, disk)?;
    Ok((file, header))
}

fn write_header(file: &File, path: &Path, from: u64, disk: &Disk) -> io::Result<SegmentHeader> {
    let header = SegmentHeader::new(from);
    disk.cut(file, path, 0)?;
    disk.write_at(file, path, &header.encode(), 0)?;
    Ok(header)
}

/// The segment with the highest index.
enum Last {
    /// Records can go on in it.
    Usable { file: File, salt: u32, bytes: u64, next: u64 },
    /// It was set aside.
    Bad { next: u64 },
}

fn last_segment(path: &Path, segment: Segment, disk: &Disk, recovered: &mut Recovered) -> io::Result<Last> {
    let file = File::options().read(true).write(true).open(path)?;
    let Some(header) = read_header(&file, segment.from)? else {
        if segment.bytes <= HEADER {
            // It was being made.
            let header = write_header(&file, path, segment.from, disk)?;
            return Ok(Last::Usable { file, salt: header.salt, bytes: HEADER, next: segment.from });
        }
        // Its records have numbers that must not be given again: as many as fit in.
        let most = ((segment.bytes - HEADER) / RECORD as u64).max(1);
        let aside = path.with_extension("seg.bad");
        disk.rename(path, &aside)?;
        recovered.bad_segments.push(BadSegment { path: aside, from: segment.from, to: segment.from + most - 1 });
        return Ok(Last::Bad { next: segment.from + most });
    };
    let mut scanner = Scanner::new(file.try_clone()?, header.salt);
    let mut next = segment.from;
    loop {
        match scanner.next(next, segment.bytes)? {
            Next::Record { .. } => next += 1,
            Next::End => break,
            Next::Bad => {
                let most = next + 1 + (segment.bytes - scanner.offset()) / RECORD as u64;
                let Some(found) = scanner.search(next + 1, most, segment.bytes)? else { break };
                recovered.bad_segments.push(BadSegment { path: path.to_owned(), from: next, to: found - 1 });
                next = found;
            }
        }
    }
    let bytes = scanner.offset();
    if bytes < segment.bytes {
        recovered.torn_bytes = segment.bytes - bytes;
        disk.cut(&file, path, bytes)?;
    }
    recovered.bytes_read = segment.bytes;
    Ok(Last::Usable { file, salt: header.salt, bytes, next })
}
