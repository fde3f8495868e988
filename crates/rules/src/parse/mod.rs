//! PromQL as text, made a tree.
//!
//! The language is that of Prometheus 3.14 without what [`REFUSED`](crate::functions::REFUSED) lists; what is refused
//! is named with its place. Grammar and messages follow Prometheus (`promql/parser`), so that what people find about
//! an error there helps here. An expression has bounds in bytes and in depth: every later walk over the tree may
//! recurse.

mod check;
pub mod duration;
mod lexer;
mod parser;
mod selector;
#[cfg(test)]
mod tests;

pub(crate) use parser::{AGGREGATIONS, NO_NAMES, OPERATORS};

use crate::ast::{Expr, Span};
use crate::functions::UNICODE_REGEX;
use crate::pattern::PatternError;

/// How long an expression may be, in bytes.
pub const MAX_BYTES: usize = 64 << 10;

/// How deep a tree may be. Parentheses and calls make levels, and so does each operator of a chain.
pub const MAX_DEPTH: usize = 128;

/// How many regular expressions one expression may hold: each may take [`REGEX_BYTES`](crate::pattern::REGEX_BYTES).
pub const MAX_REGEXES: usize = 128;

/// What is wrong with an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParseErrorKind {
    /// It is no PromQL.
    Syntax,
    /// Its parts don't fit together.
    Type,
    /// It is PromQL, but none that is evaluated here.
    Unsupported,
    /// It goes beyond [`MAX_BYTES`], [`MAX_DEPTH`] or [`MAX_REGEXES`].
    TooLarge,
}

/// An expression that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// In what way.
    pub kind: ParseErrorKind,
    /// Of [`ParseErrorKind::Unsupported`]: what it is, as [`REFUSED`](crate::functions::REFUSED) names it.
    pub construct: Option<&'static str>,
    /// The sentence, without the place.
    pub message: String,
    /// The bytes that it is about.
    pub span: Span,
}

impl ParseError {
    fn new(kind: ParseErrorKind, span: Span, message: impl Into<String>) -> Self {
        Self { kind, construct: None, message: message.into(), span }
    }

    fn syntax(span: Span, message: impl Into<String>) -> Self {
        Self::new(ParseErrorKind::Syntax, span, message)
    }

    fn types(span: Span, message: impl Into<String>) -> Self {
        Self::new(ParseErrorKind::Type, span, message)
    }

    fn too_large(span: Span, message: impl Into<String>) -> Self {
        Self::new(ParseErrorKind::TooLarge, span, message)
    }

    fn unsupported(span: Span, construct: &'static str, message: impl Into<String>) -> Self {
        Self { construct: Some(construct), ..Self::new(ParseErrorKind::Unsupported, span, message) }
    }

    fn pattern(span: Span, pattern: &str, error: &PatternError) -> Self {
        let message = format!("the regular expression {:?} can't be used: {error}", shown(pattern));
        match error.unsupported {
            true => Self::unsupported(span, UNICODE_REGEX, message),
            false => Self::syntax(span, message),
        }
    }

    /// The place in the text that was parsed: line and column in characters, both from 1.
    pub fn line_column(&self, text: &str) -> (usize, usize) {
        let before = text.get(..self.span.start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

/// As much of a text as a message has room for.
fn shown(text: &str) -> &str {
    text.char_indices().nth(80).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// Makes a tree of an expression, with all types checked.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    if text.len() > MAX_BYTES {
        let message = format!("the expression has {} bytes; {MAX_BYTES} are the most: split it into rules", text.len());
        return Err(ParseError::too_large(0..text.len(), message));
    }
    let expr = parser::parse(text)?;
    check::check(&expr)?;
    Ok(expr)
}
