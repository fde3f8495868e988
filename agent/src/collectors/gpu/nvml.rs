//! NVIDIA's GPUs, through NVML.
//!
//! Each question may fail by itself: a driver may be too old for it, a GPU may not have the answer. Its family is then
//! missing for that GPU, and nothing else. A GPU that has fallen off the bus is asked no further in a pass. When the
//! library says that it, or its driver, is not there any more, it is closed and opened anew.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, PcieUtilCounter, PerformancePolicy, TemperatureSensor,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::sys_exports::field_id as fi;
use nvml_wrapper::{Device as Handle, Nvml};
use tracing::{debug, info, warn};

use super::events::{Heard, Watch};
use super::raw::{self, Field};
use super::report::{Device, Identity, Instance, Memory, Metric, Process, ProcessUtilization, Report, Values};
use super::{Backend, Poll};
use crate::host::{HostRoot, KeptFile};
use ::rules::order;

/// Fields that NVML knows by number only. Totals over all links have the scope behind them.
const FIELDS: &[(Metric, u32, u32)] = &[
    (Metric::MemoryTemperature, fi::NVML_FI_DEV_MEMORY_TEMP, 0),
    (Metric::RetiredSingle, fi::NVML_FI_DEV_RETIRED_SBE, 0),
    (Metric::RetiredDouble, fi::NVML_FI_DEV_RETIRED_DBE, 0),
    (Metric::RetiredPending, fi::NVML_FI_DEV_RETIRED_PENDING, 0),
    (Metric::NvlinkCrcFlit, fi::NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, 0),
    (Metric::NvlinkCrcData, fi::NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, 0),
    (Metric::NvlinkReplay, fi::NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, 0),
    (Metric::NvlinkRecovery, fi::NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, 0),
];

/// Data that went over all NVLinks, out and in, in KiB.
const NVLINK_TRAFFIC: [u32; 2] = [fi::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, fi::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX];
const ALL_LINKS: u32 = u32::MAX;

/// MIG devices of one GPU that are looked at, whatever the library says: there are at most 7.
const MOST_INSTANCES: u32 = 64;

/// GPUs that are looked at, whatever the library says.
const MOST_GPUS: u32 = 256;

/// How long the event thread gets to end before the library is opened anew.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is remembered of a GPU, whatever becomes of the library.
#[derive(Default)]
struct History {
    errors: u64,
    /// The newest of the processes' utilization samples, in NVML's microseconds.
    sampled: u64,
    /// When data over NVLink was counted last, and how many KiB there were in both directions.
    nvlink: Option<(Instant, f64)>,
    lost: bool,
}

/// The library, opened.
struct Session {
    nvml: Arc<Nvml>,
    driver: String,
    nvml_version: String,
    cuda: String,
    /// Who is where, as the last pass found it.
    known: Vec<Option<Identity>>,
    watch: Option<(Vec<String>, Watch)>,
}

/// See the module.
pub(super) struct Nvidia {
    library: OsString,
    host: HostRoot,
    hostname: String,
    session: Option<Session>,
    history: BTreeMap<String, History>,
    heard: Heard,
    /// There was a GPU: that there is no driver any more is a failure then.
    worked: bool,
}

impl Nvidia {
    pub(super) fn new(library: OsString, host: HostRoot, hostname: String) -> Self {
        Self {
            library,
            host,
            hostname,
            session: None,
            history: BTreeMap::new(),
            heard: Heard::default(),
            worked: false,
        }
    }

    fn open(library: &OsStr) -> Result<Session, NvmlError> {
        let nvml = Nvml::builder().lib_path(library).init()?;
        let version = |version: Result<String, NvmlError>| version.unwrap_or_default();
        let cuda = nvml.sys_cuda_driver_version().ok().map(|version| {
            let minor = nvml_wrapper::cuda_driver_version_minor(version);
            format!("{}.{minor}", nvml_wrapper::cuda_driver_version_major(version))
        });
        let session = Session {
            driver: version(nvml.sys_driver_version()),
            nvml_version: version(nvml.sys_nvml_version()),
            cuda: cuda.unwrap_or_default(),
            nvml: Arc::new(nvml),
            known: Vec::new(),
            watch: None,
        };
        info!("NVIDIA driver {}, NVML {}", session.driver, session.nvml_version);
        Ok(session)
    }

