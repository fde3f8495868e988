//! Asks mounts how full they are, on a thread that may be lost.
//!
//! `statvfs` on a mount whose server is gone does not come back. So one worker asks mount after mount; when a question
//! is out for longer than the deadline, its mount is reported as hung, the worker is written off, and a new one asks
//! the others. A mount is not asked again before the old question came back, so there are never two in flight for it,
//! and no more than [`MAX_LOST`] threads wait in total.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::collectors::CollectError;

/// Hung mounts that may each hold a thread. Beyond, the mounts behind the last one wait with it.
const MAX_LOST: usize = 8;
/// The worker does one system call.
const STACK_BYTES: usize = 64 << 10;
/// As node_exporter says it.
const HUNG: &str = "mountpoint timeout";

/// How full a file system is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Space {
    pub(super) size: f64,
    pub(super) free: f64,
    pub(super) available: f64,
    pub(super) files: f64,
    pub(super) files_free: f64,
}

/// A mount's answer, or why there is none.
pub(super) type Answer = Result<Space, String>;

/// What does the asking; tests put in something that hangs.
type Ask = Arc<dyn Fn(&OsStr) -> Answer + Send + Sync>;

fn statvfs(point: &OsStr) -> Answer {
    let found = rustix::fs::statvfs(point).map_err(|errno| error_text(&errno.into()))?;
    let bytes = |blocks: u64| blocks as f64 * found.f_frsize as f64;
    Ok(Space {
        size: bytes(found.f_blocks),
        free: bytes(found.f_bfree),
        available: bytes(found.f_bavail),
        files: found.f_files as f64,
        files_free: found.f_ffree as f64,
    })
}

/// The system's text, in the form in which node_exporter's users see it: lower case, without the number.
fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// One round of questions, shared with the worker that asks them.
struct Round {
    points: Vec<OsString>,
    state: Mutex<Progress>,
    done: Condvar,
}

struct Progress {
    /// As many as were asked and answered, in the order of the points.
    answers: Vec<Answer>,
    /// When the question that is out was asked.
    asked: Instant,
    /// Nobody waits for this round any more.
    abandoned: bool,
    /// The worker came back from an abandoned round.
    returned: bool,
}

