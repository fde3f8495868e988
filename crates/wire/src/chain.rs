//! The chain of a host's audit records: each carries a number and a hash over itself and the record before, so that whoever
//! reads them back from a store finds out what was altered, taken out, put in or moved.
//!
//! Records of the category [`CATEGORY`] are chained where the agent puts them into its spool, one chain for each run of the
//! agent. The chain stands in their `fields`: [`BOOT`] names the run, [`SEQ`] counts its audit records from 1, [`HASH`] is the
//! hash in hexadecimal, and the first record of a run says in [`BEFORE`] where the chain of the run before ended.
//!
//! # The hash
//!
//! SHA-256 over the hash of the record before (32 bytes; zeros for the first of a run) and the record's items, each as
//! `<length in bytes>:<bytes>,`:
//!
//! 1. the host's name
//! 2. the time stamp in milliseconds since 1970 as a decimal number, not before 1900-01-01 nor after 2299-12-31T23:59:59.999Z
//! 3. `level`, 4. `level_original` (`level` where the line's own word was the same), 5. `service_name`, 6. `message`
//! 7. the latency as the 16 hexadecimal digits of its IEEE 754 bits, or nothing
//! 8. `logger`, 9. `environment`, 10. `category`, 11. `trace_id`, 12. `request_id`
//! 13. and so on: name and value of each field but [`HASH`], by the bytes of their names
//!
//! All of that is in a row of `logs`. Which message brought a record, and when it arrived in the store, is not part of it: a
//! message that is too large for the broker goes in halves.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::messages::LogRecord;
use crate::{BootId, HostName, Timestamp};

/// Records of this category are chained.
pub const CATEGORY: &str = "audit";

/// The field with the run of the agent whose chain it is.
pub const BOOT: &str = "chain.boot";

/// The field with the record's number in its chain, from 1.
pub const SEQ: &str = "chain.seq";

/// The field with its hash.
pub const HASH: &str = "chain.hash";

/// The field of a chain's first record that says where the one before ended: `<run> <number> <hash>`.
pub const BEFORE: &str = "chain.before";

/// Where a store cuts times, the time as it was.
const ORIGINAL_TIME: &str = "original_time";

/// What ClickHouse's `DateTime64(3)` holds, in ms since 1970.
const TIMES: (i64, i64) = (-2_208_988_800_000, 10_413_791_999_999);

/// A SHA-256. `Display` and serde write it in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hash([u8; 32]);

/// A text is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct HashError;

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let digits = text.as_bytes();
        let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8).ok_or(HashError);
        if digits.len() != 64 {
            return Err(HashError);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return Err(HashError) };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Hash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hash".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// A record as a row of `logs` gives it back.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Line<'a> {
    pub host: &'a str,
    pub timestamp: Timestamp,
    pub level: &'a str,
    pub level_original: &'a str,
    pub service_name: &'a str,
    pub message: &'a str,
    pub latency_ms: Option<f64>,
    pub logger: &'a str,
    pub environment: &'a str,
    pub category: &'a str,
    pub trace_id: &'a str,
    pub request_id: &'a str,
    pub fields: &'a BTreeMap<String, String>,
}

impl<'a> Line<'a> {
    /// A record of a host.
    pub fn of(host: &'a HostName, record: &'a LogRecord) -> Self {
        Self {
            host: host.as_str(),
            timestamp: record.timestamp,
            level: record.level.as_str(),
            level_original: record.level_original.as_deref().unwrap_or(record.level.as_str()),
            service_name: &record.service_name,
            message: &record.message,
            latency_ms: record.latency_ms,
            logger: &record.logger,
            environment: &record.environment,
            category: &record.category,
            trace_id: &record.trace_id,
            request_id: &record.request_id,
            fields: &record.fields,
        }
    }

    /// The hash that it has behind a record with that hash.
    pub fn hash(&self, before: &Hash) -> Hash {
        let mut hasher = Hasher(Context::new(&SHA256));
        hasher.0.update(&before.0);
        hasher.item(self.host);
        hasher.item(&held(self.timestamp).to_string());
        for text in [self.level, self.level_original, self.service_name, self.message] {
            hasher.item(text);
        }
        // Neither JSON nor every store tells -0 from 0.
        hasher.item(&self.latency_ms.map(|ms| format!("{:016x}", (ms + 0.0).to_bits())).unwrap_or_default());
        for text in [self.logger, self.environment, self.category, self.trace_id, self.request_id] {
            hasher.item(text);
        }
        for (name, value) in self.fields.iter().filter(|(name, _)| *name != HASH) {
            hasher.item(name);
            hasher.item(value);
        }
        let mut hash = Hash::default();
        hash.0.copy_from_slice(hasher.0.finish().as_ref());
        hash
    }
}

struct Hasher(Context);

