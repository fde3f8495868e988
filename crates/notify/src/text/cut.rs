//! Texts that have to fit.

/// Stands where something was cut off.
pub const ELLIPSIS: char = '…';

/// At most so many characters, the last of them `…` where there were more. Characters beyond U+FFFF count twice, as the
/// services that have such limits count.
pub fn cut(text: &str, most: usize) -> String {
    escaped(text, most, |_| None)
}

/// At most so many bytes, cut between characters; `…` counts.
pub fn cut_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub(ELLIPSIS.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut text = text.get(..end).unwrap_or_default().to_owned();
    if most >= ELLIPSIS.len_utf8() {
        text.push(ELLIPSIS);
    }
    text
}

/// A text whose characters are written as `escape` says (`None`: as they are), of at most so many characters; what an
/// escape stands for is never cut in two.
pub fn escaped(text: &str, most: usize, escape: impl Fn(char) -> Option<&'static str>) -> String {
    written(text.chars(), most, escape)
}

fn written(chars: impl Iterator<Item = char>, most: usize, escape: impl Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::new();
    let mut length = 0;
    // Where `…` would still fit.
    let mut room = 0;
    for c in chars {
        let written = escape(c);
        length += written.map_or(c.len_utf16(), |written| written.encode_utf16().count());
        if length > most {
            out.truncate(room);
            if most > 0 {
                out.push(ELLIPSIS);
            }
            return out;
        }
        match written {
            Some(written) => out.push_str(written),
            None => out.push(c),
        }
        if length < most {
            room = out.len();
        }
    }
    out
}

/// On one line, without control characters, of at most so many characters: for headers, subjects and titles. Looks no
/// further than it has to.
pub fn line(text: &str, most: usize) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let chars = words.enumerate().flat_map(|(at, word)| (at > 0).then_some(' ').into_iter().chain(word.chars()));
    written(chars, most, |_| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, most, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("äöü", 3, "äöü"),
            ("äöüß", 3, "äö…"),
            ("ab", 1, "…"),
            ("🔥🔥", 3, "🔥…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(text, most), expected, "{text} {most}");
        }
        for (text, most, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "…"), ("äöü", 5, "ä…"), ("🔥🔥", 7, "🔥…"), ("🔥🔥", 6, "…"), ("ab", 1, "")]
        {
            assert_eq!(cut_bytes(text, most), expected, "{text} {most}");
        }
        let escape = |c| if c == '<' { Some("&lt;") } else { None };
        for (most, expected) in [(10, "a&lt;b"), (6, "a&lt;b"), (5, "a…"), (2, "a…"), (1, "…"), (0, "")] {
            assert_eq!(escaped("a<b", most, escape), expected, "{most}");
        }
        assert_eq!(line(" a\r\nb\t\tc\u{2028}d\0", 7), "a b c d");
        assert_eq!(line("ab cd", 4), "ab …");
    }
}
