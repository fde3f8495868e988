//! Series descriptions: `name{label="value"} 0+10x5 _ stale`, as Prometheus' tests and promtool's `input_series` have
//! them.
//!
//! `a+bxN` are N + 1 values from `a` on, each larger by `b`; `a-bxN` likewise; `axN` is N + 1 times `a`; `_` is no value
//! at that step, `_xN` are N of them; `stale` ends the series.

use crate::Labels;
use crate::sample::{NAME, STALE};

/// A test that asks for more values in one series is a mistake.
const MAX_VALUES: usize = 1_000_000;

/// Labels, and a value for each step or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// With the metric's name.
    pub labels: Labels,
    /// From the first step on.
    pub values: Vec<Option<f64>>,
}

/// Why a description can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// It is none.
    #[error("character {at} of the series: {message}", at = .at + 1)]
    Syntax {
        /// The byte where it goes wrong.
        at: usize,
        /// What is wrong.
        message: String,
    },
    /// `{{…}}`: a native histogram.
    #[error("native histograms ({{{{…}}}}) are not supported")]
    Native,
}

/// Reads labels and values.
pub fn parse(text: &str) -> Result<Description, SeriesError> {
    let (labels, rest) = split(text)?;
    let values = values(rest).map_err(|error| match error {
        SeriesError::Syntax { at, message } => syntax(at + text.len() - rest.len(), message),
        SeriesError::Native => error,
    })?;
    Ok(Description { labels, values })
}

/// Reads labels alone.
pub fn labels(text: &str) -> Result<Labels, SeriesError> {
    let (labels, rest) = split(text)?;
    match rest.trim().is_empty() {
        true => Ok(labels),
        false => Err(syntax(text.len() - rest.trim_start().len(), "nothing is expected after the labels")),
    }
}

/// The labels at the beginning, and what stands behind them.
pub fn split(text: &str) -> Result<(Labels, &str), SeriesError> {
    let mut cursor = Cursor { text, at: 0 };
    let mut pairs: Vec<(String, String)> = Vec::new();
    cursor.space();
    let name = cursor.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(syntax(cursor.at - name.len(), "the name of a metric does not begin with a digit"));
    }
    let named = !name.is_empty();
    if named {
        pairs.push((NAME.to_owned(), name.to_owned()));
    }
    cursor.space();
    // Two braces begin a native histogram.
    if !cursor.rest().starts_with("{{") && cursor.take('{') {
        loop {
            cursor.space();
            if cursor.take('}') {
                break;
            }
            let quoted = matches!(cursor.peek(), Some('"' | '\'' | '`'));
            let label = match quoted {
                true => cursor.quoted()?,
                false => cursor.word(|c| c.is_ascii_alphanumeric() || c == '_').to_owned(),
            };
            if label.is_empty() {
                return Err(cursor.error("a label's name or `}` is expected"));
            }
            cursor.space();
            if cursor.take('=') {
                cursor.space();
                pairs.push((label, cursor.quoted()?));
            } else if quoted && !pairs.iter().any(|(name, _)| name == NAME) {
                pairs.push((NAME.to_owned(), label));
            } else {
                return Err(cursor.error("`=` is expected after a label's name"));
            }
            cursor.space();
            if !cursor.take(',') && cursor.peek() != Some('}') {
                return Err(cursor.error("`,` or `}` is expected after a label"));
            }
        }
    } else if !named {
        return Err(cursor.error("the name of a metric or `{` is expected"));
    }
    Ok((Labels::new(pairs), cursor.rest()))
}

/// Reads values alone.
pub fn values(text: &str) -> Result<Vec<Option<f64>>, SeriesError> {
    if text.contains("{{") {
        return Err(SeriesError::Native);
    }
    let mut values = Vec::new();
    let mut at = 0;
    for part in text.split_inclusive(char::is_whitespace) {
        let item = part.trim_end();
        if !item.is_empty() {
            item_values(item, &mut values).map_err(|message| syntax(at, message))?;
        }
        at += part.len();
    }
    Ok(values)
}

fn item_values(item: &str, values: &mut Vec<Option<f64>>) -> Result<(), String> {
    let unclear = || format!("`{item}` is no value: one is 1, 1+2x3, 1x3, _, _x3 or stale");
    let (item, times) = match item.rsplit_once('x') {
        Some((item, times)) => (item, Some(times.parse::<usize>().map_err(|_| unclear())?)),
        None => (item, None),
    };
    if values.len().saturating_add(times.unwrap_or(0)) >= MAX_VALUES {
        return Err(format!("a series has at most {MAX_VALUES} values"));
    }
    if item == "_" {
        values.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
        return Ok(());
    }
    // The sign of the step stands after a digit, and not that of an exponent.
    let sign = item.char_indices().skip(1).find(|(at, c)| {
        let before = item.get(..*at).and_then(|head| head.chars().next_back());
        matches!(c, '+' | '-') && !matches!(before, Some('e' | 'E'))
    });
    let (start, step) = match sign {
        Some((at, _)) if times.is_some() => (item.get(..at).unwrap_or(""), item.get(at..)),
        Some(_) => return Err(unclear()),
        None => (item, None),
    };
    let mut value = number(start).ok_or_else(unclear)?;
    let step = step.map(|step| number(step).ok_or_else(unclear)).transpose()?;
    values.push(Some(value));
    for _ in 0..times.unwrap_or(0) {
        // Added up, as Prometheus does it.
        value = step.map_or(value, |step| value + step);
        values.push(Some(value));
    }
    Ok(())
}

