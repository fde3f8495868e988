//! Values as ClickHouse's Native format writes them, where the client has no type for them.

use std::borrow::Cow;
use std::error::Error;

use clickhouse::native::DataTypeNode;
use clickhouse::native::encode::{Encode, ValueWriter};
use wire::Timestamp;

type BoxError = Box<dyn Error + Send + Sync>;

/// What `DateTime64(3)` can hold: 1900-01-01 to the end of 2299, in milliseconds.
const RANGE: (i64, i64) = (-2_208_988_800_000, 10_413_791_999_999);

/// A `DateTime64(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis(i64);

impl Millis {
    /// The nearest moment that the column can hold, and whether that is the moment itself.
    pub(crate) fn nearest(time: Timestamp) -> (Self, bool) {
        let millis = time.as_millis();
        let held = millis.clamp(RANGE.0, RANGE.1);
        (Self(held), held == millis)
    }
}

impl Encode for Millis {
    fn produces() -> DataTypeNode {
        #[allow(clippy::unwrap_used, reason = "a constant; the precision's own type is not public in the client")]
        DataTypeNode::new("DateTime64(3)").unwrap()
    }

    fn encode(&self, writer: &mut ValueWriter<'_>) -> Result<(), BoxError> {
        Ok(writer.write_fixed(&self.0.to_le_bytes())?)
    }
}

/// A `DateTime`: seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) u32);

impl Encode for Seconds {
    fn produces() -> DataTypeNode {
        DataTypeNode::DateTime(None)
    }

    fn encode(&self, writer: &mut ValueWriter<'_>) -> Result<(), BoxError> {
        Ok(writer.write_fixed(&self.0.to_le_bytes())?)
    }
}

/// A `Map(String, String)` in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextMap<'a>(pub(crate) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl TextMap<'_> {
    /// Notes a time that its column can't hold. A key of that name that the sender set stays as it is.
    pub(crate) fn note(&mut self, key: &'static str, time: Timestamp) {
        if !self.0.iter().any(|(name, _)| name == key) {
            self.0.push((key.into(), time.to_string().into()));
        }
    }
}

impl Encode for TextMap<'_> {
    fn produces() -> DataTypeNode {
        DataTypeNode::Map([Box::new(DataTypeNode::String), Box::new(DataTypeNode::String)])
    }

    fn encode(&self, writer: &mut ValueWriter<'_>) -> Result<(), BoxError> {
        let mut map = writer.write_map::<&str, &str>()?;
        for (key, value) in &self.0 {
            map.write(key, value)?;
        }
        map.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(text: &str) -> (i64, bool) {
        let (Millis(millis), exact) = Millis::nearest(text.parse().unwrap_or_else(|e| panic!("{e}")));
        (millis, exact)
    }

    #[test]
    fn times_outside_the_column_go_to_its_edge_and_say_so() {
        assert_eq!(nearest("1900-01-01T00:00:00.000Z"), (RANGE.0, true));
        assert_eq!(nearest("1899-12-31T23:59:59.999Z"), (RANGE.0, false));
        assert_eq!(nearest("2299-12-31T23:59:59.999Z"), (RANGE.1, true));
        assert_eq!(nearest("2300-01-01T00:00:00.000Z"), (RANGE.1, false));
        assert_eq!(nearest("1970-01-01T00:00:00.001Z"), (1, true));
    }

    #[test]
    fn a_note_never_replaces_the_senders_own_value() {
        let mut map = TextMap(vec![("original_time".into(), "theirs".into())]);
        map.note("original_time", Timestamp::from_millis(0));
        assert_eq!(map.0, [("original_time".into(), "theirs".into())]);
        map.note("original_active_at", Timestamp::from_millis(0));
        assert_eq!(map.0[1].1, "1970-01-01T00:00:00.000Z");
    }
}
