//! What does not leave the host.

use std::borrow::Cow;

use regex_lite::Regex;
use wire::messages::LogRecord;

use crate::pattern::Pattern;
use crate::sections::RedactSection;
use scan::{Kinds, Scan};

mod names;
mod scan;
mod tokens;

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

/// How often a text is looked through at most: what was hidden may show more beside it.
const PASSES: usize = 6;

/// Hides secrets in texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Redactor {
    kinds: Kinds,
    keys: Vec<String>,
    patterns: Vec<Pattern>,
}

impl Redactor {
    /// `fault` is told each key of `[redact]` that is wrong, and why.
    pub(crate) fn new(section: &RedactSection, mut fault: impl FnMut(&str, String)) -> Self {
        let mut redactor = Self { keys: section.keys.clone(), ..Self::default() };
        for name in &section.presets {
            let kinds = &mut redactor.kinds;
            let kind = match name.as_str() {
                "authorization" => &mut kinds.authorization,
                "passwords" => &mut kinds.passwords,
                "urls" => &mut kinds.urls,
                "keys" => &mut kinds.keys,
                "emails" => &mut kinds.emails,
                "cards" => &mut kinds.cards,
                name => {
                    let known: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
                    fault("presets", format!("there is no preset {name:?}; there are {}", known.join(", ")));
                    continue;
                }
            };
            *kind = true;
        }
        for text in &section.patterns {
            match Pattern::new(text) {
                Ok(pattern) => redactor.patterns.push(pattern),
                Err(error) => fault("patterns", error),
            }
        }
        redactor
    }

    /// The same, but for e-mail addresses: for texts that operators wrote, in which they name whom to ask.
    #[must_use]
    pub fn for_operators(&self) -> Self {
        Self { kinds: Kinds { emails: false, ..self.kinds }, ..self.clone() }
    }

    /// A text without secrets.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.look_for(self.kinds, text)
    }

    /// Whether what stands under a name is a secret, whatever it is.
    pub fn hides_key(&self, key: &str) -> bool {
        if !self.kinds.passwords && self.keys.is_empty() {
            return false;
        }
        let last = key.rsplit('.').next().unwrap_or(key);
        let is_given = self.keys.iter().any(|name| name.eq_ignore_ascii_case(key) || name.eq_ignore_ascii_case(last));
        // What stands inside of a secret object is secret, whatever it is called there.
        is_given || (self.kinds.passwords && key.split('.').any(|name| names::is_secret(name, false)))
    }

    /// Only with the patterns of the configuration.
    pub fn by_patterns<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.look_for(Kinds::default(), text)
    }

    fn look_for<'a>(&self, kinds: Kinds, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if kinds != Kinds::default() || !self.keys.is_empty() {
            for _ in 0..PASSES {
                let Some(hidden) = self.pass(kinds, &text) else { break };
                let is_same = hidden == text;
                text = Cow::Owned(hidden);
                if is_same {
                    break;
                }
            }
        }
        for pattern in &self.patterns {
            let Some(hidden) = pattern.near(&text).and_then(|regex| by_pattern(regex, &text)) else { continue };
            text = Cow::Owned(hidden);
        }
        text
    }

    /// None where there is nothing to hide.
    fn pass(&self, kinds: Kinds, text: &str) -> Option<String> {
        let mut spans = Scan::new(text, kinds, &self.keys).peekable();
        spans.peek()?;
        let (mut out, mut from) = (String::with_capacity(text.len()), 0);
        for (start, end) in spans {
            out.push_str(text.get(from..start).unwrap_or_default());
            out.push_str(HIDDEN);
            from = end;
        }
        out.push_str(text.get(from..).unwrap_or_default());
        Some(out)
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
        ];
        let mut hide = |text: &mut String, kinds: Kinds| {
            if let Cow::Owned(hidden) = self.look_for(kinds, text) {
                *text = hidden;
                found = true;
            }
        };
        columns.into_iter().chain(record.level_original.as_mut()).for_each(|text| hide(text, self.kinds));
        // Numbers of traces and requests are as long as those of cards.
        let ids = Kinds { cards: false, ..self.kinds };
        [&mut record.trace_id, &mut record.request_id].into_iter().for_each(|text| hide(text, ids));
        for (key, value) in &mut record.fields {
            if self.hides_key(key) {
                if !names::is_harmless(value, false) {
                    HIDDEN.clone_into(value);
                    found = true;
                }
            } else if let Cow::Owned(hidden) = self.look_for(self.kinds, value) {
                *value = hidden;
                found = true;
            }
        }
        // What is only small letters is a name; others may be made of anything.
        let is_name = |key: &str| key.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'));
        let odd = |key: &&String| !is_name(key) && matches!(self.look_for(ids, key), Cow::Owned(_));
        for key in record.fields.keys().filter(odd).cloned().collect::<Vec<_>>() {
            if let Some(value) = record.fields.remove(&key) {
                record.fields.insert(self.look_for(ids, &key).into_owned(), value);
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
