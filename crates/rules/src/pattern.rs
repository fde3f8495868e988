//! Regular expressions in the syntax of RE2, which Prometheus has, compiled by `regex-lite`, which is small.
//!
//! The two differ at the edges: a pattern is rewritten where they mean different things by the same signs, and refused
//! where `regex-lite` lacks something. Neither tracks back. One difference is left: with `(?i)`, RE2 takes U+017F for an
//! `s` and U+212A for a `k`.

use regex_lite::{Captures, Regex, RegexBuilder};

/// A regular expression's largest size, compiled: a rule file must not fill the memory.
pub const REGEX_BYTES: usize = 1 << 20;

/// The greatest count of a repetition.
const MOST_REPEATED: u32 = 1000;

/// A pattern that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatternError {
    /// Whether Prometheus would take it.
    pub unsupported: bool,
    /// Why.
    pub message: String,
}

fn invalid<T>(message: impl Into<String>) -> Result<T, PatternError> {
    Err(PatternError { unsupported: false, message: message.into() })
}

fn unsupported<T>(message: impl Into<String>) -> Result<T, PatternError> {
    Err(PatternError { unsupported: true, message: message.into() })
}

/// Compiles a regular expression that is searched for.
pub fn searched(pattern: &str) -> Result<Regex, PatternError> {
    compile(&Translation::of(pattern)?)
}

/// Compiles one that has to match the whole text, as in matchers and `label_replace`. `.` matches newlines too.
pub fn anchored(pattern: &str) -> Result<Regex, PatternError> {
    let translated = Translation::of(pattern)?;
    // First alone, so that `a)(b` is refused.
    compile(&translated)?;
    compile(&format!("^(?s:{translated})$"))
}

fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(pattern).size_limit(REGEX_BYTES).build();
    built.or_else(|error| invalid(error.to_string()))
}

/// Fills a template with what a regular expression found: `$1`, `$name`, `${name}`, `$$`. `None` if it gets longer than `most`
/// bytes.
pub fn expand(template: &str, regex: &Regex, found: &Captures<'_>, most: usize) -> Option<String> {
    let mut result = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(after) {
            let group = match name.parse::<usize>() {
                Ok(number) if name == "0" || !name.starts_with('0') => found.get(number),
                _ => regex.capture_names().position(|known| known == Some(name)).and_then(|number| found.get(number)),
            };
            result.push_str(group.map_or("", |group| group.as_str()));
            rest = after;
        } else {
            // What is no reference stands for itself.
            result.push('$');
            rest = after;
        }
        if result.len() > most {
            return None;
        }
    }
    result.push_str(rest);
    (result.len() <= most).then_some(result)
}

/// The name after a `$`, and what follows.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let text = braced.unwrap_or(text);
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let rest = if braced.is_some() { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// A pattern that is being rewritten.
struct Translation<'a> {
    rest: &'a str,
    out: String,
    /// Whether the last thing was a repetition.
    repeated: bool,
    /// Whether the case is no matter somewhere.
    any_case: bool,
    ascii: bool,
}

impl<'a> Translation<'a> {
    fn of(pattern: &'a str) -> Result<String, PatternError> {
        let out = String::with_capacity(pattern.len());
        let mut all = Self { rest: pattern, out, repeated: false, any_case: false, ascii: true };
        while let Some(c) = all.next() {
            let repetition = match c {
                '*' | '+' | '?' => Some(c.to_string()),
                '{' => all.counts()?,
                _ => None,
            };
            if let Some(repetition) = repetition {
                all.repeat(&repetition)?;
                continue;
            }
            all.repeated = false;
            match c {
                '\\' => all.escape(false)?,
                '[' => all.class()?,
                '(' => all.group()?,
                '{' | '}' => all.out.extend(['\\', c]),
                _ => all.out.push(c),
            }
        }
        if all.any_case && !all.ascii {
            return unsupported("letters beyond ASCII are not matched without their case here");
        }
        Ok(all.out)
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        self.ascii &= c.is_ascii();
        Some(c)
    }

    /// Takes a text if it is next.
    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes what stands before an end, and the end.
    fn until(&mut self, end: &str) -> Option<&'a str> {
        let (inner, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        self.ascii &= inner.is_ascii();
        Some(inner)
    }