impl Round {
    fn new(points: Vec<OsString>) -> Arc<Self> {
        let state = Progress { answers: Vec::new(), asked: Instant::now(), abandoned: false, returned: false };
        Arc::new(Self { points, state: Mutex::new(state), done: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker's part. False where the round was abandoned, and the worker with it.
    fn run(&self, ask: &Ask) -> bool {
        for point in &self.points {
            self.lock().asked = Instant::now();
            let answer = ask(point);
            let mut state = self.lock();
            if state.abandoned {
                state.returned = true;
                return false;
            }
            state.answers.push(answer);
            // Not for each answer: waking the waiter costs more than asking.
            if state.answers.len() == self.points.len() {
                self.done.notify_all();
            }
        }
        true
    }
}

/// What became of a round by the time it was looked at.
enum Look {
    Done,
    /// The question for this point is out for longer than the deadline.
    Overdue(usize),
    /// It may go on for this long before it is overdue.
    Out(Duration),
}

/// See the module.
pub(super) struct Prober {
    deadline: Duration,
    ask: Ask,
    /// Takes rounds to the worker; none before the first and after one was written off.
    worker: Option<SyncSender<Arc<Round>>>,
    /// The round that is out.
    round: Option<Arc<Round>>,
    /// Rounds whose workers were written off, and the mount points that they wait for.
    lost: Vec<(OsString, Arc<Round>)>,
    answers: HashMap<OsString, Answer>,
}

impl Prober {
    /// Gives each mount this long.
    pub(super) fn new(deadline: Duration) -> Self {
        Self::asking(deadline, Arc::new(statvfs))
    }

    fn asking(deadline: Duration, ask: Ask) -> Self {
        Self { deadline, ask, worker: None, round: None, lost: Vec::new(), answers: HashMap::new() }
    }

    /// Asks all `points`, or goes on waiting where a round is out; returns when all answered, at the latest after
    /// `patience`.
    pub(super) fn ask(&mut self, points: &[OsString], patience: Duration) -> Result<(), CollectError> {
        let until = Instant::now() + patience;
        self.lost.retain(|(_, round)| !round.lock().returned);
        self.answers.retain(|point, _| points.contains(point));
        if self.round.as_ref().is_some_and(|round| matches!(self.look(round), Look::Done)) {
            self.harvest();
            self.round = None;
        }
        if self.round.is_none() {
            self.start(points.to_vec())?;
        }
        while let Some(round) = self.round.clone() {
            match self.look(&round) {
                Look::Done => {
                    self.harvest();
                    self.round = None;
                }
                Look::Overdue(at) if self.lost.len() < MAX_LOST => self.write_off(&round, at)?,
                Look::Overdue(at) => {
                    self.harvest();
                    self.answers.insert(round.points[at].clone(), Err(HUNG.into()));
                    for behind in &round.points[at + 1..] {
                        // Nobody knows how full they are now.
                        self.answers.remove(behind);
                    }
                    return Ok(());
                }
                Look::Out(before_overdue) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        self.harvest();
                        return Ok(());
                    }
                    let state = round.lock();
                    if state.answers.len() < round.points.len() {
                        // Only a wake-up: the next look decides.
                        drop(round.done.wait_timeout(state, left.min(before_overdue)));
                    }
                }
            }
        }
        Ok(())
    }

    /// The newest answer of a mount point; `None` where it was not asked or has not answered yet.
    pub(super) fn answer(&self, point: &OsStr) -> Option<&Answer> {
        self.answers.get(point)
    }

    fn look(&self, round: &Round) -> Look {
        let state = round.lock();
        if state.answers.len() == round.points.len() {
            return Look::Done;
        }
        match self.deadline.checked_sub(state.asked.elapsed()) {
            Some(left) if !left.is_zero() => Look::Out(left),
            _ => Look::Overdue(state.answers.len()),
        }
    }

    /// Takes over the answers that the round has so far.
    fn harvest(&mut self) {
        let Some(round) = &self.round else { return };
        let state = round.lock();
        for (point, answer) in round.points.iter().zip(&state.answers) {
            match self.answers.get_mut(point) {
                Some(known) => known.clone_from(answer),
                None => drop(self.answers.insert(point.clone(), answer.clone())),
            }
        }
    }

    /// Reports the point as hung, leaves the worker to it, and begins anew with the points behind it.
    fn write_off(&mut self, round: &Arc<Round>, at: usize) -> Result<(), CollectError> {
        {
            let mut state = round.lock();
            if state.answers.len() > at {
                // It answered just now.
                return Ok(());
            }
            state.abandoned = true;
        }
        self.harvest();
        self.worker = None;
        self.round = None;
        let point = round.points[at].clone();
        self.answers.insert(point.clone(), Err(HUNG.into()));
        self.lost.push((point, Arc::clone(round)));
        self.start(round.points[at + 1..].to_vec())
    }

    /// Sends a round to the worker, for the points that no lost worker waits for.
    fn start(&mut self, mut points: Vec<OsString>) -> Result<(), CollectError> {
        points.retain(|point| !self.lost.iter().any(|(lost, _)| lost == point));
        if points.is_empty() {
            return Ok(());
        }
        let round = Round::new(points);
        let worker = match &self.worker {
            Some(worker) => worker,
            None => {
                let worker = spawn(Arc::clone(&self.ask))
                    .map_err(|source| CollectError::System { what: "start the thread that asks mounts", source })?;
                self.worker.insert(worker)
            }
        };
        if worker.send(Arc::clone(&round)).is_err() {
            // It ended; the next pass starts another.
            self.worker = None;
            let source = io::Error::other("it ended by itself");
            return Err(CollectError::System { what: "use the thread that asks mounts", source });
        }
        self.round = Some(round);
        Ok(())
    }
}

/// A worker; it ends when its sender is dropped or its round was abandoned. One round at a time is ever sent.
fn spawn(ask: Ask) -> io::Result<SyncSender<Arc<Round>>> {
    let (sender, rounds) = sync_channel::<Arc<Round>>(1);
    std::thread::Builder::new().name("statvfs".into()).stack_size(STACK_BYTES).spawn(move || {
        while let Ok(round) = rounds.recv() {
            if !round.run(&ask) {
                return;
            }
        }
    })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Space = Space { size: 4.0, free: 3.0, available: 2.0, files: 1.0, files_free: 1.0 };
    const LONG: Duration = Duration::from_secs(600);

    /// Points that begin with "hang" hold whoever asks until the gate is opened.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
    }

