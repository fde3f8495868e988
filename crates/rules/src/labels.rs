//! Label sets and what selects them.

use std::fmt::{self, Write};
use std::sync::Arc;

use regex_lite::Regex;

use crate::order;
use crate::pattern::{PatternError, anchored};
use crate::sample::NAME;

/// A set of labels, sorted by name, none of them empty. Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// No labels.
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Labels in any order. An empty value is no label; of two of the same name the last one counts.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into()));
        Self::of(pairs.collect())
    }

    pub(crate) fn of(mut pairs: Vec<(Arc<str>, Arc<str>)>) -> Self {
        pairs.reverse();
        order::sort_by(&mut pairs, &|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, first| later.0 == first.0);
        pairs.retain(|(_, value)| !value.is_empty());
        Self(pairs.into())
    }

    /// The value of a label; "" if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok().and_then(|at| self.0.get(at)).map_or("", |(_, v)| v)
    }

    /// The pairs, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without those that `keep` refuses.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// Without the metric's name.
    pub fn nameless(&self) -> Self {
        self.filtered(|name| name != NAME)
    }

    /// With a label set, or removed by an empty value.
    pub fn with(&self, name: &str, value: &str) -> Self {
        self.overlaid([(name, value)])
    }

    /// With several labels set or removed.
    pub fn overlaid<N: AsRef<str>, V: AsRef<str>>(&self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut all: Vec<(Arc<str>, Arc<str>)> = self.0.to_vec();
        all.extend(pairs.into_iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into())));
        Self::of(all)
    }
}

/// As PromQL writes them: `name{a="1", b="2"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get(NAME))?;
        let mut rest = self.iter().filter(|(name, _)| *name != NAME).peekable();
        if rest.peek().is_none() && !self.get(NAME).is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, (name, value)) in rest.enumerate() {
            write!(f, "{}{}={}", if at == 0 { "" } else { ", " }, Name(name), Quoted(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One condition on a label. A label that is missing has the value "".
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// How it is compared.
    pub op: MatchOp,
    /// With what.
    pub value: String,
    /// Of `=~` and `!~`: anchored at both ends.
    regex: Option<Regex>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

impl Matcher {
    /// A condition; an error if the regular expression is none.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, PatternError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(anchored(value)?),
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// Whether a value fulfils it.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, regex) => regex.as_ref().is_some_and(|regex| regex.is_match(value)),
            (MatchOp::NotRegex, regex) => regex.as_ref().is_some_and(|regex| !regex.is_match(value)),
        }
    }
}

/// The regular expression follows from the rest.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

/// As PromQL writes it.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", Name(&self.name), self.op.as_str(), Quoted(&self.value))
    }
}

/// A text in quotes, with the escapes that PromQL and Go read.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A label's name: in quotes if it has other signs than letters, digits and `_`.
pub(crate) struct Name<'a>(pub(crate) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.0.starts_with(|first: char| plain(first) && !first.is_ascii_digit()) && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        Quoted(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_sorted_set() {
        let labels = Labels::new([("b", "1"), ("a", "2"), ("b", "3"), ("c", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!((labels.get("b"), labels.get("c")), ("3", ""));
        assert_eq!(labels.with("b", ""), Labels::new([("a", "2")]));
        assert_eq!(labels.with(NAME, "up").to_string(), r#"up{a="2", b="3"}"#);
        assert_eq!(labels.with(NAME, "up").nameless(), labels);
    }

    #[test]
    fn a_regular_expression_matches_the_whole_value() {
        let matches = |op, pattern: &str, value| Matcher::new("a", op, pattern).unwrap().matches(value);
        assert!(matches(MatchOp::Regex, "b|cd", "cd") && !matches(MatchOp::Regex, "b|cd", "bd"));
        assert!(matches(MatchOp::NotRegex, "b.*", "ab") && matches(MatchOp::Regex, ".*", "a\nb"));
        assert!(matches(MatchOp::Regex, "", "") && Matcher::new("a", MatchOp::Regex, "b)(").is_err());
    }
}
