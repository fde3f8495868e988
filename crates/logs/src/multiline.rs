//! Which lines belong together.

use std::time::Duration;

use crate::formats::postgres_goes_on;
use crate::pattern::Pattern;
use crate::sections::MultilineSection;

/// Whose stack traces are known.
const PRESETS: &[(&str, Kinds)] = &[
    ("java", Kinds { exceptions: true, ..Kinds::NONE }),
    ("dotnet", Kinds { exceptions: true, ..Kinds::NONE }),
    ("python", Kinds { python: true, ..Kinds::NONE }),
    ("go", Kinds { go: true, ..Kinds::NONE }),
    ("ruby", Kinds { ruby: true, ..Kinds::NONE }),
    ("javascript", Kinds { exceptions: true, ..Kinds::NONE }),
    ("indented", Kinds::NONE),
    ("traces", Kinds { exceptions: true, python: true, go: true, ruby: true, postgres: false }),
    ("postgres", Kinds { postgres: true, ..Kinds::NONE }),
];

/// Least that makes sense.
const LEAST_BYTES: u64 = 1 << 10;

/// A record has to fit into a message.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct Kinds {
    exceptions: bool,
    python: bool,
    go: bool,
    ruby: bool,
    postgres: bool,
}

impl Kinds {
    /// Only what every stack trace has: lines that begin with white space.
    const NONE: Self = Self { exceptions: false, python: false, go: false, ruby: false, postgres: false };
}

#[derive(Debug, Clone)]
enum How {
    Preset(Kinds),
    Patterns { start: Option<Pattern>, goes_on: Option<Pattern> },
}

/// How lines of an input are joined.
#[derive(Debug, Clone)]
pub(crate) struct Multiline {
    how: How,
    pub(crate) max_lines: usize,
    pub(crate) max_bytes: usize,
}

/// How far a stack trace has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Nothing,
    /// Within what Python calls a traceback.
    Traceback,
    /// Behind the line that ends one.
    AfterTraceback,
    /// Within what Go writes when it panics.
    Panic,
}

impl Multiline {
    /// None where every line stands alone. `fault` is told each key that is wrong, and why.
    pub(crate) fn new(section: &MultilineSection, format: &str, mut fault: impl FnMut(&str, String)) -> Option<Self> {
        let MultilineSection { preset, start, goes_on, max_lines, max_bytes, timeout } = section;
        if *max_lines == 0 {
            fault("max_lines", "must be at least 1".to_owned());
        }
        if !(LEAST_BYTES..=MOST_BYTES).contains(max_bytes) {
            fault("max_bytes", "must lie between 1KiB and 1MiB".to_owned());
        }
        if timeout.is_zero() || *timeout > Duration::from_secs(60) {
            fault("timeout", "must lie between 1ms and 1m".to_owned());
        }
        let mut pattern = |key: &str, text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty())?;
            Pattern::new(text).map_err(|error| fault(key, error)).ok()
        };
        let (start, goes_on) = (pattern("start", start), pattern("continue", goes_on));
        let preset = preset.as_deref().filter(|preset| !preset.is_empty());
        let has_patterns = start.is_some() || goes_on.is_some();
        let how = match preset {
            Some(_) if has_patterns => {
                fault("preset", "stands instead of start and continue".to_owned());
                return None;
            }
            None if has_patterns => How::Patterns { start, goes_on },
            // What belongs to a message stands behind it in lines of its own; one alone says little.
            None if format == "postgres" => How::Preset(Kinds { postgres: true, ..Kinds::NONE }),
            None | Some("none") => return None,
            Some(name) => match PRESETS.iter().find(|(known, _)| *known == name) {
                Some((_, kinds)) => How::Preset(*kinds),
                None => {
                    let known: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
                    fault("preset", format!("there is no preset {name:?}; there are none, {}", known.join(", ")));
                    return None;
                }
            },
        };
        Some(Self { how, max_lines: *max_lines, max_bytes: usize::try_from(*max_bytes).unwrap_or(usize::MAX) })
    }

    /// What a line that begins a record begins.
    pub(crate) fn begin(&self, line: &str) -> State {
        match &self.how {
            How::Preset(kinds) if kinds.python && is_traceback(line) => State::Traceback,
            How::Preset(kinds) if kinds.go && is_panic(line) => State::Panic,
            _ => State::Nothing,
        }
    }

    /// Whether a line belongs to those before it.
    pub(crate) fn goes_on(&self, line: &str, state: &mut State) -> bool {
        let kinds = match &self.how {
            How::Preset(kinds) => kinds,
            How::Patterns { start, goes_on } => {
                return !start.as_ref().is_some_and(|start| start.matches(line))
                    && goes_on.as_ref().is_none_or(|goes_on| goes_on.matches(line));
            }
        };
        if kinds.postgres {
            return postgres_goes_on(line);
        }
        if kinds.python && is_traceback(line) {
            *state = State::Traceback;
            return true;
        }
        if kinds.go && is_panic(line) {
            // One that follows another line is told by it.
            *state = State::Panic;
            return true;
        }
        if line.starts_with([' ', '\t']) {
            return true;
        }
        match state {
            // The first line that is not indented names the exception.
            State::Traceback => {
                *state = State::AfterTraceback;
                return true;
            }
            State::AfterTraceback
                if line.starts_with("During handling of") || line.starts_with("The above exception") =>
            {
                return true;
            }
            State::Panic if is_of_panic(line) => return true,
            _ => {}
        }
        (kinds.exceptions && is_exception(line)) || (kinds.ruby && is_ruby(line))
    }
}

