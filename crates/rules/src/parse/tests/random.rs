//! Random expressions print as they were read, and damaged ones never make the parser panic.

use super::*;
use crate::ast::{AggregateOp, BinaryOp};
use crate::testing::Random;

impl Random {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.place(of.len())]
    }

    fn labels(&mut self) -> String {
        let count = self.place(4);
        let names = ["a", "le", "sum", "by", "\"b.c\"", "'\u{e9}'", "__name__", "bool"];
        (0..count).map(|_| self.one(&names)).collect::<Vec<_>>().join(self.one(&[",", " , ", ",\n"]))
    }

    fn text(&mut self) -> &'static str {
        self.one(&[
            "\"\"",
            "'it\\'s'",
            "`\\d+`",
            "\"\\\"\\\\ \\n\\t\\x01\\u0085\"",
            "\"\u{e9}\u{1f600}\"",
            "'.*x'",
            "\"a|b\"",
        ])
    }

    fn selector(&mut self) -> String {
        let name = self.one(&["up", "a:b", "sum", "offset", "_x1", "Start", "fill", ""]);
        let mut conditions = Vec::new();
        for _ in 0..self.place(4) {
            let label = self.one(&["a", "by", "nan", "\"b.c\"", "'\\x41'"]);
            let (op, value) = (self.one(&["=", "!=", " =~ ", "!~"]), self.text());
            conditions.push(format!("{label}{op}{value}"));
        }
        if name.is_empty() {
            let more = ["\"my.metric\"", "__name__=\"bool\"", "__name__=~\"a.+\"", "a=\"x\"", "'inf'", "__name__='up'"];
            conditions.insert(self.place(conditions.len() + 1), self.one(&more).to_owned());
        }
        let comma = self.one(&["", ",", " , "]);
        match conditions.as_slice() {
            [] => name.to_owned(),
            conditions => format!("{name}{{{}{comma}}}", conditions.join(",")),
        }
    }

    fn duration(&mut self) -> &'static str {
        self.one(&["5m", "1h30m", "90", "1y2w3d4h5m6s7ms", "0.25", "14d", "7s", "0x10"])
    }

    fn offset(&mut self) -> String {
        let sign = self.one(&["", "-", "- "]);
        if self.place(3) == 0 { format!(" offset {sign}{}", self.duration()) } else { String::new() }
    }

    fn scalar(&mut self, depth: usize) -> String {
        match self.place(if depth == 0 { 3 } else { 7 }) {
            0 => self.one(&["1", "0.5", "1e9", "+Inf", "-inf", "NaN", "0x1f", "-0", "1e-9", "5m", "1_000"]).to_owned(),
            1 => "time()".to_owned(),
            2 => "pi()".to_owned(),
            3 => format!("scalar({})", self.vector(depth - 1)),
            4 => format!("({})", self.scalar(depth - 1)),
            5 => format!("{} {}", self.one(&["-", "+"]), self.scalar(depth - 1)),
            _ => {
                let op = self.one(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", "<bool"]);
                format!("{} {op} {}", self.scalar(depth - 1), self.scalar(depth - 1))
            }
        }
    }

    fn matrix(&mut self, depth: usize) -> String {
        let (range, offset) = (self.duration(), self.offset());
        if depth == 0 || self.place(3) > 0 {
            return format!("{}[{range}]{offset}", self.selector());
        }
        let step = if self.place(2) == 0 { "" } else { self.duration() };
        let inner = self.vector(depth - 1);
        format!("({inner})[{range}:{step}]{offset}")
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.selector() + &self.offset();
        }
        let depth = depth - 1;
        match self.place(9) {
            0 => self.selector() + &self.offset(),
            1 => format!("({})", self.vector(depth)),
            2 => format!("{}{}", self.one(&["-", "+", "- # sign\n"]), self.vector(depth)),
            3 => {
                let op = self.one(&["sum", "AVG", "min", "max", "count", "group", "stddev", "stdvar"]);
                match self.place(3) {
                    0 => format!("{op}({})", self.vector(depth)),
                    1 => format!("{op} by ({}) ({})", self.labels(), self.vector(depth)),
                    _ => format!("{op}({}) without({})", self.vector(depth), self.labels()),
                }
            }
            4 => {
                let op = self.one(&["topk", "bottomk", "quantile"]);
                format!("{op}({}, {})", self.scalar(depth), self.vector(depth))
            }
            5 => {
                let op = self.one(&["and", "or", "unless", "AND"]);
                let matching = if self.place(2) == 0 { String::new() } else { format!("on ({}) ", self.labels()) };
                format!("{} {op} {matching}{}", self.vector(depth), self.vector(depth))
            }
            6 => {
                let op =
                    self.one(&["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<= bool", ">bool"]);
                let matching = match self.place(4) {
                    0 => format!("ignoring({})", self.labels()),
                    1 => format!("on({}) group_left ()", self.labels()),
                    2 => format!("ignoring({}) group_right(z)", self.labels()),
                    _ => String::new(),
                };
                format!("{} {op} {matching} {}", self.vector(depth), self.vector(depth))
            }
            7 => format!("{} {} {}", self.scalar(depth), self.one(&["+", "*", "^", "<"]), self.vector(depth)),
            _ => self.call(depth),
        }
    }

    fn call(&mut self, depth: usize) -> String {
        let vectors: Vec<_> = FUNCTIONS.iter().filter(|function| function.returns == Type::Vector).collect();
        let function = vectors[self.place(vectors.len())];
        let args: Vec<String> = function
            .args
            .iter()
            .map(|arg| match arg {
                Type::Scalar => self.scalar(depth),
                Type::Text => self.text().to_owned(),
                Type::Vector => self.vector(depth),
                Type::Matrix => self.matrix(depth),
            })
            .collect();
        format!("{} ({})", function.name, args.join(" ,"))
    }
}

