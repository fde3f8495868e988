//! `utilizer-agent sample`: one pass over the host, to stdout.

use std::time::Duration;

use serde::Serialize;
use wire::messages::{Family, Gauge};
use wire::{HostName, Timestamp, Value};

use crate::config::Config;
use crate::message;

use crate::sampler::{Made, Sampler};
use crate::snapshot::Families;
use crate::{exposition, gauges};

/// For sources that the interval passes of a running agent do not wait for. Drivers may have to wake a GPU first.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' classic text.
    Prometheus,
    /// One JSON object: time, host, gauges and families as the `metrics` message has them.
    Json,
}

#[derive(Serialize)]
struct Sample<'a> {
    time: Timestamp,
    host: &'a HostName,
    gauges: Vec<Gauge>,
    families: Vec<Family>,
}

/// Makes one pass and encodes it. Values that need two passes (`cpu_percent`, rates, processes) are not in it.
pub fn run(config: &Config, format: Format) -> Vec<u8> {
    let mut sampler = Sampler::new(&config.root, &config.collectors, Made::default());
    sampler.settle(PATIENCE);
    let reading = sampler.interval(Duration::ZERO);
    match format {
        Format::Prometheus => {
            let mut derived = Families::default();
            gauges::expose(&reading.gauges, &mut derived);
            let mut out = Vec::new();
            exposition::encode(&[&reading.snapshot.families, &derived], &mut out);
            out
        }
        Format::Json => {
            let gauges = reading.gauges.iter().map(|gauge| Gauge {
                name: gauge.name.to_owned(),
                labels: message::label_set(&gauge.labels),
                value: Value(gauge.value),
            });
            let sample = Sample {
                time: reading.snapshot.time,
                host: &config.host,
                gauges: gauges.collect(),
                families: reading.snapshot.families.iter().map(message::family).collect(),
            };
            let mut out = wire::encode(&sample);
            out.push(b'\n');
            out
        }
    }
}
