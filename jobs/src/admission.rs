//! Whether a request is run, now. Values only: the time comes in, in milliseconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Job;
use crate::limits::{Limits, Pace};
use crate::remembered::{Remembered, Run};
use crate::result::RunResult;

/// What is said to a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It runs; the id is taken.
    Run,
    /// This id is known.
    Known(Run),
    /// Not now, but after this time.
    Wait(Duration, Busy),
}

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// The job's rate or cooldown.
    Rate,
    /// As many of the job, or of all, run as may.
    Concurrency,
    /// As many ids are remembered as may be.
    Ids,
}

/// What runs, what ran, and how often.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) runs: Remembered,
    paces: BTreeMap<String, Pace>,
    running: HashMap<String, usize>,
    total: usize,
}

/// For how long it is kept how often a job ran: no limit looks back further.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

impl Admission {
    /// What is remembered of an id.
    pub(crate) fn known(&mut self, job: &str, id: &str, now: u64) -> Option<Run> {
        self.runs.expire(now);
        self.runs.get(job, id).cloned()
    }

    /// Decides, and takes the id and a place where it says yes.
    pub(crate) fn ask(&mut self, id: &str, job: &Job, max_concurrent: usize, now: u64) -> Verdict {
        if let Some(run) = self.known(&job.name, id, now) {
            return Verdict::Known(run);
        }
        let running = self.running.get(&job.name).copied().unwrap_or_default();
        if running >= job.max_concurrent || self.total >= max_concurrent {
            return Verdict::Wait(Duration::from_secs(1), Busy::Concurrency);
        }
        if let Some(wait) = self.wait(&job.name, &job.limits, now) {
            return Verdict::Wait(wait, Busy::Rate);
        }
        if let Some(wait) = self.runs.full(now) {
            return Verdict::Wait(Duration::from_millis(wait), Busy::Ids);
        }
        self.runs.begin(&job.name, id, now);
        self.paces.entry(job.name.clone()).or_default().started(now);
        *self.running.entry(job.name.clone()).or_default() += 1;
        self.total += 1;
        Verdict::Run
    }

    fn wait(&self, job: &str, limits: &Limits, now: u64) -> Option<Duration> {
        self.paces.get(job)?.wait(limits, now)
    }

    /// Takes back a run that could not be noted, and so was not begun. The place stays until it is freed.
    pub(crate) fn withdraw(&mut self, job: &str, id: &str) {
        let Some(run) = self.runs.get(job, id).filter(|run| run.ended.is_none()) else { return };
        if let Some(pace) = self.paces.get_mut(&run.job) {
            pace.not_started(run.started);
        }
        self.runs.forget(job, id);
    }

    /// A run ended. Its place stays until it is freed.
    pub(crate) fn end(&mut self, result: Arc<RunResult>, now: u64) {
        self.paces.entry(result.job.clone()).or_default().ended(now);
        self.runs.end(result, now);
    }

    /// Nothing of this run is there any more.
    pub(crate) fn free(&mut self, job: &str) {
        self.total = self.total.saturating_sub(1);
        if let Some(running) = self.running.get_mut(job) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(job);
            }
        }
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.total
    }

    /// From the state file: a run that began.
    pub(crate) fn restore_start(&mut self, job: &str, id: &str, at: u64) {
        if self.runs.get(job, id).is_none() {
            self.runs.begin(job, id, at);
            self.paces.entry(job.to_owned()).or_default().started(at);
        }
    }

    /// From the state file: how often a job ran.
    pub(crate) fn restore_pace(&mut self, job: &str, starts: &[u64], ended: Option<u64>) {
        let pace = self.paces.entry(job.to_owned()).or_default();
        *pace = Pace::default();
        starts.iter().for_each(|at| pace.started(*at));
        if let Some(at) = ended {
            pace.ended(at);
        }
    }

    /// For the state file: how often each job ran, without what no limit looks back to.
    pub(crate) fn paces(&mut self, now: u64) -> impl Iterator<Item = (&String, &Pace)> {
        self.paces.retain(|_, pace| !pace.is_over(LONGEST, now));
        self.paces.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argv::Template;
    use crate::result::Outcome;
    use wire::Timestamp;

    fn job(count: usize, max_concurrent: usize) -> Job {
        Job {
            name: "job".to_owned(),
            description: String::new(),
            argv: Template::parse(&["/bin/true".to_owned()], &BTreeMap::new()).unwrap(),
            params: BTreeMap::new(),
            timeout: Duration::from_secs(1),
            limits: Limits { count, per: Duration::from_secs(10), cooldown: Duration::ZERO },
            max_concurrent,
            env: Vec::new(),
            working_dir: "/".into(),
            max_output: 0,
        }
    }

    fn ended(id: &str) -> Arc<RunResult> {
        Arc::new(RunResult::nothing(id, "job", Outcome::Exited, Timestamp::from_millis(0), String::new()))
    }

    #[test]
    fn an_id_runs_once() {
        let (mut admission, job) = (Admission::default(), job(0, 1));
        assert!(matches!(admission.ask("a", &job, 8, 0), Verdict::Run));
        assert!(matches!(admission.ask("a", &job, 8, 1), Verdict::Known(run) if run.ended.is_none()));
        assert!(matches!(admission.ask("b", &job, 8, 1), Verdict::Wait(_, Busy::Concurrency)));
        admission.end(ended("a"), 2);
        assert!(matches!(admission.ask("b", &job, 8, 2), Verdict::Wait(_, Busy::Concurrency)), "still there");
        admission.free("job");
        assert!(matches!(admission.ask("a", &job, 8, 3), Verdict::Known(run) if run.ended.is_some()));
        assert!(matches!(admission.ask("b", &job, 8, 3), Verdict::Run));
    }

    #[test]
    fn limits_hold_for_each_job_and_for_all() {
        let (mut admission, job) = (Admission::default(), job(2, 8));
        assert!(matches!(admission.ask("a", &job, 2, 0), Verdict::Run));
        assert!(matches!(admission.ask("b", &job, 2, 0), Verdict::Run));
        assert!(matches!(admission.ask("c", &job, 2, 0), Verdict::Wait(_, Busy::Concurrency)));
        assert!(matches!(admission.ask("c", &job, 3, 1000), Verdict::Wait(wait, Busy::Rate) if wait.as_secs() == 9));
        // What did not begin counts for nothing.
        admission.withdraw("job", "b");
        admission.free("job");
        assert!(matches!(admission.ask("b", &job, 2, 1000), Verdict::Run));
        assert_eq!(admission.running(), 2);
    }

    #[test]
    fn limits_hold_over_a_restart() {
        let (mut admission, job) = (Admission::default(), job(2, 8));
        admission.restore_pace("job", &[0, 1000], Some(1500));
        assert!(matches!(admission.ask("c", &job, 8, 2000), Verdict::Wait(_, Busy::Rate)));
        assert_eq!(admission.paces(3000).count(), 1);
        assert_eq!(admission.paces(8 * 24 * 3600 * 1000).count(), 0);
    }
}
