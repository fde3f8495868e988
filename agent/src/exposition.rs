//! Prometheus' classic text format (0.0.4).
//!
//! Families come out sorted by name, as node_exporter's do, and those of the same name become one: a scraper wants
//! each name once, whatever collectors it came from.

use std::io::Write as _;

use crate::snapshot::{Families, Family, MetricType, Sample, Section};

/// `Content-Type` of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Which families are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// All.
    All,
    /// Those of these collectors, and what an exporter tells in any case.
    Only(&'a [&'static str]),
}

impl Choice<'_> {
    fn has_family(self, family: &Family<'_>) -> bool {
        match (self, family.section) {
            (Choice::All, _) | (Choice::Only(_), Section::Exporter) => true,
            (Choice::Only(_), Section::Own) => false,
            (Choice::Only(names), Section::Of(name)) => names.contains(&name),
            (Choice::Only(_), Section::Collectors) => family.samples.iter().any(|s| self.has(family.section, s)),
        }
    }

    fn has(self, section: Section, sample: &Sample) -> bool {
        match (self, section) {
            (Choice::Only(names), Section::Collectors) => {
                sample.labels.get("collector").is_some_and(|name| names.contains(&name))
            }
            _ => true,
        }
    }
}

/// Writes all families of all `parts` into `out`, which is emptied first. Where families of one name differ in help or
/// type, the first of them in the order of the parts decides.
pub fn encode(parts: &[&Families], out: &mut Vec<u8>) {
    encode_chosen(parts, Choice::All, out);
}

/// As [`encode`], but not all.
pub fn encode_chosen(parts: &[&Families], choice: Choice<'_>, out: &mut Vec<u8>) {
    out.clear();
    let mut families: Vec<Family<'_>> =
        parts.iter().flat_map(|part| part.iter()).filter(|family| choice.has_family(family)).collect();
    families.sort_by(|a, b| a.head.name.cmp(&b.head.name));
    for group in families.chunk_by(|a, b| a.head.name == b.head.name) {
        let head = group[0].head;
        out.extend_from_slice(b"# HELP ");
        out.extend_from_slice(head.name.as_bytes());
        out.push(b' ');
        escape(&head.help, false, out);
        out.extend_from_slice(b"\n# TYPE ");
        out.extend_from_slice(head.name.as_bytes());
        out.extend_from_slice(match head.kind {
            MetricType::Counter => b" counter\n".as_slice(),
            MetricType::Gauge => b" gauge\n",
            MetricType::Untyped => b" untyped\n",
            MetricType::Histogram => b" histogram\n",
            MetricType::Summary => b" summary\n",
        });
        let samples = group.iter().flat_map(|family| {
            let chosen = family.samples.iter().filter(|sample| choice.has(family.section, sample));
            chosen.map(|sample| (family.head.suffix, sample))
        });
        for (suffix, sample) in samples {
            out.extend_from_slice(head.name.as_bytes());
            out.extend_from_slice(suffix.as_bytes());
            let mut before = b'{';
            for (name, value) in sample.labels.iter() {
                out.push(before);
                before = b',';
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"=\"");
                escape(value, true, out);
                out.push(b'"');
            }
            if before == b',' {
                out.push(b'}');
            }
            out.push(b' ');
            number(sample.value, out);
            out.push(b'\n');
        }
    }
}

