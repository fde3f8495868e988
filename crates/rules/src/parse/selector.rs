//! Selectors, and what may follow an operand: ranges and offsets.

use super::lexer::{Token, unquoted};
use super::parser::{Deep, Parser};
use super::{MAX_REGEXES, ParseError, duration, shown};
use crate::ast::{Kind, Millis, Selector, Span, Subquery};
use crate::functions::{DURATION_ARITHMETIC, OR_IN_BRACES};
use crate::labels::{MatchOp, Matcher};
use crate::sample::NAME;

impl Parser<'_> {
    /// A selector, its name already taken.
    pub(super) fn selector(&mut self, name: Option<&str>, start: usize) -> Result<Deep, ParseError> {
        let mut matchers = Vec::new();
        if let Some(name) = name {
            matchers.push(self.matcher(NAME, MatchOp::Equal, name, start..self.end)?);
        }
        if self.take("{")? {
            while !self.take("}")? {
                let matcher = self.condition()?;
                if let Some(name) = name
                    && matcher.name == NAME
                {
                    let message =
                        format!("metric name must not be set twice: {:?} or {:?}", shown(name), shown(&matcher.value));
                    return Err(ParseError::types(start..self.end, message));
                }
                matchers.push(matcher);
                if self.word("or") {
                    return Err(Self::refused(self.place.clone(), OR_IN_BRACES));
                }
                if !self.take(",")? && !self.sign("}") {
                    return Err(self.unexpected("label matching", "\",\" or \"}\""));
                }
            }
        }
        if matchers.iter().all(|matcher| matcher.matches("")) {
            let message = "vector selector must contain at least one non-empty matcher";
            return Err(ParseError::types(start..self.end, message));
        }
        self.node(Kind::Vector(Selector { matchers, offset: 0 }), start, 0)
    }

    /// One condition inside braces, or a metric's name in quotes.
    fn condition(&mut self) -> Result<Matcher, ParseError> {
        let start = self.place.start;
        let (name, quoted) = match self.token {
            Token::Word(word) => (word.to_owned(), false),
            Token::Quoted(quoted) => (unquoted(quoted, &self.place)?, true),
            _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
        };
        self.advance()?;
        let op = match self.token {
            Token::Sign("=") => MatchOp::Equal,
            Token::Sign("!=") => MatchOp::NotEqual,
            Token::Sign("=~") => MatchOp::Regex,
            Token::Sign("!~") => MatchOp::NotRegex,
            _ if quoted => return self.matcher(NAME, MatchOp::Equal, &name, start..self.end),
            _ => return Err(self.unexpected("label matching", "label matching operator")),
        };
        self.advance()?;
        let Token::Quoted(value) = self.token else {
            return Err(self.unexpected("label matching", "string"));
        };
        let value = unquoted(value, &self.place)?;
        self.advance()?;
        self.matcher(&name, op, &value, start..self.end)
    }

    fn matcher(&mut self, name: &str, op: MatchOp, value: &str, span: Span) -> Result<Matcher, ParseError> {
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.regexes += 1;
            if self.regexes > MAX_REGEXES {
                let message = format!("the expression has more than {MAX_REGEXES} regular expressions");
                return Err(ParseError::too_large(span, message));
            }
        }
        Matcher::new(name, op, value).map_err(|error| ParseError::pattern(span, value, &error))
    }

    /// What follows an operand: ranges and offsets.
    pub(super) fn modified(&mut self, mut operand: Deep, start: usize) -> Result<Deep, ParseError> {
        loop {
            let place = self.place.clone();
            operand = match self.token {
                Token::Sign("[") => self.range(operand, start)?,
                Token::Sign("@") => return Err(Self::refused(place, "@")),
                Token::Word(word) if word.eq_ignore_ascii_case("offset") => self.offset(operand, start)?,
                Token::Word(word) => match ["anchored", "smoothed"].iter().find(|it| word.eq_ignore_ascii_case(it)) {
                    Some(construct) => return Err(Self::refused(place, construct)),
                    None => return Ok(operand),
                },
                _ => return Ok(operand),
            };
        }
    }

    fn range(&mut self, operand: Deep, start: usize) -> Result<Deep, ParseError> {
        let bracket = self.place.start;
        self.advance()?;
        let range = self.positive("subquery or range selector")?;
        let Deep { expr, depth } = operand;
        if self.take(":")? {
            let step = if self.sign("]") { None } else { Some(self.positive("subquery selector")?) };
            if !self.take("]")? {
                return Err(self.unexpected("subquery selector", "\"]\""));
            }
            let subquery = Subquery { expr, range, step, offset: 0 };
            return self.node(Kind::Subquery(Box::new(subquery)), start, depth);
        }
        if !self.take("]")? {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        match expr.kind {
            Kind::Vector(selector) if selector.offset == 0 => self.node(Kind::Matrix(selector, range), start, 0),
            Kind::Vector(_) => Err(ParseError::syntax(bracket..self.end, "no offset modifiers allowed before range")),
            _ => Err(ParseError::syntax(bracket..self.end, "ranges only allowed for vector selectors")),
        }
    }

    fn positive(&mut self, context: &str) -> Result<Millis, ParseError> {
        let (seconds, span) = self.duration(context)?;
        match self.token {
            Token::Sign("]" | ":") => {}
            Token::Sign("+" | "-" | "*" | "/" | "%" | "^") => return Err(Self::refused(span, DURATION_ARITHMETIC)),
            _ => return Err(self.unexpected("subquery or range", "\":\" or \"]\"")),
        }
        if seconds <= 0.0 {
            return Err(ParseError::syntax(span, "duration must be greater than 0"));
        }
        Self::millis(seconds, span)
    }

    fn millis(seconds: f64, span: Span) -> Result<Millis, ParseError> {
        duration::of_seconds(seconds).ok_or_else(|| ParseError::syntax(span, "duration out of range"))
    }

    /// A duration or a number of seconds, with signs.
    fn duration(&mut self, context: &str) -> Result<(f64, Span), ParseError> {
        let start = self.place.start;
        let mut sign = 1.0;
        loop {
            if self.sign("-") {
                sign = -sign;
            } else if !self.sign("+") {
                break;
            }
            self.advance()?;
        }
        let seconds = match self.token {
            Token::Number(seconds) => seconds,
            Token::Duration(millis) => duration::seconds(millis),
            Token::Sign("(") => return Err(Self::refused(self.place.clone(), DURATION_ARITHMETIC)),
            Token::Word(word) => {
                let functions = ["step", "range", "max_of", "min_of"];
                return Err(match functions.into_iter().find(|function| word.eq_ignore_ascii_case(function)) {
                    Some(_) if self.lexer.before_parenthesis() => {
                        Self::refused(self.place.clone(), DURATION_ARITHMETIC)
                    }
                    _ => self.unexpected(context, "number or duration"),
                });
            }
            _ => return Err(self.unexpected(context, "number or duration")),
        };
        self.advance()?;
        Ok((sign * seconds, start..self.end))
    }

    fn offset(&mut self, operand: Deep, start: usize) -> Result<Deep, ParseError> {
        self.advance()?;
        let (seconds, span) = self.duration("offset")?;
        let millis = Self::millis(seconds, span.clone())?;
        let Deep { mut expr, depth } = operand;
        let place = match &mut expr.kind {
            Kind::Vector(selector) | Kind::Matrix(selector, _) => &mut selector.offset,
            Kind::Subquery(subquery) => &mut subquery.offset,
            _ => {
                let wanted = "an instant vector selector or range vector selector or a subquery";
                return Err(ParseError::syntax(expr.span, format!("offset modifier must be preceded by {wanted}")));
            }
        };
        if *place != 0 {
            return Err(ParseError::syntax(span, "offset may not be set multiple times"));
        }
        *place = millis;
        expr.span = start..self.end;
        Ok(Deep { expr, depth })
    }
}
