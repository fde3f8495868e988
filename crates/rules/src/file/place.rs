//! Where a byte of a value stands in its file.

/// Line and column of the byte `offset` of a value that begins at `start`. What is not white space stands in a YAML file
/// as in the value, line breaks and indentation or not: so those characters are counted. Where that fails, as behind an
/// escape, it is the value's own place.
pub(super) fn locate(file: &str, start: (usize, usize), value: &str, offset: usize) -> (usize, usize) {
    // Quotes may belong to the value, in a block, or be around it.
    let plain = walk(file, start, value, offset, false);
    plain.or_else(|| walk(file, start, value, offset, true)).unwrap_or(start)
}

fn walk(file: &str, start: (usize, usize), value: &str, offset: usize, quoted: bool) -> Option<(usize, usize)> {
    let mut lines = file.split_inclusive('\n').skip(start.0.checked_sub(1)?);
    let first = lines.next()?;
    let mut chars = Chars { line: first, lines, place: (start.0, 1) };
    for _ in 1..start.1 {
        chars.take()?;
    }
    let quote = if quoted { Some(chars.take()?) } else { None };
    let mut behind = start;
    for (at, wanted) in value.char_indices() {
        if at >= offset {
            break;
        }
        if !wanted.is_whitespace() {
            chars.next_visible(wanted, quote)?;
            behind = chars.place;
        }
    }
    let next = value.get(offset..)?.chars().next();
    match next.filter(|c| !c.is_whitespace()) {
        Some(wanted) => {
            let place = chars.next_visible(wanted, quote)?;
            Some(place)
        }
        None => Some(behind),
    }
}

struct Chars<'a, I> {
    line: &'a str,
    lines: I,
    place: (usize, usize),
}

impl<'a, I: Iterator<Item = &'a str>> Chars<'a, I> {
    fn take(&mut self) -> Option<char> {
        if self.line.is_empty() {
            self.line = self.lines.next()?;
            self.place = (self.place.0 + 1, 1);
        }
        let c = self.line.chars().next()?;
        self.line = self.line.get(c.len_utf8()..)?;
        self.place.1 += 1;
        Some(c)
    }

    /// Takes the next character that is no white space, which has to be this one. Where it stood.
    fn next_visible(&mut self, wanted: char, quote: Option<char>) -> Option<(usize, usize)> {
        loop {
            let found = self.take()?;
            let place = (self.place.0, self.place.1 - 1);
            match (found, quote) {
                (c, _) if c.is_whitespace() => {}
                ('\'', Some('\'')) => return (self.take()? == '\'' && wanted == '\'').then_some(place),
                ('\\', Some('"')) => match self.take()? {
                    'n' | 'r' | 't' | ' ' | '\n' => {}
                    c => return (c == wanted && matches!(c, '"' | '\\' | '/')).then_some(place),
                },
                (c, _) => return (c == wanted).then_some(place),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::locate;

    #[test]
    fn places_are_those_of_the_file() {
        let at = |file: &str, start, value: &str, what: &str| locate(file, start, value, value.find(what).unwrap());
        assert_eq!(at("expr: a + b", (1, 7), "a + b", "b"), (1, 11));
        assert_eq!(at("x: |\n  a +\n\n    b\n", (2, 3), "a +\n\n  b\n", "b"), (4, 5));
        assert_eq!(at("x: >-\n  a +\n  b\n", (2, 3), "a + b", "b"), (3, 3));
        assert_eq!(at("x: a +\n   b\n", (1, 4), "a + b", "b"), (2, 4));
        assert_eq!(at("x: 'a[''é''] + b'", (1, 4), "a['é'] + b", "b"), (1, 16));
        assert_eq!(at(r#"x: "a{c=\"d\"} + b""#, (1, 4), r#"a{c="d"} + b"#, "b"), (1, 18));
        assert_eq!(at(r#"x: "a\x20\u0062""#, (1, 4), "a b", "b"), (1, 4));
        assert_eq!(at("x: |\n  'a' b\n", (2, 3), "'a' b\n", "b"), (2, 7));
        assert_eq!(locate("x: ab", (1, 4), "ab", 2), (1, 6));
        assert_eq!(locate("x: |\n  ab\n", (2, 3), "ab\n", 3), (2, 5));
        assert_eq!(locate("", (7, 3), "ab", 9), (7, 3));
    }
}
