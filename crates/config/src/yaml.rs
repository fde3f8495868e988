//! Configuration in YAML, for the files whose form others have set: Prometheus' web configuration and rules.
//!
//! The text becomes the same tree that a TOML file does, so that faults are found, placed and worded alike, all at once.
//! Plain scalars that look like numbers or booleans are such, unless the key wants a text. Anchors, aliases, tags of
//! one's own and a second document are refused: nothing that we read needs them, and they let small files grow large.

use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::load::{ConfigError, Fault, Loaded, MAX_FAULTS, Place, explain, note_places, note_values, sort, take};
use super::tree;

/// Deeper nesting is no configuration of ours.
const MAX_DEPTH: usize = 32;

/// What stands at one place of the text. Its number is its place: the tree's spans are such numbers.
struct Item {
    what: What,
    line: usize,
    column: usize,
}

enum What {
    Map,
    List,
    End,
    Text(String),
    /// Without quotes: perhaps a number.
    Plain(String),
    /// The same where all are texts: `null` and nothing at all are no text.
    Null,
}

/// Reads a file.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<Loaded<T>, ConfigError> {
    let text = super::file::read_text(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    load_text(file, &text)
}

/// As [`load`], over the text of a file that was already read.
pub fn load_text<T: DeserializeOwned>(file: &Path, text: &str) -> Result<Loaded<T>, ConfigError> {
    read(file, text, true)
}

/// As [`load_text`], where all values are texts: nothing is taken for a number or a boolean. The place of a key is that of
/// its value, those within lists too (`groups[0].rules[1].expr`).
pub fn load_texts<T: DeserializeOwned>(file: &Path, text: &str) -> Result<Loaded<T>, ConfigError> {
    read(file, text, false)
}

fn read<T: DeserializeOwned>(file: &Path, text: &str, typed: bool) -> Result<Loaded<T>, ConfigError> {
    let file = Some(file.to_owned());
    let error = |fault: Fault| ConfigError::Faults { file: file.clone(), faults: vec![fault] };
    let items = items(text, typed).map_err(error)?;
    let mut table = tree(&items).map_err(error)?;

    let place = |number: usize| match items.get(number) {
        Some(item) => Place::Line(item.line, item.column),
        None => Place::Default,
    };
    let mut places = std::collections::BTreeMap::new();
    if typed {
        note_places(&table, "", &|span| place(span.start), &mut places);
    } else {
        note_values(&table, "", &|span| place(span.start), &mut places);
    }
    let mut faults = Vec::new();
    // As for TOML: what an error complains about is taken out, and the rest read again, so that every fault is found.
    loop {
        let error = match tree::read(&table) {
            Ok(value) if faults.is_empty() => return Ok(Loaded { value, file, places }),
            Ok(_) => break,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(items.len()..items.len());
        if let Some(Item { what: What::Plain(text), .. }) = items.get(span.start)
            && retype(&mut table, span.start, text)
        {
            continue;
        }
        let taken = take(&mut table, &span, "");
        let path = taken.as_ref().map_or("", |taken| &taken.path);
        faults.push(Fault { place: place(span.start), message: explain(error.message(), path) });
        if taken.is_none() || faults.len() >= MAX_FAULTS {
            break;
        }
    }
    sort(&mut faults);
    Err(ConfigError::Faults { file, faults })
}

fn items(text: &str, typed: bool) -> Result<Vec<Item>, Fault> {
    let mut items = Vec::new();
    let mut documents = 0;
    // saphyr counts columns from 0.
    let at = |span: &Span| (span.start.line(), span.start.col() + 1);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Fault {
            place: Place::Line(error.marker().line(), error.marker().col() + 1),
            message: error.info().to_owned(),
        })?;
        let (line, column) = at(&span);
        let refused =
            |what: &str| Err(Fault { place: Place::Line(line, column), message: format!("{what} can't be used here") });
        let what = match event {
            Event::Alias(_) => return refused("an alias"),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return refused("an anchor");
            }
            Event::Scalar(_, _, _, Some(tag))
            | Event::SequenceStart(_, Some(tag))
            | Event::MappingStart(_, Some(tag))
                if !tag.is_yaml_core_schema() =>
            {
                return refused("a tag");
            }
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return refused("a second document");
                }
                continue;
            }
            Event::Scalar(text, ScalarStyle::Plain, _, None) if typed => What::Plain(text.into_owned()),
            Event::Scalar(text, ScalarStyle::Plain, _, None) if plain(&text).is_none() => What::Null,
            Event::Scalar(text, ..) => What::Text(text.into_owned()),
            Event::SequenceStart(..) => What::List,
            Event::MappingStart(..) => What::Map,
            Event::SequenceEnd | Event::MappingEnd => What::End,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
        };
        items.push(Item { what, line, column });
    }
    Ok(items)
}

