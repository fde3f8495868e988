//! One file: its lines from where they were left.
//!
//! Nothing of a file is held between two looks but places in it: a line without its end is read again from its beginning when
//! there is more. Each read begins with the bytes before the place that was reached, so that a file that was cut and written
//! anew in between is not taken for the same.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use logs::Stream;
use memchr::memchr;

use super::content::{Content, Found};
use super::identity::{HEAD, Id, Mark, Position};
use crate::logs::feed::Feed;

/// Time to the next look at a file that changes, and at one that does not.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(1);

/// A file that did not change for so long is closed before others.
const QUIET: Duration = Duration::from_secs(10);

/// A file that was renamed is looked at for so long after the last change: its writer may hold it open.
const LEAVE_RENAMED: Duration = Duration::from_secs(60);
/// The same for one that was deleted.
const LEAVE_DELETED: Duration = Duration::from_secs(3);

/// A file that lines are taken from.
#[derive(Debug)]
pub(super) struct Tail {
    /// Its name among the streams of the spool.
    pub(super) key: String,
    pub(super) id: Id,
    pub(super) path: PathBuf,
    /// `None` while it is closed.
    pub(super) content: Option<Content>,
    head: Mark,
    /// Where the first line begins that was not taken.
    pub(super) at: u64,
    before: Mark,
    /// There is no end of line from `at` to here.
    scanned: u64,
    /// Bytes, as last seen.
    pub(super) size: u64,
    pub(super) stream: Stream,
    /// The stream began here.
    floor: u64,
    /// When it was last seen under its name, in ms since 1970.
    pub(super) seen: i64,
    /// When its content was last known to be the same, in ms since 1970: what was rotated since may be unread.
    pub(super) looked: i64,
    /// What the spool knows of it.
    said: Option<(u64, usize)>,
    /// The next look.
    pub(super) due: Instant,
    /// When it last had something new.
    changed: Instant,
    /// Since when it is no longer under its name.
    pub(super) away: Option<Instant>,
    /// Failed looks in a row.
    failures: u32,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// There is more.
    More,
    /// All was taken.
    End,
    /// Its content is another one.
    Cut,
    /// All was taken, and nothing comes any more.
    Over,
}

impl Tail {
    /// A file that nothing is known of, from a place on.
    pub(super) fn new(key: String, path: PathBuf, found: Found, stream: Stream, now: Instant) -> Self {
        Self {
            key,
            id: found.id,
            path,
            content: None,
            head: Mark::of(&[]),
            at: 0,
            before: Mark::of(&[]),
            scanned: 0,
            size: found.size,
            stream,
            floor: 0,
            seen: 0,
            looked: 0,
            said: None,
            due: now,
            changed: now,
            away: None,
            failures: 0,
        }
    }

    /// Goes on where an earlier run left it.
    pub(super) fn resume(&mut self, position: &Position) {
        (self.at, self.scanned, self.floor) = (position.at, position.at, position.at);
        (self.head, self.before) = (position.head, position.before);
        self.said = Some((position.at, position.head.bytes));
    }

    /// Begins at its end.
    pub(super) fn skip(&mut self) -> io::Result<()> {
        self.open()?;
        let Some(content) = &mut self.content else { return Ok(()) };
        // From the last end of line on, so that no line is cut in two.
        let (mut at, mut piece) = (self.size, [0; 4096]);
        while at > 0 {
            let from = at.saturating_sub(piece.len() as u64);
            let wanted = piece.get_mut(..(at - from) as usize).unwrap_or_default();
            let count = content.read_at(wanted, from)?;
            match wanted.get(..count).unwrap_or_default().iter().rposition(|byte| *byte == b'\n') {
                Some(found) => {
                    at = from + found as u64 + 1;
                    break;
                }
                None => at = from,
            }
        }
        self.before = content.before(at)?.unwrap_or_default();
        self.head = content.head()?;
        (self.at, self.scanned, self.floor) = (at, at, at);
        Ok(())
    }

    /// Opens it under its name, if that is still its own.
    pub(super) fn open(&mut self) -> io::Result<bool> {
        if self.content.is_some() {
            return Ok(true);
        }
        let content = match Content::open(&self.path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            content => content?,
        };
        let found = content.found()?;
        if found.id != self.id {
            return Ok(false);
        }
        self.size = found.size;
        self.content = Some(content);
        Ok(true)
    }

