//! PostgreSQL's log: `log_line_prefix` as Debian (`%m [%p] %q%u@%d `) and PostgreSQL itself (`%m [%p] `) have it.
//!
//! What belongs to a message stands in lines of its own behind it (`DETAIL:`, `STATEMENT:`); joined by
//! [`Multiline`](crate::multiline), they become its fields.

use wire::Timestamp;
use wire::messages::Level;

use super::Reading;
use crate::columns::{Column, Draft};
use crate::latency::{self, Unit};
use crate::time;

const SEVERITIES: &[(&str, Level)] = &[
    ("DEBUG", Level::Debug),
    ("LOG", Level::Info),
    ("INFO", Level::Info),
    ("NOTICE", Level::Info),
    ("WARNING", Level::Warn),
    ("ERROR", Level::Error),
    ("FATAL", Level::Fatal),
    ("PANIC", Level::Fatal),
];

/// What lines tell that belong to the one before.
const PARTS: &[(&str, &str)] = &[
    ("DETAIL", "detail"),
    ("HINT", "hint"),
    ("CONTEXT", "context"),
    ("STATEMENT", "statement"),
    ("QUERY", "query"),
    ("LOCATION", "location"),
    ("BACKTRACE", "backtrace"),
];

struct Line<'a> {
    time: Timestamp,
    pid: &'a str,
    /// `user@database`, where there is a session.
    session: &'a str,
    word: &'a str,
    text: &'a str,
}

fn line_of<'a>(line: &'a str, reading: &Reading, now: Timestamp) -> Option<Line<'a>> {
    let (time, end) = time::leading(line, &reading.columns.zone, now)?;
    let rest = line.get(end..)?.trim_start().strip_prefix('[')?;
    let (pid, rest) = rest.split_once("] ")?;
    if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    let (head, text) = rest.split_once(":  ")?;
    let (session, word) = head.rsplit_once(' ').unwrap_or(("", head));
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    is_word.then_some(Line { time, pid, session, word, text })
}

/// Whether a line belongs to the one before.
pub(crate) fn goes_on(line: &str) -> bool {
    if line.starts_with(['\t', ' ']) {
        return true;
    }
    // The word stands in front of the first colon with two blanks.
    let Some((head, _)) = line.split_once(":  ") else { return false };
    let word = head.rsplit(' ').next().unwrap_or_default();
    PARTS.iter().any(|(part, _)| *part == word)
}

pub(super) fn read<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> bool {
    let Some(Line { time, pid, session, word, text }) = line_of(line, reading, now) else { return false };
    let name = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let Some((_, level)) = SEVERITIES.iter().find(|(known, _)| *known == name) else { return false };
    draft.default_time = Some(time);
    draft.default_level = Some((*level, (word != level.as_str()).then(|| word.to_owned())));
    draft.known("pid", pid);
    if let Some((user, database)) = session.split_once('@') {
        draft.known("user", user);
        draft.known("database", database);
    }
    if let Some(rest) = text.strip_prefix("duration: ")
        && let Some(millis) = rest.split_once(" ms").and_then(|(number, _)| latency::millis(number, Unit::Millis))
    {
        draft.latency(millis);
    }
    draft.set(Column::Message, text);
    true
}

/// Takes the parts of a message out of the lines behind it; what is none stays.
pub(super) fn parts<'a>(rest: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> String {
    let mut left = String::new();
    let mut part: Option<(&'static str, String)> = None;
    for line in rest.split('\n').filter(|line| !line.is_empty()) {
        let found = line_of(line, reading, now);
        let known = found.as_ref().and_then(|line| PARTS.iter().find(|(word, _)| *word == line.word));
        match (known, found, &mut part) {
            (Some((_, name)), Some(line), part) => {
                if let Some((name, text)) = part.replace((name, line.text.to_owned())) {
                    draft.more(name, &text);
                }
            }
            (_, _, Some((_, text))) => text.extend(["\n", line]),
            _ => left.extend(["\n", line]),
        }
    }
    if let Some((name, text)) = part {
        draft.more(name, &text);
    }
    left
}
