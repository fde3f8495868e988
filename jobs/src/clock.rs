//! The time by which limits and ids count.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, as they were when the daemon started plus what has passed since: they survive a restart
/// in the state file, and a clock that is set meanwhile neither opens a limit nor forgets an id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: u64,
    at: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: u64::try_from(started.as_millis()).unwrap_or(u64::MAX), at: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.started.saturating_add(u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
