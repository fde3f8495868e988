//! What container engines put around lines: Docker's `json-file`, and CRI's format of containerd and CRI-O.

use std::borrow::Cow;

use wire::Timestamp;

use super::json;
use crate::columns::Value;
use crate::time;

/// A line without what was around it.
#[derive(Debug)]
pub(crate) struct Unwrapped<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) time: Option<Timestamp>,
    /// `stdout` or `stderr`.
    pub(crate) stream: Cow<'a, str>,
    /// The rest of the line follows.
    pub(crate) partial: bool,
}

/// None where there is nothing around it.
pub(crate) fn unwrap(line: &str) -> Option<Unwrapped<'_>> {
    if line.starts_with('{') { docker(line) } else { cri(line) }
}

/// `{"log":"…\n","stream":"stdout","time":"…"}`
fn docker(line: &str) -> Option<Unwrapped<'_>> {
    let (mut log, mut stream, mut time) = (None, None, None);
    json::objects(line, |key, value| match (&*key, value) {
        ("log", Value::Text(text)) => log = Some(text),
        ("stream", Value::Text(text)) => stream = Some(text),
        ("time", Value::Text(text)) => time = Some(text),
        _ => {}
    })?;
    let (log, stream, time) = (log?, stream?, time?);
    let partial = !log.ends_with('\n');
    let text = match log {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_end_matches(['\n', '\r'])),
        Cow::Owned(mut text) => {
            text.truncate(text.trim_end_matches(['\n', '\r']).len());
            Cow::Owned(text)
        }
    };
    Some(Unwrapped { text, time: time::zoned(&time), stream, partial })
}

/// `TIME stdout F text`; `P` instead of `F` says that the line goes on.
fn cri(line: &str) -> Option<Unwrapped<'_>> {
    let mut parts = line.splitn(4, ' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    let text = parts.next().unwrap_or_default();
    let time = time::zoned(time)?;
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    let partial = match tags.split(':').next()? {
        "F" => false,
        "P" => true,
        _ => return None,
    };
    Some(Unwrapped { text: text.into(), time: Some(time), stream: stream.into(), partial })
}
