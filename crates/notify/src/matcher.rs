//! Conditions on labels as Alertmanager writes them: `severity="critical"`, `team=~"db|web"`, `{a="1", b!="2"}`.

use rules::labels::{MatchOp, Matcher};
use wire::LabelSet;

/// Reads one condition, or several in braces or with commas between them.
pub fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    let trimmed = text.trim();
    let inner = match trimmed.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(|| format!("{text:?} has no closing brace"))?,
        None => trimmed,
    };
    let mut matchers = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (matcher, after) = one(rest).map_err(|error| format!("{text:?} is no matcher: {error}"))?;
        matchers.push(matcher);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(format!("{text:?} is no matcher: a comma is missing before {rest:?}")),
        }
    }
    Ok(matchers)
}

/// Reads several texts.
pub fn parse_all(texts: &[String]) -> Result<Vec<Matcher>, String> {
    let mut matchers = Vec::new();
    for text in texts {
        let parsed = parse(text)?;
        if parsed.is_empty() {
            return Err(format!("{text:?} is no matcher such as severity=\"critical\""));
        }
        matchers.extend(parsed);
    }
    Ok(matchers)
}

/// Whether labels fulfil all of them. A label that is missing is empty.
pub fn all_match(matchers: &[Matcher], labels: &LabelSet) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
}

fn one(text: &str) -> Result<(Matcher, &str), String> {
    let (name, rest) = word(text, |c| c == '=' || c == '!' || c == '~' || c == ',' || c.is_whitespace())?;
    if name.is_empty() {
        return Err("a label's name is missing".to_owned());
    }
    let rest = rest.trim_start();
    let operators =
        [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];
    let found = operators.iter().find_map(|(sign, op)| rest.strip_prefix(sign).map(|rest| (*op, rest)));
    let Some((op, rest)) = found else { return Err(format!("one of = != =~ !~ is missing after {name:?}")) };
    let (value, rest) = word(rest.trim_start(), |c| c == ',')?;
    let matcher = Matcher::new(&name, op, &value).map_err(|error| error.to_string())?;
    Ok((matcher, rest))
}

/// A text in quotes, or one that ends before a sign.
fn word(text: &str, ends: impl Fn(char) -> bool) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(ends).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return match word.contains('"') {
            true => Err(format!("{:?} has a quote in its middle", word.trim())),
            false => Ok((word.trim().to_owned(), rest)),
        };
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                // As Alertmanager does: what stands in a regular expression keeps its backslash.
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a quote is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        Ok(parse(text)?.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn conditions_are_read_as_alertmanager_reads_them() {
        assert_eq!(shown("severity=critical").unwrap(), r#"severity="critical""#);
        assert_eq!(shown(r#" severity = "critical" "#).unwrap(), r#"severity="critical""#);
        assert_eq!(shown(r#"{a=~"x|y", b!="1,2" ,c!~z,}"#).unwrap(), r#"a=~"x|y" b!="1,2" c!~"z""#);
        assert_eq!(shown(r#"a="say \"no\"\\""#).unwrap(), r#"a="say \"no\"\\""#);
        assert_eq!(shown(r#"a=~"\d+""#).unwrap(), r#"a=~"\\d+""#);
        assert_eq!(shown("a=").unwrap(), r#"a="""#);
        assert_eq!(shown("").unwrap(), "");
    }

    #[test]
    fn what_is_none_is_refused_with_a_reason() {
        for (text, reason) in [
            ("severity", "one of = != =~ !~ is missing"),
            ("=x", "a label's name is missing"),
            ("{a=b", "no closing brace"),
            (r#"a="b"#, "not closed"),
            (r#"a="b"c"#, "a comma is missing"),
            ("a=~(", "a=~("),
            (r#"a=b"c"#, "a quote in its middle"),
        ] {
            let error = shown(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse_all(&[" ".to_owned()]).is_err());
    }

    #[test]
    fn a_missing_label_is_empty() {
        let labels: LabelSet = [("a".to_owned(), "1".to_owned())].into_iter().collect();
        let matches = |text| all_match(&parse(text).unwrap(), &labels);
        assert!(matches("a=1") && matches(r#"a=~"[0-9]",b="""#) && matches("b!=1") && matches(""));
        assert!(!matches("a=1,b=1") && !matches("a=~0"));
    }
}