    /// The counts of a repetition, its brace already taken; `None` if the brace stands for itself.
    fn counts(&mut self) -> Result<Option<String>, PatternError> {
        let Some((counts, rest)) = self.rest.split_once('}') else { return Ok(None) };
        let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
            (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
        };
        let Some(least) = number(least) else { return Ok(None) };
        let most = match number(most) {
            Some(most) => most,
            None if most.is_empty() => least,
            None => return Ok(None),
        };
        if least > most || most > MOST_REPEATED {
            return invalid(format!("invalid repeat count: {{{counts}}}"));
        }
        self.rest = rest;
        Ok(Some(format!("{{{counts}}}")))
    }

    fn repeat(&mut self, repetition: &str) -> Result<(), PatternError> {
        if self.repeated {
            return invalid(format!("a repetition of a repetition: {repetition}"));
        }
        self.repeated = true;
        self.out.push_str(repetition);
        if self.take("?") {
            self.out.push('?');
        }
        Ok(())
    }

    /// What follows a parenthesis.
    fn group(&mut self) -> Result<(), PatternError> {
        self.out.push('(');
        if !self.rest.starts_with('?') || self.rest.starts_with("?P<") || self.rest.starts_with("?<") {
            return Ok(());
        }
        let end = self.rest.find([':', ')']).unwrap_or(self.rest.len());
        let (flags, rest) = self.rest.split_at(end);
        if flags.chars().skip(1).any(|flag| !"imsU-".contains(flag)) {
            return invalid(format!("invalid group: ({flags}"));
        }
        self.any_case |= flags.split('-').next().is_some_and(|on| on.contains('i'));
        self.out.push_str(flags);
        self.rest = rest;
        Ok(())
    }