/// The tree without its places, and without NaN, which is equal to nothing.
fn bare(mut expr: Expr) -> Expr {
    expr.span = 0..0;
    match &mut expr.kind {
        Kind::Number(number) if number.is_nan() => *number = 12345.0,
        Kind::Number(_) | Kind::Text(_) | Kind::Vector(_) | Kind::Matrix(..) => {}
        Kind::Subquery(subquery) => subquery.expr = bare(subquery.expr.clone()),
        Kind::Paren(inner) | Kind::Negated(inner) => **inner = bare((**inner).clone()),
        Kind::Binary(binary) => {
            binary.left = bare(binary.left.clone());
            binary.right = bare(binary.right.clone());
        }
        Kind::Aggregate(aggregate) => {
            aggregate.param = aggregate.param.take().map(bare);
            aggregate.expr = bare(aggregate.expr.clone());
        }
        Kind::Call(call) => call.args = call.args.drain(..).map(bare).collect(),
    }
    expr
}

#[test]
fn what_is_printed_parses_to_the_same_tree() {
    let mut left_out = 0;
    for seed in 0..4_000 {
        let mut random = Random(seed);
        let depth = random.place(5);
        let text = random.vector(depth);
        let expr = match parse(&text) {
            Ok(expr) => expr,
            // The generator does not look after types.
            Err(error) if error.kind == ParseErrorKind::Type => {
                left_out += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error} at {:?} in {text}", error.span),
        };
        let printed = expr.to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("seed {seed}: {error} in {printed} of {text}"));
        assert_eq!(bare(again), bare(expr), "seed {seed}: {printed} of {text}");
    }
    assert!(left_out < 400, "{left_out} are too many");
}

#[test]
fn damaged_expressions_are_parsed_or_refused() {
    for seed in 0..4_000 {
        let mut random = Random(seed);
        let mut text: Vec<char> = random.vector(3).chars().collect();
        for _ in 0..=random.place(4) {
            let at = random.place(text.len());
            match random.place(3) {
                0 => drop(text.remove(at)),
                1 => text.insert(
                    at,
                    random.one(&["(", ")", "[", "}", "\"", "\\", ":", "0", "@", "e"]).chars().next().unwrap(),
                ),
                _ => text.truncate(at + 1),
            }
            if text.is_empty() {
                break;
            }
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(expr) => assert!(parse(&expr.to_string()).is_ok(), "{expr} of {text}"),
            Err(error) => {
                assert!(text.get(error.span.clone()).is_some(), "{:?} is no part of {text:?}", error.span);
                assert!(error.line_column(&text).0 >= 1);
            }
        }
    }
}

#[test]
fn operators_have_their_spelling() {
    assert_eq!((BinaryOp::Unless.as_str(), BinaryOp::Ge.as_str()), ("unless", ">="));
    assert_eq!((AggregateOp::CountValues.as_str(), AggregateOp::Group.as_str()), ("count_values", "group"));
}
