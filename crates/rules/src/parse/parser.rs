//! The grammar, by precedence.

use super::lexer::{Lexer, Token, unquoted};
use super::{MAX_DEPTH, ParseError, check, duration, shown};
use crate::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, Grouped, Kind, Matching, Span};
use crate::functions::{self, Type};

/// Binary operators as they are written, and how tightly they bind. Words count in any case.
pub(crate) const OPERATORS: [(&str, BinaryOp, u8); 16] = [
    ("or", BinaryOp::Or, 1),
    ("and", BinaryOp::And, 2),
    ("unless", BinaryOp::Unless, 2),
    ("==", BinaryOp::Eq, 3),
    ("!=", BinaryOp::Ne, 3),
    ("<", BinaryOp::Lt, 3),
    ("<=", BinaryOp::Le, 3),
    (">", BinaryOp::Gt, 3),
    (">=", BinaryOp::Ge, 3),
    ("+", BinaryOp::Add, 4),
    ("-", BinaryOp::Sub, 4),
    ("*", BinaryOp::Mul, 5),
    ("/", BinaryOp::Div, 5),
    ("%", BinaryOp::Mod, 5),
    ("atan2", BinaryOp::Atan2, 5),
    ("^", BinaryOp::Pow, POWER),
];

/// How tightly `^` binds: more than a sign before its left side, and to the right.
const POWER: u8 = 6;

/// Aggregations as they are written, in any case.
pub(crate) const AGGREGATIONS: [(&str, AggregateOp); 12] = [
    ("sum", AggregateOp::Sum),
    ("avg", AggregateOp::Avg),
    ("count", AggregateOp::Count),
    ("min", AggregateOp::Min),
    ("max", AggregateOp::Max),
    ("group", AggregateOp::Group),
    ("stddev", AggregateOp::Stddev),
    ("stdvar", AggregateOp::Stdvar),
    ("topk", AggregateOp::Topk),
    ("bottomk", AggregateOp::Bottomk),
    ("count_values", AggregateOp::CountValues),
    ("quantile", AggregateOp::Quantile),
];

/// Words that are no metric's name outside of braces, in any case.
pub(crate) const NO_NAMES: [&str; 8] = ["on", "ignoring", "group_left", "group_right", "bool", "atan2", "inf", "nan"];

/// Words that are metrics' names and can't be called, in any case.
const NO_FUNCTIONS: [&str; 13] = [
    "and",
    "or",
    "unless",
    "offset",
    "smoothed",
    "anchored",
    "by",
    "without",
    "fill",
    "fill_left",
    "fill_right",
    "limitk",
    "limit_ratio",
];

pub(super) fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser =
        Parser { text, lexer: Lexer::new(text), token: Token::End, place: 0..0, end: 0, nesting: 0, regexes: 0 };
    parser.advance()?;
    if parser.token == Token::End {
        return Err(ParseError::syntax(0..0, "no expression found in input"));
    }
    let Deep { expr, .. } = parser.expr(0)?;
    if parser.token != Token::End {
        return Err(parser.unexpected("", ""));
    }
    Ok(expr)
}

/// A tree and how many levels it has.
pub(super) struct Deep {
    pub(super) expr: Expr,
    pub(super) depth: usize,
}

pub(super) struct Parser<'a> {
    text: &'a str,
    pub(super) lexer: Lexer<'a>,
    /// The next token, not yet used, and its place.
    pub(super) token: Token<'a>,
    pub(super) place: Span,
    /// Where the last used token ended.
    pub(super) end: usize,
    /// How many calls of [`Self::expr`] are under way.
    nesting: usize,
    pub(super) regexes: usize,
}

