//! What a world stands on: small disks and a network for the agents, where namespaces can be made. Both go with the last
//! process that is in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::plan::DISKS;
use crate::process::{Process, Spec};
use crate::system::run;

/// The servers' address as the agents see it, and the agents' own.
pub(crate) const SERVERS: &str = "10.213.7.1";
const AGENTS: &str = "10.213.7.2";

/// Size of a small disk. A backlog of a whole drill fits.
const SIZE: &str = "size=96m";

/// Disks and a network of the drill's own.
#[derive(Debug)]
pub(crate) struct Ground {
    folder: PathBuf,
    /// Holds the agents' network.
    network: Process,
}

impl Ground {
    /// Makes them. `folder` is the drill's; the disks lie below `disks` in it.
    pub(crate) fn make(folder: &Path) -> Outcome<Self> {
        for name in DISKS {
            let path = disk(folder, name);
            fs::create_dir_all(&path).map_err(|e| format!("can't make {}: {e}", path.display()))?;
            run("mount", &["-t", "tmpfs", "-o", SIZE, "none", &path.to_string_lossy()])?;
        }
        run("ip", &["link", "set", "lo", "up"])?;
        let spec = Spec {
            name: "network".to_owned(),
            command: ["unshare", "--net", "--", "sleep", "infinity"].map(str::to_owned).to_vec(),
            folder: folder.to_owned(),
            ..Spec::default()
        };
        let mut network = Process::new(spec, &folder.join("logs"));
        network.look()?;
        let id = network.id().ok_or("the agents' network is not there")?.to_string();
        // It is there a moment after its holder was started.
        let own = fs::read_link("/proc/self/ns/net").ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_link(format!("/proc/{id}/ns/net")).ok() == own {
            if Instant::now() > deadline {
                return Err("the agents' network did not come up within 10 s".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let enter = |arguments: &[&str]| {
            let words: Vec<&str> = ["--net", "--target", &id].iter().chain(arguments).copied().collect();
            run("nsenter", &words)
        };
        run("ip", &["link", "add", "servers", "type", "veth", "peer", "name", "agents", "netns", &id])?;
        run("ip", &["address", "add", &format!("{SERVERS}/24"), "dev", "servers"])?;
        run("ip", &["link", "set", "servers", "up"])?;
        enter(&["ip", "address", "add", &format!("{AGENTS}/24"), "dev", "agents"])?;
        enter(&["ip", "link", "set", "agents", "up"])?;
        enter(&["ip", "link", "set", "lo", "up"])?;
        Ok(Self { folder: folder.to_owned(), network })
    }

    /// A process in the agents' network.
    pub(crate) fn network(&self) -> Option<u32> {
        self.network.id()
    }

    /// Takes the network between agents and servers away.
    pub(crate) fn cut(&self) -> Outcome<()> {
        run("ip", &["link", "set", "servers", "down"])
    }

    /// Brings it back.
    pub(crate) fn join(&self) -> Outcome<()> {
        run("ip", &["link", "set", "servers", "up"])
    }

    fn ballast(&self, number: usize) -> PathBuf {
        disk(&self.folder, DISKS.get(number).unwrap_or(&"")).join("ballast")
    }

    /// Fills a disk to its last byte.
    pub(crate) fn fill(&self, number: usize) -> Outcome<()> {
        use std::io::Write as _;
        let path = self.ballast(number);
        let mut file = fs::File::create(&path).map_err(|e| format!("can't make {}: {e}", path.display()))?;
        let block = vec![0_u8; 4096];
        while file.write_all(&block).is_ok() {}
        Ok(())
    }

    /// Takes the ballast out again.
    pub(crate) fn empty(&self, number: usize) -> Outcome<()> {
        match fs::remove_file(self.ballast(number)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("can't remove {}: {e}", self.ballast(number).display()))
            }
            _ => Ok(()),
        }
    }

    /// Undoes what was done to any of them.
    pub(crate) fn restore(&self) -> Outcome<()> {
        self.join()?;
        (0..DISKS.len()).try_for_each(|number| self.empty(number))
    }

    /// Takes the small disks away, so that the drill's folder can be removed.
    pub(crate) fn leave(&self) -> Outcome<()> {
        DISKS.iter().try_for_each(|name| run("umount", &["--lazy", &disk(&self.folder, name).to_string_lossy()]))
    }

    /// Copies what the small disks hold, which end with the drill.
    pub(crate) fn keep(&self) -> Outcome<()> {
        let (from, to) = (self.folder.join("disks"), self.folder.join("disks-kept"));
        run("cp", &["-a", "--no-target-directory", &from.to_string_lossy(), &to.to_string_lossy()])
    }
}

/// Where a small disk is.
pub(crate) fn disk(folder: &Path, name: &str) -> PathBuf {
    folder.join("disks").join(name)
}
