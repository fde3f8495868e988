//! Made-up GPUs, for trying dashboards on a machine that has none. Model name and UUID say so.

use std::time::Instant;

use super::report::{Device, Identity, MIB, Memory, Metric, Process, ProcessUtilization, Report, Values, Xids};
use super::{Backend, Poll};

/// See the module.
pub(super) struct Demo {
    begun: Instant,
    identities: Vec<Identity>,
}

impl Demo {
    pub(super) fn new(hostname: String) -> Self {
        let identity = |index: u32| {
            let uuid = format!("GPU-demo-0000-0000-0000-00000000000{index}");
            let bus_id = format!("00000000:0{}:00.0", index + 1);
            Identity::new(index, &uuid, &bus_id, "Demo GPU (not real)", &hostname, "0.0 (demo)")
        };
        Self { begun: Instant::now(), identities: (0..2).map(identity).collect() }
    }
}

impl Backend for Demo {
    fn poll(&mut self) -> Poll {
        Poll::Found(report(&self.identities, self.begun.elapsed().as_secs_f64()).families())
    }
}

/// How things stand so many seconds after the start: a wave of five minutes, the second GPU in the opposite phase.
fn report(identities: &[Identity], seconds: f64) -> Report {
    let devices = identities.iter().map(|identity| {
        let phase = seconds / 300.0 + f64::from(identity.index) / 2.0;
        // Up and down, slowly at both ends. (A cosine would draw the library of mathematics into every agent.)
        let way = 1.0 - (2.0 * phase.fract() - 1.0).abs();
        let load = 0.05 + 0.9 * way * way * (3.0 - 2.0 * way);
        device(identity, load, seconds)
    });
    Report {
        driver: "0.0 (demo)".to_owned(),
        nvml: "0.0 (demo)".to_owned(),
        cuda: "0.0 (demo)".to_owned(),
        devices: devices.collect(),
    }
}

fn device(identity: &Identity, load: f64, seconds: f64) -> Device {
    const TOTAL: u64 = 24 << 10;
    let used = 1024 + (18_000.0 * load) as u64;
    let watts = (60.0 + 240.0 * load).round();
    let mut values = Values::default();
    values.set_memory(Memory {
        total: TOTAL * MIB,
        free: (TOTAL - used) * MIB,
        used: used * MIB,
        reserved: Some(512 * MIB),
    });
    for (metric, value) in [
        (Metric::Utilization, load * 100.0),
        (Metric::MemoryUtilization, load * 60.0),
        (Metric::Encoder, 0.0),
        (Metric::Decoder, 0.0),
        (Metric::Temperature, 35.0 + 40.0 * load),
        (Metric::MemoryTemperature, 40.0 + 45.0 * load),
        (Metric::Power, watts),
        (Metric::Energy, seconds * 180_000.0),
        (Metric::SmClock, 300.0 + 1500.0 * load),
        (Metric::MemoryClock, 9501.0),
        (Metric::PcieTransmit, 1000.0 + 200_000.0 * load),
        (Metric::PcieReceive, 2000.0 + 900_000.0 * load),
        (Metric::PcieReplays, 0.0),
        (Metric::ThrottleReasons, 0.0),
        (Metric::EccSingleVolatile, 0.0),
        (Metric::EccDoubleVolatile, 0.0),
    ] {
        values.set(metric, Some(value.round()));
    }
    let process = Process {
        pid: 4_000_000 + identity.index,
        name: "demo-not-real".to_owned(),
        instance: None,
        memory_bytes: Some((used - 500) * MIB),
        utilization: Some(ProcessUtilization {
            sm: (load * 98.0).round(),
            memory: (load * 58.0).round(),
            encoder: 0.0,
            decoder: 0.0,
        }),
    };
    Device {
        identity: identity.clone(),
        up: true,
        values,
        instances: Vec::new(),
        processes: Some(vec![process]),
        xids: Some(Xids::default()),
        nvlink_bytes: None,
        query_errors: 0,
    }
}
