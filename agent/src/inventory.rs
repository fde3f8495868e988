//! What this host is, for its status. Read once at start, through sysinfo.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use wire::messages::Inventory;

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

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_is_described() {
        let inventory = super::read();
        assert!(inventory.os.is_some() && inventory.kernel.is_some() && inventory.architecture.is_some());
        assert!(inventory.cpu_count >= Some(1) && inventory.memory_total_bytes > Some(1 << 20));
    }
}
