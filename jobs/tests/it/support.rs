//! A daemon in a folder of its own, and requests to it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;
use test_servers::{Program, wait_for};

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_utilizer-jobs"))
}

/// A daemon. Its configuration is `jobs.toml` in its folder.
pub(crate) struct Daemon {
    pub(crate) program: Program,
    pub(crate) folder: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0: nothing did.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| *n == name).map(|(_, value)| value))
    }
}

/// Of a `[[job]]` that hands a script to the shell.
pub(crate) fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[[job]]\nname = {name:?}\nargv = [\"/bin/sh\", \"-c\", {script:?}]\n{more}\n")
}

impl Daemon {
    pub(crate) fn start(jobs: &str) -> Self {
        Self::start_with(jobs, &[])
    }

    pub(crate) fn start_with(jobs: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_config(folder.path(), "", jobs);
        let program = run(folder.path(), environment);
        Self { program, folder }
    }

    /// Kills it and starts it again in the same folder.
    pub(crate) fn again(&mut self) {
        self.program.kill();
        self.program = run(self.folder.path(), &[]);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn configure(&self, jobs: &str) {
        write_config(self.folder.path(), "", jobs);
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    }

    /// Asks for a job.
    pub(crate) fn run(&self, job: &str, id: Option<&str>, body: &str) -> Answer {
        self.send(&run_request(job, id, body))
    }

    pub(crate) fn send(&self, request: &str) -> Answer {
        send(&self.path("jobs.sock"), request.as_bytes())
    }

    /// A request of which nobody waits for the answer, but that the connection stays.
    pub(crate) fn begin(&self, job: &str, id: &str, body: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("jobs.sock")).unwrap();
        stream.write_all(run_request(job, Some(id), body).as_bytes()).unwrap();
        stream
    }

    /// The audit's lines.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The events that the audit has of an id.
    pub(crate) fn events(&self, id: &str) -> Vec<String> {
        self.audit()
            .iter()
            .filter(|line| line["id"] == id)
            .map(|line| line["event"].as_str().unwrap().to_owned())
            .collect()
    }

    /// A series of `/metrics`.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics").body;
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

pub(crate) fn run_request(job: &str, id: Option<&str>, body: &str) -> String {
    let id = id.map_or_else(String::new, |id| format!("idempotency-key: {id}\r\n"));
    format!(
        "POST /v1/run/{job} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{id}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends bytes and reads until the other side closes.
pub(crate) fn send(socket: &Path, request: &[u8]) -> Answer {
    let nothing = |why: String| Answer { status: 0, head: String::new(), body: why };
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return nothing(error.to_string()),
    };
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // One that is refused early may find the connection closed.
    let _ = stream.write_all(request);
    answer(stream)
}

/// Reads the answer to a request that was sent.
pub(crate) fn answer(mut stream: UnixStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Answer { status: 0, head: String::new(), body: text };
    };
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn write_config(folder: &Path, head: &str, jobs: &str) {
    let at = folder.display();
    let text = format!(
        "[jobs]\nsocket = \"{at}/jobs.sock\"\nstate_dir = \"{at}/state\"\naudit = \"{at}/audit.log\"\n{head}\n{jobs}"
    );
    std::fs::write(folder.join("jobs.toml"), text).unwrap();
}

pub(crate) fn run(folder: &Path, environment: &[(&str, &str)]) -> Program {
    let config = folder.join("jobs.toml");
    let program = Program::start(binary(), &["--config", config.to_str().unwrap()], environment);
    program.says("serving on");
    program
}

/// Runs it to its end.
pub(crate) fn output(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env_clear().output().unwrap()
}

/// Waits until there is no such process any more.
pub(crate) fn gone(pid: &str) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    wait_for(&format!("process {pid:?} is gone"), || {
        // What nobody has waited for yet runs no more either.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        let zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        (test_kill_process(pid).is_err() || zombie).then_some(())
    });
}
