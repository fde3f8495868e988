//! Prometheus' classic text format, read strictly.
//!
//! What node_exporter refuses is refused: unknown types and escapes, a second HELP or TYPE, a last line without end (a
//! file that is still being written), a time of the client's. So is what it takes silently and drops: a sample that a
//! histogram or summary has no place for, a series that comes twice. A family may come in several pieces, as there.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::snapshot::{Labels, MetricType};
use crate::tokens::{Bounds, Cursor, Escapes, is_metric_byte, shown, unescaped_help, value};
use ::rules::order;

/// A program that wrote more than this made a mistake, and it would go into every scrape.
const BOUNDS: Bounds = Bounds { labels: 64, label_bytes: 4096, name_bytes: 256 };

/// A family as a file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedFamily {
    /// Its name, without the suffixes of histograms and summaries.
    pub name: String,
    /// Its help text, where the file has one.
    pub help: Option<String>,
    /// Its type; untyped where the file has none.
    pub kind: MetricType,
    /// In the file's order, but those of a histogram or summary together that differ only in `le` or `quantile`.
    pub samples: Vec<ParsedSample>,
}

/// A sample as a file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedSample {
    /// `_bucket`, `_sum` or `_count` in histograms and summaries, else empty.
    pub suffix: &'static str,
    /// In the order of the line.
    pub labels: Labels,
    /// Any number, NaN and the infinities too.
    pub value: f64,
}

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

/// What tells a series from all others: its name and labels. A label that is empty is none, and order means nothing.
pub(super) fn series_key(name: &str, suffix: &str, labels: &Labels) -> String {
    key_without(name, suffix, labels, "")
}

fn key_without(name: &str, suffix: &str, labels: &Labels, left_out: &str) -> String {
    let mut pairs: Vec<_> = labels.iter().filter(|(name, value)| !value.is_empty() && *name != left_out).collect();
    order::sort_by(&mut pairs, &Ord::cmp);
    let mut key = format!("{name}{suffix}");
    for (name, value) in pairs {
        // A label's name has no byte 0; a value may, so its length stands before it.
        key.push('\0');
        key.push_str(name);
        key.push('\0');
        key.push_str(&value.len().to_string());
        key.push('\0');
        key.push_str(value);
    }
    key
}

/// All families of a file that have samples, in the order in which they begin.
pub fn parse(text: &[u8]) -> Result<Vec<ParsedFamily>, ParseError> {
    let line_of = |at: usize| 1 + text[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    let text = std::str::from_utf8(text)
        .map_err(|error| ParseError { line: line_of(error.valid_up_to()), what: "is not UTF-8".to_owned() })?;
    let mut file = File::default();
    let mut rest = text;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let fault = |what: String| ParseError { line: number, what };
        let Some((line, after)) = rest.split_once('\n') else {
            return Err(fault("has no end; the file was cut, or is still being written".to_owned()));
        };
        rest = after;
        file.line(line).map_err(fault)?;
    }
    file.finish()
}

/// A family that is being read.
struct Open {
    family: ParsedFamily,
    /// A TYPE line came.
    typed: bool,
    /// The line of its last sample.
    line: usize,
}

#[derive(Default)]
struct File {
    families: Vec<Open>,
    by_name: HashMap<String, usize>,
    series: HashSet<String>,
    line: usize,
}

impl File {
    fn line(&mut self, line: &str) -> Result<(), String> {
        self.line += 1;
        let mut cursor = Cursor::new(line);
        cursor.blanks();
        match cursor.rest.strip_prefix('#') {
            Some(comment) => self.comment(comment),
            None if cursor.rest.is_empty() => Ok(()),
            None => self.sample(cursor),
        }
    }

