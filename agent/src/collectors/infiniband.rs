//! InfiniBand and RoCE adapters, from `/sys/class/infiniband`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::collectors::devices::{Devices, Live, text};
use crate::collectors::table::{self, Column, Row, Scale};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot, TextError, decimal, number};
use crate::pattern::{Pattern, shows};
use crate::snapshot::{Families, Labels, MetricType};

use MetricType::{Counter, Gauge};
use Scale::{Milliseconds, Quadruple, Whole};

/// The counters of a port. Those of data count words of four bytes, one for each lane.
const COLUMNS: [Column; 60] = [
    Column {
        file: "hw_counters/duplicate_request",
        family: "node_infiniband_duplicate_requests_packets_total",
        help: "The number of received packets. A duplicate request is a request that had been previously executed.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/excessive_buffer_overrun_errors",
        family: "node_infiniband_excessive_buffer_overrun_errors_total",
        help: "Number of times that OverrunErrors consecutive flow control update periods occurred, each having at \
               least one overrun error.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/implied_nak_seq_err",
        family: "node_infiniband_implied_nak_seq_errors_total",
        help: "The number of time the requested decided an ACK. with a PSN larger than the expected PSN for an RDMA \
               read or response.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters_ext/port_rcv_data_64",
        family: "node_infiniband_legacy_data_received_bytes_total",
        help: "Number of data octets received on all links",
        kind: Counter,
        scale: Quadruple,
    },
    Column {
        file: "counters_ext/port_xmit_data_64",
        family: "node_infiniband_legacy_data_transmitted_bytes_total",
        help: "Number of data octets transmitted on all links",
        kind: Counter,
        scale: Quadruple,
    },
    Column {
        file: "counters_ext/port_multicast_rcv_packets",
        family: "node_infiniband_legacy_multicast_packets_received_total",
        help: "Number of multicast packets received",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters_ext/port_multicast_xmit_packets",
        family: "node_infiniband_legacy_multicast_packets_transmitted_total",
        help: "Number of multicast packets transmitted",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters_ext/port_rcv_packets_64",
        family: "node_infiniband_legacy_packets_received_total",
        help: "Number of data packets received on all links",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters_ext/port_xmit_packets_64",
        family: "node_infiniband_legacy_packets_transmitted_total",
        help: "Number of data packets received on all links",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters_ext/port_unicast_rcv_packets",
        family: "node_infiniband_legacy_unicast_packets_received_total",
        help: "Number of unicast packets received",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters_ext/port_unicast_xmit_packets",
        family: "node_infiniband_legacy_unicast_packets_transmitted_total",
        help: "Number of unicast packets transmitted",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/lifespan",
        family: "node_infiniband_lifespan_seconds",
        help: "The maximum period in ms which defines the aging of the counter reads. Two consecutive reads within \
               this period might return the same values.",
        kind: Gauge,
        scale: Milliseconds,
    },
    Column {
        file: "counters/link_downed",
        family: "node_infiniband_link_downed_total",
        help: "Number of times the link failed to recover from an error state and went down",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/link_error_recovery",
        family: "node_infiniband_link_error_recovery_total",
        help: "Number of times the link successfully recovered from an error state",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/local_ack_timeout_err",
        family: "node_infiniband_local_ack_timeout_errors_total",
        help: "The number of times QP's ack timer expired for RC, XRC, DCT QPs at the sender side. The QP retry \
               limit was not exceed, therefore it is still recoverable error.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/local_link_integrity_errors",
        family: "node_infiniband_local_link_integrity_errors_total",
        help: "Number of times that the count of local physical errors exceeded the threshold specified by \
               LocalPhyErrors.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/multicast_rcv_packets",
        family: "node_infiniband_multicast_packets_received_total",
        help: "Number of multicast packets received (including errors)",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/multicast_xmit_packets",
        family: "node_infiniband_multicast_packets_transmitted_total",
        help: "Number of multicast packets transmitted (including errors)",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/np_cnp_sent",
        family: "node_infiniband_np_cnp_packets_sent_total",
        help: "The number of CNP packets sent by the Notification Point when it noticed congestion experienced in \
               the RoCEv2 IP header (ECN bits). The counters was added in MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/np_ecn_marked_roce_packets",
        family: "node_infiniband_np_ecn_marked_roce_packets_received_total",
        help: "The number of RoCEv2 packets received by the notification point which were marked for experiencing \
               the congestion (ECN bits where '11' on the ingress RoCE traffic) . The counters was added in \
               MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/out_of_buffer",
        family: "node_infiniband_out_of_buffer_drops_total",
        help: "The number of drops occurred due to lack of WQE for the associated QPs.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/out_of_sequence",
        family: "node_infiniband_out_of_sequence_packets_received_total",
        help: "The number of out of sequence packets received.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/packet_seq_err",
        family: "node_infiniband_packet_sequence_errors_total",
        help: "The number of received NAK sequence error packets. The QP retry limit was not exceeded.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_rcv_constraint_errors",
        family: "node_infiniband_port_constraint_errors_received_total",
        help: "Number of packets received on the switch physical port that are discarded",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_xmit_constraint_errors",
        family: "node_infiniband_port_constraint_errors_transmitted_total",
        help: "Number of packets not transmitted from the switch physical port",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_rcv_data",
        family: "node_infiniband_port_data_received_bytes_total",
        help: "Number of data octets received on all links",
        kind: Counter,
        scale: Quadruple,
    },
    Column {
        file: "counters/port_xmit_data",
        family: "node_infiniband_port_data_transmitted_bytes_total",
        help: "Number of data octets transmitted on all links",
        kind: Counter,
        scale: Quadruple,
    },
    Column {
        file: "counters/port_rcv_discards",
        family: "node_infiniband_port_discards_received_total",
        help: "Number of inbound packets discarded by the port because the port is down or congested",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_xmit_discards",
        family: "node_infiniband_port_discards_transmitted_total",
        help: "Number of outbound packets discarded by the port because the port is down or congested",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_rcv_errors",
        family: "node_infiniband_port_errors_received_total",
        help: "Number of packets containing an error that were received on this port",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_rcv_packets",
        family: "node_infiniband_port_packets_received_total",
        help: "Number of packets received on all VLs by this port (including errors)",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_xmit_packets",
        family: "node_infiniband_port_packets_transmitted_total",
        help: "Number of packets transmitted on all VLs from this port (including errors)",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_rcv_remote_physical_errors",
        family: "node_infiniband_port_receive_remote_physical_errors_total",
        help: "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_rcv_switch_relay_errors",
        family: "node_infiniband_port_receive_switch_relay_errors_total",
        help: "Number of packets that could not be forwarded by the switch.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/port_xmit_wait",
        family: "node_infiniband_port_transmit_wait_total",
        help: "Number of ticks during which the port had data to transmit but no data was sent during the entire \
               tick",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/req_cqe_error",
        family: "node_infiniband_req_cqes_errors_total",
        help: "The number of times requester detected CQEs completed with errors. The counters was added in \
               MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/req_cqe_flush_error",
        family: "node_infiniband_req_cqes_flush_errors_total",
        help: "The number of times requester detected CQEs completed with flushed errors. The counters was added in \
               MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/req_remote_access_errors",
        family: "node_infiniband_req_remote_access_errors_total",
        help: "The number of times requester detected remote access errors. The counters was added in MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/req_remote_invalid_request",
        family: "node_infiniband_req_remote_invalid_request_errors_total",
        help: "The number of times requester detected remote invalid request errors. The counters was added in \
               MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/resp_cqe_error",
        family: "node_infiniband_resp_cqes_errors_total",
        help: "The number of times responder detected CQEs completed with errors. The counters was added in \
               MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/resp_cqe_flush_error",
        family: "node_infiniband_resp_cqes_flush_errors_total",
        help: "The number of times responder detected CQEs completed with flushed errors. The counters was added in \
               MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/resp_local_length_error",
        family: "node_infiniband_resp_local_length_errors_total",
        help: "The number of times responder detected local length errors. The counters was added in MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/resp_remote_access_errors",
        family: "node_infiniband_resp_remote_access_errors_total",
        help: "The number of times responder detected remote access errors. The counters was added in MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rnr_nak_retry_err",
        family: "node_infiniband_rnr_nak_retry_packets_received_total",
        help: "The number of received RNR NAK packets. The QP retry limit was not exceeded.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/roce_adp_retrans_to",
        family: "node_infiniband_roce_adp_retransmits_timeout_total",
        help: "The number of times RoCE traffic reached timeout due to adaptive retransmission. The counter was \
               added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/roce_adp_retrans",
        family: "node_infiniband_roce_adp_retransmits_total",
        help: "The number of adaptive retransmissions for RoCE traffic. The counter was added in MLNX_OFED rev \
               5.0-1.0.0.0 and kernel v5.6.0",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/roce_slow_restart_cnps",
        family: "node_infiniband_roce_slow_restart_cnps_total",
        help: "The number of times RoCE slow restart generated CNP packets. The counter was added in MLNX_OFED rev \
               5.0-1.0.0.0 and kernel v5.6.0",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/roce_slow_restart_trans",
        family: "node_infiniband_roce_slow_restart_total",
        help: "The number of times RoCE slow restart changed state to slow restart. The counter was added in \
               MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/roce_slow_restart",
        family: "node_infiniband_roce_slow_restart_used_total",
        help: "The number of times RoCE slow restart was used. The counter was added in MLNX_OFED rev 5.0-1.0.0.0 \
               and kernel v5.6.0",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rp_cnp_ignored",
        family: "node_infiniband_rp_cnp_ignored_packets_received_total",
        help: "The number of CNP packets received and ignored by the Reaction Point HCA. This counter should not \
               raise if RoCE Congestion Control was enabled in the network. If this counter raise, verify that ECN \
               was enabled on the adapter.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rp_cnp_handled",
        family: "node_infiniband_rp_cnp_packets_handled_total",
        help: "The number of CNP packets handled by the Reaction Point HCA to throttle the transmission rate. The \
               counters was added in MLNX_OFED 4.1",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rx_atomic_requests",
        family: "node_infiniband_rx_atomic_requests_total",
        help: "The number of received ATOMIC request for the associated QPs.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rx_dct_connect",
        family: "node_infiniband_rx_dct_connect_requests_total",
        help: "The number of received connection requests for the associated DCTs.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rx_icrc_encapsulated",
        family: "node_infiniband_rx_icrc_encapsulated_errors_total",
        help: "The number of RoCE packets with ICRC errors. This counter was added in MLNX_OFED 4.4 and kernel 4.19",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rx_read_requests",
        family: "node_infiniband_rx_read_requests_total",
        help: "The number of received READ requests for the associated QPs.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "hw_counters/rx_write_requests",
        family: "node_infiniband_rx_write_requests_total",
        help: "The number of received WRITE requests for the associated QPs.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/symbol_error",
        family: "node_infiniband_symbol_error_total",
        help: "Number of minor link errors detected on one or more physical lanes.",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/unicast_rcv_packets",
        family: "node_infiniband_unicast_packets_received_total",
        help: "Number of unicast packets received (including errors)",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/unicast_xmit_packets",
        family: "node_infiniband_unicast_packets_transmitted_total",
        help: "Number of unicast packets transmitted (including errors)",
        kind: Counter,
        scale: Whole,
    },
    Column {
        file: "counters/VL15_dropped",
        family: "node_infiniband_vl15_dropped_total",
        help: "Number of incoming VL15 packets dropped due to resource limitations.",
        kind: Counter,
        scale: Whole,
    },
];

