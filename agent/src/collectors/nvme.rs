//! NVMe controllers and their namespaces, from `/sys/class/nvme`.

use std::path::{Path, PathBuf};

use crate::collectors::devices::{Devices, Watched, text, value};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot};
use crate::snapshot::{Families, Labels};

/// The block layer's, whatever the device's own are.
const SECTOR_BYTES: f64 = 512.0;

struct Controller {
    info: Labels,
    /// Part of `info`, which is made anew when it changes.
    state: Watched,
    namespaces: Vec<Namespace>,
}

/// A namespace. What is known of it is asked for when the controllers are listed: the space in use costs the device a
/// command.
struct Namespace {
    info: Labels,
    labels: Labels,
    size: Option<f64>,
    used: Option<f64>,
    block: Option<f64>,
}

impl Controller {
    fn new(name: &str, place: &Path) -> Option<Self> {
        let label = |file: &str| text(place.join(file)).unwrap_or_default();
        let state = Watched::at(place.join("state"));
        let info = Labels::new([
            ("cntlid", &*label("cntlid")),
            ("device", name),
            ("firmware_revision", &*label("firmware_rev")),
            ("model", &*label("model")),
            ("serial", &*label("serial")),
            ("state", state.text()),
        ]);
        let mut entries = Directory::new(place.to_owned());
        let entries = entries.list().ok().flatten().unwrap_or_default();
        let entries = entries.iter().filter_map(|entry| std::str::from_utf8(entry).ok());
        let namespaces = entries.filter_map(|entry| Namespace::new(name, namespace_id(entry)?, place.join(entry)));
        let namespaces = namespaces.collect();
        Some(Self { info, state, namespaces })
    }
}

impl Namespace {
    fn new(device: &str, id: &str, place: PathBuf) -> Option<Self> {
        let state = text(place.join("ana_state")).unwrap_or_else(|| "unknown".into());
        let block = value(place.join("queue/logical_block_size"));
        Some(Self {
            info: Labels::new([("ana_state", &*state), ("device", device), ("nsid", id)]),
            labels: Labels::new([("device", device), ("nsid", id)]),
            // In sectors, while the space in use is in blocks of the namespace. node_exporter takes both for blocks.
            size: value(place.join("size")).map(|sectors| sectors * SECTOR_BYTES),
            // Since Linux 6.8.
            used: value(place.join("nuse")).zip(block).map(|(blocks, block)| blocks * block),
            block,
        })
    }
}

/// `1` of `nvme0n1`. One path of several to a namespace, `nvme0c0n1`, is none.
fn namespace_id(entry: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (controller, id) = entry.strip_prefix("nvme")?.split_once('n')?;
    (digits(controller) && digits(id)).then_some(id)
}

/// See the module.
pub(crate) struct Nvme {
    controllers: Devices<Controller>,
}

impl Nvme {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { controllers: Devices::new(host.sys("class/nvme")) }
    }
}

impl Collector for Nvme {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn begin(&mut self, pass: Pass) {
        self.controllers.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Some(controllers) = self.controllers.get(Controller::new)? else { return Ok(Outcome::Nothing) };
        let changed = controllers.iter_mut().any(|controller| controller.state.has_changed());
        let controllers = if changed {
            self.controllers.soon();
            self.controllers.get(Controller::new)?
        } else {
            Some(controllers)
        };
        let Some(controllers) = controllers else { return Ok(Outcome::Nothing) };

        out.gauge("node_nvme_info", "Non-numeric data from /sys/class/nvme/<device>, value is always 1.");
        for controller in controllers.iter() {
            out.push(&controller.info, 1.0);
        }
        let namespaces = || controllers.iter().flat_map(|controller| &controller.namespaces);
        let mut family = |name: &'static str, help: &'static str, value: fn(&Namespace) -> Option<f64>| {
            out.gauge(name, help);
            for namespace in namespaces() {
                value(namespace).inspect(|value| out.push(&namespace.labels, *value));
            }
        };
        family(
            "node_nvme_namespace_capacity_bytes",
            "Capacity of the NVMe namespace in bytes. Computed as namespace_size * namespace_logical_block_size",
            |namespace| namespace.size,
        );
        family(
            "node_nvme_namespace_logical_block_size_bytes",
            "Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in \
             /sys/class/nvme/<device>/<namespace>/queue/logical_block_size",
            |namespace| namespace.block,
        );
        family(
            "node_nvme_namespace_size_bytes",
            "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size",
            |namespace| namespace.size,
        );
        family(
            "node_nvme_namespace_used_bytes",
            "Used space of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/nuse",
            |namespace| namespace.used,
        );
        out.gauge("node_nvme_namespace_info", "Information about NVMe namespaces. Value is always 1");
        for namespace in namespaces() {
            out.push(&namespace.info, 1.0);
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_namespace_is_told_from_a_path_to_it() {
        assert_eq!(namespace_id("nvme0n1"), Some("1"));
        assert_eq!(namespace_id("nvme12n34"), Some("34"));
        for none in ["nvme0c0n1", "ng0n1", "nvme0", "nvme0n", "nvmen1", "nvme0n1p1", "hwmon1", "power"] {
            assert_eq!(namespace_id(none), None, "{none}");
        }
    }

    #[test]
    fn a_new_state_shows_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let place = dir.path().join("class/nvme/nvme0");
        fs::create_dir_all(place.join("nvme0n1/queue")).unwrap();
        for (file, text) in [
            ("model", "Example SSD  \n"),
            ("state", "live\n"),
            ("nvme0n1/size", "2048\n"),
            ("nvme0n1/nuse", "17\n"),
            ("nvme0n1/queue/logical_block_size", "4096\n"),
        ] {
            fs::write(place.join(file), text).unwrap();
        }
        let mut nvme = Nvme::new(&host);
        let mut run = || {
            let mut out = Families::default();
            nvme.begin(Pass::Interval);
            assert_eq!(nvme.collect(&mut out).unwrap(), Outcome::Data);
            out
        };
        let out = run();
        let info = |out: &Families, label| out.samples("node_nvme_info")[0].labels.get(label).map(str::to_owned);
        assert_eq!(info(&out, "model").as_deref(), Some("Example SSD"));
        assert_eq!(info(&out, "serial").as_deref(), Some(""));
        assert_eq!(out.single("node_nvme_namespace_size_bytes"), Some(1048576.0));
        assert_eq!(out.single("node_nvme_namespace_used_bytes"), Some(69632.0));
        assert_eq!(out.samples("node_nvme_namespace_info")[0].labels.get("ana_state"), Some("unknown"));
        fs::write(place.join("state"), "resetting\n").unwrap();
        assert_eq!(info(&run(), "state").as_deref(), Some("resetting"));
    }
}