    /// Only HELP and TYPE mean something, and only with a name behind them.
    fn comment(&mut self, text: &str) -> Result<(), String> {
        let mut cursor = Cursor::new(text);
        cursor.blanks();
        let keyword = cursor.until_blank();
        if !matches!(keyword, "HELP" | "TYPE") {
            return Ok(());
        }
        cursor.blanks();
        let name = cursor.name(is_metric_byte);
        if name.is_empty() || !(cursor.rest.is_empty() || cursor.rest.starts_with([' ', '\t'])) {
            return Err(format!("{keyword} names no metric: {:?}", shown(text)));
        }
        BOUNDS.check_name(name)?;
        if cursor.rest.is_empty() {
            return Ok(());
        }
        cursor.blanks();
        if keyword == "HELP" {
            let help = unescaped_help(cursor.rest)?;
            let family = &mut self.open(name).family;
            if family.help.replace(help).is_some() {
                return Err(format!("a second HELP of {name}"));
            }
            return Ok(());
        }
        let kind = match cursor.rest.trim_end_matches([' ', '\t']).to_ascii_lowercase().as_str() {
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "untyped" => MetricType::Untyped,
            "histogram" => MetricType::Histogram,
            "summary" => MetricType::Summary,
            other => return Err(format!("{:?} is no type of the text format", shown(other))),
        };
        let open = self.open(name);
        if open.typed || !open.family.samples.is_empty() {
            return Err(format!("a second TYPE of {name}, or one behind its samples"));
        }
        open.typed = true;
        open.family.kind = kind;
        Ok(())
    }

    /// The family of that name, begun where it is new.
    fn open(&mut self, name: &str) -> &mut Open {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                let family =
                    ParsedFamily { name: name.to_owned(), help: None, kind: MetricType::Untyped, samples: Vec::new() };
                self.families.push(Open { family, typed: false, line: 0 });
                self.by_name.insert(name.to_owned(), self.families.len() - 1);
                self.families.len() - 1
            }
        };
        &mut self.families[at]
    }

    /// Which family a sample of this name belongs to: that of the name itself, or a histogram or summary that the name
    /// without its suffix names.
    fn family_of<'a>(&self, name: &'a str) -> (&'a str, &'static str) {
        if self.by_name.contains_key(name) {
            return (name, "");
        }
        for suffix in ["_bucket", "_sum", "_count"] {
            let Some(base) = name.strip_suffix(suffix) else { continue };
            let kind = self.by_name.get(base).map(|at| self.families[*at].family.kind);
            match kind {
                Some(MetricType::Histogram) => return (base, suffix),
                Some(MetricType::Summary) if suffix != "_bucket" => return (base, suffix),
                _ => {}
            }
        }
        (name, "")
    }

    fn sample(&mut self, mut cursor: Cursor<'_>) -> Result<(), String> {
        let name = cursor.name(is_metric_byte);
        if name.is_empty() {
            return Err(format!("{:?} does not begin with a metric's name", shown(cursor.rest)));
        }
        BOUNDS.check_name(name)?;
        cursor.blanks();
        let labels = if cursor.take('{') { cursor.labels(&BOUNDS, Escapes::Known)? } else { Vec::new() };
        let labels = Labels::owned(labels);
        cursor.blanks();
        let value = value(cursor.until_blank())?;
        cursor.blanks();
        if !cursor.rest.is_empty() {
            return Err(match cursor.rest.trim_end_matches([' ', '\t']).parse::<i64>() {
                Ok(_) => format!("{name} has a time, which a text file may not set"),
                Err(_) => format!("{:?} stands behind the value", shown(cursor.rest)),
            });
        }

        let (base, suffix) = self.family_of(name);
        let line = self.line;
        let open = self.open(base);
        open.line = line;
        let bound = |label: &str| labels.get(label).and_then(|text| text.parse::<f64>().ok());
        let needed = match (open.family.kind, suffix) {
            (MetricType::Histogram, "_bucket") => Some("le"),
            (MetricType::Summary, "") => Some("quantile"),
            (MetricType::Histogram, "") => return Err(format!("{name} is a histogram: a sample needs a suffix")),
            _ => None,
        };
        if let Some(label) = needed
            && bound(label).is_none_or(f64::is_nan)
        {
            return Err(format!("{name} needs the label {label} with a number"));
        }
        if matches!(suffix, "_bucket" | "_count") && !(value >= 0.0 && value.is_finite()) {
            return Err(format!("{name} is a count of observations and can't be {value}"));
        }
        let key = series_key(base, suffix, &labels);
        open.family.samples.push(ParsedSample { suffix, labels, value });
        if !self.series.insert(key) {
            return Err(format!("a second sample of {name} with the same labels"));
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<ParsedFamily>, ParseError> {
        let mut families = Vec::new();
        for open in self.families.into_iter().filter(|open| !open.family.samples.is_empty()) {
            let mut family = open.family;
            let (label, is_histogram) = match family.kind {
                MetricType::Histogram => ("le", true),
                MetricType::Summary => ("quantile", false),
                _ => {
                    families.push(family);
                    continue;
                }
            };
            let mut groups: Vec<Vec<ParsedSample>> = Vec::new();
            let mut known: HashMap<String, usize> = HashMap::new();
            for sample in family.samples {
                let left_out = if matches!(sample.suffix, "_sum" | "_count") { "" } else { label };
                let at = *known.entry(key_without("", "", &sample.labels, left_out)).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                });
                groups[at].push(sample);
            }
            for group in &mut groups {
                let rank = |sample: &ParsedSample| match sample.suffix {
                    "_sum" => 1,
                    "_count" => 2,
                    _ => 0,
                };
                order::sort_by(group, &|a, b| rank(a).cmp(&rank(b)));
                if is_histogram {
                    complete(group)
                        .map_err(|what| ParseError { line: open.line, what: format!("{} {what}", family.name) })?;
                }
            }
            family.samples = groups.into_iter().flatten().collect();
            families.push(family);
        }
        Ok(families)
    }
}

