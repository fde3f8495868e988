//! What the firmware says about the machine, from `/sys/class/dmi/id`.

use crate::collectors::devices::{Rarely, text};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::{Families, Labels};

/// The files, which are the labels but for the last.
const FILES: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];

const HELP: &str = "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, bios_version, \
                    board_asset_tag, board_name, board_serial, board_vendor, board_version, chassis_asset_tag, \
                    chassis_serial, chassis_vendor, chassis_version, product_family, product_name, product_serial, \
                    product_sku, product_uuid, product_version, system_vendor if provided by DMI.";

/// See the module.
pub(crate) struct Dmi {
    host: HostRoot,
    rarely: Rarely,
    /// Read once: it does not change until the machine is started again.
    labels: Option<Labels>,
}

impl Dmi {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { host: host.clone(), rarely: Rarely::new(), labels: None }
    }

    fn read(&self) -> Option<Labels> {
        let directory = self.host.sys("class/dmi/id");
        if !directory.is_dir() {
            return None;
        }
        // Serial numbers are for root only: without those it may not read, the rest is shown.
        let pairs = FILES.into_iter().filter_map(|file| {
            let label = if file == "sys_vendor" { "system_vendor" } else { file };
            Some((label.to_owned(), text(directory.join(file))?))
        });
        let labels = Labels::owned(pairs);
        (!labels.is_empty()).then_some(labels)
    }
}

impl Collector for Dmi {
    fn name(&self) -> &'static str {
        "dmi"
    }

    fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if self.labels.is_none() && self.rarely.is_due() {
            self.labels = self.read();
        }
        let Some(labels) = &self.labels else { return Ok(Outcome::Nothing) };
        out.gauge("node_dmi_info", HELP);
        out.push(labels, 1.0);
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_may_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let id = dir.path().join("class/dmi/id");
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        assert_eq!(Dmi::new(&host).collect(&mut Families::default()).unwrap(), Outcome::Nothing);
        std::fs::create_dir_all(id.join("product_uuid")).unwrap();
        assert_eq!(Dmi::new(&host).collect(&mut Families::default()).unwrap(), Outcome::Nothing);
        std::fs::write(id.join("sys_vendor"), "Example \"Inc\"\n").unwrap();
        std::fs::write(id.join("product_sku"), "\n").unwrap();
        let mut out = Families::default();
        let mut dmi = Dmi::new(&host);
        assert_eq!(dmi.collect(&mut out).unwrap(), Outcome::Data);
        let labels: Vec<_> = out.samples("node_dmi_info")[0].labels.iter().collect();
        assert_eq!(labels, [("product_sku", ""), ("system_vendor", "Example \"Inc\"")]);
    }
}
