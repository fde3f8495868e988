//! Memory errors that the hardware noticed, from `/sys/devices/system/edac`.
//!
//! A controller has some hundred counters, which hardly ever move, and its sum of all counts each of them. So only the
//! sums are read at each pass, and the others when a sum moved.

use std::path::Path;

use crate::collectors::devices::{Devices, Live, index, text};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot};
use crate::snapshot::{Families, Labels};

/// Correctable and uncorrectable errors of one thing.
struct Counters {
    labels: Labels,
    files: [Option<Live>; 2],
    values: [Option<u64>; 2],
}

impl Counters {
    /// Of the files `{prefix}ce{suffix}` and `{prefix}ue{suffix}`.
    fn at(place: &Path, prefix: &str, suffix: &str, labels: Labels) -> Self {
        let file = |kind| Live::at(place.join(format!("{prefix}{kind}{suffix}")));
        Self { labels, files: [file("ce"), file("ue")], values: [None; 2] }
    }

    /// Reads them; whether one is another than before.
    fn read(&mut self) -> Result<bool, CollectError> {
        let mut changed = false;
        for (file, value) in self.files.iter_mut().zip(&mut self.values) {
            let Some(file) = file else { continue };
            let now = file.count()?;
            changed |= now != *value;
            *value = now;
        }
        Ok(changed)
    }

    fn push(&self, kind: usize, out: &mut Families) {
        if let Some(value) = self.values[kind] {
            out.push(&self.labels, value as f64);
        }
    }
}

struct Controller {
    all: Counters,
    /// By row of memory modules; the first are those whose row is not known.
    rows: Vec<Counters>,
    channels: Vec<Counters>,
    /// `rows` and `channels` are those of before: reading them failed, or they were never read.
    stale: bool,
}

impl Controller {
    fn new(entry: &str, place: &Path) -> Option<Self> {
        let controller = index(entry, "mc")?;
        let all = Counters::at(place, "", "_count", Labels::new([("controller", controller)]));
        let unknown = Labels::new([("controller", controller), ("csrow", "unknown")]);
        let mut rows = vec![Counters::at(place, "", "_noinfo_count", unknown)];
        let mut channels = Vec::new();
        for name in names(place) {
            let Some(row) = index(&name, "csrow") else { continue };
            let place = place.join(&name);
            rows.push(Counters::at(&place, "", "_count", Labels::new([("controller", controller), ("csrow", row)])));
            for name in names(&place) {
                let Some(channel) = name.strip_suffix("_ce_count").and_then(|name| index(name, "ch")) else { continue };
                let labels = Labels::new([
                    ("channel", channel),
                    ("controller", controller),
                    ("csrow", row),
                    ("dimm_label", &dimm_label(&place, channel)),
                ]);
                channels.push(Counters::at(&place, &format!("ch{channel}_"), "_count", labels));
            }
        }
        Some(Self { all, rows, channels, stale: true })
    }

    fn read(&mut self) -> Result<(), CollectError> {
        self.stale |= self.all.read()?;
        if self.stale {
            for counters in self.rows.iter_mut().chain(&mut self.channels) {
                counters.read()?;
            }
            self.stale = false;
        }
        Ok(())
    }
}

fn names(place: &Path) -> Vec<String> {
    let mut directory = Directory::new(place.to_owned());
    let names = directory.list().ok().flatten().unwrap_or_default();
    names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// What the board's maker calls the module, as node_exporter writes it.
fn dimm_label(row: &Path, channel: &str) -> String {
    let Some(label) = text(row.join(format!("ch{channel}_dimm_label"))) else { return "unknown".into() };
    label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel")
}

/// See the module.
pub(crate) struct Edac {
    controllers: Devices<Controller>,
}

impl Edac {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { controllers: Devices::new(host.sys("devices/system/edac/mc")) }
    }
}

/// Family and help by kind, for all, rows, channels.
const FAMILIES: [[(&str, &str); 2]; 3] = [
    [
        ("node_edac_correctable_errors_total", "Total correctable memory errors."),
        ("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors."),
    ],
    [
        ("node_edac_csrow_correctable_errors_total", "Total correctable memory errors for this csrow."),
        ("node_edac_csrow_uncorrectable_errors_total", "Total uncorrectable memory errors for this csrow."),
    ],
    [
        ("node_edac_channel_correctable_errors_total", "Total correctable memory errors for this channel."),
        ("node_edac_channel_uncorrectable_errors_total", "Total uncorrectable memory errors for this channel."),
    ],
];

