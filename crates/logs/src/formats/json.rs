//! JSON objects, one a line.
//!
//! Read here and not with serde_json: a line's values are to be kept as they are written, however large a number is and
//! however deep an object, and there are many lines. What is no object is left to others.

use std::borrow::Cow;

use wire::Timestamp;

use super::Reading;
use crate::columns::{Draft, MAX_DEPTH, MAX_PREFIX, Value};

/// What keys that repeat those above them may take in one line; an object that could take more is kept as JSON text.
const MOST_REPEATED: usize = 256 << 10;

/// The shortest that a key with its value can be.
const LEAST_PAIR: usize = 4;

pub(super) fn read<'a>(line: &'a str, reading: &Reading, _now: Timestamp, draft: &mut Draft<'a>) -> bool {
    if !line.trim_start().starts_with('{') {
        return false;
    }
    let is_object = objects(line, |key, value| draft.put(&reading.columns, key, value)).is_some();
    if !is_object {
        // What is broken near its end leaves nothing of its beginning.
        *draft = Draft::around(draft);
    }
    is_object
}

/// Each value of an object under its key, nested keys joined by dots.
pub(super) fn objects<'a>(text: &'a str, mut put: impl FnMut(Cow<'a, str>, Value<'a>)) -> Option<()> {
    let mut walk = Walk { scan: Scan::over(text), room: MOST_REPEATED };
    walk.object(None, 0, &mut put)?;
    walk.scan.rest().trim_ascii().is_empty().then_some(())
}

struct Walk<'a> {
    scan: Scan<'a>,
    /// What is left of [`MOST_REPEATED`].
    room: usize,
}

impl<'a> Walk<'a> {
    fn object(
        &mut self,
        above: Option<&str>,
        depth: usize,
        put: &mut dyn FnMut(Cow<'a, str>, Value<'a>),
    ) -> Option<()> {
        self.scan.need(b'{')?;
        if self.scan.eat(b'}') {
            return Some(());
        }
        loop {
            let key = self.scan.string()?;
            self.scan.need(b':')?;
            let key = match above {
                Some(above) => Cow::Owned(format!("{above}.{key}")),
                None => key,
            };
            let is_open = depth < MAX_DEPTH && key.len() <= MAX_PREFIX;
            match self.scan.peek()? {
                b'"' => put(key, Value::Text(self.scan.string()?)),
                b'{' if is_open && self.has_room(key.len())? => self.object(Some(&key), depth + 1, put)?,
                b'n' => drop(self.scan.plain()?),
                b'-' | b'0'..=b'9' => put(key, Value::Number(Cow::Borrowed(self.scan.plain()?))),
                _ => put(key, Value::Other(Cow::Borrowed(self.scan.any()?))),
            }
            if self.scan.eat(b'}') {
                return Some(());
            }
            self.scan.need(b',')?;
        }
    }
}

impl Walk<'_> {
    /// Whether the keys of the object that begins here may all have the key above before them. An empty one has none.
    fn has_room(&mut self, above: usize) -> Option<bool> {
        let start = self.scan.at;
        let mut ahead = Scan { text: self.scan.text, at: start };
        ahead.skip_nested()?;
        let length = ahead.at - start;
        let repeated = length / LEAST_PAIR * (above + 1);
        let fits = repeated <= self.room && !self.scan.is_empty_object();
        if fits {
            self.room -= repeated;
        }
        Some(fits)
    }
}

/// Reads values; everything is white space around them.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn over(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eats = self.peek() == Some(byte);
        self.at += usize::from(eats);
        eats
    }

    fn need(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    fn is_empty_object(&self) -> bool {
        let rest = self.rest().as_bytes();
        rest.get(1..).is_some_and(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}'))
    }

    /// A text without its quotation marks.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.need(b'"')?;
        let start = self.at;
        let found = memchr::memchr2(b'"', b'\\', self.text.as_bytes().get(start..)?)?;
        let plain = self.text.get(start..start + found)?;
        self.at = start + found;
        if self.eat_here(b'"') {
            return Some(Cow::Borrowed(plain));
        }
        let mut out = String::with_capacity(plain.len() + 32);
        out.push_str(plain);
        loop {
            if self.eat_here(b'"') {
                return Some(Cow::Owned(out));
            }
            self.at += 1;
            self.escape(&mut out)?;
            let start = self.at;
            let found = memchr::memchr2(b'"', b'\\', self.text.as_bytes().get(start..)?)?;
            out.push_str(self.text.get(start..start + found)?);
            self.at = start + found;
        }
    }

    fn eat_here(&mut self, byte: u8) -> bool {
        let eats = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(eats);
        eats
    }

    /// What a backslash stands for.
    fn escape(&mut self, out: &mut String) -> Option<()> {
        let byte = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        let character = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let pair = (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u");
                if !pair {
                    char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
                } else {
                    self.at += 2;
                    match self.hex()? {
                        second @ 0xdc00..0xe000 => {
                            char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                                .unwrap_or(char::REPLACEMENT_CHARACTER)
                        }
                        // Half a pair is no character; what follows may be one.
                        other => {
                            out.push(char::REPLACEMENT_CHARACTER);
                            char::from_u32(other).unwrap_or(char::REPLACEMENT_CHARACTER)
                        }
                    }
                }
            }
            _ => return None,
        };
        out.push(character);
        Some(())
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let number = digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))?;
        self.at += 4;
        Some(number)
    }

    /// A number, `true`, `false` or `null`, as it is written.
    fn plain(&mut self) -> Option<&'a str> {
        self.peek()?;
        let rest = self.rest();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let end = rest.bytes().position(|byte| !is_part(&byte)).unwrap_or(rest.len());
        let text = rest.get(..end)?;
        let is_number = || text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && text.parse::<f64>().is_ok();
        if !matches!(text, "true" | "false" | "null") && !is_number() {
            return None;
        }
        self.at += end;
        Some(text)
    }

    /// Any value, as it is written.
    fn any(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => self.skip_string()?,
            b'{' | b'[' => self.skip_nested()?,
            _ => return self.plain(),
        }
        self.text.get(start..self.at)
    }

    fn skip_string(&mut self) -> Option<()> {
        self.need(b'"')?;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.text.as_bytes().get(self.at..)?)?;
            if self.eat_here(b'"') {
                return Some(());
            }
            self.at += 2;
        }
    }

    /// Over what stands in brackets, however deep: each must be closed by its own kind.
    fn skip_nested(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' => open.push(b'}'),
                b'[' => open.push(b']'),
                close @ (b'}' | b']') => {
                    if open.pop()? != close {
                        return None;
                    }
                    if open.is_empty() {
                        self.at += 1;
                        return Some(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }
}