fn is_traceback(line: &str) -> bool {
    line.starts_with("Traceback (most recent call last)")
}

fn is_panic(line: &str) -> bool {
    let starts = ["panic: ", "fatal error: ", "goroutine ", "SIGSEGV: ", "unexpected fault address "];
    starts.iter().any(|start| line.starts_with(start))
}

/// Function calls, and what stands between them.
fn is_of_panic(line: &str) -> bool {
    let call = line.ends_with(')') && line.split_once('(').is_some_and(|(name, _)| !name.contains(' '));
    call || line.starts_with("[signal ")
        || line.starts_with("created by ")
        || line.starts_with("exit status ")
        || line.starts_with("runtime stack:")
        || line.starts_with("...additional frames")
}

/// `java.lang.IllegalStateException: x`, `Caused by: …`, `System.Exception: x`, `TypeError: x`.
fn is_exception(line: &str) -> bool {
    if line.starts_with("Caused by: ") || line.starts_with("Suppressed: ") || line.starts_with("--- End of ") {
        return true;
    }
    let name = line.split([':', ' ']).next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '$' | '_');
    let ends = ["Exception", "Error", "Throwable"].iter().any(|end| name.ends_with(end) && name.len() > end.len());
    ends && name.chars().all(is_name)
}

/// `from app.rb:12:in 'run'`
fn is_ruby(line: &str) -> bool {
    line.starts_with("from ") && line.contains(":in ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where records begin.
    fn groups(section: MultilineSection, text: &str) -> Vec<usize> {
        let multiline = Multiline::new(&section, "plain", |key, why| panic!("{key}: {why}")).unwrap();
        let (mut starts, mut state) = (Vec::new(), State::Nothing);
        for (number, line) in text.lines().enumerate() {
            if starts.is_empty() || !(line.is_empty() || multiline.goes_on(line, &mut state)) {
                state = multiline.begin(line);
                starts.push(number);
            }
        }
        starts
    }

    fn preset(name: &str) -> MultilineSection {
        MultilineSection { preset: Some(name.to_owned()), ..MultilineSection::default() }
    }

    const JAVA: &str = "\
2026-11-22 10:00:00 ERROR c.e.Shop - order failed
java.lang.IllegalStateException: no stock
\tat com.example.Shop.order(Shop.java:42)
\t... 3 more
Caused by: java.sql.SQLException: timeout
\tat com.example.Db.query(Db.java:7)
2026-11-22 10:00:01 INFO c.e.Shop - next";

    const PYTHON: &str = "\
2026-11-22 10:00:00,123 ERROR order failed
Traceback (most recent call last):
  File \"shop.py\", line 4, in order
    raise ValueError(\"no stock\")
ValueError: no stock

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"shop.py\", line 9, in main
    order()
RuntimeError: failed
2026-11-22 10:00:01,000 INFO next";

    const GO: &str = "\
2026/11/22 10:00:00 serving
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.order(0x0, 0x5)
\t/src/shop/main.go:12 +0x1d
main.main()
\t/src/shop/main.go:7 +0x25
exit status 2
2026/11/22 10:00:01 serving";

    #[test]
    fn stack_traces_are_joined_with_the_line_before() {
        assert_eq!(groups(preset("java"), JAVA), [0, 6]);
        assert_eq!(groups(preset("python"), PYTHON), [0, 12]);
        assert_eq!(groups(preset("go"), GO), [0, 9]);
        for text in [JAVA, PYTHON, GO] {
            assert_eq!(groups(preset("traces"), text).len(), 2);
        }
        assert_eq!(groups(preset("indented"), JAVA), [0, 1, 4, 6]);
        assert_eq!(groups(preset("ruby"), "x\nfrom app.rb:12:in 'run'\n  from b.rb:1:in 'go'\nfrom here"), [0, 3]);
        assert_eq!(groups(preset("dotnet"), "fail: x\nSystem.Exception: no\n   at A.B()\nok"), [0, 3]);
    }

    #[test]
    fn patterns_say_what_begins_or_goes_on() {
        let text = "--\na\nb\n--\nc";
        let section = |start: Option<&str>, goes_on: Option<&str>| MultilineSection {
            start: start.map(str::to_owned),
            goes_on: goes_on.map(str::to_owned),
            ..MultilineSection::default()
        };
        assert_eq!(groups(section(Some("^--"), None), text), [0, 3]);
        assert_eq!(groups(section(None, Some("^[ab]")), text), [0, 3, 4]);
        assert_eq!(groups(section(Some("^b"), Some("^[ab]")), text), [0, 2, 3, 4]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let faults = |section: MultilineSection| {
            let mut keys = Vec::new();
            Multiline::new(&section, "plain", |key, _| keys.push(key.to_owned()));
            keys
        };
        assert_eq!(faults(preset("cobol")), ["preset"]);
        assert_eq!(faults(MultilineSection { start: Some("(".to_owned()), ..preset("java") }), ["start"]);
        assert_eq!(faults(MultilineSection { start: Some("x".to_owned()), ..preset("java") }), ["preset"]);
        let bounds = MultilineSection { max_lines: 0, max_bytes: 1, timeout: Duration::ZERO, ..preset("java") };
        assert_eq!(faults(bounds), ["max_lines", "max_bytes", "timeout"]);
        assert!(Multiline::new(&MultilineSection::default(), "plain", |_, _| ()).is_none());
        assert!(Multiline::new(&MultilineSection::default(), "postgres", |_, _| ()).is_some());
    }
}