impl<'a> Parser<'a> {
    /// Takes the token; the next one is read.
    pub(super) fn advance(&mut self) -> Result<Token<'a>, ParseError> {
        self.end = self.place.end;
        let (token, place) = self.lexer.next()?;
        self.place = place;
        Ok(std::mem::replace(&mut self.token, token))
    }

    pub(super) fn sign(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(found) if found == sign)
    }

    pub(super) fn word(&self, word: &str) -> bool {
        matches!(self.token, Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    /// Takes a sign if it is the next one.
    pub(super) fn take(&mut self, sign: &str) -> Result<bool, ParseError> {
        let found = self.sign(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// The error that the next token does not fit.
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let text = self.text.get(self.place.clone()).unwrap_or_default();
        let mut message = format!("unexpected {}", self.token.describe(text));
        if !context.is_empty() {
            message += &format!(" in {context}");
        }
        if !expected.is_empty() {
            message += &format!(", expected {expected}");
        }
        ParseError::syntax(self.place.clone(), message)
    }

    /// The error that something is refused.
    pub(super) fn refused(span: Span, construct: &str) -> ParseError {
        let Some((construct, reason)) = functions::refused(construct) else {
            return ParseError::syntax(span, format!("BUG: {construct:?} is refused without a reason"));
        };
        // What is no word of PromQL is a description.
        let message =
            if construct.contains(' ') { format!("{construct} {reason}") } else { format!("{construct:?} {reason}") };
        ParseError::unsupported(span, construct, message)
    }

    fn too_deep(span: Span) -> ParseError {
        let message = format!("the expression has more than {MAX_DEPTH} levels here: split it into several rules");
        ParseError::too_large(span, message)
    }

    /// A node over others, the deepest of which has so many levels.
    pub(super) fn node(&self, kind: Kind, start: usize, depth: usize) -> Result<Deep, ParseError> {
        let span = start..self.end;
        if depth >= MAX_DEPTH {
            return Err(Self::too_deep(span));
        }
        Ok(Deep { expr: Expr { kind, span }, depth: depth + 1 })
    }

    /// An expression of operators that bind at least so tightly.
    fn expr(&mut self, least: u8) -> Result<Deep, ParseError> {
        if self.nesting >= MAX_DEPTH {
            return Err(Self::too_deep(self.place.clone()));
        }
        self.nesting += 1;
        let start = self.place.start;
        let mut left = self.signed()?;
        while let Some((op, binds)) = self.operator()? {
            if binds < least {
                break;
            }
            self.advance()?;
            let (bool, matching) = self.modifiers()?;
            let right = self.expr(if binds == POWER { binds } else { binds + 1 })?;
            left = self.binary(op, left, right, (bool, matching), start)?;
        }
        self.nesting -= 1;
        Ok(left)
    }

    fn operator(&self) -> Result<Option<(BinaryOp, u8)>, ParseError> {
        let found = match self.token {
            Token::Sign(sign @ ("</" | ">/")) => return Err(Self::refused(self.place.clone(), sign)),
            Token::Sign(sign) => OPERATORS.iter().find(|(written, ..)| *written == sign),
            Token::Word(word) => OPERATORS.iter().find(|(written, ..)| word.eq_ignore_ascii_case(written)),
            _ => None,
        };
        Ok(found.map(|(_, op, binds)| (*op, *binds)))
    }

    fn binary(
        &self,
        op: BinaryOp,
        left: Deep,
        right: Deep,
        (bool, mut matching): (bool, Matching),
        start: usize,
    ) -> Result<Deep, ParseError> {
        let depth = left.depth.max(right.depth);
        let (left, right) = (left.expr, right.expr);
        let vectors = [&left, &right].iter().all(|side| check::type_of(side) == Type::Vector);
        if !vectors && matches!(&matching.labels, Grouped::By(labels) | Grouped::Without(labels) if labels.is_empty()) {
            // Without labels it is no error beside a number, and means nothing.
            matching = Matching::default();
        }
        self.node(Kind::Binary(Box::new(Binary { op, left, right, bool, matching })), start, depth)
    }

    /// What stands between an operator and its right side.
    fn modifiers(&mut self) -> Result<(bool, Matching), ParseError> {
        let bool = self.word("bool");
        if bool {
            self.advance()?;
        }
        let mut matching = Matching::default();
        let on = self.word("on");
        if on || self.word("ignoring") {
            self.advance()?;
            let labels = self.labels()?;
            matching.labels = if on { Grouped::By(labels) } else { Grouped::Without(labels) };
            let left = self.word("group_left");
            if left || self.word("group_right") {
                self.advance()?;
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.sign("(") {
                    matching.include = self.labels()?;
                }
            }
        }
        for fill in ["fill", "fill_left", "fill_right"] {
            if self.word(fill) && self.lexer.before_parenthesis() {
                return Err(Self::refused(self.place.clone(), fill));
            }
        }
        Ok((bool, matching))
    }

    /// Labels in parentheses.
    fn labels(&mut self) -> Result<Vec<String>, ParseError> {
        let mut labels = Vec::new();
        if !self.take("(")? {
            return Err(self.unexpected("grouping opts", "\"(\""));
        }
        while !self.take(")")? {
            let label = match self.token {
                Token::Word(word) if !word.eq_ignore_ascii_case("without") => word.to_owned(),
                Token::Quoted(quoted) => unquoted(quoted, &self.place)?,
                _ => return Err(self.unexpected("grouping opts", "label")),
            };
            if label.is_empty() {
                return Err(ParseError::syntax(self.place.clone(), "invalid label name for grouping: \"\""));
            }
            self.advance()?;
            labels.push(label);
            if !self.take(",")? && !self.sign(")") {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    /// An operand, maybe with signs before it.
    fn signed(&mut self) -> Result<Deep, ParseError> {
        let start = self.place.start;
        let negative = self.sign("-");
        if !negative && !self.sign("+") {
            let operand = self.operand()?;
            return self.modified(operand, start);
        }
        self.advance()?;
        let mut operand = self.expr(POWER)?;
        let span = start..self.end;
        if let Kind::Number(number) = &mut operand.expr.kind {
            *number = if negative { -*number } else { *number };
            operand.expr.span = span;
            return Ok(operand);
        }
        let found = check::type_of(&operand.expr);
        if !matches!(found, Type::Scalar | Type::Vector) {
            let allowed = "unary expression only allowed on expressions of type scalar or instant vector";
            return Err(ParseError::types(span, format!("{allowed}, got \"{found}\"")));
        }
        if negative {
            return self.node(Kind::Negated(Box::new(operand.expr)), start, operand.depth);
        }
        Ok(operand)
    }

    fn operand(&mut self) -> Result<Deep, ParseError> {
        let place = self.place.clone();
        match self.token {
            Token::Number(number) => {
                self.advance()?;
                self.node(Kind::Number(number), place.start, 0)
            }
            Token::Duration(millis) => {
                self.advance()?;
                self.node(Kind::Number(duration::seconds(millis)), place.start, 0)
            }
            Token::Quoted(quoted) => {
                let text = unquoted(quoted, &place)?;
                self.advance()?;
                self.node(Kind::Text(text), place.start, 0)
            }
            Token::Sign("(") => {
                self.advance()?;
                let inner = self.expr(0)?;
                if !self.take(")")? {
                    return Err(self.unexpected("", "\")\""));
                }
                self.node(Kind::Paren(Box::new(inner.expr)), place.start, inner.depth)
            }
            Token::Sign("{") => self.selector(None, place.start),
            Token::Word(word) => self.named(word, place),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// What begins with a name: an aggregation, a call or a metric.
    fn named(&mut self, word: &'a str, place: Span) -> Result<Deep, ParseError> {
        let is = |known: &&str| word.eq_ignore_ascii_case(known);
        if NO_NAMES.iter().any(&is) {
            return Err(self.unexpected("", ""));
        }
        self.advance()?;
        let called = self.sign("(");
        let aggregated = called || self.word("by") || self.word("without");
        if aggregated && let Some((_, op)) = AGGREGATIONS.iter().find(|(name, _)| is(name)) {
            return self.aggregate(*op, place.start);
        }
        if aggregated && let Some(refused) = ["limitk", "limit_ratio"].into_iter().find(|name| is(name)) {
            return Err(Self::refused(place, refused));
        }
        if called && !word.contains(':') && !NO_FUNCTIONS.iter().any(is) {
            return self.call(word, place);
        }
        self.selector(Some(word), place.start)
    }

    fn call(&mut self, name: &str, place: Span) -> Result<Deep, ParseError> {
        if functions::refused(name).is_some() {
            return Err(Self::refused(place, name));
        }
        let Some(function) = functions::find(name) else {
            return Err(ParseError::syntax(place, format!("unknown function with name {:?}", shown(name))));
        };
        let (args, depth) = self.arguments()?;
        self.node(Kind::Call(Call { function: function.name, args }), place.start, depth)
    }

    /// Expressions in parentheses, and the levels of the deepest.
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize), ParseError> {
        let (mut args, mut depth) = (Vec::new(), 0);
        if !self.take("(")? {
            return Err(self.unexpected("aggregation", "\"(\""));
        }
        if self.take(")")? {
            return Ok((args, depth));
        }
        loop {
            let arg = self.expr(0)?;
            depth = depth.max(arg.depth);
            args.push(arg.expr);
            let comma = self.place.clone();
            if self.take(")")? {
                return Ok((args, depth));
            }
            if !self.take(",")? {
                return Err(self.unexpected("", "\",\" or \")\""));
            }
            if self.sign(")") {
                return Err(ParseError::syntax(comma, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp, start: usize) -> Result<Deep, ParseError> {
        let mut grouping = self.grouping()?;
        let (args, depth) = self.arguments()?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let span = start..self.end;
        let wanted = match op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::CountValues | AggregateOp::Quantile => 2,
            _ => 1,
        };
        let got = args.len();
        let mut args = args.into_iter();
        let param = if wanted == 2 { args.next() } else { None };
        let (Some(expr), true) = (args.next(), got == wanted) else {
            return Err(ParseError::syntax(
                span,
                if got == 0 {
                    "no arguments for aggregate expression provided".to_owned()
                } else {
                    let wrong = "wrong number of arguments for aggregate expression provided";
                    format!("{wrong}, expected {wanted}, got {got}")
                },
            ));
        };
        let grouping = grouping.unwrap_or(Grouped::By(Vec::new()));
        self.node(Kind::Aggregate(Box::new(Aggregate { op, param, expr, grouping })), start, depth)
    }

    fn grouping(&mut self) -> Result<Option<Grouped>, ParseError> {
        let by = self.word("by");
        if !by && !self.word("without") {
            return Ok(None);
        }
        self.advance()?;
        let labels = self.labels()?;
        Ok(Some(if by { Grouped::By(labels) } else { Grouped::Without(labels) }))
    }
}
