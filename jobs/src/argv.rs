//! What is run: arguments as the configuration has them, with places for values that a request may choose within bounds.
//!
//! A value fills its place in one argument and never makes a second one; no shell reads it.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// Longer values are none that a person meant for a command line.
const MOST_CHARACTERS: usize = 256;

/// Programs that take a program as an argument: a value inside of it would be code.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox", "python", "python3", "perl", "ruby", "node",
    "lua", "php", "awk", "su", "runuser",
];

/// A value that a request chooses.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    /// Where in the request's JSON it stands (RFC 6901).
    pub(crate) from: String,
    pub(crate) allowed: Allowed,
}

/// What a value may be.
#[derive(Debug, Clone)]
pub(crate) enum Allowed {
    Values(Vec<String>),
    /// All of the value has to match.
    Pattern {
        written: String,
        whole: Regex,
    },
}

impl Allowed {
    /// Of a regular expression that has to match the whole value.
    pub(crate) fn pattern(written: &str) -> Result<Self, String> {
        // Alone first: a bracket too many must not close the group below.
        Regex::new(written).map_err(|error| error.to_string())?;
        let whole = Regex::new(&format!("^(?:{written})$")).map_err(|error| error.to_string())?;
        Ok(Self::Pattern { written: written.to_owned(), whole })
    }

    fn fault(&self, value: &str) -> Option<&'static str> {
        match self {
            Allowed::Values(values) if values.iter().any(|allowed| allowed == value) => None,
            Allowed::Values(_) => Some("is none of the values that the configuration allows"),
            Allowed::Pattern { .. } if value.starts_with('-') => {
                Some("begins with '-', which commands take for a switch")
            }
            Allowed::Pattern { whole, .. } if whole.is_match(value) => None,
            Allowed::Pattern { .. } => Some("does not match the pattern of the configuration"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Param(String),
}

/// The arguments of a job, program first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Vec<Piece>>);

impl Template {
    /// Reads `argv` of the configuration; every fault as a sentence.
    pub(crate) fn parse(argv: &[String], params: &BTreeMap<String, Param>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        match argv.first() {
            None => faults.push(
                "name the program and its arguments, as [\"/usr/bin/systemctl\", \"restart\", \"nginx.service\"]"
                    .to_owned(),
            ),
            Some(program) if !program.starts_with('/') => {
                faults.push(format!(
                    "{program:?} has to be an absolute path; nothing is looked up and no shell is asked"
                ));
            }
            Some(_) => {}
        }
        let mut arguments = Vec::new();
        for argument in argv {
            if argument.contains('\0') {
                faults.push(format!("{argument:?} has a NUL byte, which no argument can have"));
            }
            match pieces(argument) {
                Ok(pieces) => arguments.push(pieces),
                Err(fault) => faults.push(fault),
            }
        }
        for name in arguments
            .iter()
            .flatten()
            .filter_map(|piece| if let Piece::Param(name) = piece { Some(name) } else { None })
        {
            if !params.contains_key(name) {
                faults.push(format!("{{{name}}} is not declared: add [job.params.{name}] with values or a pattern, or write {{{{{name}}}}} for the braces themselves"));
            }
        }
        if arguments.first().is_some_and(|program| holds_param(program)) {
            faults.push("the program itself can't be chosen by a request".to_owned());
        }
        if let Some(code) =
            code_argument(argv).filter(|at| arguments.get(*at).is_some_and(|pieces| holds_param(pieces)))
        {
            let shown = argv.get(code).map_or("", String::as_str);
            faults.push(format!(
                "{shown:?} is code, and a value put into it would be code too; hand the value over as an argument of its own: \
                 [\"/bin/sh\", \"-c\", 'restart \"$1\"', \"sh\", \"{{unit}}\"]"
            ));
        }
        if faults.is_empty() { Ok(Self(arguments)) } else { Err(faults) }
    }

    /// The program, which no request changes.
    pub(crate) fn program(&self) -> String {
        let first = self.0.first().map_or(&[][..], Vec::as_slice);
        first
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) | Piece::Param(text) => text.as_str(),
            })
            .collect()
    }

    /// The arguments for one request, or why it gets none.
    pub(crate) fn fill(&self, params: &BTreeMap<String, Param>, body: &Value) -> Result<Vec<String>, String> {
        // All of them are looked at, also one that only standard input carries.
        let values: BTreeMap<&str, String> = params
            .iter()
            .map(|(name, param)| Ok((name.as_str(), value(name, param, body)?)))
            .collect::<Result<_, String>>()?;
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => Ok(text.clone()),
            Piece::Param(name) => values.get(name.as_str()).cloned().ok_or_else(|| format!("BUG: {name} has no value")),
        };
        self.0.iter().map(|argument| argument.iter().map(piece).collect()).collect()
    }
}

fn holds_param(argument: &[Piece]) -> bool {
    argument.iter().any(|piece| matches!(piece, Piece::Param(_)))
}

/// Which argument an interpreter takes for a program: the one behind `-c` or `-e`; awk's is the first.
fn code_argument(argv: &[String]) -> Option<usize> {
    let base = |argument: &String| {
        argument
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
            .to_owned()
    };
    let interpreter = argv.iter().position(|argument| INTERPRETERS.contains(&base(argument).as_str()))?;
    let behind = |at: usize| argv.get(at + 1).map(|_| at + 1);
    let switch = |argument: &&String| {
        argument.starts_with('-') && !argument.starts_with("--") && argument.contains(['c', 'e', 'r'])
    };
    let after = argv.iter().enumerate().skip(interpreter + 1);
    let by_switch = after.clone().find(|(_, argument)| switch(argument)).and_then(|(at, _)| behind(at));
    if argv.get(interpreter).is_some_and(|argument| base(argument) == "awk") {
        return after.clone().find(|(_, argument)| !argument.starts_with('-')).map(|(at, _)| at);
    }
    by_switch
}

