//! Expressions as text, in the form that Prometheus prints.

use std::fmt::{self, Display, Formatter};

use crate::ast::{AggregateOp, Binary, BinaryOp, Cardinality, Expr, Grouped, Kind, Matching, Millis, Selector};
use crate::labels::{MatchOp, Matcher, Name, Quoted};
use crate::parse::{AGGREGATIONS, NO_NAMES, OPERATORS, duration};
use crate::sample::NAME;

impl BinaryOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        OPERATORS.iter().find(|(_, op, _)| *op == self).map_or("", |(written, ..)| written)
    }
}

impl AggregateOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        AGGREGATIONS.iter().find(|(_, op)| *op == self).map_or("", |(written, _)| written)
    }
}

/// PromQL that gives the same tree when parsed. Of a tree that does not come from the parser, parentheses are part.
impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Number(number) => write_number(f, *number),
            Kind::Text(text) => Quoted(text).fmt(f),
            Kind::Vector(selector) => {
                selector.fmt(f)?;
                write_offset(f, selector.offset)
            }
            Kind::Matrix(selector, range) => {
                write!(f, "{selector}[{}]", duration::format(*range))?;
                write_offset(f, selector.offset)
            }
            Kind::Subquery(subquery) => {
                let step = subquery.step.map(duration::format).unwrap_or_default();
                write!(f, "{}[{}:{step}]", subquery.expr, duration::format(subquery.range))?;
                write_offset(f, subquery.offset)
            }
            Kind::Paren(inner) => write!(f, "({inner})"),
            Kind::Negated(inner) => write!(f, "-{inner}"),
            Kind::Binary(binary) => binary.fmt(f),
            Kind::Aggregate(aggregate) => {
                f.write_str(aggregate.op.as_str())?;
                match &aggregate.grouping {
                    Grouped::By(labels) if labels.is_empty() => {}
                    Grouped::By(labels) => write!(f, " by ({}) ", Names(labels))?,
                    Grouped::Without(labels) => write!(f, " without ({}) ", Names(labels))?,
                }
                f.write_str("(")?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            Kind::Call(call) => {
                write!(f, "{}(", call.function)?;
                for (at, arg) in call.args.iter().enumerate() {
                    write!(f, "{}{arg}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bool = if self.bool { " bool" } else { "" };
        write!(f, "{} {}{bool}{} {}", self.left, self.op.as_str(), self.matching, self.right)
    }
}

/// With a blank before each part; nothing by default.
impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.labels {
            Grouped::Without(labels) if labels.is_empty() && self.cardinality == Cardinality::OneToOne => {}
            Grouped::By(labels) => write!(f, " on ({})", Names(labels))?,
            Grouped::Without(labels) => write!(f, " ignoring ({})", Names(labels))?,
        }
        match self.cardinality {
            Cardinality::OneToOne => Ok(()),
            Cardinality::ManyToOne => write!(f, " group_left ({})", Names(&self.include)),
            Cardinality::OneToMany => write!(f, " group_right ({})", Names(&self.include)),
        }
    }
}

/// Without the offset, which stands behind a range.
impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, rest) = match self.matchers.split_first() {
            Some((first, rest)) if names(first) && rest.iter().all(|matcher| matcher.name != NAME) => {
                (first.value.as_str(), rest)
            }
            _ => ("", self.matchers.as_slice()),
        };
        f.write_str(name)?;
        if rest.is_empty() {
            return Ok(());
        }
        for (at, matcher) in rest.iter().enumerate() {
            write!(f, "{}{matcher}", if at == 0 { "{" } else { "," })?;
        }
        f.write_str("}")
    }
}

/// Whether a condition can be written as a name before the braces.
fn names(matcher: &Matcher) -> bool {
    let name = matcher.value.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    matcher.name == NAME
        && matcher.op == MatchOp::Equal
        && name.starts_with(|first: char| plain(first) && !first.is_ascii_digit())
        && name.chars().all(plain)
        && !NO_NAMES.iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Labels in a list.
struct Names<'a>(&'a [String]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            // In a list, but not in braces, these words would be read as numbers or as the list's own.
            let word = ["inf", "nan", "without"].iter().any(|word| name.eq_ignore_ascii_case(word));
            f.write_str(if at == 0 { "" } else { ", " })?;
            if word { Quoted(name).fmt(f)? } else { Name(name).fmt(f)? }
        }
        Ok(())
    }
}

fn write_offset(f: &mut Formatter<'_>, offset: Millis) -> fmt::Result {
    if offset == 0 { Ok(()) } else { write!(f, " offset {}", duration::format(offset)) }
}

fn write_number(f: &mut Formatter<'_>, number: f64) -> fmt::Result {
    if number.is_infinite() {
        return f.write_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    }
    number.fmt(f)
}
