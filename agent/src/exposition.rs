//! Prometheus' classic text format (0.0.4) and OpenMetrics (1.0.0).
//!
//! Families come out sorted by name, as node_exporter's do, and those of the same name become one: a scraper wants
//! each name once, whatever collectors it came from. Both formats say the same series with the same values.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::Write as _;

use daemon::http::media_ranges;

use crate::snapshot::{Families, Family, Head, MetricType, Sample, Section};
use ::rules::order;

/// How families are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The classic text.
    Classic,
    /// OpenMetrics' text.
    OpenMetrics,
}

impl Format {
    /// What a scraper with this header `Accept` wants. The classic text is for all who do not ask for the other by name.
    pub fn negotiated(accept: &str) -> Self {
        let (mut open, mut classic) = (0.0_f32, None);
        for range in media_ranges(accept) {
            match (range.kind, range.parameter("version")) {
                ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(range.quality),
                ("text/plain", None | Some("0.0.4")) => classic = Some(range.quality),
                ("text/*" | "*/*", _) => classic = classic.or(Some(range.quality)),
                _ => {}
            }
        }
        if open > 0.0 && open >= classic.unwrap_or_default() { Self::OpenMetrics } else { Self::Classic }
    }

    /// `Content-Type` of what is written.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

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
            (Choice::Only(_), Section::Own | Section::Rules) => false,
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

/// Writes all families of all `parts` as classic text into `out`, which is emptied first. Where families of one name
/// differ in help or type, the first of them in the order of the parts decides.
pub fn encode(parts: &[&Families], out: &mut Vec<u8>) {
    encode_as(Format::Classic, Choice::All, parts, out);
}

/// As [`encode`], in another format, or not all.
pub fn encode_as(format: Format, choice: Choice<'_>, parts: &[&Families], out: &mut Vec<u8>) {
    encode_again(format, choice, parts, &mut Order::default(), out);
}

/// The order of the families that were written last. What is written next mostly has the same ones: comparing each name
/// with the next is enough to see it.
#[derive(Debug, Default)]
pub struct Order(Vec<usize>);

impl Order {
    /// Sorted by name; families of one name stay in their order.
    fn sorted<'a>(&mut self, all: &[Family<'a>]) -> Vec<Family<'a>> {
        let name = |at: usize| &*all[at].head.name;
        let holds = self.0.len() == all.len()
            && self.0.windows(2).all(|pair| match name(pair[0]).cmp(name(pair[1])) {
                Ordering::Less => true,
                Ordering::Equal => pair[0] < pair[1],
                Ordering::Greater => false,
            });
        if !holds {
            self.0 = order::places(all.len(), &|a, b| name(a).cmp(name(b)));
        }
        self.0.iter().map(|at| all[*at]).collect()
    }
}

/// As [`encode_as`], for one who writes much the same again and again.
pub fn encode_again(format: Format, choice: Choice<'_>, parts: &[&Families], order: &mut Order, out: &mut Vec<u8>) {
    out.clear();
    let all: Vec<Family<'_>> =
        parts.iter().flat_map(|part| part.iter()).filter(|family| choice.has_family(family)).collect();
    let families = order.sorted(&all);
    for group in families.chunk_by(|a, b| a.head.name == b.head.name) {
        let head = group[0].head;
        let (name, kind) = match format {
            Format::Classic => (&*head.name, classic_type(head.kind)),
            Format::OpenMetrics => open_metrics_head(group, &families),
        };
        out.extend_from_slice(b"# HELP ");
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        escape(&head.help, format == Format::OpenMetrics, out);
        out.extend_from_slice(b"\n# TYPE ");
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(kind.as_bytes());
        out.push(b'\n');
        let samples = group.iter().flat_map(|family| {
            let chosen = family.samples.iter().filter(|sample| choice.has(family.section, sample));
            chosen.map(|sample| (family.head, sample))
        });
        match head.kind {
            MetricType::Histogram | MetricType::Summary => {
                together(samples).into_iter().for_each(|(head, sample)| line(format, head, sample, out));
            }
            _ => samples.for_each(|(head, sample)| line(format, head, sample, out)),
        }
    }
    if format == Format::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
}