/// The items as a table; an empty text is an empty one.
fn tree(items: &[Item]) -> Result<DeTable<'_>, Fault> {
    let mut rest = items.iter().enumerate();
    match value(&mut rest, 0)? {
        None => Ok(DeTable::new()),
        Some(root) => match root.into_inner() {
            DeValue::Table(table) => Ok(table),
            _ => Err(items.first().map_or_else(
                || Fault { place: Place::Default, message: String::new() },
                |item| fault(item, "expected keys with values, such as `key: value`"),
            )),
        },
    }
}

type Items<'a, 'b> = &'b mut std::iter::Enumerate<std::slice::Iter<'a, Item>>;

/// The next value. `None` for one that is null: its key counts as not there.
fn value<'a>(rest: Items<'a, '_>, depth: usize) -> Result<Option<Spanned<DeValue<'a>>>, Fault> {
    let Some((number, item)) = rest.next() else { return Ok(None) };
    if depth > MAX_DEPTH {
        return Err(fault(item, "too deeply nested"));
    }
    let value = match &item.what {
        What::Text(text) => DeValue::String(text.as_str().into()),
        What::Plain(text) => match plain(text) {
            Some(value) => value,
            None => return Ok(None),
        },
        What::Null => return Ok(None),
        What::List => {
            let mut list = toml::de::DeArray::new();
            while !ends(rest) {
                if let Some(value) = value(rest, depth + 1)? {
                    list.push(value);
                }
            }
            DeValue::Array(list)
        }
        What::Map => {
            let mut table = DeTable::new();
            while !ends(rest) {
                let Some((number, item)) = rest.next() else { break };
                let (What::Text(key) | What::Plain(key)) = &item.what else {
                    return Err(fault(item, "a key must be a plain text"));
                };
                let key = Spanned::new(number..number, key.as_str().into());
                let value = value(rest, depth + 1)?;
                if table.contains_key(&key) {
                    return Err(fault(item, &format!("{} stands here twice", key.get_ref())));
                }
                if let Some(value) = value {
                    table.insert(key, value);
                }
            }
            DeValue::Table(table)
        }
        What::End => return Ok(None),
    };
    Ok(Some(Spanned::new(number..number, value)))
}

/// Whether the list or map ends here; its end is taken.
fn ends(rest: Items<'_, '_>) -> bool {
    let mut ahead = rest.clone();
    match ahead.next() {
        None => true,
        Some((_, Item { what: What::End, .. })) => {
            *rest = ahead;
            true
        }
        Some(_) => false,
    }
}

/// YAML 1.2's core schema, as far as TOML has it too. `None` is null.
fn plain(text: &str) -> Option<DeValue<'_>> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return None,
        "true" | "True" | "TRUE" => return Some(DeValue::Boolean(true)),
        "false" | "False" | "FALSE" => return Some(DeValue::Boolean(false)),
        _ => {}
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'))
        && let Ok(number) = DeValue::parse(text)
        && matches!(number.get_ref(), DeValue::Integer(_) | DeValue::Float(_))
    {
        return Some(number.into_inner());
    }
    Some(DeValue::String(text.into()))
}

/// Makes the value of this number the text that stands in the file. False where it is one already, or is not there.
fn retype<'a>(table: &mut DeTable<'a>, number: usize, text: &'a str) -> bool {
    table.iter_mut().any(|(_, value)| retype_value(value, number, text))
}

fn retype_value<'a>(value: &mut Spanned<DeValue<'a>>, number: usize, text: &'a str) -> bool {
    let here = value.span().start == number;
    match value.get_mut() {
        DeValue::Table(inner) => retype(inner, number, text),
        DeValue::Array(items) => items.iter_mut().any(|item| retype_value(item, number, text)),
        DeValue::String(_) => false,
        other if here => {
            *other = DeValue::String(text.into());
            true
        }
        _ => false,
    }
}

