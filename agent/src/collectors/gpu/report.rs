//! What is said of GPUs, and its families.

use std::collections::BTreeMap;

use crate::snapshot::{Families, Labels, MetricType};
use ::rules::order;

/// One mebibyte: DCGM tells memory in it.
pub(super) const MIB: u64 = 1 << 20;

/// Processes of a GPU that are shown by themselves: those with the most memory.
const MOST_PROCESSES: usize = 20;

macro_rules! metrics {
    ($($metric:ident: $kind:ident $name:literal, $help:literal;)*) => {
        /// A figure of a GPU that is a family of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Metric { $($metric),* }

        /// In the order in which they are shown.
        const METRICS: &[(&str, &str, MetricType)] = &[$(($name, $help, MetricType::$kind)),*];
        const COUNT: usize = [$(Metric::$metric),*].len();
    };
}

metrics! {
    SmClock: Gauge "DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).";
    MemoryClock: Gauge "DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).";
    MemoryTemperature: Gauge "DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).";
    Temperature: Gauge "DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).";
    Power: Gauge "DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).";
    Energy: Counter "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).";
    PcieTransmit: Gauge "DCGM_FI_DEV_PCIE_TX_THROUGHPUT", "PCIe transmit throughput (in KB/s).";
    PcieReceive: Gauge "DCGM_FI_DEV_PCIE_RX_THROUGHPUT", "PCIe receive throughput (in KB/s).";
    PcieReplays: Counter "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.";
    Utilization: Gauge "DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).";
    MemoryUtilization: Gauge "DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).";
    Encoder: Gauge "DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).";
    Decoder: Gauge "DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).";
    ThrottleReasons: Gauge "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "Why the clocks are held down now, as NVML's bits (nvmlClocksEventReason).";
    PowerViolation: Counter "DCGM_FI_DEV_POWER_VIOLATION", "Throttling duration due to power constraints (in ns).";
    ThermalViolation: Counter "DCGM_FI_DEV_THERMAL_VIOLATION",
        "Throttling duration due to thermal constraints (in ns).";
    SyncBoostViolation: Counter "DCGM_FI_DEV_SYNC_BOOST_VIOLATION",
        "Throttling duration due to sync-boost constraints (in ns).";
    BoardLimitViolation: Counter "DCGM_FI_DEV_BOARD_LIMIT_VIOLATION",
        "Throttling duration due to board limit constraints (in ns).";
    LowUtilizationViolation: Counter "DCGM_FI_DEV_LOW_UTIL_VIOLATION",
        "Throttling duration due to low utilization (in ns).";
    ReliabilityViolation: Counter "DCGM_FI_DEV_RELIABILITY_VIOLATION",
        "Throttling duration due to reliability constraints (in ns).";
    MemoryTotal: Gauge "DCGM_FI_DEV_FB_TOTAL", "Framebuffer memory total (in MiB).";
    MemoryFree: Gauge "DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).";
    MemoryUsed: Gauge "DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).";
    MemoryReserved: Gauge "DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).";
    EccSingleVolatile: Counter "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "Total number of single-bit volatile ECC errors.";
    EccDoubleVolatile: Counter "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "Total number of double-bit volatile ECC errors.";
    EccSingleAggregate: Counter "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "Total number of single-bit persistent ECC errors.";
    EccDoubleAggregate: Counter "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "Total number of double-bit persistent ECC errors.";
    RetiredSingle: Counter "DCGM_FI_DEV_RETIRED_SBE", "Total number of retired pages due to single-bit errors.";
    RetiredDouble: Counter "DCGM_FI_DEV_RETIRED_DBE", "Total number of retired pages due to double-bit errors.";
    RetiredPending: Counter "DCGM_FI_DEV_RETIRED_PENDING", "Total number of pages pending retirement.";
    NvlinkCrcFlit: Counter "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
        "Total number of NVLink flow-control CRC errors.";
    NvlinkCrcData: Counter "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", "Total number of NVLink data CRC errors.";
    NvlinkReplay: Counter "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "Total number of NVLink retries.";
    NvlinkRecovery: Counter "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
        "Total number of NVLink recovery errors.";
    // dcgm-exporter calls it a counter, but what DCGM gives is a rate.
    NvlinkBandwidth: Gauge "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
        "Data over all NVLinks in both directions since the last interval (in MB/s).";
    RemappedUncorrectable: Counter "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "Number of remapped rows for uncorrectable errors";
    RemappedCorrectable: Counter "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        "Number of remapped rows for correctable errors";
    RemapPending: Gauge "DCGM_FI_DEV_ROW_REMAP_PENDING", "Whether remapping of rows is pending";
    RemapFailure: Gauge "DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed";
}

