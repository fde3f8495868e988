//! Which distribution runs, from `os-release`: read rarely.

use crate::collectors::devices::Rarely;
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{HostRoot, KeptFile, TextError, decimal};
use crate::snapshot::{Families, Labels};

/// Where the file is looked for, the first that is there.
const PLACES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// Keys of the file and the labels of `node_os_info` that they make.
const KEYS: [(&str, &str); 12] = [
    ("BUILD_ID", "build_id"),
    ("ID", "id"),
    ("ID_LIKE", "id_like"),
    ("IMAGE_ID", "image_id"),
    ("IMAGE_VERSION", "image_version"),
    ("NAME", "name"),
    ("PRETTY_NAME", "pretty_name"),
    ("VARIANT", "variant"),
    ("VARIANT_ID", "variant_id"),
    ("VERSION", "version"),
    ("VERSION_CODENAME", "version_codename"),
    ("VERSION_ID", "version_id"),
];

/// What is shown.
#[derive(Debug, PartialEq)]
struct Release {
    info: Labels,
    /// Major and minor version, with labels.
    version: Option<(Labels, f64)>,
    /// Seconds since 1970.
    support_end: Option<f64>,
}

/// See the module.
pub(crate) struct Os {
    files: [KeptFile; PLACES.len()],
    rarely: Rarely,
    /// `None` where there is no such file.
    release: Option<Release>,
}

impl Os {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self {
            files: PLACES.map(|place| KeptFile::record(host.at_root(place.as_ref()))),
            rarely: Rarely::new(),
            release: None,
        }
    }

    fn read(&mut self) -> Result<Option<Release>, CollectError> {
        for file in &mut self.files {
            match file.read(parse) {
                Ok(parsed) => return parsed.map(Some).map_err(CollectError::malformed(file.path())),
                Err(error) if error.is_nothing_here() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

fn parse(text: &[u8]) -> Result<Release, TextError> {
    let text = std::str::from_utf8(text).map_err(|_| TextError::expected("UTF-8", text))?;
    let mut values = [const { String::new() }; KEYS.len()];
    let mut support_end = None;
    let mut known = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fault = || TextError::expected("a key, = and a value", line.as_bytes());
        let (key, value) = line.split_once('=').ok_or_else(fault)?;
        let value = unquote(value).ok_or_else(fault)?;
        if let Some(slot) = KEYS.iter().position(|(name, _)| *name == key) {
            values[slot] = value;
            known = true;
        } else if key == "SUPPORT_END" {
            let seconds = day_seconds(&value);
            support_end = Some(seconds.ok_or_else(|| TextError::expected("a day as YYYY-MM-DD", value.as_bytes()))?);
        }
    }
    if !known {
        return Err(TextError::new("none of its keys is known"));
    }
    let labels = |wanted: &[&str]| {
        let pairs = KEYS.iter().zip(&values).filter(|((_, label), _)| wanted.contains(label));
        Labels::owned(pairs.map(|((_, label), value)| ((*label).to_owned(), value.clone())))
    };
    let version_id = KEYS.iter().position(|(name, _)| *name == "VERSION_ID").map(|at| values[at].as_str());
    let version = version_id.and_then(major_minor).map(|version| (labels(&["id", "id_like", "name"]), version));
    let info = Labels::owned(KEYS.iter().zip(&values).map(|((_, label), value)| ((*label).to_owned(), value.clone())));
    Ok(Release { info, version, support_end })
}

/// A value as a shell would read it: bare, or in quotes of either kind. `None` where the quotes don't end.
fn unquote(value: &str) -> Option<String> {
    let value = value.trim();
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return Some(value.to_owned());
    };
    let mut out = String::new();
    let mut chars = value[1..].chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return chars.as_str().is_empty().then_some(out),
            '\\' if quote == '"' => match chars.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => out.push(escaped),
                other => out.extend(['\\', other]),
            },
            c => out.push(c),
        }
    }
    None
}

/// The number that a version begins with: 22.04 of 22.04.3. `None` where there is none, as for rolling distributions.
fn major_minor(version: &str) -> Option<f64> {
    version.starts_with(|first: char| first.is_ascii_digit()).then_some(())?;
    let mut dots = 0;
    let end = version.find(|c: char| {
        dots += usize::from(c == '.');
        !(c.is_ascii_digit() || (c == '.' && dots == 1))
    });
    let number = version[..end.unwrap_or(version.len())].trim_end_matches('.');
    decimal(number.as_bytes()).filter(|version| *version > 0.0)
}

