//! Lines of files, found by patterns.
//!
//! A file is its device and inode, with its first bytes and the bytes before the place that was reached: so a name may go to
//! another file, and a file to another name. What becomes of one:
//!
//! | it is | what is done |
//! |---|---|
//! | renamed | read to its end, and a minute longer |
//! | copied and cut (`copytruncate`) | the rest is read from the copy, then the file from its beginning |
//! | compressed before it was read to its end | the rest is read from the compressed one |
//! | deleted | read to its end through the open file |
//! | rotated more than once between two looks | the generations that nobody has read are read too |
//!
//! Only some files are open at a time: one that was read to its end is closed when another one needs its place.

mod content;
mod identity;
mod search;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logs::sections::StartAt;
use logs::{Origin, Plan, Stream};
use tracing::{info, warn};

use super::feed::Feed;
use super::source::{Next, Source};
use super::told::Counts;
use crate::glob;
use crate::outbox::Moves;
use content::{Content, Found};
use identity::{Id, Mark, Position};
use search::Heir;
use tail::{Look, Tail};

/// Time between two searches for files; longer where one takes long.
const SCAN: Duration = Duration::from_secs(2);

/// Files of an input that are open at a time.
const MOST_OPEN: usize = 200;

/// Files of an input that are known.
const MOST_FILES: usize = 20_000;

/// Files that are no longer under their names, and bytes that deleted ones may keep from being freed.
const MOST_AWAY: usize = 100;
const MOST_HELD: u64 = 1 << 30;

/// Bytes that are read in one go, before others have their turn.
const TURN: u64 = 4 << 20;

/// A position of a file that is nowhere is kept for so long.
const FORGET: i64 = 7 * 86_400_000;

/// The kernel's clock for times of files stands still for so long, in ms.
const COARSE: i64 = 20;

/// What a look tells of a file at most so often.
const COMPLAINT: Duration = Duration::from_secs(600);

/// The beginning of these streams' names in the spool.
const PREFIX: &str = "file/";

/// An input of files.
pub(super) struct Files {
    plan: Arc<Plan>,
    include: Vec<String>,
    exclude: Vec<String>,
    tails: BTreeMap<u64, Tail>,
    by_id: HashMap<Id, u64>,
    next: u64,
    /// The next search.
    scan: Instant,
    first: bool,
    /// Positions of an earlier run whose files were not seen yet.
    saved: Vec<(String, Position)>,
    /// Tails with something new for the spool.
    touched: BTreeSet<u64>,
    /// Streams that are over.
    over: Vec<String>,
    /// Places of files whose folder went away with them: it may come back.
    parked: Vec<(String, String)>,
    /// Where the next turn begins.
    turn: u64,
    open: usize,
    /// Some position should be on the disk soon.
    urgent: bool,
    lost: u64,
    errors: u64,
    complaint: Option<Instant>,
}

fn beginning(input: &str) -> String {
    format!("{PREFIX}{input}/")
}

impl Files {
    /// An input with the positions of earlier runs. Without any, it is the first start with it.
    pub(super) fn new(plan: Arc<Plan>, positions: &dyn Fn(&str) -> Vec<(String, String)>, kept: bool) -> Self {
        let (include, exclude, start_at) = match &plan.source {
            logs::Source::Files { files, exclude, start_at } => (files.clone(), exclude.clone(), *start_at),
            _ => Default::default(),
        };
        let beginning = beginning(&plan.name);
        let mut saved = Vec::new();
        let mut next = 1;
        for (key, text) in positions(&beginning) {
            let number = key.strip_prefix(&beginning).and_then(|number| number.parse::<u64>().ok());
            if let (Some(number), Ok(position)) = (number, text.parse::<Position>()) {
                next = next.max(number + 1);
                saved.push((key, position));
            }
        }
        // Where nothing is kept, each start would send all of every file again.
        let end = !kept || start_at == StartAt::End;
        Self {
            first: saved.is_empty() && end,
            plan,
            include,
            exclude,
            tails: BTreeMap::new(),
            by_id: HashMap::new(),
            next,
            scan: Instant::now(),
            saved,
            touched: BTreeSet::new(),
            over: Vec::new(),
            parked: Vec::new(),
            turn: 0,
            open: 0,
            urgent: false,
            lost: 0,
            errors: 0,
            complaint: None,
        }
    }

    fn stream(&self, path: &Path) -> Stream {
        Stream::new(&self.plan, Origin::of_file(&path.to_string_lossy()))
    }

