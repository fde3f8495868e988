//! Devices whose numbers are attributes, one a file, with the same files for each: a family for each file.

use std::path::Path;

use crate::collectors::CollectError;
use crate::collectors::devices::Live;
use crate::host::{TextError, number};
use crate::snapshot::{Families, Labels, MetricType};

/// How a file's number becomes the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Whole,
    /// The file counts words of four bytes.
    Quadruple,
    Milliseconds,
    Nanoseconds,
}

/// A file that each device has, or may have, and its family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// The path from the device's place.
    pub(crate) file: &'static str,
    pub(crate) family: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: MetricType,
    pub(crate) scale: Scale,
}

/// A device: those of its files that there are, in the order of the columns.
#[derive(Debug)]
pub(crate) struct Row {
    labels: Labels,
    files: Vec<(usize, Live)>,
}

impl Row {
    pub(crate) fn new(place: &Path, labels: Labels, columns: &[Column]) -> Self {
        let files = columns.iter().map(|column| Live::at(place.join(column.file))).enumerate();
        Self { labels, files: files.filter_map(|(column, file)| Some((column, file?))).collect() }
    }
}

/// Appends the families of all columns. `rows` goes through the devices, once for each column. Whether a device was found
/// gone.
pub(crate) fn collect(
    columns: &[Column],
    mut rows: impl FnMut(&mut dyn FnMut(&mut Row) -> Result<(), CollectError>) -> Result<(), CollectError>,
    out: &mut Families,
) -> Result<bool, CollectError> {
    let mut lost = false;
    for (number, Column { family, help, kind, scale, .. }) in columns.iter().enumerate() {
        out.family(*family, *help, *kind);
        rows(&mut |row| {
            let file = row.files.binary_search_by_key(&number, |(column, _)| *column);
            let Some((_, file)) = file.ok().and_then(|at| row.files.get_mut(at)) else { return Ok(()) };
            let value = file.with(parse)?;
            lost |= file.is_lost(value.is_some());
            if let Some(value) = value.flatten() {
                out.push(&row.labels, scale.of(value));
            }
            Ok(())
        })?;
    }
    Ok(lost)
}

impl Scale {
    fn of(self, number: u64) -> f64 {
        let number = number as f64;
        match self {
            Self::Whole => number,
            Self::Quadruple => number * 4.0,
            Self::Milliseconds => number / 1000.0,
            Self::Nanoseconds => number * 0.000_000_001,
        }
    }
}

/// A number, decimal or with `0x` hexadecimal. `None` for a counter that the device says it does not have: all bits set,
/// or words such as `N/A (no PMA)`.
fn parse(text: &[u8]) -> Result<Option<u64>, TextError> {
    let value = match text.strip_prefix(b"0x") {
        Some(digits) => hexadecimal(digits),
        None => number(text),
    };
    match value {
        Some(u64::MAX) => Ok(None),
        Some(value) => Ok(Some(value)),
        None if text.starts_with(b"N/A") => Ok(None),
        None => Err(TextError::expected("a counter", text)),
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    is_plain.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_drivers() {
        for (text, value) in [
            ("0", Some(0)),
            ("18446744073709551614", Some(u64::MAX - 1)),
            ("0x1f", Some(31)),
            ("0xffffffffffffffff", None),
            ("18446744073709551615", None),
            ("N/A (no PMA)", None),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), value, "{text}");
        }
        for text in ["", "0x", "0x+1", "0xg", "0x1ffffffffffffffff", "18446744073709551616", "-1", "1.5", "none"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
