//! The functions of templates, as Prometheus and Go name them.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use regex_lite::Regex;

use super::tree::Tree;
use super::value::Val;
use super::{Data, Dialect, MAX_OUTPUT, Query, format, layout};
use crate::Labels;
use crate::pattern::searched;

/// A function, and how many arguments it takes.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    /// Where it can be called; `None`: everywhere.
    only: Option<Dialect>,
}

impl Function {
    /// How many arguments, in words.
    pub(super) fn wants(&self) -> String {
        match (self.least, self.most) {
            (least, usize::MAX) => format!("at least {least}"),
            (least, _) => least.to_string(),
        }
    }
}

const fn function(name: &'static str, least: usize, most: usize) -> Function {
    Function { name, least, most, only: None }
}

/// Only in rule files.
const fn of_rules(name: &'static str, least: usize, most: usize) -> Function {
    Function { name, least, most, only: Some(Dialect::Rules) }
}

/// Only in notifications.
const fn of_notifications(name: &'static str, least: usize, most: usize) -> Function {
    Function { name, least, most, only: Some(Dialect::Notifications) }
}

const MANY: usize = usize::MAX;

/// Sorted by name.
const FUNCTIONS: &[Function] = &[
    function("and", 1, MANY),
    function("args", 0, MANY),
    of_notifications("date", 2, 2),
    function("eq", 2, MANY),
    of_rules("externalURL", 0, 0),
    of_rules("first", 1, 1),
    function("ge", 2, 2),
    of_rules("graphLink", 1, 1),
    function("gt", 2, 2),
    function("html", 0, MANY),
    function("humanize", 1, 1),
    function("humanize1024", 1, 1),
    function("humanizeDuration", 1, 1),
    function("humanizePercentage", 1, 1),
    function("humanizeTimestamp", 1, 1),
    function("index", 1, MANY),
    of_notifications("join", 2, 2),
    of_rules("label", 2, 2),
    function("le", 2, 2),
    function("len", 1, 1),
    function("lt", 2, 2),
    function("match", 2, 2),
    function("ne", 2, 2),
    function("not", 1, 1),
    function("now", 0, 0),
    function("or", 1, MANY),
    function("parseDuration", 1, 1),
    of_rules("pathPrefix", 0, 0),
    function("print", 0, MANY),
    function("printf", 1, MANY),
    function("println", 0, MANY),
    of_rules("query", 1, 1),
    function("reReplaceAll", 3, 3),
    function("safeHtml", 1, 1),
    of_notifications("safeUrl", 1, 1),
    of_notifications("since", 1, 1),
    of_rules("sortByLabel", 2, 2),
    of_notifications("stringSlice", 0, MANY),
    function("stripDomain", 1, 1),
    function("stripPort", 1, 1),
    of_rules("strvalue", 1, 1),
    of_rules("tableLink", 1, 1),
    function("title", 1, 1),
    of_notifications("toJson", 1, 1),
    function("toLower", 1, 1),
    function("toTime", 1, 1),
    function("toUpper", 1, 1),
    of_notifications("trimSpace", 1, 1),
    function("urlQueryEscape", 1, 1),
    function("urlquery", 0, MANY),
    of_rules("value", 1, 1),
];

/// What Prometheus' templates can call besides.
const REFUSED: &[&str] = &["call", "js", "slice", "tmpl", "toDuration"];

/// What Alertmanager's can.
const REFUSED_IN_NOTIFICATIONS: &[&str] = &["call", "js", "slice", "tz", "urlUnescape", "list", "append", "dict"];

pub(super) fn find(name: &str, dialect: Dialect) -> Result<&'static Function, String> {
    let mut known = FUNCTIONS.iter().filter(|function| function.only.is_none_or(|only| only == dialect));
    if let Some(function) = known.find(|function| function.name == name) {
        return Ok(function);
    }
    let refused = match dialect {
        Dialect::Rules => REFUSED,
        Dialect::Notifications => REFUSED_IN_NOTIFICATIONS,
    };
    Err(if refused.contains(&name) {
        format!("function {name:?} is not supported in templates")
    } else {
        format!("function {name:?} not defined")
    })
}

