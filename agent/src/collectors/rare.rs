//! A file that most machines lack: the statistics of a server or of a module of the kernel.

use crate::collectors::devices::Rarely;
use crate::collectors::{CollectError, Pass};
use crate::host::{KeptFile, TextError};

/// Where there is no such file, it is looked for once in half a minute of passes, and they cost nothing in between.
#[derive(Debug)]
pub(crate) struct RareFile {
    file: KeptFile,
    rarely: Rarely,
    is_there: bool,
}

impl RareFile {
    /// Reads nothing yet.
    pub(crate) fn new(file: KeptFile) -> Self {
        Self { file, rarely: Rarely::new(), is_there: false }
    }

    /// A pass begins.
    pub(crate) fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    /// What `parse` makes of the file; `None` where there is none.
    pub(crate) fn read<R>(
        &mut self,
        parse: impl FnOnce(&[u8]) -> Result<R, TextError>,
    ) -> Result<Option<R>, CollectError> {
        if !self.is_there && !self.rarely.is_due() {
            return Ok(None);
        }
        match self.file.read(parse) {
            Ok(parsed) => {
                self.is_there = true;
                parsed.map(Some).map_err(CollectError::malformed(self.file.path()))
            }
            Err(error) if error.is_nothing_here() => {
                self.is_there = false;
                Ok(None)
            }
            Err(error) => {
                // What fails says so at each pass.
                self.rarely.soon();
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_file_is_looked_for_rarely_and_a_broken_one_is_told_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rpc/nfs");
        let mut file = RareFile::new(KeptFile::record(path.clone()));
        let mut read = || {
            file.begin(Pass::Interval);
            file.read(|text| Ok(text.to_vec())).map_err(|error| error.to_string())
        };
        assert_eq!(read(), Ok(None));
        std::fs::create_dir_all(&path).unwrap();
        let waited = (0..100).take_while(|_| read() == Ok(None)).count();
        assert!((0..30).contains(&waited), "{waited}");
        for _ in 0..3 {
            assert!(read().unwrap_err().contains("rpc/nfs"), "a directory is no file");
        }
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "net 1").unwrap();
        for _ in 0..3 {
            assert_eq!(read(), Ok(Some(b"net 1".to_vec())));
        }
    }
}
