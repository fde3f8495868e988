//! Words, numbers and signs of PromQL.

use super::{ParseError, duration, shown};
use crate::ast::{Millis, Span};
use crate::functions::NOT_UTF8;

/// What the parser sees of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// Nothing more.
    End,
    /// A name or a keyword.
    Word(&'a str),
    /// A number, `Inf` and `NaN` among them.
    Number(f64),
    /// A number with units.
    Duration(Millis),
    /// A text with its quotes.
    Quoted(&'a str),
    /// A sign, such as `(` or `!=`.
    Sign(&'static str),
}

impl Token<'_> {
    /// As a message calls it.
    pub(super) fn describe(&self, text: &str) -> String {
        let text = shown(text);
        match self {
            Self::End => "end of input".to_owned(),
            Self::Word(_) => format!("identifier {text:?}"),
            Self::Number(_) => format!("number {text:?}"),
            Self::Duration(_) => format!("duration {text:?}"),
            Self::Quoted(_) => format!("string {text}"),
            Self::Sign(sign) => format!("{sign:?}"),
        }
    }
}

/// Signs outside braces, the longer ones first.
const SIGNS: [&str; 22] = [
    "==", "!=", "<=", ">=", "</", ">/", "=", "<", ">", "+", "-", "*", "/", "%", "^", "(", ")", "{", "[", "]", ",", "@",
];

/// Signs inside braces, the longer ones first.
const SIGNS_INSIDE: [&str; 6] = ["=~", "!~", "!=", "=", ",", "}"];

/// Takes the text apart. Braces and brackets have their own rules.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parens: usize,
    brace: bool,
    bracket: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, parens: 0, brace: false, bracket: false }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Whether the next thing but blanks is a `(`.
    pub(super) fn before_parenthesis(&self) -> bool {
        self.rest().trim_start_matches(BLANKS).starts_with('(')
    }

    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let mut kept = rest.trim_start_matches(BLANKS);
            if kept.starts_with('#') {
                kept = kept.find(['\n', '\r']).and_then(|end| kept.get(end..)).unwrap_or_default();
            }
            if kept.len() == rest.len() {
                return;
            }
            self.at += rest.len() - kept.len();
        }
    }

    /// The next token and its place.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Span), ParseError> {
        self.skip();
        let (start, rest) = (self.at, self.rest());
        let mut chars = rest.chars();
        let Some(first) = chars.next() else { return self.end() };
        let token = match first {
            '"' | '\'' | '`' => self.quoted(first)?,
            'a'..='z' | 'A'..='Z' | '_' => self.word(),
            ':' if self.bracket => {
                self.at += 1;
                Token::Sign(":")
            }
            ':' if !self.brace => self.word(),
            '0'..='9' if !self.brace => self.number()?,
            '.' if !self.brace && chars.next().is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            _ => self.sign(first)?,
        };
        Ok((token, start..self.at))
    }

    fn end(&self) -> Result<(Token<'a>, Span), ParseError> {
        let place = self.at..self.at;
        let missing = match self {
            Self { brace: true, .. } => "unexpected end of input inside braces",
            Self { parens: 1.., .. } => "unclosed left parenthesis",
            Self { bracket: true, .. } => "unclosed left bracket",
            _ => return Ok((Token::End, place)),
        };
        Err(ParseError::syntax(place, missing))
    }

    fn word(&mut self) -> Token<'a> {
        let colons = !self.brace && !self.bracket;
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':')));
        let word = length.and_then(|length| rest.get(..length)).unwrap_or(rest);
        self.at += word.len();
        if colons && word.eq_ignore_ascii_case("inf") {
            return Token::Number(f64::INFINITY);
        }
        if colons && word.eq_ignore_ascii_case("nan") {
            return Token::Number(f64::NAN);
        }
        Token::Word(word)
    }

    fn sign(&mut self, first: char) -> Result<Token<'a>, ParseError> {
        let signs: &[&'static str] = if self.brace { &SIGNS_INSIDE } else { &SIGNS };
        let rest = self.rest();
        let place = self.at..self.at + first.len_utf8();
        let Some(sign) = signs.iter().find(|sign| rest.starts_with(**sign)) else {
            let inside = if self.brace { " inside braces" } else { "" };
            return Err(ParseError::syntax(place, format!("unexpected character{inside}: {first:?}")));
        };
        match *sign {
            "(" => self.parens += 1,
            ")" if self.parens == 0 => return Err(ParseError::syntax(place, "unexpected right parenthesis ')'")),
            ")" => self.parens -= 1,
            "{" => self.brace = true,
            "}" => self.brace = false,
            "[" if self.bracket => return Err(ParseError::syntax(place, "unexpected left bracket '['")),
            "[" => self.bracket = true,
            "]" if !self.bracket => return Err(ParseError::syntax(place, "unexpected right bracket ']'")),
            "]" => self.bracket = false,
            "=" if rest.starts_with("=~") => {
                return Err(ParseError::syntax(place, "unexpected character after '=': '~'"));
            }
            _ => {}
        }
        self.at += sign.len();
        Ok(Token::Sign(sign))
    }

    /// All that looks like a number or a duration, and then what it is.
    fn number(&mut self) -> Result<Token<'a>, ParseError> {
        let rest = self.rest();
        let hex = rest.starts_with("0x") || rest.starts_with("0X");
        let mut before = ' ';
        let length = rest.find(|c: char| {
            let exponent = !hex && matches!(before, 'e' | 'E') && matches!(c, '+' | '-');
            before = c;
            !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || exponent)
        });
        let word = length.and_then(|length| rest.get(..length)).unwrap_or(rest);
        let place = self.at..self.at + word.len();
        self.at = place.end;
        if hex || word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'_' | b'e' | b'E' | b'+' | b'-')) {
            return match number(word, hex) {
                Some(number) => Ok(Token::Number(number)),
                None => Err(ParseError::syntax(place, format!("bad number, or out of range: {:?}", shown(word)))),
            };
        }
        let plain = word.bytes().all(|byte| byte.is_ascii_digit() || b"ymwdhs".contains(&byte));
        if !plain {
            return Err(ParseError::syntax(place, format!("bad number or duration syntax: {:?}", shown(word))));
        }
        duration::parse(word).map(Token::Duration).map_err(|message| ParseError::syntax(place, message))
    }

    fn quoted(&mut self, quote: char) -> Result<Token<'a>, ParseError> {
        let rest = self.rest();
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if quote != '`' => escaped = true,
                '\n' if quote != '`' => break,
                _ if c == quote => {
                    self.at += at + 1;
                    return Ok(Token::Quoted(rest.get(..=at).unwrap_or(rest)));
                }
                _ => {}
            }
        }
        let kind = if quote == '`' { "raw" } else { "quoted" };
        Err(ParseError::syntax(self.at..self.text.len(), format!("unterminated {kind} string")))
    }
}