    /// Up to where it was taken, for the spool; `None`: as the spool knows it already.
    pub(super) fn moved(&mut self, now_ms: i64) -> Option<Position> {
        let now = (self.place(), self.head.bytes);
        if self.said == Some(now) {
            return None;
        }
        let position = self.position(now.0, now_ms)?;
        self.said = Some(now);
        Some(position)
    }

    /// Up to where everything of it is a record.
    fn place(&self) -> u64 {
        self.stream.done().max(self.floor).min(self.at)
    }

    /// The position at a place.
    pub(super) fn position(&mut self, at: u64, now_ms: i64) -> Option<Position> {
        let before = if at == self.at { self.before } else { self.content.as_mut()?.before(at).ok()?? };
        let path = self.path.clone();
        // When it last stood under its name: others may have come and gone there while the rest of it was read.
        let time = if self.seen > 0 { self.seen.min(now_ms) } else { now_ms };
        Some(Position { id: self.id, at, head: self.head, before, time, path })
    }

    /// What is known of it without another look.
    pub(super) fn last_position(&self) -> Position {
        Position { id: self.id, at: self.at, head: self.head, before: self.before, time: 0, path: self.path.clone() }
    }

    /// Takes its first bytes down before it is read, so that it is known again under whatever name.
    pub(super) fn know(&mut self, content: &mut Content) -> io::Result<()> {
        self.head = content.head()?;
        Ok(())
    }

    /// The same, where they were taken down already.
    pub(super) fn begins_so(&mut self, head: Mark) {
        self.head = head;
    }

    /// Its first bytes.
    pub(super) fn head(&self) -> Mark {
        self.head
    }

    /// Bytes that are there and were not taken.
    pub(super) fn behind(&self) -> u64 {
        match &self.content {
            Some(content) if content.is_gzip() => 0,
            _ => self.size.saturating_sub(self.place()),
        }
    }

    /// Whether it has no name any more: its bytes are on the disk for as long as it is open.
    pub(super) fn is_deleted(&self) -> bool {
        let found = self.content.as_ref().and_then(|content| content.found().ok());
        found.is_some_and(|found| found.links == 0)
    }

    /// Whether it can be closed without losing sight of anything.
    pub(super) fn is_done(&self) -> bool {
        let waits = self.stream.waiting_since().is_some() || self.place() != self.at;
        self.content.is_some() && self.away.is_none() && self.at == self.size && !waits
    }

