//! GPUs: NVIDIA's through NVML, under dcgm-exporter's names; or made-up ones, for trying dashboards.
//!
//! The driver is asked by a thread of its own at interval passes only: a driver in trouble makes questions hang, and
//! questions at each scrape are known to do harm. Scrapes show the last answers. A question that does not come back in
//! time makes the collector fail, and what was known before is no longer shown. No second one is asked meanwhile.

mod demo;
#[cfg(target_os = "linux")]
mod events;
#[cfg(target_os = "linux")]
mod nvml;
#[cfg(not(target_os = "linux"))]
mod nvml {
    //! NVML's library is looked for on Linux only.

    use std::ffi::OsString;

    use super::{Backend, Poll};
    use crate::host::HostRoot;

    pub(super) struct Nvidia;

    impl Nvidia {
        pub(super) fn new(_: OsString, _: HostRoot, _: String) -> Self {
            Self
        }
    }

    impl Backend for Nvidia {
        fn poll(&mut self) -> Poll {
            Poll::Absent("NVIDIA's library is looked for on Linux only".to_owned())
        }
    }
}
#[cfg(target_os = "linux")]
mod raw;
mod report;
mod worker;
mod xid;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::info;

use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::Families;
use worker::{Answer, Worker};

/// How long a pass waits for an answer, from the question on: most come well within. Later ones are shown from the next
/// pass on.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where nothing was found it is looked again: soon, since drivers are loaded while a machine starts, then seldom.
const FIRST_LOOK_AGAIN: Duration = Duration::from_secs(10);
const LAST_LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Where figures of GPUs come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// NVML, where its library is found.
    #[default]
    Auto,
    /// Two made-up GPUs, marked as such.
    Demo,
    /// None.
    Off,
}

/// `[collectors.gpu]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the figures come from.
    pub backend: Source,
    /// NVML's library: a name that the system's loader looks up, or a path.
    pub library: PathBuf,
    /// How long the driver may take to answer before the collector fails.
    #[serde(with = "daemon::config::duration")]
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // Without persistence mode the first question wakes every GPU, which takes a second or two for each.
        Self { backend: Source::Auto, library: "libnvidia-ml.so.1".into(), timeout: Duration::from_secs(15) }
    }
}

/// What answers.
trait Backend: Send {
    /// Reads all GPUs. May take long, or hang.
    fn poll(&mut self) -> Poll;
}

/// What a reading found.
enum Poll {
    /// There are no GPUs here that could be read; why. Nobody asks this backend again.
    Absent(String),
    /// They can't be read now; why.
    Failed(String),
    /// Their families.
    Found(Families),
}

/// See the module.
pub(crate) struct Gpu {
    host: HostRoot,
    settings: Settings,
    worker: Option<Worker>,
    /// When to look for GPUs again, and how long to wait after that.
    look_again: (Option<Instant>, Duration),
    /// Why there are none, as the log has it.
    absent: Option<String>,
    error: Option<CollectError>,
}

impl Gpu {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self {
            host: host.clone(),
            settings: settings.clone(),
            worker: None,
            look_again: (None, FIRST_LOOK_AGAIN),
            absent: None,
            error: None,
        }
    }

    fn backend(&self) -> Option<Box<dyn Backend>> {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        match self.settings.backend {
            Source::Auto => {
                let library = OsString::from(self.settings.library.clone());
                Some(Box::new(nvml::Nvidia::new(library, self.host.clone(), hostname)))
            }
            Source::Demo => Some(Box::new(demo::Demo::new(hostname))),
            Source::Off => None,
        }
    }

    /// Asks, unless a question is out.
    fn ask(&mut self) -> Result<(), CollectError> {
        if self.look_again.0.is_some_and(|when| Instant::now() < when) {
            return Ok(());
        }
        if self.worker.is_none() {
            let Some(backend) = self.backend() else { return Ok(()) };
            let worker = Worker::start(backend)
                .map_err(|source| CollectError::System { what: "start the thread that asks for GPUs", source })?;
            self.worker = Some(worker);
        }
        if let Some(worker) = &self.worker {
            worker.ask();
        }
        Ok(())
    }

    /// Takes note that there is nothing. The worker has ended with its answer.
    fn nothing_here(&mut self, why: String) {
        self.worker = None;
        let pause = self.look_again.1;
        self.look_again = (Some(Instant::now() + pause), (pause * 2).min(LAST_LOOK_AGAIN));
        if self.absent.as_ref() != Some(&why) {
            info!("no GPU figures: {why}; this is looked at again every {} min", LAST_LOOK_AGAIN.as_secs() / 60);
            self.absent = Some(why);
        }
    }
}