    fn complain(&mut self, now: Instant, text: &str) {
        self.errors += 1;
        if self.complaint.is_none_or(|said| now >= said + COMPLAINT) {
            warn!("logs {:?}: {text}", self.plan.name);
            self.complaint = Some(now);
        }
    }

    /// A new tail.
    fn add(&mut self, tail: Tail) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_id.insert(tail.id, number);
        self.open += usize::from(tail.content.is_some());
        self.tails.insert(number, tail);
        self.touched.insert(number);
        number
    }

    fn key(&self) -> String {
        format!("{}{}", beginning(&self.plan.name), self.next)
    }

    fn remove(&mut self, number: u64) {
        let Some(tail) = self.tails.remove(&number) else { return };
        if self.by_id.get(&tail.id) == Some(&number) {
            self.by_id.remove(&tail.id);
        }
        self.open -= usize::from(tail.content.is_some());
        self.touched.remove(&number);
        self.over.push(tail.key);
    }

    /// A file that is gone was read to its end. Where its folder is gone as well, its place is kept.
    fn retire(&mut self, number: u64, time: i64) {
        let Some(tail) = self.tails.get(&number) else { return };
        if search::is_there(&tail.path, tail.id) {
            return self.remove(number);
        }
        let (key, position) = (tail.key.clone(), Position { time, ..tail.last_position() });
        self.remove(number);
        self.over.retain(|over| *over != key);
        self.parked.push((key.clone(), position.to_string()));
        self.saved.push((key, position));
    }

    /// The rest of a file can't be read.
    fn lose(&mut self, number: u64, now: Instant, why: &str) {
        if let Some(tail) = self.tails.get(&number) {
            self.lost += 1;
            let text = format!("{} is lost from byte {} on: {why}", tail.path.display(), tail.at);
            self.complain(now, &text);
        }
        self.remove(number);
    }

    /// Looks for files.
    fn search(&mut self, now: Instant, time: i64) {
        let began = Instant::now();
        let mut seen: BTreeMap<Id, PathBuf> = BTreeMap::new();
        let mut found = Vec::new();
        for pattern in &self.include {
            for path in glob::found(pattern) {
                if search::is_compressed(&path) || self.exclude.iter().any(|pattern| glob::is_found(pattern, &path)) {
                    continue;
                }
                // Symbolic links are followed; what has two names is read once.
                let Ok(metadata) = std::fs::metadata(&path) else { continue };
                let of = Found::of(&metadata);
                if metadata.is_file() && !seen.contains_key(&of.id) {
                    seen.insert(of.id, path.clone());
                    found.push((path, of));
                }
            }
        }
        self.leave(&seen, now, time);
        let mut fresh = Vec::new();
        for (path, of) in found {
            match self.by_id.get(&of.id).and_then(|number| self.tails.get_mut(number)) {
                Some(tail) => {
                    tail.away = None;
                    (tail.path, tail.seen) = (path, time);
                    if tail.content.is_none() && of.size != tail.at {
                        (tail.size, tail.due) = (of.size, now);
                    }
                }
                None => fresh.push((path, of)),
            }
        }
        let rotated: Vec<PathBuf> = fresh.iter().map(|(path, _)| path.clone()).collect();
        let was = self.last_seen();
        let known = if fresh.is_empty() { HashMap::new() } else { self.known_by_path() };
        let mut saved: HashMap<Id, Vec<(String, Position)>> = HashMap::new();
        if !fresh.is_empty() {
            for (key, position) in std::mem::take(&mut self.saved) {
                saved.entry(position.id).or_default().push((key, position));
            }
        }
        for (path, of) in fresh {
            self.meet(path, of, saved.get_mut(&of.id), &known, now, time);
        }
        self.saved.extend(saved.into_values().flatten());
        // Whose names others have now, or nobody.
        for path in rotated {
            if let Some(since) = was.get(&path) {
                self.find_missed(&path, *since, None, now);
            }
        }
        self.find_saved(now, time);
        self.first = false;
        self.scan = now + SCAN.max(began.elapsed() * 20);
    }

    /// Names of files that are no longer there, and when each was last seen under it, in ms since 1970.
    fn last_seen(&self) -> BTreeMap<PathBuf, i64> {
        let saved = self.saved.iter().map(|(_, position)| (&position.path, position.time));
        let away = self.tails.values().filter(|tail| tail.away.is_some()).map(|tail| (&tail.path, tail.seen));
        let mut all = BTreeMap::new();
        for (path, seen) in saved.chain(away) {
            let known: &mut i64 = all.entry(path.clone()).or_insert(seen);
            *known = seen.max(*known);
        }
        all
    }

    /// Notes which files are no longer under a name that was looked for.
    fn leave(&mut self, seen: &BTreeMap<Id, PathBuf>, now: Instant, time: i64) {
        let gone: Vec<u64> = self
            .tails
            .iter()
            .filter(|(_, tail)| !seen.contains_key(&tail.id) && tail.away.is_none())
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            let Some(tail) = self.tails.get_mut(&number) else { continue };
            (tail.away, tail.due) = (Some(now), now);
            if tail.content.is_none() {
                // All of it was taken before it was closed; what came since stands in what it has become.
                self.find_again(number, now, time);
            }
        }
        let mut away: Vec<(Instant, u64, u64)> = Vec::new();
        let mut held = 0;
        for (number, tail) in &self.tails {
            if let Some(since) = tail.away {
                let holds = if tail.behind() > 0 && tail.is_deleted() { tail.size } else { 0 };
                held += holds;
                away.push((since, *number, holds));
            }
        }
        ::rules::order::sort_by(&mut away, &Ord::cmp);
        let mut count = away.len();
        for (_, number, size) in away {
            if count <= MOST_AWAY && held <= MOST_HELD {
                break;
            }
            (count, held) = (count - 1, held.saturating_sub(size));
            let behind = self.tails.get(&number).map_or(0, Tail::behind);
            if behind > 0 {
                let why = format!("too much waits in files that are gone; {behind} bytes of it were not read");
                self.lose(number, now, &why);
            } else {
                self.retire(number, time);
            }
        }
    }

    /// A file that was not known.
    fn meet(
        &mut self,
        path: PathBuf,
        of: Found,
        saved: Option<&mut Vec<(String, Position)>>,
        known: &HashMap<PathBuf, Vec<Position>>,
        now: Instant,
        time: i64,
    ) {
        if self.tails.len() >= MOST_FILES {
            let text = format!("more than {MOST_FILES} files match: {} and others are not read", path.display());
            self.complain(now, &text);
            return;
        }
        if let Some(saved) = saved
            && let Some((key, position)) = saved.pop()
        {
            let same = |content: &mut Content| -> io::Result<bool> {
                Ok(content.begins(position.head)? && content.before(position.at)? == Some(position.before))
            };
            match Content::open(&path, false).and_then(|mut content| same(&mut content)) {
                Ok(true) => {
                    let mut tail = Tail::new(key, path.clone(), of, self.stream(&path), now);
                    tail.resume(&position);
                    (tail.seen, tail.looked) = (time, time);
                    self.add(tail);
                    return;
                }
                // Another file has its number, or it was cut: what it was is looked for.
                Ok(false) => saved.push((key, position)),
                Err(error) => {
                    saved.push((key, position));
                    self.complain(now, &cannot_read(&path, &error));
                    return;
                }
            }
        }
        if is_copy(&path, of, known) {
            return;
        }
        if let Some(heir) = self.replaced(&path) {
            let (number, heir) = heir;
            self.inherit(number, heir, now);
            if let Some(tail) = self.tails.get_mut(&number) {
                (tail.away, tail.seen) = (None, time);
            }
            return;
        }
        let mut tail = Tail::new(self.key(), path.clone(), of, self.stream(&path), now);
        if self.first {
            if let Err(error) = tail.skip() {
                self.complain(now, &cannot_read(&path, &error));
                return;
            }
            if self.open >= MOST_OPEN {
                tail.content = None;
            }
        } else if of.size > 0 {
            let known = Content::open(&path, false).and_then(|mut content| tail.know(&mut content));
            if let Err(error) = known {
                self.complain(now, &cannot_read(&path, &error));
            }
        }
        (tail.seen, tail.looked) = (time, time);
        // When it is rotated away, it is to be known that it was one of ours.
        self.urgent = true;
        self.add(tail);
    }

    /// The tail of a deleted file that stands anew under its name with all that was read of it, as rsync does it.
    fn replaced(&self, path: &Path) -> Option<(u64, Heir)> {
        let is_old = |tail: &Tail| tail.away.is_some() && tail.path == path && tail.behind() == 0 && tail.is_deleted();
        let (number, tail) = self.tails.iter().find(|(_, tail)| is_old(tail))?;
        let position = tail.last_position();
        let heir = search::as_left(path, false, &position).filter(|_| position.at > 0 && position.head.bytes > 0)?;
        Some((*number, heir))
    }

    /// The places of what is known, by the names of the files.
    fn known_by_path(&self) -> HashMap<PathBuf, Vec<Position>> {
        let saved = self.saved.iter().map(|(_, saved)| saved.clone());
        let mut known: HashMap<PathBuf, Vec<Position>> = HashMap::new();
        for position in self.tails.values().map(Tail::last_position).chain(saved) {
            if position.at > 0 && position.head.bytes > 0 {
                known.entry(position.path.clone()).or_default().push(position);
            }
        }
        known
    }

    /// Looks for what a file has become whose name and content are gone.
    fn find_again(&mut self, number: u64, now: Instant, time: i64) {
        let Some(tail) = self.tails.get(&number) else { return };
        let position = tail.last_position();
        match self.heir(&position) {
            Ok(Some(heir)) => self.inherit(number, heir, now),
            Ok(None) if tail.behind() > 0 => self.lose(number, now, "it is gone"),
            Err(error) if tail.behind() > 0 && search::is_there(&position.path, position.id) => {
                let why = error.to_string();
                self.lose(number, now, &why);
            }
            Ok(None) | Err(_) => self.retire(number, time),
        }
    }

    fn heir(&self, position: &Position) -> io::Result<Option<Heir>> {
        if let Some(heir) = search::renamed(position)? {
            return Ok(Some(heir));
        }
        let found = search::copied(position, &|id| self.by_id.contains_key(&id))?;
        if found.is_none() && !search::is_there(&position.path, position.id) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its folder is not there"));
        }
        Ok(found)
    }

    fn inherit(&mut self, number: u64, heir: Heir, now: Instant) {
        let Heir { path, content, found } = heir;
        let Some(tail) = self.tails.get_mut(&number) else { return };
        info!("logs {:?}: {} goes on in {}", self.plan.name, tail.path.display(), path.display());
        self.open += usize::from(tail.content.is_none());
        if self.by_id.get(&tail.id) == Some(&number) {
            self.by_id.remove(&tail.id);
        }
        tail.go_on_in(path, content, found, now);
        tail.away = Some(now);
        self.by_id.insert(found.id, number);
        self.touched.insert(number);
    }

    /// Generations of a file that came and went unseen. `live`: what is under its name now, if that is no tail yet.
    fn find_missed(&mut self, path: &Path, since: i64, live: Option<(Id, Mark)>, now: Instant) {
        let mut heads: Vec<_> = self.tails.values().map(Tail::head).collect();
        heads.extend(self.saved.iter().map(|(_, saved)| saved.head));
        heads.extend(live.map(|(_, head)| head));
        heads.retain(|head| head.bytes > 0);
        let known = |id: Id, content: &mut Content| {
            live.is_some_and(|(live, _)| live == id)
                || self.by_id.contains_key(&id)
                || heads.iter().any(|head| content.begins(*head).unwrap_or(true))
        };
        let mut missed = search::missed(path, since - COARSE, &known).unwrap_or_default();
        // A copy that is being made now has what is read from the file itself.
        if let Ok(mut live) = Content::open(path, false) {
            missed.retain_mut(|heir| heir.content.head().is_ok_and(|head| !live.begins(head).unwrap_or(false)));
        }
        for Heir { path, mut content, found } in missed {
            info!("logs {:?}: {} was written and rotated unseen: it is read now", self.plan.name, path.display());
            let mut tail = Tail::new(self.key(), path.clone(), found, self.stream(&path), now);
            // What can't be read is tried again when it is looked at.
            let _ = tail.know(&mut content);
            tail.content = Some(content);
            tail.away = Some(now);
            self.add(tail);
        }
    }

    /// Files of an earlier run that are not under their names.
    fn find_saved(&mut self, now: Instant, time: i64) {
        for (key, position) in std::mem::take(&mut self.saved) {
            match self.heir(&position) {
                Ok(Some(heir)) if !self.by_id.contains_key(&heir.found.id) => {
                    let mut tail = Tail::new(key, position.path.clone(), heir.found, self.stream(&position.path), now);
                    tail.resume(&position);
                    let number = self.add(tail);
                    self.inherit(number, heir, now);
                }
                Ok(_) => {
                    // It was read to its end, as far as anybody knows.
                    info!("logs {:?}: {} is gone", self.plan.name, position.path.display());
                    self.over.push(key);
                }
                // Its folder is not there: it may be mounted later.
                Err(_) if position.time + FORGET > time => self.saved.push((key, position)),
                Err(_) => self.over.push(key),
            }
        }
    }

    /// Closes the files that were read to their end a while ago, if others may need their places.
    fn close_idle(&mut self, now: Instant) {
        if self.open < MOST_OPEN {
            return;
        }
        for tail in self.tails.values_mut().filter(|tail| tail.is_idle(now)) {
            tail.content = None;
            self.open -= 1;
        }
    }

    /// A look at one file.
    fn look(&mut self, number: u64, feed: &mut Feed<'_>) -> bool {
        let now = feed.now;
        let Some(tail) = self.tails.get_mut(&number) else { return false };
        if tail.content.is_none() {
            if tail.size == tail.at {
                // It is opened when a search finds it grown.
                tail.due = now + Duration::from_secs(3600);
                return false;
            }
            // One more is closed again as soon as it was read.
            if self.open >= 2 * MOST_OPEN {
                tail.due = now + Duration::from_millis(100);
                return false;
            }
            match tail.open() {
                Ok(true) => self.open += 1,
                Ok(false) => {
                    self.scan = now;
                    tail.due = now + Duration::from_millis(100);
                    return false;
                }
                Err(error) => {
                    let text = cannot_read(&tail.path, &error);
                    tail.failed(now);
                    self.complain(now, &text);
                    return false;
                }
            }
        }
        let Some(tail) = self.tails.get_mut(&number) else { return false };
        let before = tail.at;
        let result = tail.look(feed);
        if tail.at != before {
            self.touched.insert(number);
        }
        match result {
            Ok(Look::More) => true,
            Ok(Look::End) => {
                // Under its name may stand another one now.
                let Some(tail) = self.tails.get(&number) else { return false };
                let there = || std::fs::metadata(&tail.path).is_ok_and(|metadata| Found::of(&metadata).id == tail.id);
                if tail.at == before && tail.away.is_none() && !there() {
                    self.scan = now;
                }
                if self.open > MOST_OPEN
                    && let Some(tail) = self.tails.get_mut(&number)
                    && tail.is_done()
                {
                    tail.content = None;
                    self.open -= 1;
                }
                false
            }
            Ok(Look::Cut) => {
                self.cut(number, feed);
                false
            }
            Ok(Look::Over) => {
                self.retire(number, feed.time.as_millis());
                false
            }
            Err(error) => {
                let text = cannot_read(&tail.path, &error);
                if tail.failed(now) {
                    self.lose(number, now, &text);
                } else {
                    self.complain(now, &text);
                }
                false
            }
        }
    }

    /// A file has another content: the rest of the old one is in a copy, or nowhere.
    fn cut(&mut self, number: u64, feed: &mut Feed<'_>) {
        let now = feed.now;
        let Some(tail) = self.tails.get_mut(&number) else { return };
        let (id, path, looked) = (tail.id, tail.path.clone(), tail.looked);
        let away = tail.away;
        if tail.content.as_ref().is_some_and(Content::is_gzip) {
            return self.lose(number, now, "it has another content");
        }
        let position = tail.last_position();
        tail.content = None;
        self.open -= 1;
        self.by_id.remove(&id);
        match search::copied(&position, &|id| self.by_id.contains_key(&id)) {
            Ok(Some(heir)) => self.inherit(number, heir, now),
            _ => {
                info!("logs {:?}: {} was cut: it is read from its beginning", self.plan.name, path.display());
                if let Some(tail) = self.tails.get_mut(&number) {
                    feed.flush(&mut tail.stream);
                }
                self.remove(number);
            }
        }
        if away.is_none() {
            // Taken down before others are looked for, so that it is known when it is copied and cut meanwhile.
            let head = Content::open(&path, false).and_then(|mut content| {
                let same = content.found()?.id == id;
                Ok(if same { content.head()? } else { Mark::of(&[]) })
            });
            let head = head.unwrap_or(Mark::of(&[]));
            let time = feed.time.as_millis();
            self.find_missed(&path, looked, Some((id, head)), now);
            let found = Found { id, size: 1, links: 1 };
            let mut tail = Tail::new(self.key(), path.clone(), found, self.stream(&path), now);
            (tail.seen, tail.looked) = (time, time);
            tail.begins_so(head);
            self.urgent = true;
            self.add(tail);
        }
    }
}

