//! How the kernel's clock is disciplined, and the system's time zone.
//!
//! Two calls that only the C library has, and no crate wraps safely: hence unsafe code, and all of it here. Both
//! fill a structure of plain numbers that lives on the stack of the caller.
#![allow(unsafe_code, reason = "adjtimex and localtime_r have no safe wrapper")]

use std::io;

/// What `adjtimex` tells, in its own units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Discipline {
    /// State of the clock, one of TIME_OK to TIME_ERROR.
    pub state: i32,
    /// Status bits (STA_…).
    pub status: i32,
    /// Offset that is being corrected, in microseconds or nanoseconds as the status says.
    pub offset: f64,
    /// Frequency offset, in 2⁻¹⁶ parts per million.
    pub frequency: f64,
    /// Maximum error, in microseconds.
    pub max_error: f64,
    /// Estimated error, in microseconds.
    pub estimated_error: f64,
    /// Time constant of the phase-locked loop.
    pub constant: f64,
    /// Microseconds between ticks.
    pub tick: f64,
    /// Frequency of the pulse-per-second signal, in 2⁻¹⁶ parts per million.
    pub pps_frequency: f64,
    /// Its jitter, in microseconds or nanoseconds as the status says.
    pub pps_jitter: f64,
    /// Its interval's duration: a power of two, in seconds.
    pub pps_shift: f64,
    /// Its stability, in 2⁻¹⁶ parts per million.
    pub pps_stability: f64,
    /// How often its jitter was too large.
    pub pps_jitter_count: f64,
    /// Intervals of its calibration.
    pub pps_calibration_count: f64,
    /// Errors of its calibration.
    pub pps_error_count: f64,
    /// How often its stability was too bad.
    pub pps_stability_count: f64,
    /// Seconds that International Atomic Time is ahead.
    pub tai: f64,
}

/// Asks the kernel; changes nothing.
#[cfg(target_os = "linux")]
pub fn discipline() -> io::Result<Discipline> {
    use std::mem::MaybeUninit;

    // SAFETY: `timex` is a C structure of integers only, for which all bits zero is a value; `modes` zero asks and sets
    // nothing.
    let mut timex = unsafe { MaybeUninit::<libc::timex>::zeroed().assume_init() };
    // SAFETY: the pointer is to a `timex` of this frame, which the call fills and does not keep.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Discipline {
        state,
        status: timex.status,
        offset: timex.offset as f64,
        frequency: timex.freq as f64,
        max_error: timex.maxerror as f64,
        estimated_error: timex.esterror as f64,
        constant: timex.constant as f64,
        tick: timex.tick as f64,
        pps_frequency: timex.ppsfreq as f64,
        pps_jitter: timex.jitter as f64,
        pps_shift: timex.shift.into(),
        pps_stability: timex.stabil as f64,
        pps_jitter_count: timex.jitcnt as f64,
        pps_calibration_count: timex.calcnt as f64,
        pps_error_count: timex.errcnt as f64,
        pps_stability_count: timex.stbcnt as f64,
        tai: timex.tai.into(),
    })
}

/// Other systems have other calls.
#[cfg(not(target_os = "linux"))]
pub fn discipline() -> io::Result<Discipline> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Hands the offset of local time to UTC, in seconds, and the zone's name to `with`, as they are at `time`, in seconds since
/// 1970. `None` where the system can't tell.
#[cfg(target_os = "linux")]
pub fn zone<R>(time: i64, with: impl FnOnce(f64, &str) -> R) -> Option<R> {
    use std::ffi::CStr;
    use std::mem::MaybeUninit;

    let time = libc::time_t::try_from(time).ok()?;
    let mut local = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values of this frame, which the call does not keep; it fills the second or returns null.
    let filled = unsafe { libc::localtime_r(&raw const time, local.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: the call filled it, and all bits zero was a value before: numbers and a pointer.
    let local = unsafe { local.assume_init() };
    if local.tm_zone.is_null() {
        return None;
    }
    // SAFETY: the name is a C string of the library's own that stands for as long as the process does not set another zone,
    // which nothing here does.
    let name = unsafe { CStr::from_ptr(local.tm_zone) };
    Some(with(local.tm_gmtoff as f64, &name.to_string_lossy()))
}

/// Other systems have other structures.
#[cfg(not(target_os = "linux"))]
pub fn zone<R>(_: i64, _: impl FnOnce(f64, &str) -> R) -> Option<R> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_a_tick_that_is_near_a_hundredth() {
        // Containers may forbid the call.
        if let Ok(found) = discipline() {
            assert!((9_000.0..=11_000.0).contains(&found.tick), "{found:?}");
            assert!((0..=5).contains(&found.state), "{found:?}");
        }
    }

    #[test]
    fn the_zone_is_within_a_day() {
        let (offset, name) = zone(1_700_000_000, |offset, name| (offset, name.to_owned())).unwrap();
        assert!(offset.abs() < 86_400.0 && !name.is_empty(), "{offset} {name}");
        assert!(zone(i64::MAX, |_, _| ()).is_none(), "a year that does not fit");
    }
}
