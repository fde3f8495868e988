//! Small files of one value, as sysfs has them.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{KeptFile, ReadError};

/// A file of one value that stays open between readings, where [`KeptFile`]'s bound allows.
#[derive(Debug)]
pub struct Attribute(KeptFile);

impl Attribute {
    /// At this path. Reads nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self(KeptFile::record(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The value without the blanks around it. `None` where there is no such file, or where its driver has no value at
    /// the moment: drivers answer a sensor that sleeps, or a link that is down, with an error of their own choice.
    pub fn bytes<R>(&mut self, with: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, ReadError> {
        match self.0.read(|text| with(text.trim_ascii())) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_nothing_here() || has_no_value(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value as text; what is not UTF-8 is replaced. `None` as in [`Attribute::bytes`].
    pub fn text(&mut self) -> Result<Option<String>, ReadError> {
        self.bytes(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The value as a decimal number with or without sign and fraction. `None` as in [`Attribute::bytes`], and where it
    /// is no number.
    pub fn number(&mut self) -> Result<Option<f64>, ReadError> {
        self.bytes(decimal).map(Option::flatten)
    }
}

/// A decimal number with or without sign and fraction; no exponent, infinity or NaN.
pub fn decimal(text: &[u8]) -> Option<f64> {
    if let Some(whole) = super::number(text) {
        return Some(whole as f64);
    }
    let is_plain = text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.'));
    is_plain.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Errors that other systems do not have.
#[cfg(target_os = "linux")]
const OF_LINUX: &[Errno] = &[Errno::NODATA, Errno::REMOTEIO];
#[cfg(not(target_os = "linux"))]
const OF_LINUX: &[Errno] = &[];

fn has_no_value(error: &ReadError) -> bool {
    let ReadError::Io { source, .. } = error else { return false };
    let code = source.raw_os_error();
    [Errno::INVAL, Errno::IO, Errno::AGAIN, Errno::NXIO, Errno::TIMEDOUT, Errno::BUSY]
        .into_iter()
        .chain(OF_LINUX.iter().copied())
        .any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_drivers() {
        for (text, value) in [("0", 0.0), ("42", 42.0), ("-17500", -17500.0), ("+3", 3.0), ("1.25", 1.25)] {
            assert_eq!(decimal(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "-", "1e5", "inf", "nan", "0x10", "1 2", "12 MB", "\u{fffd}", "1-2"] {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("temp1_input");
        let mut attribute = Attribute::new(path.clone());
        assert_eq!(attribute.number().unwrap(), None);
        std::fs::write(&path, "48000\n").unwrap();
        assert_eq!(attribute.number().unwrap(), Some(48000.0));
        assert_eq!(attribute.text().unwrap().as_deref(), Some("48000"));
    }
}
