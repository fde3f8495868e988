//! How the kernel's clock is disciplined, from the system call `adjtimex`.

use std::io::ErrorKind;

use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{Discipline, discipline};
use crate::snapshot::{Families, MetricType};

/// The state of a clock that nothing synchronizes.
const TIME_ERROR: i32 = 5;
/// In the status: offset and jitter are in nanoseconds.
const STA_NANO: i32 = 0x2000;

/// Frequencies are in parts per million, shifted by 16 bits.
const PPM_SHIFTED: f64 = 1e6 * 65_536.0;

/// See the module.
pub(crate) struct Timex;

/// Family, help, type, value.
type Line = (&'static str, &'static str, MetricType, f64);

fn families(found: &Discipline) -> [Line; 17] {
    use MetricType::{Counter, Gauge};
    let per_second = if found.status & STA_NANO == 0 { 1e6 } else { 1e9 };
    [
        ("node_timex_estimated_error_seconds", "Estimated error in seconds.", Gauge, found.estimated_error / 1e6),
        (
            "node_timex_frequency_adjustment_ratio",
            "Local clock frequency adjustment.",
            Gauge,
            1.0 + found.frequency / PPM_SHIFTED,
        ),
        ("node_timex_loop_time_constant", "Phase-locked loop time constant.", Gauge, found.constant),
        ("node_timex_maxerror_seconds", "Maximum error in seconds.", Gauge, found.max_error / 1e6),
        (
            "node_timex_offset_seconds",
            "Time offset in between local system and reference clock.",
            Gauge,
            found.offset / per_second,
        ),
        (
            "node_timex_pps_calibration_total",
            "Pulse per second count of calibration intervals.",
            Counter,
            found.pps_calibration_count,
        ),
        ("node_timex_pps_error_total", "Pulse per second count of calibration errors.", Counter, found.pps_error_count),
        ("node_timex_pps_frequency_hertz", "Pulse per second frequency.", Gauge, found.pps_frequency / PPM_SHIFTED),
        ("node_timex_pps_jitter_seconds", "Pulse per second jitter.", Gauge, found.pps_jitter / per_second),
        (
            "node_timex_pps_jitter_total",
            "Pulse per second count of jitter limit exceeded events.",
            Counter,
            found.pps_jitter_count,
        ),
        ("node_timex_pps_shift_seconds", "Pulse per second interval duration.", Gauge, found.pps_shift),
        (
            "node_timex_pps_stability_exceeded_total",
            "Pulse per second count of stability limit exceeded events.",
            Counter,
            found.pps_stability_count,
        ),
        (
            "node_timex_pps_stability_hertz",
            "Pulse per second stability, average of recent frequency changes.",
            Gauge,
            found.pps_stability / PPM_SHIFTED,
        ),
        ("node_timex_status", "Value of the status array bits.", Gauge, found.status.into()),
        (
            "node_timex_sync_status",
            "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
            Gauge,
            f64::from(found.state != TIME_ERROR),
        ),
        ("node_timex_tai_offset_seconds", "International Atomic Time (TAI) offset.", Gauge, found.tai),
        ("node_timex_tick_seconds", "Seconds between clock ticks.", Gauge, found.tick / 1e6),
    ]
}

impl Collector for Timex {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let found = match discipline() {
            Ok(found) => found,
            // Sandboxes forbid the call even to those who only ask.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
                return Ok(Outcome::Nothing);
            }
            Err(source) => return Err(CollectError::System { what: "ask how the clock is disciplined", source }),
        };
        for (name, help, kind, value) in families(&found) {
            out.family(name, help, kind);
            out.value(value);
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_status() {
        let value = |found: &Discipline, name: &str| {
            families(found).into_iter().find(|(family, ..)| *family == name).map(|(.., value)| value).unwrap()
        };
        let micro = Discipline {
            offset: -1500.0,
            frequency: 65_536.0 * 100.0,
            tick: 10_000.0,
            state: TIME_ERROR,
            ..Default::default()
        };
        assert_eq!(value(&micro, "node_timex_offset_seconds"), -0.0015);
        assert_eq!(value(&micro, "node_timex_frequency_adjustment_ratio"), 1.0001);
        assert_eq!(value(&micro, "node_timex_tick_seconds"), 0.01);
        assert_eq!(value(&micro, "node_timex_sync_status"), 0.0);
        let nano = Discipline { status: STA_NANO | 1, state: 0, ..micro };
        assert_eq!(value(&nano, "node_timex_offset_seconds"), -0.000_001_5);
        assert_eq!(value(&nano, "node_timex_status"), 8193.0);
        assert_eq!(value(&nano, "node_timex_sync_status"), 1.0);
    }
}