    /// Closes the library, or at least lets go of it.
    fn close(&mut self) {
        if let Some(session) = self.session.take()
            && let Some((_, watch)) = session.watch
        {
            watch.end(FAREWELL);
        }
    }

    /// Why there is no session, and whether that is only how this machine is.
    fn unopened(&self, error: &NvmlError) -> Poll {
        let library = self.library.to_string_lossy();
        match error {
            NvmlError::LibloadingError(error) if !self.worked => {
                let error = error.to_string();
                let error = if error.contains(&*library) { error } else { format!("{library}: {error}") };
                Poll::Absent(format!("NVIDIA's library is not here ({error})"))
            }
            NvmlError::DriverNotLoaded if !self.worked => {
                Poll::Absent(format!("{library} is here, but NVIDIA's driver is not loaded"))
            }
            NvmlError::LibRmVersionMismatch => {
                Poll::Failed(format!("{error}: the driver was updated; reboot, or load its modules anew"))
            }
            error => Poll::Failed(format!("can't open {library}: {error}")),
        }
    }

    fn read(&mut self) -> Result<Report, NvmlError> {
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(Self::open(&self.library)?),
        };
        let nvml = Arc::clone(&session.nvml);
        let count = nvml.device_count()?.min(MOST_GPUS);
        session.known.resize(count as usize, None);
        let mut devices = Vec::new();
        for index in 0..count {
            let slot = &mut session.known[index as usize];
            let handle = match identify(&nvml, index, slot, &self.hostname, &session.driver) {
                Ok(handle) => Some(handle),
                Err(error) if is_over(&error) => return Err(error),
                Err(error) => {
                    if slot.is_none() {
                        debug!(gpu = index, "it does not say what it is: {error}");
                        continue;
                    }
                    None
                }
            };
            let Some(identity) = slot else { continue };
            let history = self.history.entry(identity.uuid.clone()).or_default();
            let asking = Asking { lost: handle.is_none(), over: None, errors: 0 };
            let mut reader = Reader { host: &self.host, asking, history };
            let found = handle.as_ref().map(|handle| reader.all(handle)).unwrap_or_default();
            let Asking { lost, over, errors } = reader.asking;
            if let Some(error) = over {
                return Err(error);
            }
            history.errors += errors;
            if lost != history.lost {
                history.lost = lost;
                let (gpu, uuid) = (identity.index, &identity.uuid);
                if lost {
                    warn!(gpu, uuid, "the GPU does not answer any more: it has fallen off the bus, or needs a reset");
                } else {
                    info!(gpu, uuid, "the GPU answers again");
                }
            }
            devices.push(if lost {
                // What it said before it went is half a reading.
                self::lost(identity, history, &self.heard)
            } else {
                Device {
                    identity: identity.clone(),
                    up: true,
                    values: found.values,
                    instances: found.instances,
                    processes: found.processes,
                    xids: self.heard.of(&identity.uuid),
                    nvlink_bytes: found.nvlink_bytes,
                    query_errors: history.errors,
                }
            });
        }
        self.worked |= !devices.is_empty();
        watch(session, &self.heard);
        Ok(Report {
            driver: session.driver.clone(),
            nvml: session.nvml_version.clone(),
            cuda: session.cuda.clone(),
            devices,
        })
    }
}

impl Backend for Nvidia {
    fn poll(&mut self) -> Poll {
        // A library that lost its driver is opened anew at once: the driver may have been loaded anew meanwhile.
        let had_session = self.session.is_some();
        let report = self.read().or_else(|error| {
            self.close();
            if !had_session {
                return Err(error);
            }
            info!("NVML is opened anew: {error}");
            self.read()
        });
        match report {
            Ok(report) if report.devices.is_empty() && !self.worked => {
                self.close();
                Poll::Absent("NVIDIA's driver has no GPU".to_owned())
            }
            Ok(report) => Poll::Found(report.families()),
            Err(error) => {
                self.close();
                self.unopened(&error)
            }
        }
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        if let Some(Session { watch: Some((_, watch)), .. }) = &self.session {
            watch.stop();
        }
    }
}