impl Collector for Gpu {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn begin(&mut self, pass: Pass) {
        if pass == Pass::Interval {
            self.error = self.ask().err();
        }
    }

    fn settle(&mut self, until: Instant) {
        if let Some(worker) = &self.worker {
            worker.wait(until);
        }
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Some(worker) = &self.worker else { return Ok(Outcome::Nothing) };
        let failed = |text: String| {
            Err(CollectError::System { what: "ask the driver for its GPUs", source: std::io::Error::other(text) })
        };
        if let Some(asked) = worker.asked() {
            worker.wait(asked + PATIENCE);
        }
        if worker.asked().is_some_and(|asked| asked.elapsed() >= self.settings.timeout) {
            return failed("it does not answer; see what the kernel's log says of NVRM, and reset the GPU".to_owned());
        }
        let absent = match &*worker.answer() {
            Answer::None => return Ok(Outcome::Nothing),
            Answer::Absent(why) => why.clone(),
            Answer::Failed(why) => return failed(why.clone()),
            Answer::Found(families) => {
                out.append(families);
                (self.absent, self.look_again.1) = (None, FIRST_LOOK_AGAIN);
                return Ok(Outcome::Data);
            }
        };
        self.nothing_here(absent);
        Ok(Outcome::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(gpu: &mut Gpu, pass: Pass) -> (Result<Outcome, CollectError>, Families) {
        let mut out = Families::default();
        gpu.begin(pass);
        gpu.settle(Instant::now() + Duration::from_secs(60));
        let outcome = gpu.collect(&mut out);
        (outcome, out)
    }

    fn gpu(settings: Settings) -> Gpu {
        Gpu::new(&HostRoot::default(), &settings)
    }

    #[test]
    fn without_the_library_there_is_nothing_and_no_thread() {
        let library = "/nowhere/libnvidia-ml.so.1".into();
        let mut gpu = gpu(Settings { library, ..Settings::default() });
        for _ in 0..3 {
            let (outcome, out) = pass(&mut gpu, Pass::Interval);
            assert_eq!(outcome.unwrap(), Outcome::Nothing);
            assert!(out.is_empty() && gpu.worker.is_none());
        }
        assert!(gpu.absent.unwrap().contains("/nowhere/libnvidia-ml.so.1"));
        assert_eq!(gpu.look_again.1, FIRST_LOOK_AGAIN * 2, "looked once");
    }

    #[test]
    fn made_up_gpus_say_so() {
        let mut gpu = gpu(Settings { backend: Source::Demo, ..Settings::default() });
        let (outcome, out) = pass(&mut gpu, Pass::Interval);
        assert_eq!(outcome.unwrap(), Outcome::Data);
        let samples = out.samples("DCGM_FI_DEV_GPU_UTIL");
        assert_eq!(samples.len(), 2);
        for sample in samples {
            assert_eq!(sample.labels.get("modelName"), Some("Demo GPU (not real)"));
            assert!(sample.labels.get("UUID").unwrap().starts_with("GPU-demo-"));
        }
        let (_, scraped) = pass(&mut gpu, Pass::Scrape);
        assert_eq!(scraped.len(), out.len());
    }

    #[test]
    fn off_is_off() {
        let mut gpu = gpu(Settings { backend: Source::Off, ..Settings::default() });
        assert_eq!(pass(&mut gpu, Pass::Interval).0.unwrap(), Outcome::Nothing);
        assert!(gpu.worker.is_none());
    }
}