impl Source for Files {
    fn read(&mut self, feed: &mut Feed<'_>) -> Next {
        let now = feed.now;
        if now >= self.scan {
            self.search(now, feed.time.as_millis());
            self.close_idle(now);
        }
        let due = |(number, tail): (&u64, &Tail)| (tail.due <= now).then_some(*number);
        let mut turns: Vec<u64> = self.tails.range(self.turn..).filter_map(due).collect();
        turns.extend(self.tails.range(..self.turn).filter_map(due));
        let before = feed.counts.bytes;
        let mut more = false;
        for number in turns {
            if feed.full() || feed.counts.bytes - before > TURN {
                self.turn = number;
                return Next::Now;
            }
            more |= self.look(number, feed);
        }
        let patience = self.plan.wait;
        for tail in self.tails.values_mut() {
            // A clock that was set back must not make them wait for it.
            let waits = |since: wire::Timestamp| feed.time.as_millis().abs_diff(since.as_millis());
            if tail.stream.waiting_since().is_some_and(|since| u128::from(waits(since)) >= patience.as_millis()) {
                feed.flush(&mut tail.stream);
                tail.due = tail.due.min(now);
            }
        }
        if more {
            return Next::Now;
        }
        let next = self.tails.values().map(|tail| tail.due).min().unwrap_or(self.scan);
        Next::At(next.min(self.scan))
    }