/// Backslashes and newlines are escaped everywhere, quotes in label values only.
fn escape(text: &str, quotes: bool, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\n') || (quotes && *byte == b'"')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Integers up to here are written as such; a float holds them exactly.
const MAX_EXACT: f64 = (1u64 << 53) as f64;

/// The shortest text that reads back as the same number.
fn number(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.trunc() == value && value.abs() <= MAX_EXACT {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        digits(value.abs() as u64, 1, out);
    } else if let Some(hundredths) = hundredths(value) {
        // Most counters of time: clock ticks.
        digits(hundredths / 100, 1, out);
        out.push(b'.');
        match hundredths % 100 {
            tenths if tenths % 10 == 0 => digits(tenths / 10, 1, out),
            rest => digits(rest, 2, out),
        }
    } else {
        let written = match value.abs() {
            // Without an exponent these would be long rows of zeros.
            ..1e-5 | 1e17.. => write!(out, "{value:e}"),
            _ => write!(out, "{value}"),
        };
        debug_assert!(written.is_ok(), "BUG: a Vec takes all that is written");
    }
}

/// A positive number as hundredths, if that is exactly what it is.
fn hundredths(value: f64) -> Option<u64> {
    let hundredths = (value * 100.0).round();
    (value > 0.0 && hundredths <= MAX_EXACT && hundredths / 100.0 == value).then_some(hundredths as u64)
}

/// At least `least` decimal digits.
fn digits(mut number: u64, least: usize, out: &mut Vec<u8>) {
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    while number > 0 || buffer.len() - at < least {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&buffer[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Labels;

    fn encoded(parts: &[&Families]) -> String {
        let mut out = b"left over".to_vec();
        encode(parts, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        number(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_short_and_read_back_the_same() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (25_272_582_144.0, "25272582144"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (0.1, "0.1"),
            (1585.07, "1585.07"),
            (12.5, "12.5"),
            (-12.5, "-12.5"),
            (0.123_456, "0.123456"),
            (1e-7, "1e-7"),
            (1e300, "1e300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(value), text);
        }
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for i in 0..20_000 {
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            for value in [f64::from_bits(bits), (bits >> (i % 60)) as f64 / 100.0, (bits >> (i % 64)) as f64] {
                let back: f64 = written(value).parse().unwrap();
                assert!(back == value || value.is_nan(), "{value:?} became {}", written(value));
            }
        }
    }

    #[test]
    fn what_the_format_means_something_by_is_escaped() {
        let mut families = Families::default();
        families.gauge("a", "Back\\slash, \"quotes\" and\nnewline.");
        families.push(&Labels::new([("x", "C:\\ \"q\"\nü"), ("y", "")]), 1.0);
        assert_eq!(
            encoded(&[&families]),
            "# HELP a Back\\\\slash, \"quotes\" and\\nnewline.\n# TYPE a gauge\na{x=\"C:\\\\ \\\"q\\\"\\nü\",y=\"\"} 1\n"
        );
    }

    #[test]
    fn families_of_one_name_become_one_and_all_are_sorted() {
        let (mut one, mut two) = (Families::default(), Families::default());
        one.counter("b_total", "First.");
        one.value(1.0);
        one.gauge("empty", "Has no samples.");
        one.family("a", "Letter.", MetricType::Untyped);
        one.value(2.0);
        two.gauge("b_total", "Second.");
        two.push(&Labels::new([("from", "two")]), 3.0);
        assert_eq!(
            encoded(&[&one, &two]),
            "# HELP a Letter.\n# TYPE a untyped\na 2\n# HELP b_total First.\n# TYPE b_total counter\nb_total 1\nb_total{from=\"two\"} 3\n"
        );
        assert_eq!(encoded(&[]), "");
    }

    #[test]
    fn a_choice_shows_its_collectors_and_what_exporters_always_tell() {
        let mut all = Families::default();
        for (section, name) in [
            (Section::Of("cpu"), "cpu"),
            (Section::Of("stat"), "stat"),
            (Section::Own, "own"),
            (Section::Exporter, "process_x"),
        ] {
            all.section(section);
            all.gauge(name, "H.");
            all.value(1.0);
        }
        all.section(Section::Collectors);
        all.gauge("success", "H.");
        for name in ["cpu", "stat"] {
            all.push(&Labels::new([("collector", name)]), 1.0);
        }
        let chosen = |names: &[&'static str]| {
            let mut out = Vec::new();
            encode_chosen(&[&all], Choice::Only(names), &mut out);
            let text = String::from_utf8(out).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&["stat"]), ["process_x 1", "stat 1", "success{collector=\"stat\"} 1"]);
        assert_eq!(chosen(&["cpu", "stat"]).len(), 5);
        assert_eq!(chosen(&[]), ["process_x 1"]);
    }
}