/// The figures that are known of a GPU.
#[derive(Debug, Clone)]
pub(super) struct Values([Option<f64>; COUNT]);

impl Default for Values {
    fn default() -> Self {
        Self([None; COUNT])
    }
}

impl Values {
    /// Takes note of a figure; `None` leaves it unknown.
    pub(super) fn set(&mut self, metric: Metric, value: Option<f64>) {
        self.0[metric as usize] = value;
    }

    /// Memory in bytes, as NVML has it.
    pub(super) fn set_memory(&mut self, memory: Memory) {
        let mib = |bytes: u64| (bytes / MIB) as f64;
        self.set(Metric::MemoryTotal, Some(mib(memory.total)));
        self.set(Metric::MemoryFree, Some(mib(memory.free)));
        self.set(Metric::MemoryUsed, Some(mib(memory.used)));
        self.set(Metric::MemoryReserved, memory.reserved.map(mib));
    }
}

/// Framebuffer memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) used: u64,
    /// Old drivers count it as used.
    pub(super) reserved: Option<u64>,
}

/// What a GPU is. Kept from pass to pass with its labels.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) index: u32,
    pub(super) uuid: String,
    bus_id: String,
    pub(super) model: String,
    hostname: String,
    driver: String,
    labels: Labels,
}

impl Identity {
    pub(super) fn new(index: u32, uuid: &str, bus_id: &str, model: &str, hostname: &str, driver: &str) -> Self {
        let mut identity = Self {
            index,
            uuid: uuid.to_owned(),
            bus_id: bus_id.to_owned(),
            model: model.to_owned(),
            hostname: hostname.to_owned(),
            driver: driver.to_owned(),
            labels: Labels::none(),
        };
        identity.labels = identity.labelled(None, &[]);
        identity
    }

    /// dcgm-exporter's labels in its order, and others behind.
    fn labelled(&self, instance: Option<(&str, u32)>, more: &[(&str, &str)]) -> Labels {
        let index = self.index.to_string();
        let device = format!("nvidia{index}");
        let mut pairs = vec![("gpu", index.as_str()), ("UUID", &self.uuid), ("pci_bus_id", &self.bus_id)];
        pairs.extend([("device", device.as_str()), ("modelName", &self.model)]);
        let id = instance.map(|(_, id)| id.to_string());
        if let (Some((profile, _)), Some(id)) = (instance, &id) {
            pairs.extend([("GPU_I_PROFILE", profile), ("GPU_I_ID", id)]);
        }
        pairs.push(("Hostname", &self.hostname));
        if !self.driver.is_empty() {
            pairs.push(("DCGM_FI_DRIVER_VERSION", &self.driver));
        }
        Labels::owned(pairs.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }
}

/// A part of a GPU in MIG mode.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) id: u32,
    /// Such as `1g.10gb`.
    pub(super) profile: String,
    pub(super) values: Values,
}

/// A process on a GPU.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Empty where it is not known: the process ended meanwhile, or is another container's.
    pub(super) name: String,
    /// The MIG instance that it runs on.
    pub(super) instance: Option<u32>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) utilization: Option<ProcessUtilization>,
}

/// Shares of a GPU's units in percent that a process had lately.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessUtilization {
    pub(super) sm: f64,
    pub(super) memory: f64,
    pub(super) encoder: f64,
    pub(super) decoder: f64,
}

/// Critical errors that the driver reported by number since the agent watches.
#[derive(Debug, Clone, Default)]
pub(super) struct Xids {
    /// 0 before the first.
    pub(super) last: u64,
    pub(super) counts: BTreeMap<u64, u64>,
}