    /// A class, its bracket already taken.
    fn class(&mut self) -> Result<(), PatternError> {
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        if self.take("]") {
            self.out.push_str("\\]");
        }
        loop {
            match self.next() {
                None => return invalid("missing closing ]"),
                Some(']') => {
                    self.out.push(']');
                    return Ok(());
                }
                Some('\\') => self.escape(true)?,
                Some('[') if self.rest.starts_with(':') && self.rest.contains(":]") => {
                    let name = self.until(":]").unwrap_or_default();
                    self.out.extend(["[", name, ":]"]);
                }
                // Signs of regex-lite's own.
                Some(c @ ('[' | '&' | '~')) => self.out.extend(['\\', c]),
                Some(c) => self.out.push(c),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, class: bool) -> Result<(), PatternError> {
        let Some(c) = self.next() else { return invalid("trailing backslash at the end") };
        match c {
            'Q' if !class => {
                let end = self.rest.find("\\E").unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(end);
                self.ascii &= text.is_ascii();
                self.out.push_str(&regex_lite::escape(text));
                self.rest = rest.strip_prefix("\\E").unwrap_or(rest);
            }
            // They would be the edges of words.
            '<' | '>' => self.out.push(c),
            // Without the vertical tab.
            's' => self.out.push_str(if class { "\\t\\n\\f\\r " } else { "[\\t\\n\\f\\r ]" }),
            'S' if class => self.out.push_str("\\x00-\\x08\\x0B\\x0E-\\x1F\\x21-\\x{10FFFF}"),
            'S' => self.out.push_str("[^\\t\\n\\f\\r ]"),
            '0'..='7' if c == '0' || self.rest.starts_with(octal) => {
                let more = self.rest.chars().take(2).take_while(|digit| octal(*digit)).count();
                let (digits, rest) = self.rest.split_at(more);
                let code = u32::from_str_radix(&format!("{c}{digits}"), 8).unwrap_or_default();
                self.ascii &= code < 128;
                self.out.push_str(&format!("\\x{{{code:x}}}"));
                self.rest = rest;
            }
            'x' => {
                self.out.push_str("\\x");
                if self.take("{") {
                    let code = self.until("}").unwrap_or_default();
                    self.ascii &= u32::from_str_radix(code, 16).is_ok_and(|code| code < 128);
                    self.out.extend(["{", code, "}"]);
                } else {
                    self.ascii &= self.rest.starts_with(octal);
                }
            }
            'p' | 'P' => return unsupported(format!("\\{c}, a class of Unicode, is not evaluated here")),
            'u' | 'U' | '1'..='9' => return invalid(format!("invalid escape sequence: \\{c}")),
            _ => self.out.extend(['\\', c]),
        }
        Ok(())
    }
}

fn octal(c: char) -> bool {
    matches!(c, '0'..='7')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_re2() {
        for (pattern, text, matches) in [
            ("a{2}", "aa", true),
            ("{a}", "{a}", true),
            ("a{,2}", "a{,2}", true),
            ("a{02}", "a{02}", true),
            ("x{", "x{", true),
            ("\\b{a}", "{a}", false),
            ("\\<a\\>", "<a>", true),
            ("\\_\\-\\/\\ \\\"", "_-/ \"", true),
            ("[a[b]+", "a[b", true),
            ("[]a]+", "]a", true),
            ("[^]a]", "b", true),
            ("[a&&b]+", "a&b", true),
            ("[~~]", "~", true),
            ("[[:alpha:]_]+", "a_", true),
            ("[[:alpha]+", "[:", true),
            ("[\\w.-]+", "a.b-c", true),
            ("\\Qa.b\\E.", "a.bc", true),
            ("\\Qa.b\\E.", "axbc", false),
            ("\\101\\x42\\x{43}", "ABC", true),
            ("\\s", "\u{b}", false),
            ("[\\s]\\s", " \n", true),
            ("[\\S]\\S", "\u{b}\u{e9}", true),
            ("[\\S]", "\n", false),
            ("(?i)AB(?-i:c)", "abc", true),
            ("(?i)AB(?-i:c)", "abC", false),
            ("(?P<n>a)|b", "b", true),
            ("a.b", "a\nb", true),
            ("a+?b??", "aa", true),
            ("\u{e9}[\u{e0}-\u{ff}]", "\u{e9}\u{e9}", true),
        ] {
            let regex = anchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(text), matches, "{pattern} on {text:?}");
        }
        assert!(searched("b").unwrap().is_match("abc") && !anchored("b").unwrap().is_match("abc"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in [
            "(",
            ")",
            "a)(b",
            "[",
            "[a",
            "[]",
            "[z-a]",
            "\\",
            "\\1",
            "\\8",
            "\\u0041",
            "a**",
            "a*+",
            "a{2}{3}",
            "a{1001}",
            "a{3,2}",
            "a{99999999999}",
            "(?x)a",
            "(?=a)",
            "(?!a)",
            "(?",
            "[[:foo:]]",
            "\\x{",
            "\\xg",
            "\\x{110000}",
            "(a{999}){999}",
        ] {
            let error = anchored(pattern).err().unwrap_or_else(|| panic!("{pattern} compiles"));
            assert!(!error.unsupported, "{pattern}: {error}");
        }
    }

    #[test]
    fn what_regex_lite_lacks_is_told() {
        for pattern in ["\\pL+", "\\P{Greek}", "[\\pN]", "(?i)\u{e9}", "(?is:\\x{e9})", "(?i)\\351"] {
            assert!(anchored(pattern).is_err_and(|error| error.unsupported), "{pattern}");
        }
    }

    #[test]
    fn templates_are_filled_as_go_does() {
        let regex = anchored("(a)(?P<name>b)?.*").unwrap();
        let fill = |template| expand(template, &regex, &regex.captures("abc").unwrap(), 65_536).unwrap();
        let cases = [
            ("$1-${2}", "a-b"),
            ("$name|${name}x|$namex", "b|bx|"),
            ("$1x", ""),
            ("$$1", "$1"),
            ("$", "$"),
            ("${", "${"),
            ("${1", "${1"),
            ("$-", "$-"),
            ("$0", "abc"),
            ("$9|$01", "|"),
        ];
        for (template, filled) in cases {
            assert_eq!(fill(template), filled, "{template}");
        }
        assert_eq!(expand(&"$0".repeat(30_000), &regex, &regex.captures("abc").unwrap(), 65_536), None);
    }
}