    /// The same of one that has not changed for a while.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.is_done() && now > self.changed + QUIET
    }

    /// Goes on in another file, which has the same content up to here.
    pub(super) fn go_on_in(&mut self, path: PathBuf, content: Content, found: Found, now: Instant) {
        (self.path, self.id, self.size) = (path, found.id, found.size);
        self.content = Some(content);
        self.scanned = self.at;
        (self.said, self.changed, self.due, self.failures) = (None, now, now, 0);
    }

    /// A look failed: `true` if it is to be given up.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures += 1;
        self.due = now + LATE * self.failures.min(30);
        self.failures > 10 && self.away.is_some()
    }

    /// Takes a share of what there is.
    pub(super) fn look(&mut self, feed: &mut Feed<'_>) -> io::Result<Look> {
        let now = feed.now;
        let Some(content) = &mut self.content else { return Ok(Look::End) };
        let found = content.found()?;
        self.failures = 0;
        if !content.is_gzip() {
            if found.size < self.at {
                return Ok(Look::Cut);
            }
            let grown = found.size != self.scanned;
            self.size = found.size;
            if !grown {
                return Ok(self.rest(feed, found, now));
            }
        }
        let look = self.take(feed)?;
        if look != Look::Cut {
            self.looked = feed.time.as_millis();
            self.know_more()?;
        }
        match look {
            Look::End if self.content.as_ref().is_some_and(Content::is_gzip) => {
                self.size = self.scanned;
                return Ok(self.rest(feed, Found { links: 0, size: self.scanned, ..found }, now));
            }
            Look::End => (self.changed, self.due) = (now, now + SOON),
            _ => (self.changed, self.due) = (now, now),
        }
        Ok(look)
    }

    /// More of its first bytes, if they are still those of what was read.
    fn know_more(&mut self) -> io::Result<()> {
        if self.head.bytes < HEAD
            && let Some(content) = &mut self.content
        {
            let head = content.head()?;
            if content.begins(self.head)? && content.before(self.at)? == Some(self.before) {
                self.head = head;
            }
        }
        Ok(())
    }

    /// Nothing came.
    fn rest(&mut self, feed: &mut Feed<'_>, found: Found, now: Instant) -> Look {
        let quiet = now.saturating_duration_since(self.changed);
        self.due = now + (quiet / 8).clamp(SOON, LATE);
        let left = if found.links == 0 { LEAVE_DELETED } else { LEAVE_RENAMED };
        let gzip = self.content.as_ref().is_some_and(Content::is_gzip);
        let since = self.away.map(|away| now.saturating_duration_since(away).min(quiet));
        if !gzip && since.is_none_or(|since| since < left) {
            return Look::End;
        }
        // A last line without its end is one now.
        if self.size > self.at {
            let bytes = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
            if self.long_line(feed, bytes, self.size).is_err() {
                return Look::End;
            }
            (self.at, self.scanned) = (self.size, self.size);
        }
        feed.flush(&mut self.stream);
        Look::Over
    }

    fn take(&mut self, feed: &mut Feed<'_>) -> io::Result<Look> {
        let Some(content) = &mut self.content else { return Ok(Look::End) };
        let most = feed.max_line;
        let mut buffer = std::mem::take(feed.buffer);
        let taken = if self.scanned - self.at > most as u64 {
            // A line that is longer than one may be: only its end is looked for.
            let count = content.read_at(&mut buffer, self.scanned)?;
            let end = memchr(b'\n', buffer.get(..count).unwrap_or_default());
            let full = count == buffer.len();
            *feed.buffer = buffer;
            match end {
                None => {
                    self.scanned += count as u64;
                    Ok(if full { Look::More } else { Look::End })
                }
                Some(end) => {
                    let end = self.scanned + end as u64;
                    let bytes = usize::try_from(end - self.at).unwrap_or(usize::MAX);
                    self.long_line(feed, bytes, end + 1)?;
                    Ok(Look::More)
                }
            }
        } else {
            let look = self.lines(feed, &mut buffer);
            *feed.buffer = buffer;
            look
        };
        if matches!(taken, Ok(Look::More)) && feed.full() {
            return Ok(Look::More);
        }
        taken
    }

    /// The lines in the next piece.
    fn lines(&mut self, feed: &mut Feed<'_>, buffer: &mut [u8]) -> io::Result<Look> {
        let Some(content) = &mut self.content else { return Ok(Look::End) };
        let known = self.before.bytes;
        let base = self.at.saturating_sub(known as u64);
        let count = content.read_at(buffer, base)?;
        let piece = buffer.get(..count).unwrap_or_default();
        // Of what was not read yet only its first bytes are known.
        if !self.before.begins(piece) || base == 0 && !self.head.begins(piece) {
            return Ok(Look::Cut);
        }
        if base == 0 && self.head.bytes < HEAD {
            self.head = Mark::of(piece.get(..HEAD).unwrap_or(piece));
        }
        let mut start = known;
        let mut from = usize::try_from(self.scanned - base).unwrap_or(usize::MAX).min(count);
        let mut full = false;
        while let Some(found) = memchr(b'\n', piece.get(from..).unwrap_or_default()) {
            let end = from + found;
            let line = piece.get(start..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (text, cut) = match line.get(..feed.max_line) {
                Some(text) => (text, line.len() - text.len()),
                None => (line, 0),
            };
            (start, from) = (end + 1, end + 1);
            feed.line(&mut self.stream, text, base + start as u64, cut as u64);
            if feed.full() {
                full = true;
                break;
            }
        }
        self.before = Mark::before(piece.get(..start).unwrap_or_default());
        self.at = base + start as u64;
        self.scanned = if full { self.at } else { base + count as u64 };
        self.size = self.size.max(self.scanned);
        Ok(if full || count == buffer.len() { Look::More } else { Look::End })
    }

    /// A line of so many bytes that may be longer than the buffer; what comes after it begins at `end`.
    fn long_line(&mut self, feed: &mut Feed<'_>, bytes: usize, end: u64) -> io::Result<()> {
        let Some(content) = &mut self.content else { return Ok(()) };
        let mut text = vec![0; bytes.min(feed.max_line)];
        let count = content.read_at(&mut text, self.at)?;
        text.truncate(count);
        let cut = bytes - count.min(bytes);
        let whole = if cut == 0 { text.strip_suffix(b"\r").unwrap_or(&text) } else { &text };
        self.before = content.before(end)?.unwrap_or_default();
        (self.at, self.scanned) = (end, end);
        feed.line(&mut self.stream, whole, end, cut as u64);
        Ok(())
    }
}
