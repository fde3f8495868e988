//! Where requests become runs: decided, noted, run, noted again, answered.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use daemon::http::Credentials;
use daemon::shutdown::Shutdown;
use tokio::sync::watch;
use tracing::{error, info, warn};
use wire::Timestamp;

use crate::admission::{Admission, Busy, Verdict};
use crate::audit::{Audit, AuditError, Entry};
use crate::clock::Clock;
use crate::command::{self, Task};
use crate::config::{Job, Settings};
use crate::journal::{Journal, Line};
use crate::metrics::{Metrics, Refusal};
use crate::remembered::Run;
use crate::result::{Outcome, RunResult};

/// A request that names a job of the configuration and is within its bounds.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) job: Arc<Job>,
    pub(crate) argv: Vec<String>,
    pub(crate) body: Bytes,
    pub(crate) peer: Credentials,
}

/// What is said to it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It ran, now or when the id came first.
    Ended { result: Arc<RunResult>, repeated: bool },
    /// The id runs.
    Running(Run),
    /// Not now.
    Wait(Duration, Busy),
    /// The daemon stops.
    Stopping,
    /// It could not be noted, and so was not run.
    Unnoted(String),
    /// A broken invariant of ours.
    Broken,
}

/// Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Desk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    settings: Mutex<Arc<Settings>>,
    admission: Mutex<Admission>,
    // Locked before `admission` where both are.
    journal: Mutex<Journal>,
    audit: Mutex<Audit>,
    metrics: Metrics,
    stop: Shutdown,
    running: watch::Sender<usize>,
    /// Why the last run could not be noted.
    fault: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Takes up what an earlier daemon left. Runs that it did not see the end of are reported.
    pub(crate) fn open(
        settings: Settings,
        journal: (Journal, Vec<Line>, usize),
        audit: Audit,
        metrics: Metrics,
        stop: Shutdown,
    ) -> Result<Self, String> {
        let (journal, lines, unreadable) = journal;
        let clock = Clock::start();
        let mut admission = Admission::default();
        let interrupted = restore(&mut admission, lines, clock.now());
        if unreadable > 0 {
            warn!("{unreadable} lines of the state file can't be read; the ids in them are forgotten");
        }
        settings.jobs.keys().for_each(|job| metrics.know(job));
        let shared = Shared {
            clock,
            settings: Mutex::new(Arc::new(settings)),
            admission: Mutex::new(admission),
            journal: Mutex::new(journal),
            audit: Mutex::new(audit),
            metrics,
            stop,
            running: watch::Sender::new(0),
            fault: Mutex::new(None),
        };
        for (id, job, started) in interrupted {
            shared.report_interrupted(&id, &job, started).map_err(|error| error.to_string())?;
        }
        shared.rewrite().map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(shared)))
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        lock(&self.0.settings).clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Takes another configuration. What runs goes on under the one that it began with.
    pub(crate) fn reconfigure(&self, settings: Settings) -> Result<(), AuditError> {
        if settings.audit != self.settings().audit {
            let audit = Audit::open(&settings.audit)?;
            *lock(&self.0.audit) = audit;
        }
        settings.jobs.keys().for_each(|job| self.0.metrics.know(job));
        *lock(&self.0.settings) = Arc::new(settings);
        Ok(())
    }

    /// Why runs can't be noted, if they can't.
    pub(crate) fn fault(&self) -> Option<String> {
        lock(&self.0.fault).clone()
    }

    /// What is remembered of an id.
    pub(crate) fn known(&self, job: &str, id: &str) -> Option<Run> {
        let now = self.0.clock.now();
        lock(&self.0.admission).known(job, id, now)
    }

    /// What to say to an id that is known; `None`: it is not.
    pub(crate) fn repeated(&self, job: &str, id: &str) -> Option<Answer> {
        self.known(job, id).map(known_as)
    }

    /// Returns when nothing runs any more.
    pub(crate) async fn idle(&self) {
        // An error would mean that the sender is gone, which is `self`.
        let _ = self.0.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Runs it if it may be. Once begun it goes on, also when nobody waits for the answer any more.
    pub(crate) async fn run(&self, asked: Asked) -> Answer {
        let shared = &self.0;
        if shared.stop.is_set() {
            return Answer::Stopping;
        }
        let max_concurrent = self.settings().max_concurrent;
        let verdict = lock(&shared.admission).ask(&asked.id, &asked.job, max_concurrent, shared.clock.now());
        match verdict {
            Verdict::Known(run) => return known_as(run),
            Verdict::Wait(wait, busy) => return Answer::Wait(wait, busy),
            Verdict::Run => {}
        }
        let place = Arc::new(Place::take(shared.clone(), asked.job.name.clone()));
        let (shared, id) = (shared.clone(), asked.id.clone());
        match tokio::spawn(shared.carry_out(asked, place)).await {
            Ok(answer) => answer,
            Err(error) => {
                error!("BUG: run {id} broke off: {error}");
                Answer::Broken
            }
        }
    }
}

