//! A program of ours, started for a test.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::supervised::wait_for;
use crate::{http, tail};

/// The binary of that name which Cargo put beside the running test.
///
/// A package's tests build no binaries of other packages; without this sentence the failure would be a riddle.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|e| panic!("can't tell where this test's binary is: {e}"));
    // target/<profile>/deps/<test>
    let folder = test.parent().and_then(Path::parent).unwrap_or(&test);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: `make test` builds it first, and so does `cargo build --workspace --all-features --bins`",
        path.display()
    );
    path
}

/// A running program. It is killed when this is dropped, and by the kernel when the thread that started it ends in
/// whatever way.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
    _folder: TempDir,
}

impl Program {
    /// Starts it. It gets no environment but `PATH` and what is given here, so that a developer's own variables decide
    /// nothing.
    pub fn start<A: AsRef<str>>(program: &Path, arguments: &[A], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("can't make a temporary folder: {e}"));
        let log = folder.path().join("log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|e| panic!("can't write {}: {e}", log.display()));
        let stderr = file.try_clone().unwrap_or_else(|e| panic!("can't share {}: {e}", log.display()));
        // It becomes the program: the process id is the program's own.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments.iter().map(AsRef::as_ref));
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(file).stderr(stderr);
        let child = command.spawn().unwrap_or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => panic!("setpriv is not installed; install it with: apt-get install util-linux"),
            _ => panic!("can't start {}: {e}", program.display()),
        });
        let name = program.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self { name, child, ended: None, log, _folder: folder }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, to stdout and stderr.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until it wrote this.
    pub fn says(&self, text: impl Display) {
        let text = text.to_string();
        self.wait_for(&format!("it says {text:?}"), |program| program.log().contains(&text).then_some(()));
    }

    /// Waits for something about it; a failure shows its log.
    pub fn wait_for<T>(&self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        wait_for(&format!("{}: {what}", self.name), || condition(self))
    }

    /// Where it serves HTTP, by the first `http://ADDRESS` that it wrote. Waits until it did.
    pub fn address(&self) -> SocketAddr {
        self.wait_for("it says where it serves", |program| {
            let log = program.log();
            let rest = log.split_once("http://")?.1;
            rest.split(['/', '\n']).next()?.trim().parse().ok()
        })
    }

    /// Asks it for a page.
    pub fn get(&self, path: &str) -> http::Answer {
        http::ask(self.address(), "GET", path, b"")
    }

    /// Pushes a body to it.
    pub fn post(&self, path: &str, body: &str) -> http::Answer {
        http::ask(self.address(), "POST", path, body.as_bytes())
    }

    /// Waits until `/readyz` says so.
    pub fn ready(&self) {
        self.wait_for("/readyz answers 200", |program| (program.get("/readyz").status == 200).then_some(()));
    }

    /// The value of a series on `/metrics`, named as it stands there.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics").body;
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// Waits for its end and gives its exit code; `None`: a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        let (name, child) = (&self.name, &mut self.child);
        let status = wait_for(&format!("{name} ends"), || child.try_wait().ok().flatten());
        self.ended = Some(status);
        status.code()
    }

    /// Tells it to stop, and waits until it did, which must be without a fault.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let code = self.ended();
        assert_eq!(code, Some(0), "{}", self.name);
    }

    /// Kills it, as the kernel does when memory is short.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // One that ended by itself gives an error that says no more.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        tail::show(&self.name, &self.log());
    }
}
