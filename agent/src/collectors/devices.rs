//! Hardware as sysfs lists it: a directory with an entry for each device of a class.
//!
//! Devices come and go rarely, and most machines have none of most classes. So a class is listed at the first pass and
//! then once in [`PASSES`] interval passes, or when a device was found gone; in between a collector lives on what it
//! made of each. Where there is no such class, a pass costs nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::collectors::{CollectError, Pass};
use crate::host::{Attribute, Directory, ReadError, TextError, number};

/// Half a minute at one pass a second.
const PASSES: u32 = 30;

/// Says when that is due which is done once in [`PASSES`] interval passes.
#[derive(Debug)]
pub(crate) struct Rarely {
    /// Interval passes to go; 0 is due.
    remaining: u32,
    /// The same for all after the first time: each collector has another, so that they don't all fall on one pass.
    phase: u32,
}

impl Rarely {
    /// Due at once.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { remaining: 0, phase: NEXT.fetch_add(1, Ordering::Relaxed) % PASSES }
    }

    /// A pass begins.
    pub(crate) fn begin(&mut self, pass: Pass) {
        if pass == Pass::Interval {
            self.remaining = self.remaining.saturating_sub(1);
        }
    }

    /// Whether it is due; if so, the wait for the next time begins.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.remaining == 0;
        if due {
            self.remaining = PASSES - std::mem::take(&mut self.phase);
        }
        due
    }

    /// Makes it due.
    pub(crate) fn soon(&mut self) {
        self.remaining = 0;
    }
}

/// The devices of a class, with what a collector keeps of each.
#[derive(Debug)]
pub(crate) struct Devices<T> {
    class: Directory,
    rarely: Rarely,
    /// `None` where there is no such class.
    found: Option<Vec<T>>,
}

impl<T> Devices<T> {
    /// Of the class in this directory. Reads nothing yet.
    pub(crate) fn new(class: PathBuf) -> Self {
        Self { class: Directory::new(class), rarely: Rarely::new(), found: None }
    }

    /// A pass begins.
    pub(crate) fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    /// The devices; `None` where there is no such class. When they are listed anew, `make` is given each entry's name and
    /// its place, and those for which it makes nothing are none. The place is that of the device itself and not of the
    /// class's link to it: what takes its number later stands elsewhere and is not taken for it.
    pub(crate) fn get(
        &mut self,
        mut make: impl FnMut(&str, &Path) -> Option<T>,
    ) -> Result<Option<&mut Vec<T>>, ReadError> {
        if self.rarely.is_due() {
            // Files of before are closed first.
            self.found = None;
            let place = self.class.path().to_owned();
            let listed = self.class.list().inspect_err(|_| self.rarely.soon())?;
            self.found = listed.map(|names| {
                let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
                names.filter_map(|name| make(name, &resolved(&place.join(name)))).collect()
            });
        }
        Ok(self.found.as_mut())
    }

    /// Has them listed anew at the next pass: one was found gone or changed.
    pub(crate) fn soon(&mut self) {
        self.rarely.soon();
    }
}

/// The path without links in it.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What an attribute says now, as text: `None` where there is none, and where its driver or the system refuses it. For
/// what is read once in a while.
pub(crate) fn text(path: PathBuf) -> Option<String> {
    Attribute::new(path).text().ok().flatten()
}

/// Like [`text`], as a number.
pub(crate) fn value(path: PathBuf) -> Option<f64> {
    Attribute::new(path).number().ok().flatten()
}

/// The digits behind `prefix`; `None` where something else stands there.
pub(crate) fn index<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let digits = name.strip_prefix(prefix)?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// A text that is part of a device's labels, and may change.
#[derive(Debug)]
pub(crate) struct Watched {
    attribute: Attribute,
    known: String,
}

impl Watched {
    /// At this path, as it reads now; empty where it can't be read.
    pub(crate) fn at(path: PathBuf) -> Self {
        let mut attribute = Attribute::new(path);
        let known = attribute.text().ok().flatten().unwrap_or_default();
        Self { attribute, known }
    }

    /// As it was read first.
    pub(crate) fn text(&self) -> &str {
        &self.known
    }

