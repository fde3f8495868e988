//! What became of a run.

use serde::{Deserialize, Serialize};
use wire::Timestamp;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// By itself, with an exit code.
    Exited,
    /// By a signal that was not ours.
    Signaled,
    /// By us, since its time was over.
    TimedOut,
    /// By us, since the daemon stopped.
    Stopped,
    /// It never began: the program is missing, say.
    NotStarted,
    /// Nobody saw it: the daemon died while it ran, or just before it would have begun.
    Unknown,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 6] = [
        Outcome::Exited,
        Outcome::Signaled,
        Outcome::TimedOut,
        Outcome::Stopped,
        Outcome::NotStarted,
        Outcome::Unknown,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Outcome::Exited => "exited",
            Outcome::Signaled => "signaled",
            Outcome::TimedOut => "timed_out",
            Outcome::Stopped => "stopped",
            Outcome::NotStarted => "not_started",
            Outcome::Unknown => "unknown",
        }
    }
}

/// The answer to who asked for a run, now and when the id comes again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunResult {
    pub(crate) id: String,
    pub(crate) job: String,
    pub(crate) outcome: Outcome,
    /// Of a command that ended by itself.
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    pub(crate) timed_out: bool,
    pub(crate) started_at: Timestamp,
    pub(crate) duration_ms: u64,
    /// The end of what it wrote.
    pub(crate) stdout_tail: String,
    pub(crate) stderr_tail: String,
    /// All that it wrote, in bytes.
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
    /// Why it did not start, or what else was wrong.
    pub(crate) error: Option<String>,
}

impl RunResult {
    /// Of a run of which nothing is known but that it was to begin.
    pub(crate) fn nothing(id: &str, job: &str, outcome: Outcome, started_at: Timestamp, error: String) -> Self {
        Self {
            id: id.to_owned(),
            job: job.to_owned(),
            outcome,
            exit_code: None,
            signal: None,
            timed_out: false,
            started_at,
            duration_ms: 0,
            stdout_tail: String::new(),
            stderr_tail: String::new(),
            stdout_bytes: 0,
            stderr_bytes: 0,
            error: Some(error),
        }
    }

    /// How many bytes of output it holds.
    pub(crate) fn held(&self) -> usize {
        self.stdout_tail.len() + self.stderr_tail.len()
    }
}
