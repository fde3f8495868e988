//! How many interfaces of each bond are up, from `/sys/class/net/bonding_masters` and the directories of the bonds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome};
use crate::host::{Attribute, HostRoot, fields};
use crate::snapshot::{Families, Labels};

/// An interface in a bond. Its directory there has another name in old kernels.
struct Member {
    status: [Attribute; 2],
}

/// A bond, with what it was found to have.
struct Bond {
    labels: Labels,
    names: Attribute,
    members: Cache<Member>,
    configured: u32,
    active: u32,
}

impl Bond {
    fn new(directory: &Path, name: &str) -> Self {
        Self {
            labels: Labels::new([("master", name)]),
            names: Attribute::new(directory.join("bonding/slaves")),
            members: Cache::default(),
            configured: 0,
            active: 0,
        }
    }

    fn read(&mut self, directory: &Path, list: &mut Vec<u8>) -> Result<(), CollectError> {
        (self.configured, self.active) = (0, 0);
        copy(&mut self.names, list)?;
        self.members.begin();
        for name in fields(list) {
            let member = self.members.get(name, |_| {
                let status = |prefix: &[u8]| {
                    let member = OsStr::from_bytes(&[prefix, name].concat()).to_owned();
                    Attribute::new(directory.join(member).join("bonding_slave/mii_status"))
                };
                Member { status: [status(b"lower_"), status(b"slave_")] }
            });
            self.configured += 1;
            for status in &mut member.status {
                if let Some(is_up) = status.bytes(|status| status == b"up")? {
                    self.active += u32::from(is_up);
                    break;
                }
            }
        }
        self.members.end();
        Ok(())
    }
}

/// Takes over a file's names, since others are read while it is gone through. Whether there is such a file.
fn copy(file: &mut Attribute, into: &mut Vec<u8>) -> Result<bool, CollectError> {
    into.clear();
    let found = file.bytes(|names| into.extend(names))?;
    Ok(found.is_some())
}

/// See the module.
pub(crate) struct Bonding {
    class: PathBuf,
    names: Attribute,
    bonds: Cache<Bond>,
    list: Vec<u8>,
    members: Vec<u8>,
}

impl Bonding {
    pub(crate) fn new(host: &HostRoot) -> Self {
        let class = host.sys("class/net");
        let names = Attribute::new(class.join("bonding_masters"));
        Self { class, names, bonds: Cache::default(), list: Vec::new(), members: Vec::new() }
    }
}

impl Collector for Bonding {
    fn name(&self) -> &'static str {
        "bonding"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { class, names, bonds, list, members } = self;
        // There is the file once the kernel's module is loaded.
        if !copy(names, list)? {
            return Ok(Outcome::Nothing);
        }
        bonds.begin();
        for name in fields(list) {
            let directory = || class.join(OsStr::from_bytes(name));
            bonds.get(name, |text| Bond::new(&directory(), text)).read(&directory(), members)?;
        }
        bonds.end();
        out.gauge("node_bonding_slaves", "Number of configured slaves per bonding interface.");
        for bond in bonds.asked() {
            out.push(&bond.labels, f64::from(bond.configured));
        }
        out.gauge("node_bonding_active", "Number of active slaves per bonding interface.");
        for bond in bonds.asked() {
            out.push(&bond.labels, f64::from(bond.active));
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_members_and_those_that_are_up() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = Bonding::new(&host);
        let mut read = || {
            let mut out = Families::default();
            let outcome = collector.collect(&mut out).unwrap();
            let values = |name| out.samples(name).iter().map(|sample| sample.value).collect::<Vec<_>>();
            (outcome, values("node_bonding_slaves"), values("node_bonding_active"))
        };
        assert_eq!(read(), (Outcome::Nothing, vec![], vec![]));
        let class = dir.path().join("class/net");
        let write = |name: &str, text: &str| {
            let path = class.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("bonding_masters", "\n");
        assert_eq!(read(), (Outcome::Data, vec![], vec![]));
        write("bonding_masters", "bond0 dmz\n");
        write("bond0/bonding/slaves", "eth0 eth1 eth2\n");
        write("bond0/lower_eth0/bonding_slave/mii_status", "up\n");
        write("bond0/slave_eth1/bonding_slave/mii_status", "up\n");
        write("bond0/lower_eth2/bonding_slave/mii_status", "down\n");
        write("dmz/bonding/slaves", "\n");
        assert_eq!(read(), (Outcome::Data, vec![3.0, 0.0], vec![2.0, 0.0]));
        write("bond0/lower_eth2/bonding_slave/mii_status", "up\n");
        write("bond0/bonding/slaves", "eth2\n");
        assert_eq!(read(), (Outcome::Data, vec![1.0, 0.0], vec![1.0, 0.0]));
    }
}
