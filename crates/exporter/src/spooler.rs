//! The thread that owns the spool: appends what comes, syncs a group at once, acknowledges, trims.
//!
//! A message is acknowledged after the sync that its record is in, in the order of receipt. While a sync takes its time
//! the messages that come meanwhile wait here, and go into the next one together. The connection waits for nobody: what
//! waits here is bounded by the broker's receive maximum, and beyond it by permits.
//!
//! At its bound, or on a full disk, the spool takes no more. A numbered message is then acknowledged and let go without
//! being called held, so that its agent sends it again. One without a number would be lost by that: it waits, and the
//! broker behind it, until there is room.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use delivery::Identity;
use mqtt::{AckToken, Client, Message};
use spool::{AppendError, Log, Reader};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wire::{Timestamp, Topic};

use crate::dead::{DeadLetter, DeadLetters, Reason, Replays};
use crate::desk::{Desk, Verdict};
use crate::frame::{Frame, Mark};
use crate::health::Health;
use crate::metrics::Metrics;

/// What one sync may hold back at most: bytes and messages.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_MESSAGES: usize = 4096;

/// Between two looks at everything that nobody announces: requests to replay, room on the disk.
const TICK: Duration = Duration::from_millis(500);

/// Between two looks for room while a message waits for it.
const ROOM_TICK: Duration = Duration::from_millis(50);

/// A spool that nothing was refused by for so long, and that has room, counts as well.
const CALM: Duration = Duration::from_secs(10);

/// The same trouble is logged when it begins and then this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A message on its way into the spool.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) message: Message,
    /// It is no record, and only this of it is to be kept.
    pub(crate) letter: Option<DeadLetter>,
    pub(crate) ack: AckToken,
    /// The number of the connection that it came on.
    pub(crate) connection: u64,
    /// Bounds how many there are.
    pub(crate) permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Order {
    Message(Box<Arrived>),
    Wake,
}

/// What the other tasks tell the thread, and look at.
#[derive(Debug)]
pub(crate) struct Spooling {
    orders: Sender<Order>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Everything below is written into the store.
    trim: AtomicU64,
    /// The connection that is current.
    connection: AtomicU64,
    stop: AtomicBool,
}

/// How far the spool is synced; readers wait for it.
#[derive(Debug, Default)]
pub(crate) struct Synced {
    state: Mutex<Frontier>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Frontier {
    next: u64,
    closed: bool,
}

impl Synced {
    /// Waits until more than `known` is synced, the spool is closed, or the time is over. Gives the next index and whether
    /// nothing more will come.
    pub(crate) fn wait(&self, known: u64, time: Duration) -> (u64, bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |state: &mut Frontier| state.next <= known && !state.closed;
        let (state, _) = self.changed.wait_timeout_while(state, time, same).unwrap_or_else(PoisonError::into_inner);
        (state.next, state.closed)
    }

    fn set(&self, next: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).next = next;
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }
}

impl Spooling {
    /// Hands over a message; its permit bounds the queue.
    pub(crate) fn take(&self, arrived: Arrived) {
        // A thread that is gone shows at its end.
        let _ = self.orders.send(Order::Message(Box::new(arrived)));
    }

    /// Says which connection is current: what earlier ones brought and still waits for room comes again.
    pub(crate) fn connected(&self, connection: u64) {
        self.shared.connection.store(connection, Ordering::Relaxed);
    }

    /// Everything below this index may go.
    pub(crate) fn trim(&self, to: u64) {
        self.shared.trim.fetch_max(to, Ordering::Relaxed);
        let _ = self.orders.send(Order::Wake);
    }

    /// Asks for the end: what was handed over is synced and acknowledged before.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.orders.send(Order::Wake);
    }
}

/// The thread's own things.
pub(crate) struct Spooler {
    pub(crate) log: Log,
    pub(crate) max_bytes: u64,
    pub(crate) client: Client,
    pub(crate) desk: Arc<Desk>,
    pub(crate) synced: Arc<Synced>,
    pub(crate) dead: Arc<DeadLetters>,
    pub(crate) replays: Replays,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
}

/// The spool can't be written safely any more.
#[derive(Debug, thiserror::Error)]
#[error("can't sync the spool in {path} to its disk: {source}")]
pub struct SyncError {
    /// Its folder.
    pub path: PathBuf,
    /// What the system says.
    pub source: std::io::Error,
}

