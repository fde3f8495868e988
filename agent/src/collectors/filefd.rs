//! Open files of the whole host and their limit, from `/proc/sys/fs/file-nr`.

use crate::collectors::{CollectError, Collector, Outcome, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, fields, lines};
use crate::snapshot::Families;

/// See the module.
pub(crate) struct FileFd {
    file: KeptFile,
}

impl FileFd {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file: KeptFile::record(host.proc("sys/fs/file-nr")) }
    }
}

/// How many are open, and how many may be.
fn parse(text: &[u8]) -> Result<[u64; 2], TextError> {
    let line = lines(text)?.next().ok_or_else(|| TextError::new("the file is empty"))?;
    let mut fields = fields(line);
    let allocated = fields.number("the number of open files")?;
    // Allocated and not in use, which was some in Linux 2.4.
    fields.number("the number of unused files")?;
    Ok([allocated, fields.number("the most files that may be open")?])
}

impl Collector for FileFd {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let [allocated, maximum] = match self.file.read(parse) {
            Ok(parsed) => parsed.map_err(CollectError::malformed(self.file.path()))?,
            Err(error) => return nothing_if_absent(error.into()),
        };
        out.gauge("node_filefd_allocated", "File descriptor statistics: allocated.");
        out.value(allocated as f64);
        out.gauge("node_filefd_maximum", "File descriptor statistics: maximum.");
        out.value(maximum as f64);
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_count() {
        assert_eq!(parse(b"1024\t0\t9223372036854775807\n").unwrap(), [1024, i64::MAX as u64]);
        for bad in [
            &b""[..],
            b"\n",
            b"1024\t0\n",
            b"1024\t0\t16314",
            b"x\t0\t1\n",
            b"1\t0\t99999999999999999999\n",
            b"\xff\xfe\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