/// Gauges of a port that are more than a number in a file: file, family, help, how it reads.
type Special = (&'static str, &'static str, &'static str, fn(&[u8]) -> Option<f64>);

const SPECIALS: [Special; 3] = [
    (
        "phys_state",
        "node_infiniband_physical_state_id",
        "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: shift, 5: link up, \
         6: link error recover, 7: phytest)",
        state_id,
    ),
    ("rate", "node_infiniband_rate_bytes_per_second", "Maximum signal transfer rate", rate),
    (
        "state",
        "node_infiniband_state_id",
        "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)",
        state_id,
    ),
];

/// `4: ACTIVE`
fn state_id(text: &[u8]) -> Option<f64> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    number(&text[..colon]).map(|id| id as f64)
}

/// `100 Gb/sec (4X EDR)`, in whole bytes.
fn rate(text: &[u8]) -> Option<f64> {
    let blank = text.iter().position(|byte| *byte == b' ')?;
    let gigabits = decimal(&text[..blank]).filter(|_| text[blank..].starts_with(b" Gb/sec"))?;
    Some((gigabits * 125_000_000.0).trunc())
}

/// `[collectors.infiniband]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only devices that match.
    pub device_include: Pattern,
    /// Show no devices that match.
    pub device_exclude: Pattern,
}

