//! Regular expressions of the configuration, asked once a line.

use std::fmt;

use memchr::memmem::Finder;
use regex_lite::{Captures, Regex};

/// A regular expression, not anchored unless it says so.
///
/// Most lines do not match most patterns. Where every match has to hold a certain text, that is looked for first: it is
/// found a hundred times as fast.
#[derive(Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    /// One of these is in every text that matches; empty where nothing is known.
    needles: Vec<Finder<'static>>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let regex = Regex::new(text).map_err(|e| format!("{text:?} is not a regular expression: {e}"))?;
        let needles = needle(text).iter().map(|needle| Finder::new(needle).into_owned()).collect();
        Ok(Self { regex, needles })
    }

    /// One of ours, with texts of which each match holds one.
    pub(crate) fn fixed(text: &str, needles: &'static [&'static str]) -> Self {
        let regex = Regex::new(text).unwrap_or_else(|e| unreachable!("BUG: {text}: {e}"));
        Self { regex, needles: needles.iter().map(|needle| Finder::new(*needle)).collect() }
    }

    /// Whether no match is possible, as far as that is to be seen at a glance.
    fn is_far(&self, text: &str) -> bool {
        !self.needles.is_empty() && self.needles.iter().all(|needle| needle.find(text.as_bytes()).is_none())
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        !self.is_far(text) && self.regex.is_match(text)
    }

    pub(crate) fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        if self.is_far(text) { None } else { self.regex.captures(text) }
    }

    /// The regular expression, for texts that hold what every match has to.
    pub(crate) fn near(&self, text: &str) -> Option<&Regex> {
        (!self.is_far(text)).then_some(&self.regex)
    }

    /// The names of its groups.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.regex.capture_names().flatten()
    }

    pub(crate) fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The longest text that stands in everything that a regular expression matches, as far as that is plain to see. None where
/// there are alternatives outside of groups, or letters that stand for both cases.
fn needle(pattern: &str) -> Option<String> {
    let (mut best, mut run) = (String::new(), String::new());
    let mut depth = 0usize;
    let mut characters = pattern.chars().peekable();
    let mut end = |run: &mut String| {
        if run.len() > best.len() {
            best.clone_from(run);
        }
        run.clear();
    };
    while let Some(c) = characters.next() {
        let literal = match c {
            // What stands in a group is not looked at.
            '|' if depth == 0 => return None,
            '|' => None,
            '(' => {
                // Flags may make letters stand for both cases; a name is none of the text.
                if characters.peek() == Some(&'?') {
                    characters.next();
                    let is_name = matches!(characters.peek(), Some('P' | '<'));
                    let is_plain = characters.peek() == Some(&':');
                    if !is_name && !is_plain {
                        return None;
                    }
                    for c in characters.by_ref() {
                        if c == '>' || (is_plain && c == ':') {
                            break;
                        }
                    }
                }
                depth += 1;
                None
            }
            ')' => {
                depth = depth.saturating_sub(1);
                None
            }
            '[' => {
                // The first sign of a class may be a bracket, also behind a circumflex.
                if characters.peek() == Some(&'^') {
                    characters.next();
                }
                if characters.peek() == Some(&']') {
                    characters.next();
                }
                let mut inner = 0;
                while let Some(c) = characters.next() {
                    match c {
                        '\\' => drop(characters.next()),
                        '[' => inner += 1,
                        ']' if inner == 0 => break,
                        ']' => inner -= 1,
                        _ => {}
                    }
                }
                None
            }
            '\\' => match characters.next() {
                // Behind a backslash these two are the ends of words.
                Some(c) if c.is_ascii_punctuation() && !matches!(c, '<' | '>') => Some(c),
                Some('x' | 'u' | 'U' | 'p' | 'P') => return None,
                _ => None,
            },
            '?' | '*' | '{' => {
                run.pop();
                end(&mut run);
                if c == '{' {
                    characters.by_ref().find(|c| *c == '}');
                }
                None
            }
            '.' | '^' | '$' | '+' => None,
            c => Some(c),
        };
        match literal {
            // What stands in a group may be repeated or left out with it.
            Some(c) if depth == 0 => run.push(c),
            _ => end(&mut run),
        }
    }
    end(&mut run);
    (best.len() >= 2).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_match_holds_is_found() {
        for (pattern, expected) in [
            ("healthz", Some("healthz")),
            (r"^GET /healthz\b", Some("GET /healthz")),
            (r"user=(\w+) logged in", Some(" logged in")),
            (r"ab*cd+e?f", Some("cd")),
            (r"a{2,3}bcd", Some("bcd")),
            (r"[abc]xyz[^]x]q", Some("xyz")),
            (r"\d+\.\d+ms", Some("ms")),
            (r"(?P<name>abc)def", Some("def")),
            (r"(?<name>abc)def", Some("def")),
            (r"(?:abc)?def", Some("def")),
            (r"(?i)failed", None),
            ("failed|refused", None),
            ("login (failed|refused)", Some("login ")),
            ("a", None),
            (r"\x41bc", None),
            (r"", None),
        ] {
            assert_eq!(needle(pattern).as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn a_needle_never_hides_a_match() {
        for (pattern, text) in [
            (r"user=(\w+) logged in", "x user=anna logged in"),
            (r"ab*cd+e?f", "acdf"),
            (r"a{0}bcd", "bcd"),
            (r"abc{0}def", "abdef"),
            (r"(abc)*def", "def"),
            (r"x[[:alpha:]]yz", "xayz"),
            (r"\.\*\(", "a.*("),
            (r"[]]ab", "]ab"),
            (r"ab+?c", "abbc"),
            (r"ab??c", "ac"),
        ] {
            let pattern = Pattern::new(pattern).unwrap();
            assert!(pattern.matches(text), "{pattern:?} {text}");
        }
    }
}
