//! syslog: RFC 5424 with structured data, RFC 3164, and what daemons write of it into files.

use wire::Timestamp;

use super::{Reading, json, logfmt, plain};
use crate::columns::{Column, Draft, Value};
use crate::levels;
use crate::time;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// The longest name of a program; what is longer before a colon is a sentence.
const MOST_TAG: usize = 64;

pub(super) fn read<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> bool {
    with_priority(line, reading, now, draft) || tagged(line, reading, now, draft)
}

/// A message as it comes over the network: `<34>` and what follows.
pub(super) fn with_priority<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> bool {
    let Some((priority, rest)) = line.strip_prefix('<').and_then(|line| line.split_once('>')) else { return false };
    let priority = match priority.parse::<u32>() {
        Ok(priority) if priority < 192 && !priority_is_odd(line) => priority,
        _ => return false,
    };
    let severity = priority % 8;
    let word = levels::syslog_word(severity);
    draft.default_level = levels::of_syslog(severity).map(|level| {
        let original = (!word.eq_ignore_ascii_case(level.as_str())).then(|| word.to_owned());
        (level, original)
    });
    let facility = usize::try_from(priority / 8).ok().and_then(|at| FACILITIES.get(at));
    draft.known("facility", facility.copied().unwrap_or_default());
    match rest.strip_prefix("1 ") {
        Some(rest) if modern(rest, reading, now, draft).is_some() => {}
        _ => {
            if !tagged(rest, reading, now, draft) {
                // Programs leave out the host on the host's own socket, and some also the time.
                let time = time::leading(rest, &reading.columns.zone, now);
                let rest = match time.and_then(|(time, end)| Some((time, rest.get(end..)?.strip_prefix(' ')?))) {
                    Some((time, rest)) => {
                        draft.default_time = Some(time);
                        rest
                    }
                    None => rest,
                };
                let text = tag(rest, draft).unwrap_or(rest);
                inner(text, reading, now, draft);
            }
        }
    }
    true
}

/// Leading zeros are nobody's.
fn priority_is_odd(line: &str) -> bool {
    line.starts_with("<0") && !line.starts_with("<0>") || line.starts_with("<+")
}

/// RFC 5424 behind its version: `TIME HOST APP PROCID MSGID DATA MESSAGE`.
fn modern<'a>(text: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> Option<()> {
    let mut parts = text.splitn(6, ' ');
    let (time, host, app) = (parts.next()?, parts.next()?, parts.next()?);
    let (process, id, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let at = match time {
        "-" => None,
        time => Some(time::whole(time, &reading.columns.zone, now)?),
    };
    let message = match rest.strip_prefix('-') {
        Some(message) => message,
        None => structured(rest, draft)?,
    };
    draft.default_time = at.or(draft.default_time);
    draft.known("host", host);
    draft.known("pid", process);
    draft.known("message_id", id);
    if app != "-" {
        draft.set(Column::Service, app);
    }
    let message = message.strip_prefix(' ').unwrap_or(message);
    inner(message.strip_prefix('\u{feff}').unwrap_or(message), reading, now, draft);
    Some(())
}

/// `[id name="value" …][id …]`: each value is a field `id.name`. What follows is given back.
fn structured<'a>(text: &'a str, draft: &mut Draft<'a>) -> Option<&'a str> {
    let mut rest = text.strip_prefix('[')?;
    loop {
        let end = rest.find([' ', ']'])?;
        let id = rest.get(..end)?;
        rest = rest.get(end..)?;
        while let Some(inner) = rest.strip_prefix(' ') {
            let (name, value) = inner.split_once("=\"")?;
            let mut out = String::new();
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => match characters.next()?.1 {
                        escaped @ ('"' | '\\' | ']') => out.push(escaped),
                        other => out.extend(['\\', other]),
                    },
                    (_, other) => out.push(other),
                }
            };
            draft.field(format!("{id}.{name}"), Value::Text(out.into()));
            rest = value.get(end + 1..)?;
        }
        rest = rest.strip_prefix(']')?;
        match rest.strip_prefix('[') {
            Some(next) => rest = next,
            None => return Some(rest),
        }
    }
}

/// `TIME HOST TAG[PID]: MESSAGE`, as RFC 3164 has it and as syslog daemons write files.
pub(super) fn tagged<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> bool {
    let Some((time, end)) = time::leading(line, &reading.columns.zone, now) else { return false };
    let Some(rest) = line.get(end..).and_then(|rest| rest.strip_prefix(' ')) else { return false };
    let Some((host, after)) = rest.split_once(' ') else { return false };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
    if host.is_empty() || host.ends_with(':') || !host.chars().all(is_host) {
        return false;
    }
    let Some(text) = tag(after, draft) else { return false };
    draft.default_time = Some(time);
    draft.known("host", host);
    inner(text, reading, now, draft);
    true
}

/// `sshd[1234]: ` and the like: takes the program and its number, and gives back what follows.
fn tag<'a>(text: &'a str, draft: &mut Draft<'a>) -> Option<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '(' | ')' | '@');
    let end = text.find(|c| !is_part(c)).filter(|end| (1..=MOST_TAG).contains(end))?;
    let (name, rest) = text.split_at(end);
    let (pid, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let rest = rest.strip_prefix(':')?;
    draft.set(Column::Service, name);
    draft.known("pid", pid);
    Some(rest.trim_start_matches(' '))
}

/// What the program itself wrote. What syslog knows of it stands where the program says nothing else.
fn inner<'a>(text: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) {
    let mut own = Draft::around(draft);
    let is_read = match text.as_bytes().first() {
        Some(b'{') => json::read(text, reading, now, &mut own),
        Some(_) if logfmt::is_likely(text) => logfmt::read(text, reading, now, &mut own),
        _ => false,
    };
    if is_read {
        draft.over(own);
        return;
    }
    if draft.default_level.is_some() {
        draft.set(Column::Message, text);
        return;
    }
    plain::message(text, draft);
}
