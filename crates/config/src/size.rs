//! Sizes as people write them: `64MiB`, `20GiB`. For `#[serde(with = "config::size")]`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

const UNITS: &[(&str, u64)] = &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a size in bytes.
pub fn parse(text: &str) -> Result<u64, String> {
    let fault = || format!("{text:?} is not a size such as \"64MiB\", \"20GiB\" or \"4096B\"");
    let text_trimmed = text.trim();
    let digits = text_trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
    let number: u64 = text_trimmed[..digits].parse().map_err(|_| fault())?;
    let unit = text_trimmed[digits..].trim_start();
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(fault)?;
    number.checked_mul(*factor).ok_or_else(fault)
}

/// Writes a size in the largest unit that leaves no fraction.
pub fn format(bytes: u64) -> String {
    let (unit, factor) =
        UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// For serde.
pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*bytes))
}

/// For serde.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [("64MiB", 64 << 20), ("20GiB", 20 << 30), ("4097B", 4097), ("1KiB", 1024), ("0B", 0)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
            assert_eq!(format(bytes), text);
        }
        for bad in ["", "64", "MiB", "64MB", "-1B", "1.5GiB", "99999999999TiB"] {
            assert!(parse(bad).unwrap_err().contains("is not a size such as"), "{bad}");
        }
    }
}
