//! What the host's load is by other accounts than the agent's.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sysinfo::System;

/// A process that never rests; it ends with this value.
pub(crate) struct Busy(Child);

impl Busy {
    pub(crate) fn start() -> Self {
        // The kernel ends it with the test's thread, should that be killed.
        let words = ["--pdeathsig", "KILL", "--", "/bin/sh", "-c", "while :; do :; done"];
        Self(Command::new("setpriv").args(words).stdin(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Seconds of CPU time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in brackets may hold blanks.
        let fields: Vec<_> = stat[stat.rfind(')').unwrap()..].split_ascii_whitespace().collect();
        let ticks: f64 = fields[12].parse::<f64>().unwrap() + fields[13].parse::<f64>().unwrap();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One moment's account.
pub(crate) struct Moment {
    /// Since 1970.
    pub(crate) at: Duration,
    /// Time of all CPUs by the first line of `/proc/stat`, in ticks: all of it, and that of idle and iowait.
    ticks: (u64, u64),
    /// sysinfo's usage since the moment before.
    pub(crate) sysinfo_cpu_percent: f64,
    /// By `/proc/meminfo`: what is not available, of the total.
    pub(crate) memory_percent: f64,
    /// Of the busy process.
    busy_seconds: f64,
}

impl Moment {
    /// Looks now.
    pub(crate) fn now(sysinfo: &mut System, busy: &Busy) -> Self {
        let at = since_1970();
        let stat = fs::read_to_string("/proc/stat").unwrap();
        sysinfo.refresh_cpu_usage();
        let busy_seconds = busy.cpu_seconds();
        let fields = stat.lines().next().unwrap().split_ascii_whitespace().skip(1);
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user's already.
        let fields: Vec<u64> = fields.take(8).map(|field| field.parse().unwrap()).collect();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        let memory = |key: &str| -> f64 {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            at,
            ticks: (fields.iter().sum(), fields[3] + fields[4]),
            sysinfo_cpu_percent: f64::from(sysinfo.global_cpu_usage()),
            memory_percent: 100.0 * (1.0 - memory("MemAvailable") / memory("MemTotal")),
            busy_seconds,
        }
    }

    /// Share of all CPUs since the moment before.
    pub(crate) fn cpu_percent(&self, before: &Moment) -> f64 {
        let (all, idle) = (self.ticks.0 - before.ticks.0, self.ticks.1 - before.ticks.1);
        100.0 * (all - idle) as f64 / all as f64
    }

    /// Share of one CPU that the busy process had since the moment before.
    pub(crate) fn busy_percent(&self, before: &Moment) -> f64 {
        100.0 * (self.busy_seconds - before.busy_seconds) / (self.at - before.at).as_secs_f64()
    }
}

/// Now.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
