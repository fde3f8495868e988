//! A message of log records in one pass into its rows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use wire::messages::Level;
use wire::{BootId, Head, HostName, Timestamp, VERSION};

use super::{Line, LogRows, Span, TEXTS, Text};

/// Reads a message of log records in one pass, each text straight to where it stays. It gives what
/// [`decode_head`](wire::decode_head), [`decode_body`](wire::decode_body) and [`map::logs`](crate::map::logs) together
/// do, and takes nothing that these don't; `None` where they have to say what is wrong. `event` begins every `event_id`.
pub(crate) fn read(payload: &[u8], event: &str) -> Option<(Head, LogRows)> {
    // Texts are then not looked at one by one.
    let payload = std::str::from_utf8(payload).ok()?;
    let mut deserializer = serde_json::Deserializer::from_str(payload);
    let mut rows = LogRows::default();
    rows.0.texts.reserve(payload.len());
    let (head, mut rows) = Message { event, rows }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    if head.v != VERSION {
        return None;
    }
    let host = rows.add(head.host.as_str());
    for line in &mut rows.0.lines {
        line.texts[Text::Host as usize] = host;
    }
    Some((head, rows))
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    V,
    Host,
    Boot,
    Seq,
    Time,
    Records,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Column {
    Timestamp,
    Level,
    LevelOriginal,
    ServiceName,
    Message,
    LatencyMs,
    Logger,
    Environment,
    Category,
    TraceId,
    RequestId,
    Fields,
    #[serde(other)]
    Other,
}

struct Message<'e> {
    event: &'e str,
    rows: LogRows,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = (Head, LogRows);

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = (Head, LogRows);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message of log records")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut v, mut host, mut boot, mut seq, mut time, mut records) = (None, None, None, None, None, None);
        while let Some(key) = map.next_key()? {
            match key {
                Key::V => once(&mut v, map.next_value::<u32>()?)?,
                Key::Host => once(&mut host, map.next_value::<HostName>()?)?,
                Key::Boot => once(&mut boot, map.next_value::<Option<BootId>>()?)?,
                Key::Seq => once(&mut seq, map.next_value::<Option<u64>>()?)?,
                Key::Time => once(&mut time, map.next_value::<Timestamp>()?)?,
                Key::Records => once(&mut records, map.next_value_seed(Records(&mut self))?)?,
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let (Some(v), Some(host), Some(time), Some(())) = (v, host, time, records) else {
            return Err(A::Error::custom("a field is missing"));
        };
        Ok((Head { v, host, boot: boot.flatten(), seq: seq.flatten(), time }, self.rows))
    }
}

/// A field that comes twice is a fault.
fn once<T, E: Error>(field: &mut Option<T>, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a field comes twice")),
    }
}

struct Records<'m, 'e>(&'m mut Message<'e>);

impl<'de> DeserializeSeed<'de> for Records<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Records<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("log records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Message { event, rows } = self.0;
        while sequence.next_element_seed(Record { event, rows })?.is_some() {}
        Ok(())
    }
}

struct Record<'r, 'e> {
    event: &'e str,
    rows: &'r mut LogRows,
}