    /// Whether it reads otherwise now.
    pub(crate) fn has_changed(&mut self) -> bool {
        let Self { attribute, known } = self;
        match attribute.bytes(|now| now == known.as_bytes()) {
            Ok(same) => !same.unwrap_or(known.is_empty()),
            Err(_) => !known.is_empty(),
        }
    }
}

/// An attribute that is read at each pass.
#[derive(Debug)]
pub(crate) struct Live {
    attribute: Attribute,
    had_value: bool,
    /// The system does not let it be read, and will not at the next pass either.
    refused: bool,
}

impl Live {
    /// At this path; `None` where there is no such file.
    pub(crate) fn at(path: PathBuf) -> Option<Self> {
        path.is_file().then(|| Self { attribute: Attribute::new(path), had_value: false, refused: false })
    }

    /// The value now. One that can't be had, or is no number, costs itself only.
    pub(crate) fn number(&mut self) -> Option<f64> {
        if self.refused {
            return None;
        }
        match self.attribute.number() {
            Ok(value) => {
                self.had_value |= value.is_some();
                value
            }
            Err(error) => {
                self.refused = is_denied(&error);
                None
            }
        }
    }

    /// The value now as a whole number, where what stands there may not be anything else. `None` where it can't be had.
    pub(crate) fn count(&mut self) -> Result<Option<u64>, CollectError> {
        self.with(|text| number(text).ok_or_else(|| TextError::expected("a whole number", text)))
    }

    /// What `parse` makes of the value now; what it refuses is an error. `None` where there is no value to be had.
    pub(crate) fn with<R>(
        &mut self,
        parse: impl FnOnce(&[u8]) -> Result<R, TextError>,
    ) -> Result<Option<R>, CollectError> {
        if self.refused {
            return Ok(None);
        }
        match self.attribute.bytes(parse) {
            Ok(None) => Ok(None),
            Ok(Some(value)) => {
                let value = value.map_err(CollectError::malformed(self.attribute.path()))?;
                self.had_value = true;
                Ok(Some(value))
            }
            Err(error) => {
                self.refused = is_denied(&error);
                Ok(None)
            }
        }
    }

    /// Whether the system does not let it be read.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether there is no value where there was one: the device may have gone. Says so once.
    pub(crate) fn is_lost(&mut self, has_value: bool) -> bool {
        !has_value && std::mem::take(&mut self.had_value)
    }
}

fn is_denied(error: &ReadError) -> bool {
    matches!(error, ReadError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_at_first_and_then_rarely() {
        let mut rarely = Rarely::new();
        assert!(rarely.is_due() && !rarely.is_due());
        let mut waited = Vec::new();
        for _ in 0..3 {
            let mut passes = 0;
            loop {
                rarely.begin(Pass::Scrape);
                assert!(!rarely.is_due(), "a scrape does not count");
                rarely.begin(Pass::Interval);
                passes += 1;
                if rarely.is_due() {
                    break;
                }
            }
            waited.push(passes);
        }
        assert!((1..=PASSES).contains(&waited[0]));
        assert_eq!(waited[1..], [PASSES; 2]);
        rarely.soon();
        assert!(rarely.is_due());
    }

    #[test]
    fn a_class_is_listed_again_when_it_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join("class");
        let mut devices = Devices::new(class.clone());
        let get = |devices: &mut Devices<String>| {
            devices.begin(Pass::Interval);
            let make = |name: &str, _: &Path| (name != "x").then(|| name.to_owned());
            devices.get(make).unwrap().map(|found| found.join(" "))
        };
        assert_eq!(get(&mut devices), None);
        for name in ["b", "a", "x"] {
            std::fs::create_dir_all(class.join(name)).unwrap();
        }
        assert_eq!(get(&mut devices), None);
        devices.soon();
        assert_eq!(get(&mut devices).as_deref(), Some("a b"));
        std::fs::remove_dir(class.join("a")).unwrap();
        assert_eq!(get(&mut devices).as_deref(), Some("a b"));
        let mut last = None;
        for _ in 0..PASSES {
            last = get(&mut devices);
        }
        assert_eq!(last.as_deref(), Some("b"));
    }

    #[test]
    fn an_index_is_digits() {
        assert_eq!(index("mc12", "mc"), Some("12"));
        for bad in ["mc", "mcx", "mc1x", "csrow1", ""] {
            assert_eq!(index(bad, "mc"), None, "{bad}");
        }
    }
}
