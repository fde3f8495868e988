//! AMD's GPUs, from `/sys/class/drm`: amdgpu is the driver that says there how busy a GPU is.
//!
//! node_exporter has this collector too, switched off. Here it runs: without such a card it costs nothing, and with one
//! its owner wants the load.

use std::path::Path;

use crate::collectors::devices::{Devices, Live, index, text, value};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::{Families, Labels};

/// File, family, help: what changes all the time.
const LIVE: [(&str, &str, &str); 4] = [
    ("gpu_busy_percent", "node_drm_gpu_busy_percent", "How busy the GPU is as a percentage."),
    (
        "mem_info_gtt_used",
        "node_drm_memory_gtt_used_bytes",
        "The used amount of the graphics translation table (GTT) block in bytes.",
    ),
    ("mem_info_vis_vram_used", "node_drm_memory_vis_vram_used_bytes", "The used amount of visible VRAM in bytes."),
    ("mem_info_vram_used", "node_drm_memory_vram_used_bytes", "The used amount of VRAM in bytes."),
];

/// The same for what a card has.
const SIZES: [(&str, &str, &str); 3] = [
    (
        "mem_info_gtt_total",
        "node_drm_memory_gtt_size_bytes",
        "The size of the graphics translation table (GTT) block in bytes.",
    ),
    ("mem_info_vis_vram_total", "node_drm_memory_vis_vram_size_bytes", "The size of visible VRAM in bytes."),
    ("mem_info_vram_total", "node_drm_memory_vram_size_bytes", "The size of VRAM in bytes."),
];

struct Card {
    labels: Labels,
    info: Labels,
    live: [Option<Live>; LIVE.len()],
    sizes: [Option<f64>; SIZES.len()],
}

/// See the module.
pub(crate) struct Drm {
    cards: Devices<Card>,
}

impl Drm {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { cards: Devices::new(host.sys("class/drm")) }
    }
}

/// Outputs such as `card0-DP-1` and other drivers' cards are none.
fn make(name: &str, place: &Path) -> Option<Card> {
    index(name, "card")?;
    let device = place.join("device");
    text(device.join("uevent"))?.lines().find(|line| *line == "DRIVER=amdgpu")?;
    let label = |file: &str| text(device.join(file)).unwrap_or_default();
    Some(Card {
        labels: Labels::new([("card", name)]),
        info: Labels::new([
            ("card", name),
            ("memory_vendor", &*label("mem_info_vram_vendor")),
            ("power_performance_level", &*label("power_dpm_force_performance_level")),
            ("unique_id", &*label("unique_id")),
            ("vendor", "amd"),
        ]),
        live: LIVE.map(|(file, ..)| Live::at(device.join(file))),
        sizes: SIZES.map(|(file, ..)| value(device.join(file))),
    })
}

impl Collector for Drm {
    fn name(&self) -> &'static str {
        "drm"
    }

    fn begin(&mut self, pass: Pass) {
        self.cards.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Some(cards) = self.cards.get(make)?.filter(|cards| !cards.is_empty()) else {
            return Ok(Outcome::Nothing);
        };
        out.gauge("node_drm_card_info", "Card information");
        for card in cards.iter() {
            out.push(&card.info, 1.0);
        }
        let mut lost = false;
        for (number, (_, name, help)) in LIVE.into_iter().enumerate() {
            out.gauge(name, help);
            for card in cards.iter_mut() {
                if let Some(live) = &mut card.live[number] {
                    let value = live.number();
                    lost |= live.is_lost(value.is_some());
                    value.inspect(|value| out.push(&card.labels, *value));
                }
            }
        }
        for (number, (_, name, help)) in SIZES.into_iter().enumerate() {
            out.gauge(name, help);
            for card in cards.iter() {
                card.sizes[number].inspect(|value| out.push(&card.labels, *value));
            }
        }
        if lost {
            self.cards.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(sys: &Path, name: &str, files: &[(&str, &str)]) {
        let device = sys.join("class/drm").join(name).join("device");
        std::fs::create_dir_all(&device).unwrap();
        for (file, text) in files {
            std::fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
    }

    fn pass(drm: &mut Drm) -> (Outcome, Families) {
        let mut out = Families::default();
        drm.begin(Pass::Interval);
        let outcome = drm.collect(&mut out).unwrap();
        (outcome, out)
    }

    #[test]
    fn cards_of_amdgpu_are_shown_with_what_they_tell() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        assert_eq!(pass(&mut Drm::new(&host)).0, Outcome::Nothing);
        card(dir.path(), "card0", &[("uevent", "DRIVER=i915"), ("gpu_busy_percent", "7")]);
        card(dir.path(), "card1-DP-1", &[("uevent", "DRIVER=amdgpu")]);
        assert_eq!(pass(&mut Drm::new(&host)).0, Outcome::Nothing);
        let files =
            [("uevent", "PCI_ID=1002:73BF\nDRIVER=amdgpu"), ("gpu_busy_percent", "42"), ("mem_info_vram_total", "x")];
        card(dir.path(), "card1", &files);
        let mut drm = Drm::new(&host);
        let (outcome, out) = pass(&mut drm);
        assert_eq!(outcome, Outcome::Data);
        assert_eq!(out.single("node_drm_gpu_busy_percent"), Some(42.0));
        assert_eq!(out.samples("node_drm_card_info")[0].labels.get("card"), Some("card1"));
        assert!(out.samples("node_drm_memory_vram_size_bytes").is_empty() && out.len() == 2);

        // Unplugged: noticed when its load can't be read any more. A file that is gone stays open here, as on no sysfs.
        std::fs::write(dir.path().join("class/drm/card1/device/gpu_busy_percent"), "").unwrap();
        std::fs::remove_dir_all(dir.path().join("class/drm/card1")).unwrap();
        assert!(pass(&mut drm).1.samples("node_drm_gpu_busy_percent").is_empty());
        assert_eq!(pass(&mut drm).0, Outcome::Nothing);
    }
}
