//! A file that is watched: whether it is there, whose it is, and whether it changed. What it says stays where it is.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ring::digest;
use serde::{Deserialize, Serialize};

use super::dial;
use super::{Asking, Faults, Look, Run};

/// The largest file whose digest is made.
const MOST: u64 = 256 << 20;

/// What is read at once.
const PIECE: usize = 64 << 10;

/// `[probe.file]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchedFile {
    /// Which.
    pub path: PathBuf,
    /// Whether it is well that it is not there.
    pub may_be_missing: bool,
    /// Its permissions in octal digits, as `0644`.
    pub mode: String,
    /// Number of the user whose it must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Number of the group whose it must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Whether its content is looked at: a change is noticed also where somebody set back the times.
    pub digest: bool,
    /// The SHA-256 that it must have, in hexadecimal digits.
    pub sha256: String,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// `Some(None)`: it was not there.
    last: Option<Option<Stamp>>,
    changes: u64,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
    uid: u32,
    gid: u32,
    digest: Option<[u8; digest::SHA256_OUTPUT_LEN]>,
}

impl Look for WatchedFile {
    fn target(&self) -> String {
        self.path.display().to_string()
    }

    fn check(&self, faults: &mut Faults) {
        if !self.path.is_absolute() {
            faults.add("path", "must be an absolute path");
        }
        if !self.mode.is_empty() && octal(&self.mode).is_none() {
            faults.add("mode", "must be octal digits such as 0644");
        }
        if !self.sha256.is_empty() && unhex(&self.sha256).is_none() {
            faults.add("sha256", "must be 64 hexadecimal digits");
        }
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            run.found.stage("reading the file");
            let (path, with_digest) = (self.path.clone(), self.digest || !self.sha256.is_empty());
            let stamp = dial::read(run, move || stamp(&path, with_digest)).await??;
            let seen = &mut run.memory.file;
            if seen.last.as_ref().is_some_and(|last| *last != stamp) {
                seen.changes += 1;
            }
            let changes = seen.changes;
            seen.last = Some(stamp.clone());
            let found = &mut *run.found;
            let help = "How often the file was found changed since the agent started: content, times, owner, mode, existence.";
            found.counter("probe_file_changes_total", help, changes as f64);
            found.gauge("probe_file_exists", "Whether the file is there.", f64::from(stamp.is_some()));
            let Some(stamp) = stamp else {
                return if self.may_be_missing { Ok(()) } else { Err("the file is not there".to_owned()) };
            };
            let seconds = |(seconds, nanoseconds): (i64, i64)| seconds as f64 + nanoseconds as f64 / 1e9;
            let digits: f64 = format!("{:o}", stamp.mode).parse().unwrap_or_default();
            for (name, help, value) in [
                ("probe_file_size_bytes", "Size of the file.", stamp.size as f64),
                ("probe_file_mtime_seconds", "When its content changed, as it says.", seconds(stamp.modified)),
                ("probe_file_ctime_seconds", "When content, owner, mode or name changed.", seconds(stamp.changed)),
                ("probe_file_mode", "Its permissions: the octal digits, read as a decimal number.", digits),
                ("probe_file_uid", "The number of its user.", f64::from(stamp.uid)),
                ("probe_file_gid", "The number of its group.", f64::from(stamp.gid)),
            ] {
                found.gauge(name, help, value);
            }
            match self.fault(&stamp) {
                None => Ok(()),
                Some(why) => Err(why),
            }
        })
    }
}

impl WatchedFile {
    /// What of it is not as it must be.
    fn fault(&self, stamp: &Stamp) -> Option<String> {
        if let Some(mode) = octal(&self.mode).filter(|mode| *mode != stamp.mode) {
            return Some(format!("its mode is {:04o} and must be {mode:04o}", stamp.mode));
        }
        for (what, wanted, is) in [("user", self.uid, stamp.uid), ("group", self.gid, stamp.gid)] {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
                return Some(format!("its {what} is {is} and must be {wanted}"));
            }
        }
        let other = unhex(&self.sha256).is_some_and(|wanted| stamp.digest != Some(wanted));
        other.then(|| "its content is not the one that `sha256` says".to_owned())
    }
}

/// How a file is now; `None` where it is not there.
fn stamp(path: &Path, with_digest: bool) -> Result<Option<Stamp>, String> {
    let fault = |error: std::io::Error| format!("it can't be read: {error}");
    let there = match std::fs::metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let digest = match with_digest {
        true if !there.is_file() => return Err("it is no regular file, which has no digest".to_owned()),
        true if there.len() > MOST => return Err("it is larger than 256 MiB; take `digest` and `sha256` away".to_owned()),
        true => Some(sum(path).map_err(fault)?),
        false => None,
    };
    Ok(Some(Stamp {
        device: there.dev(),
        inode: there.ino(),
        size: there.len(),
        modified: (there.mtime(), there.mtime_nsec()),
        changed: (there.ctime(), there.ctime_nsec()),
        mode: there.mode() & 0o7777,
        uid: there.uid(),
        gid: there.gid(),
        digest,
    }))
}

fn sum(path: &Path) -> std::io::Result<[u8; digest::SHA256_OUTPUT_LEN]> {
    let mut file = File::open(path)?.take(MOST);
    let mut context = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        context.update(piece.get(..read).unwrap_or_default());
    }
    let mut sum = [0; digest::SHA256_OUTPUT_LEN];
    for (place, byte) in sum.iter_mut().zip(context.finish().as_ref()) {
        *place = *byte;
    }
    Ok(sum)
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

fn unhex(text: &str) -> Option<[u8; digest::SHA256_OUTPUT_LEN]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * digest::SHA256_OUTPUT_LEN {
        return None;
    }
    let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_so_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watched");
        assert_eq!(stamp(&path, true), Ok(None));
        std::fs::write(&path, "abc").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let seen = stamp(&path, true).unwrap().unwrap();
        let watched = |mode: &str, sha256: &str| WatchedFile {
            mode: mode.to_owned(),
            sha256: sha256.to_owned(),
            ..WatchedFile::default()
        };
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(watched("0640", sha256).fault(&seen), None);
        assert_eq!(watched("600", "").fault(&seen).unwrap(), "its mode is 0640 and must be 0600");
        assert!(watched("", &sha256.replace('b', "c")).fault(&seen).unwrap().contains("`sha256`"));
        let somebody = WatchedFile { uid: Some(seen.uid + 1), ..WatchedFile::default() };
        assert!(somebody.fault(&seen).unwrap().starts_with("its user is "));
        assert!(stamp(folder.path(), true).is_err() && stamp(folder.path(), false).is_ok());
    }
}
