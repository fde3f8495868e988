//! Fibre Channel adapters, from `/sys/class/fc_host`.

use std::path::Path;

use crate::collectors::devices::{Devices, Watched, text};
use crate::collectors::table::{self, Column, Row, Scale};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::{Families, Labels, MetricType};

macro_rules! columns {
    ($($file:literal $name:literal $help:literal),* $(,)?) => {
        [$(Column {
            file: concat!("statistics/", $file),
            family: concat!("node_fibrechannel_", $name),
            help: $help,
            kind: MetricType::Counter,
            scale: Scale::Whole,
        }),*]
    };
}

const COLUMNS: [Column; 14] = columns![
    "dumped_frames" "dumped_frames_total" "Number of dumped frames",
    "error_frames" "error_frames_total" "Number of errors in frames",
    "fcp_packet_aborts" "fcp_packet_aborts_total" "Number of aborted packets",
    "invalid_crc_count" "invalid_crc_total" "Invalid Cyclic Redundancy Check count",
    "invalid_tx_word_count" "invalid_tx_words_total" "Number of invalid words transmitted by host port",
    "link_failure_count" "link_failure_total" "Number of times the host port link has failed",
    "loss_of_signal_count" "loss_of_signal_total" "Number of times signal has been lost",
    "loss_of_sync_count" "loss_of_sync_total" "Number of failures on either bit or transmission word boundaries",
    "nos_count" "nos_total" "Number Not_Operational Primitive Sequence received by host port",
    "rx_frames" "rx_frames_total" "Number of frames received",
    "rx_words" "rx_words_total" "Number of words received by host port",
    "seconds_since_last_reset" "seconds_since_last_reset_total" "Number of seconds since last host port reset",
    "tx_frames" "tx_frames_total" "Number of frames transmitted by host port",
    "tx_words" "tx_words_total" "Number of words transmitted by host port",
];

struct Host {
    info: Labels,
    /// Part of `info`, which is made anew when it changes.
    state: Watched,
    counters: Row,
}

impl Host {
    fn new(name: &str, place: &Path) -> Option<Self> {
        let label = |file: &str| text(place.join(file)).unwrap_or_default();
        // Of 0x10000000c9123456 the digits are shown.
        let number = |file: &str| {
            let text = label(file);
            text.get(2..).filter(|digits| !digits.is_empty()).unwrap_or(&text).to_owned()
        };
        let state = Watched::at(place.join("port_state"));
        let info = Labels::new([
            ("dev_loss_tmo", &*label("dev_loss_tmo")),
            ("fabric_name", &*number("fabric_name")),
            ("fc_host", name),
            ("port_id", &*number("port_id")),
            ("port_name", &*number("port_name")),
            ("port_state", state.text()),
            ("port_type", &*label("port_type")),
            ("speed", &*label("speed")),
            ("supported_classes", &*label("supported_classes")),
            ("supported_speeds", &*label("supported_speeds")),
            ("symbolic_name", &*label("symbolic_name")),
        ]);
        let counters = Row::new(place, Labels::new([("fc_host", name)]), &COLUMNS);
        Some(Self { info, state, counters })
    }
}

/// See the module.
pub(crate) struct FibreChannel {
    hosts: Devices<Host>,
}

impl FibreChannel {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { hosts: Devices::new(host.sys("class/fc_host")) }
    }
}

impl Collector for FibreChannel {
    fn name(&self) -> &'static str {
        "fibrechannel"
    }

    fn begin(&mut self, pass: Pass) {
        self.hosts.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Some(hosts) = self.hosts.get(Host::new)? else { return Ok(Outcome::Nothing) };
        if hosts.iter_mut().any(|host| host.state.has_changed()) {
            self.hosts.soon();
        }
        let Some(hosts) = self.hosts.get(Host::new)? else { return Ok(Outcome::Nothing) };
        out.gauge("node_fibrechannel_info", "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.");
        for host in hosts.iter() {
            out.push(&host.info, 1.0);
        }
        let rows = |visit: &mut dyn FnMut(&mut Row) -> Result<(), CollectError>| {
            hosts.iter_mut().try_for_each(|host| visit(&mut host.counters))
        };
        if table::collect(&COLUMNS, rows, out)? {
            self.hosts.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn counters_are_hexadecimal_and_not_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("class/fc_host/host1");
        fs::create_dir_all(place.join("statistics")).unwrap();
        for (file, text) in [
            ("port_state", "Online\n"),
            ("port_name", "0x1000000000000017\n"),
            ("port_id", "0x\n"),
            ("statistics/rx_frames", "0xff\n"),
            ("statistics/nos_count", "0xffffffffffffffff\n"),
        ] {
            fs::write(place.join(file), text).unwrap();
        }
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = FibreChannel::new(&host);
        let mut run = || {
            let mut out = Families::default();
            assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
            out
        };
        let out = run();
        assert_eq!(out.single("node_fibrechannel_rx_frames_total"), Some(255.0));
        assert_eq!(out.single("node_fibrechannel_nos_total"), None);
        let info =
            |out: &Families, label| out.samples("node_fibrechannel_info")[0].labels.get(label).map(str::to_owned);
        assert_eq!(info(&out, "port_name").as_deref(), Some("1000000000000017"));
        fs::write(place.join("port_state"), "Linkdown\n").unwrap();
        assert_eq!(info(&run(), "port_state").as_deref(), Some("Linkdown"));
    }
}
