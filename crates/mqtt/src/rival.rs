//! Two clients under one id, at a broker that does not say so.
//!
//! Such a broker (mosquitto before 2.0.15) closes the older connection without a word, as a broker does that crashes and
//! a network that drops connections. What tells them apart is the session: it ends some time after its last connection,
//! so if it is still there after a longer time in which we had none, somebody else had. That check costs a pause, so it
//! is made only after several connections in a row that were opened at once, and soon closed.

use std::time::Duration;

use crate::Cause;

/// Short connections in a row that make a check worth its pause.
const SUSPICIOUS: u32 = 4;

/// What a session may outlive its end by, beside its expiry: brokers look for expired ones now and then.
const SLACK: Duration = Duration::from_secs(3);

/// Follows connections and decides when to check.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    short: u32,
    checking: bool,
}

impl Rivals {
    /// Whether the next connection is to resume a session, to learn whether there is one.
    pub(crate) fn checking(&self) -> bool {
        self.checking
    }

    /// A connection came about. Says whether a rival holds the session.
    pub(crate) fn connected(&mut self, session_present: bool) -> bool {
        if self.checking && !session_present {
            *self = Self::default();
        }
        self.checking
    }

    /// A connection ended after it stood for `stood`, or did not come about (`None`). Returns how long to stay away if
    /// that has to be longer than usual. `silence` is what the broker needs to give up a connection whose end it did not
    /// see, and `expiry` how long it keeps the session after that; `short` is what counts as a short connection.
    pub(crate) fn ended(
        &mut self,
        cause: Cause,
        stood: Option<Duration>,
        short: Duration,
        silence: Duration,
        expiry: Duration,
    ) -> Option<Duration> {
        let away = silence.saturating_add(expiry).saturating_add(SLACK);
        if self.checking {
            // An attempt that got as far as the broker may have left a session of our own.
            let reached = !matches!(
                cause,
                Cause::Rival
                    | Cause::Unreachable
                    | Cause::Tls
                    | Cause::Credentials
                    | Cause::Busy
                    | Cause::Moved
                    | Cause::Refused
            );
            return reached.then_some(away);
        }
        match (cause, stood) {
            (Cause::Closed, Some(stood)) if stood < short => self.short += 1,
            _ => self.short = 0,
        }
        // Without an expiry there is no session to be found.
        if self.short < SUSPICIOUS || expiry.is_zero() {
            return None;
        }
        self.checking = true;
        Some(away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ended(rivals: &mut Rivals, cause: Cause, stood: Option<u64>) -> Option<u64> {
        let stood = stood.map(Duration::from_secs);
        rivals.ended(cause, stood, 120 * SECOND, 45 * SECOND, 5 * SECOND).map(|away| away.as_secs())
    }

    fn suspicious() -> Rivals {
        let mut rivals = Rivals::default();
        for _ in 1..SUSPICIOUS {
            assert_eq!(ended(&mut rivals, Cause::Closed, Some(1)), None);
        }
        assert_eq!(ended(&mut rivals, Cause::Closed, Some(100)), Some(53));
        assert!(rivals.checking());
        rivals
    }

    #[test]
    fn a_session_that_outlives_our_absence_is_a_rivals() {
        let mut rivals = suspicious();
        assert!(rivals.connected(true));
        // The pause after that is the caller's; then it is looked again.
        assert_eq!(ended(&mut rivals, Cause::Rival, Some(0)), None);
        assert!(rivals.checking() && rivals.connected(true));
        assert!(!rivals.connected(false));
        assert!(!rivals.checking() && !rivals.connected(true));
    }

    #[test]
    fn brokers_that_restart_and_nets_that_break_raise_no_suspicion() {
        let mut rivals = Rivals::default();
        for _ in 0..10 {
            for (cause, stood) in [
                (Cause::Closed, Some(1)),
                (Cause::Closed, Some(1)),
                (Cause::Closed, Some(1)),
                (Cause::Unreachable, None),
                (Cause::Closed, Some(1)),
                (Cause::Timeout, Some(50)),
                (Cause::Closed, Some(1)),
                (Cause::ShuttingDown, Some(2)),
                (Cause::Closed, Some(3600)),
                // Closed before it stood: a broker behind a balancer that is not there.
                (Cause::Closed, None),
                (Cause::Closed, None),
                (Cause::Closed, None),
                (Cause::Closed, None),
            ] {
                assert_eq!(ended(&mut rivals, cause, stood), None, "{cause:?}");
            }
        }
    }

    #[test]
    fn an_attempt_that_may_have_left_a_session_is_waited_out_again() {
        let mut rivals = suspicious();
        assert_eq!(ended(&mut rivals, Cause::Unreachable, None), None);
        assert_eq!(ended(&mut rivals, Cause::Timeout, None), Some(53));
        assert_eq!(ended(&mut rivals, Cause::Closed, None), Some(53));
        assert!(!rivals.connected(false));
    }

    #[test]
    fn without_an_expiry_nothing_can_be_checked() {
        let mut rivals = Rivals::default();
        for _ in 0..20 {
            let away = rivals.ended(Cause::Closed, Some(SECOND), 120 * SECOND, 45 * SECOND, Duration::ZERO);
            assert_eq!(away, None);
        }
    }
}
