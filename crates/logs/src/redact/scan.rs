//! Looks through a text once for what looks like a secret.
//!
//! Most bytes are none that a secret's hint could be; a table says so. What is hidden rather errs on the side of too much:
//! a password may hold any sign.

use super::names;
use super::tokens;

/// What is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) authorization: bool,
    pub(super) passwords: bool,
    pub(super) urls: bool,
    pub(super) keys: bool,
    pub(super) emails: bool,
    pub(super) cards: bool,
}

/// What a byte may be the hint of.
mod hint {
    pub(super) const NONE: u8 = 0;
    /// `=` and `:`, between a name and what stands under it.
    pub(super) const PAIR: u8 = 1;
    /// `@`
    pub(super) const AT: u8 = 2;
    /// The first digit of a number.
    pub(super) const DIGIT: u8 = 3;
    /// The first letter of a token, or of a word before one.
    pub(super) const LETTER: u8 = 4;
    /// `-`, of options and of private keys.
    pub(super) const DASH: u8 = 5;
    /// `>`, behind the name of an element.
    pub(super) const CLOSE: u8 = 6;
    /// `'`, behind a word of SQL.
    pub(super) const QUOTE: u8 = 7;
    /// `%`, of `=` and `:` inside of URLs.
    pub(super) const PERCENT: u8 = 8;
}

const HINTS: [u8; 256] = {
    let mut hints = [hint::NONE; 256];
    let mut byte = 0;
    while byte < 256 {
        hints[byte] = match byte as u8 {
            b'=' | b':' => hint::PAIR,
            b'@' => hint::AT,
            b'0'..=b'9' => hint::DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' => hint::LETTER,
            b'-' => hint::DASH,
            b'>' => hint::CLOSE,
            b'\'' => hint::QUOTE,
            b'%' => hint::PERCENT,
            _ => hint::NONE,
        };
        byte += 1;
    }
    hints
};

/// Blanks between a name and its sign, and behind that: tables of settings are aligned.
const MOST_BLANKS: usize = 40;

/// How far users, passwords and hosts reach from their sign; without a bound, a text full of signs would take hours.
const REACH: usize = 4096;

/// A place to hide: from here to there.
pub(super) type Span = (usize, usize);

