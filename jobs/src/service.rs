//! The daemon: built whole before anything runs, run until it is told to stop.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::http::{self, Allow, BindError, Listener};
use daemon::shutdown::{self, Trigger};
use tracing::{info, warn};

use crate::audit::{Audit, AuditError};
use crate::config::Settings;
use crate::desk::Desk;
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::pages::Pages;

/// How long a stop waits for commands that are told to end, and then for the last answers. Together well below 5 s, since a
/// machine that stops is busy.
const STOP: Duration = Duration::from_secs(3);
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// It can't be built.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The socket.
    #[error("{0}; `jobs.socket` in the configuration names another")]
    Bind(#[from] BindError),
    /// The state.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// What an earlier daemon left can't be dealt with.
    #[error("{0}")]
    State(String),
}

/// A daemon that is built and listens, and has not run yet.
#[derive(Debug)]
pub struct Service {
    listener: Listener,
    desk: Desk,
    commands: Trigger,
}

/// Takes other configurations while the daemon runs.
#[derive(Debug, Clone)]
pub struct Reload(Desk);

impl Service {
    /// Opens state, audit and socket.
    pub async fn build(settings: Settings) -> Result<Self, ServiceError> {
        warn_of(&settings);
        warn_of_inherited_files();
        // First of all: it tells whether another daemon runs.
        let journal = Journal::open(&settings.state_dir)?;
        let audit = Audit::open(&settings.audit)?;
        let listener = listen(&settings).await?;
        info!("serving on {}, {} jobs", settings.socket.display(), settings.jobs.len());
        let (commands, stop) = shutdown::channel();
        let desk = Desk::open(settings, journal, audit, Metrics::new(), stop).map_err(ServiceError::State)?;
        Ok(Self { listener, desk, commands })
    }

    /// For reloads.
    pub fn reload(&self) -> Reload {
        Reload(self.desk.clone())
    }

    /// Answers until `until` returns. Then nothing new is run, commands are told to end, and who waits for one is answered.
    pub async fn run(self, until: impl Future<Output = ()>) {
        let Self { listener, desk, commands } = self;
        let (server, closed) = shutdown::channel();
        // The socket's file decides who may connect; who is answered is decided by the kernel's word on the peer.
        let allow = Arc::new(Allow::nobody());
        let pages = Arc::new(Pages::new(desk.clone()));
        let serving = tokio::spawn(http::serve(listener, allow, pages, closed));
        until.await;
        info!("stopping");
        commands.stop();
        if tokio::time::timeout(STOP, desk.idle()).await.is_err() {
            warn!("a command did not end in time; what it does further is not seen");
        }
        server.stop();
        // Who is slow to hand in a request holds up nothing.
        let _ = tokio::time::timeout(LAST_ANSWERS, serving).await;
    }
}

impl Reload {
    /// Takes this configuration from now on.
    pub fn apply(&self, settings: Settings) {
        let metrics = self.0.metrics();
        for key in self.0.settings().fixed_differences(&settings) {
            warn!("{key} has changed; it counts after a restart");
        }
        warn_of(&settings);
        let jobs = settings.jobs.len();
        match self.0.reconfigure(settings) {
            Ok(()) => {
                metrics.reloaded.set(1);
                info!("reloaded the configuration, {jobs} jobs");
            }
            Err(error) => {
                metrics.reloaded.set(0);
                tracing::error!("the configuration is not reloaded, the old one stays: {error}");
            }
        }
    }

    /// Notes that there was a configuration that could not be taken.
    pub fn refused(&self) {
        self.0.metrics().reloaded.set(0);
    }
}

fn warn_of(settings: &Settings) {
    settings.warnings.iter().for_each(|warning| warn!("{warning}"));
    if settings.jobs.is_empty() {
        warn!("there are no jobs; [[job]] in the configuration names them");
    }
}

async fn listen(settings: &Settings) -> Result<Listener, BindError> {
    if let Some(folder) = settings.socket.parent().filter(|folder| !folder.exists()) {
        // Where it can't be made, binding says why.
        let _ = std::fs::create_dir_all(folder);
    }
    // Between its birth and its permissions the socket is its owner's alone.
    let usual = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = http::bind_unix_as(&settings.socket, settings.socket_mode, settings.socket_group).await;
    rustix::process::umask(usual);
    listener
}

/// Files that who started us left open would be open in every command too. Ours never are.
#[cfg(target_os = "linux")]
fn warn_of_inherited_files() {
    const CLOSED_ON_EXEC: u32 = 0o2000000;
    let Ok(entries) = std::fs::read_dir(Path::new("/proc/self/fdinfo")) else { return };
    let inherited = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let info = std::fs::read_to_string(entry.path()).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        (number > 2 && flags & CLOSED_ON_EXEC == 0).then(|| number.to_string())
    });
    let inherited: Vec<String> = inherited.collect();
    if !inherited.is_empty() {
        warn!(
            "started with open files ({}), which commands inherit; close them where utilizer-jobs is started",
            inherited.join(", ")
        );
    }
}

#[cfg(not(target_os = "linux"))]
fn warn_of_inherited_files() {}
