//! Appending, syncing, trimming.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::disk::Disk;
use crate::error::no_space;
use crate::format::{self, HEADER, LARGEST_RECORD, RECORD, SegmentHeader, segment_path};
use crate::reader::Reader;
use crate::reserve::Reserve;
use crate::scan::read_header;
use crate::shared::{Segment, Shared};
use crate::{AppendError, OpenError, Recovered, open, state};

/// The last segment goes with its last record if it is larger than this; a smaller one is gone on with, so that a log that is
/// emptied every few seconds does not make a file each time.
const KEPT_WHEN_EMPTY: u64 = if cfg!(test) { 100 } else { 64 << 10 };

/// How a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// A segment that has this many bytes is followed by another one.
    pub segment_bytes: u64,
    /// Room kept for states and the cursor when the disk is full; 0 for none.
    pub reserve_bytes: u64,
    /// The most bytes that head and body of one record may have, at most [`LARGEST_RECORD`].
    pub max_record: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, reserve_bytes: 1 << 20, max_record: 16 << 20 }
    }
}

/// A segment and what is still wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// First index.
    pub from: u64,
    /// Last index.
    pub to: u64,
    /// Length of its file.
    pub bytes: u64,
    /// When the segment was made, which is when its first record was appended; ms since 1970.
    pub first_ms: u64,
}

/// An append-only log in a folder of its own. One process has it at a time.
#[derive(Debug)]
pub struct Log {
    options: Options,
    disk: Disk,
    shared: Arc<Shared>,
    active: Arc<File>,
    salt: u32,
    cursor: Cursor,
    reserve: Reserve,
    /// Beginning a segment failed half-way: its file may be there, so records go nowhere else.
    half_begun: bool,
    synced: u64,
    /// Segments with records that are not synced, oldest first.
    unsynced: Vec<Unsynced>,
    /// Names made in the folder, and how many of them are synced.
    names: u64,
    names_synced: u64,
    buffer: Vec<u8>,
    /// Held for the lock on it.
    _lock: File,
}

#[derive(Debug, Clone)]
struct Unsynced {
    file: Arc<File>,
    path: PathBuf,
    /// The first index after it.
    end: u64,
}

/// A sync that can be run on any thread.
#[derive(Debug)]
pub struct Syncer {
    disk: Disk,
    segments: Vec<Unsynced>,
    folder: Option<PathBuf>,
    upto: u64,
    names: u64,
}

/// A trim that is under way.
#[derive(Debug)]
pub struct Trim {
    disk: Disk,
    /// A segment that was made, and the folder that its name is in.
    new: Vec<(Arc<File>, PathBuf)>,
    folder: Option<PathBuf>,
    cursor: (Arc<File>, PathBuf),
    to: u64,
    gone: Vec<u64>,
}

impl Trim {
    /// Returns once the segments may be unlinked.
    pub fn run(&self) -> io::Result<()> {
        self.new.iter().try_for_each(|(file, path)| self.disk.sync(file, path))?;
        self.folder.as_deref().map_or(Ok(()), |dir| self.disk.sync_folder(dir))?;
        self.disk.sync(&self.cursor.0, &self.cursor.1)
    }
}

impl Syncer {
    /// Returns once everything that was appended before this syncer was made is on the disk.
    pub fn run(&self) -> io::Result<()> {
        for segment in &self.segments {
            self.disk.sync(&segment.file, &segment.path)?;
        }
        self.folder.as_deref().map_or(Ok(()), |dir| self.disk.sync_folder(dir))
    }
}

