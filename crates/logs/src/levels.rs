//! Levels, in all the ways in which loggers write them.

use wire::messages::Level;

/// Levels of the same program in other letters: `java.util.logging`, Serilog, zerolog's console, klog.
const MORE_WORDS: &[(&str, Level)] = &[
    ("config", Level::Info),
    ("fine", Level::Debug),
    ("finer", Level::Debug),
    ("finest", Level::Debug),
    ("trc", Level::Debug),
    ("vrb", Level::Debug),
    ("dbg", Level::Debug),
    ("inf", Level::Info),
    ("wrn", Level::Warn),
    ("ftl", Level::Fatal),
    ("pnc", Level::Fatal),
    ("t", Level::Debug),
    ("v", Level::Debug),
    ("d", Level::Debug),
    ("i", Level::Info),
    ("w", Level::Warn),
    ("e", Level::Error),
    ("f", Level::Fatal),
    ("c", Level::Fatal),
];

/// What a logger says under a key that means its level. A number in words is one.
pub(crate) fn of_word(word: &str) -> Option<Level> {
    let word = word.trim();
    Level::from_word(word)
        .or_else(|| MORE_WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, level)| *level))
}

/// What a number under `key` means: syslog's severities from 0 to 7, pino's and bunyan's tens, Python's tens under
/// `levelno`, OpenTelemetry's 1 to 24 under `severityNumber`.
pub(crate) fn of_number(key: &str, number: &str) -> Option<Level> {
    let number: u32 = number.trim().parse().ok()?;
    let name = key.rsplit('.').next().unwrap_or(key);
    if name.eq_ignore_ascii_case("severityNumber") || name.eq_ignore_ascii_case("severity_number") {
        return of_opentelemetry(number);
    }
    if name.eq_ignore_ascii_case("levelno") {
        return of_python(number);
    }
    match number {
        0..=7 => of_syslog(number),
        10..=29 => Some(Level::Debug),
        30..=39 => Some(Level::Info),
        40..=49 => Some(Level::Warn),
        50..=59 => Some(Level::Error),
        60..=69 => Some(Level::Fatal),
        _ => None,
    }
}

/// Severity 0 (emergency) to 7 (debug).
pub(crate) fn of_syslog(severity: u32) -> Option<Level> {
    match severity {
        0..=2 => Some(Level::Fatal),
        3 => Some(Level::Error),
        4 => Some(Level::Warn),
        5 | 6 => Some(Level::Info),
        7 => Some(Level::Debug),
        _ => None,
    }
}

/// What syslog calls a severity.
pub(crate) fn syslog_word(severity: u32) -> &'static str {
    const WORDS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    usize::try_from(severity).ok().and_then(|at| WORDS.get(at)).copied().unwrap_or_default()
}

/// 1 (trace) to 24 (fatal).
pub(crate) fn of_opentelemetry(number: u32) -> Option<Level> {
    match number {
        1..=8 => Some(Level::Debug),
        9..=12 => Some(Level::Info),
        13..=16 => Some(Level::Warn),
        17..=20 => Some(Level::Error),
        21..=24 => Some(Level::Fatal),
        _ => None,
    }
}

fn of_python(number: u32) -> Option<Level> {
    match number {
        0..=19 => Some(Level::Debug),
        20..=29 => Some(Level::Info),
        30..=39 => Some(Level::Warn),
        40..=49 => Some(Level::Error),
        _ => Some(Level::Fatal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_levels_by_their_key() {
        for (key, number, expected) in [
            ("level", "30", Some(Level::Info)),
            ("level", "40", Some(Level::Warn)),
            ("level", "60", Some(Level::Fatal)),
            ("severity", "3", Some(Level::Error)),
            ("levelno", "30", Some(Level::Warn)),
            ("severityNumber", "17", Some(Level::Error)),
            ("a.severity_number", "9", Some(Level::Info)),
            ("level", "8", None),
            ("level", "1000", None),
            ("level", "-1", None),
        ] {
            assert_eq!(of_number(key, number), expected, "{key} {number}");
        }
        assert_eq!((of_word(" FINE "), of_word("wrn"), of_word("loud")), (Some(Level::Debug), Some(Level::Warn), None));
    }
}