impl Hasher {
    fn item(&mut self, text: &str) {
        self.0.update(format!("{}:", text.len()).as_bytes());
        self.0.update(text.as_bytes());
        self.0.update(b",");
    }
}

/// The nearest time that every store holds.
fn held(time: Timestamp) -> i64 {
    time.as_millis().clamp(TIMES.0, TIMES.1)
}

/// How far a chain goes: the number and hash of its last record, 0 and zeros before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// The number.
    pub seq: u64,
    /// The hash.
    pub hash: Hash,
}

/// The chain of one run of an agent, under way.
#[derive(Debug, Clone)]
pub struct Chain {
    host: HostName,
    boot: BootId,
    before: Option<String>,
    end: End,
}

impl Chain {
    /// Without a record yet. `before`: the last run that had a chain, and where that ended.
    pub fn new(host: HostName, boot: BootId, before: Option<(&BootId, End)>) -> Self {
        let before = before.map(|(boot, End { seq, hash })| format!("{boot} {seq} {hash}"));
        Self { host, boot, before, end: End::default() }
    }

    /// The run.
    pub fn boot(&self) -> &BootId {
        &self.boot
    }

    /// How far it goes.
    pub fn end(&self) -> End {
        self.end
    }

    /// Chains the audit records among these, in their order, and says whether there were any.
    pub fn add(&mut self, records: &mut [LogRecord]) -> bool {
        let mut any = false;
        for record in records.iter_mut().filter(|record| record.category == CATEGORY) {
            any = true;
            self.add_one(record);
        }
        any
    }

    fn add_one(&mut self, record: &mut LogRecord) {
        if let Some(latency) = record.latency_ms {
            record.latency_ms = settled(latency);
            if record.latency_ms.is_none() {
                // No latency that anybody measured.
                record.fields.entry("latency_ms".to_owned()).or_insert_with(|| latency.to_string());
            }
        }
        for name in [BOOT, SEQ, HASH, BEFORE] {
            // A line's own field of that name is kept beside ours.
            if let Some(own) = record.fields.remove(name) {
                record.fields.entry(format!("line.{name}")).or_insert(own);
            }
        }
        if held(record.timestamp) != record.timestamp.as_millis() {
            record.fields.entry(ORIGINAL_TIME.to_owned()).or_insert_with(|| record.timestamp.to_string());
        }
        let seq = self.end.seq + 1;
        record.fields.insert(BOOT.to_owned(), self.boot.to_string());
        record.fields.insert(SEQ.to_owned(), seq.to_string());
        if let Some(before) = self.before.as_ref().filter(|_| seq == 1) {
            record.fields.insert(BEFORE.to_owned(), before.clone());
        }
        let hash = Line::of(&self.host, record).hash(&self.end.hash);
        record.fields.insert(HASH.to_owned(), hash.to_string());
        self.end = End { seq, hash };
    }
}

