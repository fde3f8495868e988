//! How long something took, as loggers write it.

/// What a number without unit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Unit {
    #[default]
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    pub(crate) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "s" | "sec" | "secs" | "second" | "seconds" => Self::Seconds,
            "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => Self::Millis,
            "us" | "µs" | "μs" | "usec" | "micros" | "microsecond" | "microseconds" => Self::Micros,
            "ns" | "nsec" | "nanos" | "nanosecond" | "nanoseconds" => Self::Nanos,
            _ => return None,
        })
    }

    pub(crate) fn to_millis(self, number: f64) -> f64 {
        match self {
            Self::Seconds => number * 1e3,
            Self::Millis => number,
            Self::Micros => number / 1e3,
            Self::Nanos => number / 1e6,
        }
    }
}

/// Names of how long something took, without the unit that may stand behind.
const NAMES: &[&str] = &[
    "latency",
    "duration",
    "elapsed",
    "took",
    "prediction_time",
    "predictiontime",
    "processing_time",
    "processingtime",
    "response_time",
    "responsetime",
    "request_time",
    "requesttime",
    "execution_time",
    "executiontime",
    "elapsed_time",
    "elapsedtime",
    "query_time",
];

/// What stands behind a name for its unit.
const SUFFIXES: &[(&str, Unit)] = &[
    ("_milliseconds", Unit::Millis),
    ("_millis", Unit::Millis),
    ("_msec", Unit::Millis),
    ("_ms", Unit::Millis),
    ("ms", Unit::Millis),
    ("_microseconds", Unit::Micros),
    ("_micros", Unit::Micros),
    ("_us", Unit::Micros),
    ("us", Unit::Micros),
    ("_nanoseconds", Unit::Nanos),
    ("_nanos", Unit::Nanos),
    ("_ns", Unit::Nanos),
    ("ns", Unit::Nanos),
    ("_seconds", Unit::Seconds),
    ("_secs", Unit::Seconds),
    ("_sec", Unit::Seconds),
    ("_s", Unit::Seconds),
];

/// Whether a key is the name of how long something took: `Some(None)` where it has no unit, which says nothing of it. Names
/// inside of an object `context` count as well.
pub(crate) fn of_key(key: &str) -> Option<Option<Unit>> {
    let name = key.strip_prefix("context.").unwrap_or(key);
    // The longest name with the longest unit; most keys are longer, or begin with other letters.
    if name.len() > 32 || !name.starts_with(['l', 'd', 'e', 't', 'p', 'r', 'q', 'L', 'D', 'E', 'T', 'P', 'R', 'Q']) {
        return None;
    }
    // As pino-http has it, in milliseconds; Kibana's and Rails' are seconds.
    if name == "responseTime" {
        return Some(Some(Unit::Millis));
    }
    let is_known = |name: &str| NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
    if is_known(name) {
        return Some(None);
    }
    let unit = SUFFIXES.iter().find(|(suffix, _)| {
        let (base, end) = name.split_at_checked(name.len().saturating_sub(suffix.len())).unwrap_or_default();
        end.eq_ignore_ascii_case(suffix) && is_known(base)
    });
    unit.map(|(_, unit)| Some(*unit))
}

/// Milliseconds of a text: a number in `unit`, `12ms`, `0.25 s`, or a duration as Go writes it, `1m3.5s`.
pub(crate) fn millis(text: &str, unit: Unit) -> Option<f64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return Some(unit.to_millis(number)).filter(|millis| millis.is_finite());
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0)?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?.trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        total += match rest.get(..letters)? {
            "h" => number * 3_600_000.0,
            "m" => number * 60_000.0,
            word => Unit::of(word)?.to_millis(number),
        };
        rest = rest.get(letters..)?.trim_start();
    }
    (!text.is_empty() && total.is_finite()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_come_in_many_units() {
        for (text, unit, expected) in [
            ("0.234", Unit::Seconds, Some(234.0)),
            ("88", Unit::Millis, Some(88.0)),
            ("1500", Unit::Micros, Some(1.5)),
            ("2500000", Unit::Nanos, Some(2.5)),
            ("12ms", Unit::Seconds, Some(12.0)),
            ("0.25 s", Unit::Millis, Some(250.0)),
            ("1m3.5s", Unit::Seconds, Some(63_500.0)),
            ("1h2m3s", Unit::Seconds, Some(3_723_000.0)),
            ("250µs", Unit::Seconds, Some(0.25)),
            ("fast", Unit::Seconds, None),
            ("", Unit::Seconds, None),
            ("12 apples", Unit::Seconds, None),
            ("inf", Unit::Seconds, None),
            ("NaN", Unit::Seconds, None),
            ("1..2ms", Unit::Seconds, None),
        ] {
            assert_eq!(millis(text, unit), expected, "{text}");
        }
    }

    #[test]
    fn names_have_units() {
        for (key, expected) in [
            ("latency_ms", Some(Some(Unit::Millis))),
            ("durationMs", Some(Some(Unit::Millis))),
            ("duration", Some(None)),
            ("prediction_time", Some(None)),
            ("context.processing_time", Some(None)),
            ("elapsed_us", Some(Some(Unit::Micros))),
            ("request_time_seconds", Some(Some(Unit::Seconds))),
            ("responseTime", Some(Some(Unit::Millis))),
            ("durations", None),
            ("latency_class", None),
            ("user", None),
        ] {
            assert_eq!(of_key(key), expected, "{key}");
        }
    }
}
