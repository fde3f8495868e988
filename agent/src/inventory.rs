//! What this host is, for its status. Read once at start, through sysinfo; GPUs are those that the gauges tell of.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use wire::messages::{Gpu, Inventory};

use crate::gauges::Gauge;

/// Reads it. What can't be read is left out.
///
/// sysinfo reads this system's own files, whatever `[path]` says: inside a container OS and kernel are still the
/// host's kernel and the container's OS name.
pub fn read() -> Inventory {
    let system = System::new_with_specifics(
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram()),
    );
    let system = system.ok();
    let text = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let count = |count: usize| u32::try_from(count).ok().filter(|count| *count > 0);
    let cpus = system.as_ref().map(System::cpus).unwrap_or_default();
    Inventory {
        os: System::long_os_version().ok().and_then(text),
        kernel: System::kernel_version().ok().and_then(text),
        architecture: text(System::cpu_arch()),
        cpu_model: cpus.first().and_then(|cpu| text(cpu.brand().to_owned())),
        cpu_count: count(cpus.len()),
        core_count: System::physical_core_count().ok().and_then(count),
        memory_total_bytes: system.as_ref().map(System::total_memory).filter(|bytes| *bytes > 0),
        gpus: Vec::new(),
    }
}

/// Adds the GPUs that `gauges` are about, in the place of what was known of them. One that is not told of stays: it may
/// have fallen off its bus, and is this host's still. True where something changed.
pub fn add_gpus(known: &mut Vec<Gpu>, gauges: &[Gauge]) -> bool {
    let mut changed = false;
    for gauge in gauges.iter().filter(|gauge| gauge.name == "gpu_memory_total_bytes") {
        let label = |name| gauge.labels.get(name).unwrap_or_default();
        let Ok(index) = label("gpu").trim_start_matches("card").parse() else { continue };
        let (uuid, name, memory_total_bytes) = (label("uuid"), label("name"), gauge.value as u64);
        match known.iter_mut().find(|gpu| gpu.uuid == uuid && (!uuid.is_empty() || gpu.index == index)) {
            Some(gpu) if gpu.index == index && gpu.name == name && gpu.memory_total_bytes == memory_total_bytes => {}
            found => {
                let gpu = Gpu { index, uuid: uuid.to_owned(), name: name.to_owned(), memory_total_bytes };
                match found {
                    Some(known) => *known = gpu,
                    None => known.push(gpu),
                }
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use crate::gauges::Gauge;
    use crate::snapshot::Labels;

    #[test]
    fn gpus_come_and_stay() {
        let gauge = |index: &str, value| Gauge {
            name: "gpu_memory_total_bytes",
            labels: Labels::new([("gpu", index), ("name", "A GPU"), ("uuid", &format!("GPU-{index}"))]),
            value,
        };
        let mut known = Vec::new();
        assert!(super::add_gpus(&mut known, &[gauge("0", 5.0), gauge("1", 6.0)]));
        assert!(!super::add_gpus(&mut known, &[gauge("0", 5.0), gauge("1", 6.0)]));
        assert!(!super::add_gpus(&mut known, &[gauge("1", 6.0)]));
        assert!(super::add_gpus(&mut known, &[gauge("0", 7.0)]));
        assert_eq!(known.iter().map(|gpu| gpu.memory_total_bytes).collect::<Vec<_>>(), [7, 6]);
        assert_eq!((known[1].index, &*known[1].uuid, &*known[1].name), (1, "GPU-1", "A GPU"));
    }

    #[test]
    fn this_machine_is_described() {
        let inventory = super::read();
        assert!(inventory.os.is_some() && inventory.kernel.is_some() && inventory.architecture.is_some());
        assert!(inventory.cpu_count >= Some(1) && inventory.memory_total_bytes > Some(1 << 20));
    }
}