/// The number, or one beside it, that reads back from JSON as it is: what parses quickly may miss the last bit. `None` for
/// what is no number, or one without end.
fn settled(number: f64) -> Option<f64> {
    if !number.is_finite() {
        return None;
    }
    // -0 is 0. Fifteen digits read back right at any size that a latency has; below that, nanoseconds will do.
    let rounded = format!("{number:.14e}").parse().ok()?;
    let nanoseconds = format!("{number:.6}").parse().ok()?;
    let settles = |number: &f64| {
        let read = serde_json::to_string(number).ok().and_then(|text| serde_json::from_str::<f64>(&text).ok());
        read.is_some_and(|read| read.to_bits() == number.to_bits())
    };
    [number + 0.0, rounded, nanoseconds].into_iter().find(settles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Level;

    fn host() -> HostName {
        "web-01".parse().unwrap()
    }

    fn record(message: &str) -> LogRecord {
        LogRecord {
            timestamp: Timestamp::from_millis(1_790_000_000_123),
            level: Level::Warn,
            level_original: Some("WARNING".to_owned()),
            service_name: "sudo".to_owned(),
            message: message.to_owned(),
            latency_ms: Some(0.1),
            logger: String::new(),
            environment: String::new(),
            category: CATEGORY.to_owned(),
            trace_id: String::new(),
            request_id: String::new(),
            fields: BTreeMap::from([("user".to_owned(), "ü".to_owned())]),
        }
    }

    fn chain() -> Chain {
        Chain::new(host(), "b1".parse().unwrap(), None)
    }

    /// What an outside verifier has to compute: changing it breaks every chain in every store.
    #[test]
    fn the_hash_is_pinned() {
        let mut records = [record("a"), record("b")];
        assert!(chain().add(&mut records));
        assert_eq!(records[0].fields[SEQ], "1");
        assert_eq!(records[1].fields[SEQ], "2");
        let text = "6:web-01,13:1790000000123,4:WARN,7:WARNING,4:sudo,1:a,16:3fb999999999999a,0:,0:,5:audit,0:,0:,\
                    10:chain.boot,2:b1,9:chain.seq,1:1,4:user,2:ü,";
        let digest = ring::digest::digest(&SHA256, &[&[0; 32], text.as_bytes()].concat());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(records[0].fields[HASH], hex);
        let first: Hash = hex.parse().unwrap();
        assert_eq!(Line::of(&host(), &records[1]).hash(&first).to_string(), records[1].fields[HASH]);
        assert_ne!(Line::of(&host(), &records[1]).hash(&Hash::default()).to_string(), records[1].fields[HASH]);
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let mut original = [record("a")];
        chain().add(&mut original);
        let host = host();
        let hash = |record: &LogRecord| Line::of(&host, record).hash(&Hash::default());
        let whole = hash(&original[0]);
        let changes: [fn(&mut LogRecord); 13] = [
            |r| r.timestamp = Timestamp::from_millis(1_790_000_000_124),
            |r| r.level = Level::Error,
            |r| r.level_original = None,
            |r| r.service_name.push('x'),
            |r| r.message.push('x'),
            |r| r.latency_ms = Some(0.2),
            |r| r.latency_ms = None,
            |r| r.logger.push('x'),
            |r| r.environment.push('x'),
            |r| r.trace_id.push('x'),
            |r| r.request_id.push('x'),
            |r| drop(r.fields.remove("user")),
            |r| drop(r.fields.insert("more".to_owned(), String::new())),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut altered = original[0].clone();
            change(&mut altered);
            assert_ne!(hash(&altered), whole, "change {number}");
        }
        // Text that moves from one item to the next is another record.
        let mut moved = original[0].clone();
        (moved.trace_id, moved.request_id) = ("ab".to_owned(), String::new());
        let mut other = original[0].clone();
        (other.trace_id, other.request_id) = ("a".to_owned(), "b".to_owned());
        assert_ne!(hash(&moved), hash(&other));
        let elsewhere: HostName = "web-02".parse().unwrap();
        assert_ne!(Line::of(&elsewhere, &original[0]).hash(&Hash::default()), whole);
    }

    #[test]
    fn only_audit_records_are_chained_and_their_own_fields_stay() {
        let mut plain = record("a");
        plain.category = "audits".to_owned();
        let untouched = plain.clone();
        let mut own = record("b");
        own.fields.insert(SEQ.to_owned(), "mine".to_owned());
        let mut records = [plain, own];
        let mut chain = Chain::new(host(), "b2".parse().unwrap(), Some((&"b1".parse().unwrap(), End::default())));
        assert!(chain.add(&mut records) && !chain.add(&mut []));
        assert_eq!(records[0], untouched);
        assert_eq!(records[1].fields["line.chain.seq"], "mine");
        assert_eq!(records[1].fields[BEFORE], format!("b1 0 {}", "0".repeat(64)));
        assert_eq!(chain.end().seq, 1);
        assert_eq!(chain.end().hash.to_string(), records[1].fields[HASH]);
        let mut next = [record("c")];
        chain.add(&mut next);
        assert!(!next[0].fields.contains_key(BEFORE));
    }

    #[test]
    fn what_stores_change_of_a_record_does_not_count() {
        let mut records = [record("a"), record("b")];
        records[0].timestamp = Timestamp::from_millis(-60_000_000_000_000);
        records[0].latency_ms = Some(-0.0);
        records[1].latency_ms = Some(f64::NAN);
        chain().add(&mut records);
        assert_eq!(records[0].fields[ORIGINAL_TIME], records[0].timestamp.to_string());
        assert_eq!((records[0].latency_ms, records[1].latency_ms), (Some(0.0), None));
        let cut = LogRecord { timestamp: Timestamp::from_millis(TIMES.0), ..records[0].clone() };
        assert_eq!(Line::of(&host(), &cut).hash(&Hash::default()).to_string(), records[0].fields[HASH]);
    }

    #[test]
    fn latencies_survive_json() {
        let mut odd = 0x3ff0_0000_0000_0001_u64;
        for n in 0..20_000 {
            // A simple generator of varied bits, and latencies from nanoseconds to weeks.
            odd = odd.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let latency = (odd >> 11) as f64 / 2f64.powi(44) * 10f64.powi(n % 13 - 6);
            let close = settled(latency).unwrap();
            assert!((close - latency).abs() <= latency * 1e-14 + 1e-6, "{latency} became {close}");
            for number in [close].into_iter().chain(settled(f64::from_bits(odd))) {
                let read: f64 = serde_json::from_str(&serde_json::to_string(&number).unwrap()).unwrap();
                assert_eq!(read.to_bits(), number.to_bits(), "{number}");
            }
        }
    }

    #[test]
    fn hashes_are_read() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
        for wrong in ["", "0", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(wrong.parse::<Hash>(), Err(HashError), "{wrong}");
        }
    }
}