/// Whether the library must be opened anew.
fn is_over(error: &NvmlError) -> bool {
    matches!(error, NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch)
}

/// A GPU that was there and does not answer.
fn lost(identity: &Identity, history: &History, heard: &Heard) -> Device {
    Device {
        identity: identity.clone(),
        up: false,
        values: Values::default(),
        instances: Vec::new(),
        processes: None,
        xids: heard.of(&identity.uuid),
        nvlink_bytes: None,
        query_errors: history.errors,
    }
}

/// Keeps the event thread watching those that are known.
fn watch(session: &mut Session, heard: &Heard) {
    let uuids: Vec<String> = session.known.iter().flatten().map(|identity| identity.uuid.clone()).collect();
    if session.watch.as_ref().is_some_and(|(watched, _)| *watched == uuids) {
        return;
    }
    if let Some((_, watch)) = session.watch.take() {
        watch.stop();
    }
    match Watch::start(Arc::clone(&session.nvml), uuids.clone(), heard.clone()) {
        Ok(watch) => session.watch = Some((uuids, watch)),
        Err(error) => warn!("can't start the thread that hears errors of GPUs: {error}"),
    }
}

/// The GPU of this index; `slot` says what it is. Asked at each pass, since numbers move when a GPU goes or comes.
fn identify<'nvml>(
    nvml: &'nvml Nvml,
    index: u32,
    slot: &mut Option<Identity>,
    hostname: &str,
    driver: &str,
) -> Result<Handle<'nvml>, NvmlError> {
    let handle = nvml.device_by_index(index)?;
    let uuid = handle.uuid()?;
    if slot.as_ref().is_none_or(|known| known.uuid != uuid) {
        let model = handle.name().unwrap_or_default();
        let bus_id = handle.pci_info().map(|pci| pci.bus_id).unwrap_or_default();
        *slot = Some(Identity::new(index, &uuid, &bus_id, &model, hostname, driver));
    }
    Ok(handle)
}

/// How the questions to one GPU go.
struct Asking {
    /// The GPU is gone: it is asked no further.
    lost: bool,
    /// The library has to be opened anew.
    over: Option<NvmlError>,
    errors: u64,
}

impl Asking {
    /// Asks, unless there is no sense in it any more.
    fn ask<T>(&mut self, what: &'static str, question: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        if self.lost || self.over.is_some() {
            return None;
        }
        match question() {
            Ok(answer) => Some(answer),
            Err(error) if is_over(&error) => {
                self.over = Some(error);
                None
            }
            Err(NvmlError::GpuLost | NvmlError::ResetRequired) => {
                self.lost = true;
                None
            }
            // Not of this GPU, not with this driver, not at the moment, not for this user.
            Err(
                NvmlError::NotSupported
                | NvmlError::FailedToLoadSymbol(_)
                | NvmlError::FunctionNotFound
                | NvmlError::NotFound
                | NvmlError::NoData
                | NvmlError::NoPermission,
            ) => None,
            Err(error) => {
                debug!(what, "a question to a GPU failed: {error}");
                self.errors += 1;
                None
            }
        }
    }
}

/// What one GPU said.
#[derive(Default)]
struct Found {
    values: Values,
    instances: Vec<Instance>,
    processes: Option<Vec<Process>>,
    nvlink_bytes: Option<[f64; 2]>,
}

/// Asks one GPU.
struct Reader<'a> {
    host: &'a HostRoot,
    asking: Asking,
    history: &'a mut History,
}