impl<'de> DeserializeSeed<'de> for Record<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Record<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { event, rows } = self;
        let (mut texts, mut there) = ([Span::default(); TEXTS], [false; TEXTS]);
        let (mut timestamp, mut level, mut latency_ms, mut original, mut fields) = (None, None, None, None, None);
        while let Some(key) = map.next_key()? {
            let (column, again) = match key {
                Column::Timestamp => {
                    once(&mut timestamp, map.next_value::<Timestamp>()?)?;
                    continue;
                }
                Column::Level => {
                    once(&mut level, map.next_value::<Level>()?)?;
                    continue;
                }
                Column::LatencyMs => {
                    once(&mut latency_ms, map.next_value::<Option<f64>>()?)?;
                    continue;
                }
                Column::LevelOriginal => {
                    once(&mut original, map.next_value::<Option<Cow<'de, str>>>()?)?;
                    continue;
                }
                Column::Fields => {
                    once(&mut fields, map.next_value_seed(Fields(rows))?)?;
                    continue;
                }
                Column::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Column::ServiceName => (Text::ServiceName, true),
                Column::Message => (Text::Message, false),
                Column::Logger => (Text::Logger, true),
                Column::Environment => (Text::Environment, true),
                Column::Category => (Text::Category, true),
                Column::TraceId => (Text::TraceId, true),
                Column::RequestId => (Text::RequestId, true),
            };
            let last = if again { rows.last(column) } else { Span::default() };
            texts[column as usize] = map.next_value_seed(OneText { rows, last })?;
            if std::mem::replace(&mut there[column as usize], true) {
                return Err(A::Error::custom("a field comes twice"));
            }
        }
        let (Some(timestamp), Some(level), true) = (timestamp, level, there[Text::Message as usize]) else {
            return Err(A::Error::custom("a field is missing"));
        };
        let level = level.as_str();
        let original = original.flatten();
        let original = rows.add_again(original.as_deref().unwrap_or(level), rows.last(Text::LevelOriginal));
        let event_id = rows.event_id(event);
        texts[Text::LevelOriginal as usize] = original;
        texts[Text::EventId as usize] = event_id;
        let fields = fields.unwrap_or_default();
        rows.0.lines.push(Line { timestamp, level, latency_ms: latency_ms.flatten(), texts, fields });
        Ok(())
    }
}

impl LogRows {
    /// Of the line that comes next.
    fn event_id(&mut self, event: &str) -> Span {
        let id = self.add(event);
        let (mut digits, mut rest, mut at) = ([b'-'; 21], self.0.lines.len(), 21);
        while at > 1 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        // Digits and a dash always are a text.
        let number = self.add(std::str::from_utf8(&digits[at - 1..]).unwrap_or_default());
        Span { start: id.start, length: id.length + number.length }
    }
}

/// A text into the buffer.
struct OneText<'r> {
    rows: &'r mut LogRows,
    last: Span,
}

impl<'de> DeserializeSeed<'de> for OneText<'_> {
    type Value = Span;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OneText<'_> {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        Ok(self.rows.add_again(text, self.last))
    }
}

/// A map of texts; gives its place among the fields.
struct Fields<'r>(&'r mut LogRows);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = (u32, u32);

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = (u32, u32);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let rows = self.0;
        let from = rows.0.fields.len();
        // Lines of one program mostly have the same fields in the same order.
        let mut before = rows.0.lines.last().map_or(0, |line| line.fields.0 as usize);
        let mut sorted = true;
        while let Some(name) = {
            let last = rows.0.fields.get(before).map_or(Span::default(), |pair| pair.0);
            map.next_key_seed(OneText { rows, last })?
        } {
            let last = rows.0.fields.get(before).map_or(Span::default(), |pair| pair.1);
            let value = map.next_value_seed(OneText { rows, last })?;
            before += 1;
            if let Some((last, _)) = rows.0.fields.get(from..).and_then(<[_]>::last) {
                sorted &= rows.0.text(*last) < rows.0.text(name);
            }
            rows.0.fields.push((name, value));
        }
        if !sorted {
            rows.sort_fields(from);
        }
        let from = u32::try_from(from).unwrap_or(u32::MAX);
        Ok((from, rows.count_fields()))
    }
}

impl LogRows {
    /// By name; of a name that comes several times the last value counts.
    fn sort_fields(&mut self, from: usize) {
        let fields = self.0.fields.split_off(from);
        let sorted: BTreeMap<&str, (Span, Span)> = fields.iter().map(|pair| (self.0.text(pair.0), *pair)).collect();
        let sorted: Vec<_> = sorted.into_values().collect();
        self.0.fields.extend(sorted);
    }
}

#[cfg(test)]
mod tests {
    use wire::{decode_body, decode_head};

    use super::*;

    fn slowly(payload: &[u8]) -> Option<(Head, LogRows)> {
        let head = decode_head(payload).ok()?;
        let rows = crate::map::logs(&head, decode_body(payload).ok()?, "b1-7");
        Some((head, rows.into()))
    }

    const HEAD: &str = r#"{"v":1,"host":"web-01","boot":"b1","seq":7,"time":"2026-11-21T22:30:00Z""#;
    const LINE: &str = r#"{"timestamp":"2026-11-21T22:30:00.123Z","level":"WARN","message":"m""#;

