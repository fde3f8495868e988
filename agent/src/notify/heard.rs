//! Which silences of the fleet the broker still has. That one was removed is told to those who are there, and to nobody later.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What the broker retains is heard within this time after a subscription, also over a slow line.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was heard since the connection began.
#[derive(Debug, Default)]
pub(super) struct Heard {
    ids: BTreeSet<String>,
    due: Option<Instant>,
}

impl Heard {
    /// A connection begins or ends.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// The broker tells what it retains from now on.
    pub(super) fn listens(&mut self, now: Instant) {
        self.due = Some(now + PATIENCE);
    }

    /// The broker has this one.
    pub(super) fn has(&mut self, id: String) {
        self.ids.insert(id);
    }

    /// How long until [`Heard::all`] has something to say.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// All that the broker has, once it had the time to tell.
    pub(super) fn all(&mut self, now: Instant) -> Option<BTreeSet<String>> {
        self.due.take_if(|due| *due <= now)?;
        Some(std::mem::take(&mut self.ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_has_is_known_a_minute_after_the_subscription() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        heard.has("gone".to_owned());
        heard.begin();
        heard.has("a".to_owned());
        assert_eq!((heard.wait(now), heard.all(now + 2 * PATIENCE)), (None, None), "nobody listens yet");
        heard.listens(now);
        heard.has("b".to_owned());
        assert_eq!((heard.wait(now), heard.all(now)), (Some(PATIENCE), None));
        assert_eq!(heard.all(now + PATIENCE), Some(["a".to_owned(), "b".to_owned()].into()));
        assert_eq!((heard.wait(now), heard.all(now + PATIENCE)), (None, None), "once");
        heard.listens(now);
        heard.begin();
        assert_eq!(heard.all(now + PATIENCE), None, "the connection ended before");
    }
}
