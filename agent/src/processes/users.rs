//! Names of users, from the host's `passwd`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::host::{HostRoot, KeptFile, number};

/// Users by number. Those of directories (LDAP, systemd-homed) are not in the file, and shown by their number.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    modified: Option<SystemTime>,
    /// Whether this pass looked at the file.
    fresh: bool,
    names: HashMap<u32, Arc<str>>,
    /// Numbers without a name, which were asked for.
    unknown: HashMap<u32, Arc<str>>,
}

/// Numbers without a name that are kept; a host with more forgets them now and then.
const MOST_UNKNOWN: usize = 1000;

impl Users {
    pub(super) fn new(host: &HostRoot) -> Self {
        let path = host.at_root(Path::new("/etc/passwd"));
        Self { path, modified: None, fresh: false, names: HashMap::new(), unknown: HashMap::new() }
    }

    /// A pass begins: what was read before is old.
    pub(super) fn begin(&mut self) {
        self.fresh = false;
    }

    /// Reads the file if it changed.
    fn refresh(&mut self) {
        // A file that can't be read now does not make names untrue.
        let Ok(modified) = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()) else { return };
        if self.modified != Some(modified)
            && let Ok(names) = KeptFile::listing(self.path.clone()).read(parse)
        {
            self.modified = Some(modified);
            self.names = names;
            self.unknown.clear();
        }
    }

    /// A user's name.
    pub(super) fn name(&mut self, user: u32) -> Arc<str> {
        if !std::mem::replace(&mut self.fresh, true) {
            self.refresh();
        }
        if let Some(name) = self.names.get(&user) {
            return name.clone();
        }
        if self.unknown.len() >= MOST_UNKNOWN {
            self.unknown.clear();
        }
        self.unknown.entry(user).or_insert_with(|| user.to_string().into()).clone()
    }
}

/// `name:password:number:…`; of two with one number the first counts, as with the system. Other lines (comments, NIS'
/// `+`) are passed over.
fn parse(text: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, user) = (fields.next(), fields.nth(1));
        let user = user.and_then(number).and_then(|user| u32::try_from(user).ok());
        if let (Some(name), Some(user), Some(_)) = (name.filter(|name| !name.is_empty()), user, fields.next()) {
            names.entry(user).or_insert_with(|| String::from_utf8_lossy(name).into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_file_and_numbers_without_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let path = dir.path().join("etc/passwd");
        let mut users = Users::new(&HostRoot { root: dir.path().into(), ..HostRoot::default() });
        users.begin();
        assert_eq!(&*users.name(0), "0");
        std::fs::write(&path, "root:x:0:0:r:/:/bin/sh\nalias:x:0:0::/:\nweb:x:33:33::/:/x\nbad:x:x:\n#c\n+\n\nn:x:9")
            .unwrap();
        users.begin();
        assert_eq!(["root", "web", "34", "9"].map(str::to_owned), [0, 33, 34, 9].map(|n| users.name(n).to_string()));
        std::fs::write(&path, "admin:x:0:0::/:\n").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        users.begin();
        assert_eq!((&*users.name(0), &*users.name(33)), ("admin", "33"));
        std::fs::remove_file(&path).unwrap();
        users.begin();
        assert_eq!(&*users.name(0), "admin");
        (0..3000).for_each(|user| drop(users.name(user)));
        assert!(users.unknown.len() <= MOST_UNKNOWN);
    }

    #[test]
    fn any_bytes_are_no_fault() {
        assert!(parse(b"\xff\xfe\x00:::\n::::\nx:y:99999999999999:z\n").is_empty());
        assert_eq!(parse(b"\xff:x:7:\n").len(), 1);
    }
}