fn known_as(run: Run) -> Answer {
    match run.ended {
        Some((_, result)) => Answer::Ended { result, repeated: true },
        None => Answer::Running(run),
    }
}

/// Puts the state file's lines into place; gives the runs without an end.
fn restore(admission: &mut Admission, lines: Vec<Line>, now: u64) -> Vec<(String, String, u64)> {
    let mut open: BTreeSet<(String, String)> = BTreeSet::new();
    for line in lines {
        // A clock that was ahead must not make a limit longer than it is.
        match line {
            Line::Start { id, job, at } => {
                admission.restore_start(&job, &id, at.min(now));
                open.insert((job, id));
            }
            Line::End { at, result } => {
                open.remove(&(result.job.clone(), result.id.clone()));
                // Its start stands above, unless that line is damaged.
                admission.restore_start(&result.job, &result.id, at.min(now));
                admission.end(Arc::new(result), at.min(now));
            }
            Line::Withdrawn { id, job } => {
                admission.withdraw(&job, &id);
                open.remove(&(job, id));
            }
            Line::Pace { job, starts, ended } => {
                let starts: Vec<u64> = starts.into_iter().map(|at| at.min(now)).collect();
                admission.restore_pace(&job, &starts, ended.map(|at| at.min(now)));
            }
        }
    }
    let runs = open.into_iter().filter_map(|(job, id)| {
        let run = admission.runs.get(&job, &id).filter(|run| run.ended.is_none())?;
        Some((id, job, run.started))
    });
    runs.collect()
}

/// A place among what runs, until dropped.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    job: String,
}

impl Place {
    /// Of a run that was admitted.
    fn take(shared: Arc<Shared>, job: String) -> Self {
        shared.count();
        Self { shared, job }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared.admission).free(&self.job);
        self.shared.count();
    }
}

impl Shared {
    fn count(&self) {
        let running = lock(&self.admission).running();
        self.metrics.running(running);
        self.running.send_replace(running);
    }

    async fn carry_out(self: Arc<Self>, asked: Asked, place: Arc<Place>) -> Answer {
        let Asked { id, job, argv, body, peer } = asked;
        let noted = {
            let (shared, id, job, argv) = (self.clone(), id.clone(), job.clone(), argv.clone());
            tokio::task::spawn_blocking(move || shared.note_start(&id, &job.name, &argv, peer)).await
        };
        let noted = noted.map_err(|error| format!("BUG: {error}")).flatten();
        *lock(&self.fault) = noted.as_ref().err().cloned();
        if let Err(fault) = noted {
            error!("job {} was not run: {fault}", job.name);
            return Answer::Unnoted(fault);
        }
        if self.stop.is_set() {
            let shared = self.clone();
            let _ =
                tokio::task::spawn_blocking(move || shared.note_withdrawal(&id, &job.name, "the daemon stops")).await;
            return Answer::Stopping;
        }
        info!("job {} begins as {id}, for user {}", job.name, peer.uid);
        let (started_at, begun) = (Timestamp::from(SystemTime::now()), Instant::now());
        let task = Task { id: id.clone(), job: job.clone(), argv, body };
        let ended = command::run(task, &self.stop, place.clone()).await;
        let time = begun.elapsed();
        let dropped = ended.stdout.dropped().saturating_add(ended.stderr.dropped());
        let pid = ended.pid;
        let result = Arc::new(RunResult {
            id: id.clone(),
            job: job.name.clone(),
            outcome: ended.outcome,
            exit_code: ended.exit_code,
            signal: ended.signal,
            timed_out: ended.outcome == Outcome::TimedOut,
            started_at,
            duration_ms: crate::limits::millis(time),
            stdout_bytes: ended.stdout.total(),
            stderr_bytes: ended.stderr.total(),
            stdout_tail: ended.stdout.into_text(),
            stderr_tail: ended.stderr.into_text(),
            error: ended.error,
        });
        self.metrics.ran(&job.name, result.outcome, result.exit_code, time, dropped);
        tell(&result, time);
        let at = self.clock.now();
        // In memory first: a state file that is written anew meanwhile has it.
        lock(&self.admission).end(result.clone(), at);
        let noted = {
            let (shared, result) = (self.clone(), result.clone());
            tokio::task::spawn_blocking(move || shared.note_end(&result, pid, at)).await
        };
        if let Err(fault) = noted.map_err(|error| format!("BUG: {error}")).flatten() {
            error!("the end of run {id} of job {} is not noted: {fault}", job.name);
            *lock(&self.fault) = Some(fault);
        }
        drop(place);
        Answer::Ended { result, repeated: false }
    }

