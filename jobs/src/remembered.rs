//! The runs whose ids are remembered, so that none runs twice. Values only: the time comes in, in milliseconds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::result::RunResult;

/// How long an id is remembered after its run ended.
pub(crate) const REMEMBERED: u64 = 3600 * 1000;

/// Ids at most. With so many within an hour, new ones wait: to forget one early could run its command twice.
pub(crate) const MOST_RUNS: usize = 10_000;

/// Bytes of output that all results hold together; beyond, the oldest lose theirs.
const MOST_OUTPUT: usize = 8 << 20;

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) job: String,
    pub(crate) started: u64,
    /// Where it has ended: when, and how.
    pub(crate) ended: Option<(u64, Arc<RunResult>)>,
}

/// An id is one of its job: two jobs that one notification starts may have the same.
fn key(job: &str, id: &str) -> String {
    // No name has a slash.
    format!("{job}/{id}")
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// By [`key`].
    runs: HashMap<String, Run>,
    /// Keys of ended runs, in the order of their ends.
    order: VecDeque<String>,
    /// Keys of those whose results still have their output, in that order.
    with_output: VecDeque<String>,
    output: usize,
}

impl Remembered {
    pub(crate) fn get(&self, job: &str, id: &str) -> Option<&Run> {
        self.runs.get(&key(job, id))
    }

    /// Notes that a run begins. The id is new.
    pub(crate) fn begin(&mut self, job: &str, id: &str, now: u64) {
        let run = Run { id: id.to_owned(), job: job.to_owned(), started: now, ended: None };
        self.runs.insert(key(job, id), run);
    }

    /// Forgets a run that did not begin after all.
    pub(crate) fn forget(&mut self, job: &str, id: &str) {
        self.runs.remove(&key(job, id));
    }

    /// Notes that a run ended.
    pub(crate) fn end(&mut self, result: Arc<RunResult>, now: u64) {
        let key = key(&result.job, &result.id);
        let Some(run) = self.runs.get_mut(&key).filter(|run| run.ended.is_none()) else { return };
        self.output += result.held();
        run.ended = Some((now, result));
        self.order.push_back(key.clone());
        self.with_output.push_back(key);
        while self.output > MOST_OUTPUT {
            let Some(oldest) = self.with_output.pop_front() else { break };
            if let Some((_, result)) = self.runs.get_mut(&oldest).and_then(|run| run.ended.as_mut()) {
                self.output = self.output.saturating_sub(result.held());
                let mut shorter = RunResult::clone(result);
                shorter.stdout_tail = String::new();
                shorter.stderr_tail = String::new();
                *result = Arc::new(shorter);
            }
        }
    }

    /// Forgets what is old enough.
    pub(crate) fn expire(&mut self, now: u64) {
        while let Some(id) = self.order.front() {
            let ended = self.runs.get(id).and_then(|run| run.ended.as_ref());
            match ended {
                Some((at, _)) if at.saturating_add(REMEMBERED) > now => break,
                Some((_, result)) => {
                    self.output = self.output.saturating_sub(result.held());
                    self.runs.remove(id);
                }
                None => {}
            }
            if self.with_output.front() == Some(id) {
                self.with_output.pop_front();
            }
            self.order.pop_front();
        }
    }

    /// If there are too many: how long until there is room for one more, in milliseconds.
    pub(crate) fn full(&self, now: u64) -> Option<u64> {
        (self.runs.len() >= MOST_RUNS).then(|| {
            let oldest = self.order.front().and_then(|id| self.runs.get(id)).and_then(|run| run.ended.as_ref());
            oldest.map_or(1000, |(at, _)| at.saturating_add(REMEMBERED).saturating_sub(now).max(1000))
        })
    }

    /// Every run, in no order but that ended ones come in the order of their ends.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Run> {
        let ended = self.order.iter().filter_map(|key| self.runs.get(key));
        ended.chain(self.runs.values().filter(|run| run.ended.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Outcome;
    use wire::Timestamp;

    fn result(id: &str, output: usize) -> Arc<RunResult> {
        let mut result = RunResult::nothing(id, "job", Outcome::Exited, Timestamp::from_millis(0), String::new());
        result.stdout_tail = "x".repeat(output);
        Arc::new(result)
    }

    #[test]
    fn an_ended_run_is_remembered_for_an_hour_and_a_running_one_for_as_long_as_it_runs() {
        let mut runs = Remembered::default();
        runs.begin("job", "a", 0);
        runs.begin("job", "b", 0);
        runs.end(result("b", 10), 5);
        runs.expire(REMEMBERED + 4);
        assert!(runs.get("job", "a").is_some() && runs.get("job", "b").is_some());
        runs.expire(REMEMBERED + 5);
        assert!(runs.get("job", "a").is_some() && runs.get("job", "b").is_none());
        assert_eq!(runs.output, 0);
        runs.forget("job", "a");
        assert!(runs.get("other", "a").is_none());
        assert_eq!(runs.all().count(), 0);
    }

    #[test]
    fn output_is_bounded_and_the_newest_keeps_its_own() {
        let mut runs = Remembered::default();
        for n in 0..20 {
            let id = n.to_string();
            runs.begin("job", &id, n);
            runs.end(result(&id, 1 << 20), n);
        }
        let held = |id: &str| runs.get("job", id).unwrap().ended.as_ref().unwrap().1.held();
        assert_eq!((held("11"), held("12"), held("19")), (0, 1 << 20, 1 << 20));
        assert_eq!(runs.output, MOST_OUTPUT);
        runs.expire(REMEMBERED + 100);
        assert_eq!((runs.output, runs.with_output.len(), runs.order.len()), (0, 0, 0));
    }

    #[test]
    fn ids_are_bounded() {
        let mut runs = Remembered::default();
        for n in 0..MOST_RUNS {
            assert_eq!(runs.full(0), None);
            runs.begin("job", &n.to_string(), 0);
        }
        assert_eq!(runs.full(0), Some(1000));
        runs.end(result("7", 0), 10);
        assert_eq!(runs.full(20), Some(REMEMBERED - 10));
    }
}
