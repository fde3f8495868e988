//! The thread that reads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use logs::{Plan, Policy};
use tokio::sync::watch;
use tracing::{error, info, warn};
use wire::Timestamp;
use wire::messages::LogRecord;

use super::batch::{Batch, LARGE};
use super::feed::Feed;
use super::files::Files;
use super::journal::Journal;
use super::own::Own;
use super::source::{Next, Source};
use super::syslog::Syslog;
use super::told::{Counts, Told};
use crate::host::HostRoot;
use crate::outbox::{Moves, Post, PutError};

/// The shortest and the longest sleep.
const NAP: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

/// A batch that found no room is tried again so soon.
const AGAIN: Duration = Duration::from_millis(250);

/// Bytes of a file that are read at a time, at least.
const PIECE: usize = 256 << 10;

/// Patterns are matched on it.
const STACK: usize = 1 << 20;

/// What the thread works with.
pub struct Parts {
    /// The inputs.
    pub plans: Vec<Arc<Plan>>,
    /// Where records go; without it, lines are counted and nothing is kept.
    pub post: Option<Post>,
    /// Where the kernel says what it dropped.
    pub root: HostRoot,
}

/// Talks to the thread.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    told: watch::Receiver<Arc<Told>>,
}

/// The thread itself.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<Orders>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    stop: bool,
    plans: Option<Vec<Arc<Plan>>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// What there is to tell.
    pub fn told(&self) -> Arc<Told> {
        self.told.borrow().clone()
    }

    /// Takes over other inputs. Those that stay the same go on.
    pub fn reload(&self, plans: Vec<Arc<Plan>>) {
        self.shared.lock().plans = Some(plans);
        self.shared.bell.notify_one();
    }

    /// Returns when the thread has ended, which it does not before it is told to.
    pub async fn ended(&mut self) {
        while self.told.changed().await.is_ok() {}
    }
}

impl Running {
    /// Tells it to end.
    pub fn stop(&self) {
        self.shared.lock().stop = true;
        self.shared.bell.notify_one();
    }

    /// Waits for its end: what it has read so far is in the spool then.
    pub fn join(self) {
        self.stop();
        // A panic there has said what it is.
        let _ = self.thread.join();
    }
}

/// Starts the thread.
pub fn spawn(parts: Parts) -> std::io::Result<(Handle, Running)> {
    let shared = Arc::new(Shared::default());
    let (tell, told) = watch::channel(Arc::default());
    let for_thread = shared.clone();
    let thread = thread::Builder::new().name("logs".to_owned()).stack_size(STACK).spawn(move || {
        Runner::new(parts, for_thread, tell).run();
    })?;
    Ok((Handle { shared: shared.clone(), told }, Running { shared, thread }))
}

struct Input {
    plan: Arc<Plan>,
    policy: Policy,
    source: Box<dyn Source>,
    counts: Counts,
    /// Its next turn.
    due: Instant,
}

/// The way to an input's lines.
fn source(
    plan: &Arc<Plan>,
    positions: &dyn Fn(&str) -> Vec<(String, String)>,
    kept: bool,
    root: &HostRoot,
) -> Box<dyn Source> {
    match &plan.source {
        logs::Source::Syslog(_) => Box::new(Syslog::new(plan.clone(), root)),
        logs::Source::Own => Box::new(Own::new()),
        logs::Source::Journal { .. } => Box::new(Journal::new(plan.clone(), positions, kept)),
        _ => Box::new(Files::new(plan.clone(), positions, kept)),
    }
}

struct Runner {
    shared: Arc<Shared>,
    post: Option<Post>,
    root: HostRoot,
    inputs: Vec<Input>,
    batch: Batch,
    /// Places that go with the batch, once it is closed.
    moves: Option<Moves>,
    /// When a batch that found no room is tried again, and why it did.
    again: Option<Instant>,
    refused: Option<PutError>,
    buffer: Vec<u8>,
    out: Vec<LogRecord>,
    ticked: Instant,
    noted: Instant,
    tell: watch::Sender<Arc<Told>>,
}

impl Runner {
    fn new(parts: Parts, shared: Arc<Shared>, tell: watch::Sender<Arc<Told>>) -> Self {
        let large = parts.post.as_ref().map_or(LARGE, |post| {
            let limit = usize::try_from(post.lock().limit()).unwrap_or(usize::MAX);
            LARGE.min(limit / 32)
        });
        let now = Instant::now();
        let mut runner = Self {
            shared,
            post: parts.post,
            root: parts.root,
            inputs: Vec::new(),
            batch: Batch::new(large),
            moves: None,
            again: None,
            refused: None,
            buffer: Vec::new(),
            out: Vec::new(),
            ticked: now,
            noted: now,
            tell,
        };
        runner.configure(&parts.plans);
        runner
    }

    fn configure(&mut self, plans: &[Arc<Plan>]) {
        let mut old = std::mem::take(&mut self.inputs);
        for plan in plans {
            let before = old.iter().position(|input| input.plan.name == plan.name).map(|at| old.swap_remove(at));
            let counts = before.as_ref().map(|input| input.counts).unwrap_or_default();
            // Everything of a plan shows in its text.
            let same = |input: &Input| format!("{:?}", input.plan) == format!("{plan:?}");
            let input = before.filter(same).unwrap_or_else(|| {
                let post = self.post.as_ref();
                let positions = |beginning: &str| post.map_or_else(Vec::new, |post| post.positions(beginning));
                Input {
                    policy: Policy::new(plan),
                    plan: plan.clone(),
                    source: source(plan, &positions, post.is_some(), &self.root),
                    counts,
                    due: Instant::now(),
                }
            });
            self.inputs.push(input);
        }
    }

