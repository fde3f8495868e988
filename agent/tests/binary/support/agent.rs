//! The agent's binary, started for a test and killed with it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use test_servers::wait_for;

use super::{Answer, get, post};

const BINARY: &str = env!("CARGO_BIN_EXE_utilizer-agent");

/// A configuration and what stands around it, before the agent starts.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    file: toml::Table,
    environment: Vec<(&'static str, String)>,
    /// In front of the binary's name: a program that runs it.
    before: Vec<String>,
    /// Whether other users may read the configuration.
    readable: bool,
}

impl Setup {
    /// An agent named `h` that samples ten times a second, serves on a free port and has no broker.
    pub(crate) fn new() -> Self {
        let setup = Self { file: toml::Table::new(), environment: Vec::new(), before: Vec::new(), readable: false };
        setup.set("host", "h").set("interval", "100ms").set("serve.listen", "127.0.0.1:0").set("mqtt.enabled", false)
    }

    /// The same with a broker.
    pub(crate) fn with_broker(url: &str) -> Self {
        Self::new().set("mqtt.enabled", true).set("mqtt.url", url)
    }

    /// Sets a key, written as `section.key`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        match key.split_once('.') {
            None => self.file.insert(key.to_owned(), value.into()),
            Some((section, key)) => {
                let table = self.file.entry(section).or_insert_with(|| toml::Table::new().into());
                table.as_table_mut().unwrap().insert(key.to_owned(), value.into())
            }
        };
        self
    }

    /// Sets an environment variable; the agent gets none but these and `PATH`.
    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Has this program run the agent: the agent's own command line is appended to its arguments.
    pub(crate) fn run_by(mut self, program: &[&str]) -> Self {
        self.before = program.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Lets other users read the configuration, for an agent that runs as one of them.
    pub(crate) fn readable_by_all(mut self) -> Self {
        self.readable = true;
        self
    }

    /// The file's text. Each start has a spool of its own, unless a test says where it is.
    fn text(&self, folder: &Path) -> String {
        let mut file = self.file.clone();
        let spool = file.entry("spool").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
        spool.entry("directory").or_insert_with(|| folder.join("spool").display().to_string().into());
        file.to_string()
    }

    /// Starts the agent.
    pub(crate) fn start(&self) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.toml");
        std::fs::write(&config, self.text(folder.path())).unwrap();
        if self.readable {
            std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let mut words = self.before.clone();
        words.extend([BINARY.to_owned(), "--config".to_owned(), config.display().to_string()]);
        let mut child = command(Path::new(&words[0]))
            .args(&words[1..])
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't start {}: {e}", words[0]));
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), output.clone());
        collect(child.stderr.take().unwrap(), output.clone());
        Agent { child, output, config, folder }
    }
}

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    output: Arc<Mutex<String>>,
    config: PathBuf,
    /// Configuration and spool lie in it.
    folder: tempfile::TempDir,
}

impl Agent {
    /// Where it serves. Waits until it does.
    pub(crate) fn address(&self) -> SocketAddr {
        wait_for("the agent serves", || {
            let log = self.alive_log();
            let rest = log.split_once("serving on http")?.1;
            rest.trim_start_matches('s').strip_prefix("://")?.split_once('\n')?.0.parse().ok()
        })
    }

    /// Everything that it wrote so far, to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    fn alive_log(&self) -> String {
        let log = self.log();
        let gone = !Path::new(&format!("/proc/{}", self.child.id())).exists();
        assert!(!gone && !log.contains("utilizer-agent: "), "the agent did not start: {log}");
        log
    }

    /// Waits until it wrote this.
    pub(crate) fn says(&self, text: &str) {
        self.says_times(text, 1);
    }

    /// Waits until it wrote this so many times.
    pub(crate) fn says_times(&self, text: &str, times: usize) {
        wait_for(&format!("the agent says {text:?}"), || (self.log().matches(text).count() >= times).then_some(()));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("the agent ends", || self.child.try_wait().unwrap())
    }

    /// Tells it to stop and waits until it has, which must be without a fault.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Puts another configuration into its file and tells it.
    pub(crate) fn reload(&self, setup: &Setup) {
        self.reload_text(&setup.text(self.folder.path()));
    }

    /// The same with the text of a file.
    pub(crate) fn reload_text(&self, text: &str) {
        std::fs::write(&self.config, text).unwrap();
        self.signal(Signal::HUP);
    }

    /// Asks it for a page.
    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.address(), path)
    }

    /// Pushes a body to it.
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        post(self.address(), path, body)
    }

    /// The value of a series on `/metrics`, named as it stands there; `None` where it is not there.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a series of `/metrics` has such a value.
    pub(crate) fn metric_becomes(&self, series: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        wait_for(series, || self.metric(series).filter(|value| wanted(*value)))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A stopped process dies of it too. One that ended already gives an error that says no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("-- the agent's output:\n{}", self.log());
        }
    }
}

/// Runs the agent's binary to its end, with these arguments and variables.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(Path::new(BINARY)).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    // The developer's own variables must not decide.
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

fn collect(stream: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}