/// Calls a function. `and` and `or` are not among them: they need not look at all of their arguments.
pub(super) fn call(name: &str, args: &[Val], data: &Data<'_>, query: &Query<'_>) -> Result<Val, String> {
    match (name, args) {
        ("query", [expression]) => {
            let samples = query(text(expression)?)?;
            Ok(Val::Samples(samples.into_iter().map(Rc::new).collect()))
        }
        ("first", [Val::Samples(samples)]) => match samples.first() {
            Some(sample) => Ok(Val::Sample(sample.clone())),
            None => Err("first() called on vector with no elements".to_owned()),
        },
        ("label", [name, Val::Sample(sample)]) => Ok(Val::text(sample.0.get(text(name)?))),
        ("value", [Val::Sample(sample)]) => Ok(Val::Float(sample.1)),
        ("strvalue", [Val::Sample(sample)]) => Ok(Val::text(sample.0.get("__value__"))),
        ("sortByLabel", [name, Val::Samples(samples)]) => {
            let name = text(name)?;
            let mut sorted = samples.to_vec();
            sorted.sort_by(|a, b| a.0.get(name).cmp(b.0.get(name)));
            Ok(Val::Samples(sorted.into()))
        }
        ("first" | "label" | "value" | "strvalue" | "sortByLabel", args) => {
            let found = args.last().map_or("nothing", Val::type_name);
            Err(format!("wrong type for value; expected the result of a query; got {found}"))
        }
        ("args", args) => {
            let named = args.iter().enumerate().map(|(at, value)| (format!("arg{at}"), value.clone()));
            Ok(Val::Map(Rc::new(named.collect())))
        }
        ("humanize", [value]) => humanize(number(value)?),
        ("humanize1024", [value]) => humanize1024(number(value)?),
        ("humanizeDuration", [value]) => humanize_duration(number(value)?),
        ("humanizePercentage", [value]) => Ok(Val::text(four(number(value)? * 100.0, "%"))),
        ("humanizeTimestamp" | "toTime", [value]) => timestamp(number(value)?, name),
        ("parseDuration", [value]) => duration(text(value)?),
        ("now", []) => Ok(Val::Float(data.at as f64 / 1000.0)),
        ("title", [value]) => Ok(Val::text(title(text(value)?))),
        ("toUpper", [value]) => Ok(Val::text(text(value)?.to_uppercase())),
        ("toLower", [value]) => Ok(Val::text(text(value)?.to_lowercase())),
        ("trimSpace", [value]) => Ok(Val::text(text(value)?.trim())),
        ("join", [separator, Val::List(items)]) => join(text(separator)?, items).map(Val::text),
        ("stringSlice", args) => {
            let items: Result<Arc<[Tree]>, String> = args.iter().map(|arg| text(arg).map(Tree::text)).collect();
            Ok(Val::List(items?))
        }
        ("date", [layout, Val::Time(time)]) => Ok(Val::text(layout::format(*time, text(layout)?)?)),
        ("since", [Val::Time(time)]) => Ok(Val::Float(data.at.saturating_sub(*time) as f64 / 1000.0)),
        ("date" | "since" | "join", [.., value]) => Err(format!("wrong type for value: {}", value.type_name())),
        ("toJson", [value]) => {
            let mut out = String::new();
            json(value, &mut out)?;
            Ok(Val::text(out))
        }
        ("safeHtml" | "safeUrl", [value]) => Ok(Val::text(text(value)?)),
        ("match", [pattern, value]) => Ok(Val::Bool(regex(text(pattern)?)?.is_match(text(value)?))),
        ("reReplaceAll", [pattern, with, value]) => replace_all(text(pattern)?, text(with)?, text(value)?),
        ("stripPort", [value]) => {
            let value = text(value)?;
            Ok(Val::text(host_port(value).map_or(value, |(host, _)| host)))
        }
        ("stripDomain", [value]) => Ok(Val::text(strip_domain(text(value)?))),
        ("externalURL", []) => Ok(Val::text(data.external_url)),
        ("pathPrefix", []) => {
            let after = data.external_url.split_once("://").map_or(data.external_url, |(_, after)| after);
            let path = after.find('/').and_then(|at| after.get(at..)).unwrap_or_default();
            let path = path.split(['?', '#']).next().unwrap_or_default();
            Ok(Val::text(path.strip_suffix('/').unwrap_or(path)))
        }
        ("graphLink", [value]) => Ok(Val::text(format!("/graph?g0.expr={}&g0.tab=0", escape(text(value)?)))),
        ("tableLink", [value]) => Ok(Val::text(format!("/graph?g0.expr={}&g0.tab=1", escape(text(value)?)))),
        ("urlQueryEscape", [value]) => Ok(Val::text(escape(text(value)?))),
        ("urlquery", args) => Ok(Val::text(escape(&joined(args)?))),
        ("html", args) => Ok(Val::text(html(&joined(args)?))),
        ("print", args) => print(args, false).map(Val::text),
        ("println", args) => print(args, true).map(Val::text),
        ("printf", [format, args @ ..]) => match format::printf(text(format)?, args) {
            Some(text) => Ok(Val::text(text)),
            None => Err(too_long()),
        },
        ("not", [value]) => Ok(Val::Bool(!value.truth())),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("eq", [first, others @ ..]) => {
            for other in others {
                if equal(first, other)? {
                    return Ok(Val::Bool(true));
                }
            }
            Ok(Val::Bool(false))
        }
        ("ne", [a, b]) => Ok(Val::Bool(!equal(a, b)?)),
        // Nothing stands in any order with a NaN, not even itself.
        ("lt", [a, b]) => Ok(Val::Bool(order(a, b)? == Some(Ordering::Less))),
        ("le", [a, b]) => Ok(Val::Bool(matches!(order(a, b)?, Some(Ordering::Less | Ordering::Equal)))),
        ("gt", [a, b]) => Ok(Val::Bool(order(a, b)? == Some(Ordering::Greater))),
        ("ge", [a, b]) => Ok(Val::Bool(matches!(order(a, b)?, Some(Ordering::Greater | Ordering::Equal)))),
        _ => Err(format!("BUG: function {name:?} can't be called")),
    }
}

