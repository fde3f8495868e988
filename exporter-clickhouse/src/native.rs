//! ClickHouse's Native format, written by hand: a block is its columns one after the other, each a run of values.
//!
//! Words, texts of which a column has few different ones, go as `LowCardinality(String)`: a dictionary, and the number of
//! the row's word in it. The server would have to build it, and took a fifth longer for a block without.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

/// How the dictionaries of a column are kept: each block has its own.
const DICTIONARIES: u64 = 1;

/// A dictionary follows (bit 9), and it is not to be put together with earlier ones (bit 10); the two lowest bits say how
/// wide the numbers are.
const DICTIONARY: u64 = 0x600;

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

    /// A column that is put behind a block under way.
    pub(crate) fn column_alone(rows: usize, size: usize) -> Self {
        Self { buffer: Vec::with_capacity(size), rows }
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

    /// `LowCardinality(String)`
    pub(crate) fn words<'a>(&mut self, name: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        self.column(name, "LowCardinality(String)");
        self.long(DICTIONARIES);
        self.dictionary(values);
    }

    /// `Map(LowCardinality(String), String)`, each value the pairs that it gives.
    pub(crate) fn maps<'a, M: Iterator<Item = (&'a str, Cow<'a, str>)>>(
        &mut self,
        name: &str,
        values: impl Iterator<Item = M>,
    ) {
        self.column(name, "Map(LowCardinality(String), String)");
        self.long(DICTIONARIES);
        // Where each map ends; then all keys, then all values.
        let mut pairs = Vec::with_capacity(4 * self.rows);
        for value in values {
            pairs.extend(value);
            self.long(pairs.len() as u64);
        }
        self.dictionary(pairs.iter().map(|(key, _)| *key));
        for (_, value) in &pairs {
            self.text(value);
        }
    }

    fn column(&mut self, name: &str, of: &str) {
        self.text(name);
        self.text(of);
    }

    fn dictionary<'a>(&mut self, values: impl ExactSizeIterator<Item = &'a str>) {
        let mut words = Words::new(values.len());
        for value in values {
            words.add(value);
        }
        let Words { order, numbers, .. } = words;
        if numbers.is_empty() {
            return;
        }
        let width: u64 = match order.len() {
            0..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        self.long(DICTIONARY | width);
        self.long(order.len() as u64);
        for word in order {
            self.text(word);
        }
        self.long(numbers.len() as u64);
        match width {
            0 => self.buffer.extend(numbers.into_iter().map(|number| number as u8)),
            1 => numbers.into_iter().for_each(|number| self.buffer.extend_from_slice(&(number as u16).to_le_bytes())),
            _ => numbers.into_iter().for_each(|number| self.buffer.extend_from_slice(&number.to_le_bytes())),
        }
    }

    fn long(&mut self, number: u64) {
        self.buffer.extend_from_slice(&number.to_le_bytes());
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

/// A dictionary under way.
#[derive(Debug)]
struct Words<'a> {
    places: HashMap<&'a str, u32>,
    order: Vec<&'a str>,
    numbers: Vec<u32>,
    /// The words before, of which one is likely to come again: fields come in turn.
    recent: [(&'a str, u32); 4],
    oldest: usize,
}

impl<'a> Words<'a> {
    fn new(rows: usize) -> Self {
        // The server begins its own with the empty text.
        let (places, order) = (HashMap::from([("", 0)]), vec![""]);
        Self { places, order, numbers: Vec::with_capacity(rows), recent: [("", 0); 4], oldest: 0 }
    }

    fn add(&mut self, word: &'a str) {
        if let Some((_, number)) = self.recent.iter().find(|(recent, _)| std::ptr::eq(*recent, word)) {
            self.numbers.push(*number);
            return;
        }
        let next = self.order.len() as u32;
        let number = *self.places.entry(word).or_insert(next);
        if number == next {
            self.order.push(word);
        }
        self.recent[self.oldest] = (word, number);
        self.oldest = (self.oldest + 1) % self.recent.len();
        self.numbers.push(number);
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
        let maps = [&[("k", "v"), ("l", "w")][..], &[]];
        block.maps("m", maps.iter().map(|pairs| pairs.iter().map(|(key, value)| (*key, (*value).into()))));
        let mut expected = b"\x03\x02\x01s\x06String\x01a\xc8\x01".to_vec();
        expected.extend([b'x'; 200]);
        expected.extend(b"\x01f\x11Nullable(Float64)\x01\x00\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\x3f");
        expected.extend(b"\x01m\x23Map(LowCardinality(String), String)\x01\0\0\0\0\0\0\0");
        expected.extend(b"\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        expected.extend(b"\0\x06\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\x01k\x01l\x02\0\0\0\0\0\0\0\x01\x02\x01v\x01w");
        assert_eq!(block.end(), expected);
    }

    #[test]
    fn a_dictionary_has_each_word_once_and_numbers_as_wide_as_it_needs() {
        for (words, width, flags) in [(3, 1, 0x600), (0xff, 1, 0x600), (0x100, 2, 0x601), (0x1_0000, 4, 0x602)] {
            let words: Vec<String> = (0..words).map(|n| format!("{n:05}")).collect();
            let mut block = Block { buffer: Vec::new(), rows: 0 };
            // Each once more from elsewhere in memory.
            let again = words.clone();
            block.dictionary(words.iter().chain(&again).map(String::as_str).collect::<Vec<_>>().into_iter());
            let bytes = block.end();
            let (head, rest) = bytes.split_at(16);
            assert_eq!(head, [flags, words.len() as u64 + 1].map(u64::to_le_bytes).concat());
            let (dictionary, rest) = rest.split_at(1 + 6 * words.len());
            assert_eq!(dictionary[..7], *b"\0\x0500000");
            let (count, numbers) = rest.split_at(8);
            assert_eq!(count, (2 * words.len() as u64).to_le_bytes());
            assert_eq!(numbers.len(), 2 * words.len() * width);
            let last = (words.len() as u32).to_le_bytes();
            assert!(numbers.ends_with(&last[..width]) && numbers[..numbers.len() / 2].ends_with(&last[..width]));
        }
    }
}
