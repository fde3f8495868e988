//! Variables and macros of a query, filled in as Grafana does it and its PostgreSQL and ClickHouse data sources.

use std::collections::BTreeMap;

/// The end of the time range, in seconds: a Thursday in May 2026.
pub(super) const TO: u64 = 1_780_000_200;
/// Its beginning.
pub(super) const FROM: u64 = TO - 3600;
/// `$__interval`, in seconds.
pub(super) const INTERVAL: u64 = 60;

/// What is chosen in a board's variables.
#[derive(Default)]
pub(super) struct Choices(BTreeMap<String, Choice>);

struct Choice {
    values: Vec<String>,
    all: bool,
}

impl Choices {
    pub(super) fn set(&mut self, name: &str, values: &[&str]) {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.0.insert(name.to_owned(), Choice { values, all: false });
    }

    /// "All" of these values.
    pub(super) fn set_all(&mut self, name: &str, values: &[String]) {
        self.0.insert(name.to_owned(), Choice { values: values.to_vec(), all: true });
    }

    fn of(&self, name: &str, text: &str) -> &Choice {
        self.0.get(name).unwrap_or_else(|| panic!("the variable {name} is not the board's, in: {text}"))
    }
}

/// Whose query it is: each data source has macros of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Prometheus,
    Postgres,
    ClickHouse,
}

/// The query as the server gets it.
pub(super) fn filled(dialect: Dialect, text: &str, choices: &Choices) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(inside) = after.strip_prefix('{') {
            let (inside, after) = inside.split_once('}').unwrap_or_else(|| panic!("${{ without }} in: {text}"));
            let (name, format) = inside.split_once(':').unwrap_or((inside, ""));
            out.push_str(&formatted(dialect, choices.of(name, text), format, text));
            rest = after;
            continue;
        }
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        // $__timeFilter(…) has arguments; "$__range" in PromQL may stand before a bracket, never before a parenthesis.
        if let (true, Some(inside)) = (name.starts_with("__"), after.strip_prefix('(')) {
            let end = closing(inside, text);
            out.push_str(&macro_of(dialect, name, &inside[..end], choices, text));
            rest = &inside[end + 1..];
        } else {
            match name.strip_prefix("__") {
                Some(_) => out.push_str(&global(dialect, name, text)),
                None => out.push_str(&formatted(dialect, choices.of(name, text), "", text)),
            }
            rest = after;
        }
    }
    out + rest
}

fn closing(inside: &str, text: &str) -> usize {
    let mut depth = 1;
    for (at, c) in inside.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return at;
        }
    }
    panic!("a parenthesis is not closed in: {text}")
}

fn formatted(dialect: Dialect, choice: &Choice, format: &str, text: &str) -> String {
    let values = &choice.values;
    match (dialect, format) {
        // Grafana's own: quotes are doubled.
        (Dialect::Postgres | Dialect::ClickHouse, "sqlstring") => {
            values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect::<Vec<_>>().join(",")
        }
        // Prometheus' data source escapes for a regular expression inside a string.
        (Dialect::Prometheus, "") => {
            let escaped: Vec<_> = values.iter().map(|value| escaped(value)).collect();
            if escaped.len() == 1 { escaped[0].clone() } else { format!("({})", escaped.join("|")) }
        }
        _ => panic!("no query of this kind takes the form {format:?} of a variable: {text}"),
    }
}

fn escaped(value: &str) -> String {
    let special = |c: char| r"\^$*+?.()|[]{}".contains(c);
    value.chars().map(|c| if special(c) { format!(r"\\{c}") } else { c.to_string() }).collect()
}

fn global(dialect: Dialect, name: &str, text: &str) -> String {
    match (dialect, name) {
        (_, "__interval") => format!("{INTERVAL}s"),
        (Dialect::Prometheus, "__rate_interval") => format!("{}s", INTERVAL + 15),
        (Dialect::Prometheus, "__range") => format!("{}s", TO - FROM),
        (Dialect::ClickHouse, "__fromTime") => format!("toDateTime({FROM})"),
        (Dialect::ClickHouse, "__toTime") => format!("toDateTime({TO})"),
        (Dialect::ClickHouse, "__interval_s") => INTERVAL.to_string(),
        _ => panic!("${name} is nothing that this data source knows, in: {text}"),
    }
}

fn macro_of(dialect: Dialect, name: &str, arguments: &str, choices: &Choices, text: &str) -> String {
    let parts: Vec<_> = arguments.split(',').map(str::trim).collect();
    match (dialect, name, parts.as_slice()) {
        (Dialect::Postgres, "__timeFilter", [column]) => {
            format!("{column} BETWEEN '{}' AND '{}'", time(FROM), time(TO))
        }
        (Dialect::Postgres, "__timeFrom", _) => format!("'{}'", time(FROM)),
        (Dialect::Postgres, "__timeTo", _) => format!("'{}'", time(TO)),
        (Dialect::Postgres, "__timeGroupAlias", [column, every]) => {
            let seconds = match *every {
                "$__interval" => INTERVAL,
                "1d" => 86_400,
                _ => panic!("{every} is not known here, in: {text}"),
            };
            format!("floor(extract(epoch from {column})/{seconds})*{seconds} AS \"time\"")
        }
        (Dialect::ClickHouse, "__timeFilter", [column]) => {
            format!("{column} >= toDateTime({FROM}) AND {column} <= toDateTime({TO})")
        }
        (Dialect::ClickHouse, "__timeInterval", [column]) => {
            format!("toStartOfInterval(toDateTime({column}), INTERVAL {INTERVAL} second)")
        }
        // A condition that "All" lifts.
        (Dialect::ClickHouse, "__conditionalAll", _) => {
            let (condition, variable) = arguments.rsplit_once(',').unwrap();
            let choice = choices.of(variable.trim().trim_start_matches('$'), text);
            if choice.all { "1=1".to_owned() } else { filled(dialect, condition, choices) }
        }
        _ => panic!("${name}({arguments}) is nothing that this data source knows, in: {text}"),
    }
}

fn time(seconds: u64) -> String {
    jiff::Timestamp::from_second(seconds.try_into().unwrap()).unwrap().to_string()
}