    #[test]
    fn one_pass_reads_what_two_passes_and_a_copy_do() {
        let with = |more: &str| format!("{HEAD},\"records\":[{LINE}{more}}}]}}");
        let many: Vec<String> = (0..1234).map(|n| format!("{LINE},\"request_id\":\"{n}\"}}")).collect();
        for payload in [
            format!("{HEAD},\"records\":[]}}"),
            format!("{HEAD},\"records\":[{}]}}", many.join(",")),
            with(""),
            with(r#","level_original":"warning","service_name":"s","latency_ms":1.25,"logger":"l","environment":"e""#),
            with(r#","category":"c","trace_id":"t","request_id":"r","fields":{"a":"1","b":"2"}"#),
            with(r#","level_original":null,"latency_ms":null,"fields":{}"#),
            with(r#","latency_ms":7,"what_comes_later":{"a":[1,null,"x"]}"#),
            with(r#","logger":"a \"quoted\" \u00fc \ud83d\ude00 \n ü 🦀""#),
            with(r#","fields":{"z":"1","a":"2","z":"3","\u0061":"4","m":"5"}"#),
            with(
                r#"},{"timestamp":"2026-11-21T23:30:00+01:00","level":"INFO","message":"","fields":{"a":"1"}},{"timestamp":"2026-11-21T22:30:01Z","level":"INFO","message":"m","fields":{"a":"1","b":"2"}"#,
            ),
            with("").replacen("\"boot\":\"b1\",\"seq\":7,", "", 1),
            with("").replacen("\"b1\",\"seq\":7,", "null,\"seq\":null,", 1),
            format!(" {{\"records\":[{LINE}}}],\"later\":[{{}}],{} ", &with("")[1..].replacen("records", "other", 1)),
        ] {
            let slow = slowly(payload.as_bytes());
            assert!(slow.is_some(), "{payload}");
            assert_eq!(read(payload.as_bytes(), "b1-7"), slow, "{payload}");
        }
        for payload in [
            String::new(),
            "[]".to_owned(),
            HEAD.to_owned() + "}",
            with("") + "}",
            with("").replacen("\"v\":1", "\"v\":2", 1),
            with("").replacen("\"v\":1", "\"v\":1,\"v\":1", 1),
            with("").replacen("\"v\":1,", "", 1),
            with("").replacen("\"records\"", "\"records\":[],\"records\"", 1),
            with("").replacen("web-01", "web 01", 1),
            with("").replacen("WARN", "warn", 1),
            with("").replacen("\"m\"", "null", 1),
            with("").replacen(",\"message\":\"m\"", "", 1),
            with("").replacen("22:30:00.123Z", "late", 1),
            with(r#","message":"twice""#),
            with(r#","level_original":"a","level_original":null"#),
            with(r#","logger":null"#),
            with(r#","logger":7"#),
            with(r#","logger":"\ud83d""#),
            with(r#","fields":{"a":1}"#),
            with(r#","fields":null"#),
            with(r#","latency_ms":"1""#),
        ] {
            assert_eq!((read(payload.as_bytes(), "b1-7"), slowly(payload.as_bytes())), (None, None), "{payload}");
        }
        let cut = with(r#","logger":"ü""#).into_bytes();
        for end in 0..cut.len() {
            assert_eq!(read(&cut[..end], ""), None);
        }
    }

    /// Numbers that are the same in every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }

        fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
            of[self.below(of.len())]
        }

        fn text(&mut self) -> String {
            const PARTS: [&str; 16] = [
                "a",
                "order",
                " ",
                "ü",
                "🦀",
                "\\n",
                "\\\"",
                "\\\\",
                "\\/",
                "\\u0000",
                "\\u00fc",
                "\\ud83d\\ude00",
                "\\ud83d",
                "\u{7f}",
                "{",
                "0",
            ];
            // Half a pair is a fault, and most texts are to be read.
            let parts = if self.below(50) == 0 { &PARTS[..] } else { &PARTS[..12] };
            let text: String = (0..self.below(6)).map(|_| self.one_of(parts)).collect();
            format!("\"{text}\"")
        }

        fn value(&mut self, key: &str) -> String {
            const ANY: [&str; 12] = [
                "null",
                "true",
                "-1",
                "1e400",
                "-0.0",
                "18446744073709551616",
                "[]",
                "{}",
                "[{\"a\":[]}]",
                "\"\"",
                "7",
                "x",
            ];
            if self.below(40) == 0 {
                return self.one_of(&ANY).to_owned();
            }
            match key {
                "v" => "1".to_owned(),
                "host" => "\"web-01\"".to_owned(),
                "boot" => self.one_of(&["\"b1\"", "null", "\"b\\u0031\""]).to_owned(),
                "seq" => self.one_of(&["1", "7", "null", "18446744073709551615"]).to_owned(),
                "time" | "timestamp" => self
                    .one_of(&[
                        "\"2026-11-21T22:30:00Z\"",
                        "\"2026-11-21T23:30:00.123456+01:00\"",
                        "\"0001-01-01T00:00:00Z\"",
                    ])
                    .to_owned(),
                "level" => self.one_of(&["\"INFO\"", "\"WARN\"", "\"FATAL\"", "\"\\u0049NFO\""]).to_owned(),
                "latency_ms" => self.one_of(&["1.5", "0", "-0.0", "1e-7", "12345678901234567890", "null"]).to_owned(),
                "level_original" if self.below(3) == 0 => "null".to_owned(),
                "fields" => self.object(&["a", "b", "z", "\\u0061", "status"], 6),
                "records" => {
                    const KEYS: [&str; 13] = [
                        "timestamp",
                        "level",
                        "message",
                        "service_name",
                        "logger",
                        "environment",
                        "category",
                        "trace_id",
                        "request_id",
                        "level_original",
                        "latency_ms",
                        "fields",
                        "later",
                    ];
                    let lines: Vec<String> = (0..self.below(4)).map(|_| self.fields(&KEYS, 3)).collect();
                    format!("[{}]", lines.join(","))
                }
                "later" => self.one_of(&ANY).to_owned(),
                _ => self.text(),
            }
        }

        /// The first `needed` of these, and some of the others, in some order.
        fn fields(&mut self, keys: &[&str], needed: usize) -> String {
            let rare = self.below(30) == 0;
            let mut chosen: Vec<&str> = Vec::new();
            for (place, key) in keys.iter().enumerate() {
                let times = match self.below(100) {
                    0 if rare => 2,
                    1 if rare => 0,
                    n => usize::from(place < needed || n < 50),
                };
                (0..times).for_each(|_| {
                    let at = self.below(chosen.len() + 1);
                    chosen.insert(at, key);
                });
            }
            let pairs: Vec<String> = chosen.iter().map(|key| format!("\"{key}\":{}", self.value(key))).collect();
            format!("{{{}}}", pairs.join(self.one_of(&[",", " , ", ",\n"])))
        }

        fn object(&mut self, keys: &[&str], most: usize) -> String {
            let pairs: Vec<String> =
                (0..self.below(most)).map(|_| format!("\"{}\":{}", self.one_of(keys), self.text())).collect();
            format!("{{{}}}", pairs.join(","))
        }
    }

    #[test]
    fn one_pass_agrees_with_two_on_whatever_comes() {
        let (mut dice, mut both, mut neither) = (Dice(0x9e37_79b9_7f4a_7c15), 0, 0);
        for round in 0..20_000 {
            let mut payload = dice.fields(&["v", "host", "time", "records", "boot", "seq", "later"], 4).into_bytes();
            for _ in 0..if dice.below(4) == 0 { 1 + dice.below(3) } else { 0 } {
                if payload.is_empty() {
                    break;
                }
                let at = dice.below(payload.len());
                match dice.below(4) {
                    0 => drop(payload.remove(at)),
                    1 => payload.truncate(at + 1),
                    2 => payload[at] = dice.below(256) as u8,
                    _ => payload.insert(at, b"{}[]\",:\\ 0u\xff\xc3"[dice.below(13)]),
                }
            }
            let (fast, slow) = (read(&payload, "b1-7"), slowly(&payload));
            assert_eq!(fast, slow, "round {round}: {}", String::from_utf8_lossy(&payload));
            *if fast.is_some() { &mut both } else { &mut neither } += 1;
        }
        assert!(both > 5_000 && neither > 3_000, "{both} messages are read, {neither} are not");
    }
}
