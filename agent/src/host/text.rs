//! The small grammar of the kernel's text files: lines of fields between blanks, decimal numbers.
//!
//! Works on bytes, since nothing promises that such a file is UTF-8: device names and comms are whatever someone wrote.

/// What was wrong with a text, without the name of the file: the reader adds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(String);

impl TextError {
    /// Any sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// A piece of text was something else than was looked for.
    pub fn expected(what: &str, found: &[u8]) -> Self {
        /// Enough to recognise it in a log line.
        const SHOWN: usize = 60;
        let cut = &found[..found.len().min(SHOWN)];
        let dots = if found.len() > SHOWN { "…" } else { "" };
        Self(format!("expected {what}, found \"{}{dots}\"", cut.escape_ascii()))
    }
}

/// The lines, without their ends. Refuses a text whose last line has no end: it was cut, and a number in it may be too.
pub fn lines(text: &[u8]) -> Result<impl Iterator<Item = &[u8]>, TextError> {
    let whole = match text.strip_suffix(b"\n") {
        Some(lines) => Some(lines.split(|byte| *byte == b'\n')),
        None if text.is_empty() => None,
        None => {
            let last = text.rsplit(|byte| *byte == b'\n').next().unwrap_or(text);
            return Err(TextError::expected("an end of line after the last line", last));
        }
    };
    Ok(whole.into_iter().flatten())
}

/// The fields of a line, which stand between blanks.
pub fn fields(line: &[u8]) -> Fields<'_> {
    Fields { line, rest: line }
}

/// Iterator over the fields of a line.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    line: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(&rest[..end])
    }
}

impl<'a> Fields<'a> {
    /// What stands behind the fields that were taken, with the blanks before it.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field, or an error that says what was to stand there.
    pub fn text(&mut self, what: &str) -> Result<&'a [u8], TextError> {
        self.next().ok_or_else(|| TextError::expected(what, self.line))
    }

    /// The next field as a number.
    pub fn number(&mut self, what: &str) -> Result<u64, TextError> {
        let field = self.text(what)?;
        number(field).ok_or_else(|| TextError::expected(what, field))
    }

    /// The next field as a number, where the line goes on.
    pub fn number_if_any(&mut self, what: &str) -> Result<Option<u64>, TextError> {
        self.next().map(|field| number(field).ok_or_else(|| TextError::expected(what, field))).transpose()
    }
}

/// A whole decimal number that fits 64 bits; nothing else, no sign, no blanks.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A whole hexadecimal number that fits 64 bits; nothing else, no `0x`.
pub fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        // Four bits more have to fit.
        (sum >> 60 == 0).then_some(sum << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"-1", b"+1", b"1 ", b"1.5", b"\xff", b"0x1"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn hexadecimal_numbers_fit_too() {
        assert_eq!(hex(b"0"), Some(0));
        assert_eq!(hex(b"00122a82"), Some(0x0012_2a82));
        assert_eq!(hex(b"fFfFffffffffffff"), Some(u64::MAX));
        assert_eq!(hex(b"00000000000000000001"), Some(1));
        for bad in [&b""[..], b"10000000000000000", b"0x1", b"-1", b"g", b"\xff", b"1 "] {
            assert_eq!(hex(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn fields_stand_between_any_blanks() {
        let found: Vec<_> = fields(b"  a\tbc   d ").collect();
        assert_eq!(found, [&b"a"[..], b"bc", b"d"]);
        assert_eq!(fields(b"   ").count(), 0);
    }

    #[test]
    fn lines_end_with_a_newline() {
        let found = |text| lines(text).map(|lines| lines.map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert_eq!(found(b"a\nb\n").unwrap(), [b"a", b"b"]);
        assert_eq!(found(b"a\n\nb\n").unwrap().len(), 3);
        assert_eq!(found(b"").unwrap().len(), 0);
        let error = found(b"ctxt 12\nbtime 17").unwrap_err();
        assert_eq!(error.to_string(), r#"expected an end of line after the last line, found "btime 17""#);
    }

    #[test]
    fn errors_show_what_stood_there() {
        let mut line = fields(b"x\xff7");
        assert_eq!(line.number("user time").unwrap_err().to_string(), r#"expected user time, found "x\xff7""#);
        assert_eq!(line.number("nice time").unwrap_err().to_string(), r#"expected nice time, found "x\xff7""#);
        assert!(TextError::expected("a", &[b'z'; 500]).to_string().len() < 200);
    }
}