fn classic_type(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Untyped => "untyped",
        MetricType::Histogram => "histogram",
        MetricType::Summary => "summary",
    }
}

/// Name and type of families of one name among `all`, which are sorted. In OpenMetrics a family of counters is named
/// without the `_total` that its samples end in, and a counter neither falls below 0 nor is NaN. What can't be a counter
/// there, because its name or its values are not a counter's or because another family has the name already, is of
/// unknown type: its samples stay what they are.
fn open_metrics_head<'a>(group: &[Family<'a>], all: &[Family<'_>]) -> (&'a str, &'static str) {
    let head = group[0].head;
    match head.kind {
        MetricType::Counter => {
            let taken = |name: &str| all.binary_search_by(|family| (*family.head.name).cmp(name)).is_ok();
            let counts = || group.iter().all(|family| family.samples.iter().all(|sample| sample.value >= 0.0));
            match head.name.strip_suffix("_total") {
                Some(name) if !taken(name) && counts() => (name, "counter"),
                _ => (&head.name, "unknown"),
            }
        }
        MetricType::Untyped => (&head.name, "unknown"),
        kind => (&head.name, classic_type(kind)),
    }
}

/// The labels that tell apart the parts of one histogram or summary.
fn is_part(label: &str) -> bool {
    matches!(label, "le" | "quantile")
}

/// What belongs to one histogram or summary stands together, in the order of the first of each. (Families hold all
/// buckets, then all sums.)
fn together<'a>(samples: impl Iterator<Item = (&'a Head, &'a Sample)>) -> Vec<(&'a Head, &'a Sample)> {
    let mut first: HashMap<Vec<(&str, &str)>, usize> = HashMap::new();
    let mut all: Vec<_> = samples
        .map(|(head, sample)| {
            let next = first.len();
            let whose = sample.labels.iter().filter(|(name, _)| !is_part(name)).collect();
            (*first.entry(whose).or_insert(next), head, sample)
        })
        .collect();
    // A stable sort: within one, the order stays.
    order::sort_by(&mut all, &|a, b| a.0.cmp(&b.0));
    all.into_iter().map(|(_, head, sample)| (head, sample)).collect()
}

fn line(format: Format, head: &Head, sample: &Sample, out: &mut Vec<u8>) {
    out.extend_from_slice(head.name.as_bytes());
    out.extend_from_slice(head.suffix.as_bytes());
    let mut before = b'{';
    for (name, value) in sample.labels.iter() {
        out.push(before);
        before = b',';
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        // OpenMetrics has one spelling for these numbers.
        let bound = (format == Format::OpenMetrics && is_histogram_or_summary(head.kind) && is_part(name))
            .then(|| value.parse::<f64>().ok())
            .flatten();
        match bound {
            Some(bound) => canonical(bound, out),
            None => escape(value, true, out),
        }
        out.push(b'"');
    }
    if before == b',' {
        out.push(b'}');
    }
    out.push(b' ');
    number(sample.value, out);
    out.push(b'\n');
}

fn is_histogram_or_summary(kind: MetricType) -> bool {
    matches!(kind, MetricType::Histogram | MetricType::Summary)
}

