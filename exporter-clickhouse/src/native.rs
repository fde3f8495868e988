//! ClickHouse's Native format, written by hand: a block is its columns one after the other, each a run of values.
//!
//! Texts go as `String` also where the column is `LowCardinality`: the server builds its dictionary from them.

use bytes::Bytes;

/// A block under way.
#[derive(Debug)]
pub(crate) struct Block {
    buffer: Vec<u8>,
    rows: usize,
}

impl Block {
    /// `columns` columns of `rows` values each must follow. `size` is a guess at its bytes.
    pub(crate) fn new(columns: usize, rows: usize, size: usize) -> Self {
        let mut block = Self { buffer: Vec::with_capacity(size), rows };
        block.number(columns);
        block.number(rows);
        block
    }

    /// The bytes.
    pub(crate) fn end(self) -> Bytes {
        self.buffer.into()
    }

    /// `String`
    pub(crate) fn texts<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a str>) {
        self.column(name, "String");
        for value in values {
            self.text(value);
        }
    }

    /// `DateTime`: seconds since the epoch, one for all rows.
    pub(crate) fn second(&mut self, name: &str, value: u32) {
        self.column(name, "DateTime");
        for _ in 0..self.rows {
            self.buffer.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `DateTime64(3)`: milliseconds since the epoch.
    pub(crate) fn millis(&mut self, name: &str, values: impl Iterator<Item = i64>) {
        self.column(name, "DateTime64(3)");
        for value in values {
            self.buffer.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `Nullable(DateTime64(3))`
    pub(crate) fn nullable_millis(&mut self, name: &str, values: impl Iterator<Item = Option<i64>> + Clone) {
        self.column(name, "Nullable(DateTime64(3))");
        for value in values.clone() {
            self.buffer.push(u8::from(value.is_none()));
        }
        for value in values {
            self.buffer.extend_from_slice(&value.unwrap_or_default().to_le_bytes());
        }
    }

    /// `Nullable(Float64)`
    pub(crate) fn nullable_floats(&mut self, name: &str, values: impl Iterator<Item = Option<f64>> + Clone) {
        self.column(name, "Nullable(Float64)");
        for value in values.clone() {
            self.buffer.push(u8::from(value.is_none()));
        }
        for value in values {
            self.buffer.extend_from_slice(&value.unwrap_or_default().to_le_bytes());
        }
    }

    /// `Map(String, String)`, each value the pairs that it gives.
    pub(crate) fn maps<K: AsRef<str>, V: AsRef<str>, M: Iterator<Item = (K, V)>>(
        &mut self,
        name: &str,
        values: impl Iterator<Item = M> + Clone,
    ) {
        self.column(name, "Map(String, String)");
        // Where each map ends; then all keys, then all values.
        let mut end = 0u64;
        for pairs in values.clone() {
            end += pairs.count() as u64;
            self.buffer.extend_from_slice(&end.to_le_bytes());
        }
        for (key, _) in values.clone().flatten() {
            self.text(key.as_ref());
        }
        for (_, value) in values.flatten() {
            self.text(value.as_ref());
        }
    }

    fn column(&mut self, name: &str, of: &str) {
        self.text(name);
        self.text(of);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn number(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.buffer.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.buffer.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_its_columns() {
        let mut block = Block::new(3, 2, 0);
        block.texts("s", ["a", &"x".repeat(200)].into_iter());
        block.nullable_floats("f", [None, Some(1.0)].into_iter());
        block.maps("m", [vec![("k", "v"), ("l", "w")], vec![]].iter().map(|pairs| pairs.iter().copied()));
        let mut expected = b"\x03\x02\x01s\x06String\x01a\xc8\x01".to_vec();
        expected.extend([b'x'; 200]);
        expected.extend(b"\x01f\x11Nullable(Float64)\x01\x00\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\x3f");
        expected.extend(b"\x01m\x13Map(String, String)\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01k\x01l\x01v\x01w");
        assert_eq!(block.end(), expected);
    }
}