struct Port {
    labels: Labels,
    specials: [Option<Live>; SPECIALS.len()],
    counters: Row,
}

struct Device {
    info: Labels,
    ports: Vec<Port>,
}

impl Device {
    fn new(name: &str, place: &Path, settings: &Settings) -> Option<Self> {
        if !shows(&settings.device_include, &settings.device_exclude, name) {
            return None;
        }
        let label = |file: &str| text(place.join(file)).unwrap_or_default();
        let info = Labels::new([
            ("board_id", &*label("board_id")),
            ("device", name),
            ("firmware_version", &*label("fw_ver")),
            ("hca_type", &*label("hca_type")),
        ]);
        let mut directory = Directory::new(place.join("ports"));
        let entries = directory.list().ok().flatten().unwrap_or_default();
        let numbers = entries.iter().filter_map(|entry| number(entry));
        let ports = numbers.map(|port| {
            let port = port.to_string();
            let place = place.join("ports").join(&port);
            let labels = Labels::new([("device", name), ("port", &*port)]);
            let specials = SPECIALS.map(|(file, ..)| Live::at(place.join(file)));
            let counters = Row::new(&place, labels.clone(), &COLUMNS);
            Port { labels, specials, counters }
        });
        Some(Self { info, ports: ports.collect() })
    }
}

