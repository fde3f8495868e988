//! Texts for a terminal: nothing foreign steers it, and colours only where somebody sees them.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character steers a terminal, breaks the line or turns the direction of what follows.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A foreign text as it may stand on a terminal: characters that would steer it are shown as `\n`, `\x1b`, `\u{202e}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' => plain.push_str("\\t"),
            c if !steers(c) => plain.push(c),
            c if (c as u32) < 0x100 => drop(write!(plain, "\\x{:02x}", c as u32)),
            c => drop(write!(plain, "\\u{{{:x}}}", c as u32)),
        }
    }
    Cow::Owned(plain)
}

/// JSON as it may stand on a terminal. JSON itself writes only the first 32 control characters as escapes; the others
/// stand inside of its strings, where an escape means the same.
pub fn plain_json(json: String) -> String {
    if json.is_ascii() && !json.contains('\u{7f}') || !json.chars().any(steers) {
        return json;
    }
    let mut plain = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if steers(c) {
            // All of them are in the first plane, where an escape has four digits.
            let _ = write!(plain, "\\u{:04x}", c as u32);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Bytes for people: `1.2 MiB`.
pub fn human_bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    // A sum of nothing is -0 in floating point.
    let mut value = bytes + 0.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A colour of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Of no weight.
    Dim,
    /// All is well.
    Green,
    /// Look at it.
    Yellow,
    /// It is wrong.
    Red,
    /// It is very wrong.
    Alarm,
    /// A name.
    Blue,
}

/// Whether texts get colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    /// Colours on a terminal that has them, unless `NO_COLOR` (no-color.org) says otherwise.
    pub fn new(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(terminal && !refused && variable("TERM").is_none_or(|term| term != "dumb"))
    }

    /// The text in its colour.
    pub fn on(self, colour: Colour, text: impl std::fmt::Display) -> String {
        let code = match colour {
            Colour::Dim => "2",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Alarm => "1;31",
            Colour::Blue => "36",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// A text of a table, and its colour.
pub type Cell = (String, Option<Colour>);

/// Without a colour.
pub fn cell(text: impl Into<String>) -> Cell {
    (text.into(), None)
}

/// Columns below their heads, each as wide as it has to be.
pub fn table(head: &[&str], rows: Vec<Vec<Cell>>, paint: Paint) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<Cell>| {
        let padded = cells.into_iter().zip(&widths).map(|((text, colour), width)| {
            let padded = format!("{text:<width$}");
            colour.map_or_else(|| padded.clone(), |colour| paint.on(colour, &padded))
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let head = line(head.iter().map(|name| ((*name).to_owned(), Some(Colour::Dim))).collect());
    head + &rows.into_iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\nb\u{9b}é\u{7f}"), "a\\x1b[31m\\nb\\x9bé\\x7f");
        assert_eq!(plain("user\u{202e}gpj.exe"), "user\\u{202e}gpj.exe");
        assert!(matches!(plain("kworker/0:1 ü"), Cow::Borrowed(_)));
        let json = serde_json::to_string("a\u{1b}\u{9b}\u{202e}\u{7f}é").unwrap();
        let safe = plain_json(json);
        assert!(!safe.chars().any(steers), "{safe:?}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), "a\u{1b}\u{9b}\u{202e}\u{7f}é");
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let paint = |terminal, pairs: &'static [(&str, &str)]| {
            Paint::new(terminal, |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())).0
        };
        assert!(paint(true, &[("TERM", "xterm")]) && paint(true, &[("NO_COLOR", "")]));
        assert!(!paint(false, &[]) && !paint(true, &[("NO_COLOR", "1")]) && !paint(true, &[("TERM", "dumb")]));
        assert_eq!(Paint(false).on(Colour::Red, "x"), "x");
        assert_eq!(Paint(true).on(Colour::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(human_bytes(0.0), "0 B");
        assert_eq!(human_bytes(-0.0), "0 B");
        assert_eq!(human_bytes(1023.4), "1023 B");
        assert_eq!(human_bytes(1536.0), "1.5 KiB");
        assert_eq!(human_bytes(5e12), "4.5 TiB");
    }
}
