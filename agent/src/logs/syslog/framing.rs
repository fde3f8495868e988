//! Messages in a stream of bytes: each with its length before it, or each with a line end behind it (RFC 6587).

/// Digits of a length; a number with more is the beginning of a line.
const DIGITS: usize = 9;

/// What a connection has sent and is no message yet.
#[derive(Debug)]
pub(super) struct Framing {
    most: usize,
    text: Vec<u8>,
    /// Bytes of the message that were left out.
    cut: u64,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a message.
    Start,
    /// In its length, or in a line that begins with a digit; the digits are in the text.
    Length,
    /// Behind the length and its space.
    Counted(u64),
    Line,
}

impl Framing {
    /// Of messages with at most so many bytes; of longer ones the rest is left out.
    pub(super) fn new(most: usize) -> Self {
        Self { most, text: Vec::new(), cut: 0, state: State::Start }
    }

    /// Takes bytes, and hands on each message that is whole with what was cut of it.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], u64)) {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Start => match first {
                    b'\n' | b'\r' | 0 => bytes = rest,
                    b'1'..=b'9' => self.state = State::Length,
                    _ => self.state = State::Line,
                },
                State::Length => match first {
                    b'0'..=b'9' if self.text.len() < DIGITS => {
                        self.text.push(first);
                        bytes = rest;
                    }
                    b' ' => {
                        let digits = self.text.iter().map(|digit| u64::from(digit - b'0'));
                        self.state = State::Counted(digits.fold(0, |sum, digit| sum * 10 + digit));
                        bytes = rest;
                    }
                    _ => self.state = State::Line,
                },
                // Every message begins so, and a line of text may begin with a number.
                State::Counted(_) if first != b'<' && self.text.first().is_some_and(u8::is_ascii_digit) => {
                    self.text.push(b' ');
                    self.state = State::Line;
                }
                State::Counted(mut left) => {
                    if self.text.first().is_some_and(u8::is_ascii_digit) {
                        self.text.clear();
                    }
                    let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let (mine, others) = bytes.split_at(taken);
                    self.keep(mine);
                    left -= taken as u64;
                    bytes = others;
                    self.state = State::Counted(left);
                    if left == 0 {
                        self.end(&mut each);
                    }
                }
                State::Line => match memchr::memchr2(b'\n', 0, bytes) {
                    Some(end) => {
                        let (mine, others) = bytes.split_at(end);
                        self.keep(mine);
                        bytes = others;
                        self.end(&mut each);
                    }
                    None => {
                        self.keep(bytes);
                        bytes = &[];
                    }
                },
            }
        }
    }

    /// The connection is over: what was begun is a message.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8], u64)) {
        if !self.text.is_empty() {
            self.end(&mut each);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.text.len()).min(bytes.len());
        self.text.extend(bytes.iter().take(room));
        self.cut += (bytes.len() - room) as u64;
    }

    fn end(&mut self, each: &mut impl FnMut(&[u8], u64)) {
        each(trimmed(&self.text), self.cut);
        self.text.clear();
        self.text.shrink_to(4096);
        (self.cut, self.state) = (0, State::Start);
    }
}

/// Without the line ends and zeros that some send behind a message.
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0)).map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

/// The messages in a stream, in pieces of some bytes; for the fuzz target.
#[doc(hidden)]
pub fn messages(bytes: &[u8], piece: usize, most: usize) -> Vec<(Vec<u8>, u64)> {
    let mut framing = Framing::new(most);
    let mut found = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        framing.take(piece, |text, cut| found.push((text.to_owned(), cut)));
    }
    framing.finish(|text, cut| found.push((text.to_owned(), cut)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8], most: usize) -> Vec<String> {
        let whole = messages(bytes, usize::MAX, most);
        for piece in 1..5 {
            assert_eq!(messages(bytes, piece, most), whole, "in pieces of {piece}");
        }
        let text = |(text, cut): (Vec<u8>, u64)| match cut {
            0 => String::from_utf8(text).unwrap(),
            cut => format!("{} +{cut}", String::from_utf8(text).unwrap()),
        };
        whole.into_iter().map(text).collect()
    }

    #[test]
    fn messages_are_counted_or_lines() {
        assert_eq!(texts(b"5 <1>ab7 <2>\nabc", 100), ["<1>ab", "<2>\nabc"]);
        assert_eq!(texts(b"<1>one\n<2>two\r\n\n<3>three", 100), ["<1>one", "<2>two", "<3>three"]);
        assert_eq!(texts(b"<1>a\0<2>b\n6 <3>cc\n<4>d\n", 100), ["<1>a", "<2>b", "<3>cc", "<4>d"], "of all kinds");
        assert_eq!(texts(b"2026 was a year\n12:30 noon\n", 100), ["2026 was a year", "12:30 noon"]);
        assert_eq!(texts(b"0 <1>\n", 100), ["0 <1>"]);
    }

    #[test]
    fn nothing_grows_without_end() {
        assert_eq!(texts(b"19 <1>4567890123456789<2>x\n", 10), ["<1>4567890 +9", "<2>x"]);
        assert_eq!(texts(b"<1>4567890123\n<2>x\n", 10), ["<1>4567890 +3", "<2>x"]);
        let digits = [&[b'9'; 5000][..], b"\n<2>x\n"].concat();
        assert_eq!(texts(&digits, 10), ["9999999999 +4990", "<2>x"]);
        assert_eq!(texts(b"999999999 <1>never ends", 10), ["<1>never e +3"]);
        assert_eq!(texts(b"12345", 10), ["12345"]);
    }
}
