//! Which entries of the journal are taken, with what `journalctl` calls `--unit`, `--identifier` and `--priority`.

use logs::sections::JournalSection;

use super::file::Entry;
use crate::glob;

/// The fields that name a unit: whose process wrote the entry, and whom systemd writes about.
const UNITS: [&str; 6] =
    ["_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT"];

/// What of the journal is taken. All that is given has to hold.
#[derive(Debug)]
pub(super) struct Filter {
    units: Vec<String>,
    identifiers: Vec<String>,
    /// The largest number of severity, which is the least severe.
    priority: Option<u32>,
}

impl Filter {
    pub(super) fn new(section: &JournalSection) -> Self {
        let unit = |name: &String| if name.contains('.') { name.clone() } else { format!("{name}.service") };
        Self {
            units: section.units.iter().map(unit).collect(),
            identifiers: section.identifiers.clone(),
            priority: section.least_severity(),
        }
    }

    pub(super) fn takes(&self, entry: &Entry) -> bool {
        let any = |names: &[&str], patterns: &[String]| {
            patterns.is_empty()
                || entry.fields.iter().any(|field| {
                    names.contains(&field.name.as_str())
                        && patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), field.value.as_bytes()))
                })
        };
        let severe = |most: u32| {
            let severity = entry.fields.iter().find(|field| field.name == "PRIORITY");
            // What does not say is at the level of what programs write to their output.
            severity.map_or(Some(6), |field| field.value.trim().parse().ok()).is_none_or(|severity| severity <= most)
        };
        any(&UNITS, &self.units) && any(&["SYSLOG_IDENTIFIER"], &self.identifiers) && self.priority.is_none_or(severe)
    }
}