/// The texts, with one between each two.
fn join(separator: &str, items: &[Tree]) -> Result<String, String> {
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        item.value().print(&mut out);
        if out.len() > MAX_OUTPUT {
            return Err(too_long());
        }
    }
    Ok(out)
}

/// As JSON, for the bodies of requests.
fn json(value: &Val, out: &mut String) -> Result<(), String> {
    if out.len() > MAX_OUTPUT {
        return Err(too_long());
    }
    let pairs = |out: &mut String, pairs: &mut dyn Iterator<Item = (&str, Val)>| {
        out.push('{');
        for (at, (name, value)) in pairs.enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            json_text(name, out);
            out.push(':');
            json(&value, out)?;
        }
        out.push('}');
        Ok(())
    };
    match value {
        Val::Bool(_) | Val::Int(_) => value.print(out),
        Val::Float(number) if number.is_finite() => value.print(out),
        Val::Float(_) | Val::Time(_) => {
            let mut text = String::new();
            value.print(&mut text);
            json_text(&text, out);
        }
        Val::Text(text) => json_text(text, out),
        Val::Labels(labels) => {
            return pairs(out, &mut labels.iter().map(|(name, value)| (name, Val::text(value))));
        }
        Val::Map(map) => return pairs(out, &mut map.iter().map(|(name, value)| (name.as_str(), value.clone()))),
        Val::Struct(parts) => return pairs(out, &mut parts.iter().map(|(name, part)| (*name, part.value()))),
        Val::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                json(&item.value(), out)?;
            }
            out.push(']');
        }
        Val::Nil | Val::Sample(_) | Val::Samples(_) | Val::Root => out.push_str("null"),
    }
    Ok(())
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if u32::from(c) < 0x20 || matches!(c, '\u{7f}' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn too_long() -> String {
    format!("the text grows longer than {MAX_OUTPUT} bytes")
}

fn text(value: &Val) -> Result<&str, String> {
    match value {
        Val::Text(text) => Ok(text),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

fn number(value: &Val) -> Result<f64, String> {
    match value {
        Val::Float(number) => Ok(*number),
        Val::Int(number) => Ok(*number as f64),
        Val::Text(text) => text.parse().map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn four(value: f64, unit: &str) -> String {
    format!("{}{unit}", format::float(value, 'g', Some(4)))
}

/// Divides or multiplies until the number stands between 1 and the factor.
fn scaled(mut value: f64, factor: f64, prefixes: &[&'static str], done: impl Fn(f64) -> bool) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if done(value.abs()) {
            break;
        }
        prefix = next;
        value *= factor;
    }
    (value, prefix)
}

const SMALL: &[&str] = &["m", "u", "n", "p", "f", "a", "z", "y"];

fn humanize(value: f64) -> Result<Val, String> {
    let (value, prefix) = if value == 0.0 || !value.is_finite() {
        (value, "")
    } else if value.abs() >= 1.0 {
        // Divided, not multiplied by a thousandth: that has other digits.
        let (mut value, mut prefix) = (value, "");
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            prefix = next;
            value /= 1000.0;
        }
        (value, prefix)
    } else {
        scaled(value, 1000.0, SMALL, |value| value >= 1.0)
    };
    Ok(Val::text(four(value, prefix)))
}

fn humanize1024(value: f64) -> Result<Val, String> {
    if value.abs() <= 1.0 || !value.is_finite() {
        return Ok(Val::text(four(value, "")));
    }
    let prefixes = &["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
    let (value, prefix) = scaled(value, 1.0 / 1024.0, prefixes, |value| value < 1024.0);
    Ok(Val::text(four(value, prefix)))
}

fn humanize_duration(value: f64) -> Result<Val, String> {
    if !value.is_finite() {
        return Ok(Val::text(four(value, "")));
    }
    if value == 0.0 {
        return Ok(Val::text(four(value, "s")));
    }
    if value.abs() < 1.0 {
        let (value, prefix) = scaled(value, 1000.0, SMALL, |value| value >= 1.0);
        return Ok(Val::text(four(value, &format!("{prefix}s"))));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    let whole = value as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    Ok(Val::text(match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}", four(value, "s")),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }))
}

/// As Go prints a time in UTC, to the millisecond.
fn timestamp(seconds: f64, function: &str) -> Result<Val, String> {
    if !seconds.is_finite() {
        let plain = four(seconds, "");
        return if function == "toTime" { Err(format!("{plain} is no time")) } else { Ok(Val::text(plain)) };
    }
    let nanoseconds = seconds * 1e9;
    if nanoseconds.abs() > i64::MAX as f64 {
        let number = format::float(seconds, 'g', None);
        return Err(format!("{number} cannot be represented as a nanoseconds timestamp since it overflows int64"));
    }
    let milliseconds = nanoseconds as i64 / 1_000_000;
    let (day, left) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
    let (year, month, day) = date(day);
    let (hour, minute, second) = (left / 3_600_000, left / 60_000 % 60, left / 1000 % 60);
    let fraction = match left % 1000 {
        0 => String::new(),
        part => format!(".{part:03}").trim_end_matches('0').to_owned(),
    };
    Ok(Val::text(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC")))
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: eras of 400 years, whose years begin in
/// March.
pub(super) fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn duration(text: &str) -> Result<Val, String> {
    let (sign, unsigned) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    if unsigned == "0" {
        return Ok(Val::Float(0.0));
    }
    let parsed = config::duration::parse(unsigned).map_err(|_| format!("not a valid duration string: {text:?}"))?;
    Ok(Val::Float(sign * parsed.as_secs_f64()))
}

/// Each word with a capital.
fn title(text: &str) -> String {
    let mut within = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if within {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        within = c.is_alphanumeric() || matches!(c, '_' | '\'') || (within && !c.is_whitespace() && !c.is_ascii());
    }
    out
}

fn regex(pattern: &str) -> Result<Regex, String> {
    searched(pattern).map_err(|error| format!("error parsing regexp {pattern:?}: {error}"))
}

fn replace_all(pattern: &str, with: &str, value: &str) -> Result<Val, String> {
    let regex = regex(pattern)?;
    let names = with.matches('$').count();
    let (mut out, mut end) = (String::new(), 0);
    for captures in regex.captures_iter(value) {
        let Some(whole) = captures.get(0) else { continue };
        out.push_str(value.get(end..whole.start()).unwrap_or_default());
        end = whole.end();
        // Before it is made: a replacement can name the same group again and again.
        if out.len() + with.len() + names.saturating_mul(whole.len()) > 4 * MAX_OUTPUT {
            return Err(too_long());
        }
        captures.expand(with, &mut out);
    }
    out.push_str(value.get(end..).unwrap_or_default());
    Ok(Val::text(out))
}

/// Host and port, as `net.SplitHostPort` takes them apart.
fn host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        return (!host.contains(['[', ']']) && !port.contains([':', '[', ']'])).then_some((host, port));
    }
    let (host, port) = text.split_once(':')?;
    (!port.contains(':') && !text.contains(['[', ']'])).then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or_default();
    if port.is_empty() { host.to_owned() } else { format!("{host}:{port}") }
}

/// As in a URL's query.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The only text, or all of them printed.
fn joined(args: &[Val]) -> Result<String, String> {
    match args {
        [Val::Text(text)] => Ok(text.to_string()),
        args => print(args, false),
    }
}

/// Go's `Sprint`, which puts a space between two values that are no texts, and `Sprintln`, which always does.
fn print(args: &[Val], line: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut before: Option<&Val> = None;
    for value in args {
        let texts = matches!(value, Val::Text(_)) || matches!(before, Some(Val::Text(_)));
        if before.is_some() && (line || !texts) {
            out.push(' ');
        }
        match value {
            Val::Nil => out.push_str("<nil>"),
            value => value.print(&mut out),
        }
        if out.len() > MAX_OUTPUT {
            return Err(too_long());
        }
        before = Some(value);
    }
    out.push_str(if line { "\n" } else { "" });
    Ok(out)
}

fn length(value: &Val) -> Result<Val, String> {
    let length = match value {
        Val::Text(text) => text.len(),
        Val::Labels(labels) => labels.len(),
        Val::Samples(samples) => samples.len(),
        Val::Map(map) => map.len(),
        Val::List(items) => items.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Val::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(value: &Val, key: &Val) -> Result<Val, String> {
    let label = |labels: &Labels| text(key).map(|name| Val::text(labels.get(name)));
    match value {
        Val::Labels(labels) => label(labels),
        Val::Map(map) => Ok(map.get(text(key)?).cloned().unwrap_or(Val::Nil)),
        Val::Samples(_) | Val::Text(_) | Val::List(_) => {
            let Val::Int(at) = key else {
                return Err(format!("cannot index slice/array with type {}", key.type_name()));
            };
            let found = usize::try_from(*at).ok().and_then(|at| match value {
                Val::Samples(samples) => samples.get(at).map(|sample| Val::Sample(sample.clone())),
                Val::List(items) => items.get(at).map(Tree::value),
                Val::Text(text) => text.as_bytes().get(at).map(|byte| Val::Int((*byte).into())),
                _ => None,
            });
            found.ok_or_else(|| format!("index out of range: {at}"))
        }
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn incompatible() -> String {
    "incompatible types for comparison".to_owned()
}

/// A whole number and one with a fraction can't be compared, as in Go: `gt $value 5.0`, not `5`.
fn equal(a: &Val, b: &Val) -> Result<bool, String> {
    Ok(match (a, b) {
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Int(a), Val::Int(b)) => a == b,
        (Val::Float(a), Val::Float(b)) => a == b,
        (Val::Text(a), Val::Text(b)) => a == b,
        (Val::Nil, Val::Nil) => true,
        (Val::Nil, _) | (_, Val::Nil) => false,
        _ => return Err(incompatible()),
    })
}

fn order(a: &Val, b: &Val) -> Result<Option<Ordering>, String> {
    Ok(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
        (Val::Float(a), Val::Float(b)) => a.partial_cmp(b),
        (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
        _ => return Err(incompatible()),
    })
}
