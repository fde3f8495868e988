//! Access logs of HTTP servers: the common and the combined format, with a virtual host before it or times behind it.

use wire::Timestamp;
use wire::messages::Level;

use super::Reading;
use crate::columns::{Column, Draft, Value};
use crate::latency::{self, Unit};
use crate::time;

pub(super) fn read<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> bool {
    line_of(line, reading, now, draft).is_some()
}

/// `[vhost] client ident user [time] "request" status bytes ["referer" "user agent" [times]]`
fn line_of<'a>(line: &'a str, reading: &Reading, now: Timestamp, draft: &mut Draft<'a>) -> Option<()> {
    let (head, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let time = time::whole(time, &reading.columns.zone, now)?;
    let (request, rest) = quoted(rest)?;
    let mut rest = rest.trim_start();
    let (status, after) = word(rest);
    let code: u16 = status.parse().ok().filter(|code| (100..1000).contains(code))?;
    rest = after;

    draft.default_time = Some(time);
    let mut names = head.split(' ');
    let (first, second) = (names.next()?, names.next().unwrap_or_default());
    let fourth = head.split(' ').nth(3);
    let (host, client) = if fourth.is_some() { (first, second) } else { ("", first) };
    draft.known("host", host);
    draft.known("client", client);
    draft.known("user", head.rsplit(' ').next().filter(|_| head.contains(' ')).unwrap_or_default());
    let level = match code {
        500.. => Level::Error,
        400.. => Level::Warn,
        _ => Level::Info,
    };
    draft.default_level = Some((level, None));
    draft.known("status", status);

    // `GET /path HTTP/1.1`; what is no request, such as the beginning of a TLS connection, is kept whole.
    let mut parts = request.splitn(2, ' ');
    match (parts.next(), parts.next()) {
        (Some(method), Some(target)) if method.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            let (path, protocol) = target.rsplit_once(' ').unwrap_or((target, ""));
            draft.known("method", method);
            draft.known("path", path);
            draft.known("protocol", protocol);
            draft.set(Column::Message, format!("{method} {path} {status}"));
        }
        _ => draft.set(Column::Message, format!("{request} {status}")),
    }
    let (bytes, after) = word(rest);
    draft.known("bytes", bytes);
    rest = after;
    for name in ["referer", "user_agent"] {
        if let Some(inner) = rest.trim_start().strip_prefix('"') {
            let (text, after) = quoted(inner)?;
            draft.known(name, text);
            rest = after;
        }
    }
    times(rest.trim_start(), draft);
    Some(())
}

/// What servers are set up to write behind: nginx' `$request_time` in seconds, Apache's `%D` in microseconds, or either
/// with names.
fn times<'a>(rest: &'a str, draft: &mut Draft<'a>) {
    let mut bare = 0;
    let mut has_latency = false;
    for part in rest.split_ascii_whitespace() {
        let part = part.trim_matches('"');
        if let Some((name, value)) = part.split_once('=') {
            let is_time = matches!(name, "rt" | "request_time" | "time" | "duration");
            if is_time && let Some(millis) = latency::millis(value, Unit::Seconds) {
                draft.latency(millis);
                has_latency = true;
            }
            draft.field(name, Value::text(value.trim_matches('"')));
            continue;
        }
        let unit = if part.contains('.') { Unit::Seconds } else { Unit::Micros };
        if bare == 0
            && !has_latency
            && let Some(millis) = part.parse::<f64>().ok().filter(|number| *number >= 0.0)
        {
            draft.latency(unit.to_millis(millis));
        } else if !matches!(part, "-" | "") {
            draft.field(format!("more_{bare}"), Value::text(part));
        }
        bare += 1;
    }
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(' ').unwrap_or(text.len()))
}

/// Up to the quotation mark, and what follows it. Servers escape those within.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.as_bytes().get(from..)?)?;
        if text.as_bytes().get(at) == Some(&b'"') {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        from = at + 2;
    }
}
