//! Templates of labels and annotations: what Prometheus' rules use of Go's `text/template`, with Prometheus' functions.
//!
//! A template is parsed when its rule is loaded, so that what can't be rendered is refused there. Rendering is bounded in
//! steps and in output. Left out are Go's `call`, `js` and `slice`, and methods of values: refused by name.

mod format;
mod functions;
mod layout;
mod lexer;
mod parse;
mod render;
mod tree;
mod value;

use std::fmt;

pub use tree::Tree;

use crate::Labels;
use crate::ast::Millis;
use crate::eval::Work;

/// The longest template, in bytes.
pub const MAX_TEXT: usize = 64 << 10;
/// The longest text that comes of one, in bytes.
pub const MAX_OUTPUT: usize = 16 << 10;
/// How deep blocks, parentheses and templates within templates may be nested.
const MAX_DEPTH: usize = 32;
/// How many steps one rendering may take.
const MAX_STEPS: usize = 10_000;
/// The same of a text about many alerts at once.
const MAX_NOTIFICATION_STEPS: usize = 100_000;

/// Whose templates they are: functions differ, and what `.` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Prometheus', of rule files.
    Rules,
    /// Alertmanager's, of notifications.
    Notifications,
}
/// What a step takes, in looks at samples.
const LOOKS_PER_STEP: usize = 4;

/// A template that was found right.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    body: parse::Body,
}

/// Two templates are equal if they were read from the same text.
impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What is wrong with a template, or why it can't be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub message: String,
    /// Where, in bytes of the template.
    pub at: usize,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { message: message.into(), at }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// What a template is about.
#[derive(Debug, Clone)]
pub struct Data<'a> {
    /// `$labels`: of the sample.
    pub labels: &'a Labels,
    /// `$value`: of the sample.
    pub value: f64,
    /// `$externalLabels`.
    pub external_labels: &'a Labels,
    /// `$externalURL`.
    pub external_url: &'a str,
    /// When the rule is evaluated.
    pub at: Millis,
    /// What rendering takes is counted there.
    pub work: &'a Work,
}

/// Evaluates an expression that stands in a template.
pub type Query<'a> = dyn Fn(&str) -> Result<Vec<(Labels, f64)>, String> + 'a;

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_TEXT {
            return Err(Fault::new(0, format!("the template is longer than {MAX_TEXT} bytes")));
        }
        Ok(Self { text: text.to_owned(), body: parse::parse(text, Dialect::Rules)? })
    }

    /// Reads a template of a notification, with Alertmanager's functions and methods instead of Prometheus'. For
    /// [`fill`](Self::fill).
    pub fn parse_notification(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_TEXT {
            return Err(Fault::new(0, format!("the template is longer than {MAX_TEXT} bytes")));
        }
        Ok(Self { text: text.to_owned(), body: parse::parse(text, Dialect::Notifications)? })
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The texts within it that look like the expression of a `query`, or the format of one.
    pub fn queries(&self) -> &[String] {
        &self.body.queries
    }

    /// Fills it in.
    pub fn render(&self, data: &Data<'_>, query: &Query<'_>) -> Result<String, Fault> {
        render::render(&self.body, data, query)
    }

    /// Fills in a notification's template: `.` is `root`, and `now` what `since` counts to. What would grow too long or
    /// take too many steps ends there, and says so by [`Filled::cut`].
    pub fn fill(&self, root: &Tree, now: Millis) -> Result<Filled, Fault> {
        render::fill(&self.body, root, now)
    }

    /// Line and column of a fault's place, from 1.
    pub fn place(&self, fault: &Fault) -> (usize, usize) {
        line_column(&self.text, fault.at)
    }

    /// Fills it in; what fails becomes a text that says so, as the alert has to go on.
    pub fn expand(&self, data: &Data<'_>, query: &Query<'_>) -> Result<String, String> {
        self.render(data, query).map_err(|fault| {
            let (line, column) = line_column(&self.text, fault.at);
            format!("<error expanding template: {line}:{column}: {}>", fault.message)
        })
    }
}

/// What became of a notification's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// Whether it is only the beginning, because of a bound.
    pub cut: bool,
}

/// Line and column of a byte, from 1; the column counts characters.
pub fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests;
