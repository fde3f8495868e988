//! Programs on the hosts: they push numbered lines and records to their agent, and keep account of what it answered.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::plan::Random;

/// How long an answer may take. A stopped agent gives none, and may take the push later all the same.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Push {
    Logs,
    Pipeline,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The agent has it: it must arrive exactly once.
    Accepted,
    /// The agent said no: it must not arrive.
    Refused(u16),
    /// No answer: it arrives at most once.
    Unknown,
}

/// One push.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pushed {
    pub(crate) kind: Push,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// When the answer came.
    pub(crate) at: Instant,
    pub(crate) answer: Answer,
}

/// The pushes to one agent.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) host: String,
    account: Arc<Mutex<Vec<Pushed>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Pushes to the agent of `host` that serves `socket`, until [`Load::finish`].
    pub(crate) fn start(host: &str, socket: &Path, mut random: Random) -> Self {
        let account = Arc::new(Mutex::new(Vec::new()));
        let end = Arc::new(AtomicBool::new(false));
        let (of, socket) = (host.to_owned(), socket.to_owned());
        let (pushes, ended) = (Arc::clone(&account), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut next = [1_u64; 2];
            while !ended.load(Ordering::Relaxed) {
                for kind in [Push::Logs, Push::Pipeline] {
                    let number = &mut next[kind as usize];
                    let (first, last) = (*number, *number + random.below(4));
                    *number = last + 1;
                    let answer = push(&socket, &of, kind, first, last);
                    let pushed = Pushed { kind, first, last, at: Instant::now(), answer };
                    pushes.lock().unwrap_or_else(PoisonError::into_inner).push(pushed);
                }
                std::thread::sleep(random.millis(50, 250));
            }
        });
        Self { host: host.to_owned(), account, end, thread: Some(thread) }
    }

    /// Ends the pushes.
    pub(crate) fn finish(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there shows as records that nobody pushed.
            let _ = thread.join();
        }
    }

    /// The pushes so far.
    pub(crate) fn account(&self) -> Vec<Pushed> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The text of a numbered log line; `job_id` of a numbered record.
pub(crate) fn mark(host: &str) -> String {
    format!("drill:{host}")
}

fn push(socket: &PathBuf, host: &str, kind: Push, first: u64, last: u64) -> Answer {
    let records: Vec<Value> = (first..=last)
        .map(|number| match kind {
            Push::Logs => json!({"level": "INFO", "service": "drill", "message": format!("{} {number}", mark(host))}),
            Push::Pipeline => {
                json!({"job_id": mark(host), "stage": "drill", "metric_name": "number", "metric_value": number})
            }
        })
        .collect();
    let path = match kind {
        Push::Logs => "/v1/logs",
        Push::Pipeline => "/v1/pipeline",
    };
    match ask(socket, "POST", path, &Value::from(records).to_string()) {
        Some((202, _)) => Answer::Accepted,
        Some((status, _)) => Answer::Refused(status),
        None => Answer::Unknown,
    }
}

/// A request over a Unix socket: status and body, or nothing.
pub(crate) fn ask(socket: &PathBuf, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: drill\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}