impl Log {
    /// Opens the log in a folder, which is made if it is not there, and mends what a crash left.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(dir, options, &Disk::default())
    }

    pub(crate) fn open_on(dir: &Path, options: Options, disk: &Disk) -> Result<(Self, Recovered), OpenError> {
        let found = open::open(dir, options, disk)?;
        let (next, shared) = (found.extent.next, Shared::new(dir.to_owned(), found.extent));
        let log = Self {
            options,
            disk: disk.clone(),
            shared: Arc::new(shared),
            active: Arc::new(found.active),
            salt: found.salt,
            cursor: found.cursor,
            reserve: found.reserve,
            half_begun: false,
            synced: next,
            unsynced: Vec::new(),
            names: 0,
            names_synced: 0,
            buffer: Vec::new(),
            _lock: found.lock,
        };
        Ok((log, found.recovered))
    }

    /// Appends a record and returns its index. It is in the system's cache then, and safe after the next sync. `head` is for
    /// the owner alone.
    pub fn append(&mut self, head: &[u8], body: &[u8]) -> Result<u64, AppendError> {
        let (bytes, most) = (head.len() + body.len(), self.options.max_record.min(LARGEST_RECORD));
        if bytes > most {
            return Err(AppendError::TooLarge { bytes, most });
        }
        let (index, mut active) = self.end();
        let grown = active.bytes + (RECORD + bytes) as u64;
        if self.half_begun || (active.bytes > HEADER && grown > self.options.segment_bytes) {
            active = self.begin_segment(index).map_err(|error| self.append_error(index, error))?;
        }
        format::encode_record(&mut self.buffer, self.salt, index, head, body);
        let path = segment_path(&self.shared.dir, active.from);
        if let Err(error) = self.disk.write_at(&self.active, &path, &self.buffer, active.bytes) {
            // What was written of it is cut off, to give its room back. If that fails too, the next record covers it.
            let _ = self.disk.cut(&self.active, &path, active.bytes);
            return Err(self.append_error(active.from, error));
        }
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        match self.unsynced.last_mut() {
            Some(last) if Arc::ptr_eq(&last.file, &self.active) => last.end = index + 1,
            _ => self.unsynced.push(Unsynced { file: self.active.clone(), path, end: index + 1 }),
        }
        let mut extent = self.shared.lock();
        extent.next = index + 1;
        if let Some(last) = extent.segments.back_mut() {
            last.bytes = active.bytes + (RECORD + bytes) as u64;
        }
        Ok(index)
    }

    /// Appends a small record without which nothing could be trimmed, on a full disk with the reserve's room; what is left
    /// of that is taken again at once, before others find it.
    pub fn append_in_need(&mut self, head: &[u8], body: &[u8]) -> Result<u64, AppendError> {
        let refused = match self.append(head, body) {
            Err(error @ AppendError::NoSpace(_)) => error,
            result => return result,
        };
        match self.reserve.give_up() {
            Ok(true) => {}
            // The disk is as full as it was said to be.
            Ok(false) | Err(_) => return Err(refused),
        }
        let result = self.append(head, body);
        // Without it the next one finds less room, and says so.
        let _ = self.reserve.refill();
        result
    }

    fn append_error(&self, from: u64, source: io::Error) -> AppendError {
        if no_space(&source) {
            return AppendError::NoSpace(self.shared.dir.clone());
        }
        AppendError::Io { path: segment_path(&self.shared.dir, from), source }
    }

    /// The next index, and the segment that is appended to.
    fn end(&self) -> (u64, Segment) {
        let extent = self.shared.lock();
        let last = extent.segments.back().copied();
        (extent.next, last.unwrap_or(Segment { from: extent.next, bytes: HEADER }))
    }

    /// Begins a segment with this index; appends go there from now on.
    fn begin_segment(&mut self, from: u64) -> io::Result<Segment> {
        self.half_begun = true;
        let (file, header) = open::make_segment(&self.shared.dir, from, &self.disk)?;
        self.names += 1;
        Ok(self.go_on_in(file, header))
    }

    fn go_on_in(&mut self, file: File, header: SegmentHeader) -> Segment {
        (self.active, self.salt, self.half_begun) = (Arc::new(file), header.salt, false);
        let segment = Segment { from: header.from, bytes: HEADER };
        self.shared.lock().segments.push_back(segment);
        segment
    }

    /// The index that the next record gets.
    pub fn next(&self) -> u64 {
        self.shared.lock().next
    }

    /// The first index that was not trimmed or dropped; [`Log::next`] if there is no record.
    pub fn first(&self) -> u64 {
        self.shared.lock().first
    }

    /// Everything below this index is on the disk.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// What is to be synced now. After [`Syncer::run`] give it to [`Log::mark_synced`].
    pub fn sync_handle(&mut self) -> Syncer {
        let folder = (self.names > self.names_synced).then(|| self.shared.dir.clone());
        Syncer {
            disk: self.disk.clone(),
            segments: self.unsynced.clone(),
            folder,
            upto: self.next(),
            names: self.names,
        }
    }

    /// Books a sync that succeeded.
    pub fn mark_synced(&mut self, syncer: Syncer) {
        self.synced = self.synced.max(syncer.upto);
        self.names_synced = self.names_synced.max(syncer.names);
        self.unsynced.retain(|segment| segment.end > syncer.upto);
    }

    /// Syncs everything appended so far, and waits for it.
    pub fn sync(&mut self) -> io::Result<()> {
        let syncer = self.sync_handle();
        syncer.run()?;
        self.mark_synced(syncer);
        Ok(())
    }

    /// A reader of this log. It has files and memory (about 64 KiB) of its own.
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// Lets go of everything below `to`. Whole segments are unlinked, after the cursor was synced; until some are, a power
    /// cut may bring trimmed records back.
    pub fn trim(&mut self, to: u64) -> io::Result<()> {
        match self.begin_trim(to)? {
            Some(trim) => trim.run().and_then(|()| self.end_trim(trim)),
            None => Ok(()),
        }
    }

    /// The same in steps, so that nobody who appends waits for the disk: [`Trim::run`] on any thread, then
    /// [`Log::end_trim`]. One at a time. `None`: no segment goes, all is done.
    pub fn begin_trim(&mut self, to: u64) -> io::Result<Option<Trim>> {
        let (next, active) = self.end();
        let to = to.min(next);
        if to <= self.first() {
            return Ok(None);
        }
        self.begin(to, to == next && active.bytes > KEPT_WHEN_EMPTY)
    }

    /// `replace`: an empty segment is made after the last one, so that this can be unlinked too and the names still tell
    /// the next index.
    fn begin(&mut self, to: u64, replace: bool) -> io::Result<Option<Trim>> {
        let (next, active) = self.end();
        let mut sync = Vec::new();
        if replace && active.from < next {
            self.half_begun = true;
            let (dir, disk) = (&self.shared.dir, &self.disk);
            let (file, header) = self.reserve.spend(|| open::make_segment(dir, next, disk))?;
            self.go_on_in(file, header);
            sync.push((self.active.clone(), segment_path(&self.shared.dir, next)));
        }
        let cursor = &mut self.cursor;
        self.reserve.spend(|| cursor.write(to))?;
        let mut extent = self.shared.lock();
        let followed = extent.segments.iter().zip(extent.segments.iter().skip(1));
        let gone: Vec<u64> =
            followed.take_while(|(_, next)| next.from <= to).map(|(segment, _)| segment.from).collect();
        if gone.is_empty() {
            extent.first = to;
            return Ok(None);
        }
        let folder = (!sync.is_empty()).then(|| self.shared.dir.clone());
        Ok(Some(Trim { disk: self.disk.clone(), new: sync, folder, cursor: self.cursor.to_sync(), to, gone }))
    }

    /// Ends a trim that ran without an error: unlinks.
    pub fn end_trim(&mut self, trim: Trim) -> io::Result<()> {
        self.cursor.synced();
        let kept = {
            let mut extent = self.shared.lock();
            extent.first = extent.first.max(trim.to);
            extent.segments.retain(|segment| !trim.gone.contains(&segment.from));
            extent.segments.front().map_or(trim.to, |segment| segment.from)
        };
        self.unsynced.retain(|segment| segment.end > kept);
        for from in &trim.gone {
            self.disk.remove(&segment_path(&self.shared.dir, *from))?;
        }
        self.reserve.refill()
    }

    /// The oldest segment and what is still wanted of it; `None` if there is no record.
    pub fn oldest(&self) -> Option<SegmentInfo> {
        let (segment, from, to) = {
            let extent = self.shared.lock();
            let (segment, end) = extent.holding(extent.first)?;
            (segment, extent.first, end - 1)
        };
        let file = File::open(segment_path(&self.shared.dir, segment.from)).ok();
        let header: Option<SegmentHeader> = file.and_then(|file| read_header(&file, segment.from).ok().flatten());
        // Without a readable header nothing is known, and the oldest is the safest guess: it goes first.
        let first_ms = header.map_or(0, |header| header.made_ms);
        Some(SegmentInfo { from, to, bytes: segment.bytes, first_ms })
    }

    /// Gives the oldest segment up, whatever is in it, and returns what went. Declare the loss before.
    pub fn drop_oldest(&mut self) -> io::Result<Option<SegmentInfo>> {
        let Some(oldest) = self.oldest() else { return Ok(None) };
        let Some(trim) = self.begin_drop_to(oldest.to + 1)? else { return Ok(None) };
        trim.run()?;
        self.end_trim(trim)?;
        Ok(Some(oldest))
    }

    /// As [`Log::begin_trim`], for room: a small last segment goes as well.
    pub fn begin_drop_to(&mut self, to: u64) -> io::Result<Option<Trim>> {
        let to = to.min(self.next());
        if to <= self.first() { Ok(None) } else { self.begin(to, to == self.next()) }
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().segments.iter().map(|segment| segment.bytes).sum()
    }

    /// How many segments there are; never 0.
    pub fn segments(&self) -> usize {
        self.shared.lock().segments.len()
    }

    /// Replaces a small file beside the segments; on a full disk with the reserve's room. On return it is on the disk.
    pub fn write_state(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.reserve.spend(|| state::write_on(&self.disk, &self.shared.dir, name, bytes))
    }

    /// The state of this name in a log's folder, opened or not.
    pub fn read_state(dir: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
        state::read(dir, name)
    }
}
