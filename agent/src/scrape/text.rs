//! A page that was scraped, line by line: Prometheus' classic text, and OpenMetrics'.
//!
//! What Prometheus takes is taken. A page that is faulty in one line is faulty as a whole, as there. Help texts, units,
//! exemplars and comments are passed over.

use std::fmt;

use crate::snapshot::MetricType;
use crate::tokens::{Bounds, Cursor, Escapes, is_label_byte, is_metric_byte, shown, value};

/// What no page has in earnest. The limits of a job are for what is left after relabelling, and mostly stricter.
const BOUNDS: Bounds = Bounds { labels: 512, label_bytes: 128 << 10, name_bytes: 64 << 10 };

/// The latest time that a sample may have, in milliseconds: the year 9999.
const LATEST: f64 = 253_402_300_800_000.0;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The classic text.
    Classic,
    /// OpenMetrics' text, which says where it ends.
    OpenMetrics,
}

impl Format {
    /// By the header `Content-Type`, as Prometheus has it: whatever is not OpenMetrics is read as the classic text. `None` for
    /// Prometheus' binary form, which was not asked for.
    pub fn of(content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            Some(Self::OpenMetrics)
        } else if kind.eq_ignore_ascii_case("application/vnd.google.protobuf") {
            None
        } else {
            Some(Self::Classic)
        }
    }
}

/// A page can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for PageError {}

/// A sample of a page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line<'a> {
    /// Name and labels as they stand there; [`Page::labels`] reads them.
    pub series: &'a str,
    /// Its value.
    pub value: f64,
    /// When it was measured, in milliseconds, where the page says so.
    pub time: Option<i64>,
    /// Counter or gauge where that is known; the parts of histograms and summaries are untyped.
    pub kind: MetricType,
}

/// Reads a page.
#[derive(Debug)]
pub struct Page<'a> {
    rest: &'a str,
    line: usize,
    format: Format,
    /// The family whose TYPE came last.
    family: &'a str,
    kind: MetricType,
    /// OpenMetrics' last line was there.
    ended: bool,
}

impl<'a> Page<'a> {
    /// Over the text of a page.
    pub fn new(text: &'a [u8], format: Format) -> Result<Self, PageError> {
        let text = std::str::from_utf8(text).map_err(|error| {
            let before = text.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            PageError { line, what: "is not UTF-8".to_owned() }
        })?;
        Ok(Self { rest: text, line: 0, format, family: "", kind: MetricType::Untyped, ended: false })
    }

