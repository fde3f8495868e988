//! What a notification's template is given.

use std::sync::Arc;

use super::value::Val;
use crate::Labels;
use crate::ast::Millis;

/// A value for a template, made of plain parts. Cloning costs a reference count.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// A moment; printed in RFC 3339, and by `.Format` as Go does.
    Time(Millis),
    /// Labels, with Alertmanager's methods: `SortedPairs`, `Names`, `Values`, `Remove`.
    Labels(Labels),
    /// Several, with `Firing` and `Resolved` of what has a `Status`, `Names` and `Values` of pairs.
    List(Arc<[Tree]>),
    /// Named parts.
    Struct(Arc<[(&'static str, Tree)]>),
}

impl Tree {
    /// A text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().into())
    }

    pub(super) fn value(&self) -> Val {
        match self {
            Self::Int(number) => Val::Int(*number),
            Self::Float(number) => Val::Float(*number),
            Self::Text(text) => Val::text(text),
            Self::Time(time) => Val::Time(*time),
            Self::Labels(labels) => Val::Labels(labels.clone()),
            Self::List(items) => Val::List(items.clone()),
            Self::Struct(parts) => Val::Struct(parts.clone()),
        }
    }

    /// A part of a struct.
    fn part(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(parts) => part(parts, name),
            _ => None,
        }
    }

    fn is_text(&self, expected: &str) -> bool {
        matches!(self, Self::Text(text) if text.as_ref() == expected)
    }
}

/// The part of that name.
pub(super) fn part<'a>(parts: &'a [(&'static str, Tree)], name: &str) -> Option<&'a Tree> {
    parts.iter().find(|(known, _)| *known == name).map(|(_, part)| part)
}

/// A method of a list.
pub(super) fn of_list(items: &[Tree], name: &str) -> Option<Val> {
    let list: Arc<[Tree]> = match name {
        "Firing" | "Resolved" => {
            let status = name.to_ascii_lowercase();
            items.iter().filter(|item| item.part("Status").is_some_and(|s| s.is_text(&status))).cloned().collect()
        }
        "Names" => items.iter().filter_map(|item| item.part("Name").cloned()).collect(),
        "Values" => items.iter().filter_map(|item| item.part("Value").cloned()).collect(),
        _ => return None,
    };
    Some(Val::List(list))
}

/// A method of labels. The name of the alert stands before all others, as in Alertmanager.
pub(super) fn of_labels(labels: &Labels, name: &str) -> Option<Val> {
    const FIRST: &str = "alertname";
    let first = labels.iter().filter(|(name, _)| *name == FIRST);
    let pairs = first.chain(labels.iter().filter(|(name, _)| *name != FIRST));
    let list: Arc<[Tree]> = match name {
        "SortedPairs" => pairs
            .map(|(name, value)| Tree::Struct([("Name", Tree::text(name)), ("Value", Tree::text(value))].into()))
            .collect(),
        "Names" => pairs.map(|(name, _)| Tree::text(name)).collect(),
        "Values" => pairs.map(|(_, value)| Tree::text(value)).collect(),
        _ => return None,
    };
    Some(Val::List(list))
}

/// The methods that take arguments.
pub(super) fn method(value: &Val, name: &str, args: &[Val]) -> Result<Val, String> {
    match (value, name, args) {
        (Val::Labels(labels), "Remove", [Val::List(names)]) => {
            Ok(Val::Labels(labels.filtered(|label| !names.iter().any(|name| name.is_text(label)))))
        }
        (Val::Labels(_), "Remove", _) => Err("Remove takes (stringSlice \"a\" \"b\")".to_owned()),
        (Val::Time(time), "Format", [Val::Text(layout)]) => Ok(Val::text(super::layout::format(*time, layout)?)),
        (Val::Time(_), "Format", _) => Err("Format takes a layout such as \"2006-01-02 15:04:05\"".to_owned()),
        (value, name, _) => Err(format!("{name} is no method of {} that takes arguments", value.type_name())),
    }
}