/// The beginning of a day of the Gregorian calendar (`2030-06-10`), UTC, in seconds since 1970.
fn day_seconds(day: &str) -> Option<f64> {
    let mut parts = day.split('-');
    let mut part = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        crate::host::number(part.as_bytes())
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
    if !(1..=lengths[month - 1]).contains(&day) || year < 1 {
        return None;
    }
    // Days since 0001-01-01, which is 719,162 before 1970.
    let before = year - 1;
    let days =
        before * 365 + before / 4 - before / 100 + before / 400 + lengths[..month - 1].iter().sum::<u64>() + day - 1;
    Some((days as f64 - 719_162.0) * 86_400.0)
}

impl Collector for Os {
    fn name(&self) -> &'static str {
        "os"
    }

    fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if self.rarely.is_due() {
            let found = self.read().inspect_err(|_| self.rarely.soon())?;
            // Labels that are the same stay the same, also in memory.
            if found != self.release {
                self.release = found;
            }
        }
        let Some(release) = &self.release else { return Ok(Outcome::Nothing) };
        out.gauge(
            "node_os_info",
            "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, \
             pretty_name, variant, variant_id, version, version_codename, version_id.",
        );
        out.push(&release.info, 1.0);
        if let Some(seconds) = release.support_end {
            out.gauge(
                "node_os_support_end_timestamp_seconds",
                "Metric containing the end-of-life date timestamp of the OS.",
            );
            out.value(seconds);
        }
        if let Some((labels, version)) = &release.version {
            out.gauge("node_os_version", "Metric containing the major.minor part of the OS version.");
            out.push(labels, *version);
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_a_shell_would() {
        let release = parse(
            b"# A comment\n\nNAME=\"A \\\"good\\\" one\"\nID=one\nID_LIKE='two three'\nVERSION_ID=\"22.04.3\"\nX=y\n\
              SUPPORT_END=2030-06-10\n",
        )
        .unwrap();
        assert_eq!(release.info.get("name"), Some("A \"good\" one"));
        assert_eq!(release.info.get("id_like"), Some("two three"));
        assert_eq!(release.info.get("build_id"), Some(""));
        let (labels, version) = release.version.unwrap();
        assert_eq!(version, 22.04);
        assert_eq!(labels.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), ["id", "id_like", "name"]);
        assert_eq!(release.support_end, Some(1_907_280_000.0));
    }

    #[test]
    fn versions_begin_with_a_number_or_there_is_none() {
        for (text, version) in [("12", Some(12.0)), ("9.4", Some(9.4)), ("3.19.1", Some(3.19)), ("15.", Some(15.0))] {
            assert_eq!(major_minor(text), version, "{text}");
        }
        for text in ["", "rolling", "0", ".5x", "v1"] {
            assert_eq!(major_minor(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_counted_from_1970() {
        for (day, days) in
            [("1970-01-01", 0.0), ("2000-03-01", 11_017.0), ("2024-02-29", 19_782.0), ("1969-12-31", -1.0)]
        {
            assert_eq!(day_seconds(day), Some(days * 86_400.0), "{day}");
        }
        for day in [
            "",
            "2023-02-29",
            "2023-13-01",
            "2023-00-01",
            "2023-01-00",
            "2023-1-1",
            "2023-01-01-01",
            "x",
            "99999-01-01",
        ] {
            assert_eq!(day_seconds(day), None, "{day}");
        }
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b""[..],
            b"NAME=\"Debian",
            b"NAME=\"a\"b\n",
            b"NAME\n",
            b"ID=a\nSUPPORT_END=soon\n",
            b"# nothing\n",
            b"X=y\n",
            b"ID=\xff\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn the_second_place_serves_where_the_first_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { root: dir.path().into(), ..HostRoot::default() };
        let mut collector = Os::new(&host);
        assert_eq!(collector.collect(&mut Families::default()).unwrap(), Outcome::Nothing);
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        std::fs::write(dir.path().join("usr/lib/os-release"), "ID=x\nVERSION_ID=4\n").unwrap();
        collector.rarely.soon();
        let mut out = Families::default();
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        assert_eq!(out.single("node_os_version"), Some(4.0));
    }
}
