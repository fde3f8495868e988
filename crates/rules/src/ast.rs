//! An expression as a tree. Every node knows where it stands in the text.

use std::ops::Range;

use crate::labels::Matcher;

/// Bytes of the text that a node was read from.
pub type Span = Range<usize>;

/// Milliseconds: times since 1970, and durations.
pub type Millis = i64;

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
}

impl Expr {
    /// Shows this node and all below it, in no certain order. Without recursion.
    pub fn walk<'a>(&'a self, see: &mut dyn FnMut(&'a Expr)) {
        let mut open = vec![self];
        while let Some(expr) = open.pop() {
            see(expr);
            match &expr.kind {
                Kind::Number(_) | Kind::Text(_) | Kind::Vector(_) | Kind::Matrix(..) => {}
                Kind::Subquery(subquery) => open.push(&subquery.expr),
                Kind::Paren(within) | Kind::Negated(within) => open.push(within),
                Kind::Binary(binary) => open.extend([&binary.left, &binary.right]),
                Kind::Aggregate(aggregate) => open.extend(aggregate.param.iter().chain([&aggregate.expr])),
                Kind::Call(call) => open.extend(&call.args),
            }
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `1.5`, `0x1f`, `NaN`, `5m` (a duration counts in seconds).
    Number(f64),
    /// `"text"`.
    Text(String),
    /// `name{label="value"} offset 5m`: the newest sample of each series.
    Vector(Selector),
    /// `name[5m]`: the samples of each series within a range.
    Matrix(Selector, Millis),
    /// `expression[1h:1m] offset 5m`: an expression evaluated again and again.
    Subquery(Box<Subquery>),
    /// `(expression)`.
    Paren(Box<Expr>),
    /// `-expression`. A `+` leaves no node.
    Negated(Box<Expr>),
    /// `left + on (instance) group_left right`.
    Binary(Box<Binary>),
    /// `sum by (mode) (expression)`.
    Aggregate(Box<Aggregate>),
    /// `rate(expression)`.
    Call(Call),
}

/// Which series, and how long ago.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// All that must match, a name before the braces among them as `__name__="name"`.
    pub matchers: Vec<Matcher>,
    /// How far back from the moment of the evaluation; negative is forward.
    pub offset: Millis,
}

/// See [`Kind::Subquery`].
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// Over how long.
    pub range: Millis,
    /// How often; the default is the caller's.
    pub step: Option<Millis>,
    /// How far back.
    pub offset: Millis,
}

/// See [`Kind::Binary`].
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// What stands before it.
    pub left: Expr,
    /// What stands after it.
    pub right: Expr,
    /// `bool`: a comparison gives 0 or 1.
    pub bool: bool,
    /// Between two vectors.
    pub matching: Matching,
}

/// Operators between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as they are written")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    /// `atan2`
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// How elements of two vectors find each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    /// `on` or `ignoring`, with these labels; `ignoring ()` by default.
    pub labels: Grouped,
    /// `group_left` or `group_right`, and the labels that it takes over from the other side.
    pub cardinality: Cardinality,
    /// The labels of `group_left` or `group_right`.
    pub include: Vec<String>,
}

/// How many elements of one side an element of the other may match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cardinality {
    /// One.
    #[default]
    OneToOne,
    /// `group_left`: several on the left.
    ManyToOne,
    /// `group_right`: several on the right.
    OneToMany,
}

/// Labels that are taken, or all but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouped {
    /// `by (…)`, `on (…)`.
    By(Vec<String>),
    /// `without (…)`, `ignoring (…)`.
    Without(Vec<String>),
}

impl Default for Grouped {
    fn default() -> Self {
        Self::Without(Vec::new())
    }
}

/// See [`Kind::Aggregate`].
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// `topk(3, …)`: the number before the expression.
    pub param: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
    /// Into which groups: `By` no label by default.
    pub grouping: Grouped,
}

/// Operators over one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as they are written")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
}

/// See [`Kind::Call`].
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function's name, one of [`FUNCTIONS`](crate::functions::FUNCTIONS).
    pub function: &'static str,
    /// Its arguments, as many and of the types that it takes.
    pub args: Vec<Expr>,
}
