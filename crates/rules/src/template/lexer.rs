//! A template as tokens.

use super::Fault;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// What stands outside of braces.
    Literal(String),
    /// `{{`
    Left,
    /// `}}`
    Right,
    /// `.`
    Dot,
    /// `.name`
    Field(String),
    /// `$` or `$name`, with the sign.
    Variable(String),
    /// A function or a keyword.
    Word(String),
    Text(String),
    Int(i64),
    Float(f64),
    /// `(`, `)`, `|`, `,`, `:=`, `=`
    Sign(&'static str),
}

#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
    /// Nothing stands between it and the token before.
    pub(super) glued: bool,
}

const SPACE: &[char] = &[' ', '\t', '\r', '\n'];

/// All tokens of a template.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Fault> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), glued: false };
    let mut trim = false;
    loop {
        let rest = lexer.rest();
        let (literal, open) = rest.split_once("{{").map_or((rest, false), |(before, _)| (before, true));
        let start = lexer.at + literal.len();
        let inside = text.get(start + 2..).unwrap_or_default();
        let trims_left = open && inside.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACE));
        let kept = if trim { literal.trim_start_matches(SPACE) } else { literal };
        let kept = if trims_left { kept.trim_end_matches(SPACE) } else { kept };
        if !kept.is_empty() {
            lexer.push(Token::Literal(kept.to_owned()), lexer.at);
        }
        if !open {
            return Ok(lexer.tokens);
        }
        lexer.at = start + 2 + usize::from(trims_left);
        trim = if lexer.rest().trim_start_matches(if trims_left { SPACE } else { &[] }).starts_with("/*") {
            lexer.comment(start)?
        } else {
            lexer.push(Token::Left, start);
            lexer.action(start)?
        };
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Placed>,
    glued: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, token: Token, at: usize) {
        self.tokens.push(Placed { token, at, glued: self.glued });
        self.glued = true;
    }

    /// Takes `}}` or ` -}}`. Whether it trims what follows.
    fn close(&mut self) -> Option<bool> {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches(SPACE);
        let (length, trims) = if rest.starts_with("}}") {
            (2, false)
        } else if trimmed.len() < rest.len() && trimmed.starts_with("-}}") {
            (rest.len() - trimmed.len() + 3, true)
        } else {
            return None;
        };
        self.at += length;
        Some(trims)
    }

    fn comment(&mut self, start: usize) -> Result<bool, Fault> {
        let Some(end) = self.rest().find("*/") else { return Err(Fault::new(start, "unclosed comment")) };
        self.at += end + 2;
        self.close().ok_or_else(|| Fault::new(self.at, "comment ends before closing delimiter"))
    }

    /// What stands between braces. Whether the end trims what follows.
    fn action(&mut self, start: usize) -> Result<bool, Fault> {
        self.glued = false;
        loop {
            if let Some(trims) = self.close() {
                self.push(Token::Right, self.at - 2);
                self.glued = false;
                return Ok(trims);
            }
            let at = self.at;
            let rest = self.rest();
            let mut chars = rest.chars();
            let Some(first) = chars.next() else { return Err(Fault::new(start, "unclosed action")) };
            let second = chars.next();
            if SPACE.contains(&first) {
                self.at += 1;
                self.glued = false;
                continue;
            }
            let token = match first {
                '(' => self.sign("("),
                ')' => self.sign(")"),
                '|' => self.sign("|"),
                ',' => self.sign(","),
                '=' => self.sign("="),
                ':' if second == Some('=') => self.sign(":="),
                '"' => self.quoted()?,
                '`' => {
                    let Some((inner, _)) = rest.get(1..).unwrap_or_default().split_once('`') else {
                        return Err(Fault::new(at, "unterminated raw quoted string"));
                    };
                    self.at += inner.len() + 2;
                    Token::Text(inner.to_owned())
                }
                '\'' => self.character()?,
                '$' => {
                    self.at += 1;
                    Token::Variable(format!("${}", self.word()))
                }
                '.' if !second.is_some_and(|c| c.is_ascii_digit()) => {
                    self.at += 1;
                    match self.word() {
                        "" => Token::Dot,
                        name => Token::Field(name.to_owned()),
                    }
                }
                c if c.is_ascii_digit() || matches!(c, '.' | '+' | '-') => self.number()?,
                c if c.is_alphabetic() || c == '_' => Token::Word(self.word().to_owned()),
                c => return Err(Fault::new(at, format!("unexpected {c:?} in a template's braces"))),
            };
            self.push(token, at);
        }
    }

    fn sign(&mut self, sign: &'static str) -> Token {
        self.at += sign.len();
        Token::Sign(sign)
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let rest = self.rest();
        let mut before = ' ';
        let hex = rest.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x");
        let end = rest.find(|c: char| {
            let exponent = !hex && matches!(before, 'e' | 'E');
            let sign = matches!(c, '+' | '-') && (before == ' ' || exponent);
            before = c;
            !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || sign)
        });
        let text = &rest[..end.unwrap_or(rest.len())];
        let bad = || Fault::new(self.at, format!("bad number syntax: {text:?}"));
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let digits = digits.replace('_', "").to_ascii_lowercase();
        let radix = |prefix: &str, radix| digits.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, radix));
        let octal = || {
            let all = digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit());
            digits.strip_prefix('0').filter(|_| all).map(|digits| i64::from_str_radix(digits, 8))
        };
        let whole = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8)).or_else(octal);
        let token = if let Some(whole) = whole {
            let whole = whole.map_err(|_| bad())?;
            Token::Int(if negative { -whole } else { whole })
        } else if digits.contains(['.', 'e']) {
            let number: f64 = digits.parse().map_err(|_| bad())?;
            Token::Float(if negative { -number } else { number })
        } else {
            let number: i64 = digits.parse().map_err(|_| bad())?;
            Token::Int(if negative { -number } else { number })
        };
        self.at += text.len();
        Ok(token)
    }

    /// A character constant is its number.
    fn character(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        self.at += 1;
        let bad = || Fault::new(start, "malformed character constant");
        let character = self.escaped('\'').map_err(|_| bad())?.ok_or_else(bad)?;
        if !self.rest().starts_with('\'') {
            return Err(bad());
        }
        self.at += 1;
        let number = if let Escaped::Char(c) = character { u32::from(c).into() } else { return Err(bad()) };
        Ok(Token::Int(number))
    }

    fn quoted(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        while let Some(next) = self.escaped('"')? {
            match next {
                Escaped::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Escaped::Byte(byte) => bytes.push(byte),
            }
        }
        if !self.rest().starts_with('"') {
            return Err(Fault::new(start, "unterminated quoted string"));
        }
        self.at += 1;
        String::from_utf8(bytes).map(Token::Text).map_err(|_| Fault::new(start, "a string that is no UTF-8"))
    }

    /// The next character of a string in these quotes; `None` at its end, or where a line ends.
    fn escaped(&mut self, quote: char) -> Result<Option<Escaped>, Fault> {
        let at = self.at;
        let mut chars = self.rest().chars();
        let Some(first) = chars.next().filter(|c| *c != quote && *c != '\n') else { return Ok(None) };
        if first != '\\' {
            self.at += first.len_utf8();
            return Ok(Some(Escaped::Char(first)));
        }
        let bad = || Fault::new(at, "invalid syntax: an escape that Go does not know");
        let escape = chars.next().ok_or_else(bad)?;
        let simple = match escape {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' => '\\',
            c if c == quote => c,
            _ => {
                let (skip, digits, radix) = match escape {
                    'x' => (2, 2, 16),
                    'u' => (2, 4, 16),
                    'U' => (2, 8, 16),
                    '0'..='7' => (1, 3, 8),
                    _ => return Err(bad()),
                };
                let digits = self.text.get(at + skip..at + skip + digits).ok_or_else(bad)?;
                let number = u32::from_str_radix(digits, radix).map_err(|_| bad())?;
                self.at = at + skip + digits.len();
                return Ok(Some(if matches!(escape, 'u' | 'U') {
                    Escaped::Char(char::from_u32(number).ok_or_else(bad)?)
                } else {
                    Escaped::Byte(u8::try_from(number).map_err(|_| bad())?)
                }));
            }
        };
        self.at += 2;
        Ok(Some(Escaped::Char(simple)))
    }
}

enum Escaped {
    Char(char),
    Byte(u8),
}
