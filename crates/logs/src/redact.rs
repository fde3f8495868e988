//! What does not leave the host.

use std::borrow::Cow;

use regex_lite::Regex;
use wire::messages::LogRecord;

use crate::pattern::Pattern;
use crate::sections::RedactSection;

/// What stands for a secret.
pub const HIDDEN: &str = "***";

/// What is looked for, and what it is.
pub const PRESETS: &[(&str, &str)] = &[
    ("authorization", "tokens and passwords in headers"),
    ("passwords", "values of keys that are named like secrets"),
    ("urls", "passwords in URLs, and addresses that are secrets"),
    ("keys", "private keys, and tokens of well-known services"),
    ("emails", "e-mail addresses"),
    ("cards", "numbers of credit cards"),
];

/// Hides secrets in texts.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    patterns: Vec<Pattern>,
}

impl Redactor {
    /// `fault` is told each key of `[redact]` that is wrong, and why.
    pub(crate) fn new(section: &RedactSection, mut fault: impl FnMut(&str, String)) -> Self {
        let mut redactor = Self::default();
        for text in &section.patterns {
            match Pattern::new(text) {
                Ok(pattern) => redactor.patterns.push(pattern),
                Err(error) => fault("patterns", error),
            }
        }
        redactor
    }

    /// A text without secrets.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for pattern in &self.patterns {
            let Some(hidden) = pattern.near(&text).and_then(|regex| by_pattern(regex, &text)) else { continue };
            text = Cow::Owned(hidden);
        }
        text
    }

    /// Takes secrets out of a record; says whether there were any.
    pub fn record(&self, record: &mut LogRecord) -> bool {
        let mut found = false;
        let columns = [
            &mut record.message,
            &mut record.service_name,
            &mut record.logger,
            &mut record.environment,
            &mut record.category,
            &mut record.trace_id,
            &mut record.request_id,
        ];
        for text in columns.into_iter().chain(record.fields.values_mut()) {
            if let Cow::Owned(hidden) = self.text(text) {
                *text = hidden;
                found = true;
            }
        }
        found
    }
}

/// With what the pattern matches hidden or, where it has groups, what those match.
fn by_pattern(regex: &Regex, text: &str) -> Option<String> {
    let mut found = regex.captures_iter(text).peekable();
    found.peek()?;
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    let mut hide = |start: usize, end: usize| {
        // A group inside of another was hidden with it.
        if start >= from && start < end {
            out.push_str(text.get(from..start).unwrap_or_default());
            out.push_str(HIDDEN);
            from = end;
        }
    };
    for captures in found {
        let mut groups = captures.iter().skip(1).flatten().peekable();
        match (groups.peek(), captures.get(0)) {
            (None, Some(whole)) => hide(whole.start(), whole.end()),
            _ => groups.for_each(|group| hide(group.start(), group.end())),
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    Some(out)
}