    fn run(mut self) {
        loop {
            let next = self.turn();
            let mut orders = self.shared.lock();
            if orders.stop {
                break;
            }
            if orders.plans.is_none()
                && let Some(next) = next
            {
                let pause = next.saturating_duration_since(Instant::now()).clamp(NAP, SECOND);
                orders = self.shared.bell.wait_timeout(orders, pause).unwrap_or_else(PoisonError::into_inner).0;
            }
            let (stop, plans) = (orders.stop, orders.plans.take());
            drop(orders);
            if stop {
                break;
            }
            if let Some(plans) = plans {
                self.close();
                if self.hand_over() {
                    self.configure(&plans);
                    info!("log inputs: {}", self.inputs.len());
                } else {
                    // Not before what was read has found room.
                    self.shared.lock().plans.get_or_insert(plans);
                    thread::sleep(AGAIN);
                }
            }
        }
        // What waits for more lines is read again at the next start, as a whole.
        self.close();
        self.hand_over();
    }

    /// Reads a share of everything. Returns when to go on; `None`: at once.
    fn turn(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let tick = now >= self.ticked + SECOND;
        // Nothing is read before what was read has gone.
        if self.moves.is_some() && self.again.is_none_or(|again| now >= again) {
            self.hand_over();
        }
        let more = self.moves.is_none() && self.read(now, tick);
        let next = match (&self.moves, more) {
            (Some(_), _) => Some(self.again.unwrap_or(now)),
            (None, true) => None,
            (None, false) => Some(self.next(now)),
        };
        if tick {
            self.ticked = now;
            self.say();
        }
        next
    }

    /// The earliest moment at which there is something to do.
    fn next(&self, now: Instant) -> Instant {
        let inputs = self.inputs.iter().map(|input| input.due);
        inputs.chain(self.batch.due()).chain([self.ticked + SECOND]).min().unwrap_or(now)
    }

    /// Every input's turn; `true` if one has more.
    fn read(&mut self, now: Instant, tick: bool) -> bool {
        let time = Timestamp::from(SystemTime::now());
        let mut more = false;
        let most = self.inputs.iter().map(|input| input.plan.max_line).max().unwrap_or(0);
        self.buffer.resize(PIECE.max(most + (16 << 10)), 0);
        for input in &mut self.inputs {
            let mut feed = Feed {
                policy: &mut input.policy,
                batch: &mut self.batch,
                buffer: &mut self.buffer,
                out: &mut self.out,
                max_line: input.plan.max_line,
                now,
                time,
                counts: &mut input.counts,
            };
            if tick {
                feed.tick();
            }
            if input.due <= now || more {
                match input.source.read(&mut feed) {
                    Next::Now => more = true,
                    Next::At(due) => input.due = due,
                }
            }
        }
        if self.batch.is_full() || self.batch.due().is_some_and(|due| due <= now) {
            self.close();
            self.hand_over();
        } else if self.batch.is_empty() && now >= self.noted + SECOND {
            self.note(time);
        }
        more
    }

    /// Places that move without a record.
    fn note(&mut self, time: Timestamp) {
        self.noted = Instant::now();
        let mut moves = Moves::new();
        let mut urgent = false;
        for input in &mut self.inputs {
            urgent |= input.source.moved(time.as_millis(), &mut moves);
        }
        if let Some(post) = self.post.as_ref().filter(|_| !moves.is_empty()) {
            post.note(&moves, urgent);
        }
    }

    /// Nothing more comes into the batch.
    fn close(&mut self) {
        if self.moves.is_some() {
            return;
        }
        let time = Timestamp::from(SystemTime::now());
        if self.batch.is_empty() {
            return self.note(time);
        }
        let mut moves = Moves::new();
        for input in &mut self.inputs {
            input.source.moved(time.as_millis(), &mut moves);
        }
        self.moves = Some(moves);
    }

    /// Puts the closed batch into the spool; `false` if it finds no room.
    fn hand_over(&mut self) -> bool {
        let Some(moves) = &self.moves else { return true };
        let time = Timestamp::from(SystemTime::now());
        let put = self.post.as_ref().map_or(Ok(0), |post| post.put_read(time, self.batch.json(), moves));
        let refused = match put {
            Err(PutError::Large(bytes, most)) => {
                // The places have to move even so, or it would be read again and again.
                error!("BUG: a batch of {bytes} bytes is larger than {most}; its lines are lost");
                if let Some(post) = &self.post {
                    post.note(moves, true);
                }
                None
            }
            put => put.err(),
        };
        let sort = |error: &Option<PutError>| error.as_ref().map(std::mem::discriminant);
        if sort(&refused) != sort(&self.refused) {
            match &refused {
                Some(error) => warn!("log inputs wait: {error}; what is not read yet stays in its files"),
                None => info!("log inputs read again"),
            }
        }
        self.refused = refused;
        if self.refused.is_some() {
            self.again = Some(Instant::now() + AGAIN);
            return false;
        }
        self.batch.clear();
        (self.moves, self.again) = (None, None);
        true
    }

    fn say(&mut self) {
        let mut told = Told { waits: self.refused.is_some(), ..Told::default() };
        for input in &mut self.inputs {
            input.source.count(&mut input.counts);
            input.policy.counts(&mut told.counted);
            told.inputs.push((input.plan.name.clone(), input.counts));
        }
        self.tell.send_replace(Arc::new(told));
    }
}