pub(super) struct Scan<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    kinds: Kinds,
    /// More names of secrets, in small letters.
    keys: &'a [String],
    /// Nothing before it is looked at any more.
    floor: usize,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str, kinds: Kinds, keys: &'a [String]) -> Self {
        Self { text, bytes: text.as_bytes(), kinds, keys, floor: 0, at: 0 }
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(0, |at| self.byte(at))
    }

    pub(super) fn part(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The end of the run of bytes from `at` on for which `is_part` holds.
    pub(super) fn run(&self, at: usize, is_part: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        at + rest.iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len())
    }

    /// The start of the run of bytes before `at` for which `is_part` holds.
    fn run_back(&self, at: usize, is_part: impl Fn(u8) -> bool) -> usize {
        let before = self.bytes.get(self.floor..at).unwrap_or_default();
        at - before.iter().rev().position(|byte| !is_part(*byte)).unwrap_or(before.len())
    }

    /// The same as [`Scan::run`], not further than [`REACH`].
    fn near(&self, at: usize, is_part: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(at..(at + REACH).min(self.bytes.len())).unwrap_or_default();
        let mut end = at + rest.iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        end
    }

    /// The same as [`Scan::run_back`], not further than [`REACH`].
    fn run_back_near(&self, at: usize, is_part: impl Fn(u8) -> bool) -> usize {
        let before = self.bytes.get(self.floor.max(at.saturating_sub(REACH))..at).unwrap_or_default();
        at - before.iter().rev().position(|byte| !is_part(*byte)).unwrap_or(before.len())
    }

    /// `password%3Dhunter2`, `%22password%22%3A%22hunter2%22`
    fn encoded(&mut self, at: usize) -> Option<Span> {
        let is = |scan: &Self, at: usize, code: &str| {
            scan.bytes.get(at..at + 3).is_some_and(|found| found.eq_ignore_ascii_case(code.as_bytes()))
        };
        if !is(self, at, "%3D") && !is(self, at, "%3A") {
            return None;
        }
        let quoted = at >= self.floor + 3 && is(self, at - 3, "%22");
        let end = if quoted { at - 3 } else { at };
        let start = self.run_back(end, |byte| is_word(byte) || matches!(byte, b'-' | b'.'));
        // The hexadecimal digits of the sign before the name are none of it.
        let start = start + if start > self.floor && self.before(start) == b'%' { 2 } else { 0 };
        let name = self.part(start, end);
        if !self.is_secret(name, true) {
            return None;
        }
        let from = at + 3 + if is(self, at + 3, "%22") { 3 } else { 0 };
        let mut to = from;
        while to < self.bytes.len()
            && !matches!(self.byte(to), b'&' | b'"' | b'\'' | b'<' | b'>')
            && !self.byte(to).is_ascii_whitespace()
            && !["%22", "%26", "%2C", "%7D", "%20"].iter().any(|code| is(self, to, code))
        {
            to += 1;
        }
        (!names::is_harmless(self.part(from, to), false)).then_some((from, to))
    }

    fn look(&mut self, at: usize) -> Option<Span> {
        match HINTS[usize::from(self.byte(at))] {
            hint::PAIR => self.pair(at),
            hint::AT => self.at_sign(at),
            hint::DIGIT if !is_word(self.before(at)) => {
                // The rest of the number is no other one.
                let found = if self.kinds.cards { tokens::card(self, at) } else { None };
                if found.is_none() {
                    self.at = self.run(at, |byte| byte.is_ascii_digit());
                }
                found
            }
            hint::LETTER if !is_word(self.before(at)) => {
                let found = self.word(at);
                if found.is_none() {
                    // On to what is no letter: pairs have their names looked for from behind.
                    self.at = self.run(self.at, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
                }
                found
            }
            hint::DASH if self.before(at) != b'-' => self.dash(at),
            hint::CLOSE if self.kinds.passwords => self.element(at),
            hint::PERCENT if self.kinds.passwords => self.encoded(at),
            hint::QUOTE if self.kinds.passwords => self.sql(at),
            _ => None,
        }
    }

    /// Whether what stands under a name is to be hidden.
    fn is_secret(&self, name: &str, queried: bool) -> bool {
        if self.keys.iter().any(|key| key.eq_ignore_ascii_case(name)) {
            return true;
        }
        let is_header = names::is_authorization(name) || names::takes_line(name);
        let wanted = if is_header { self.kinds.authorization } else { self.kinds.passwords };
        wanted && names::is_secret(name, queried)
    }

    /// What stands behind `name=`, `name: ` or `"name":`.
    fn pair(&mut self, at: usize) -> Option<Span> {
        if self.kinds.urls && self.byte(at) == b':' && self.byte(at + 1) == b'/' && self.byte(at + 2) == b'/' {
            return self.url(at + 3);
        }
        // Back over what may stand between the name and the sign.
        let mut end = self.run_back(at, |byte| matches!(byte, b' ' | b'\t'));
        let quoted = self.run_back(end, |byte| matches!(byte, b'"' | b'\'' | b'\\' | b'`' | b']' | b'['));
        if at - end > MOST_BLANKS {
            return None;
        }
        end = quoted;
        let start = self.run_back(end, |byte| is_word(byte) || matches!(byte, b'-' | b'.'));
        let name = self.part(start, end).trim_start_matches(['-', '.']);
        let queried = matches!(self.before(start), b'?' | b'&') && self.byte(at) == b'=';
        if !self.is_secret(name, queried) {
            return None;
        }
        let mut from = at + 1;
        // `=>`, `==`, `:=`
        if matches!(self.byte(from), b'>' | b'=') {
            from += 1;
        }
        let blank = self.run(from, |byte| matches!(byte, b' ' | b'\t'));
        let sentence = self.byte(at) == b':' && blank > from;
        // What shells have under this name is a folder.
        let is_folder = name.eq_ignore_ascii_case("pwd") && self.byte(blank) == b'/';
        if blank - from > MOST_BLANKS || is_folder {
            return None;
        }
        self.value(blank, name, sentence)
    }

    /// The secret that begins here.
    fn value(&mut self, from: usize, name: &str, sentence: bool) -> Option<Span> {
        let first = self.byte(from);
        // A quotation mark inside of a quoted text has a backslash before it, and so has its other one.
        let backslashes = self.run(from, |byte| byte == b'\\') - from;
        let mark = self.byte(from + backslashes);
        if matches!(mark, b'"' | b'\'' | b'`') {
            let start = from + backslashes + 1;
            let end = self.closing(start, mark, backslashes);
            let value = self.part(start, end);
            self.at = end;
            return (!names::is_harmless(value, false)).then_some((start, end));
        }
        if matches!(first, b'[' | b'{') && self.byte(from + 1) != 0 {
            // A list, or an object: as a whole. What is only in brackets is a word.
            let end = self.balanced(from);
            let is_json = memchr::memchr3(b'"', b',', b':', self.bytes.get(from..end).unwrap_or_default()).is_some();
            let value = self.part(from + 1, end.saturating_sub(1));
            if is_json && end > from + 2 && !names::is_harmless(value, false) {
                return Some((from + 1, end - 1));
            }
        }
        if names::takes_line(name) {
            let end = self.run(from, |byte| !matches!(byte, b'\n' | b'\r' | b'"' | b'\''));
            return (!names::is_harmless(self.part(from, end), false)).then_some((from, end));
        }
        let end = self.bare(from);
        let value = self.part(from, end);
        if names::is_authorization(name) && tokens::is_scheme(value) {
            // What a scheme other than these two says has several parts.
            let next = self.run(end, |byte| byte == b' ');
            let one_word = ["bearer", "basic", "token", "apikey", "negotiate"];
            let end = match one_word.iter().any(|scheme| value.eq_ignore_ascii_case(scheme)) {
                true => self.bare(next),
                false => self.run(next, |byte| !matches!(byte, b'\n' | b'\r')),
            };
            return (next < end && !names::is_harmless(self.part(next, end), sentence)).then_some((next, end));
        }
        if end == from || names::is_harmless(value, sentence) {
            return None;
        }
        Some((from, end))
    }

    /// Where a quoted text ends.
    fn closing(&self, start: usize, mark: u8, backslashes: usize) -> usize {
        let mut at = start;
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let Some(found) = memchr::memchr(mark, rest) else { return self.bytes.len() };
            let here = at + found;
            let before = here
                - self.bytes.get(start..here).unwrap_or_default().iter().rev().take_while(|b| **b == b'\\').count();
            // As many backslashes as the first one had, or none: more stand for a mark in the text.
            let escapes = here - before;
            if escapes == backslashes || (backslashes == 0 && escapes.is_multiple_of(2)) {
                return if backslashes == 0 { here } else { before };
            }
            if backslashes > 0 && escapes < backslashes {
                // The text around ends here.
                return before;
            }
            at = here + 1;
        }
    }

    /// Where a list or object ends, quoted brackets apart.
    fn balanced(&self, from: usize) -> usize {
        let (mut depth, mut quoted, mut at) = (0usize, false, from);
        while at < self.bytes.len() {
            match self.byte(at) {
                b'\\' => at += 1,
                b'"' => quoted = !quoted,
                b'[' | b'{' if !quoted => depth += 1,
                b']' | b'}' if !quoted => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return at + 1;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        self.bytes.len()
    }

    /// Where a value without quotation marks ends: before white space and what separates values.
    fn bare(&self, from: usize) -> usize {
        let mut at = from;
        while at < self.bytes.len() {
            let byte = self.byte(at);
            if byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`' | b'&' | b'<') {
                break;
            }
            // These may be part of a password, unless nothing or the next name follows.
            if matches!(byte, b',' | b';' | b')' | b']' | b'}' | b'|' | b'\\') && self.separates(at + 1) {
                break;
            }
            at += 1;
        }
        at
    }

    fn separates(&self, at: usize) -> bool {
        let next = self.byte(at);
        if at >= self.bytes.len()
            || next.is_ascii_whitespace()
            || matches!(next, b'"' | b'\'' | b',' | b';' | b')' | b']' | b'}' | b'.' | b'\\')
        {
            return true;
        }
        let name = self.run(at, |byte| is_word(byte) || matches!(byte, b'-' | b'.'));
        name > at && matches!(self.byte(name), b'=' | b':')
    }

    /// Users and passwords in front of a host, and addresses that are secrets. `at` is behind `://`.
    fn url(&mut self, at: usize) -> Option<Span> {
        let stops = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`');
        let end = self.near(at, |byte| !stops(byte));
        let slash = self.near(at, |byte| !stops(byte) && !matches!(byte, b'/' | b'?' | b'#'));
        let last = |to: usize| self.part(at, to).rfind('@').map(|found| at + found);
        // A slash in a password stands where no host's port could.
        let colon = self.part(at, slash).find(':').map(|found| at + found + 1);
        let odd = colon.is_some_and(|colon| !self.part(colon, slash).bytes().all(|byte| byte.is_ascii_digit()));
        let host = last(slash).or_else(|| if odd && !self.part(at, slash).starts_with('[') { last(end) } else { None });
        if let Some(host) = host {
            self.at = host + 1;
            self.floor = host + 1;
            let user = self.part(at, host);
            // Who has no password is told to nobody by this, as in `ssh://git@host`.
            let is_plain = user == "git" || names::is_harmless(user, false) || user.is_empty();
            if !is_plain {
                return Some((at, host));
            }
        }
        let from = host.map_or(at, |host| host + 1);
        let path = tokens::secret_path(self.part(from, end))?;
        (from + path < end).then_some((from + path, end))
    }

    fn at_sign(&mut self, at: usize) -> Option<Span> {
        let stops = |byte: u8| {
            byte.is_ascii_whitespace()
                || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'(' | b'[' | b'{' | b',' | b';')
        };
        // `user:password@host`. A URL's was seen before.
        let mut start = self.run_back_near(at, |byte| !stops(byte));
        while !self.text.is_char_boundary(start) {
            start += 1;
        }
        let word = self.part(start, at);
        if self.kinds.urls
            && let Some(colon) = word.find(':').filter(|colon| *colon > 0)
            && !word.contains('/')
            && self.byte(at + 1).is_ascii_alphanumeric()
        {
            let secret = word.get(colon + 1..).unwrap_or_default();
            let is_number = secret.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
            if !is_number && !names::is_harmless(secret, false) {
                return Some((start + colon + 1, at));
            }
        }
        if self.kinds.emails { tokens::email(self, at, self.floor) } else { None }
    }

    /// Tokens, and words before one.
    fn word(&mut self, at: usize) -> Option<Span> {
        if self.kinds.authorization
            && let Some(span) = tokens::bearer(self, at)
        {
            return Some(span);
        }
        if !self.kinds.keys {
            return None;
        }
        let (token, is_one) = tokens::token(self, at)?;
        if is_one {
            return Some(token);
        }
        // Nor is any part of it.
        self.at = token.1;
        None
    }

    /// `-----BEGIN … PRIVATE KEY-----`, `--password SECRET`
    fn dash(&mut self, at: usize) -> Option<Span> {
        if self.byte(at + 1) != b'-' || is_word(self.before(at)) {
            return None;
        }
        if self.byte(at + 2) == b'-' {
            return if self.kinds.keys { tokens::private_key(self, at) } else { None };
        }
        let end = self.run(at + 2, |byte| is_word(byte) || byte == b'-');
        let name = self.part(at + 2, end);
        let follows = self.byte(end) == b' ' && !matches!(self.byte(end + 1), b'-' | b' ' | 0);
        if !follows || !self.is_secret(name, false) {
            return None;
        }
        self.value(end + 1, name, true)
    }

    /// `<password>SECRET</password>`
    fn element(&mut self, at: usize) -> Option<Span> {
        let start = self.run_back(at, |byte| is_word(byte) || matches!(byte, b'-' | b'.' | b':'));
        if self.before(start) != b'<' {
            return None;
        }
        let name = self.part(start, at);
        let name = name.rsplit(':').next().unwrap_or(name);
        if !self.is_secret(name, false) {
            return None;
        }
        let end = self.run(at + 1, |byte| byte != b'<');
        (end > at + 1 && !names::is_harmless(self.part(at + 1, end), false)).then_some((at + 1, end))
    }

    /// `IDENTIFIED BY 'SECRET'`, `PASSWORD 'SECRET'`
    fn sql(&mut self, at: usize) -> Option<Span> {
        let end = self.run_back(at, |byte| byte == b' ');
        let start = self.run_back(end, |byte| byte.is_ascii_alphabetic() || byte == b' ');
        let words = self.part(start, end).to_ascii_lowercase();
        if at == end || !(words.ends_with("identified by") || words.ends_with("password")) {
            return None;
        }
        let close = self.closing(at + 1, b'\'', 0);
        (!names::is_harmless(self.part(at + 1, close), false)).then_some((at + 1, close))
    }
}

impl Iterator for Scan<'_> {
    type Item = Span;

    /// What is to be hidden, in order.
    fn next(&mut self) -> Option<Span> {
        while self.at < self.bytes.len() {
            let at = self.at;
            if HINTS[usize::from(self.byte(at))] == hint::NONE {
                self.at += 1;
                continue;
            }
            let found = self.look(at);
            if let Some((start, end)) = found
                && start < end
            {
                self.at = end;
                self.floor = end;
                return Some((start, end));
            }
            if self.at <= at {
                self.at = at + 1;
            }
        }
        None
    }
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
