//! Times as the client wants them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::Timestamp;

/// Exact: both count milliseconds from the same epoch, and rows keep to the years 1 to 9999.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let distance = Duration::from_millis(time.as_millis().unsigned_abs());
    if time.as_millis() < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