impl Spooler {
    /// Starts the thread. The receiver tells of its end.
    pub(crate) fn start(self, path: PathBuf) -> std::io::Result<(Spooling, oneshot::Receiver<Result<(), SyncError>>)> {
        let (orders, receiver) = channel();
        let shared = Arc::new(Shared::default());
        let (ended, end) = oneshot::channel();
        let running = Running {
            folder: identity(&path)?,
            path: path.clone(),
            looker: self.log.reader(),
            oldest: None,
            spooler: self,
            shared: shared.clone(),
            group: Group::default(),
            trimmed: 0,
            trim_failed: None,
            trim_said: None,
            full: None,
            said: (None, false),
            replay_said: None,
            head: Vec::new(),
            looked: Instant::now(),
        };
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
            let synced = running.spooler.synced.clone();
            let result = running.run(&receiver).map_err(|source| SyncError { path, source });
            synced.close();
            let _ = ended.send(result);
        })?;
        Ok((Spooling { orders, shared }, end))
    }
}

/// What waits for the next sync.
#[derive(Debug, Default)]
struct Group {
    acks: Vec<(AckToken, OwnedSemaphorePermit)>,
    stored: Vec<Identity>,
    bytes: usize,
    appended: bool,
}

struct Running {
    spooler: Spooler,
    shared: Arc<Shared>,
    group: Group,
    /// The spool's folder.
    path: PathBuf,
    folder: (u64, u64),
    trimmed: u64,
    /// When trimming last failed, and when that was last said.
    trim_failed: Option<Instant>,
    trim_said: Option<Instant>,
    /// Nothing more is taken.
    full: Option<Full>,
    /// When it was last said that nothing more is taken, and whether it is to be said that this is over.
    said: (Option<Instant>, bool),
    /// When it was last said that requests to replay can't be served.
    replay_said: Option<Instant>,
    head: Vec<u8>,
    looked: Instant,
    looker: Reader,
    /// Index of the first record that is not written, and when it came, in ms since 1970.
    oldest: Option<(u64, u64)>,
}

