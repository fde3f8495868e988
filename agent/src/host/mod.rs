//! The one door to the machine: where `/proc`, `/sys`, the root and udev's data stand, and how files there are read.
//!
//! In a container the host's trees are mounted elsewhere (`--path.procfs` and its sisters), and tests hand in frozen
//! ones. So no other file spells such a path: it asks a [`HostRoot`] for it.

mod attribute;
mod clock;
mod directory;
mod file;
#[cfg(not(target_os = "linux"))]
mod listing;
#[cfg(target_os = "linux")]
pub mod memory;
mod netlink;
mod text;

use std::path::{Path, PathBuf};

pub use attribute::{Attribute, decimal};
pub use clock::{Discipline, discipline, zone};
pub use directory::Directory;
pub(crate) use file::TO_READ;
pub use file::{KeptFile, ReadError};
#[cfg(not(target_os = "linux"))]
pub(crate) use listing::RawDir;
pub use netlink::{Netlink, attributes};
#[cfg(target_os = "linux")]
pub(crate) use rustix::fs::RawDir;
pub use text::{Fields, TextError, fields, hex, lines, number};

/// The places under which the host is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot {
    /// The host's procfs.
    pub proc: PathBuf,
    /// The host's sysfs.
    pub sys: PathBuf,
    /// The host's root directory: mount points are looked up below it.
    pub root: PathBuf,
    /// udev's device database.
    pub udev: PathBuf,
}

impl Default for HostRoot {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), root: "/".into(), udev: "/run/udev/data".into() }
    }
}

impl HostRoot {
    /// Whether procfs and sysfs are this machine's own, as this process sees it. Only then may the kernel be asked by
    /// system calls for what else stands in their files: a container's or a frozen host's trees say something different.
    pub fn is_own(&self) -> bool {
        self.proc == Path::new("/proc") && self.sys == Path::new("/sys")
    }

    /// A path below procfs.
    pub fn proc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.proc.join(path)
    }

    /// A path below sysfs.
    pub fn sys(&self, path: impl AsRef<Path>) -> PathBuf {
        self.sys.join(path)
    }

    /// A path below udev's data.
    pub fn udev(&self, path: impl AsRef<Path>) -> PathBuf {
        self.udev.join(path)
    }

    /// Where an absolute path of the host is found from here.
    pub fn at_root(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The host's name for a path as this process sees it: what [`HostRoot::at_root`] put before it is taken off.
    pub fn host_path<'a>(&self, seen: &'a Path) -> &'a Path {
        match seen.strip_prefix(&self.root) {
            Ok(rest) if rest.as_os_str().is_empty() => Path::new("/"),
            // Below "/" a path is the host's already; strip_prefix would take its leading slash.
            Ok(_) if self.root == Path::new("/") => seen,
            Ok(rest) => {
                let slash = seen.as_os_str().len() - rest.as_os_str().len() - 1;
                slice_from(seen, slash)
            }
            Err(_) => seen,
        }
    }
}

/// The part of a path from byte `at` on, which is a slash.
fn slice_from(path: &Path, at: usize) -> &Path {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    Path::new(OsStr::from_bytes(&path.as_os_str().as_bytes()[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_through_the_prefix_and_back() {
        let host = HostRoot { root: "/host".into(), ..HostRoot::default() };
        assert_eq!(host.at_root(Path::new("/data/x")), Path::new("/host/data/x"));
        assert_eq!(host.at_root(Path::new("/")), Path::new("/host/"));
        assert_eq!(host.host_path(Path::new("/host/data/x")), Path::new("/data/x"));
        assert_eq!(host.host_path(Path::new("/host")), Path::new("/"));
        assert_eq!(host.host_path(Path::new("/hostile")), Path::new("/hostile"));
        assert_eq!(HostRoot::default().host_path(Path::new("/data")), Path::new("/data"));
        assert_eq!(HostRoot::default().host_path(Path::new("/")), Path::new("/"));
        assert_eq!(host.proc("stat"), Path::new("/proc/stat"));
    }

    #[test]
    fn only_the_default_trees_are_our_own() {
        assert!(HostRoot { root: "/host".into(), ..HostRoot::default() }.is_own());
        assert!(!HostRoot { proc: "/host/proc".into(), ..HostRoot::default() }.is_own());
        assert!(!HostRoot { sys: "/host/sys".into(), ..HostRoot::default() }.is_own());
    }
}