fn pieces(argument: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = argument;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        text += before;
        if let Some(after) = brace.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = brace.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else {
            let named =
                brace.strip_prefix('{').and_then(|inner| inner.split_once('}')).filter(|(name, _)| is_name(name));
            let Some((name, after)) = named else {
                return Err(format!(
                    "{argument:?} has a brace alone: {{name}} is a value, {{{{ and }}}} are the braces themselves"
                ));
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Param(name.to_owned()));
            rest = after;
        }
    }
    text += rest;
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Whether a parameter may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn value(name: &str, param: &Param, body: &Value) -> Result<String, String> {
    let place = &param.from;
    // Named without the value: it may be anything, also a secret that stands in the wrong place.
    let text = match body.pointer(place) {
        None | Some(Value::Null) => return Err(format!("{name} is missing: the request has nothing at {place}")),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
        Some(_) => return Err(format!("{name} at {place} has to be a text or a whole number")),
    };
    if text.chars().count() > MOST_CHARACTERS {
        return Err(format!("{name} at {place} has more than {MOST_CHARACTERS} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{name} at {place} has control characters"));
    }
    match param.allowed.fault(&text) {
        Some(fault) => Err(format!("{name} at {place} {fault}")),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params(pattern: &str) -> BTreeMap<String, Param> {
        let unit = Param { from: "/params/unit".to_owned(), allowed: Allowed::pattern(pattern).unwrap() };
        let size = Param { from: "/labels/size".to_owned(), allowed: Allowed::Values(vec!["-1".into(), "3".into()]) };
        BTreeMap::from([("unit".to_owned(), unit), ("size".to_owned(), size)])
    }

    fn argv(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|argument| (*argument).to_owned()).collect()
    }

    #[test]
    fn values_fill_their_places_and_make_no_arguments() {
        let params = params("[a-z .;$()]+");
        let template = Template::parse(&argv(&["/bin/x", "--unit={unit}", "{{lit}}", "{size}"]), &params).unwrap();
        assert_eq!(template.program(), "/bin/x");
        let body = json!({"params": {"unit": "a b; $(c)"}, "labels": {"size": -1}});
        assert_eq!(template.fill(&params, &body).unwrap(), ["/bin/x", "--unit=a b; $(c)", "{lit}", "-1"]);
    }

    #[test]
    fn values_outside_their_bounds_are_refused_without_being_told() {
        let params = params("[a-z]+|nginx[.]service");
        let template = Template::parse(&argv(&["/bin/x", "{unit}"]), &params).unwrap();
        for (unit, why) in [
            (json!("nginx.service; reboot"), "does not match the pattern"),
            (json!("x\nnginx.service"), "control characters"),
            (json!("a\u{0}"), "control characters"),
            (json!("-h"), "begins with '-'"),
            (json!(""), "does not match"),
            (json!("A"), "does not match"),
            (json!("a".repeat(257)), "more than 256 characters"),
            (json!(["a"]), "a text or a whole number"),
            (json!(1.5), "a text or a whole number"),
            (json!(true), "a text or a whole number"),
            (json!(null), "is missing: the request has nothing at /params/unit"),
        ] {
            let error = template.fill(&params, &json!({"params": {"unit": unit}, "labels": {"size": 3}})).unwrap_err();
            assert!(error.starts_with("unit ") && error.contains(why), "{unit}: {error}");
            assert!(!error.contains("reboot"), "{error}");
        }
        // One that no argument names is looked at too.
        let error = template.fill(&params, &json!({"params": {"unit": "a"}, "labels": {"size": 4}})).unwrap_err();
        assert!(error.contains("size at /labels/size is none of the values"), "{error}");
    }

    #[test]
    fn a_pattern_is_for_the_whole_value() {
        for (pattern, good, bad) in
            [("a|b", "a", "ab"), ("(?i)x", "X", "xx"), ("a", "a", "a\n"), ("(?m)^a$", "a", "a\nb")]
        {
            let allowed = Allowed::pattern(pattern).unwrap();
            assert_eq!(allowed.fault(good), None, "{pattern}");
            assert!(allowed.fault(bad).is_some(), "{pattern} {bad:?}");
        }
        for pattern in ["a)|(?:.*", "(", "a{2", "[z-a]"] {
            assert!(Allowed::pattern(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_template_that_gives_a_request_too_much_is_refused() {
        let params = params("[a-z]+");
        for (arguments, why) in [
            (&[][..], "name the program"),
            (&["systemctl"], "absolute path"),
            (&["./x"], "absolute path"),
            (&["/bin/{unit}"], "the program itself"),
            (&["/bin/x", "{units}"], "{units} is not declared: add [job.params.units]"),
            (&["/bin/x", "{unit"], "a brace alone"),
            (&["/bin/x", "a}"], "a brace alone"),
            (&["/bin/x", "{a b}"], "a brace alone"),
            (&["/bin/x", "a\0b"], "a NUL byte"),
            (&["/bin/sh", "-c", "systemctl restart {unit}"], "is code"),
            (&["/usr/bin/env", "bash", "-xec", "echo {unit}"], "is code"),
            (&["/usr/bin/python3.11", "-c", "print('{unit}')"], "is code"),
            (&["/usr/bin/awk", "{unit}"], "is code"),
        ] {
            let faults = Template::parse(&argv(arguments), &params).unwrap_err().join("\n");
            assert!(faults.contains(why), "{arguments:?}: {faults}");
        }
        let idiom = argv(&["/bin/sh", "-c", "systemctl restart \"$1\"", "sh", "{unit}"]);
        assert!(Template::parse(&idiom, &params).is_ok());
    }
}
