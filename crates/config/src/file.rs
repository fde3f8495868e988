//! Files that are read again while the program serves, and so must not stop it.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// No configuration, certificate chain or list of authorities is as large.
const MAX_BYTES: u64 = 4 << 20;

/// The content of a regular file. A pipe is refused, which would be waited for, and a device, which may never end.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    // Asked before opening: to open a pipe is to wait for its other end.
    let refused = |why: &str| Err(Error::new(ErrorKind::InvalidInput, why));
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return refused("is a directory");
    }
    if !metadata.is_file() {
        return refused("is no regular file");
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return refused("is larger than 4 MiB");
    }
    Ok(bytes)
}

/// As [`read`], for text.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| Error::new(ErrorKind::InvalidData, "is no UTF-8 text"))
}
