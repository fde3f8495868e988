//! Whether the parts of a tree fit together, with Prometheus' messages.

use super::{ParseError, shown};
use crate::ast::{Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, Grouped, Kind};
use crate::functions::{self, Last, Type};
use crate::pattern::anchored;

/// What an expression evaluates to. A call of what is no function gives a vector.
pub(super) fn type_of(expr: &Expr) -> Type {
    match &expr.kind {
        Kind::Number(_) => Type::Scalar,
        Kind::Text(_) => Type::Text,
        Kind::Vector(_) | Kind::Aggregate(_) => Type::Vector,
        Kind::Matrix(..) | Kind::Subquery(_) => Type::Matrix,
        Kind::Paren(inner) | Kind::Negated(inner) => type_of(inner),
        Kind::Binary(binary) if type_of(&binary.left) == Type::Scalar && type_of(&binary.right) == Type::Scalar => {
            Type::Scalar
        }
        Kind::Binary(_) => Type::Vector,
        Kind::Call(call) => functions::find(call.function).map_or(Type::Vector, |function| function.returns),
    }
}

/// Finds the first part that does not fit.
pub(super) fn check(expr: &Expr) -> Result<Type, ParseError> {
    match &expr.kind {
        // The parser has seen to the type of what a sign stands before.
        Kind::Paren(inner) | Kind::Negated(inner) => check(inner),
        Kind::Subquery(subquery) => match check(&subquery.expr)? {
            Type::Vector => Ok(Type::Matrix),
            found => {
                let message = format!("subquery is only allowed on instant vector, got {found} instead");
                Err(ParseError::types(expr.span.clone(), message))
            }
        },
        Kind::Aggregate(aggregate) => of_aggregate(aggregate),
        Kind::Binary(binary) => of_binary(expr, binary),
        Kind::Call(call) => of_call(expr, call),
        Kind::Number(_) | Kind::Text(_) | Kind::Vector(_) | Kind::Matrix(..) => Ok(type_of(expr)),
    }
}

fn expect(expr: &Expr, wanted: Type, context: &str) -> Result<(), ParseError> {
    let found = check(expr)?;
    if found == wanted {
        return Ok(());
    }
    Err(ParseError::types(expr.span.clone(), format!("expected type {wanted} in {context}, got {found}")))
}

fn of_aggregate(aggregate: &Aggregate) -> Result<Type, ParseError> {
    expect(&aggregate.expr, Type::Vector, "aggregation expression")?;
    if let Some(param) = &aggregate.param {
        let wanted = if aggregate.op == AggregateOp::CountValues { Type::Text } else { Type::Scalar };
        expect(param, wanted, "aggregation parameter")?;
    }
    Ok(Type::Vector)
}

fn of_binary(expr: &Expr, binary: &Binary) -> Result<Type, ParseError> {
    let (left, right) = (check(&binary.left)?, check(&binary.right)?);
    let between = || binary.left.span.end..binary.right.span.start;
    let comparison = binary.op.is_comparison();
    let scalars = left == Type::Scalar && right == Type::Scalar;
    let vectors = left == Type::Vector && right == Type::Vector;
    if binary.bool && !comparison {
        return Err(ParseError::types(between(), "bool modifier can only be used on comparison operators"));
    }
    if comparison && !binary.bool && scalars {
        return Err(ParseError::types(between(), "comparisons between scalars must use BOOL modifier"));
    }
    let matching = &binary.matching;
    let (Grouped::By(labels) | Grouped::Without(labels)) = &matching.labels;
    if let Grouped::By(on) = &matching.labels
        && let Some(label) = on.iter().find(|label| matching.include.contains(label))
    {
        let message = format!("label {:?} must not occur in ON and GROUP clause at once", shown(label));
        return Err(ParseError::types(between(), message));
    }
    for (side, found) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(found, Type::Scalar | Type::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(ParseError::types(side.span.clone(), message));
        }
    }
    if !vectors && !labels.is_empty() {
        return Err(ParseError::types(expr.span.clone(), "vector matching only allowed between instant vectors"));
    }
    if binary.op.is_set() && !vectors {
        let message = format!("set operator {:?} not allowed in binary scalar expression", binary.op.as_str());
        return Err(ParseError::types(expr.span.clone(), message));
    }
    if binary.op.is_set() && matching.cardinality != Cardinality::OneToOne {
        let message = format!("no grouping allowed for {:?} operation", binary.op.as_str());
        return Err(ParseError::types(expr.span.clone(), message));
    }
    Ok(if scalars { Type::Scalar } else { Type::Vector })
}

fn of_call(expr: &Expr, call: &Call) -> Result<Type, ParseError> {
    let name = call.function;
    let Some(function) = functions::find(name) else {
        return Err(ParseError::types(expr.span.clone(), format!("unknown function with name {name:?}")));
    };
    let (wanted, got) = (function.args.len(), call.args.len());
    let least = if function.last == Last::Once { wanted } else { wanted.saturating_sub(1) };
    let how = match function.last {
        Last::Once if got != wanted => Some(("", wanted)),
        _ if got < least => Some(("at least ", least)),
        Last::Optional if got > wanted => Some(("at most ", wanted)),
        _ => None,
    };
    if let Some((how, wanted)) = how {
        let message = format!("expected {how}{wanted} argument(s) in call to {name:?}, got {got}");
        return Err(ParseError::types(expr.span.clone(), message));
    }
    for (at, arg) in call.args.iter().enumerate() {
        if let Some(wanted) = function.args.get(at).or(function.args.last()) {
            expect(arg, *wanted, &format!("call to function {name:?}"))?;
        }
    }
    if name == "label_replace"
        && let Some(Expr { kind: Kind::Text(pattern), span }) = call.args.last()
        && let Some(error) = anchored(pattern).err().filter(|error| error.unsupported)
    {
        // What is no pattern in Prometheus either fails when it is evaluated, as there.
        return Err(ParseError::pattern(span.clone(), pattern, &error));
    }
    Ok(function.returns)
}