/// A bound of a bucket or a quantile as OpenMetrics writes it: with a point or an exponent, as in `1.0` and `1e+06`.
fn canonical(bound: f64, out: &mut Vec<u8>) {
    let written = match bound.abs() {
        _ if !bound.is_finite() => {
            number(bound, out);
            Ok(())
        }
        // Rust writes the exponent without sign and zero.
        1e6.. => {
            let text = format!("{bound:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            write!(out, "{digits}e+{exponent:0>2}")
        }
        small if small < 1e-4 && small > 0.0 => {
            let text = format!("{bound:e}");
            let (digits, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
            write!(out, "{digits}e-{exponent:0>2}")
        }
        _ => write!(out, "{bound:?}"),
    };
    debug_assert!(written.is_ok(), "BUG: a Vec takes all that is written");
}

/// Backslashes and newlines are escaped everywhere, quotes in label values, and in OpenMetrics' help.
fn escape(text: &str, quotes: bool, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    if !may_need_escapes(rest) {
        return out.extend_from_slice(rest);
    }
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

/// Nearly nothing does. Eight bytes at a time: whether one is 0 shows in the highest bits of a difference.
fn may_need_escapes(text: &[u8]) -> bool {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = LOW << 7;
    let (words, rest) = text.as_chunks::<8>();
    let has = |word: u64, byte: u8| {
        let other = word ^ (LOW * u64::from(byte));
        other.wrapping_sub(LOW) & !other & HIGH
    };
    let in_words = words.iter().fold(0, |found, word| {
        let word = u64::from_ne_bytes(*word);
        found | has(word, b'\\') | has(word, b'\n') | has(word, b'"')
    });
    in_words != 0 || rest.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'"'))
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
    } else if let Some(nanos) = nanos(value) {
        // What a clock measured.
        digits(nanos / NANOS, 1, out);
        out.push(b'.');
        let (mut fraction, mut places) = (nanos % NANOS, 9);
        while fraction % 10 == 0 && places > 1 {
            fraction /= 10;
            places -= 1;
        }
        digits(fraction, places, out);
    } else {
        let written = match value.abs() {
            // Without an exponent these would be long rows of zeros.
            ..1e-5 | 1e17.. => write!(out, "{value:e}"),
            _ => write!(out, "{value}"),
        };
        debug_assert!(written.is_ok(), "BUG: a Vec takes all that is written");
    }
}

/// Floats tell apart all numbers of so many digits: what was rounded to them and is the same is the shortest text.
const MAX_DISTINCT: f64 = 1e15;

/// A positive number as hundredths, if that is exactly what it is.
fn hundredths(value: f64) -> Option<u64> {
    let hundredths = (value * 100.0).round();
    (value > 0.0 && hundredths < MAX_DISTINCT && hundredths / 100.0 == value).then_some(hundredths as u64)
}

const NANOS: u64 = 1_000_000_000;