    impl Gate {
        fn asking(self: &Arc<Self>) -> Ask {
            let gate = Arc::clone(self);
            Arc::new(move |point: &OsStr| {
                if point.to_string_lossy().starts_with("hang") {
                    let mut open = gate.open.lock().unwrap();
                    while !*open {
                        open = gate.opened.wait(open).unwrap();
                    }
                }
                Ok(SPACE)
            })
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    fn points(names: &[&str]) -> Vec<OsString> {
        names.iter().map(OsString::from).collect()
    }

    fn hung() -> Option<Answer> {
        Some(Err(HUNG.into()))
    }

    #[test]
    fn a_hung_mount_is_reported_and_the_others_answer() {
        let gate = Arc::new(Gate::default());
        // Long enough for the mounts that answer, on a machine with other things to do.
        let mut prober = Prober::asking(Duration::from_millis(700), gate.asking());
        let points = points(&["a", "hang", "b", "hang2", "c"]);
        prober.ask(&points, LONG).unwrap();
        for point in ["a", "b", "c"] {
            assert_eq!(prober.answer(OsStr::new(point)), Some(&Ok(SPACE)), "{point}");
        }
        assert_eq!(prober.answer(OsStr::new("hang")).cloned(), hung());
        assert_eq!(prober.lost.len(), 2);

        // Not asked again while the old questions are out.
        prober.ask(&points, LONG).unwrap();
        assert_eq!(prober.lost.len(), 2);
        assert_eq!(prober.answer(OsStr::new("hang2")).cloned(), hung());

        gate.open();
        while prober.answer(OsStr::new("hang")) != Some(&Ok(SPACE)) {
            prober.ask(&points, LONG).unwrap();
        }
    }

    #[test]
    fn no_more_threads_than_the_bound_are_lost() {
        let gate = Arc::new(Gate::default());
        let mut prober = Prober::asking(Duration::from_millis(5), gate.asking());
        let mut names: Vec<String> = (0..MAX_LOST + 3).map(|i| format!("hang{i}")).collect();
        names.push("behind".into());
        let points: Vec<OsString> = names.iter().map(OsString::from).collect();
        prober.ask(&points, LONG).unwrap();
        assert_eq!(prober.lost.len(), MAX_LOST);
        assert_eq!(prober.answer(OsStr::new(&names[MAX_LOST])).cloned(), hung());
        assert_eq!(prober.answer(OsStr::new("behind")), None);
        gate.open();
    }

    #[test]
    fn a_slow_mount_does_not_hold_the_pass() {
        let gate = Arc::new(Gate::default());
        let mut prober = Prober::asking(LONG, gate.asking());
        prober.ask(&points(&["a", "hang"]), Duration::ZERO).unwrap();
        assert_eq!(prober.answer(OsStr::new("hang")), None);
        gate.open();
        prober.ask(&points(&["a", "hang"]), LONG).unwrap();
        assert_eq!(prober.answer(OsStr::new("hang")), Some(&Ok(SPACE)));
        // A mount that has gone is forgotten.
        prober.ask(&points(&["a"]), LONG).unwrap();
        assert_eq!(prober.answer(OsStr::new("hang")), None);
    }

    #[test]
    fn errors_read_as_node_exporters() {
        let error = statvfs(OsStr::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error, "no such file or directory");
    }
}
