//! The `stage` column of a host's own rows.

use std::fmt;

/// What part of a host a gauge is about: the `stage` of its row in `recap_system_metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// CPUs and what waits for them.
    Cpu,
    /// Memory and swap.
    Memory,
    /// Graphics processors.
    Gpu,
    /// Block devices and file systems.
    Disk,
    /// Network interfaces.
    Network,
    /// One process.
    Process,
    /// What the agent scraped from an application, whatever its name.
    Scrape,
    /// Everything else.
    System,
}

/// Which beginnings of a name belong to which stage: the utilization gauges by their first word, published families
/// by node_exporter's and dcgm-exporter's prefixes. The first that fits counts.
const PREFIXES: &[(&str, Stage)] = &[
    ("cpu_", Stage::Cpu),
    ("load", Stage::Cpu),
    ("pressure_cpu_", Stage::Cpu),
    ("memory_", Stage::Memory),
    ("swap_", Stage::Memory),
    ("pressure_memory_", Stage::Memory),
    ("gpu_", Stage::Gpu),
    ("DCGM_FI_", Stage::Gpu),
    ("disk_", Stage::Disk),
    ("pressure_io_", Stage::Disk),
    ("network_", Stage::Network),
    ("process_", Stage::Process),
    ("node_cpu_", Stage::Cpu),
    ("node_load", Stage::Cpu),
    ("node_pressure_cpu_", Stage::Cpu),
    ("node_memory_", Stage::Memory),
    ("node_pressure_memory_", Stage::Memory),
    ("node_disk_", Stage::Disk),
    ("node_filesystem_", Stage::Disk),
    ("node_pressure_io_", Stage::Disk),
    ("node_network_", Stage::Network),
    ("node_netstat_", Stage::Network),
];

impl Stage {
    /// The stage of what a host measures itself, by its name.
    pub fn of(metric_name: &str) -> Self {
        PREFIXES.iter().find(|(prefix, _)| metric_name.starts_with(prefix)).map_or(Stage::System, |(_, stage)| *stage)
    }

    /// As it stands in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Cpu => "cpu",
            Stage::Memory => "memory",
            Stage::Gpu => "gpu",
            Stage::Disk => "disk",
            Stage::Network => "network",
            Stage::Process => "process",
            Stage::Scrape => "scrape",
            Stage::System => "system",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Stage;

    #[test]
    fn names_find_their_stage() {
        for (name, stage) in [
            ("cpu_percent", "cpu"),
            ("load1", "cpu"),
            ("memory_used_bytes", "memory"),
            ("swap_percent", "memory"),
            ("gpu_load", "gpu"),
            ("disk_read_bytes_per_second", "disk"),
            ("network_receive_bytes_per_second", "network"),
            ("pressure_io_waiting_percent", "disk"),
            ("node_load1", "cpu"),
            ("node_procs_running", "system"),
            ("my_recording:rule", "system"),
        ] {
            assert_eq!(Stage::of(name).as_str(), stage, "{name}");
        }
    }
}
