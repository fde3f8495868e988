//! Durations as people write them: `10s`, `500ms`, `1h30m`, `15d`. For `#[serde(with = "config::duration")]`.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Units, largest first, in milliseconds; Prometheus' set (a year has 365 days).
const UNITS: &[(&str, u64)] = &[
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a duration; units from large to small, each at most once.
pub fn parse(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is not a duration such as \"10s\", \"500ms\", \"1h30m\" or \"15d\"");
    let mut rest = text.trim();
    let (mut total, mut last) = (0u64, None);
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
        let number: u64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let rank = UNITS.iter().position(|(unit, _)| *unit == &rest[..letters]).ok_or_else(fault)?;
        if last.is_some_and(|last| rank <= last) {
            return Err(fault());
        }
        last = Some(rank);
        total = number.checked_mul(UNITS[rank].1).and_then(|ms| total.checked_add(ms)).ok_or_else(fault)?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration in the same form.
pub fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    // Years and weeks are read but not written: "90d" says more than "12w6d".
    for (unit, millis) in &UNITS[2..] {
        if left >= *millis {
            text += &format!("{}{unit}", left / millis);
            left %= millis;
        }
    }
    text
}

/// For serde.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For serde.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, millis) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("15d", 15 * 86_400_000),
            ("0s", 0),
            ("1d2h", 93_600_000),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(text), Ok(duration), "{text}");
            assert_eq!(format(duration), text);
        }
        assert_eq!(parse("1w"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in ["", "10", "s", "10 s", "1m1h", "1s1s", "-1s", "1.5s", "99999999999999999999s", "99999999999y"] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("is not a duration such as"), "{bad}: {error}");
        }
    }
}