/// A histogram has the bucket `+Inf` and a count, which say the same: where a file has one of them only, the other is
/// added, as node_exporter does.
fn complete(group: &mut Vec<ParsedSample>) -> Result<(), String> {
    let is_last = |sample: &ParsedSample| {
        let bound = sample.labels.get("le").and_then(|text| text.parse::<f64>().ok());
        sample.suffix == "_bucket" && bound == Some(f64::INFINITY)
    };
    let last = group.iter().find(|sample| is_last(sample)).map(|sample| (sample.labels.clone(), sample.value));
    let count = group.iter().find(|sample| sample.suffix == "_count").cloned();
    match (last, count) {
        (Some((_, last)), Some(count)) if last != count.value => {
            Err(format!("has {last} observations in its last bucket and counts {}", count.value))
        }
        (Some(_), Some(_)) => Ok(()),
        (Some((labels, value)), None) => {
            let pairs = labels.iter().filter(|(name, _)| *name != "le");
            let labels = Labels::owned(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            group.push(ParsedSample { suffix: "_count", labels, value });
            Ok(())
        }
        (None, Some(count)) => {
            let pairs = count.labels.iter().chain([("le", "+Inf")]);
            let labels = Labels::owned(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let buckets = group.iter().filter(|sample| sample.suffix == "_bucket").count();
            group.insert(buckets, ParsedSample { suffix: "_bucket", labels, value: count.value });
            Ok(())
        }
        (None, None) => Err("has neither a count nor a bucket of all observations".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> ParsedFamily {
        let mut families = parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(families.len(), 1, "{text}");
        families.remove(0)
    }

    fn error(text: &str) -> String {
        parse(text.as_bytes()).map(|families| panic!("{text:?} gave {families:?}")).unwrap_err().to_string()
    }

    #[test]
    fn reads_all_there_is() {
        let family = one(concat!(
            "# a comment, and the next is none of ours\n#HELPER x y\n\n",
            "# HELP jobs_total Jobs \\\\ and \\n \"lines\".\n#TYPE\tjobs_total  COUNTER \n",
            "jobs_total 3\n  jobs_total { a = \"x\\\"y\\\\z\\nw\" , b=\"é\", } +Inf \n",
        ));
        assert_eq!((family.name.as_str(), family.kind), ("jobs_total", MetricType::Counter));
        assert_eq!(family.help.as_deref(), Some("Jobs \\ and \n \"lines\"."));
        assert_eq!((family.samples[0].value, family.samples[0].labels.is_empty()), (3.0, true));
        let labels: Vec<_> = family.samples[1].labels.iter().collect();
        assert_eq!(labels, [("a", "x\"y\\z\nw"), ("b", "é")]);
        assert_eq!(family.samples[1].value, f64::INFINITY);
    }

    #[test]
    fn values_are_numbers_of_any_form() {
        for (text, value) in
            [("1", 1.0), ("-0.5", -0.5), ("1e3", 1000.0), ("+Inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY)]
        {
            assert_eq!(one(&format!("x {text}\n")).samples[0].value, value, "{text}");
        }
        assert!(one("x NaN\n").samples[0].value.is_nan());
        for text in ["", "x", "1e999", "-1e999", "0x1", "1_000", "1,5", "1\r", "--1"] {
            assert!(error(&format!("x {text}\n")).contains("is no value"), "{text}");
        }
    }

    #[test]
    fn a_family_may_come_in_pieces() {
        let families = parse(b"a 1\nb 2\n# HELP a Help may come late.\na{x=\"1\"} 3\n").unwrap();
        assert_eq!(families.len(), 2);
        assert_eq!(families[0].samples.len(), 2);
        assert_eq!(families[0].help.as_deref(), Some("Help may come late."));
    }

    #[test]
    fn one_without_samples_is_none() {
        assert_eq!(parse(b"# HELP a Help.\n# TYPE a gauge\n# TYPE b\n# HELP c\n").unwrap(), []);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn parts_of_histograms_find_their_family() {
        let family = one(concat!(
            "# TYPE h histogram\nh_count{p=\"b\"} 4\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n",
            "h_sum 3\nh_count 2\nh_bucket{p=\"b\",le=\"0.5\"} 1\n",
        ));
        let samples: Vec<_> =
            family.samples.iter().map(|s| (s.suffix, s.labels.get("p"), s.labels.get("le"), s.value)).collect();
        assert_eq!(
            samples,
            [
                ("_bucket", Some("b"), Some("0.5"), 1.0),
                ("_bucket", Some("b"), Some("+Inf"), 4.0),
                ("_count", Some("b"), None, 4.0),
                ("_bucket", None, Some("1"), 1.0),
                ("_bucket", None, Some("+Inf"), 2.0),
                ("_sum", None, None, 3.0),
                ("_count", None, None, 2.0),
            ]
        );
        let family = one("# TYPE h histogram\nh_bucket{le=\"inf\",p=\"a\"} 2\n");
        assert_eq!((family.samples[1].suffix, family.samples[1].value), ("_count", 2.0));
        assert_eq!(family.samples[1].labels.iter().collect::<Vec<_>>(), [("p", "a")]);
        // Without a type they are families of their own.
        assert_eq!(parse(b"h_bucket{le=\"1\"} 1\nh_sum 3\n").unwrap().len(), 2);
        // A bucket is nothing that a summary has.
        assert_eq!(parse(b"# TYPE s summary\ns_sum 3\ns_bucket 1\n").unwrap().len(), 2);
    }

    #[test]
    fn parts_of_summaries_find_their_family() {
        let family = one("# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns{quantile=\"0.9\"} 2\ns_sum 3\ns_count 2\n");
        let suffixes: Vec<_> = family.samples.iter().map(|s| s.suffix).collect();
        assert_eq!(suffixes, ["", "", "_sum", "_count"]);
    }

    #[test]
    fn refuses_what_the_format_does_not_have() {
        for (text, part) in [
            ("a 1", "line 1: has no end"),
            ("a 1\nb 2", "line 2: has no end"),
            ("a 1 1700000000000\n", "line 1: a has a time"),
            ("a 1 x\n", "behind the value"),
            ("a 1\na 2\n", "line 2: a second sample of a"),
            ("a{x=\"1\",y=\"\"} 1\na{x=\"1\"} 1\n", "a second sample of a"),
            ("a{y=\"2\",x=\"1\"} 1\na{x=\"1\",y=\"2\"} 1\n", "a second sample of a"),
            ("# HELP a x\n# HELP a x\n", "line 2: a second HELP of a"),
            ("# TYPE a gauge\n# TYPE a gauge\n", "a second TYPE of a"),
            ("a 1\n# TYPE a gauge\n", "a second TYPE of a, or one behind"),
            ("# TYPE a info\n", "\"info\" is no type"),
            ("# TYPE a gauge x\n", "\"gauge x\" is no type"),
            ("# HELP a \\t\n", "the help has the escape \\t"),
            ("# HELP a \\", "line 1: has no end"),
            ("# HELP a \\\n", "the help has the escape"),
            ("# HELP 1a x\n", "HELP names no metric"),
            ("# HELP a-b x\n", "HELP names no metric"),
            ("1a 1\n", "does not begin with a metric's name"),
            ("é 1\n", "does not begin with a metric's name"),
            ("a\n", "is no value"),
            ("a{\n", "does not begin with a label's name"),
            ("a{x} 1\n", "no '=' behind"),
            ("a{x=1} 1\n", "is not in quotes"),
            ("a{x=\"1} 1\n", "has no closing quote"),
            ("a{x=\"\\t\"} 1\n", "has the escape \\t"),
            ("a{x=\"\\\n", "has the escape"),
            ("a{x=\"1\" y=\"2\"} 1\n", "no ',' or '}'"),
            ("a{x=\"1\",x=\"2\"} 1\n", "comes twice"),
            ("a{,} 1\n", "does not begin with a label's name"),
            ("a{x:y=\"1\"} 1\n", "no '=' behind"),
            ("a{__name__=\"b\"} 1\n", "Prometheus' own"),
            ("{\"a\"} 1\n", "does not begin with a metric's name"),
            ("# TYPE h histogram\nh 1\n", "needs a suffix"),
            ("# TYPE h histogram\nh_bucket 1\n", "needs the label le"),
            ("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", "needs the label le"),
            ("# TYPE h histogram\nh_bucket{le=\"1\"} -1\n", "can't be -1"),
            ("# TYPE h histogram\nh_count NaN\n", "can't be NaN"),
            ("# TYPE h histogram\nh_sum 1\n", "line 2: h has neither"),
            ("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 2\n", "in its last bucket"),
            ("# TYPE s summary\ns 1\n", "needs the label quantile"),
        ] {
            let found = error(text);
            assert!(found.contains(part), "{text:?}: {found}");
        }
        assert!(parse(b"a{x=\"\xff\"} 1\n").is_err_and(|e| e.to_string() == "line 1: is not UTF-8"));
        assert!(parse(b"a 1\nb\xc3").is_err_and(|e| e.line == 2));
    }

    #[test]
    fn labels_and_names_have_bounds() {
        let many: String = (0..=BOUNDS.labels).map(|i| format!("l{i}=\"x\",")).collect();
        assert!(error(&format!("a{{{many}}} 1\n")).contains("more than 64 labels"));
        assert!(error(&format!("a{{x=\"{}\"}} 1\n", "é".repeat(2048))).contains("more than 4096 bytes"));
        assert!(error(&format!("{} 1\n", "a".repeat(257))).contains("more than 256 bytes"));
        assert!(error(&format!("x {}\n", "é".repeat(500))).len() < 200);
    }

    /// No cut, no flipped byte and no repeated piece of a good file makes it panic.
    #[test]
    fn damage_is_never_a_panic() {
        let good = concat!(
            "# HELP h Help \\n.\n# TYPE h histogram\nh_bucket{le=\"1\",é=\"\"} 1\nh_bucket{le=\"+Inf\",a=\"\\\"\"} 2\n",
            "h_sum 3\nh_count 2\n# TYPE s summary\ns{quantile=\"0.5\"} 1\nfoo{a=\"b\"} NaN\n",
        )
        .as_bytes();
        let mut seed = 7u32;
        for cut in 0..good.len() {
            let _ = parse(&good[..cut]);
            for _ in 0..20 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut text = good.to_vec();
                text[cut] = (seed >> 24) as u8;
                let _ = parse(&text);
                let from = (seed >> 8) as usize % good.len();
                text.splice(cut..cut, good[from..].iter().copied().take(9));
                let _ = parse(&text);
            }
        }
    }
}