/// `1`, `-2.5e3`, `Inf`, `NaN`, `stale`.
pub fn number(text: &str) -> Option<f64> {
    if text == "stale" {
        return Some(STALE);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        true => text.parse().ok(),
        false => match unsigned.to_ascii_lowercase().as_str() {
            "inf" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
            "nan" => Some(f64::NAN),
            _ => None,
        },
    }
}

fn syntax(at: usize, message: impl Into<String>) -> SeriesError {
    SeriesError::Syntax { at, message: message.into() }
}

pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.at += wanted.len_utf8();
        }
        there
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let word = rest.get(..rest.find(|c| !belongs(c)).unwrap_or(rest.len())).unwrap_or("");
        self.at += word.len();
        word
    }

    fn space(&mut self) {
        self.word(char::is_whitespace);
    }

    fn error(&self, message: &str) -> SeriesError {
        syntax(self.at, message)
    }

    pub(super) fn quoted(&mut self) -> Result<String, SeriesError> {
        let start = self.at;
        let Some(quote @ ('"' | '\'' | '`')) = self.next() else {
            return Err(syntax(start, "a text in quotes is expected"));
        };
        let mut text = String::new();
        loop {
            match self.next() {
                Some(c) if c == quote => return Ok(text),
                Some('\\') if quote != '`' => text.push(self.escape(quote)?),
                Some(c) => text.push(c),
                None => return Err(syntax(start, "the quote is not closed")),
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<char, SeriesError> {
        let error = syntax(self.at, "this escape is unknown");
        let digits = |cursor: &mut Self, count: usize, radix: u32| {
            let digits = cursor.rest().get(..count)?;
            cursor.at += count;
            u32::from_str_radix(digits, radix).ok()
        };
        let code = match self.next() {
            Some(c) if c == quote || c == '\\' => return Ok(c),
            Some('a') => Some(7),
            Some('b') => Some(8),
            Some('f') => Some(12),
            Some('n') => Some(10),
            Some('r') => Some(13),
            Some('t') => Some(9),
            Some('v') => Some(11),
            Some('x') => digits(self, 2, 16).filter(|byte| *byte < 128),
            Some('u') => digits(self, 4, 16),
            Some('U') => digits(self, 8, 16),
            Some('0'..='7') => {
                self.at -= 1;
                digits(self, 3, 8).filter(|byte| *byte < 128)
            }
            _ => None,
        };
        code.and_then(char::from_u32).ok_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Vec<Option<f64>> {
        values(text).unwrap()
    }

    #[test]
    fn values_expand() {
        assert_eq!(expanded(" 1  2.5 -3e2 "), [Some(1.0), Some(2.5), Some(-300.0)]);
        assert_eq!(expanded("0+10x2 5"), [Some(0.0), Some(10.0), Some(20.0), Some(5.0)]);
        assert_eq!(expanded("1-1x2"), [Some(1.0), Some(0.0), Some(-1.0)]);
        assert_eq!(expanded("-1e-1+1e+1x1"), [Some(-0.1), Some(9.9)]);
    }

    #[test]
    fn gaps_and_repetitions() {
        assert_eq!(expanded("_ 1 _x2 0x2"), [None, Some(1.0), None, None, Some(0.0), Some(0.0), Some(0.0)]);
        assert_eq!(expanded("Inf -inf +Inf"), [Some(f64::INFINITY), Some(f64::NEG_INFINITY), Some(f64::INFINITY)]);
        let odd = expanded("NaN stale");
        assert!(odd[0].unwrap().is_nan() && !crate::sample::is_stale(odd[0].unwrap()));
        assert!(crate::sample::is_stale(odd[1].unwrap()));
        assert_eq!(expanded(""), []);
    }

    #[test]
    fn labels_are_read_as_promql_writes_them() {
        let series = parse(r#"a:b{c="1",d='\'2"',e=`\3` , } 1"#).unwrap();
        assert_eq!(series.labels, Labels::new([(NAME, "a:b"), ("c", "1"), ("d", "'2\""), ("e", "\\3")]));
        assert_eq!(labels("{}").unwrap(), Labels::none());
        assert_eq!(
            labels(r#"{"a.b", "c d"="\u00e9\x41\101\n"}"#).unwrap(),
            Labels::new([(NAME, "a.b"), ("c d", "éAA\n")])
        );
        assert_eq!(labels("up").unwrap(), Labels::new([(NAME, "up")]));
        assert_eq!(parse("m 1").unwrap().values, [Some(1.0)]);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "1a 1",
            "m{a} 1",
            "m{a=1} 1",
            "m{a=\"1} 1",
            "m{a=\"1\"b=\"2\"} 1",
            "m{a=\"\\q\"}",
            "m 1+2",
            "m 1x",
            "m x3",
            "m 1+x3",
            "m 1x-1",
            "m -2+-1x1",
            "m foo",
            "m 1x99999999999",
            "m 1+1x1000000",
            "m{",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("m 1 {{count:1}}x3"), Err(SeriesError::Native));
        assert_eq!(
            parse("m 1 2y").unwrap_err().to_string(),
            "character 5 of the series: `2y` is no value: one is 1, 1+2x3, 1x3, _, _x3 or stale"
        );
    }
}