/// A positive number as billionths, if that is exactly what it is. The smallest are written with an exponent.
fn nanos(value: f64) -> Option<u64> {
    let nanos = (value * NANOS as f64).round();
    (value >= 1e-5 && nanos < MAX_DISTINCT && nanos / NANOS as f64 == value).then_some(nanos as u64)
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
    use std::time::Duration;

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
            encode_as(Format::Classic, Choice::Only(names), &[&all], &mut out);
            let text = String::from_utf8(out).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&["stat"]), ["process_x 1", "stat 1", "success{collector=\"stat\"} 1"]);
        assert_eq!(chosen(&["cpu", "stat"]).len(), 5);
        assert_eq!(chosen(&[]), ["process_x 1"]);
    }

    fn open(parts: &[&Families]) -> String {
        let mut out = Vec::new();
        encode_as(Format::OpenMetrics, Choice::All, parts, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn scrapers_get_the_format_that_they_ask_for() {
        let prometheus2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                           text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                           application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                           escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [prometheus2, prometheus3, "application/openmetrics-text", "*/*, application/openmetrics-text"] {
            assert_eq!(Format::negotiated(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/json",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.3,text/plain;q=0.5",
            "application/openmetrics-text;q=x",
        ] {
            assert_eq!(Format::negotiated(accept), Format::Classic, "{accept}");
        }
    }

    #[test]
    fn open_metrics_names_counters_without_total_and_what_is_none_unknown() {
        let mut all = Families::default();
        all.counter("a_total", "A \"quoted\" \\ help.");
        all.value(1.0);
        all.counter("b", "No suffix.");
        all.value(2.0);
        all.gauge("c", "Has the name.");
        all.value(3.0);
        all.counter("c_total", "Would have it too.");
        all.value(4.0);
        all.counter("d_total", "Negative.");
        all.value(-5.0);
        all.family("e", "Untyped.", MetricType::Untyped);
        all.push(&Labels::new([("x", "1.50"), ("le", "1")]), f64::NAN);
        assert_eq!(
            open(&[&all]),
            "# HELP a A \\\"quoted\\\" \\\\ help.\n# TYPE a counter\na_total 1\n\
             # HELP b No suffix.\n# TYPE b unknown\nb 2\n\
             # HELP c Has the name.\n# TYPE c gauge\nc 3\n\
             # HELP c_total Would have it too.\n# TYPE c_total unknown\nc_total 4\n\
             # HELP d_total Negative.\n# TYPE d_total unknown\nd_total -5\n\
             # HELP e Untyped.\n# TYPE e unknown\ne{x=\"1.50\",le=\"1\"} NaN\n# EOF\n"
        );
        assert_eq!(open(&[]), "# EOF\n");
    }

    #[test]
    fn a_histograms_parts_stand_together() {
        let mut all = Families::default();
        let labels = |x, le| Labels::new([("x", x), ("le", le)]);
        all.part("h", "_bucket", "H.", MetricType::Histogram);
        for (x, le) in [("a", "0.5"), ("a", "+Inf"), ("b", "1"), ("b", "2500000"), ("b", "+Inf")] {
            all.push(&labels(x, le), 1.0);
        }
        for suffix in ["_sum", "_count"] {
            all.part("h", suffix, "H.", MetricType::Histogram);
            for x in ["a", "b"] {
                all.push(&Labels::new([("x", x)]), 1.0);
            }
        }
        let text = open(&[&all]);
        let series: Vec<_> = text.lines().filter_map(|line| line.strip_suffix(" 1")).collect();
        assert_eq!(
            series,
            [
                r#"h_bucket{x="a",le="0.5"}"#,
                r#"h_bucket{x="a",le="+Inf"}"#,
                r#"h_sum{x="a"}"#,
                r#"h_count{x="a"}"#,
                r#"h_bucket{x="b",le="1.0"}"#,
                r#"h_bucket{x="b",le="2.5e+06"}"#,
                r#"h_bucket{x="b",le="+Inf"}"#,
                r#"h_sum{x="b"}"#,
                r#"h_count{x="b"}"#,
            ]
        );
        assert_eq!(text.matches("# TYPE h histogram").count(), 1);
        let classic = encoded(&[&all]);
        assert!(classic.contains("le=\"2500000\"}"), "{classic}");
    }

    #[test]
    fn numbers_are_the_shortest_that_read_back() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut out = Vec::new();
        for round in 0..40_000 {
            let bits = next();
            let value = match round % 4 {
                0 => Duration::from_nanos(bits >> (bits % 64)).as_secs_f64(),
                1 => (bits >> (bits % 64)) as f64 / 100.0,
                2 => (bits >> 11) as f64 / 1e15,
                _ => f64::from_bits(bits),
            };
            out.clear();
            number(value, &mut out);
            let text = str::from_utf8(&out).unwrap();
            if value.is_finite() {
                assert_eq!(text.parse(), Ok(value), "{value:?} as {text}");
                let digits = |text: &str| text.split('e').next().unwrap().trim_matches(['0', '.', '-']).len();
                assert!(digits(text) <= digits(&format!("{value:e}")) || value.trunc() == value, "{value:?} as {text}");
            }
        }
    }

    #[test]
    fn an_order_that_does_not_hold_is_made_anew() {
        let of = |names: &[&'static str]| {
            let mut all = Families::default();
            for name in names {
                all.gauge(*name, "H.");
                all.value(1.0);
            }
            all
        };
        let mut order = Order::default();
        let (mut again, mut text) = (Vec::new(), Vec::new());
        for names in [&["c", "a", "b"][..], &["c", "a", "b"], &["a", "c", "b"], &["b", "a"], &["a", "a", "a"], &[]] {
            let parts = [&of(names), &of(&["b"])];
            encode_again(Format::Classic, Choice::All, &parts, &mut order, &mut again);
            encode(&parts, &mut text);
            assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&text), "{names:?}");
        }
    }

    #[test]
    fn escapes_are_found_wherever_they_stand() {
        for at in 0..20 {
            for (byte, needed) in
                [(b'\\', true), (b'\n', true), (b'"', true), (b'x', false), (b'!', false), (0xdc, false)]
            {
                let mut text = [0x80 + at as u8; 20];
                text[at] = byte;
                assert_eq!(may_need_escapes(&text), needed, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn bounds_have_one_spelling() {
        for (bound, text) in [
            (1.0, "1.0"),
            (0.25, "0.25"),
            (0.0, "0.0"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (1.5e10, "1.5e+10"),
            (1e-5, "1e-05"),
            (-1.0, "-1.0"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = Vec::new();
            canonical(bound, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
