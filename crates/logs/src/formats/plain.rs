//! Lines of text: the time at the beginning, and a word for the level, are found where loggers put them.

use wire::Timestamp;
use wire::messages::Level;

use super::Reading;
use crate::columns::{Column, Draft};
use crate::time;

/// How many words are looked at for a level.
const WORDS: usize = 8;

/// How far into a line a level stands at most.
const REACH: usize = 120;

pub(super) fn read<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> bool {
    let text = line.trim_start();
    let mut rest = text;
    if let Some(after) = klog(text, reading, now, draft) {
        draft.set(Column::Message, after);
        return true;
    }
    // As in `[2026-11-22 14:18:12] x`.
    let (bracketed, inner) = match text.strip_prefix('[') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    if let Some((time, end)) = time::leading(inner, &reading.columns.zone, now) {
        let after = inner.get(end..).unwrap_or_default();
        let after = if bracketed { after.strip_prefix(']') } else { Some(after) };
        if let Some(after) = after {
            draft.default_time = Some(time);
            rest = after.trim_start_matches([' ', '\t', ':', ',']);
        }
    }
    // A time alone is all that there is to show.
    message(if rest.is_empty() { text } else { rest }, draft);
    true
}

/// What stands behind the time: the level, perhaps a logger, and the message.
pub(super) fn message<'a>(text: &'a str, draft: &mut Draft<'a>) {
    if let Some(after) = python(text, draft) {
        draft.set(Column::Message, after);
        return;
    }
    let Some(found) = level(text) else {
        draft.set(Column::Message, text);
        return;
    };
    let word = text.get(found.start..found.end).unwrap_or_default();
    draft.set(Column::Level, word);
    // Where it comes first it says nothing more; elsewhere the message is kept as it stands.
    let rest = text.get(found.after..).unwrap_or_default().trim_start_matches([' ', '\t', ':', '|', '-']);
    draft.set(Column::Message, if found.first && !rest.is_empty() { rest } else { text });
}

/// ` - NAME - LEVEL - MESSAGE`, as Python's documentation has it.
fn python<'a>(text: &'a str, draft: &mut Draft<'a>) -> Option<&'a str> {
    let (name, rest) = text.strip_prefix("- ")?.split_once(" - ")?;
    let (word, message) = rest.split_once(" - ")?;
    if name.contains(' ') || Level::from_word(word).is_none() {
        return None;
    }
    draft.set(Column::Logger, name);
    draft.set(Column::Level, word);
    Some(message)
}

struct Found {
    start: usize,
    end: usize,
    /// After the brackets or the colon around it.
    after: usize,
    /// Nothing stands before it.
    first: bool,
}

/// A word for a level among the first ones: in capitals, in brackets, or with a colon behind. Others are just words.
fn level(text: &str) -> Option<Found> {
    let bytes = text.as_bytes();
    let (mut at, mut words) = (0, 0);
    while words < WORDS && at < bytes.len().min(REACH) {
        let start = at + bytes.get(at..)?.iter().position(u8::is_ascii_alphanumeric)?;
        let rest = bytes.get(start..)?;
        let is_part = |byte: &u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/' | b'=') || *byte >= 0x80
        };
        let end = start + rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        if (3..=13).contains(&(end - start)) {
            let word = text.get(start..end).unwrap_or_default();
            let before = start.checked_sub(1).and_then(|at| bytes.get(at));
            let behind = bytes.get(end);
            let closed = matches!(
                (before, behind),
                (Some(b'[' | b':'), Some(b']'))
                    | (Some(b'('), Some(b')'))
                    | (Some(b'<'), Some(b'>'))
                    | (Some(b'|'), Some(b'|'))
            );
            let opens = start == 0 || (closed && start == 1);
            let capitals = word.bytes().all(|byte| byte.is_ascii_uppercase());
            let marked = capitals || closed || (behind == Some(&b':') && words < 3);
            if marked && Level::from_word(word).is_some_and(|_| !word.eq_ignore_ascii_case("log") || closed) {
                return Some(Found { start, end, after: end + usize::from(closed), first: opens });
            }
        }
        words += 1;
        at = end + 1;
    }
    None
}

/// `I1122 14:18:12.123456    1234 file.go:12] message`, as Kubernetes' parts write it.
fn klog<'a>(text: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> Option<&'a str> {
    let level = match text.as_bytes().first()? {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        _ => return None,
    };
    let (date, rest) = (text.get(1..5)?, text.get(5..)?);
    let clock = rest.strip_prefix(' ')?.split(' ').next()?;
    if !date.bytes().all(|byte| byte.is_ascii_digit()) || clock.len() < 8 {
        return None;
    }
    let (month, day) = (date.get(..2)?.parse::<usize>().ok()?, date.get(2..)?);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let written = format!("{} {day} {clock}", months.get(month.checked_sub(1)?)?);
    let time = time::whole(&written, &reading.columns.zone, now)?;
    let (head, message) = rest.split_once("] ")?;
    draft.default_time = Some(time);
    draft.default_level = Some((level, None));
    draft.known("source", head.rsplit(' ').next().unwrap_or_default());
    Some(message)
}
