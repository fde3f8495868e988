//! `key=value key="a value"`, as Go's loggers write it.

use std::borrow::Cow;

use wire::Timestamp;

use super::Reading;
use crate::columns::{Draft, Value};

pub(super) fn read<'a>(line: &'a str, reading: &Reading, _now: Timestamp, draft: &mut Draft<'a>) -> bool {
    let mut pairs = 0;
    let mut rest = line;
    while let Some((key, value, after)) = pair(rest) {
        rest = after;
        let Some(value) = value else {
            // A word alone is a flag, where there are pairs; a line of words is none of ours.
            if pairs == 0 {
                return false;
            }
            draft.field(key, Value::text("true"));
            continue;
        };
        pairs += 1;
        let is_number = value.starts_with(|c: char| c.is_ascii_digit() || c == '-') && value.parse::<f64>().is_ok();
        draft.put(&reading.columns, key, if is_number { Value::Number(value) } else { Value::Text(value) });
    }
    pairs > 0
}

/// Whether a line is likely to be in this format: pairs, one of them with a name that every such line has.
pub(super) fn is_likely(line: &str) -> bool {
    let key_end = line.bytes().position(|byte| !is_key(byte)).unwrap_or(line.len());
    let begins = key_end > 0 && line.as_bytes().get(key_end) == Some(&b'=');
    begins
        && ["level=", "msg=", "lvl=", "message=", "severity="]
            .iter()
            .any(|name| line.match_indices(name).any(|(at, _)| at == 0 || line.as_bytes().get(at - 1) == Some(&b' ')))
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@' | b'/')
}

/// The first pair of a text, and what follows it.
fn pair(text: &str) -> Option<(&str, Option<Cow<'_, str>>, &str)> {
    let text = text.trim_ascii_start();
    let end = text.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    if key.is_empty() {
        // An equals sign alone.
        return text.get(1..).filter(|_| !text.is_empty()).and_then(pair);
    }
    let Some(value) = rest.strip_prefix('=') else { return Some((key, None, rest)) };
    if let Some(quoted) = value.strip_prefix('"')
        && let Some((value, after)) = unquoted(quoted)
    {
        return Some((key, Some(value), after));
    }
    let end = value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len());
    let (value, after) = value.split_at(end);
    Some((key, Some(Cow::Borrowed(value)), after))
}

/// Up to the quotation mark, and what follows it.
fn unquoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut out: Option<String> = None;
    let mut rest = text;
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest.as_bytes())?;
        let (plain, mark) = rest.split_at(at);
        if let Some(after) = mark.strip_prefix('"') {
            let value = match out {
                None => Cow::Borrowed(plain),
                Some(mut out) => {
                    out.push_str(plain);
                    Cow::Owned(out)
                }
            };
            return Some((value, after));
        }
        let escaped = mark.get(1..)?.chars().next()?;
        let out = out.get_or_insert_default();
        out.push_str(plain);
        out.push(match escaped {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            other => other,
        });
        rest = mark.get(1 + escaped.len_utf8()..)?;
    }
}