    /// The next sample; `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<Line<'a>>, PageError> {
        while !self.rest.is_empty() {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            self.line += 1;
            if self.ended {
                return Err(self.fault("stands behind the line \"# EOF\""));
            }
            let read = self.read(line).map_err(|what| self.fault(what))?;
            if read.is_some() {
                return Ok(read);
            }
        }
        if self.format == Format::OpenMetrics && !self.ended {
            return Err(self.fault("the last line has to be \"# EOF\": the page was cut"));
        }
        Ok(None)
    }

    /// A fault of the line read last.
    pub fn fault(&self, what: impl Into<String>) -> PageError {
        PageError { line: self.line, what: what.into() }
    }

    fn read(&mut self, line: &'a str) -> Result<Option<Line<'a>>, String> {
        let mut cursor = Cursor::new(line);
        cursor.blanks();
        match cursor.rest.strip_prefix('#') {
            Some(comment) => self.comment(comment).map(|()| None),
            None if cursor.rest.is_empty() => Ok(None),
            None => self.sample(cursor).map(Some),
        }
    }

    fn comment(&mut self, text: &'a str) -> Result<(), String> {
        let mut cursor = Cursor::new(text);
        cursor.blanks();
        let keyword = cursor.until_blank();
        cursor.blanks();
        if keyword == "EOF" && self.format == Format::OpenMetrics {
            self.ended = true;
            return Ok(());
        }
        if keyword != "TYPE" {
            return Ok(());
        }
        let name = cursor.name(is_metric_byte);
        let kind = cursor.rest.trim_matches([' ', '\t']);
        if name.is_empty() {
            return Err(format!("TYPE names no metric: {:?}", shown(text)));
        }
        self.family = name;
        self.kind = match (kind, self.format) {
            ("counter", _) => MetricType::Counter,
            ("gauge", _) => MetricType::Gauge,
            ("histogram" | "summary", _) => MetricType::Untyped,
            ("untyped", Format::Classic) => MetricType::Untyped,
            ("gaugehistogram" | "info" | "stateset" | "unknown", Format::OpenMetrics) => MetricType::Untyped,
            _ => return Err(format!("{:?} is no type of the format", shown(kind))),
        };
        Ok(())
    }

    fn sample(&self, mut cursor: Cursor<'a>) -> Result<Line<'a>, String> {
        let begin = cursor.rest;
        let name = cursor.name(is_metric_byte);
        if name.is_empty() {
            return Err(format!("{:?} does not begin with a metric's name", shown(begin)));
        }
        cursor.blanks();
        let series = if cursor.rest.starts_with('{') {
            let behind = cursor.rest.len() - end_of_labels(cursor.rest).ok_or("the labels do not end")?;
            let (series, rest) = begin.split_at_checked(begin.len() - behind).unwrap_or((begin, ""));
            cursor.rest = rest;
            series
        } else {
            name
        };
        cursor.blanks();
        let value = value(cursor.until_blank())?;
        cursor.blanks();
        let mut time = None;
        if !cursor.rest.is_empty() && !self.at_exemplar(&cursor) {
            time = Some(self.time(cursor.until_blank())?);
            cursor.blanks();
        }
        if !cursor.rest.is_empty() && !self.at_exemplar(&cursor) {
            return Err(format!("{:?} stands behind the value", shown(cursor.rest)));
        }
        let of_family = match (self.kind, self.format) {
            (MetricType::Counter, Format::OpenMetrics) => name.strip_suffix("_total") == Some(self.family),
            _ => name == self.family,
        };
        let kind = if of_family { self.kind } else { MetricType::Untyped };
        Ok(Line { series, value, time, kind })
    }

    fn at_exemplar(&self, cursor: &Cursor<'_>) -> bool {
        self.format == Format::OpenMetrics && cursor.rest.starts_with("# {")
    }

    /// Milliseconds; in OpenMetrics, seconds with a fraction.
    fn time(&self, text: &str) -> Result<i64, String> {
        let fault = || format!("{:?} is no time", shown(text));
        match self.format {
            Format::Classic => text.parse().map_err(|_| fault()),
            Format::OpenMetrics => {
                let millis = text.parse::<f64>().map_err(|_| fault())? * 1000.0;
                if millis.abs() < LATEST { Ok(millis as i64) } else { Err(fault()) }
            }
        }
    }

    /// Name and labels of a line, the name as the label `__name__`. Empty ones are among them.
    pub fn labels(line: &Line<'_>) -> Result<Vec<(String, String)>, String> {
        let mut cursor = Cursor::new(line.series);
        let name = cursor.name(is_metric_byte);
        BOUNDS.check_name(name)?;
        cursor.blanks();
        let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
        if cursor.take('{') {
            pairs.extend(cursor.labels(&BOUNDS, Escapes::Any)?);
        }
        Ok(pairs)
    }
}

/// Where the labels end that begin with `{`: behind the `}` that stands in no quotes.
fn end_of_labels(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => _ = bytes.next(),
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Whether relabelling made a metric's name.
pub(super) fn is_metric_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(is_metric_byte)
}

/// Whether a label may have this name.
pub(super) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(is_label_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (String, f64, Option<i64>, MetricType);

    fn all(text: &str, format: Format) -> Result<Vec<Read>, String> {
        let mut page = Page::new(text.as_bytes(), format).map_err(|e| e.to_string())?;
        let mut lines = Vec::new();
        while let Some(line) = page.next_line().map_err(|e| e.to_string())? {
            let labels = Page::labels(&line).map_err(|what| page.fault(what).to_string())?;
            let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.push((labels.join(","), line.value, line.time, line.kind));
        }
        Ok(lines)
    }

    #[test]
    fn classic_text_is_read_as_prometheus_reads_it() {
        let text = concat!(
            "# HELP a Whatever \\d it says.\n# TYPE a counter\na 3\n a{x=\"C:\\dir\",y=\"}\\\"\",z=\"\"} 4 1700000000123\n\n",
            "# TYPE b gauge\n# no comment of ours\nb {x=\"1\",} -1e3\nb_more NaN\n# HELP a Again.\na 5\nlast +Inf",
        );
        let lines = all(text, Format::Classic).unwrap();
        let (counter, gauge, untyped) = (MetricType::Counter, MetricType::Gauge, MetricType::Untyped);
        let line = |labels: &str, value, time, kind| (labels.to_owned(), value, time, kind);
        assert_eq!(lines[0], line("__name__=a", 3.0, None, counter));
        assert_eq!(lines[1], line("__name__=a,x=C:\\dir,y=}\",z=", 4.0, Some(1_700_000_000_123), counter));
        assert_eq!(lines[2], line("__name__=b,x=1", -1000.0, None, gauge));
        assert!(lines[3].1.is_nan() && lines[3].3 == untyped);
        assert_eq!(lines[4], line("__name__=a", 5.0, None, untyped));
        assert_eq!(lines[5], line("__name__=last", f64::INFINITY, None, untyped), "without a line's end");
        assert_eq!(lines.len(), 6);
        assert!(all("", Format::Classic).unwrap().is_empty());
    }

    #[test]
    fn openmetrics_has_an_end_exemplars_and_times_in_seconds() {
        let text = concat!(
            "# TYPE a counter\n# UNIT a seconds\na_total{x=\"1\"} 3 1700000000.5 # {trace_id=\"x\"} 0.5 1700000000\n",
            "a_created 1.5\n# TYPE h histogram\nh_bucket{le=\"1\"} 2 # {} 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n",
        );
        let lines = all(text, Format::OpenMetrics).unwrap();
        let found: Vec<_> = lines.iter().map(|(labels, value, time, _)| (labels.as_str(), *value, *time)).collect();
        let expected = [
            ("__name__=a_total,x=1", 3.0, Some(1_700_000_000_500)),
            ("__name__=a_created", 1.5, None),
            ("__name__=h_bucket,le=1", 2.0, None),
            ("__name__=i_info,v=1", 1.0, None),
        ];
        assert_eq!(found, expected);
        assert_eq!((lines[0].3, lines[1].3), (MetricType::Counter, MetricType::Untyped));
        for (text, part) in [
            ("a 1\n", "line 1: the last line has to be \"# EOF\""),
            ("", "has to be \"# EOF\""),
            ("# EOF\na 1\n", "line 2: stands behind"),
            ("a 1 NaN\n# EOF\n", "\"NaN\" is no time"),
            ("a 1 1e300\n# EOF\n", "is no time"),
            ("# TYPE a untyped\n# EOF\n", "\"untyped\" is no type"),
        ] {
            let error = all(text, Format::OpenMetrics).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_no_page_says_where() {
        for (text, part) in [
            ("<!doctype html>\n", "line 1: \"<!doctype html>\" does not begin with a metric's name"),
            ("a 1\nb\n", "line 2: \"\" is no value"),
            ("a 1 x\n", "line 1: \"x\" is no time"),
            ("a 1 1.5\n", "\"1.5\" is no time"),
            ("a 1 2 3\n", "\"3\" stands behind the value"),
            ("a{x=\"1\" 1\n", "the labels do not end"),
            ("a{x=\"1\",x=\"2\"} 1\n", "comes twice"),
            ("a{x=1} 1\n", "not in quotes"),
            ("a{__name__=\"b\"} 1\n", "Prometheus' own"),
            ("# TYPE a info\n", "\"info\" is no type"),
            ("# TYPE a\n", "is no type"),
            ("# TYPE 1 gauge\n", "TYPE names no metric"),
            ("a 1\r\n", "is no value"),
            ("{\"a\"} 1\n", "does not begin with"),
        ] {
            let error = all(text, Format::Classic).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert_eq!(Page::new(b"a 1\n\xff", Format::Classic).unwrap_err().to_string(), "line 2: is not UTF-8");
    }

    #[test]
    fn the_content_type_says_how_it_is_written() {
        for (text, format) in [
            ("application/openmetrics-text; version=1.0.0", Some(Format::OpenMetrics)),
            ("text/plain; version=0.0.4", Some(Format::Classic)),
            ("", Some(Format::Classic)),
            ("text/html", Some(Format::Classic)),
            ("application/vnd.google.protobuf; proto=x", None),
        ] {
            assert_eq!(Format::of(text), format, "{text}");
        }
    }
}