/// One GPU.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) identity: Identity,
    /// False for one that was there and does not answer any more.
    pub(super) up: bool,
    pub(super) values: Values,
    pub(super) instances: Vec<Instance>,
    /// `None` where the driver can't tell.
    pub(super) processes: Option<Vec<Process>>,
    /// `None` where the driver does not report errors.
    pub(super) xids: Option<Xids>,
    /// Bytes over all NVLinks so far, out and in.
    pub(super) nvlink_bytes: Option<[f64; 2]>,
    /// Questions that failed otherwise than because the GPU does not have the answer.
    pub(super) query_errors: u64,
}

/// All that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) driver: String,
    pub(super) nvml: String,
    /// Such as `12.4`.
    pub(super) cuda: String,
    pub(super) devices: Vec<Device>,
}

impl Report {
    /// As families.
    pub(super) fn families(&self) -> Families {
        let mut out = Families::default();
        self.figures(&mut out);
        self.xids(&mut out);
        self.own(&mut out);
        self.processes(&mut out);
        out
    }

    fn figures(&self, out: &mut Families) {
        let instances: Vec<Vec<Labels>> = (self.devices.iter())
            .map(|device| {
                let labels = |one: &Instance| device.identity.labelled(Some((&one.profile, one.id)), &[]);
                device.instances.iter().map(labels).collect()
            })
            .collect();
        for (metric, (name, help, kind)) in METRICS.iter().enumerate() {
            out.family(*name, *help, *kind);
            for (device, instance_labels) in self.devices.iter().zip(&instances) {
                if let Some(value) = device.values.0[metric] {
                    out.push(&device.identity.labels, value);
                }
                for (instance, labels) in device.instances.iter().zip(instance_labels) {
                    if let Some(value) = instance.values.0[metric] {
                        out.push(labels, value);
                    }
                }
            }
        }
    }

    fn xids(&self, out: &mut Families) {
        let watched = || self.devices.iter().filter_map(|device| Some((&device.identity, device.xids.as_ref()?)));
        out.gauge("DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered.");
        for (identity, xids) in watched() {
            let (code, text) = (xids.last.to_string(), super::xid::text(xids.last));
            out.push(&identity.labelled(None, &[("err_code", &code), ("err_msg", text)]), xids.last as f64);
        }
        out.counter("utilizer_gpu_xid_errors_total", "XID errors of each number since the agent watches the GPU.");
        for (identity, xids) in watched() {
            for (code, count) in &xids.counts {
                out.push(&identity.labelled(None, &[("xid", &code.to_string())]), *count as f64);
            }
        }
    }

    /// Families of our own about GPUs and what answers for them.
    fn own(&self, out: &mut Families) {
        out.gauge("utilizer_gpu_up", "Whether the GPU answers; 0 for one that was there and has fallen off the bus.");
        for device in &self.devices {
            out.push(&device.identity.labels, f64::from(device.up));
        }
        out.counter(
            "utilizer_gpu_query_errors_total",
            "Questions about the GPU that failed, not counting those for what it does not have.",
        );
        for device in &self.devices {
            out.push(&device.identity.labels, device.query_errors as f64);
        }
        for (direction, name, help) in [
            (0, "utilizer_gpu_nvlink_transmit_bytes_total", "Data that the GPU sent over all its NVLinks."),
            (1, "utilizer_gpu_nvlink_receive_bytes_total", "Data that the GPU received over all its NVLinks."),
        ] {
            out.counter(name, help);
            for device in &self.devices {
                if let Some(bytes) = device.nvlink_bytes {
                    out.push(&device.identity.labels, bytes[direction]);
                }
            }
        }
        out.gauge("utilizer_gpu_driver_info", "Versions of the GPU driver, of NVML and of the CUDA that it supports.");
        let versions = [("driver_version", &*self.driver), ("nvml_version", &self.nvml), ("cuda_version", &self.cuda)];
        out.push(&Labels::new(versions), 1.0);
    }

