//! A server process with a shell that outlives the test binary just long enough to clean up.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::tail;

/// How long a condition may take before a test fails. Far above what is usual, so that a busy machine never decides.
const PATIENCE: Duration = Duration::from_secs(60);

/// Orders on standard input: `start`, `stop SIGNAL`, `signal SIGNAL`. Each is answered by one line. End of input: stop and clean up.
const SHELL: &str = r#"
dir=$1; log=$2; shift 2
start() { "$@" >>"$log" 2>&1 </dev/null & pid=$!; echo "$pid"; }
start "$@"
while read -r order signal; do
  case $order in
    start) start "$@" ;;
    stop) kill -s "$signal" "$pid"; wait "$pid"; echo stopped ;;
    signal) kill -s "$signal" "$pid"; echo signalled ;;
  esac
done
kill -s INT "$pid" 2>/dev/null
wait "$pid"
rm -rf "$dir"
"#;

/// Whom the server runs as, where the tests run as root and the server refuses that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Supervised {
    shell: Child,
    pipes: Mutex<(Option<ChildStdin>, BufReader<ChildStdout>)>,
    name: String,
    dir: PathBuf,
    log: PathBuf,
}

impl Supervised {
    /// Starts `command` with `dir` as its folder; `dir` is removed in the end.
    pub(crate) fn start(dir: &Path, command: &[&str], user: Option<User>) -> Self {
        let log = dir.join("log");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SHELL, "sh"]).arg(dir).arg(&log).args(command);
        shell.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(user) = user {
            shell.uid(user.uid).gid(user.gid);
        }
        // A Ctrl-C at the terminal must reach the tests, not the shell that cleans up after them.
        shell.process_group(0);
        let mut shell = shell.spawn().unwrap_or_else(|e| panic!("can't start /bin/sh: {e}"));
        let stdin = shell.stdin.take();
        let stdout = shell.stdout.take().expect("stdout is piped");
        let name = command.first().copied().unwrap_or_default().to_owned();
        let pipes = Mutex::new((stdin, BufReader::new(stdout)));
        let started = Self { shell, pipes, name, dir: dir.to_owned(), log };
        started.answer();
        started
    }

    /// Stops the server with a signal (`INT`, `QUIT`, `KILL`, …) and waits for its end. Its folder stays.
    pub(crate) fn stop(&self, signal: &str) {
        self.order(&format!("stop {signal}"));
    }

    /// Sends a signal that the server goes on after.
    pub(crate) fn signal(&self, signal: &str) {
        self.order(&format!("signal {signal}"));
    }

    /// Starts the stopped server again, with the same folder and port.
    pub(crate) fn again(&self) {
        self.order("start");
    }

    fn order(&self, order: &str) {
        {
            let mut pipes = self.pipes.lock().expect("no test panics while it holds this");
            let stdin = pipes.0.as_mut().expect("open until drop");
            writeln!(stdin, "{order}").and_then(|()| stdin.flush()).expect("the supervising shell reads its orders");
        }
        self.answer();
    }

    fn answer(&self) {
        let mut line = String::new();
        let mut pipes = self.pipes.lock().expect("no test panics while it holds this");
        pipes.1.read_line(&mut line).expect("the supervising shell answers");
        assert!(!line.is_empty(), "the supervising shell ended");
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the server printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        tail::show(&self.name, &self.log());
        if let Ok(pipes) = self.pipes.get_mut() {
            pipes.0.take();
        }
        let _ = self.shell.wait();
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|e| panic!("can't bind a loopback port: {e}"))
        .port()
}

/// Waits until `condition` gives a value, and fails naming `what` when it never does.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A new folder below the system's temporary one; its server's shell removes it.
pub(crate) fn temporary_folder() -> PathBuf {
    tempfile::Builder::new()
        .prefix("utilizer-test-")
        .tempdir()
        .unwrap_or_else(|e| panic!("can't make a temporary folder: {e}"))
        .keep()
}
