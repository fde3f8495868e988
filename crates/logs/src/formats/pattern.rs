//! A regular expression of the user's: its named groups are read as the names of other formats are.

use wire::Timestamp;

use super::Reading;
use crate::columns::{Draft, Value};

pub(super) fn read<'a>(line: &'a str, reading: &Reading, _now: Timestamp, draft: &mut Draft<'a>) -> bool {
    let Some(pattern) = &reading.pattern else { return false };
    let Some(found) = pattern.captures(line) else { return false };
    for name in pattern.groups() {
        if let Some(group) = found.name(name) {
            let text = group.as_str();
            let value = if text.parse::<f64>().is_ok() { Value::Number(text.into()) } else { Value::text(text) };
            draft.put(&reading.columns, name.to_owned(), value);
        }
    }
    true
}
