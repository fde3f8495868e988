//! What a template computes with.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::tree::Tree;
use super::{format, layout};
use crate::Labels;
use crate::ast::Millis;

/// A value. What is large is shared, so that a copy costs nothing.
#[derive(Debug, Clone)]
pub(super) enum Val {
    /// `nil`, and what a template is called with if it is called with nothing.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    Labels(Labels),
    /// One element of a query's result.
    Sample(Rc<(Labels, f64)>),
    /// The result of a query.
    Samples(Rc<[Rc<(Labels, f64)>]>),
    /// Of `args`.
    Map(Rc<BTreeMap<String, Val>>),
    /// `.` at the top of a rule's template, and `$`.
    Root,
    /// Of a notification: a moment.
    Time(Millis),
    /// Of a notification: several.
    List(Arc<[Tree]>),
    /// Of a notification: named parts.
    Struct(Arc<[(&'static str, Tree)]>),
}

impl Val {
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().into())
    }

    /// As Go names the type, in messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Labels(_) => "map[string]string",
            Self::Sample(_) => "*template.sample",
            Self::Samples(_) => "template.queryResult",
            Self::Map(_) => "map[string]interface {}",
            Self::Root | Self::Struct(_) => "struct",
            Self::Time(_) => "time.Time",
            Self::List(_) => "list",
        }
    }

    /// What `if` and `with` go by: neither zero nor empty.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Labels(labels) => !labels.is_empty(),
            Self::Samples(samples) => !samples.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Sample(_) | Self::Root | Self::Time(_) | Self::Struct(_) => true,
        }
    }

    /// As `{{ value }}` prints it, into `out`; no further once `out` is too long.
    pub(super) fn print(&self, out: &mut String) {
        if out.len() > super::MAX_OUTPUT {
            return;
        }
        match self {
            Self::Nil => out.push_str("<no value>"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Float(value) => out.push_str(&format::float(*value, 'g', None)),
            Self::Text(text) => out.push_str(text),
            Self::Labels(labels) => print_labels(labels, out),
            Self::Sample(sample) => print_sample(sample, out),
            Self::Samples(samples) => list(out, "[", "]", samples.iter(), |sample, out| print_sample(sample, out)),
            Self::Map(map) => list(out, "map[", "]", map.iter(), |(name, value), out| {
                out.push_str(name);
                out.push(':');
                value.print(out);
            }),
            Self::Root => out.push_str("{}"),
            Self::Time(time) => out.push_str(&layout::rfc3339(*time)),
            Self::List(items) => list(out, "[", "]", items.iter(), |item, out| item.value().print(out)),
            Self::Struct(parts) => list(out, "{", "}", parts.iter(), |(_, part), out| part.value().print(out)),
        }
    }
}

fn list<T>(out: &mut String, open: &str, close: &str, items: impl Iterator<Item = T>, print: impl Fn(T, &mut String)) {
    out.push_str(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(' ');
        }
        print(item, out);
        if out.len() > super::MAX_OUTPUT {
            return;
        }
    }
    out.push_str(close);
}

/// As Go prints a map: its keys sorted.
fn print_labels(labels: &Labels, out: &mut String) {
    list(out, "map[", "]", labels.iter(), |(name, value), out| {
        out.push_str(name);
        out.push(':');
        out.push_str(value);
    });
}

fn print_sample((labels, value): &(Labels, f64), out: &mut String) {
    out.push_str("&{");
    print_labels(labels, out);
    out.push(' ');
    out.push_str(&format::float(*value, 'g', None));
    out.push('}');
}
