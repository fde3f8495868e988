//! Hears XID errors, on a thread that waits for nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{EventSet, Nvml};
use tracing::{debug, warn};

use super::report::Xids;

/// How long one wait takes, and so how long the thread needs to stop.
const WAIT_MS: u32 = 500;

/// Between two waits that fail, which may fail at once.
const PAUSE: Duration = Duration::from_millis(500);

/// NVML's number for an error that it can't name.
const UNKNOWN: u64 = 999;

/// What was heard, by the GPU's UUID. A GPU that is in it is watched.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<BTreeMap<String, Xids>>>);

impl Heard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Xids>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of one GPU; `None` where it is not watched.
    pub(super) fn of(&self, uuid: &str) -> Option<Xids> {
        self.lock().get(uuid).cloned()
    }

    fn watch(&self, uuids: &[String]) {
        let mut heard = self.lock();
        for uuid in uuids {
            heard.entry(uuid.clone()).or_default();
        }
    }

    fn note(&self, uuid: &str, code: u64) {
        warn!(gpu = uuid, xid = code, "the driver reports an error of the GPU: {}", super::xid::text(code));
        let mut heard = self.lock();
        let xids = heard.entry(uuid.to_owned()).or_default();
        xids.last = code;
        *xids.counts.entry(code).or_default() += 1;
    }
}

/// The thread.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Watches the GPUs of these UUIDs, as far as they report errors.
    pub(super) fn start(nvml: Arc<Nvml>, uuids: Vec<String>, heard: Heard) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let its = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("gpu-events".into()).spawn(move || run(&nvml, uuids, &heard, &its))?;
        Ok(Self { stop, thread })
    }

    /// Tells it to end; gives it so long to do so.
    pub(super) fn end(self, within: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + within;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Tells it to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(nvml: &Nvml, uuids: Vec<String>, heard: &Heard, stop: &AtomicBool) {
    let (set, uuids) = match register(nvml, uuids) {
        Ok(registered) => registered,
        Err(error) => {
            debug!("no errors of GPUs are heard: {error}");
            return;
        }
    };
    heard.watch(&uuids);
    while !uuids.is_empty() && !stop.load(Ordering::Relaxed) {
        match set.wait(WAIT_MS) {
            Ok(event) => {
                let code = match event.event_data {
                    Some(XidError::Value(code)) => code,
                    Some(XidError::Unknown) => UNKNOWN,
                    None => continue,
                };
                match event.device.uuid() {
                    Ok(uuid) => heard.note(&uuid, code),
                    // The last word of a GPU that is gone. With one GPU it is clear whose.
                    Err(error) => match &*uuids {
                        [uuid] => heard.note(uuid, code),
                        _ => warn!(xid = code, "the driver reports an error of a GPU that does not answer: {error}"),
                    },
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(NvmlError::Uninitialized) => return,
            Err(error) => {
                debug!("waiting for errors of GPUs failed: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// A set of events for those that take part. NVML gives a set up when one GPU does not, so it is begun anew without it.
fn register(nvml: &Nvml, mut uuids: Vec<String>) -> Result<(EventSet<'_>, Vec<String>), NvmlError> {
    'anew: loop {
        let mut set = nvml.create_event_set()?;
        for at in 0..uuids.len() {
            let registered = nvml.device_by_uuid(uuids[at].as_str()).and_then(|device| {
                if !device.supported_event_types()?.contains(EventTypes::CRITICAL_XID_ERROR) {
                    return Ok(None);
                }
                Ok(Some(device))
            });
            set = match registered {
                Ok(Some(device)) => match device.register_events(EventTypes::CRITICAL_XID_ERROR, set) {
                    Ok(set) => set,
                    Err(error) => {
                        debug!(gpu = uuids[at], "its errors are not heard: {error}");
                        uuids.remove(at);
                        continue 'anew;
                    }
                },
                Ok(None) | Err(_) => {
                    debug!(gpu = uuids[at], "it does not report errors");
                    uuids.remove(at);
                    continue 'anew;
                }
            };
        }
        return Ok((set, uuids));
    }
}