/// See the module.
pub(crate) struct InfiniBand {
    settings: Settings,
    devices: Devices<Device>,
}

impl InfiniBand {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self { settings: settings.clone(), devices: Devices::new(host.sys("class/infiniband")) }
    }
}

impl Collector for InfiniBand {
    fn name(&self) -> &'static str {
        "infiniband"
    }

    fn begin(&mut self, pass: Pass) {
        self.devices.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { settings, devices: list } = self;
        let found = list.get(|name, place| Device::new(name, place, settings))?;
        let Some(devices) = found else { return Ok(Outcome::Nothing) };
        out.gauge("node_infiniband_info", "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.");
        for device in devices.iter() {
            out.push(&device.info, 1.0);
        }
        let mut lost = false;
        for (special, (_, name, help, parse)) in SPECIALS.into_iter().enumerate() {
            out.gauge(name, help);
            for Port { labels, specials, .. } in devices.iter_mut().flat_map(|device| &mut device.ports) {
                let Some(file) = specials.get_mut(special).and_then(Option::as_mut) else { continue };
                let parsed = |text: &[u8]| parse(text).ok_or_else(|| TextError::expected("a port's state", text));
                let value = file.with(parsed)?;
                lost |= file.is_lost(value.is_some());
                value.inspect(|value| out.push(labels, *value));
            }
        }
        let ports = |visit: &mut dyn FnMut(&mut Row) -> Result<(), CollectError>| {
            let mut ports = devices.iter_mut().flat_map(|device| &mut device.ports);
            ports.try_for_each(|port| visit(&mut port.counters))
        };
        lost |= table::collect(&COLUMNS, ports, out)?;
        if lost {
            list.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn states_and_rates() {
        assert_eq!(state_id(b"4: ACTIVE"), Some(4.0));
        assert_eq!(state_id(b"ACTIVE"), None);
        assert_eq!(rate(b"100 Gb/sec (4X EDR)"), Some(12_500_000_000.0));
        assert_eq!(rate(b"2.5 Gb/sec (1X SDR)"), Some(312_500_000.0));
        for bad in [&b"100"[..], b"fast Gb/sec", b"100 Mb/sec", b""] {
            assert_eq!(rate(bad), None);
        }
    }

    #[test]
    fn a_port_has_what_its_driver_shows() {
        let dir = tempfile::tempdir().unwrap();
        let port = dir.path().join("class/infiniband/mlx5_0/ports/1");
        for (file, text) in [
            ("state", "4: ACTIVE\n"),
            ("rate", "25 Gb/sec (1X EDR)\n"),
            ("counters/port_rcv_data", "1000\n"),
            ("counters/symbol_error", "N/A (no PMA)\n"),
            ("hw_counters/lifespan", "12\n"),
        ] {
            let path = port.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = InfiniBand::new(&host, &Settings::default());
        let mut out = Families::default();
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        assert_eq!(out.single("node_infiniband_state_id"), Some(4.0));
        assert_eq!(out.single("node_infiniband_rate_bytes_per_second"), Some(3_125_000_000.0));
        assert_eq!(out.single("node_infiniband_port_data_received_bytes_total"), Some(4000.0));
        assert_eq!(out.single("node_infiniband_lifespan_seconds"), Some(0.012));
        assert_eq!(out.single("node_infiniband_symbol_error_total"), None);

        fs::write(port.join("counters/port_rcv_data"), "cut\n").unwrap();
        let error = collector.collect(&mut Families::default()).unwrap_err().to_string();
        assert!(error.contains("counters/port_rcv_data"), "{error}");

        let settings = Settings { device_exclude: Pattern::new("^mlx").unwrap(), ..Default::default() };
        let mut out = Families::default();
        InfiniBand::new(&host, &settings).collect(&mut out).unwrap();
        assert!(out.is_empty());
    }
}