impl Reader<'_> {
    fn all(&mut self, handle: &Handle<'_>) -> Found {
        let mut found = Found::default();
        self.load(handle, &mut found.values);
        self.state(handle, &mut found.values);
        self.errors(handle, &mut found.values);
        self.fields(handle, &mut found);
        (found.instances, found.processes) = self.shares(handle);
        found
    }

    /// How busy it is.
    fn load(&mut self, handle: &Handle<'_>, values: &mut Values) {
        let ask = &mut self.asking;
        if let Some(rates) = ask.ask("utilization", || handle.utilization_rates()) {
            values.set(Metric::Utilization, percent(rates.gpu));
            values.set(Metric::MemoryUtilization, percent(rates.memory));
        }
        let encoder = ask.ask("encoder", || handle.encoder_utilization());
        values.set(Metric::Encoder, encoder.and_then(|info| percent(info.utilization)));
        let decoder = ask.ask("decoder", || handle.decoder_utilization());
        values.set(Metric::Decoder, decoder.and_then(|info| percent(info.utilization)));
        if let Some(memory) = ask.ask("memory", || memory(handle)) {
            values.set_memory(memory);
        }
        // The driver measures for 20 ms at each of these.
        for (metric, counter) in
            [(Metric::PcieTransmit, PcieUtilCounter::Send), (Metric::PcieReceive, PcieUtilCounter::Receive)]
        {
            values.set(metric, ask.ask("PCIe throughput", || handle.pcie_throughput(counter)).map(f64::from));
        }
    }

    /// Clocks, temperature, power.
    fn state(&mut self, handle: &Handle<'_>, values: &mut Values) {
        let ask = &mut self.asking;
        for (metric, clock) in [(Metric::SmClock, Clock::SM), (Metric::MemoryClock, Clock::Memory)] {
            values.set(metric, ask.ask("clock", || handle.clock_info(clock)).map(f64::from));
        }
        let temperature = ask.ask("temperature", || handle.temperature(TemperatureSensor::Gpu));
        values.set(Metric::Temperature, temperature.map(f64::from));
        let milliwatts = ask.ask("power", || handle.power_usage());
        values.set(Metric::Power, milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0));
        let energy = ask.ask("energy", || handle.total_energy_consumption());
        values.set(Metric::Energy, energy.map(|millijoules| millijoules as f64));
        let reasons = ask.ask("throttle reasons", || raw::throttle_reasons(handle));
        values.set(Metric::ThrottleReasons, reasons.map(|bits| bits as f64));
        for (metric, policy) in [
            (Metric::PowerViolation, PerformancePolicy::Power),
            (Metric::ThermalViolation, PerformancePolicy::Thermal),
            (Metric::SyncBoostViolation, PerformancePolicy::SyncBoost),
            (Metric::BoardLimitViolation, PerformancePolicy::BoardLimit),
            (Metric::LowUtilizationViolation, PerformancePolicy::LowUtilization),
            (Metric::ReliabilityViolation, PerformancePolicy::Reliability),
        ] {
            let violation = ask.ask("throttling", || handle.violation_status(policy));
            values.set(metric, violation.map(|time| time.violation_time as f64));
        }
    }

    /// What went wrong with it.
    fn errors(&mut self, handle: &Handle<'_>, values: &mut Values) {
        let ask = &mut self.asking;
        values.set(Metric::PcieReplays, ask.ask("PCIe replays", || handle.pcie_replay_counter()).map(f64::from));
        for (metric, error, counter) in [
            (Metric::EccSingleVolatile, MemoryError::Corrected, EccCounter::Volatile),
            (Metric::EccDoubleVolatile, MemoryError::Uncorrected, EccCounter::Volatile),
            (Metric::EccSingleAggregate, MemoryError::Corrected, EccCounter::Aggregate),
            (Metric::EccDoubleAggregate, MemoryError::Uncorrected, EccCounter::Aggregate),
        ] {
            let errors = ask.ask("ECC errors", || handle.total_ecc_errors(error, counter));
            values.set(metric, errors.map(|count| count as f64));
        }
        if let Some(rows) = ask.ask("remapped rows", || raw::remapped_rows(handle)) {
            values.set(Metric::RemappedCorrectable, Some(rows.correctable.into()));
            values.set(Metric::RemappedUncorrectable, Some(rows.uncorrectable.into()));
            values.set(Metric::RemapPending, Some(rows.pending.into()));
            values.set(Metric::RemapFailure, Some(rows.failed.into()));
        }
    }

    /// What is asked for by number, in one question.
    fn fields(&mut self, handle: &Handle<'_>, found: &mut Found) {
        let fields = FIELDS.iter().map(|(_, id, scope)| Field { id: *id, scope: *scope });
        let fields: Vec<Field> =
            fields.chain(NVLINK_TRAFFIC.into_iter().map(|id| Field { id, scope: ALL_LINKS })).collect();
        let Some(values) = self.asking.ask("fields", || raw::field_values(handle, &fields)) else { return };
        for ((metric, ..), value) in FIELDS.iter().zip(&values) {
            found.values.set(*metric, *value);
        }
        let [Some(sent), Some(received)] = values[FIELDS.len()..] else { return };
        found.nvlink_bytes = Some([sent, received].map(|kib| kib * 1024.0));
        let now = (Instant::now(), sent + received);
        if let Some(before) = self.history.nvlink.replace(now) {
            found.values.set(Metric::NvlinkBandwidth, megabytes_per_second(before, now));
        }
    }

    /// Who uses it: MIG instances and processes.
    fn shares(&mut self, handle: &Handle<'_>) -> (Vec<Instance>, Option<Vec<Process>>) {
        let in_mig_mode = self.asking.ask("MIG mode", || handle.mig_mode()).is_some_and(|mode| mode.current == 1);
        if !in_mig_mode {
            let mut processes = self.processes(handle, None);
            if let Some(processes) = &mut processes {
                self.utilization(handle, processes);
            }
            return (Vec::new(), processes);
        }
        let count = self.asking.ask("MIG devices", || handle.mig_device_count()).unwrap_or(0).min(MOST_INSTANCES);
        let (mut instances, mut all): (Vec<Instance>, Option<Vec<Process>>) = (Vec::new(), None);
        for index in 0..count {
            // Gaps are normal: they answer that there is nothing.
            let Some(mig) = self.asking.ask("MIG device", || handle.mig_device_by_index(index)) else { continue };
            let Some(id) = self.asking.ask("GPU instance", || raw::gpu_instance_id(&mig)) else { continue };
            if let Some(processes) = self.processes(&mig, Some(id)) {
                all.get_or_insert_default().extend(processes);
            }
            // A GPU instance may be cut into several compute instances, which share its memory.
            if instances.iter().any(|instance| instance.id == id) {
                continue;
            }
            let mut values = Values::default();
            if let Some(memory) = self.asking.ask("MIG memory", || memory(&mig)) {
                values.set_memory(memory);
            }
            let name = self.asking.ask("MIG name", || mig.name()).unwrap_or_default();
            instances.push(Instance { id, profile: profile(&name).to_owned(), values });
        }
        (instances, all)
    }

    /// The processes, with their memory. `None` where the driver can't tell.
    fn processes(&mut self, handle: &Handle<'_>, instance: Option<u32>) -> Option<Vec<Process>> {
        // The older functions are for drivers before 510.
        let compute = self.asking.ask("compute processes", || {
            handle.running_compute_processes().or_else(|error| match error {
                NvmlError::FailedToLoadSymbol(_) => handle.running_compute_processes_v2(),
                error => Err(error),
            })
        });
        let graphics = self.asking.ask("graphics processes", || {
            handle.running_graphics_processes().or_else(|error| match error {
                NvmlError::FailedToLoadSymbol(_) => handle.running_graphics_processes_v2(),
                error => Err(error),
            })
        });
        if compute.is_none() && graphics.is_none() {
            return None;
        }
        let mut processes: Vec<Process> = Vec::new();
        for found in compute.into_iter().chain(graphics).flatten() {
            let memory_bytes = match found.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            // One that computes and draws is in both lists, with the same memory.
            match processes.iter_mut().find(|process| process.pid == found.pid) {
                Some(known) => known.memory_bytes = known.memory_bytes.max(memory_bytes),
                None => processes.push(Process {
                    pid: found.pid,
                    name: self.name(found.pid),
                    instance,
                    memory_bytes,
                    utilization: None,
                }),
            }
        }
        Some(processes)
    }

    /// Adds how much of the GPU each process had since the last pass.
    fn utilization(&mut self, handle: &Handle<'_>, processes: &mut [Process]) {
        let since = self.history.sampled;
        let samples = self.asking.ask("process utilization", || handle.process_utilization_stats(since));
        // Several of one process come in no promised order; the newest counts.
        let mut samples = samples.unwrap_or_default();
        order::sort_by(&mut samples, &|a, b| a.timestamp.cmp(&b.timestamp));
        for sample in samples {
            self.history.sampled = self.history.sampled.max(sample.timestamp);
            let shares = [sample.sm_util, sample.mem_util, sample.enc_util, sample.dec_util].map(percent);
            let [Some(sm), Some(memory), Some(encoder), Some(decoder)] = shares else { continue };
            if let Some(process) = processes.iter_mut().find(|process| process.pid == sample.pid) {
                process.utilization = Some(ProcessUtilization { sm, memory, encoder, decoder });
            }
        }
    }

    /// The process table's name. Empty where the process is gone, or lives where this agent does not see it.
    fn name(&self, pid: u32) -> String {
        let name = KeptFile::record(self.host.proc(format!("{pid}/comm")))
            .read(|comm| String::from_utf8_lossy(comm.trim_ascii_end()).into_owned());
        name.unwrap_or_default()
    }
}