    fn moved(&mut self, time: i64, moves: &mut Moves) -> bool {
        for key in self.over.drain(..) {
            moves.insert(key, None);
        }
        moves.extend(self.parked.drain(..).map(|(key, place)| (key, Some(place))));
        let mut left = BTreeSet::new();
        for number in std::mem::take(&mut self.touched) {
            let Some(tail) = self.tails.get_mut(&number) else { continue };
            if let Some(position) = tail.moved(time) {
                moves.insert(tail.key.clone(), Some(position.to_string()));
            }
            if tail.stream.waiting_since().is_some() {
                left.insert(number);
            }
        }
        self.touched = left;
        std::mem::take(&mut self.urgent)
    }

    fn count(&self, counts: &mut Counts) {
        counts.open = self.open as u64;
        counts.watched = self.tails.len() as u64;
        counts.behind = self.tails.values().map(Tail::behind).sum();
        (counts.lost, counts.errors) = (self.lost, self.errors);
    }
}

/// Whether a file is the copy of one that is about to be cut: its lines are known already. It is met again then.
fn is_copy(path: &Path, of: Found, known: &HashMap<PathBuf, Vec<Position>>) -> bool {
    let (bytes, name) = (path.as_os_str().as_bytes(), path.file_name().map_or(0, |name| name.len()));
    // `app.log.1` is one of `app.log`.
    let originals = (bytes.len() - name..bytes.len()).filter_map(|end| {
        let original = bytes.get(..end).map(|path| Path::new(OsStr::from_bytes(path)))?;
        known.get(original)
    });
    let mut originals = originals.flatten().peekable();
    if originals.peek().is_none() {
        return false;
    }
    let Ok(mut content) = Content::open(path, false) else { return false };
    originals.any(|known| {
        let begins = content.begins(known.head).unwrap_or(false);
        // A shorter one is still being written.
        begins && (of.size < known.at || content.before(known.at).ok().flatten() == Some(known.before))
    })
}

/// A sentence with the remedy.
pub(super) fn cannot_read(path: &Path, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; let the agent's user read it, for example with `usermod -aG adm utilizer` and a restart of the agent"
        }
        _ => "",
    };
    format!("can't read {}: {error}{remedy}", path.display())
}

/// What `check` says of patterns that find nothing, and of files that can't be read.
pub(super) fn hints(plan: &Plan) -> Vec<String> {
    let logs::Source::Files { files, .. } = &plan.source else { return Vec::new() };
    let mut hints = Vec::new();
    for pattern in files {
        let found = glob::found(pattern);
        let mut plain = found.iter().filter(|path| path.is_file()).peekable();
        if plain.peek().is_none() {
            hints.push(format!("{pattern} matches no file now"));
        }
        let unread = plain.filter_map(|path| Content::open(path, false).err().map(|error| cannot_read(path, &error)));
        hints.extend(unread.take(5));
    }
    hints
}