/// What separates words.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// A number as Go reads it: underscores between digits, a leading 0 for octal digits. `None` if it is none, or too
/// large.
fn number(word: &str, hex: bool) -> Option<f64> {
    let bytes = word.as_bytes();
    let digit = |at: Option<usize>| {
        let byte = at.and_then(|at| bytes.get(at));
        byte.is_some_and(|byte| if hex { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() })
    };
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_') {
        let follows = digit(at.checked_sub(1)) || (hex && at == 2);
        if !follows || !digit(Some(at + 1)) {
            return None;
        }
    }
    let word = word.replace('_', "");
    if hex {
        let digits = word.get(2..).filter(|digits| !digits.starts_with(['+', '-']))?;
        return i64::from_str_radix(digits, 16).ok().map(|number| number as f64);
    }
    if word.len() > 1
        && word.starts_with('0')
        && let Ok(octal) = i64::from_str_radix(&word, 8)
    {
        return Some(octal as f64);
    }
    word.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The text between quotes, its escapes resolved as in Go.
pub(super) fn unquoted(quoted: &str, place: &Span) -> Result<String, ParseError> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if quoted.starts_with('`') || !inner.contains('\\') {
        return Ok(inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        let used = unescape(escape, quoted.chars().next(), &mut bytes);
        let Some(used) = used else {
            let start = place.start + 1 + inner.len() - escape.len();
            let escape: String = escape.chars().take(2).collect();
            let remedy = "write \\\\ for a backslash, or put the string between ` and `";
            let message = format!("unknown escape sequence {escape} in a string: {remedy}");
            return Err(ParseError::syntax(start..start + escape.len(), message));
        };
        rest = escape.get(used..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_err(|_| {
        ParseError::unsupported(
            place.clone(),
            NOT_UTF8,
            format!("the string {} is not UTF-8: write its bytes so that they are", shown(quoted)),
        )
    })
}

/// One escape, from its backslash on: appends what it stands for and says how many bytes it had.
fn unescape(escape: &str, quote: Option<char>, out: &mut Vec<u8>) -> Option<usize> {
    let kind = escape.chars().nth(1)?;
    let plain = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' | '\'' if Some(kind) == quote => kind as u8,
        _ => {
            let (start, digits, base) = match kind {
                '0'..='7' => (1, 3, 8),
                'x' => (2, 2, 16),
                'u' => (2, 4, 16),
                'U' => (2, 8, 16),
                _ => return None,
            };
            let code = escape.get(start..start + digits).filter(|code| !code.starts_with(['+', '-']))?;
            let code = u32::from_str_radix(code, base).ok()?;
            if matches!(kind, 'u' | 'U') {
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                out.push(u8::try_from(code).ok()?);
            }
            return Some(start + digits);
        }
    };
    out.push(plain);
    Some(2)
}