    fn processes(&self, out: &mut Families) {
        let known = || self.devices.iter().filter_map(|device| Some((device, device.processes.as_ref()?)));
        out.gauge(
            "utilizer_gpu_processes",
            "Processes on the GPU; those with the most memory are shown by themselves.",
        );
        for (device, processes) in known() {
            out.push(&device.identity.labels, processes.len() as f64);
        }
        let mut shown: Vec<(Labels, &Process)> = Vec::new();
        for (device, processes) in known() {
            let mut most: Vec<&Process> = processes.iter().collect();
            order::sort_by(&mut most, &|a, b| b.memory_bytes.cmp(&a.memory_bytes).then(a.pid.cmp(&b.pid)));
            shown.extend(most.into_iter().take(MOST_PROCESSES).map(|process| (device.of_process(process), process)));
        }
        let mut family = |name: &'static str, help: &'static str, value: &dyn Fn(&Process) -> Option<f64>| {
            out.gauge(name, help);
            for (labels, process) in &shown {
                if let Some(value) = value(process) {
                    out.push(labels, value);
                }
            }
        };
        family("utilizer_gpu_process_memory_bytes", "GPU memory that the process uses.", &|process| {
            process.memory_bytes.map(|bytes| bytes as f64)
        });
        family("utilizer_gpu_process_sm_percent", "Share of the GPU's multiprocessors that the process had.", &|p| {
            Some(p.utilization?.sm)
        });
        family(
            "utilizer_gpu_process_memory_copy_percent",
            "Share of the memory bandwidth that the process had.",
            &|p| Some(p.utilization?.memory),
        );
        family("utilizer_gpu_process_encoder_percent", "Share of the encoder that the process had.", &|p| {
            Some(p.utilization?.encoder)
        });
        family("utilizer_gpu_process_decoder_percent", "Share of the decoder that the process had.", &|p| {
            Some(p.utilization?.decoder)
        });
    }
}

impl Device {
    fn of_process(&self, process: &Process) -> Labels {
        let (index, pid) = (self.identity.index.to_string(), process.pid.to_string());
        let instance = process.instance.map(|id| id.to_string());
        let mut pairs = vec![("gpu", index.as_str()), ("UUID", &self.identity.uuid)];
        pairs.extend(instance.as_deref().map(|id| ("GPU_I_ID", id)));
        pairs.extend([("pid", pid.as_str()), ("name", &process.name)]);
        Labels::owned(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(processes: Vec<Process>) -> Device {
        Device {
            identity: Identity::new(0, "GPU-1", "00000000:01:00.0", "A GPU", "web-01", ""),
            up: true,
            values: Values::default(),
            instances: Vec::new(),
            processes: Some(processes),
            xids: None,
            nvlink_bytes: None,
            query_errors: 0,
        }
    }

    #[test]
    fn the_processes_with_the_most_memory_are_shown() {
        let process = |pid: u32| Process { pid, memory_bytes: Some(u64::from(pid)), ..Process::default() };
        let mut processes: Vec<_> = (1..=30).map(process).collect();
        processes[29].memory_bytes = None;
        let report = Report { devices: vec![device(processes)], ..Report::default() };
        let out = report.families();
        assert_eq!(out.single("utilizer_gpu_processes"), Some(30.0));
        let shown = out.samples("utilizer_gpu_process_memory_bytes");
        assert_eq!(shown.len(), MOST_PROCESSES);
        assert_eq!(shown[0].labels.get("pid"), Some("29"));
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        let report = Report { devices: vec![device(Vec::new())], ..Report::default() };
        let out = report.families();
        let names: Vec<_> = out.iter().map(|family| family.head.name.clone()).collect();
        let always = ["utilizer_gpu_up", "utilizer_gpu_query_errors_total", "utilizer_gpu_driver_info"];
        assert_eq!(names, [&always[..], &["utilizer_gpu_processes"]].concat());
    }

    #[test]
    fn memory_is_whole_mebibytes() {
        let mut values = Values::default();
        values.set_memory(Memory { total: 80 * MIB + MIB - 1, free: MIB, used: 0, reserved: None });
        assert_eq!(values.0[Metric::MemoryTotal as usize], Some(80.0));
        assert_eq!(values.0[Metric::MemoryReserved as usize], None);
    }
}