/// Drivers at times answer with a number that is no share.
fn percent(value: u32) -> Option<f64> {
    (value <= 100).then_some(f64::from(value))
}

/// DCGM's way to tell it: KiB a second, divided by 1000. `None` where the counter began anew.
fn megabytes_per_second(before: (Instant, f64), now: (Instant, f64)) -> Option<f64> {
    let seconds = now.0.saturating_duration_since(before.0).as_secs_f64();
    let kib = now.1 - before.1;
    (kib >= 0.0 && seconds > 0.0).then(|| kib / seconds / 1000.0)
}

fn memory(handle: &Handle<'_>) -> Result<Memory, NvmlError> {
    match handle.memory_info() {
        Ok(memory) => {
            Ok(Memory { total: memory.total, free: memory.free, used: memory.used, reserved: Some(memory.reserved) })
        }
        Err(NvmlError::FailedToLoadSymbol(_)) => raw::memory_of_old_drivers(handle),
        Err(error) => Err(error),
    }
}

/// The GPU instance's profile, from the name of a device on it: `NVIDIA H100 MIG 1c.3g.40gb` is a part of a `3g.40gb`.
fn profile(name: &str) -> &str {
    let profile = name.rsplit_once("MIG ").map_or(name, |(_, profile)| profile).trim();
    match profile.split_once("c.") {
        Some((slices, rest)) if slices.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => profile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_mig_devices() {
        for (name, expected) in [
            ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "1g.10gb"),
            ("NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb", "3g.20gb"),
            ("NVIDIA A100 MIG 1g.5gb+me", "1g.5gb+me"),
            ("", ""),
        ] {
            assert_eq!(profile(name), expected);
        }
    }

    #[test]
    fn nvlink_is_told_as_a_rate() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(10);
        assert_eq!(megabytes_per_second((begun, 1000.0), (later, 51_000.0)), Some(5.0));
        assert_eq!(megabytes_per_second((begun, 1000.0), (later, 0.0)), None);
        assert_eq!(megabytes_per_second((begun, 0.0), (begun, 1.0)), None);
    }

    #[test]
    fn only_shares_are_shares() {
        assert_eq!((percent(0), percent(100), percent(101), percent(u32::MAX)), (Some(0.0), Some(100.0), None, None));
    }
}