    /// Before the command starts: state first, so that there is no start in the audit of which the state knows nothing.
    fn note_start(&self, id: &str, job: &str, argv: &[String], peer: Credentials) -> Result<(), String> {
        let at = lock(&self.admission).runs.get(job, id).map_or_else(|| self.clock.now(), |run| run.started);
        let start = Line::Start { id: id.to_owned(), job: job.to_owned(), at };
        let entry = Entry::Start { id, job, argv, peer: peer.into() };
        let in_state = lock(&self.journal).append(&start);
        let noted = match in_state {
            Ok(()) => lock(&self.audit).write(&entry).map_err(|error| error.to_string()),
            Err(error) => Err(format!("can't write the state file: {error}")),
        };
        noted.inspect_err(|fault| self.note_withdrawal(id, job, fault))
    }

    /// It did not begin, and may be asked for again.
    fn note_withdrawal(&self, id: &str, job: &str, why: &str) {
        lock(&self.admission).withdraw(job, id);
        // Where the disk takes nothing, both may fail: the next start then reports a run of unknown outcome, which is the
        // careful way to be wrong.
        let in_state = lock(&self.journal).append(&Line::Withdrawn { id: id.to_owned(), job: job.to_owned() });
        let in_audit = lock(&self.audit).write(&Entry::Withdrawn { id, job, error: why });
        for fault in
            [in_state.err().map(|e| e.to_string()), in_audit.err().map(|e| e.to_string())].into_iter().flatten()
        {
            warn!("that run {id} of job {job} did not begin is not noted: {fault}");
        }
    }

    fn note_end(&self, result: &RunResult, pid: Option<u32>, at: u64) -> Result<(), String> {
        let in_audit = lock(&self.audit).write(&Entry::end(result, pid)).map_err(|error| error.to_string());
        let is_long = {
            let mut journal = lock(&self.journal);
            let line = Line::End { at, result: result.clone() };
            journal.append(&line).map_err(|error| format!("can't write the state file: {error}"))?;
            journal.is_long()
        };
        if is_long {
            self.rewrite()?;
        }
        in_audit
    }

    fn report_interrupted(&self, id: &str, job: &str, started: u64) -> Result<(), AuditError> {
        let started_at = Timestamp::from_millis(i64::try_from(started).unwrap_or(i64::MAX));
        warn!("job {job}, run {id} of {started_at}: the daemon ended before it saw the end; what it did is unknown");
        lock(&self.audit).write(&Entry::Interrupted { id, job, started_at })?;
        let why =
            "the daemon ended before it saw the end; the command may have run, in whole or in part, or not".to_owned();
        let result = RunResult::nothing(id, job, Outcome::Unknown, started_at, why);
        self.metrics.ran(job, Outcome::Unknown, None, Duration::ZERO, 0);
        lock(&self.admission).end(Arc::new(result), self.clock.now());
        Ok(())
    }

    /// Writes the state file anew with what is remembered.
    fn rewrite(&self) -> Result<(), String> {
        let mut journal = lock(&self.journal);
        let lines = {
            let mut admission = lock(&self.admission);
            let now = self.clock.now();
            admission.runs.expire(now);
            let mut lines = Vec::new();
            for run in admission.runs.all() {
                lines.push(Line::Start { id: run.id.clone(), job: run.job.clone(), at: run.started });
                if let Some((at, result)) = &run.ended {
                    lines.push(Line::End { at: *at, result: RunResult::clone(result) });
                }
            }
            // Behind the runs, in whose place they stand.
            let paces = admission.paces(now);
            lines.extend(paces.map(|(job, pace)| Line::Pace {
                job: job.clone(),
                starts: pace.starts().collect(),
                ended: pace.last_end(),
            }));
            lines
        };
        journal.rewrite(&lines).map_err(|error| error.to_string())
    }
}

fn tell(result: &RunResult, time: Duration) {
    let RunResult { id, job, exit_code, signal, .. } = result;
    let time = time.as_secs_f64();
    match result.outcome {
        Outcome::Exited if *exit_code == Some(0) => info!("job {job}, run {id}: done in {time:.3} s"),
        Outcome::Exited => warn!("job {job}, run {id}: exit code {} after {time:.3} s", exit_code.unwrap_or_default()),
        Outcome::Signaled => {
            warn!("job {job}, run {id}: ended by signal {} after {time:.3} s", signal.unwrap_or_default())
        }
        Outcome::TimedOut => warn!("job {job}, run {id}: ended after {time:.3} s, since its time was over"),
        Outcome::Stopped => warn!("job {job}, run {id}: ended after {time:.3} s, since the daemon stops"),
        Outcome::NotStarted | Outcome::Unknown => {
            warn!("job {job}, run {id}: {}", result.error.as_deref().unwrap_or("nobody knows how it ended"));
        }
    }
}

impl From<Busy> for Refusal {
    fn from(busy: Busy) -> Self {
        match busy {
            Busy::Rate => Refusal::Rate,
            Busy::Concurrency => Refusal::Concurrency,
            Busy::Ids => Refusal::Ids,
        }
    }
}
