//! The thread that waits for the disk, so that nobody else does: it syncs, writes down what must outlive a crash, trims what
//! was freed, and makes room.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spool::{Reserve, SegmentInfo, Trim, state};
use tokio::sync::oneshot;
use tracing::{error, info, warn};
use wire::Kind;
use wire::messages::{Loss, LossReason};

use super::audit::AUDIT;
use super::halve::Halving;
use super::positions::Written;
use super::{Outbox, Post};

/// Time from one sync to the next: half of what may be lost when the machine ends.
const SYNC: Duration = Duration::from_millis(500);

/// How often the age of what waits is looked at.
const AGE: Duration = Duration::from_secs(60);

/// How often it is said that records go because the spool is full or old.
const COMPLAINT: Duration = Duration::from_secs(600);

/// A log with more segments does not wait with its trimming for the time of the inputs' places.
const MANY_SEGMENTS: usize = 4;

/// The state's name in the spool's folder.
pub(super) const STATE: &str = "delivery";

/// Wakes the keeper.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    heard: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    ring: bool,
    stop: bool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to do, within [`SYNC`].
    pub(super) fn ring(&self) {
        if !std::mem::replace(&mut self.lock().ring, true) {
            self.heard.notify_one();
        }
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.heard.notify_one();
    }

    /// Waits for a ring, but not longer than until `by`, and then until `pause` after `last`. `true`: it is to stop.
    fn wait(&self, last: Instant, by: Instant) -> bool {
        let mut rung = self.lock();
        loop {
            let now = Instant::now();
            let until = if rung.ring { last + SYNC } else { by };
            if rung.stop || until <= now {
                rung.ring = false;
                return rung.stop;
            }
            rung = self.heard.wait_timeout(rung, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The running keeper. When it is dropped, everything is synced and the thread ends.
#[derive(Debug)]
pub struct Keeping {
    bell: std::sync::Arc<Bell>,
    thread: Option<JoinHandle<()>>,
    /// The spool's folder.
    dir: PathBuf,
    /// A folder that goes with this run.
    pub(super) temporary: Option<PathBuf>,
    /// Says when the spool is there no longer.
    gone: Option<oneshot::Receiver<Gone>>,
    /// Held for the lock on the spool's folder.
    _lock: File,
}

/// What is put into the spool now goes into files that nothing finds after a restart.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} was removed, or replaced, while the agent ran: what it takes would be lost at its end, so that it ends now; \
     records that waited there are gone if the folder is"
)]
pub struct Gone(String);

impl Keeping {
    /// Returns if the spool's folder, or one in it, is removed.
    pub fn gone(&mut self) -> impl Future<Output = Gone> + use<> {
        let gone = self.gone.take();
        async move {
            match gone {
                Some(gone) => match gone.await {
                    Ok(gone) => gone,
                    // The keeper ended, with the agent.
                    Err(_) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        }
    }

    /// The spool's folder, where what belongs to it can stand as well.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.bell.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has said what it is.
            let _ = thread.join();
        }
        if let Some(folder) = &self.temporary {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

pub(super) struct Keeper {
    post: Post,
    dir: PathBuf,
    reserve: Reserve,
    /// The version of the sender's state that is on disk.
    written: u64,
    /// What goes wrong now; said once.
    trouble: Option<String>,
    /// Of each kind: when it was last said that its records go, and how many went since.
    complaints: [(Option<Instant>, u64); Kind::ALL.len()],
    /// The lock and the folders of the kinds, by device and inode: a removed file can be written and synced for as long as
    /// it is open.
    held: Vec<(PathBuf, u64, u64)>,
    halving: Halving,
    positions: Written,
}

impl Keeper {
    pub(super) fn new(post: Post, dir: PathBuf, reserve: Reserve, halving: Halving) -> Self {
        Self {
            post,
            dir,
            reserve,
            written: 0,
            trouble: None,
            complaints: Default::default(),
            held: Vec::new(),
            halving,
            positions: Written::default(),
        }
    }

    fn hold(&mut self) -> io::Result<()> {
        for name in std::iter::once("lock").chain(Kind::ALL.map(Kind::as_str)) {
            let path = self.dir.join(name);
            let found = fs::metadata(&path)?;
            self.held.push((path, found.dev(), found.ino()));
        }
        Ok(())
    }

    /// What is not there any more, if anything is not.
    fn gone(&self) -> Option<Gone> {
        let gone = |(path, device, inode): &&(PathBuf, u64, u64)| match fs::metadata(path) {
            Ok(found) => (found.dev(), found.ino()) != (*device, *inode),
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        self.held.iter().find(gone).map(|(path, ..)| Gone(format!("the spool's {}", path.display())))
    }

    pub(super) fn spawn(mut self, lock: File) -> io::Result<Keeping> {
        self.hold()?;
        let dir = self.dir.clone();
        let bell = self.post.bell.clone();
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
            let mut last = Instant::now();
            let mut aged = last.checked_sub(AGE).unwrap_or(last);
            loop {
                let stop = self.post.bell.wait(last, aged + AGE);
                last = Instant::now();
                let result = self.pass(last >= aged + AGE, stop);
                if last >= aged + AGE {
                    aged = last;
                }
                if let Some(gone) = self.gone() {
                    self.post.lock().gone = Some(gone.to_string());
                    let _ = tell.send(gone);
                    return;
                }
                self.say(result);
                if stop {
                    return;
                }
            }
        })?;
        Ok(Keeping { bell, thread: Some(thread), dir, temporary: None, gone: Some(told), _lock: lock })
    }

    fn say(&mut self, result: io::Result<()>) {
        let trouble = result.err().map(|error| error.to_string());
        match &trouble {
            Some(why) if self.trouble.as_ref() != Some(why) => error!(
                "the spool in {} can't be kept: {why}; records go on to the broker, but would not outlive the machine",
                self.dir.display()
            ),
            None if self.trouble.is_some() => info!("the spool in {} is kept again", self.dir.display()),
            _ => {}
        }
        self.trouble = trouble;
    }

    fn pass(&mut self, look_at_age: bool, last: bool) -> io::Result<()> {
        let halved = self.halving.run(&self.post, &self.dir, &self.reserve);
        self.keep_positions(last)?;
        self.sync()?;
        self.write_down()?;
        self.write_audit()?;
        self.pass_over_missing();
        self.trim()?;
        // Each round lets one segment go; what is still too much then waits for the next pass.
        for _ in 0..16 {
            let Some((kind, segment, reason)) = over_bounds(&mut self.post.lock(), look_at_age) else { break };
            self.evict(kind, segment, reason)?;
        }
        halved
    }

    fn sync(&self) -> io::Result<()> {
        Kind::ALL.into_iter().try_for_each(|kind| self.post.sync(kind))
    }

    /// Writes down up to where inputs have read, if it is time; without the records, which are synced before, it would be
    /// too far.
    fn keep_positions(&mut self, force: bool) -> io::Result<()> {
        let image = {
            let mut outbox = self.post.lock();
            if !outbox.positions.due(&self.positions, force) {
                return Ok(());
            }
            let next = outbox.shelf(Kind::Logs).log.next();
            outbox.positions.image(next)
        };
        self.post.sync(Kind::Logs)?;
        self.positions.write(&image, &self.dir, &self.reserve)?;
        self.post.lock().positions.written();
        Ok(())
    }

    /// Writes down what the sender wants to find after a crash.
    fn write_down(&mut self) -> io::Result<()> {
        let (disk, version) = {
            let outbox = self.post.lock();
            if outbox.sender.version() == self.written {
                return Ok(());
            }
            outbox.sender.disk()
        };
        let text = serde_json::to_vec(&disk).map_err(io::Error::other)?;
        let dir = &self.dir;
        self.reserve.spend(|| state::write(dir, STATE, &text))?;
        self.written = version;
        self.post.lock().sender.durable(version);
        self.post.wake.notify_one();
        Ok(())
    }

    /// Writes down how far the chains of audit records go; the records are on the disk before.
    fn write_audit(&self) -> io::Result<()> {
        let unwritten = {
            let mut outbox = self.post.lock();
            let log = &outbox.shelf(Kind::Logs).log;
            let place = log.next();
            outbox.audit.unwritten(place)
        };
        let Some((disk, version)) = unwritten else { return Ok(()) };
        self.post.sync(Kind::Logs)?;
        let text = serde_json::to_vec(&disk).map_err(io::Error::other)?;
        self.reserve.spend(|| state::write(&self.dir, AUDIT, &text))?;
        self.post.lock().audit.written(disk, version);
        self.post.wake.notify_one();
        Ok(())
    }

    /// Records that can't be read, or that no broker takes, go once their loss is on disk.
    fn pass_over_missing(&self) {
        let mut outbox = self.post.lock();
        let missing = std::mem::take(&mut outbox.missing);
        for (version, kind, from, to) in missing {
            if version <= self.written {
                outbox.shelf(kind).free_indices(from, to);
            } else {
                outbox.missing.push((version, kind, from, to));
            }
        }
    }

    fn trim(&self) -> io::Result<()> {
        {
            let mut outbox = self.post.lock();
            for freed in outbox.sender.take_freed() {
                outbox.counts[freed.kind as usize].freed += freed.seqs.count();
                outbox.shelf(freed.kind).free(&freed.boot, &freed.seqs);
            }
        }
        // What keeps one kind from being trimmed does not keep the others, whose room may be what it lacks.
        let trims = Kind::ALL.map(|kind| {
            let trim = self.reserve.spend(|| {
                let mut outbox = self.post.lock();
                let shelf = outbox.shelf(kind);
                let (mut to, crowded) = (shelf.trim_to(), shelf.log.segments() > MANY_SEGMENTS);
                if kind == Kind::Logs && to > outbox.positions.trim_to() {
                    to = outbox.positions.trim_to();
                    if crowded {
                        outbox.positions.hurry();
                    }
                }
                outbox.shelf(kind).log.begin_trim(to)
            });
            trim.and_then(|trim| self.finish(kind, trim))
        });
        trims.into_iter().collect()
    }

    fn finish(&self, kind: Kind, trim: Option<Trim>) -> io::Result<()> {
        let Some(trim) = trim else { return Ok(()) };
        trim.run()?;
        let mut outbox = self.post.lock();
        let shelf = outbox.shelf(kind);
        shelf.log.end_trim(trim)?;
        shelf.forget_runs();
        drop(outbox);
        // Room may have been given up for a state.
        self.reserve.refill()
    }

    /// Declares what is still owed of a segment, and lets it go once that is on disk.
    fn evict(&mut self, kind: Kind, segment: SegmentInfo, reason: LossReason) -> io::Result<()> {
        let declared = {
            let mut outbox = self.post.lock();
            let before = outbox.sender.unfreed(kind);
            for (boot, from, to) in outbox.shelf(kind).seqs(segment.from, segment.to) {
                outbox.note_lost(&boot, kind, from, to);
                let _version = outbox.sender.evicted(&Loss { boot, kind, from, to, reason });
            }
            let declared = before.saturating_sub(outbox.sender.unfreed(kind));
            outbox.counts[kind as usize].declared += declared;
            declared
        };
        self.write_down()?;
        if kind == Kind::Logs && segment.to >= self.post.lock().positions.trim_to() {
            self.keep_positions(true)?;
        }
        self.write_audit()?;
        let trim = self.reserve.spend(|| self.post.lock().shelf(kind).log.begin_drop_to(segment.to + 1))?;
        self.finish(kind, trim)?;
        let (said, dropped) = &mut self.complaints[kind as usize];
        *dropped += declared;
        if *dropped > 0 && said.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            let why = match reason {
                LossReason::Age => "the spool has records older than `spool.max_age`",
                _ => "the spool has reached `spool.max_bytes`, or its disk is full",
            };
            warn!("{why}: {dropped} {kind} records go, and are declared lost in the host's status");
            (*said, *dropped) = (Some(Instant::now()), 0);
        }
        Ok(())
    }
}

/// The segment that is to go next, if one is.
pub(super) fn over_bounds(outbox: &mut Outbox, look_at_age: bool) -> Option<(Kind, SegmentInfo, LossReason)> {
    if let Some(pressed) = outbox.pressed.take() {
        // What is less valuable makes room; metrics also for themselves.
        let victims =
            Kind::BY_WORTH.into_iter().filter(|kind| kind.worth() < pressed.worth() || *kind == Kind::Metrics);
        let found = victims.filter_map(|kind| Some((kind, outbox.shelves.get(kind as usize)?.log.oldest()?))).next();
        if let Some((kind, oldest)) = found {
            return Some((kind, oldest, LossReason::Full));
        }
    }
    // Metrics go before the bound is reached, so that the next reading finds room.
    let metrics = &outbox.shelves.get(Kind::Metrics as usize)?.log;
    if outbox.bytes() > outbox.max_bytes - outbox.max_bytes / 8 && metrics.segments() > 1 {
        return Some((Kind::Metrics, metrics.oldest()?, LossReason::Full));
    }
    if !look_at_age {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let before = u64::try_from(now.saturating_sub(outbox.max_age.as_millis())).unwrap_or(u64::MAX);
    for shelf in &mut outbox.shelves {
        // All of a segment is too old when its last record is; most segments are too young at their first.
        if let Some(oldest) = shelf.log.oldest().filter(|oldest| oldest.first_ms < before)
            && shelf.is_before(oldest.to, before)
        {
            return Some((shelf.kind, oldest, LossReason::Age));
        }
    }
    None
}
