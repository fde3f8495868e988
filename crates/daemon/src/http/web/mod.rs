//! TLS, client certificates, passwords and tokens, by the file that Prometheus' exporters have for it.
//!
//! The file (exporter-toolkit's "web configuration") is read at the start and checked whole. While the daemon runs, it and
//! the files that it names are looked at once a second at most, where somebody connects or asks: what has changed is
//! read anew. A faulty change is logged, and what was there before stays in force, so that nobody is let in by a slip.

mod auth;
mod file;
mod san;
mod tls;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use tokio_rustls::rustls::ServerConfig;
use tracing::{error, info};

use crate::config::ConfigError;
pub(super) use auth::Verdict;
use auth::{Checker, Users};

/// Connections and requests within this time share one look at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A web configuration in force.
pub struct Web {
    path: PathBuf,
    checker: Checker,
    state: Mutex<State>,
    denied: AtomicU64,
    failed_handshakes: AtomicU64,
}

/// How a web configuration fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebCounts {
    /// Requests answered 401.
    pub denied: u64,
    /// TLS handshakes that did not come to an end, and connections that did not begin one.
    pub failed_handshakes: u64,
    /// Whether the files could be used as they were at the last look.
    pub valid: bool,
}

struct State {
    current: Arc<Current>,
    valid: bool,
    looked: Instant,
    stamps: Vec<(PathBuf, Option<Stamp>)>,
}

/// What the files say.
pub(super) struct Current {
    /// `None`: plain HTTP.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Added to each answer.
    pub(super) headers: HeaderMap,
    users: Users,
    /// Whether a client that showed a certificate has proved by it who it is.
    pub(super) certified: bool,
}

/// By what a file is seen to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Says nothing of the contents, which are secret.
impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Web {
    /// Reads the file and those that it names, or says everything that is wrong with them.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (current, files) = file::load(path)?;
        let stamps = files.into_iter().map(|file| (stamp(&file), file)).map(|(stamp, file)| (file, stamp)).collect();
        let state = State { current: Arc::new(current), valid: true, looked: Instant::now(), stamps };
        Ok(Self {
            path: path.to_owned(),
            checker: Checker::new(),
            state: Mutex::new(state),
            denied: AtomicU64::new(0),
            failed_handshakes: AtomicU64::new(0),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In words, for a person: what a peer needs.
    pub fn summary(&self) -> String {
        let current = self.current();
        let tls = if current.tls.is_some() { "TLS" } else { "no TLS" };
        format!("{tls}, {}", current.users)
    }

    /// Whether TLS is spoken.
    pub fn has_tls(&self) -> bool {
        self.current().tls.is_some()
    }

    /// What is in force now; looks at the files where the last look is a second old.
    pub(super) fn current(&self) -> Arc<Current> {
        let mut state = self.lock();
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            if state.stamps.iter().any(|(file, known)| stamp(file) != *known) {
                self.read(&mut state);
            }
        }
        state.current.clone()
    }

    /// Reads the files anew, whether they seem changed or not.
    pub fn reload(&self) {
        self.read(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, state: &mut State) {
        // Before the reading: a change in its middle is seen at the next look.
        for (file, known) in &mut state.stamps {
            *known = stamp(file);
        }
        match file::load(&self.path) {
            Ok((current, files)) => {
                let known = |file: &Path| state.stamps.iter().find(|(path, _)| path == file).map(|(_, stamp)| *stamp);
                state.stamps = files
                    .into_iter()
                    .map(|file| (known(&file).unwrap_or_else(|| stamp(&file)), file))
                    .map(|(s, f)| (f, s))
                    .collect();
                state.current = Arc::new(current);
                state.valid = true;
                info!("the web configuration {} is read anew", self.path.display());
            }
            Err(error) => {
                state.valid = false;
                error!("the web configuration is not read anew, the old one stays in force: {error}");
            }
        }
    }

    /// What was counted since the start.
    pub fn counts(&self) -> WebCounts {
        WebCounts {
            denied: self.denied.load(Ordering::Relaxed),
            failed_handshakes: self.failed_handshakes.load(Ordering::Relaxed),
            valid: self.lock().valid,
        }
    }

    pub(super) fn count_failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a request with these headers may be answered.
    pub(super) async fn verdict(&self, current: &Current, headers: &HeaderMap) -> Verdict {
        let verdict = self.checker.verdict(&current.users, headers).await;
        if verdict == Verdict::Unknown {
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let there = std::fs::metadata(file).ok()?;
    Some(Stamp { inode: there.ino(), size: there.len(), modified: (there.mtime(), there.mtime_nsec()) })
}

impl Current {
    /// The `WWW-Authenticate` of an answer 401.
    pub(super) fn challenges(&self) -> impl Iterator<Item = &'static str> {
        self.users.challenges()
    }
}
