//! The words of Prometheus' text formats, as they stand in lines of `*.prom` files and of scraped pages.

/// What a line may have at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Labels of a sample.
    pub(crate) labels: usize,
    /// Bytes of a label's name and value.
    pub(crate) label_bytes: usize,
    /// Bytes of a metric's name.
    pub(crate) name_bytes: usize,
}

impl Bounds {
    /// Whether a metric's name is short enough.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), String> {
        if name.len() > self.name_bytes {
            return Err(format!("the name {:?}… has more than {} bytes", shown(name), self.name_bytes));
        }
        Ok(())
    }
}

/// What becomes of a backslash before a sign that needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// It is a fault.
    Known,
    /// Both stay, as Prometheus reads it.
    Any,
}

/// What is left of a line.
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(rest: &'a str) -> Self {
        Self { rest }
    }

    pub(crate) fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    pub(crate) fn take(&mut self, character: char) -> bool {
        match self.rest.strip_prefix(character) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(crate) fn until_blank(&mut self) -> &'a str {
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A name of these bytes that does not begin with a digit; empty where there is none.
    pub(crate) fn name(&mut self, allowed: fn(u8) -> bool) -> &'a str {
        let bytes = self.rest.as_bytes();
        let end = match bytes.first() {
            Some(first) if allowed(*first) && !first.is_ascii_digit() => {
                bytes.iter().position(|byte| !allowed(*byte)).unwrap_or(bytes.len())
            }
            _ => 0,
        };
        // Only ASCII lies before `end`.
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    /// Labels behind the opening brace, and the closing one.
    pub(crate) fn labels(&mut self, bounds: &Bounds, escapes: Escapes) -> Result<Vec<(String, String)>, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        loop {
            self.blanks();
            if self.take('}') {
                return Ok(pairs);
            }
            let name = self.name(is_label_byte);
            if name.is_empty() {
                return Err(format!("{:?} does not begin with a label's name", shown(self.rest)));
            }
            if name == "__name__" {
                return Err("the label __name__ is Prometheus' own".to_owned());
            }
            if pairs.iter().any(|(known, _)| known == name) {
                return Err(format!("the label {name} comes twice"));
            }
            self.blanks();
            if !self.take('=') {
                return Err(format!("no '=' behind the label {name}"));
            }
            self.blanks();
            if !self.take('"') {
                return Err(format!("the value of the label {name} is not in quotes"));
            }
            let value = self.quoted(escapes).map_err(|what| format!("the label {name} {what}"))?;
            if name.len() + value.len() > bounds.label_bytes {
                return Err(format!("the label {:?} has more than {} bytes", shown(name), bounds.label_bytes));
            }
            pairs.push((name.to_owned(), value));
            if pairs.len() > bounds.labels {
                return Err(format!("a sample has more than {} labels", bounds.labels));
            }
            self.blanks();
            if !self.take(',') && !self.rest.starts_with('}') {
                return Err(format!("no ',' or '}}' behind the label {name}"));
            }
        }
    }

    /// A label's value up to its closing quote, which is taken too.
    fn quoted(&mut self, escapes: Escapes) -> Result<String, String> {
        let mut value = String::new();
        loop {
            let Some(at) = self.rest.find(['"', '\\']) else { return Err("has no closing quote".to_owned()) };
            let (plain, rest) = self.rest.split_at(at);
            value.push_str(plain);
            self.rest = rest;
            if self.take('"') {
                return Ok(value);
            }
            self.take('\\');
            if self.take('n') {
                value.push('\n');
            } else if self.take('"') {
                value.push('"');
            } else if self.take('\\') || escapes == Escapes::Any {
                value.push('\\');
            } else {
                return Err(format!("has the escape \\{}", self.rest.chars().next().unwrap_or(' ')));
            }
        }
    }
}

pub(crate) fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(crate) fn is_metric_byte(byte: u8) -> bool {
    is_label_byte(byte) || byte == b':'
}

/// Backslash and newline are escaped in help texts, quotes are not.
pub(crate) fn unescaped_help(text: &str) -> Result<String, String> {
    let mut help = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('\\') {
        help.push_str(plain);
        let (character, written) = match after.as_bytes().first() {
            Some(b'n') => ('n', '\n'),
            Some(b'\\') => ('\\', '\\'),
            _ => return Err(format!("the help has the escape \\{}", after.chars().next().unwrap_or(' '))),
        };
        help.push(written);
        rest = after.strip_prefix(character).unwrap_or(after);
    }
    help.push_str(rest);
    Ok(help)
}

pub(crate) fn value(text: &str) -> Result<f64, String> {
    let fault = || format!("{:?} is no value", shown(text));
    let value: f64 = text.parse().map_err(|_| fault())?;
    // Digits that make an infinity are a number too large to hold.
    if value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(fault());
    }
    Ok(value)
}

/// Enough to recognise it in a log line.
pub(crate) fn shown(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}