/// What tells a folder from another one of its name.
fn identity(folder: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(folder)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The spool, or its disk, has no room.
#[derive(Debug, Default)]
struct Full {
    /// Since when there may be room again. Only an attempt tells: a full disk is found by it, without harm.
    hopeful: Option<Instant>,
}

/// What became of a message.
enum Outcome {
    /// It is acknowledged with the group.
    Done,
    /// There is no room for it, and it must not be let go.
    NoRoom(Frame),
}

impl Running {
    fn run(mut self, orders: &Receiver<Order>) -> std::io::Result<()> {
        self.spooler.synced.set(self.spooler.log.synced());
        loop {
            let mut order = match orders.recv_timeout(TICK) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            };
            while let Some(Order::Message(arrived)) = order.take() {
                self.message(*arrived)?;
                if self.group.bytes >= GROUP_BYTES || self.group.acks.len() >= GROUP_MESSAGES {
                    break;
                }
                // A wake among them ends the group; it has waited long enough.
                order = orders.try_recv().ok();
            }
            self.sync()?;
            self.trim();
            self.show();
            if self.looked.elapsed() >= TICK {
                self.looked = Instant::now();
                self.replay()?;
                self.is_there()?;
                self.room();
                self.age();
            }
            if self.stopping() {
                // What is queued is taken in, since the broker may keep no session for us.
                while let Ok(order) = orders.try_recv() {
                    if let Order::Message(arrived) = order {
                        self.message(*arrived)?;
                    }
                }
                self.sync()?;
                self.trim();
                self.show();
                return Ok(());
            }
        }
    }

    /// Files that were removed can be written and synced for a while, and nothing of it is there after a restart.
    fn is_there(&self) -> std::io::Result<()> {
        match identity(&self.path) {
            Ok(found) if found != self.folder => Err(std::io::Error::other("somebody put another folder in its place")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(std::io::Error::other("somebody removed its folder"))
            }
            _ => Ok(()),
        }
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn message(&mut self, arrived: Arrived) -> std::io::Result<()> {
        let Arrived { message, letter, ack, connection, permit } = arrived;
        let received: Timestamp = SystemTime::now().into();
        if let Some(letter) = letter {
            self.keep(&letter, received);
            self.group.acks.push((ack, permit));
            return Ok(());
        }
        let (host, kind) = match message.topic.parse() {
            Ok(Topic::Telemetry(host, kind)) => (host, kind),
            Ok(_) => {
                self.bury(&message, "nothing here takes messages of this topic".to_owned(), received);
                self.group.acks.push((ack, permit));
                return Ok(());
            }
            Err(error) => {
                self.bury(&message, error.to_string(), received);
                self.group.acks.push((ack, permit));
                return Ok(());
            }
        };
        let mark = Mark::of(&message.user_properties, &message.payload);
        let content_type = message.content_type.filter(|text| text != wire::CONTENT_TYPE);
        let frame = Frame { received, host, kind, mark, content_type };
        if let Outcome::NoRoom(frame) = self.store(frame, &message.payload) {
            // What came before it is safe, and shall not wait with it.
            self.sync()?;
            loop {
                if self.stopping() || connection < self.shared.connection.load(Ordering::Relaxed) {
                    // Without its PUBACK the broker keeps it, if it keeps the session.
                    return Ok(());
                }
                std::thread::sleep(ROOM_TICK);
                self.is_there()?;
                self.trim();
                self.room();
                self.age();
                self.show();
                if self.may_have_room()
                    && let Outcome::Done = self.store(frame.clone(), &message.payload)
                {
                    break;
                }
            }
        }
        self.group.acks.push((ack, permit));
        Ok(())
    }

    /// Appends a message, unless it is known or another shard's.
    fn store(&mut self, frame: Frame, payload: &[u8]) -> Outcome {
        let identity = frame.identity();
        if !self.spooler.desk.takes(&frame.host) {
            self.spooler.metrics.foreign.inc();
            return Outcome::Done;
        }
        if let Some(identity) = &identity
            && self.spooler.desk.received(identity) == Verdict::Known
        {
            self.spooler.metrics.duplicates.inc();
            return Outcome::Done;
        }
        if self.may_have_room() && self.spooler.log.bytes() >= self.spooler.max_bytes {
            self.fill(format!(
                "the spool has reached its {} bytes ([spool] max_bytes): nothing more is taken until the store takes some of it",
                self.spooler.max_bytes
            ));
        }
        if self.may_have_room() {
            self.head.clear();
            frame.write(&mut self.head);
            match self.spooler.log.append(&self.head, payload) {
                Ok(_) => {
                    self.group.appended = true;
                    self.group.bytes += self.head.len() + payload.len();
                    self.group.stored.extend(identity);
                    self.well();
                    return Outcome::Done;
                }
                Err(error @ AppendError::TooLarge { .. }) => {
                    // Larger than any packet that is taken: it can't come from the broker.
                    tracing::error!("BUG: a message was not spooled: {error}");
                    return Outcome::Done;
                }
                Err(error) => self.fill(format!("{error}; nothing more is taken until there is room")),
            }
        }
        match identity {
            Some(_) => {
                self.spooler.metrics.refused.inc();
                Outcome::Done
            }
            None => Outcome::NoRoom(frame),
        }
    }

    /// Whether the next record may find room.
    fn may_have_room(&self) -> bool {
        self.full.as_ref().is_none_or(|full| full.hopeful.is_some())
    }

    fn fill(&mut self, why: String) {
        let (at, told) = &mut self.said;
        // A store that is slower than its hosts makes room and fills it all the time.
        if at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            tracing::warn!("{why}");
            (*at, *told) = (Some(Instant::now()), true);
        }
        self.spooler.health.spool(Some(why));
        self.full = Some(Full::default());
    }

    /// Whether what was in the way may be gone: then the next record tries. Where none comes, that is the end of it.
    fn room(&mut self) {
        let below = self.spooler.log.bytes() < self.spooler.max_bytes;
        if let Some(full) = &mut self.full
            && below
            && full.hopeful.get_or_insert_with(Instant::now).elapsed() >= CALM
        {
            self.well();
        }
    }

    fn well(&mut self) {
        if self.full.take().is_some() {
            self.spooler.health.spool(None);
            if std::mem::take(&mut self.said.1) {
                tracing::info!("the spool takes messages again");
            }
        }
    }

    /// A topic that the subscriptions do not ask for, or of a host that can have no name. It has no number that anybody
    /// waits for.
    fn bury(&self, message: &Message, detail: String, now: Timestamp) {
        let letter = DeadLetter {
            topic: message.topic.clone(),
            reason: Reason::Topic,
            detail,
            payload: message.payload.to_vec(),
            numbered: None,
        };
        self.keep(&letter, now);
    }

    fn keep(&self, letter: &DeadLetter, now: Timestamp) {
        if let Err(error) = self.spooler.dead.keep(std::slice::from_ref(letter), now) {
            tracing::error!("a dead letter is gone, {} can't be written: {error}", self.spooler.dead.path().display());
        }
    }

    fn sync(&mut self) -> std::io::Result<()> {
        if self.group.appended {
            let began = Instant::now();
            // After a sync that failed nobody knows what the disk has: nothing of it is acknowledged, and the next start
            // reads what is there.
            self.spooler.log.sync()?;
            self.spooler.metrics.sync_seconds.observe(began.elapsed().as_secs_f64());
            self.spooler.desk.stored(&self.group.stored);
            self.spooler.synced.set(self.spooler.log.synced());
        }
        for (ack, _permit) in self.group.acks.drain(..) {
            self.spooler.client.ack(ack);
        }
        self.group.stored.clear();
        self.group.bytes = 0;
        self.group.appended = false;
        Ok(())
    }

    fn trim(&mut self) {
        let to = self.shared.trim.load(Ordering::Relaxed);
        if to <= self.trimmed || self.trim_failed.is_some_and(|at| at.elapsed() < TICK) {
            return;
        }
        match self.spooler.log.trim(to) {
            Ok(()) => (self.trimmed, self.trim_failed) = (to, None),
            // Room that is not freed yet; it is tried again with the next tick.
            Err(error) => {
                self.trim_failed = Some(Instant::now());
                if self.trim_said.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                    self.trim_said = self.trim_failed;
                    tracing::warn!("the spool in {} was not trimmed: {error}; trying again", self.path.display());
                }
            }
        }
    }

    /// Takes up dead letters that somebody wants to go the way again.
    fn replay(&mut self) -> std::io::Result<()> {
        for path in self.spooler.replays.waiting() {
            let replay = match self.spooler.replays.read(&path) {
                Ok(replay) => replay,
                Err(error) => {
                    self.cannot_replay(&format!("can't read {}: {error}", path.display()));
                    continue;
                }
            };
            let received = SystemTime::now().into();
            for (number, (host, kind, payload)) in (1..).zip(&replay.messages) {
                let mark = Mark::Numbered(replay.boot.clone(), number);
                let frame = Frame { received, host: host.clone(), kind: *kind, mark, content_type: None };
                let _ = self.store(frame, payload);
                if self.full.is_some() {
                    // The request stays, and what of it is in already is known by its number.
                    return self.sync();
                }
            }
            self.sync()?;
            if let Err(error) = self.spooler.replays.done(&replay) {
                self.cannot_replay(&format!("{} was replayed and can't be removed: {error}", path.display()));
                continue;
            }
            self.spooler.metrics.replayed.inc_by(replay.messages.len() as u64);
            tracing::info!(messages = replay.messages.len(), "dead letters were put back into the way");
        }
        Ok(())
    }

    fn cannot_replay(&mut self, why: &str) {
        if self.replay_said.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.replay_said = Some(Instant::now());
            tracing::warn!("a request to replay dead letters waits: {why}; the exporter's user must own it");
        }
    }

    /// How long the first record that is not written has been here.
    fn age(&mut self) {
        let log = &self.spooler.log;
        let first = log.first().max(self.trimmed);
        if first >= log.next() {
            self.spooler.metrics.spool_age.set(0.0);
            return;
        }
        if self.oldest.is_none_or(|(index, _)| index != first) {
            let mut buffer = Vec::new();
            // What can't be read is skipped by its reader, and is not the oldest for long.
            let appended = self.looker.read(first, &mut buffer).ok().flatten().map(|entry| entry.appended_ms);
            self.oldest = appended.map(|ms| (first, ms));
        }
        if let Some((_, ms)) = self.oldest {
            let now: Timestamp = SystemTime::now().into();
            let age = u64::try_from(now.as_millis()).unwrap_or_default().saturating_sub(ms);
            self.spooler.metrics.spool_age.set(age as f64 / 1000.0);
        }
    }

    fn show(&self) {
        let (log, metrics) = (&self.spooler.log, &self.spooler.metrics);
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.spool_bytes.set(number(log.bytes()));
        metrics.spool_records.set(number(log.next() - log.first().max(self.trimmed).min(log.next())));
    }
}
