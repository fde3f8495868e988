//! A page of `/metrics`, read for comparing.

use std::collections::BTreeMap;
use std::fmt;

/// The name of a sample with its labels, whatever their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    /// The family that it belongs to.
    pub(super) family: String,
    name: String,
    labels: Vec<(String, String)>,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<_> = self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{}{{{}}}", self.name, labels.join(","))
    }
}

/// The classic text, taken apart.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// By family.
    pub(super) types: BTreeMap<String, String>,
    /// By family.
    pub(super) help: BTreeMap<String, String>,
    pub(super) series: BTreeMap<Series, f64>,
}

impl Page {
    pub(super) fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut family = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                page.help.insert(name.to_owned(), help.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line:?}"));
                family = name.to_owned();
                page.types.insert(family.clone(), kind.to_owned());
            } else {
                let (series, value) = sample(&family, line).unwrap_or_else(|| panic!("no sample: {line:?}"));
                assert!(series.name.starts_with(&family), "{line:?} stands below {family}");
                assert!(page.series.insert(series, value).is_none(), "{line:?} stands there twice");
            }
        }
        page
    }

    /// Takes a label out of a family's series.
    pub(super) fn without_label(mut self, family: &str, label: &str) -> Self {
        let keep = |(mut series, value): (Series, f64)| {
            if series.family == family {
                series.labels.retain(|(name, _)| name != label);
            }
            (series, value)
        };
        self.series = self.series.into_iter().map(keep).collect();
        self
    }
}

/// `name{label="value",…} number`
fn sample(family: &str, line: &str) -> Option<(Series, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    labels.sort();
    let value = rest.trim().parse().ok()?;
    Some((Series { family: family.to_owned(), name: name.to_owned(), labels }, value))
}

/// What stands before the closing quote, and the rest behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[test]
fn labels_are_read_in_any_order_with_what_they_escape() {
    let a = Page::read("# TYPE x gauge\nx{b=\"2\",a=\"q\\\"\\n,}\"} 1.5\n");
    let b = Page::read("# TYPE x gauge\nx{a=\"q\\\"\\n,}\",b=\"2\"} 1.5\n");
    assert_eq!(a.series, b.series);
    assert_eq!(a.series.keys().next().unwrap().to_string(), "x{a=\"q\\\"\\n,}\",b=\"2\"}");
}
