//! Users and groups by name, from the text of `/etc/passwd` and `/etc/group`.
//!
//! Not by the system's library: a static build has none. Who stands in a directory service is written as a number.

use std::collections::BTreeSet;

/// What the two files say. A missing file names nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads the host's files.
    pub(crate) fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// The number of a user, who may be given as a number too.
    pub(crate) fn user(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| number(line(&self.passwd, name)?))
    }

    /// The number of a group, which may be given as a number too.
    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| number(line(&self.group, name)?))
    }

    /// The users that `/etc/group` lists in this group. Those whose primary group it is are known by that.
    pub(crate) fn members(&self, gid: u32) -> BTreeSet<u32> {
        let lines = self.group.lines().filter(|line| number(line) == Some(gid));
        lines
            .filter_map(|line| line.split(':').nth(3))
            .flat_map(|names| names.split(','))
            .filter_map(|name| self.user(name.trim()))
            .collect()
    }
}

fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|line| line.split(':').next() == Some(name))
}

/// The third field of both files.
fn number(line: &str) -> Option<u32> {
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nagent:x:990:991::/:/bin/false\nbroken\n".to_owned(),
            group: "root:x:0:\nagent:x:991:\nops:x:27:agent,root,gone\n".to_owned(),
        };
        assert_eq!(
            (accounts.user("agent"), accounts.user("4711"), accounts.user("nobody")),
            (Some(990), Some(4711), None)
        );
        assert_eq!(
            (accounts.group("ops"), accounts.group("agent"), accounts.group("broken")),
            (Some(27), Some(991), None)
        );
        assert_eq!(accounts.members(27), BTreeSet::from([0, 990]));
        assert_eq!(accounts.members(991), BTreeSet::new());
    }
}
