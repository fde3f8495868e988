//! Durations as Prometheus writes them: `1h30m`, `500ms`, `2w`.

use std::fmt::Write;

use crate::ast::Millis;

/// Units in the order in which they must stand, with their milliseconds. A year has 365 days.
const UNITS: [(&str, Millis); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Prometheus counts in nanoseconds, with 64 bits.
const LONGEST: Millis = i64::MAX / 1_000_000;

/// Reads a duration: whole numbers, each with its unit, from the greatest unit to the least. `0` needs none.
pub fn parse(text: &str) -> Result<Millis, String> {
    if text == "0" {
        return Ok(0);
    }
    let invalid = || format!("not a valid duration string: {:?}", super::shown(text));
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut sum: Millis = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let part = number.parse::<Millis>().ok().and_then(|number| number.checked_mul(*millis));
        let whole = part.and_then(|part| sum.checked_add(part)).filter(|sum| *sum <= LONGEST);
        sum = whole.ok_or("duration out of range")?;
        rest = tail;
    }
    if text.is_empty() { Err("empty duration string".to_owned()) } else { Ok(sum) }
}

/// Writes a duration. Years and weeks only where nothing else is left: 90d is easier to read than 12w6d.
pub fn format(duration: Millis) -> String {
    if duration == 0 {
        return "0s".to_owned();
    }
    let mut text = if duration < 0 { "-".to_owned() } else { String::new() };
    let mut rest = duration.unsigned_abs();
    for (unit, millis) in UNITS {
        let millis = millis.unsigned_abs();
        if rest < millis || (["y", "w"].contains(&unit) && !rest.is_multiple_of(millis)) {
            continue;
        }
        // Writing to a text never fails.
        let _ = write!(text, "{}{unit}", rest / millis);
        rest %= millis;
    }
    text
}

/// As a number, as PromQL counts a duration: in seconds.
pub(super) fn seconds(duration: Millis) -> f64 {
    (duration / 1000) as f64 + (duration % 1000 * 1_000_000) as f64 / 1e9
}

/// A number of seconds as a duration: in nanoseconds, rounded, then whole milliseconds, as Prometheus does.
pub(super) fn of_seconds(seconds: f64) -> Option<Millis> {
    let nanos = (seconds * 1e9).round();
    (nanos.abs() < i64::MAX as f64).then_some(nanos as i64 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis) in [
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1y2w3d4h5m6s7ms", 33_019_506_007),
            ("90d", 90 * 86_400_000),
            ("0s", 0),
            ("292y", 292 * 365 * 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(millis), "{text}");
            assert_eq!(parse(&format(millis)), Ok(millis), "{text}");
        }
        assert_eq!((format(90 * 86_400_000), format(14 * 86_400_000)), ("90d".to_owned(), "2w".to_owned()));
        assert_eq!((format(5_400_000), format(-1_500)), ("1h30m".to_owned(), "-1s500ms".to_owned()));
        assert_eq!(parse("0"), Ok(0));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "m", "5M", "1.5h", "30m1h", "5m5m", "1hs", "5 m", "-5m", "293y", "99999999999999999999s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_rounded_as_prometheus_does() {
        assert_eq!((seconds(1_500), seconds(300_000), seconds(1)), (1.5, 300.0, 0.001));
        assert_eq!((of_seconds(1.5), of_seconds(0.0015), of_seconds(-0.0029)), (Some(1_500), Some(1), Some(-2)));
        assert_eq!((of_seconds(1e10), of_seconds(f64::NAN)), (None, None));
    }
}
