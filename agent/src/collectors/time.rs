//! The system's clock. A collector so that a scrape shows how far this host's clock is off.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::collectors::{CollectError, Collector, Outcome};
use crate::snapshot::Families;

/// See the module.
pub(crate) struct Time;

impl Collector for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_secs_f64(),
            // A clock set before 1970 is wrong, but it is what the system says.
            Err(before) => -before.duration().as_secs_f64(),
        };
        out.gauge("node_time_seconds", "System time in seconds since epoch (1970).");
        out.value(seconds);
        Ok(Outcome::Data)
    }
}
