use serde::{Deserialize, Serialize};

use crate::{Body, Kind, LabelSet, Value};

/// The utilization of one interval: gauges, published families, top processes. Durable, one message an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Metrics {
    /// Seconds between two passes.
    pub interval_seconds: f64,
    /// External labels of the host, from its configuration.
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub labels: LabelSet,
    /// Utilization gauges. A value that is missing on the host is missing here.
    pub gauges: Vec<Gauge>,
    /// Families that `publish.include` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    /// The processes that used the CPU most, most first, and after them those with most memory that are not among them.
    /// Absent in an agent's first interval: CPU use needs two passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
}

impl Body for Metrics {
    const KIND: Kind = Kind::Metrics;
}

/// One utilization gauge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gauge {
    /// Its name, unit last: `cpu_percent`, `disk_read_bytes_per_second`.
    pub name: String,
    /// What it is of, where a host has several: `{"mountpoint": "/"}`.
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub labels: LabelSet,
    /// Its value, in the unit of the name.
    pub value: Value,
}

/// A published family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Family {
    /// Prometheus name.
    pub name: String,
    /// Prometheus type.
    #[serde(rename = "type")]
    pub kind: FamilyType,
    /// Whether the agent scraped it from an application: then its samples have the labels `job` and `instance`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scraped: bool,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// Prometheus' types of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FamilyType {
    /// Only goes up, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// Quantiles.
    Summary,
    /// Not known; also whatever a later version adds.
    #[serde(other)]
    Unknown,
}

/// One sample of a published family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sample {
    /// Its labels.
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub labels: LabelSet,
    /// Its value.
    pub value: Value,
}

/// One of the top processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Its name as the kernel has it (`comm`, at most 15 bytes).
    pub name: String,
    /// CPU time over wall time since the last pass; one core is 100.
    pub cpu_percent: Value,
    /// Resident memory over the host's memory; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<Value>,
    /// Resident memory.
    pub resident_memory_bytes: u64,
    /// Threads. This and what follows is absent where it is not known, be it that the agent may not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// The kernel's letter for the state: `R`, `S`, `D`, `Z` and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When it started, since 1970. With the pid, a process' identity on its host, give or take a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time_seconds: Option<Value>,
    /// Open files, sockets and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_fds: Option<u64>,
    /// How many it may have; absent where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fds: Option<u64>,
    /// Read from storage since the last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_second: Option<Value>,
    /// Written to storage since the last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes_per_second: Option<Value>,
    /// The effective user's name, or the number where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The unit of systemd that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The id of the container that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Its command line, at most 500 characters, with `***` for what looks like a secret. Absent for kernel threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
}
