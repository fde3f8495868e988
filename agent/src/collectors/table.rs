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
    /// The file may have a unit behind the number, as in `1.5M`; see [`human`].
    Human,
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
            let value = file.with(|text| scale.read(text))?;
            lost |= file.is_lost(value.is_some());
            if let Some(value) = value.flatten() {
                out.push(&row.labels, value);
            }
            Ok(())
        })?;
    }
    Ok(lost)
}

impl Scale {
    /// `None` as in [`parse`].
    fn read(self, text: &[u8]) -> Result<Option<f64>, TextError> {
        let factor = match self {
            Self::Human => return human(text).map(Some).ok_or_else(|| TextError::expected("a counter", text)),
            Self::Milliseconds => return Ok(parse(text)?.map(|number| number as f64 / 1000.0)),
            Self::Whole => 1.0,
            Self::Quadruple => 4.0,
            Self::Nanoseconds => 0.000_000_001,
        };
        Ok(parse(text)?.map(|number| number as f64 * factor))
    }
}

/// A number as bcache writes it: `12`, or `1.5M`. What stands behind the point are hundreds of 1024ths, 0 to 10.
pub(crate) fn human(text: &[u8]) -> Option<f64> {
    const UNITS: &[u8] = b"kMGTPEZY";
    let (digits, unit) = match text.split_last()? {
        (unit, digits) if unit.is_ascii_alphabetic() => {
            let power = UNITS.iter().position(|known| known == unit)?;
            (digits, UNITS.iter().take(power + 1).fold(1.0, |value, _| value * 1024.0))
        }
        _ => (text, 1.0),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.').map(number);
    let whole = parts.next()?? as f64;
    let hundreds = parts.next().unwrap_or(Some(0))? as f64;
    Some(((whole + hundreds / 10.24) * unit).trunc())
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
    fn numbers_for_people() {
        for (text, value) in
            [("0", 0.0), ("1023", 1023.0), ("1.0k", 1024.0), ("2.5M", 2609152.0), ("1.10G", 2122317824.0)]
        {
            assert_eq!(human(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "k", ".5k", "1.k", "1.5x", "-1", "1.5.1k", "99999999999999999999", "\u{1}", "1 k"] {
            assert_eq!(human(text.as_bytes()), None, "{text}");
        }
    }

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
