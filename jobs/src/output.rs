//! The end of what a command wrote, within a bound.

use std::collections::VecDeque;

/// Keeps the last bytes and counts all of them.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: VecDeque<u8>,
    limit: usize,
    total: u64,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit, total: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len() as u64);
        let new = bytes.get(bytes.len().saturating_sub(self.limit)..).unwrap_or_default();
        let surplus = (self.kept.len() + new.len()).saturating_sub(self.limit);
        self.kept.drain(..surplus.min(self.kept.len()));
        self.kept.extend(new);
    }

    /// All that was written, also what is no longer there.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many bytes were let go.
    pub(crate) fn dropped(&self) -> u64 {
        self.total.saturating_sub(self.kept.len() as u64)
    }

    /// As text. A character that the bound cut in two is left away; what is no UTF-8 shows as replacement characters.
    pub(crate) fn into_text(self) -> String {
        let cut = self.dropped() > 0;
        let bytes: Vec<u8> = self.kept.into();
        let continued = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        let skip = if cut { bytes.iter().take(3).take_while(continued).count() } else { 0 };
        String::from_utf8_lossy(bytes.get(skip..).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Tail;

    #[test]
    fn the_end_is_kept_and_all_is_counted() {
        let mut tail = Tail::new(5);
        for part in ["a", "bc", "def", "", "ghijklmnop", "qr"] {
            tail.push(part.as_bytes());
        }
        assert_eq!((tail.total(), tail.dropped()), (18, 13));
        assert_eq!(tail.into_text(), "nopqr");
        let mut tail = Tail::new(4);
        tail.push("äöü".as_bytes());
        assert_eq!(tail.into_text(), "öü");
        let mut tail = Tail::new(3);
        tail.push("äöü".as_bytes());
        assert_eq!(tail.into_text(), "ü");
        let mut tail = Tail::new(0);
        tail.push(b"xyz");
        assert_eq!((tail.total(), tail.into_text()), (3, String::new()));
    }
}