fn fault(item: &Item, message: &str) -> Fault {
    Fault { place: Place::Line(item.line, item.column), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct File {
        name: Option<String>,
        size: u32,
        on: bool,
        list: Vec<String>,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        ratio: f64,
        texts: BTreeMap<String, String>,
    }

    fn read(text: &str) -> Result<File, String> {
        load_text(Path::new("f.yml"), text).map(|loaded: Loaded<File>| loaded.value).map_err(|e| e.to_string())
    }

    #[test]
    fn values_are_what_the_keys_want() {
        let text = "# comment\n---\nname: 007\nsize: 12\non: True\nlist: [a, 1.0, \"c: d\"]\ninner:\n  ratio: 0.5\n  \
                    texts:\n    a.b: true\n    1: |\n      two\n      lines\n    empty:\n";
        let texts = [("a.b", "true"), ("1", "two\nlines\n")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let expected = File {
            name: Some("007".into()),
            size: 12,
            on: true,
            list: vec!["a".into(), "1.0".into(), "c: d".into()],
            inner: Inner { ratio: 0.5, texts: texts.into() },
        };
        assert_eq!(read(text).unwrap(), expected);
        for nothing in ["", "# only a comment\n", "---\n", "~\n", "{}"] {
            assert_eq!(read(nothing).unwrap(), File::default(), "{nothing:?}");
        }
    }

    #[test]
    fn every_fault_has_its_place() {
        let error = read("nam: x\nsize: many\ninner:\n  ratioo: 1\nlist:\n  - a\n  - [b]\n").unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines[0], "f.yml:1:1: unknown key nam; did you mean name?");
        assert!(lines[1].starts_with("f.yml:2:7: size: invalid type: string \"many\""), "{error}");
        assert_eq!(lines[2], "f.yml:4:3: unknown key inner.ratioo; did you mean ratio?");
        assert!(lines[3].starts_with("f.yml:7:5: list"), "{error}");
        assert_eq!(lines.len(), 4, "{error}");
    }

    #[test]
    fn where_all_are_texts_each_value_has_its_place() {
        #[derive(Debug, Default, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Texts {
            items: Vec<BTreeMap<String, String>>,
            nothing: Option<String>,
        }
        let text = "items:\n  - a: 007\n    b: true\n  - c: |\n      d\n    e: 'f'\nnothing: ~\n";
        let loaded: Loaded<Texts> = load_texts(Path::new("f.yml"), text).unwrap();
        let map = |pairs: [(&str, &str); 2]| pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let items = vec![map([("a", "007"), ("b", "true")]), map([("c", "d\n"), ("e", "f")])];
        assert_eq!(loaded.value, Texts { items, nothing: None });
        for (path, line, column) in
            [("items[0]", 2, 5), ("items[0].a", 2, 8), ("items[0].b", 3, 8), ("items[1].c", 5, 7), ("items[1].e", 6, 8)]
        {
            assert_eq!(loaded.place(path), Some(&Place::Line(line, column)), "{path}");
        }
        assert_eq!(loaded.place("nothing"), None);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (text, said) in [
            ("- a\n", "f.yml:1:1: expected keys with values"),
            ("a: &x 1\nb: *x\n", "f.yml:1:"),
            ("name: !own x\n", "a tag can't be used here"),
            ("name: a\n---\nname: b\n", "a second document can't be used here"),
            ("name: a\nname: b\n", "f.yml:2:1: name stands here twice"),
            ("name: [a\n", "f.yml:"),
            ("name: \"a\n", "f.yml:"),
            ("inner:\n\tratio: 1\n", "f.yml:2:"),
            ("[a]: b\n", "a key must be a plain text"),
            ("name: \0\n", "f.yml:"),
        ] {
            let error = read(text).map_err(|error| error.to_string()).expect_err(text);
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let deep = format!("name: {}\n", "[".repeat(200));
        assert!(read(&deep).is_err());
        let deep = format!("list: {}{}\n", "[".repeat(200), "]".repeat(200));
        assert!(read(&deep).unwrap_err().contains("too deeply nested"));
    }

    /// Whatever the bytes are, an answer comes.
    #[test]
    fn broken_files_neither_panic_nor_hang() {
        let text = "tls:\n  cert: a\n  list: [x, {y: 1}]\n'k': \"v\\n\"\nt: |\n  a\n---\n...\n{---";
        const SIGNS: &[u8] = b"{}[]:-,'\"|>&*!%@`\n\t #?a0~";
        let mut state = 1_u32;
        let mut next = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for _ in 0..5000 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=next(6) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes[at] = SIGNS[next(SIGNS.len())],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, SIGNS[next(SIGNS.len())]),
                }
            }
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}
