//! A process of the drill: started, killed, stopped, and started again when it ended by itself, as its unit would do.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// After which pause a process that ended by itself is started again.
const RESTART: Duration = Duration::from_secs(1);

/// A death that nobody ordered.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) process: String,
    pub(crate) status: String,
    /// The last line that it wrote.
    pub(crate) last_line: String,
}

/// How a process is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) folder: PathBuf,
    /// A user for programs that refuse to be root.
    pub(crate) user: Option<String>,
    /// Starts in the network of this process.
    pub(crate) network_of: Option<u32>,
    /// It has children that belong to it: a signal goes to each.
    pub(crate) has_children: bool,
    /// It ends by itself when it is done, and is not started again then.
    pub(crate) ends: bool,
}

/// A process, running or not.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) spec: Spec,
    log: PathBuf,
    child: Option<Child>,
    /// It is to run from then on; `None`: it stays down.
    up_from: Option<Instant>,
    stopped: bool,
    /// It has done what it was started for.
    pub(crate) done: bool,
    pub(crate) starts: u32,
    pub(crate) deaths: Vec<Death>,
}

impl Process {
    /// Not started yet: [`Process::look`] does it.
    pub(crate) fn new(spec: Spec, logs: &Path) -> Self {
        let log = logs.join(format!("{}.log", spec.name));
        Self {
            spec,
            log,
            child: None,
            up_from: Some(Instant::now()),
            stopped: false,
            done: false,
            starts: 0,
            deaths: Vec::new(),
        }
    }

    /// Starts it if it is due, and notes a death that nobody ordered.
    pub(crate) fn look(&mut self) -> Outcome<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().map_err(|e| format!("{}: {e}", self.spec.name))?
        {
            self.child = None;
            self.stopped = false;
            if self.spec.ends && status.success() {
                (self.up_from, self.done) = (None, true);
                return Ok(());
            }
            let status =
                status.signal().map_or(format!("exit {}", status.code().unwrap_or(-1)), |s| format!("signal {s}"));
            self.deaths.push(Death { process: self.spec.name.clone(), status, last_line: self.last_line() });
            if self.up_from.is_some() {
                self.up_from = Some(Instant::now() + RESTART);
            }
        }
        if self.child.is_none() && self.up_from.is_some_and(|from| from <= Instant::now()) {
            self.start()?;
        }
        Ok(())
    }

    fn start(&mut self) -> Outcome<()> {
        let file = File::options().create(true).append(true).open(&self.log);
        let file = file.map_err(|e| format!("can't write {}: {e}", self.log.display()))?;
        let stderr = file.try_clone().map_err(|e| format!("can't share {}: {e}", self.log.display()))?;
        let mut words: Vec<String> = Vec::new();
        if let Some(pid) = self.spec.network_of {
            words.extend(["nsenter", "--net", "--target"].map(str::to_owned).into_iter().chain([pid.to_string()]));
        }
        // Each of these words becomes the next one, so that the process id is the program's own in the end; and the
        // kernel ends it with the drill.
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        if let Some(user) = &self.spec.user {
            words.extend(["--reuid", user, "--regid", user, "--clear-groups"].map(str::to_owned));
        }
        words.push("--".to_owned());
        words.extend(self.spec.command.iter().cloned());
        let (program, arguments) = words.split_first().ok_or("BUG: no command")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.spec.folder).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(self.spec.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(file).stderr(stderr);
        self.child = Some(command.spawn().map_err(|e| format!("can't start {}: {e}", self.spec.name))?);
        self.starts += 1;
        Ok(())
    }

    /// Whether it runs, stopped or not.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it, as the kernel does when memory is short. It comes back after `down`; `None`: it stays down.
    pub(crate) fn kill(&mut self, down: Option<Duration>) -> Outcome<()> {
        self.end(Signal::KILL, down)
    }

    /// Ends it by this signal and waits for its end, for ten seconds at most.
    pub(crate) fn end(&mut self, signal: Signal, down: Option<Duration>) -> Outcome<()> {
        self.up_from = down.map(|down| Instant::now() + down);
        self.signal(signal);
        if signal != Signal::KILL {
            self.signal(Signal::CONT);
        }
        self.stopped = false;
        let Some(child) = &mut self.child else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if child.try_wait().map_err(|e| format!("{}: {e}", self.spec.name))?.is_some() {
                self.child = None;
                return Ok(());
            }
            if Instant::now() > deadline {
                let last_line = self.last_line();
                self.deaths.push(Death {
                    process: self.spec.name.clone(),
                    status: format!("did not end within 10 s of signal {}", signal.as_raw()),
                    last_line,
                });
                return self.end(Signal::KILL, down);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGSTOP.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::STOP);
        self.stopped = true;
    }

    /// SIGCONT.
    pub(crate) fn go_on(&mut self) {
        if std::mem::take(&mut self.stopped) {
            self.signal(Signal::CONT);
        }
    }

    fn signal(&self, signal: Signal) {
        let Some(id) = self.id() else { return };
        let mut ids = vec![id];
        if self.spec.has_children {
            let output = Command::new("ps").args(["-o", "pid=", "--ppid", &id.to_string()]).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            ids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        for pid in ids.into_iter().filter_map(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // A child that ended meanwhile needs none.
            let _ = kill_process(pid, signal);
        }
    }

    /// Replaces its command; holds from the next start on.
    pub(crate) fn set_command(&mut self, command: Vec<String>) {
        self.spec.command = command;
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn last_line(&self) -> String {
        self.log().lines().rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that ended by itself gives an error that says no more.
        let _ = self.end(Signal::KILL, None);
    }
}