impl Collector for Edac {
    fn name(&self) -> &'static str {
        "edac"
    }

    fn begin(&mut self, pass: Pass) {
        self.controllers.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Some(controllers) = self.controllers.get(Controller::new)? else { return Ok(Outcome::Nothing) };
        let mut lost = false;
        for controller in controllers.iter_mut() {
            controller.read()?;
            let Counters { files, values, .. } = &mut controller.all;
            for (file, value) in files.iter_mut().flatten().zip(values) {
                lost |= file.is_lost(value.is_some());
            }
        }
        let [all, rows, channels] = FAMILIES;
        for (kind, (name, help)) in all.into_iter().enumerate() {
            out.counter(name, help);
            controllers.iter().for_each(|controller| controller.all.push(kind, out));
        }
        for (kind, (name, help)) in rows.into_iter().enumerate() {
            out.counter(name, help);
            controllers.iter().flat_map(|controller| &controller.rows).for_each(|row| row.push(kind, out));
        }
        for (kind, (name, help)) in channels.into_iter().enumerate() {
            out.counter(name, help);
            controllers.iter().flat_map(|controller| &controller.channels).for_each(|one| one.push(kind, out));
        }
        if lost {
            self.controllers.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(dir: &Path, file: &str, text: &str) {
        let path = dir.join("devices/system/edac/mc").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn collect(edac: &mut Edac) -> Result<Families, CollectError> {
        let mut out = Families::default();
        edac.begin(Pass::Interval);
        edac.collect(&mut out).map(|_| out)
    }

    #[test]
    fn rows_are_read_when_the_sum_moves() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        for (file, text) in [
            ("power", ""),
            ("mc0/ce_count", "3\n"),
            ("mc0/ue_count", "0\n"),
            ("mc0/ce_noinfo_count", "1\n"),
            ("mc0/csrow2/ce_count", "2\n"),
            ("mc0/csrow2/ch1_ce_count", "2\n"),
            ("mc0/csrow2/ch1_dimm_label", "CPU_SrcID#0_Ha#1_csrow#2_channel#1\n"),
        ] {
            write(dir.path(), file, text);
        }
        let mut edac = Edac::new(&host);
        let out = collect(&mut edac).unwrap();
        assert_eq!(out.single("node_edac_correctable_errors_total"), Some(3.0));
        assert_eq!(out.single("node_edac_uncorrectable_errors_total"), Some(0.0));
        assert_eq!(out.samples("node_edac_csrow_correctable_errors_total").len(), 2);
        assert_eq!(out.samples("node_edac_csrow_uncorrectable_errors_total").len(), 0);
        let channel = &out.samples("node_edac_channel_correctable_errors_total")[0];
        assert_eq!(channel.labels.get("dimm_label"), Some("CPU_SrcID0_Ha1__csrow2__channel1"));

        write(dir.path(), "mc0/csrow2/ch1_ce_count", "3\n");
        let channel = |out: &Families| out.single("node_edac_channel_correctable_errors_total");
        assert_eq!(channel(&collect(&mut edac).unwrap()), Some(2.0));
        write(dir.path(), "mc0/ce_count", "4\n");
        assert_eq!(channel(&collect(&mut edac).unwrap()), Some(3.0));
    }

    #[test]
    fn garbage_is_an_error_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        write(dir.path(), "mc0/ce_count", "1\n");
        write(dir.path(), "mc0/csrow0/ue_count", "none\n");
        let mut edac = Edac::new(&host);
        for _ in 0..2 {
            let error = collect(&mut edac).unwrap_err().to_string();
            assert!(error.contains("mc0/csrow0/ue_count"), "{error}");
        }
        write(dir.path(), "mc0/csrow0/ue_count", "7\n");
        let out = collect(&mut edac).unwrap();
        assert_eq!(out.single("node_edac_csrow_uncorrectable_errors_total"), Some(7.0));
    }
}
